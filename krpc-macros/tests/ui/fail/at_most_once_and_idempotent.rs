#[krpc::service]
trait Pad {
    #[rpc(at_most_once, idempotent)]
    async fn launch(&self, code: u32) -> bool;
    #[rpc(idempotent)]
    #[rpc(at_most_once)]
    async fn land(&self, code: u32) -> bool;
}

fn main() {}
