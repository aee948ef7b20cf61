struct Opaque;

#[krpc::service]
trait Sum {
    async fn bare(&self) -> Opaque;
    async fn fallible(&self) -> Result<u8, Opaque>;
}

fn main() {}
