#[krpc::service(name = "a", name = "b")]
trait Sum {
    #[rpc(timeout = "1s")]
    #[rpc(timeout = "2s", idempotent, idempotent)]
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
