#[krpc::service]
trait Sum {
    async fn add(&self, x: u8, x: u8) -> u8;
    async fn raw(&self, y: u8, r#y: u8) -> u8;
    async fn renamed(&self, z: u8, #[serde(rename = "z")] w: u8) -> u8;
}

fn main() {}
