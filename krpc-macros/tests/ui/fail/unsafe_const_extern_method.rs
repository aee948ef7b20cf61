#[krpc::service]
trait Sum {
    async unsafe fn add(&self, x: u8) -> u8;
    async extern "C" fn subtract(&self, x: u8) -> u8;
}

fn main() {}
