#[krpc::service]
trait Log {
    #[rpc(one_way, max = 5, backoff = "1s..2s", then = drop)]
    async fn write(&self, line: String);
}

fn main() {}
