//! krpc under another name.

extern crate krpc as renamed_krpc;

mod reexport {
    pub use krpc as rpc;
}

#[renamed_krpc::service(crate = "renamed_krpc")]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

#[renamed_krpc::service(crate = crate::reexport::rpc)]
trait Product {
    async fn multiply(&self, x: u8) -> u8;
}

struct Imp;

impl Sum for Imp {
    async fn add(&self, x: u8) -> u8 {
        x + 1
    }
}

impl Product for Imp {
    async fn multiply(&self, x: u8) -> u8 {
        x * 2
    }
}

#[tokio::main]
async fn main() {
    assert_eq!(SumClient::local(Imp).add(1).await.unwrap(), 2);
    assert_eq!(ProductClient::local(Imp).multiply(2).await.unwrap(), 4);
}
