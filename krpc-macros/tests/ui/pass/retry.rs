//! What a server does after a failure, and its defaults.

use std::time::Duration;

use krpc::rt::{ServerRetry, Then};

#[krpc::service]
trait Log {
    #[rpc(one_way, retry(max = 5))]
    async fn defaults(&self);
    #[rpc(one_way, retry(max = 1, backoff = "250ms..2m", then = drop))]
    async fn all(&self);
    #[rpc(retry(then = dead_letter, max = 100, backoff = "1s..1s",))]
    async fn enqueued(&self) -> Result<u8, String>;
    #[rpc(retry(max = 2), idempotent, one_way)]
    async fn idempotent(&self);
    #[rpc(one_way)]
    async fn none(&self);
}

struct Imp;

impl Log for Imp {
    async fn defaults(&self) {}
    async fn all(&self) {}
    async fn enqueued(&self) -> Result<u8, String> {
        Ok(1)
    }
    async fn idempotent(&self) {}
    async fn none(&self) {}
}

#[tokio::main]
async fn main() {
    let retry = |max, first, most, then| {
        let (first, most) = (Duration::from_millis(first), Duration::from_millis(most));
        Some(ServerRetry { max, first, most, then })
    };
    let service = LogServer::new(Imp);
    let methods = krpc::rt::Service::descriptor(&service).methods;
    let retries: Vec<_> = methods.iter().map(|method| method.policy.retry).collect();
    assert_eq!(
        retries,
        [
            retry(5, 100, 10_000, Then::DeadLetter),
            retry(1, 250, 120_000, Then::Drop),
            retry(100, 1_000, 1_000, Then::DeadLetter),
            retry(2, 100, 10_000, Then::DeadLetter),
            None,
        ]
    );
    assert_eq!(LogClient::local(Imp).enqueued().await.unwrap(), 1);
}
