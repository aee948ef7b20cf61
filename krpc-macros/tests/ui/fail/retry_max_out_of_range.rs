const MAX: u32 = 5;

#[krpc::service]
trait Log {
    #[rpc(retry(max = 0))]
    async fn none(&self);
    #[rpc(retry(max = 101))]
    async fn many(&self);
    #[rpc(retry(max = 99999999999))]
    async fn more(&self);
    #[rpc(retry(max = -1))]
    async fn negative(&self);
    #[rpc(retry(max = 1.5))]
    async fn fraction(&self);
    #[rpc(retry(max = "5"))]
    async fn text(&self);
    #[rpc(retry(max = MAX))]
    async fn constant(&self);
    #[rpc(retry(max))]
    async fn nothing(&self);
    #[rpc(retry(max(5)))]
    async fn list(&self);
}

fn main() {}
