//! Keywords as names of methods and arguments.

#[krpc::service]
trait Raw {
    async fn r#match(&self, r#type: u8, r#fn: u8) -> u8;
}

struct Imp;

impl Raw for Imp {
    async fn r#match(&self, r#type: u8, r#fn: u8) -> u8 {
        r#type + r#fn
    }
}

#[tokio::main]
async fn main() {
    assert_eq!(RawClient::local(Imp).r#match(1, 2).await.unwrap(), 3);
}
