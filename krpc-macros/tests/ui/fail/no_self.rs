#[krpc::service]
trait Sum {
    async fn nothing();
    async fn add(x: u8) -> u8;
}

fn main() {}
