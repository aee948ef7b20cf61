use std::task::Context;

#[krpc::service]
trait Sum {
    async fn add(&self, cx: &Context, x: u8) -> u8;
}

fn main() {}
