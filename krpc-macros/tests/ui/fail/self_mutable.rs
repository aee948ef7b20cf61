#[krpc::service]
trait Sum {
    async fn add(&mut self, x: u8) -> u8;
}

fn main() {}
