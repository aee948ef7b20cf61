//! Calls whose results nobody waits for.

use krpc::Context;

#[krpc::service]
trait Log {
    #[rpc(one_way)]
    async fn write(&self, line: String);
    #[rpc(one_way)]
    async fn unit(&self, cx: &Context) -> ();
    #[rpc(one_way, idempotent, timeout = "1m", name = "mark")]
    async fn mark_time(&self);
    async fn ask(&self) -> u8;
}

struct Imp;

impl Log for Imp {
    async fn write(&self, line: String) {
        assert_eq!(line, "a line");
    }
    async fn unit(&self, _: &Context) {}
    async fn mark_time(&self) {}
    async fn ask(&self) -> u8 {
        1
    }
}

#[tokio::main]
async fn main() {
    let service = LogServer::new(Imp);
    let methods = krpc::rt::Service::descriptor(&service).methods;
    let one_way: Vec<_> = methods.iter().map(|method| method.policy.one_way).collect();
    assert_eq!(one_way, [true, true, true, false]);
    let log = LogClient::local(Imp);
    log.write("a line".to_owned()).await.unwrap();
    log.unit().await.unwrap();
    log.mark_time().await.unwrap();
}
