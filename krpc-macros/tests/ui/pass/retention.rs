//! How long a result is kept for calls with an idempotency key.

use std::time::Duration;

#[krpc::service]
trait Bank {
    #[rpc(retention = "24h")]
    async fn pay(&self, amount: u64) -> u64;
    #[rpc(retention = "7d", idempotent, one_way, key = account)]
    async fn book(&self, account: u64);
    async fn look(&self);
}

struct Imp;

impl Bank for Imp {
    async fn pay(&self, amount: u64) -> u64 {
        amount
    }
    async fn book(&self, _: u64) {}
    async fn look(&self) {}
}

#[tokio::main]
async fn main() {
    let service = BankServer::new(Imp);
    let methods = krpc::rt::Service::descriptor(&service).methods;
    let hours: Vec<_> = methods
        .iter()
        .map(|method| method.policy.retention.map(|retention| retention.as_secs() / 3_600))
        .collect();
    assert_eq!(hours, [Some(24), Some(7 * 24), None]);
    assert_eq!(methods[0].policy.retention, Some(Duration::from_secs(86_400)));
    assert_eq!(BankClient::local(Imp).pay(1).await.unwrap(), 1);
}
