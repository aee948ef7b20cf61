#[krpc::service]
trait Words {
    async fn text(&self) -> impl Into<String>;
    async fn texts(&self) -> Result<Vec<impl Into<String>>, u8>;
}

fn main() {}
