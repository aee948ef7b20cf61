#![deny(unused_must_use)]

#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

fn use_it(client: &SumClient) {
    client.add(1);
}

fn main() {}
