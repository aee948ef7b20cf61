#[krpc::service]
trait S {
    async fn r#type(&self, r#match: u8, self_: u8, service: u8, call: u8, cx: u8) -> r#struct;
    async fn get_x(&self, args: u8, _args: u8, inner: u8, method: u8) -> u8;
    #[allow(non_snake_case)]
    async fn getX(&self);
    async fn service(&self);
}
