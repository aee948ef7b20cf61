#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

struct Calculator;

fn main() {
    let _ = SumServer::new(Calculator);
}
