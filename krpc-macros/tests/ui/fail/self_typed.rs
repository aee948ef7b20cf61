use std::sync::Arc;

#[krpc::service]
trait Sum {
    async fn add(self: Arc<Self>, x: u8) -> u8;
    async fn subtract(self: &Self, x: u8) -> u8;
    async fn negate<'a>(&'a self) -> u8;
}

fn main() {}
