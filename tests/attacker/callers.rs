//! Strangers with keys: a caller that poses as another, or reads what is for others.

use std::time::Duration;

use krpc::seal::{Key, Level, Seal};
use krpc_core::{
    clock::fresh_instance,
    codec::ValueCodec,
    ids::{CallId, InstanceId},
    metadata::Metadata,
    seal::{Exchange, Opened, Place as Spot, Private, Scratch, ServiceSeal, Stamp},
    sealing::NONCE_LEN,
    time::Time,
    transport::Topic,
    wire::{
        frame::{AskedBy, Due, Request, Terms},
        packet::{Addresses, Header, Routes},
    },
};

use crate::support::{
    Place, count, eventually, scenario,
    services::{Adder, SumClient, SumServer},
    start,
    stranger::Stranger,
};

const SERVICE: &str = "Sum";

fn key(byte: u8) -> Key {
    Key::from_bytes([byte; 32]).unwrap()
}

fn of(byte: u8, caller: &str) -> Key {
    key(byte).of_caller(caller).unwrap()
}

async fn sum(place: &Place, seal: Seal) -> SumClient {
    SumClient::new(&place.channel().seal(seal).connect().await.unwrap())
}

/// Who has a key and access to the topics.
struct Insider {
    topics: Stranger,
    place: Place,
    seal: ServiceSeal,
    me: InstanceId,
    sequence: u64,
}

impl Insider {
    fn new(place: &Place, seal: &Seal) -> Self {
        let topics = Stranger::new(place, SERVICE);
        let (seal, me) = (seal.bind(SERVICE).unwrap(), fresh_instance());
        Self { topics, place: place.clone(), seal, me, sequence: 0 }
    }

    fn name(&self, topic: Topic) -> String {
        self.place.config().topic(SERVICE, topic)
    }

    /// Calls `Sum/add` with these terms, by a packet of its own making.
    fn call(&mut self, topic: Topic, terms: Terms) {
        self.sequence += 1;
        let (destination, sequence) = (InstanceId::ANY, self.sequence);
        let mut packet = Vec::new();
        let reply_to = Routes::new();
        Header { sender: self.me, destination, sequence, reply_to }.encode(&mut packet);
        let request = Request {
            call: CallId(self.sequence),
            terms: Some(Box::new(terms)),
            path: "Sum/add",
            budget: Duration::from_secs(10),
            deadline: None,
            fingerprint: 0,
            codec: ValueCodec::Json,
            metadata: std::borrow::Cow::Owned(Metadata::new()),
            value: br#"{"x":1,"y":2}"#,
        };
        request.encode(&mut packet).unwrap();
        let nonce = [u8::try_from(self.sequence).unwrap(); NONCE_LEN];
        let stamp = Stamp { nonce, sealed_at: Time::default(), key: None, private: Private::No };
        let (name, mut sealed) = (self.name(topic), Vec::new());
        let spot = Spot { topic, name: &name, partition: 0 };
        self.seal.seal(&mut Scratch::default(), &spot, &stamp, &packet, &mut sealed).unwrap();
        self.topics.write(topic, 0, Some(&sealed));
        self.topics.flush();
    }

    /// The packets with content in a topic: for whom each is, and whether it opens here.
    fn read(&self, topic: Topic, scratch: &mut Scratch) -> Vec<(InstanceId, bool)> {
        let (name, mut found) = (self.name(topic), Vec::new());
        for (partition, packet) in self.topics.read(topic) {
            let spot = Spot { topic, name: &name, partition };
            let opened = self.seal.open(scratch, &spot, &packet);
            let opens = matches!(opened, Ok(Opened::Sealed { .. }));
            found.push((Addresses::peek(&packet).unwrap().destination, opens));
        }
        found
    }
}

/// Terms of a call that was this caller's before it was moved.
fn as_caller(name: &str) -> Terms {
    let asker = Some(AskedBy { caller: Some(name.into()), key: 0, offer: None });
    Terms { asker, ..Terms::default() }
}

fn as_billing() -> Terms {
    as_caller("billing")
}

#[test]
fn nobody_calls_in_anothers_name() {
    scenario(async |place| {
        let seal = Seal::new().encrypt(key(1)).open_with(of(2, "billing"));
        let seal = seal.open_with(of(3, "audit"));
        let builder = place.server().seal(seal.clone()).allow("billing", ["*"]);
        let server = start(builder.serve(SumServer::new(Adder))).await;
        let billing = sum(&place, Seal::new().encrypt(of(2, "billing"))).await;
        // The delayed one has the topic of delayed calls made, and read.
        let delayed = billing.add(1, 2).delay(Duration::from_secs(3));
        assert_eq!(delayed.await, Ok(3));
        let executed = server.stats().counts.executed;

        let mut audit = Insider::new(&place, &Seal::new().encrypt(of(3, "audit")));
        audit.call(Topic::Calls, Terms::default());
        eventually("its own name is denied", || server.stats().counts.denied == 1).await;
        audit.call(Topic::Calls, as_billing());
        eventually("another's is denied", || server.stats().counts.denied == 2).await;
        let dropped = || count(&server.stats().dropped, "unexpected_kind");
        let before = dropped();
        let due = Some(Due { due: Time::from_micros(1), look: Time::from_micros(1) });
        audit.call(Topic::Delayed, Terms { due, ..as_billing() });
        eventually("delayed calls are for servers to write", || dropped() > before).await;
        assert_eq!(server.stats().counts.executed, executed);

        // Who has the servers' own key is as good as they are: the same call is executed.
        let mut inside = Insider::new(&place, &Seal::new().encrypt(key(1)));
        inside.call(Topic::Calls, as_billing());
        eventually("it is executed", || server.stats().counts.executed == executed + 1).await;
        // The list is theirs as well.
        inside.call(Topic::Calls, as_caller("audit"));
        eventually("it is denied", || server.stats().counts.denied == 3).await;
        assert_eq!(server.stats().counts.executed, executed + 1);
    });
}

