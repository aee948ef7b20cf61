struct Opaque;

#[krpc::service]
trait Sum {
    async fn add(&self, x: Opaque) -> u8;
}

fn main() {}
