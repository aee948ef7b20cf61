//! Keys that are made of arguments, none of which is moved by it.

use serde::{Deserialize, Serialize};

const EVERYTHING: &str = "everything";

#[derive(Serialize, Deserialize)]
struct Order {
    id: u64,
    tenant: String,
}

impl Order {
    fn half(&self) -> &str {
        &self.tenant[..2]
    }
}

fn shard(id: u64) -> u8 {
    (id % 16) as u8
}

#[krpc::service]
trait Shop {
    #[rpc(key = order.id)]
    async fn field(&self, order: Order) -> u64;
    #[rpc(key = order.tenant)]
    async fn owned_field(&self, order: Order) -> u64;
    #[rpc(key = order.half())]
    async fn method(&self, order: Order) -> u64;
    #[rpc(key = shard(order.id))]
    async fn function(&self, order: Order) -> u64;
    #[rpc(key = format!("{}/{}", order.tenant, order.id))]
    async fn text(&self, order: Order) -> u64;
    #[rpc(key = format!("{tenant}/{account}"))]
    async fn inline(&self, tenant: String, account: u64) -> u64;
    #[rpc(key = if vip { u64::MAX } else { account % 16 + 1 })]
    async fn condition(&self, vip: bool, account: u64) -> u64;
    #[rpc(key = accounts.first().copied().unwrap_or_default())]
    async fn chain(&self, accounts: Vec<u64>) -> u64;
    #[rpc(key = (i64::from(a) - i64::from(b)) as i8)]
    async fn cast(&self, a: u32, b: u32) -> u64;
    #[rpc(key = EVERYTHING)]
    async fn constant(&self, account: u64) -> u64;
    #[rpc(key = &account.to_be_bytes()[..4])]
    async fn borrowed(&self, account: u64) -> u64;
    #[rpc(key = (match account { 0 => "none", _ => "some" }))]
    async fn with_commas(&self, account: u64) -> u64;
}

struct Imp;

impl Shop for Imp {
    async fn field(&self, order: Order) -> u64 {
        order.id
    }
    async fn owned_field(&self, order: Order) -> u64 {
        order.id
    }
    async fn method(&self, order: Order) -> u64 {
        order.id
    }
    async fn function(&self, order: Order) -> u64 {
        order.id
    }
    async fn text(&self, order: Order) -> u64 {
        order.id
    }
    async fn inline(&self, tenant: String, account: u64) -> u64 {
        tenant.len() as u64 + account
    }
    async fn condition(&self, _: bool, account: u64) -> u64 {
        account
    }
    async fn chain(&self, accounts: Vec<u64>) -> u64 {
        accounts[0]
    }
    async fn cast(&self, a: u32, b: u32) -> u64 {
        u64::from(a + b)
    }
    async fn constant(&self, account: u64) -> u64 {
        account
    }
    async fn borrowed(&self, account: u64) -> u64 {
        account
    }
    async fn with_commas(&self, account: u64) -> u64 {
        account
    }
}

#[tokio::main]
async fn main() {
    let order = || Order { id: 7, tenant: "acme".to_owned() };
    let shop = ShopClient::local(Imp);
    assert_eq!(shop.field(order()).await.unwrap(), 7);
    assert_eq!(shop.owned_field(order()).await.unwrap(), 7);
    assert_eq!(shop.method(order()).await.unwrap(), 7);
    assert_eq!(shop.function(order()).await.unwrap(), 7);
    assert_eq!(shop.text(order()).await.unwrap(), 7);
    assert_eq!(shop.inline("acme".to_owned(), 3).await.unwrap(), 7);
    assert_eq!(shop.condition(true, 7).await.unwrap(), 7);
    assert_eq!(shop.chain(vec![7, 8]).await.unwrap(), 7);
    assert_eq!(shop.cast(3, 4).await.unwrap(), 7);
    assert_eq!(shop.constant(7).await.unwrap(), 7);
    assert_eq!(shop.borrowed(7).await.unwrap(), 7);
    assert_eq!(shop.with_commas(7).await.unwrap(), 7);
}