#[test]
fn a_caller_opens_nothing_of_others() {
    scenario(async |place| {
        let seal = Seal::new().encrypt(key(1)).open_with(of(2, "billing"));
        let seal = seal.open_with(of(3, "audit"));
        let _server = start(place.server().seal(seal).serve(SumServer::new(Adder))).await;
        let billing = sum(&place, Seal::new().encrypt(of(2, "billing"))).await;
        assert_eq!(billing.add(1, 2).await, Ok(3));
        let ticket = billing.add(3, 4).enqueue().await.unwrap();
        assert_eq!(billing.attach(&ticket).await, Ok(7));
        let audit = Insider::new(&place, &Seal::new().encrypt(of(3, "audit")));
        let owner = Insider::new(&place, &Seal::new().encrypt(of(2, "billing")));
        for topic in [Topic::Calls, Topic::Replies, Topic::Results] {
            let opened = |insider: &Insider| {
                let found = insider.read(topic, &mut Scratch::default());
                found.iter().filter(|(_, opens)| *opens).count()
            };
            assert_eq!(opened(&audit), 0, "{topic:?}");
            assert!(opened(&owner) > 0, "{topic:?}");
        }
    });
}

#[test]
fn private_answers_open_for_nobody_else() {
    scenario(async |place| {
        let seal = Seal::new().encrypt(key(1));
        let _server = start(place.server().seal(seal.clone()).serve(SumServer::new(Adder))).await;
        let channel = place.channel().seal(seal.clone().private()).connect().await.unwrap();
        let private = SumClient::new(&channel);
        for n in 0..20 {
            assert_eq!(private.add(n, 1).await, Ok(n + 1));
        }
        let open = sum(&place, seal.clone()).await;
        assert_eq!(open.add(1, 2).await, Ok(3));

        let insider = Insider::new(&place, &seal);
        let others = || Scratch::with_exchange(Exchange::from_bytes([5; 32]));
        for mut scratch in [Scratch::default(), others()] {
            let answers = insider.read(Topic::Replies, &mut scratch);
            let mine = |it: &&(InstanceId, bool)| it.0 == channel.instance();
            assert!(answers.iter().filter(mine).count() >= 20);
            assert!(answers.iter().filter(mine).all(|(_, opens)| !opens), "{answers:?}");
            let others = answers.iter().filter(|it| !mine(it));
            assert!(others.clone().count() > 0 && others.clone().all(|(_, opens)| *opens));
            let calls = insider.read(Topic::Calls, &mut scratch);
            assert!(calls.len() > 20 && calls.iter().all(|(_, opens)| *opens), "{calls:?}");
        }
    });
}

/// While a service is changed over, packets without a key are taken. The list is kept to.
#[test]
fn who_has_no_key_gets_past_no_list() {
    scenario(async |place| {
        let seal = Seal::new().encrypt(key(1)).open_with(of(2, "billing"));
        let seal = seal.accept(Level::Unsealed);
        let builder = place.server().seal(seal).allow("billing", ["*"]);
        let server = start(builder.serve(SumServer::new(Adder))).await;
        let billing = sum(&place, Seal::new().encrypt(of(2, "billing"))).await;
        assert_eq!(billing.add(1, 2).delay(Duration::from_secs(3)).await, Ok(3));
        let executed = server.stats().counts.executed;

        let mut stranger = Insider::new(&place, &Seal::new());
        stranger.call(Topic::Calls, Terms::default());
        eventually("a call is denied", || server.stats().counts.denied == 1).await;
        stranger.call(Topic::Calls, as_billing());
        eventually("in any name", || server.stats().counts.denied == 2).await;
        let dropped = || count(&server.stats().dropped, "unexpected_kind");
        let due = Some(Due { due: Time::from_micros(1), look: Time::from_micros(1) });
        for terms in [Terms { due, ..Terms::default() }, Terms { due, ..as_billing() }] {
            let before = dropped();
            stranger.call(Topic::Delayed, terms);
            eventually("nothing is delayed for it", || dropped() > before).await;
        }
        assert_eq!(server.stats().counts.executed, executed);
    });
}
