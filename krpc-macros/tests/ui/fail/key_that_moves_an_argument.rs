#[krpc::service]
trait Bank {
    #[rpc(key = account.into_bytes())]
    async fn deposit(&self, account: String);
}

fn main() {}
