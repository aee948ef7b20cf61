#[krpc::service]
trait Phone {
    async fn connect(&self);
    async fn new(&self);
    async fn local(&self);
    async fn clone(&self);
}

fn main() {}
