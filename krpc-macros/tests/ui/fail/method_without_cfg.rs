#[krpc::service]
trait Sum {
    #[cfg(any())]
    async fn add(&self, x: u8) -> u8;
}

async fn use_it(client: &SumClient) {
    let _ = client.add(1).await;
}

fn main() {}
