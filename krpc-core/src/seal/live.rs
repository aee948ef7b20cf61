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

use super::{
    Opened, Place, Private, Scratch, Seal, ServiceSeal, Stamp,
    error::SealError,
    format::{TOPICS, slot},
    ring::{KeyProvider, LiveSeal},
};
use crate::{
    error::SetupError,
    inbox::DropCause,
    sealing::{self, Nonce, SealSettings, Sealing},
    status::{Code, Status},
    time::Time,
    transport::{BoxFuture, Endpoint, Topic},
};

/// How often keys are fetched that come from a [`KeyProvider`].
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// Where keys come from, and how often they are fetched.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) provider: Arc<dyn KeyProvider>,
    pub(super) every: Duration,
}

struct InUse {
    live: LiveSeal,
    names: [String; TOPICS.len()],
    // One for each direction, as packets come and go on different threads.
    seals: Mutex<Scratch>,
    opens: Mutex<Scratch>,
}

impl SealSettings for Seal {
    fn bind<'a>(
        &'a self,
        service: &'a str,
        endpoint: &'a dyn Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Sealing>, SetupError>> {
        let names = TOPICS.map(|topic| endpoint.topic(service, topic));
        Box::pin(async move {
            let bound = self.fetch(service).await.map_err(|error| SetupError::Seal {
                service: service.to_owned(),
                cause: error.to_string(),
            })?;
            let (seals, opens) = Default::default();
            let seal = Arc::new(InUse { live: LiveSeal::new(bound), names, seals, opens });
            if let Some(source) = self.source() {
                let (seal, settings) = (Arc::downgrade(&seal), self.clone());
                tokio::spawn(refresh(seal, settings, service.to_owned(), source.clone()));
            }
            Ok(seal as Arc<dyn Sealing>)
        })
    }
}

impl Seal {
    /// The seal of a service, with the keys as they are now.
    async fn fetch(&self, service: &str) -> Result<ServiceSeal, SealError> {
        let mut seal = self.clone();
        if let Some(source) = self.source() {
            seal = seal.keys(source.provider.keys(service).await?);
        }
        let service = service.to_owned();
        // Passwords take their time.
        let bound = tokio::task::spawn_blocking(move || seal.bind(&service)).await;
        bound.unwrap_or_else(|error| Err(SealError::Derivation(error.to_string())))
    }
}

/// Fetches the keys of a service again and again, as long as its seal is used.
async fn refresh(seal: Weak<InUse>, settings: Seal, service: String, source: Source) {
    while seal.strong_count() > 0 {
        // Before they are fetched: a change that comes meanwhile has them fetched once more. So the
        // first time is not left out, either.
        let changed = source.provider.changed();
        let fetched = settings.fetch(&service).await;
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
        let _ = tokio::time::timeout(source.every, changed).await;
    }
}

impl InUse {
    fn place(&self, (topic, partition): (Topic, u32)) -> Place<'_> {
        Place { topic, name: &self.names[slot(topic)], partition }
    }
}

impl Sealing for InUse {
    fn overhead(&self) -> usize {
        self.live.current().level().overhead()
    }

    fn seal(
        &self,
        place: (Topic, u32),
        nonce: Nonce,
        sealed_at: Option<Time>,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let sealed_at = sealed_at.unwrap_or_default();
        let stamp = Stamp { nonce, sealed_at, key: None, private: Private::No };
        let (live, place) = (self.live.current(), self.place(place));
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
        match opened.map_err(|error| error.cause())? {
            Opened::AsItIs => Ok(None),
            Opened::Sealed { packet, seen } => Ok(Some(sealing::Opened {
                packet: packet.into(),
                is_proven: seen.key.is_some(),
                sealed_at: seen.sealed_at,
            })),
        }
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InUse").field("live", &self.live).finish_non_exhaustive()
    }
}
