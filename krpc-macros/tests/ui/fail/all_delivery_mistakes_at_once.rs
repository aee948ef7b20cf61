use krpc::Context;

#[krpc::service]
trait Bank {
    #[rpc(key = acount, at_most_once, idempotent, retry(max = 0, backoff = "1s", then = bury))]
    async fn deposit(&self, account: String, amount: &u64) -> u64;
    #[rpc(one_way, key = cx.id, retention = "soon", timeout = "1")]
    async fn status(&self, cx: &Context, account: String) -> u64;
    async fn fine(&self, account: String) -> u64;
}

struct Imp;

impl Bank for Imp {
    async fn deposit(&self, account: String, _: &u64) -> u64 {
        account.len() as u64
    }
    async fn status(&self, _: &Context, account: String) -> u64 {
        account.len() as u64
    }
    async fn fine(&self, account: String) -> u64 {
        account.len() as u64
    }
}

async fn use_it(client: &BankClient) {
    let _ = BankServer::new(Imp);
    let _: u64 = client.deposit(String::new(), 1).await.unwrap();
    let _: u64 = client.fine(String::new()).await.unwrap();
}

fn main() {}
