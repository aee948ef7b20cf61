#[krpc::service]
trait Log {
    #[rpc(one_way = true)]
    async fn write(&self, line: String);
    #[rpc(one_way())]
    async fn flush(&self);
    #[rpc(at_most_once = false)]
    async fn launch(&self);
    #[rpc(at_most_once(always))]
    async fn land(&self);
}

fn main() {}
