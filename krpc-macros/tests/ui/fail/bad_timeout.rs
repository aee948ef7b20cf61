#[krpc::service]
trait Sum {
    #[rpc(timeout = "0s")]
    async fn zero(&self);
    #[rpc(timeout = "2")]
    async fn unitless(&self);
    #[rpc(timeout = "1.5s")]
    async fn fraction(&self);
    #[rpc(timeout = "5 minutes")]
    async fn words(&self);
    #[rpc(timeout = "400000h")]
    async fn long(&self);
    #[rpc(timeout = "99999999999999999999s")]
    async fn longer(&self);
    #[rpc(timeout = 2)]
    async fn number(&self);
}

fn main() {}
