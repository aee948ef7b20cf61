use krpc::Context;

#[krpc::service]
trait Sum {
    async fn add(&self, #[serde(default)] cx: &Context, x: u8) -> u8;
}

fn main() {}
