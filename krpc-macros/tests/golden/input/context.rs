#[krpc::service]
pub trait Audit {
    async fn plain(&self, cx: &Context);
    async fn by_path(&self, context: &krpc::Context, line: String) -> bool;
    async fn anonymous(&self, cx: &'_ ::krpc::Context) -> std::result::Result<u8, String>;
}
