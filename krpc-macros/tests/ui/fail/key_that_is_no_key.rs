#[derive(serde::Serialize, serde::Deserialize)]
struct Account(u64);

#[krpc::service]
trait Bank {
    #[rpc(key = rate)]
    async fn float(&self, rate: f64);
    #[rpc(key = (tenant, account))]
    async fn tuple(&self, tenant: String, account: u64);
    #[rpc(key = name.len())]
    async fn of_any_width(&self, name: String);
    #[rpc(key = account)]
    async fn own(&self, account: Account);
    #[rpc(key = account)]
    async fn optional(&self, account: Option<u64>);
}

fn main() {}
