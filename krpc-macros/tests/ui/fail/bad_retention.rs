#[krpc::service]
trait Bank {
    #[rpc(retention)]
    async fn nothing(&self);
    #[rpc(retention = "0s")]
    async fn zero(&self);
    #[rpc(retention = "one day")]
    async fn words(&self);
    #[rpc(retention = "400d")]
    async fn long(&self);
    #[rpc(retention = 24)]
    async fn number(&self);
    #[rpc(retention("24h"))]
    async fn list(&self);
}

fn main() {}
