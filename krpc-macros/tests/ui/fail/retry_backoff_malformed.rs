#[krpc::service]
trait Log {
    #[rpc(retry(max = 5, backoff = "10s..100ms"))]
    async fn reversed(&self);
    #[rpc(retry(max = 5, backoff = "1s"))]
    async fn alone(&self);
    #[rpc(retry(max = 5, backoff = "1s.."))]
    async fn open(&self);
    #[rpc(retry(max = 5, backoff = "1..10s"))]
    async fn unitless(&self);
    #[rpc(retry(max = 5, backoff = "0s..10s"))]
    async fn zero(&self);
    #[rpc(retry(max = 5, backoff = "1s..400d"))]
    async fn long(&self);
    #[rpc(retry(max = 5, backoff = 1..10))]
    async fn range(&self);
    #[rpc(retry(max = 5, backoff))]
    async fn nothing(&self);
}

fn main() {}
