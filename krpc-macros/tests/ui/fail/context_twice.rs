use krpc::Context;

#[krpc::service]
trait Sum {
    async fn add(&self, cx: &Context, x: u8, again: &Context) -> u8;
}

fn main() {}
