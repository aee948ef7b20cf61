#[krpc::service]
#[async_trait::async_trait]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
