#[krpc::service]
trait Sum {
    async fn add(&self, x: Vec<_>) -> u8;
}

fn main() {}
