//! Driver: a service's seal in use: where its packets go, what is kept from packet to packet, and
//! keys that are fetched anew from time to time.
//!
//! from: [`crate::sealing`] · to: [`super::sealing`], [`super::opening`]

#![expect(clippy::disallowed_methods, reason = "a driver: time and tasks enter here")]

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Exchange, Level, Opened, Place, Private, Public, Scratch, Seal, Seen, ServiceSeal, Stamp,
    error::{OpenError, SealError},
    format::{TOPICS, slot},
    ring::{KeyProvider, LiveSeal},
};
use zeroize::Zeroizing;

use crate::{
    clock,
    error::SetupError,
    ids::InstanceId,
    inbox::DropCause,
    sealing::{self, Asker, Proof, Role, SealSettings, Sealing},
    status::{Code, Status},
    transport::{BoxFuture, Endpoint, Topic},
    wire::packet::Addresses,
};

/// How often keys are fetched that come from a [`KeyProvider`].
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// How long after a fetch for the sake of a key that is not known the next one is: strangers can
/// send any key id.
const APART: Duration = Duration::from_secs(5);

/// Where keys come from, and how often they are fetched.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) provider: Arc<dyn KeyProvider>,
    pub(super) every: Duration,
}

struct InUse {
    live: LiveSeal,
    role: Role,
    /// Whether answers are to be for this process alone.
    private: bool,
    names: [String; TOPICS.len()],
    // One for each direction, as packets come and go on different threads.
    seals: Mutex<Scratch>,
    opens: Mutex<Scratch>,
    /// Packets bear key ids that are not known: for whoever fetches keys.
    unknown: watch::Sender<()>,
}

impl SealSettings for Seal {
    fn is_keyed(&self) -> bool {
        matches!(self.level(), Level::Verified | Level::Encrypted)
    }

    fn bind<'a>(
        &'a self,
        service: &'a str,
        role: Role,
        endpoint: &'a dyn Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Sealing>, SetupError>> {
        let names = TOPICS.map(|topic| endpoint.topic(service, topic));
        Box::pin(async move {
            let bound = self.fetch(service, role).await.map_err(|error| SetupError::Seal {
                service: service.to_owned(),
                cause: error.to_string(),
            })?;
            let [seals, opens] = scratches(bound.level()).map(Mutex::new);
            let (unknown, asked) = watch::channel(());
            let (live, private) = (LiveSeal::new(bound), self.is_private());
            let seal = Arc::new(InUse { live, role, private, names, seals, opens, unknown });
            if let Some(source) = self.source() {
                let (seal, settings) = (Arc::downgrade(&seal), self.clone());
                tokio::spawn(refresh(seal, asked, settings, service.to_owned(), source.clone()));
            }
            Ok(seal as Arc<dyn Sealing>)
        })
    }
}

/// For one direction and the other, with the same secret of this process.
fn scratches(level: Level) -> [Scratch; 2] {
    if level != Level::Encrypted {
        return <[Scratch; 2]>::default();
    }
    let secret = Zeroizing::new(clock::fresh_secret());
    [(), ()].map(|()| Scratch::with_exchange(Exchange::from_bytes(*secret)))
}

impl Seal {
    /// The seal of a service, with the keys as they are now.
    async fn fetch(&self, service: &str, role: Role) -> Result<ServiceSeal, SealError> {
        let mut seal = self.clone();
        if let Some(source) = self.source() {
            seal = seal.keys(source.provider.keys(service).await?);
        }
        let service = service.to_owned();
        // Passwords take their time.
        let bound = tokio::task::spawn_blocking(move || seal.bind(&service)).await;
        let bound = bound.unwrap_or_else(|error| Err(SealError::Derivation(error.to_string())))?;
        if role == Role::Server && bound.is_callers() {
            return Err(SealError::CallersKey);
        }
        Ok(bound)
    }
}

/// Fetches the keys of a service again and again, as long as its seal is used.
async fn refresh(
    seal: Weak<InUse>,
    mut asked: watch::Receiver<()>,
    settings: Seal,
    service: String,
    source: Source,
) {
    let Some(role) = seal.upgrade().map(|seal| seal.role) else { return };
    let mut not_before = Instant::now();
    let mut for_a_packet = false;
    while seal.strong_count() > 0 {
        // Before they are fetched: a change that comes meanwhile has them fetched once more. So the
        // first time is not left out, either.
        let changed = source.provider.changed();
        asked.mark_unchanged();
        let fetched = settings.fetch(&service, role).await;
        let Some(seal) = seal.upgrade() else { return };
        match fetched {
            Ok(bound) => {
                if !bound.key_ids().eq(seal.live.current().key_ids()) {
                    let keys: Vec<_> = bound.key_ids().collect();
                    tracing::info!(target: "krpc::seal", service, ?keys, "other keys are in use");
                }
                seal.live.replace(bound);
            }
            Err(error) => {
                tracing::warn!(target: "krpc::seal", service, %error, "keys stay as they were");
            }
        }
        drop(seal);
        if for_a_packet {
            not_before = Instant::now() + APART;
        }
        for_a_packet = tokio::select! {
            () = changed => false,
            () = sleep(source.every) => false,
            // It ends with the seal; then nothing is fetched any more.
            _ = async { sleep_until(not_before).await; asked.changed().await } => true,
        };
    }
}

