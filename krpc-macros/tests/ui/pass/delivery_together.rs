//! All options of delivery that go together, in one attribute and in several.

#![deny(warnings)]

use krpc::rt::Policy;

#[krpc::service(name = "acme.Bank")]
trait Bank {
    /// Moves money.
    #[rpc(
        key = format!("{from}/{to}"),
        one_way,
        idempotent,
        name = "move",
        timeout = "2s",
        retention = "48h",
        retry(max = 5, backoff = "100ms..10s", then = dead_letter),
    )]
    async fn transfer(&self, from: String, to: String) -> Result<(), String>;

    #[rpc(at_most_once)]
    #[rpc(one_way)]
    #[rpc(key = account)]
    async fn close(&self, account: u64);

    async fn plain(&self);
}

struct Imp;

impl Bank for Imp {
    async fn transfer(&self, _: String, _: String) -> Result<(), String> {
        Ok(())
    }
    async fn close(&self, _: u64) {}
    async fn plain(&self) {}
}

#[tokio::main]
async fn main() {
    let service = BankServer::new(Imp);
    let [transfer, close, plain] = krpc::rt::Service::descriptor(&service).methods else {
        panic!("three methods")
    };
    let Policy { keyed, one_way, at_most_once, retry, retention } = *transfer.policy;
    assert!(keyed && one_way && !at_most_once && retry.is_some() && retention.is_some());
    assert!(transfer.idempotent && transfer.timeout.is_some());
    assert_eq!(transfer.path, "acme.Bank/move");
    let expected = Policy { keyed: true, one_way: true, at_most_once: true, ..Policy::PLAIN };
    assert_eq!(*close.policy, expected);
    assert_eq!(*plain.policy, Policy::PLAIN);
    let bank = BankClient::local(Imp);
    bank.transfer("a".to_owned(), "b".to_owned()).await.unwrap();
    bank.close(1).key("by the caller").await.unwrap();
}
