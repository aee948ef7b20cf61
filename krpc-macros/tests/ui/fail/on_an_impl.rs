struct Calculator;

#[krpc::service]
impl Calculator {
    async fn add(&self, x: u8) -> u8 {
        x
    }
}

fn main() {}
