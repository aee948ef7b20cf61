#[krpc::service]
trait Bank {
    #[rpc(key = account)]
    async fn deposit(&self, account: String) -> u64;
    #[rpc(one_way, retry(max = 5, backoff = "100ms..10s"))]
    async fn log(&self, line: String);
    #[rpc(at_most_once)]
    async fn launch(&self, code: u32) -> bool;
}

fn main() {}
