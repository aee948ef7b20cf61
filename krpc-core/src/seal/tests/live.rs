//! A service's seal in use: what is refused is counted by its cause; keys that are exchanged.

#![allow(clippy::disallowed_methods, reason = "virtual time")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use super::*;
use crate::{
    ids::InstanceId,
    sealing::{self, Proof, Role, SealSettings, Sealing},
    transport::{BoxFuture, TransportConfig, memory::MemoryEndpoint},
    wire::coding::Reader,
};

const HERE: (Topic, u32) = (Topic::Calls, 7);

async fn in_use(seal: &Seal) -> Arc<dyn Sealing> {
    let endpoint = MemoryEndpoint::private(TransportConfig::default());
    SealSettings::bind(seal, SERVICE, Role::Server, &endpoint).await.unwrap()
}

fn seal_for(seal: &dyn Sealing, place: (Topic, u32), packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let stamp = sealing::Stamp { place, nonce: [9; NONCE_LEN], sealed_at: None, asker: None };
    seal.seal(&stamp, packet, &mut out).unwrap();
    out
}

#[tokio::test]
async fn each_way_not_to_open_has_its_cause() {
    let [unsealed, checksum, custom, verified, encrypted] = levels();
    let seal = in_use(&encrypted).await;
    let plain = packet(&[7; 200]);
    let sound = seal_for(&*seal, HERE, &plain);
    let with = |at: usize, byte: u8| {
        let mut bytes = sound.clone();
        bytes[at] = byte;
        bytes
    };
    let refused = |seal: &dyn Sealing, bytes: &[u8]| seal.open(HERE, bytes).unwrap_err();

    assert_eq!(refused(&*seal, b""), DropCause::Empty);
    assert_eq!(refused(&*seal, b"{}"), DropCause::BadMagic);
    assert_eq!(refused(&*seal, &with(2, 9)), DropCause::Version);
    assert_eq!(refused(&*seal, &with(3, 0b1000_0010)), DropCause::Flags);
    assert_eq!(refused(&*seal, &sound[..60]), DropCause::Malformed);
    assert_eq!(refused(&*seal, &vec![7; MAX_PACKET_BYTES + 1]), DropCause::TooLarge);
    assert_eq!(refused(&*seal, &plain), DropCause::TooWeak);
    assert_eq!(refused(&*seal, &with(4, !sound[4])), DropCause::UnknownKey);
    assert_eq!(refused(&*seal, &with(80, !sound[80])), DropCause::BadSeal);
    for elsewhere in [(Topic::Calls, 8), (Topic::Delayed, 7), (Topic::Replies, 7)] {
        assert_eq!(seal.open(elsewhere, &sound), Err(DropCause::BadSeal));
    }
    let hashed = seal_for(&*in_use(&custom).await, HERE, &plain);
    assert_eq!(refused(&*in_use(&checksum).await, &hashed), DropCause::NoHash);
    // For one client alone, which nobody here is: a flag of its own, and proven after all else.
    let mut private = bound(&encrypted);
    let mut scratch = private::exchange(11);
    let offer = Stamp { private: Private::For(Exchange::from_bytes([12; 32]).public()), ..stamp() };
    let mut answer = Vec::new();
    private.seal(&mut scratch, &PLACE, &offer, &plain, &mut answer).unwrap();
    private = bound(&encrypted);
    assert_eq!(open(&private, &answer).unwrap_err().cause(), DropCause::NoExchange);

    let weak = in_use(&unsealed.compress(1)).await;
    let small = seal_for(&*weak, HERE, &packet(&[7; 2000]));
    let header = packet(&[]).len();
    let mut bomb = small.clone();
    bomb.splice(header..header + 2, [0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(refused(&*weak, &bomb), DropCause::Expansion);
    assert_eq!(refused(&*weak, &small[..small.len() - 1]), DropCause::BadCompression);
    assert_eq!(weak.open(HERE, &plain), Ok(None));
    // What is better protected is taken, if there is a key for it.
    let verified = in_use(&verified.accept(Level::Unsealed)).await;
    let opened = verified.open(HERE, &sound).unwrap().unwrap();
    assert!(opened.proof == Proof::Key && opened.packet == plain);
}

/// Somebody with the service's key answers as a server that knows nothing of private answers.
#[tokio::test]
async fn an_answer_that_others_can_open_is_refused() {
    const REPLIES: (Topic, u32) = (Topic::Replies, 7);

    let [.., encrypted] = levels();
    let endpoint = MemoryEndpoint::private(TransportConfig::default());
    let settings = encrypted.clone().private();
    let client = SealSettings::bind(&settings, SERVICE, Role::Client, &endpoint).await.unwrap();
    let server = in_use(&encrypted).await;
    let packet_for = |destination| {
        let mut header = Header::decode(&mut Reader::new(&packet(&[]))).unwrap();
        header.destination = destination;
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        bytes
    };
    let me = InstanceId::from_bytes([3; 16]);
    let (mine, for_all) = (packet_for(me), packet_for(InstanceId::ANY));
    assert_eq!(
        client.open(REPLIES, &seal_for(&*server, REPLIES, &mine)),
        Err(DropCause::NotPrivate)
    );
    assert!(client.open(REPLIES, &seal_for(&*server, REPLIES, &for_all)).is_ok());

    // What the call offers, the answer takes.
    let call = seal_for(&*client, HERE, &for_all);
    let Proof::Asker(asker) = server.open(HERE, &call).unwrap().unwrap().proof else {
        panic!("nothing is offered");
    };
    let mut answer = Vec::new();
    let stamp = sealing::Stamp {
        place: REPLIES,
        nonce: [8; NONCE_LEN],
        sealed_at: None,
        asker: Some(&asker),
    };
    server.seal(&stamp, &mine, &mut answer).unwrap();
    assert_eq!(client.open(REPLIES, &answer).unwrap().unwrap().packet, mine);
    let another = SealSettings::bind(&settings, SERVICE, Role::Client, &endpoint).await.unwrap();
    assert_eq!(another.open(REPLIES, &answer), Err(DropCause::BadSeal));
}

/// A process that is server and client has all keys of the servers.
#[tokio::test]
async fn what_a_caller_seals_is_no_servers_word() {
    let endpoint = MemoryEndpoint::private(TransportConfig::default());
    let audit = || key(2).of_caller("audit").unwrap();
    let of =
        async |seal: Seal, role| SealSettings::bind(&seal, SERVICE, role, &endpoint).await.unwrap();
    let caller = of(Seal::new().encrypt(audit()), Role::Client).await;
    let ring = Seal::new().encrypt(key(1)).open_with(audit());
    let (server, client) = (of(ring.clone(), Role::Server).await, of(ring, Role::Client).await);
    for topic in [Topic::Replies, Topic::Results, Topic::Dead] {
        let place = (topic, 0);
        let forged = seal_for(&*caller, place, &packet(&[7; 20]));
        assert_eq!(client.open(place, &forged), Err(DropCause::UnknownKey), "{topic:?}");
        assert!(caller.open(place, &forged).is_ok(), "its own answers come like that");
        let right = seal_for(&*server, place, &packet(&[7; 20]));
        assert!(client.open(place, &right).is_ok());
    }
    let call = seal_for(&*caller, HERE, &packet(&[7; 20]));
    let opened = server.open(HERE, &call).unwrap().unwrap();
    let Proof::Asker(asker) = opened.proof else { panic!("{:?}", opened.proof) };
    assert_eq!(asker.caller.as_deref(), Some("audit"));
}

#[tokio::test(start_paused = true)]
async fn keys_of_a_ring_are_exchanged_while_they_are_in_use() {
    let ring = KeyRing::new(vec![key(1)]);
    let seal = in_use(&Seal::new().encrypt_from(ring.clone())).await;
    let plain = packet(&[7; 200]);
    let old = seal_for(&*seal, HERE, &plain);
    let new = seal_for(&*in_use(&Seal::new().encrypt(key(2))).await, HERE, &plain);
    assert_eq!(seal.open(HERE, &new), Err(DropCause::UnknownKey));

    ring.replace(vec![key(2), key(1)]);
    until(|| seal.open(HERE, &new).is_ok()).await;
    assert!(seal.open(HERE, &old).is_ok());
    assert_eq!(seal_for(&*seal, HERE, &plain), new);

    // Nothing is better than keys that are no ring.
    ring.replace(vec![key(2), key(2)]);
    ring.replace(vec![key(2)]);
    until(|| seal.open(HERE, &old) == Err(DropCause::UnknownKey)).await;
    assert!(seal.open(HERE, &new).is_ok());
}

#[tokio::test(start_paused = true)]
async fn keys_from_elsewhere_are_fetched_from_time_to_time_and_stay_if_they_cannot_be() {
    #[derive(Clone)]
    struct Store(Arc<Mutex<Result<Vec<Key>, SealError>>>);
    impl KeyProvider for Store {
        fn keys<'a>(&'a self, service: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
            assert_eq!(service, SERVICE);
            let keys = self.0.lock().clone();
            Box::pin(async move { keys })
        }
    }

    let store = Store(Arc::new(Mutex::new(Ok(vec![key(1)]))));
    let settings = Seal::new().verify_from(store.clone()).refresh(Duration::from_secs(5));
    let seal = in_use(&settings).await;
    let plain = packet(&[7; 200]);
    let old = seal_for(&*seal, HERE, &plain);
    let away = SealError::Provider("nobody answers".to_owned());
    *store.0.lock() = Err(away.clone());
    pass(20_000).await;
    assert!(seal.open(HERE, &old).is_ok());

    *store.0.lock() = Ok(vec![key(2)]);
    until(|| seal.open(HERE, &old) == Err(DropCause::UnknownKey)).await;

    // One that is not there from the first is told.
    *store.0.lock() = Err(away.clone());
    let endpoint = MemoryEndpoint::private(TransportConfig::default());
    let error = SealSettings::bind(&settings, SERVICE, Role::Client, &endpoint).await.unwrap_err();
    assert!(error.to_string().contains("nobody answers"), "{error}");
}

/// A provider that counts how often it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<(AtomicUsize, Mutex<Vec<Key>>)>);

impl Counting {
    fn asked(&self) -> usize {
        self.0.0.load(Ordering::Relaxed)
    }
}

impl KeyProvider for Counting {
    fn keys<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Vec<Key>, SealError>> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        let keys = self.0.1.lock().clone();
        Box::pin(async move { Ok(keys) })
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_known_is_fetched_at_once_and_strangers_cause_few_fetches() {
    let keys = Counting::default();
    keys.0.1.lock().push(key(1));
    let seal = in_use(&Seal::new().encrypt_from(keys.clone())).await;
    let plain = packet(&[7; 200]);
    let stranger = seal_for(&*in_use(&Seal::new().encrypt(key(3))).await, HERE, &plain);
    let new = seal_for(&*in_use(&Seal::new().encrypt(key(2))).await, HERE, &plain);
    let flood = || {
        for n in 0..1_000_u32 {
            let mut packet = stranger.clone();
            packet[4..8].copy_from_slice(&(n + 1).to_be_bytes());
            assert_eq!(seal.open(HERE, &packet), Err(DropCause::UnknownKey));
        }
    };
    // When it is opened, and by the task when that begins.
    until(|| keys.asked() == 2).await;
    pass(20_000).await;
    assert_eq!(keys.asked(), 2);
    flood();
    until(|| keys.asked() == 3).await;
    pass(20_000).await;
    assert_eq!(keys.asked(), 3, "once for all of them");
    // Strangers have a fetch under way, and the next ones wait for theirs.
    let begun = tokio::time::Instant::now();
    flood();
    until(|| keys.asked() == 4).await;
    keys.0.1.lock().push(key(2));
    while seal.open(HERE, &new).is_err() {
        flood();
        pass(10).await;
    }
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(5) && took < Duration::from_secs(6), "{took:?}");
    assert_eq!(keys.asked(), 5);
    // Nobody floods: at once.
    pass(20_000).await;
    keys.0.1.lock().push(key(3));
    let (begun, asked) = (tokio::time::Instant::now(), keys.asked());
    until(|| seal.open(HERE, &stranger).is_ok()).await;
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1) && keys.asked() == asked + 1, "{took:?}");
    // The minute goes on.
    pass(61_000).await;
    assert_eq!(keys.asked(), asked + 2);
}

/// Lets virtual time pass.
async fn pass(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

/// Waits, by virtual time.
async fn until(mut is: impl FnMut() -> bool) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while !is() {
            pass(1).await;
        }
    })
    .await
    .unwrap();
}
