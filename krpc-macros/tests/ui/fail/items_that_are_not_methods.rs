macro_rules! methods {
    () => {};
}

#[krpc::service]
trait Sum {
    type Number;
    const LIMIT: u8;
    methods!();
    pub async fn add(&self, x: u8) -> u8;
}

fn main() {}
