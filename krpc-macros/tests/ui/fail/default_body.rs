#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8 {
        x
    }
}

async fn use_it(client: SumClient) {
    let _: u8 = client.add(1).await.unwrap();
}

fn main() {}
