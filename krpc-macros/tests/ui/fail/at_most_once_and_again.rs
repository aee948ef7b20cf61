#[krpc::service]
trait Pad {
    #[rpc(at_most_once, retry(max = 3))]
    async fn launch(&self, code: u32) -> bool;
    #[rpc(retry(max = 1), one_way, at_most_once)]
    async fn land(&self, code: u32);
    #[rpc(at_most_once, retention = "24h")]
    async fn refuel(&self, code: u32);
}

fn main() {}
