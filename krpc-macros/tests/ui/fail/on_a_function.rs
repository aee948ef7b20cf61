#[krpc::service]
async fn add(x: u8) -> u8 {
    x
}

fn main() {}
