//! What a client calls its own methods for tickets may still be a name on the wire.

#[krpc::service]
trait Job {
    #[rpc(name = "attach")]
    async fn attach_to(&self) -> u8;
    #[rpc(name = "status", idempotent)]
    async fn state(&self) -> u8;
    #[rpc(name = "cancel", one_way)]
    async fn stop(&self);
}

struct Imp;

impl Job for Imp {
    async fn attach_to(&self) -> u8 {
        1
    }
    async fn state(&self) -> u8 {
        2
    }
    async fn stop(&self) {}
}

#[tokio::main]
async fn main() {
    let job = JobClient::local(Imp);
    assert_eq!(job.attach_to().await.unwrap(), 1);
    assert_eq!(job.state().await.unwrap(), 2);
    job.stop().await.unwrap();
}
