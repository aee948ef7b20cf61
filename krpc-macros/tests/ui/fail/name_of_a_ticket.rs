#[krpc::service]
trait Job {
    async fn attach(&self);
    async fn status(&self) -> u8;
    #[rpc(one_way)]
    async fn cancel(&self, id: u64);
}

fn main() {}
