//! Sealed runs: the seal that all processes have, and what each may refuse of it.
//!
//! Both sides are sealed alike, so nothing is refused but what was forged, and copies of records at
//! other offsets.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use krpc_core::{
    ids::{InstanceId, PartitionId},
    inbox::DropCause,
    sealing::{Opener, Sealer, Sealing},
    transport::{Record, Target, Topic},
    wire::frame::Frame,
};

use crate::{bugs::Bug, check, ctx::Ctx, packets, rng::Rng};

/// Packets of every run are sealed for the same topics. What it keeps from packet to packet changes
/// nothing.
static SEAL: LazyLock<Option<Arc<dyn Sealing>>> = LazyLock::new(make);

#[cfg(feature = "seal")]
fn make() -> Option<Arc<dyn Sealing>> {
    use krpc_core::{
        seal::{Key, Seal},
        sealing::{Role, SealSettings},
        transport::{TransportConfig, memory::MemoryEndpoint},
    };
    let settings = Seal::new().compress(1).encrypt(Key::from_bytes([7; 32]).expect("it is one"));
    let endpoint = MemoryEndpoint::private(TransportConfig::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let seal = runtime.block_on(SealSettings::bind(&settings, "acme.Sim", Role::Server, &endpoint));
    Some(seal.expect("it has a key"))
}

#[cfg(not(feature = "seal"))]
fn make() -> Option<Arc<dyn Sealing>> {
    None
}

/// The seal of a run that is to be sealed.
pub(crate) fn seal() -> Option<Arc<dyn Sealing>> {
    SEAL.clone()
}

/// Opens a process's records.
pub(crate) struct Door {
    opener: Opener,
    /// What was opened of each partition, as it was written. No process reads an offset twice
    /// without giving the partition back, so what is there already is a copy.
    opened: HashMap<(Topic, PartitionId), HashSet<Vec<u8>>>,
}

impl Door {
    pub(crate) fn new(me: InstanceId) -> Self {
        Self { opener: Opener::new(me), opened: HashMap::new() }
    }

    /// Partitions of calls that are read no more.
    pub(crate) fn forget(&mut self, partitions: &[PartitionId]) {
        self.opener.forget(partitions);
        for partition in partitions {
            self.opened.remove(&(Topic::Calls, *partition));
        }
    }
}

impl Ctx {
    /// What a process's packets are sealed with.
    pub(crate) fn sealer(&mut self) -> Option<Sealer> {
        let seal = self.seal.clone()?;
        let mut rng = Rng::new(self.rng.next());
        let nonce = move || {
            let mut nonce = [0; _];
            nonce[..16].copy_from_slice(&rng.bytes());
            nonce
        };
        Some(Sealer::new([(0, seal)], nonce))
    }

    /// A packet as it was before it was sealed, or as it is if it cannot be opened.
    pub(crate) fn clear(&self, target: Target, payload: &[u8]) -> Vec<u8> {
        let opened = self.seal.as_ref().map(|seal| {
            let place = (target.topic, target.partition);
            seal.open(place, payload).ok().flatten()
        });
        opened.flatten().map_or_else(|| payload.to_vec(), |opened| opened.packet.to_vec())
    }

    /// Opens a record for a process; what is refused must be.
    pub(crate) fn open(&mut self, door: &mut Door, record: &mut Record) -> Result<(), DropCause> {
        let Some(seal) = &self.seal else { return Ok(()) };
        let written = record.payload.clone();
        let opened = door.opener.open(&**seal, record);
        if self.bug == Some(Bug::CopiesForgotten) {
            door.opener.forget(&[record.partition]);
        }
        let Record { topic, offset, .. } = *record;
        let partition = record.partition.partition;
        let forged = self.forged.contains(&(topic, partition, offset));
        let fits = match opened {
            // One for others is not looked into.
            Ok(()) if record.payload == written => true,
            Ok(()) => {
                self.check.tally.count("sealed: opened");
                let opened = door.opened.entry((topic, record.partition)).or_default();
                !forged && (is_empty(&record.payload) || opened.insert(written.to_vec()))
            }
            Err(DropCause::Replayed) => {
                let log = &self.broker.log(topic, partition)[..offset as usize];
                log.iter().any(|earlier| earlier.payload == written)
            }
            Err(cause) => forged || (cause == DropCause::TooWeak && is_word(topic, &written)),
        };
        if let Err(cause) = opened {
            self.check.tally.count(&format!("sealed: refused as {}", cause.label()));
        }
        self.check.require(fits, check::SEALED, || {
            format!("{topic:?} {partition}/{offset}, forged: {forged}: {opened:?}")
        });
        opened
    }
}

/// Whether there are no frames in a packet: whoever repeats it repeats nothing.
fn is_empty(payload: &[u8]) -> bool {
    packets::open(payload).is_some_and(|(_, parts)| parts.is_empty())
}

/// A server's word that it could not open a packet, which is never sealed.
fn is_word(topic: Topic, payload: &[u8]) -> bool {
    let Some((_, parts)) = packets::open(payload) else { return false };
    let is_word = |part: &packets::Part<'_>| matches!(part.frame, Some(Frame::Refused(_)));
    topic == Topic::Replies && !parts.is_empty() && parts.iter().all(is_word)
}
