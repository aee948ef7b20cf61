#[krpc::service(name = "acme.Store", version = "2.1", crate = "rpc")]
pub(crate) trait Store: Send + Sync {
    #[rpc(name = "get-v2", timeout = "1500ms")]
    #[rpc(idempotent)]
    async fn get(&self, key: String) -> Option<Vec<u8>>;

    async fn put(&self, #[serde(rename = "k")] key: String, #[serde(default)] value: Vec<u8>);
}
