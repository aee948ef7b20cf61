#[krpc::service]
trait Events {
    async fn watch(&self, key: String) -> Result<impl Stream<Item = u8>, u8>;
    async fn ingest(&self, rows: Streaming<u8>) -> u64;
}

fn main() {}
