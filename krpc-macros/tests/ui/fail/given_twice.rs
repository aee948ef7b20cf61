#[krpc::service]
#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
