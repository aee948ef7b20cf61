//! Sealed packets: any bytes, and packets that were sealed well and then changed.

use std::{cell::RefCell, collections::hash_map::DefaultHasher, hash::Hasher, sync::LazyLock};

use krpc_core::{
    ids::InstanceId,
    seal::{Exchange, Key, Level, Opened, Place, Private, Scratch, Seal, ServiceSeal, Stamp},
    time::Time,
    transport::Topic,
    wire::{
        MAX_PACKET_BYTES,
        packet::{Header, Route},
    },
};

use super::memory::within;

/// Where the golden packets are.
const PLACE: Place<'_> = Place { topic: Topic::Calls, name: "krpc.acme.Sum.calls", partition: 3 };

/// How a packet is sealed.
struct Setting {
    seal: ServiceSeal,
    private: Private,
}

static SETTINGS: LazyLock<Vec<Setting>> = LazyLock::new(settings);

/// Opens packets of any level.
static OPENS_ALL: LazyLock<ServiceSeal> = LazyLock::new(|| {
    let all = Seal::new().verify_with(hash).keys(vec![key()]).accept(Level::Unsealed);
    bind(&all)
});

thread_local! {
    // As a reader has it: what is left of one packet must not matter to the next.
    static SCRATCH: RefCell<Scratch> = RefCell::new(scratch());
}

/// The key of the golden packets.
fn key() -> Key {
    let text = "9f2c64d1a7b85e03f6c41d2b8a907e553c10fe86b2d4976a0158e3cb7d42af90";
    Key::from_text(text).expect("it is 32 bytes in hexadecimal digits")
}

/// A user's hash that no fuzzer finds collisions of by trying.
fn hash(bytes: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish().to_be_bytes().to_vec()
}

/// One process asks and answers itself, which takes one key less.
fn scratch() -> Scratch {
    Scratch::with_exchange(exchange())
}

fn exchange() -> Exchange {
    Exchange::from_bytes(*b"a client's thirty-two bytes, yes")
}

fn bind(seal: &Seal) -> ServiceSeal {
    seal.bind("acme.Sum").expect("the settings are sound")
}

fn settings() -> Vec<Setting> {
    let own = Private::For(exchange().public());
    let levels = [
        (Seal::new(), Private::No),
        (Seal::new().checksum(), Private::No),
        (Seal::new().verify_with(hash), Private::No),
        (Seal::new().verify(key()), Private::No),
        (Seal::new().encrypt(key()), Private::No),
        (Seal::new().encrypt(key()), Private::Offer),
        (Seal::new().encrypt(key()), own),
    ];
    let both = levels
        .into_iter()
        .flat_map(|(seal, private)| [(seal.clone(), private), (seal.compress(3), private)]);
    both.map(|(seal, private)| Setting { seal: bind(&seal), private }).collect()
}

/// Opens the bytes as they are; then seals them as a body, changes that, and opens it.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    SCRATCH.with_borrow_mut(|scratch| {
        open(scratch, &OPENS_ALL, data);
        let Some((body, choices)) = data.split_last_chunk::<6>() else { return };
        let [which, topic, how, at @ .., with] = *choices;
        let setting = &SETTINGS[usize::from(which) % SETTINGS.len()];
        open(scratch, &setting.seal, data);
        let place = Place { partition: u32::from(topic) / 8, topic: topics(topic), ..PLACE };
        let change = Change { how, at: u16::from_be_bytes(at).into(), with };
        sealed(scratch, setting, &place, body, &change);
    });
}

const fn topics(number: u8) -> Topic {
    match number % 6 {
        0 => Topic::Calls,
        1 => Topic::Replies,
        2 => Topic::Results,
        3 => Topic::Dead,
        4 => Topic::Cancels,
        _ => Topic::Delayed,
    }
}

