struct Point {
    x: u8,
}

#[krpc::service]
trait Sum {
    async fn unnamed(&self, _: u8) -> u8;
    async fn pair(&self, (x, y): (u8, u8)) -> u8;
    async fn taken_apart(&self, Point { x }: Point) -> u8;
    async fn changed(&self, mut x: u8) -> u8;
}

async fn use_it(client: SumClient) {
    let _: u8 = client.pair((1, 2)).await.unwrap();
}

fn main() {}
