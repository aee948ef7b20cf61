#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8;
    #[rpc(name = "add")]
    async fn plus(&self, x: u8) -> u8;
    #[cfg(any())]
    #[rpc(name = "add")]
    async fn sum(&self, x: u8) -> u8;
}

fn main() {}
