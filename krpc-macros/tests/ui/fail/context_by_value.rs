use krpc::Context;

#[krpc::service]
trait Sum {
    async fn owned(&self, cx: Context) -> u8;
    async fn mutable(&self, cx: &mut krpc::Context) -> u8;
    async fn forever(&self, cx: &'static Context) -> u8;
}

async fn use_it(client: SumClient) {
    let _: u8 = client.owned().await.unwrap();
}

fn main() {}
