#[krpc::service]
trait Sum {
    async fn add(&self, #[cfg(all())] x: u8, #[allow(unused)] y: u8, #[rpc(key)] z: u8) -> u8;
}

fn main() {}
