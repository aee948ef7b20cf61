#[krpc::service]
trait Sum {
    async fn add<T: Send>(&self, x: T) -> T;
    async fn rotate<const N: usize>(&self, x: [u8; N]) -> u8;
}

fn main() {}
