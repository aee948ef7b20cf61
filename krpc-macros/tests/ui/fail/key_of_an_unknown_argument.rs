const TENANT: &str = "acme";

#[krpc::service]
trait Bank {
    #[rpc(key = acount)]
    async fn deposit(&self, account: u64, amount: u64) -> i64;
    #[rpc(key = (owner))]
    async fn withdraw(&self, account: u64, amount: u64) -> i64;
    #[rpc(key = TENANT)]
    async fn constant(&self, account: u64);
    #[rpc(key = account)]
    async fn of_nothing(&self);
}

fn main() {}
