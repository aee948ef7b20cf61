#[krpc::service]
#[rpc(timeout = "1s")]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
