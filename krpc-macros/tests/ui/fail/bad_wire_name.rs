#[krpc::service]
trait Sum {
    #[rpc(name = "")]
    async fn empty(&self);
    #[rpc(name = "a/b")]
    async fn slash(&self);
    #[rpc(name = "$ping")]
    async fn reserved(&self);
    async fn größe(&self);
}

fn main() {}
