#[krpc::service]
trait Log {
    #[rpc(one_way, retry)]
    async fn alone(&self, line: String);
    #[rpc(one_way, retry = 5)]
    async fn number(&self, line: String);
    #[rpc(one_way, retry())]
    async fn nothing(&self, line: String);
    #[rpc(one_way, retry(backoff = "1s..1m", then = drop))]
    async fn others(&self, line: String);
    #[rpc(one_way, retry(5))]
    async fn unnamed(&self, line: String);
}

fn main() {}
