//! Services side by side, some of whose parts begin alike.

#[krpc::service]
trait Order {
    async fn item_add(&self) -> u8;
}

#[krpc::service(name = "acme.OrderItem")]
trait OrderItem {
    async fn add(&self) -> u8;
}

struct Imp;

impl Order for Imp {
    async fn item_add(&self) -> u8 {
        1
    }
}

impl OrderItem for Imp {
    async fn add(&self) -> u8 {
        2
    }
}

#[tokio::main]
async fn main() {
    assert_eq!(OrderClient::local(Imp).item_add().await.unwrap(), 1);
    assert_eq!(OrderItemClient::local(Imp).add().await.unwrap(), 2);
}
