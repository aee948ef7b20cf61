#[krpc::service]
trait Bank {
    #[rpc(key)]
    async fn alone(&self, account: u64);
    #[rpc(key = )]
    async fn nothing(&self, account: u64);
    #[rpc(key(account))]
    async fn in_parentheses(&self, account: u64);
    #[rpc(key = "account")]
    async fn text(&self, account: u64);
    #[rpc(key = 7)]
    async fn number(&self, account: u64);
    #[rpc(key = account amount)]
    async fn two(&self, account: u64, amount: u64);
    #[rpc(key: account)]
    async fn colon(&self, account: u64);
}

fn main() {}
