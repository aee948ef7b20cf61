#[krpc::service(nmae = "acme.Sum", prefix = "x", timeout = "1s")]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
