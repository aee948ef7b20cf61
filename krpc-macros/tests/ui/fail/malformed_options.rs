#[krpc::service("acme.Sum", name("x"), version = 1.2, crate = 7)]
trait Sum {
    #[rpc(timeout, idempotent = true, name = wire)]
    async fn add(&self, x: u8) -> u8;
    #[rpc]
    async fn subtract(&self, x: u8) -> u8;
    #[rpc = "idempotent"]
    async fn negate(&self, x: u8) -> u8;
    #[rpc(name: "x", idempotent!)]
    async fn double(&self, x: u8) -> u8;
}

fn main() {}
