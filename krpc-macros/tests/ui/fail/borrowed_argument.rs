use std::borrow::Cow;

#[krpc::service]
trait Words {
    async fn text(&self, x: &str) -> u8;
    async fn bytes(&self, x: Option<&[u8]>) -> u8;
    async fn forever(&self, x: &'static str) -> u8;
    async fn mutable(&self, x: &mut Vec<u8>) -> u8;
    async fn hidden(&self, x: Cow<'_, str>, y: Vec<Cow<'static, str>>) -> u8;
}

struct Imp;

impl Words for Imp {
    async fn text(&self, x: &str) -> u8 {
        x.len() as u8
    }
    async fn bytes(&self, _: Option<&[u8]>) -> u8 {
        0
    }
    async fn forever(&self, _: &'static str) -> u8 {
        0
    }
    async fn mutable(&self, _: &mut Vec<u8>) -> u8 {
        0
    }
    async fn hidden(&self, _: Cow<'_, str>, _: Vec<Cow<'static, str>>) -> u8 {
        0
    }
}

async fn use_it(client: WordsClient) {
    let _: u8 = client.text("x").await.unwrap();
    let _ = WordsServer::new(Imp);
}

fn main() {}
