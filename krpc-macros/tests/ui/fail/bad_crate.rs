#[krpc::service(crate = "self::krpc")]
trait One {}

#[krpc::service(crate = super::krpc)]
trait Two {}

#[krpc::service(crate = "not a path")]
trait Three {}

#[krpc::service(crate)]
trait Four {}

fn main() {}
