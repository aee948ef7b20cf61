#[krpc::service]
trait Bank {
    #[rpc(key = account, key = amount)]
    async fn key(&self, account: u64, amount: u64);
    #[rpc(one_way, one_way)]
    async fn one_way(&self);
    #[rpc(at_most_once)]
    #[rpc(at_most_once)]
    async fn at_most_once(&self);
    #[rpc(retry(max = 1), retry(max = 2))]
    async fn retry(&self);
    #[rpc(retry(max = 1, then = drop, max = 2))]
    async fn max(&self);
    #[rpc(retention = "1h", retention = "2h")]
    async fn retention(&self);
}

fn main() {}
