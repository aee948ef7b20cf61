#[krpc::service]
trait Sum
where
    Self: Send,
{
    async fn add(&self, x: u8) -> u8;
}

fn main() {}
