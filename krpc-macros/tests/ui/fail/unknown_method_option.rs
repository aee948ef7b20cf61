#[krpc::service]
trait Sum {
    #[rpc(timout = "1s", oneway, cached, version = "1.0")]
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
