#[krpc::service(name = "")]
trait Empty {}

#[krpc::service(name = "acme/Sum")]
trait Slash {}

#[krpc::service(name = "..")]
trait Dots {}

#[krpc::service(
    name = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
            xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
)]
trait Long {}

#[krpc::service]
trait Größe {}

fn main() {}
