#[krpc::service]
trait Bank {
    #[rpc(key = acount % 16)]
    async fn deposit(&self, account: u64) -> i64;
    #[rpc(key = format!("{acount}"))]
    async fn withdraw(&self, account: u64) -> i64;
    #[rpc(key = account.number)]
    async fn balance(&self, account: u64) -> i64;
}

fn main() {}
