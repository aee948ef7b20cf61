#[krpc::service]
trait Log {
    #[rpc(retry(max = 5, backof = "1s..2s", delay = "1s"))]
    async fn options(&self);
    #[rpc(retry(max = 5, then = bury))]
    async fn unknown(&self);
    #[rpc(retry(max = 5, then = "drop"))]
    async fn text(&self);
    #[rpc(retry(max = 5, then))]
    async fn nothing(&self);
    #[rpc(retry(max = 5, then = dead_letter | drop))]
    async fn either(&self);
}

fn main() {}
