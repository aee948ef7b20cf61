#[krpc::service(nmae = "acme.Bad")]
pub trait Bad {
    async fn fine(&self, x: u8) -> u8;
    fn blocking(&self, x: &str, y: u8) -> u8;
    #[rpc(retry(max = 0))]
    async fn again(&self, (a, b): (u8, u8)) -> &str;
}
