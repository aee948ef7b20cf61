#[krpc::service]
pub trait Bank {
    /// Puts money into an account.
    #[rpc(key = account)]
    async fn deposit(&self, account: u64, key: String) -> Result<i64, BankError>;

    #[rpc(key = format!("{}/{}", order.tenant, order.id), at_most_once)]
    async fn charge(&self, order: Order) -> Receipt;

    #[rpc(one_way, retry(max = 5, backoff = "1s..1m", then = drop))]
    async fn log(&self, line: String) -> Result<(), String>;

    #[rpc(key = -position, one_way, retention = "7d", retry(max = 2))]
    async fn adjust(&self, position: i32);
}
