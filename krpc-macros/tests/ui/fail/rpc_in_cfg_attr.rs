#[krpc::service]
trait Sum {
    #[cfg_attr(all(), rpc(idempotent))]
    async fn add(&self, x: u8) -> u8;
    #[cfg_attr(all(), cfg(any()))]
    async fn subtract(&self, x: u8) -> u8;
}

fn main() {}
