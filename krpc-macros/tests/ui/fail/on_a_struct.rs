#[krpc::service]
struct Sum {
    x: u8,
}

fn main() {}
