#[krpc::service]
trait Sum {
    async fn add(&self, x: Self) -> u8;
    async fn get(&self) -> Result<Vec<Self>, Self::Error>;
}

fn main() {}
