#[krpc::service(version = "v1")]
trait One {}

#[krpc::service(version = "1.2.3.4")]
trait Two {}

#[krpc::service(version = "")]
trait Three {}

fn main() {}