impl InUse {
    fn place(&self, (topic, partition): (Topic, u32)) -> Place<'_> {
        Place { topic, name: &self.names[slot(topic)], partition }
    }

    /// Whether a packet asks for answers that nobody else can open, or is one.
    fn private(&self, topic: Topic, asker: Option<&Asker>) -> Private {
        match (self.role, topic) {
            (Role::Client, Topic::Calls) if self.private => Private::Offer,
            // What is kept for whoever has the ticket is for all of them.
            (Role::Server, Topic::Replies) => {
                let offer = asker.and_then(|asker| asker.offer);
                offer.map_or(Private::No, |offer| Private::For(Public(offer)))
            }
            _ => Private::No,
        }
    }

    /// Whether what opened is for who opened it to read.
    fn check(
        &self,
        live: &ServiceSeal,
        topic: Topic,
        seen: &Seen,
        packet: &[u8],
    ) -> Result<(), DropCause> {
        match self.role {
            // Before it is executed, as it could not be answered.
            Role::Server if seen.offer.is_some() && live.level() != Level::Encrypted => {
                Err(DropCause::NoExchange)
            }
            Role::Server => Ok(()),
            // A key that opens what callers write, where servers have it too, is no server's word.
            Role::Client if seen.caller.is_some() && !live.is_of(seen.caller.as_deref()) => {
                Err(DropCause::UnknownKey)
            }
            // Others could have opened it.
            Role::Client
                if self.private
                    && topic == Topic::Replies
                    && !seen.private
                    && !is_for_all(packet) =>
            {
                Err(DropCause::NotPrivate)
            }
            Role::Client => Ok(()),
        }
    }

    /// What a packet is counted as that does not open.
    fn cause(&self, topic: Topic, error: &OpenError, packet: &[u8]) -> DropCause {
        let is_news = matches!(error, OpenError::UnknownKey(_))
            && (self.role, topic) == (Role::Client, Topic::Replies)
            && is_for_all(packet);
        // Who has a key of its own has not got the one that servers' news for all is sealed with.
        if is_news && self.live.current().is_callers() {
            return DropCause::Foreign;
        }
        if let OpenError::UnknownKey(_) = error {
            self.unknown.send_replace(());
        }
        error.cause()
    }
}

impl Sealing for InUse {
    fn overhead(&self) -> usize {
        self.live.current().level().overhead()
    }

    fn seal(
        &self,
        stamp: &sealing::Stamp<'_>,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let live = self.live.current();
        let (place, asker) = (self.place(stamp.place), stamp.asker);
        let key = asker.map(|asker| live.answers_with(asker));
        let stamp = Stamp {
            nonce: stamp.nonce,
            sealed_at: stamp.sealed_at.unwrap_or_default(),
            key: key.flatten(),
            private: self.private(place.topic, asker),
        };
        let sealed = live.seal(&mut self.seals.lock(), &place, &stamp, packet, out);
        sealed.map_err(|error| {
            Status::new(Code::Internal, format!("the packet could not be sealed: {error}"))
        })
    }

    fn open(
        &self,
        place: (Topic, u32),
        packet: &[u8],
    ) -> Result<Option<sealing::Opened>, DropCause> {
        let (live, place) = (self.live.current(), self.place(place));
        let opened = live.open(&mut self.opens.lock(), &place, packet);
        match opened.map_err(|error| self.cause(place.topic, &error, packet))? {
            Opened::AsItIs => Ok(None),
            Opened::Sealed { packet: opened, seen } => {
                self.check(&live, place.topic, &seen, packet)?;
                let (packet, sealed_at) = (opened.into(), seen.sealed_at);
                Ok(Some(sealing::Opened { packet, sealed_at, proof: proof(seen) }))
            }
        }
    }
}

fn is_for_all(packet: &[u8]) -> bool {
    Addresses::peek(packet).is_ok_and(|it| it.destination == InstanceId::ANY)
}

/// Who vouches for a packet.
fn proof(seen: Seen) -> Proof {
    let Seen { key: Some(key), caller, offer, .. } = seen else { return Proof::None };
    if caller.is_none() && offer.is_none() {
        return Proof::Key;
    }
    let offer = offer.map(|Public(offer)| offer);
    Proof::Asker(Box::new(Asker { caller, key: key.number(), offer }))
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("live", &self.live).finish_non_exhaustive()
    }
}
