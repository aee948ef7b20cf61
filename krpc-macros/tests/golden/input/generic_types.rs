#[krpc::service]
pub trait Index {
    async fn search(
        &self,
        terms: HashMap<String, Vec<(u32, Option<f32>)>>,
        shape: [u8; LIMIT * 2],
        page: Page<Row>,
    ) -> Result<Page<Row>, Failure<Row>>;

    async fn empty(&self);
}
