use krpc::Context;

#[krpc::service]
trait Bank {
    #[rpc(key = self.tenant)]
    async fn deposit(&self, account: u64) -> i64;
    #[rpc(key = format!("{}/{}", self.tenant, account))]
    async fn withdraw(&self, account: u64) -> i64;
    #[rpc(key = cx.caller().instance)]
    async fn balance(&self, cx: &Context, account: u64) -> i64;
    #[rpc(key = cx)]
    async fn close(&self, cx: &Context, account: u64);
}

fn main() {}
