//! Callers with keys of their own: who may call what, and answers that nobody else can open.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use krpc::{
    ServerBuilder,
    prelude::*,
    seal::{Key, Seal},
    store::MemoryStore,
};

use crate::support::{
    Place, count, eventually, scenario,
    services::{Adder, SumClient, SumServer},
    start,
};

#[krpc::service]
trait Who {
    async fn am_i(&self, cx: &Context) -> Option<String>;

    async fn else_am_i(&self, cx: &Context) -> Option<String>;

    #[rpc(one_way)]
    async fn fails_at_first(&self, cx: &Context) -> Result<(), String>;
}

/// Counts the executions of what fails at first, and remembers nothing of it but that.
#[derive(Clone, Default)]
struct Named(Arc<AtomicUsize>);

impl Who for Named {
    async fn am_i(&self, cx: &Context) -> Option<String> {
        cx.caller_name().map(ToOwned::to_owned)
    }

    async fn else_am_i(&self, cx: &Context) -> Option<String> {
        self.am_i(cx).await
    }

    async fn fails_at_first(&self, cx: &Context) -> Result<(), String> {
        assert_eq!(cx.attempt(), 1);
        match self.0.fetch_add(1, Ordering::AcqRel) {
            0 => Err(format!("called by {:?}", cx.caller_name())),
            _ => Ok(()),
        }
    }
}

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32]).unwrap()
}

fn of(byte: u8, caller: &str) -> Key {
    key(byte).of_caller(caller).unwrap()
}

/// The seal of a caller.
fn seal(byte: u8, caller: &str) -> Seal {
    Seal::new().encrypt(of(byte, caller))
}

/// A server with a key of its own and those of three callers.
fn server(place: &Place) -> ServerBuilder {
    let keys = Seal::new().encrypt(key(1)).open_with(of(2, "billing")).open_with(of(3, "audit"));
    let seal = keys.open_with(of(4, "idle"));
    let builder = place.server().seal(seal).allow("billing", ["Who/am_i", "Who/fails_at_first"]);
    builder.allow("audit", ["Who/*", "Sum/add"])
}

async fn client(place: &Place, seal: Seal) -> (WhoClient, SumClient) {
    let channel = place.channel().seal(seal).connect().await.unwrap();
    (WhoClient::new(&channel), SumClient::new(&channel))
}

fn code<T: std::fmt::Debug>(result: Result<T, krpc::Error>) -> Code {
    result.unwrap_err().code().unwrap()
}

#[test]
fn a_caller_may_call_what_it_is_allowed() {
    scenario(async |place| {
        let builder =
            server(&place).serve(WhoServer::new(Named::default())).serve(SumServer::new(Adder));
        let server = start(builder).await;
        let (who, sum) = client(&place, seal(2, "billing")).await;
        assert_eq!(who.am_i().await, Ok(Some("billing".to_owned())));
        assert_eq!(code(who.else_am_i().await), Code::PermissionDenied);
        let error = sum.add(1, 2).await.unwrap_err().to_string();
        assert!(error.contains("caller billing may not call Sum/add"), "{error}");
        let (who, sum) = client(&place, seal(3, "audit")).await;
        assert_eq!(who.else_am_i().await, Ok(Some("audit".to_owned())));
        assert_eq!(sum.add(1, 2).await, Ok(3));
        // Who is named in no rule may call nothing; who is inside, everything.
        let (who, _) = client(&place, seal(4, "idle")).await;
        assert_eq!(code(who.am_i().await), Code::PermissionDenied);
        let (who, sum) = client(&place, Seal::new().encrypt(key(1))).await;
        assert_eq!(who.am_i().await, Ok(None));
        assert_eq!(sum.add(1, 2).await, Ok(3));
        assert_eq!(server.stats().counts.denied, 3);
        assert_eq!(server.stats().counts.executed, 5);
        // The same key under another name is another key.
        let (who, _) = client(&place, seal(2, "audit")).await;
        assert_eq!(code(who.am_i().timeout(millis(300)).await), Code::FailedPrecondition);
        eventually("it is counted", || count(&server.stats().dropped, "unknown_key") > 0).await;
    });
}

/// The mover writes a call anew, with the servers' own key.
#[test]
fn a_call_that_is_moved_stays_its_callers() {
    scenario(async |place| {
        let server = start(server(&place).serve(WhoServer::new(Named::default()))).await;
        let (who, _) = client(&place, seal(2, "billing").private()).await;
        let begin = SystemTime::now();
        assert_eq!(who.am_i().delay(millis(2_500)).await, Ok(Some("billing".to_owned())));
        assert!(begin.elapsed().unwrap() >= millis(2_500));
        assert!(server.stats().counts.moved > 0, "it was not moved");
        assert_eq!(code(who.else_am_i().delay(millis(2_500)).await), Code::PermissionDenied);
        assert_eq!(server.stats().counts.executed, 1);
    });
}

