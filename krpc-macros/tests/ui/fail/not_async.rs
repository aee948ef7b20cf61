#[krpc::service]
trait Sum {
    fn add(&self, x: u8) -> u8;
}

struct Calculator;

impl Sum for Calculator {
    fn add(&self, x: u8) -> u8 {
        x
    }
}

async fn use_it(client: SumClient) {
    let _: u8 = client.add(1).await.unwrap();
    let _ = SumServer::new(Calculator);
}

fn main() {}
