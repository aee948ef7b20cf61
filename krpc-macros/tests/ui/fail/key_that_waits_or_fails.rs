async fn find(account: u64) -> u64 {
    account
}

#[krpc::service]
trait Bank {
    #[rpc(key = find(account).await)]
    async fn deposit(&self, account: u64);
    #[rpc(key = account.parse::<u64>()?)]
    async fn withdraw(&self, account: String);
}

fn main() {}