/// Its letter holds the call as the mover wrote it.
#[test]
fn a_letter_of_a_moved_call_is_replayed_in_the_name_of_who_does_it() {
    scenario(async |place| {
        let (seals, named) = (Seal::new().encrypt(key(1)), Named::default());
        let server = start(server(&place).serve(WhoServer::new(named.clone()))).await;
        let (who, _) = client(&place, seal(2, "billing")).await;
        who.fails_at_first().delay(millis(2_500)).await.unwrap();
        let channel = place.channel().seal(seals.private()).connect().await.unwrap();
        let letters = channel.dead_letters("Who");
        eventually("it is a letter", || server.stats().counts.dead_lettered == 1).await;
        let letter = letters.list().await.unwrap().remove(0);
        let cause = format!("{:?}", letter.cause);
        assert!(cause.contains(r#"called by Some(\"billing\")"#), "{cause}");
        letters.replay(&letter.id).await.unwrap();
        eventually("it is executed once more", || named.0.load(Ordering::Acquire) == 2).await;
        assert_eq!(server.stats().counts.denied, 0);
    });
}

/// A client that has the new key only; its answers are sealed with the key that it used.
#[test]
fn a_callers_key_is_exchanged() {
    scenario(async |place| {
        let keys = Seal::new().encrypt(key(1)).open_with(of(2, "billing"));
        let keys = keys.open_with(of(5, "billing"));
        let builder = place.server().seal(keys).allow("billing", ["*"]);
        let _server = start(builder.serve(WhoServer::new(Named::default()))).await;
        for byte in [2, 5] {
            let (who, _) = client(&place, seal(byte, "billing")).await;
            let (now, later) = tokio::join!(who.am_i(), who.am_i().delay(millis(2_500)));
            assert_eq!(
                (now, later),
                (Ok(Some("billing".to_owned())), Ok(Some("billing".to_owned())))
            );
        }
    });
}

#[test]
fn a_server_that_does_not_encrypt_tells_a_client_that_asks_for_private_answers() {
    scenario(async |place| {
        let builder = place.server().seal(Seal::new().verify(key(1)));
        let server = start(builder.serve(SumServer::new(Adder))).await;
        let (_, sum) = client(&place, Seal::new().encrypt(key(1)).private()).await;
        let refused = || count(&server.stats().dropped, "no_exchange") > 0;
        let error = sum.add(1, 2).timeout(millis(2_000)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::FailedPrecondition), "{error}");
        assert!(refused() && server.stats().counts.executed == 0);
    });
}

#[test]
fn idempotency_keys_of_one_caller_are_not_anothers() {
    scenario(async |place| {
        let builder = server(&place).allow("billing", ["Who/*"]).result_store(MemoryStore::new());
        let server = start(builder.serve(WhoServer::new(Named::default()))).await;
        for (byte, caller) in [(2, "billing"), (3, "audit"), (2, "billing")] {
            let (who, _) = client(&place, seal(byte, caller)).await;
            let name = who.else_am_i().idempotency_key("invoice 7").await;
            assert_eq!(name, Ok(Some(caller.to_owned())));
        }
        assert_eq!(server.stats().counts.denied, 0);
    });
}

#[test]
fn a_callers_tickets_are_its_own() {
    scenario(async |place| {
        let _server = start(server(&place).serve(WhoServer::new(Named::default()))).await;
        let (who, _) = client(&place, seal(2, "billing")).await;
        // The first of all tickets: the topic of results is not there yet.
        let denied = who.else_am_i().enqueue().await.unwrap();
        assert_eq!(code(who.attach(&denied).await), Code::PermissionDenied);
        let ticket = who.am_i().enqueue().await.unwrap();
        let (again, _) = client(&place, seal(2, "billing")).await;
        assert_eq!(again.attach(&ticket).await, Ok(Some("billing".to_owned())));
        let (other, _) = client(&place, seal(3, "audit")).await;
        assert!(other.attach(&ticket).timeout(millis(500)).await.is_err());
    });
}

#[test]
fn rules_that_cannot_be_kept_are_told_at_the_start() {
    scenario(async |place| {
        let who = || WhoServer::new(Named::default());
        let told = async |builder: ServerBuilder, words: &str| {
            let error = builder.serve(who()).start().await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        let allowed = place.server().allow("billing", ["*"]);
        told(allowed.clone().seal(Seal::new()), "verified or encrypted with keys").await;
        told(allowed.clone().seal(Seal::new().checksum()), "verified or encrypted").await;
        told(allowed.seal(seal(2, "billing")), "a server's first key is its own").await;
        told(place.server().allow("billing", ["Who"]), "write `Service/method`").await;
        let private = Seal::new().verify(key(1)).private();
        told(place.server().seal(private.clone()), "private answers need encryption").await;
        let channel = place.channel().seal(private).connect().await.unwrap_err().to_string();
        assert!(channel.contains("private answers need encryption"), "{channel}");
    });
}

#[test]
fn answers_are_private_if_that_is_asked_for() {
    scenario(async |place| {
        let seal = Seal::new().encrypt(key(1));
        let server = start(place.server().seal(seal.clone()).serve(SumServer::new(Adder))).await;
        let (private, open) = (seal.clone().private(), seal);
        let (one, other) =
            (client(&place, private.clone()).await.1, client(&place, private).await.1);
        let open = client(&place, open).await.1;
        for n in 0..50 {
            let sums = tokio::join!(one.add(n, 1), other.add(n, 2), open.add(n, 3));
            assert_eq!(sums, (Ok(n + 1), Ok(n + 2), Ok(n + 3)));
        }
        let first = one.add(1, 1).enqueue().await.unwrap();
        assert_eq!(other.attach(&first).await, Ok(2), "what has a ticket is for who holds it");
        assert_eq!(server.stats().counts.undeliverable, 0);
    });
}