/// Bytes that opening may hold: the packet, twice while it is expanded; and what it expands to.
fn most(packet: &[u8]) -> usize {
    let compressed = packet.get(3).is_some_and(|flags| flags & 1 == 1);
    64 * 1024 + 8 * packet.len() + if compressed { MAX_PACKET_BYTES } else { 0 }
}

/// What holds of any bytes.
fn open(scratch: &mut Scratch, seal: &ServiceSeal, packet: &[u8]) {
    match within(most(packet), || seal.open(scratch, &PLACE, packet)) {
        Err(_) => {}
        Ok(Opened::AsItIs) => {
            assert!(seal.least() == Level::Unsealed && packet[3..8] == [0; 5]);
        }
        Ok(Opened::Sealed { packet: opened, seen }) => {
            assert!(seen.level >= seal.least() && opened.len() <= MAX_PACKET_BYTES);
            let len = Header::len_of(packet).expect("a packet was opened");
            assert_eq!(Header::len_of(&opened), Ok(len));
            assert_eq!((&opened[..3], &opened[8..len]), (&packet[..3], &packet[8..len]));
            assert_eq!(opened[3..8], [0; 5], "nothing of the seal is left");
            let keyed = matches!(seen.level, Level::Verified | Level::Encrypted);
            assert_eq!(seen.key.is_some(), keyed);
            assert!(!seen.private || (seen.level == Level::Encrypted && seen.offer.is_none()));
        }
    }
}

/// How a packet is changed.
struct Change {
    how: u8,
    at: usize,
    with: u8,
}

impl Change {
    fn make(&self, packet: &mut Vec<u8>) {
        let at = self.at % packet.len();
        match self.how % 4 {
            0 => packet[at] ^= self.with,
            1 => packet.truncate(at),
            2 => packet.insert(at, self.with),
            // Two parts change places.
            _ => packet.rotate_left(at),
        }
    }
}

fn packet(body: &[u8]) -> Vec<u8> {
    let header = Header {
        sender: InstanceId::from_bytes(*b"client-instance!"),
        destination: InstanceId::ANY,
        sequence: 300,
        reply_to: [Route::Partition(5)].into_iter().collect(),
    };
    let mut packet = Vec::new();
    header.encode(&mut packet);
    packet.extend_from_slice(body);
    packet
}

/// What is sealed opens; what is changed then does not, but where nothing was to be proven.
fn sealed(scratch: &mut Scratch, it: &Setting, place: &Place<'_>, body: &[u8], change: &Change) {
    let packet = packet(body);
    let nonce = *b"nonce of twenty-four by.";
    let sealed_at = Time::from_micros(1_800_000_000_000_000);
    let stamp = Stamp { nonce, sealed_at, key: None, private: it.private };
    let mut sealed = Vec::new();
    it.seal.seal(scratch, place, &stamp, &packet, &mut sealed).expect("it is small and sound");
    assert!(sealed.len() <= packet.len() + it.seal.level().overhead());
    match it.seal.open(scratch, place, &sealed).expect("it was sealed just now") {
        Opened::AsItIs => assert_eq!(sealed, packet),
        Opened::Sealed { packet: opened, seen } => {
            assert_eq!((opened, seen.level), (packet, it.seal.level()));
            let vouched = seen.level != Level::Unsealed;
            assert_eq!(seen.sealed_at, vouched.then_some(sealed_at));
            assert_eq!(seen.private, matches!(it.private, Private::For(_)));
        }
    }
    let mut changed = sealed.clone();
    change.make(&mut changed);
    open(scratch, &OPENS_ALL, &changed);
    if changed != sealed && it.seal.level() != Level::Unsealed {
        assert!(it.seal.open(scratch, place, &changed).is_err(), "a changed packet opened");
    }
    let elsewhere = Place { partition: place.partition + 1, ..*place };
    if it.seal.level() != Level::Unsealed {
        assert!(it.seal.open(scratch, &elsewhere, &sealed).is_err(), "a moved packet opened");
    }
}
