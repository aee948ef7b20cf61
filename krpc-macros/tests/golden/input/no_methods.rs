#[krpc::service]
pub trait Empty {}
