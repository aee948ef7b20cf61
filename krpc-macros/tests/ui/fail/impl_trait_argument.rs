#[krpc::service]
trait Words {
    async fn text(&self, x: impl Into<String>) -> u8;
    async fn texts(&self, x: Vec<impl Into<String>>) -> u8;
}

fn main() {}
