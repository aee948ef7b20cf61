//! An argument is the key; it still travels.

#[krpc::service]
trait Bank {
    #[rpc(key = account)]
    async fn deposit(&self, account: String, amount: i64) -> i64;
    #[rpc(key = account, idempotent, timeout = "2s")]
    async fn balance(&self, cx: &krpc::Context, account: u32) -> Result<u32, String>;
    #[rpc(key = key)]
    async fn of_its_name(&self, key: Vec<u8>) -> usize;
    async fn without(&self) -> u8;
}

struct Imp;

impl Bank for Imp {
    async fn deposit(&self, account: String, amount: i64) -> i64 {
        assert_eq!(account, "acme");
        amount
    }
    async fn balance(&self, _: &krpc::Context, account: u32) -> Result<u32, String> {
        Ok(account)
    }
    async fn of_its_name(&self, key: Vec<u8>) -> usize {
        key.len()
    }
    async fn without(&self) -> u8 {
        1
    }
}

#[tokio::main]
async fn main() {
    let service = BankServer::new(Imp);
    let methods = krpc::rt::Service::descriptor(&service).methods;
    let keyed: Vec<_> = methods.iter().map(|method| method.policy.keyed).collect();
    assert_eq!(keyed, [true, true, true, false]);
    let bank = BankClient::local(Imp);
    assert_eq!(bank.deposit("acme".to_owned(), 2).await.unwrap(), 2);
    assert_eq!(bank.balance(7).await.unwrap(), 7);
    assert_eq!(bank.of_its_name(vec![1, 2]).await.unwrap(), 2);
    assert_eq!(bank.without().key("by the caller").await.unwrap(), 1);
}
