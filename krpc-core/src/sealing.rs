//! The seam between the machines and what seals their packets: `seal`, which is there only with
//! the feature of that name. Without seals each of these is one branch.
//!
//! A packet is sealed when it leaves the outbox for the first time, and opened before a machine
//! sees it. So machines know plain packets only.
//!
//! from: the drivers, which open records with an `Opener`; [`crate::outbox`]
//! to: `seal`, [`crate::replay`]

use std::{fmt, sync::Arc};

use bytes::Bytes;
use foldhash::HashMap;
use parking_lot::Mutex;

use crate::{
    error::SetupError,
    ids::{InstanceId, PartitionId},
    inbox::{self, DropCause},
    replay::{Found, Replays},
    status::{Code, Status},
    time::Time,
    transport::{BoxFuture, Endpoint, Record, Target, Topic},
    wire::{
        coding::Reader,
        packet::{Addresses, Header},
    },
};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;

/// Bytes of a public key.
pub const PUBLIC_LEN: usize = 32;

/// Random bytes for one packet, so many that none come twice.
pub type Nonce = [u8; NONCE_LEN];

/// What users say of seals, of which each service's own is made when it is opened.
pub trait SealSettings: Send + Sync + fmt::Debug {
    /// The seal of a service whose topics are at this endpoint. It may take tenths of a second.
    ///
    /// # Errors
    /// [`SetupError::Seal`].
    fn bind<'a>(
        &'a self,
        service: &'a str,
        role: Role,
        endpoint: &'a dyn Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Sealing>, SetupError>>;

    /// Whether packets are proven by keys, so that callers can be told apart.
    fn is_keyed(&self) -> bool;
}

/// Who has a seal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Somebody who calls.
    Client,
    /// Somebody who answers.
    Server,
}

/// Seals and opens the packets of one service.
pub trait Sealing: Send + Sync + fmt::Debug {
    /// The most bytes that sealing adds to a packet.
    fn overhead(&self) -> usize;

    /// Seals a packet; `out` then holds it, and nothing else.
    ///
    /// # Errors
    /// Why the packet cannot be sealed; it never can.
    fn seal(&self, stamp: &Stamp<'_>, packet: &[u8], out: &mut Vec<u8>) -> Result<(), Status>;

    /// Opens a packet that was read there; `None` if it is not sealed, and accepted as it is.
    ///
    /// # Errors
    /// The packet must not be read; why.
    fn open(&self, place: (Topic, u32), packet: &[u8]) -> Result<Option<Opened>, DropCause>;
}

/// What a packet is sealed with beside its content.
#[derive(Clone, Copy, Debug)]
pub struct Stamp<'a> {
    /// The topic of the service that it goes to, and the partition.
    pub place: (Topic, u32),
    /// Random bytes, new for each packet.
    pub nonce: Nonce,
    /// The time on the broker's clock, if it is known.
    pub sealed_at: Option<Time>,
    /// Who asked for what is in it, if that makes a difference.
    pub asker: Option<&'a Asker>,
}

/// Who vouches for a packet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Proof {
    /// Nobody: it may be anybody's.
    #[default]
    None,
    /// Somebody who has a key of all.
    Key,
    /// Somebody whose answers are sealed in a way of their own.
    Asker(Box<Asker>),
}

/// Somebody whose calls are proven, and whose answers are sealed for nobody else.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Asker {
    /// The caller whose key it is, if it is not a key of all.
    pub caller: Option<Arc<str>>,
    /// The id of that key.
    pub key: u32,
    /// The public key that makes the answers private, if that is asked for.
    pub offer: Option<[u8; PUBLIC_LEN]>,
}

/// A packet that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// As it was before it was sealed.
    pub packet: Bytes,
    /// Who vouches for it.
    pub proof: Proof,
    /// When it was sealed, on the broker's clock as its sender knew it.
    pub sealed_at: Option<Time>,
}

/// What an outbox seals its packets with.
pub struct Sealer {
    seals: HashMap<u16, Arc<dyn Sealing>>,
    nonces: Box<dyn FnMut() -> Nonce + Send>,
}

impl Sealer {
    /// The seals of services, by their index, and where nonces come from.
    pub fn new(
        seals: impl IntoIterator<Item = (u16, Arc<dyn Sealing>)>,
        nonces: impl FnMut() -> Nonce + Send + 'static,
    ) -> Self {
        Self { seals: seals.into_iter().collect(), nonces: Box::new(nonces) }
    }

    /// The most bytes that sealing adds to a packet of any of the services.
    pub fn overhead(&self) -> usize {
        self.seals.values().map(|seal| seal.overhead()).max().unwrap_or_default()
    }

    pub(crate) fn seal(
        &mut self,
        target: Target,
        sealed_at: Option<Time>,
        asker: Option<&Asker>,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let Some(seal) = self.seals.get(&target.service) else {
            return Err(Status::new(Code::Internal, "the service has no seal"));
        };
        let place = (target.topic, target.partition);
        let stamp = Stamp { place, nonce: (self.nonces)(), sealed_at, asker };
        seal.seal(&stamp, packet, out)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("seals", &self.seals).finish_non_exhaustive()
    }
}

/// Opens records, each in its place, and refuses copies of them.
#[derive(Debug)]
pub struct Opener {
    me: InstanceId,
    replays: Mutex<Replays>,
}

impl Opener {
    /// Of this instance.
    pub fn new(me: InstanceId) -> Self {
        Self { me, replays: Mutex::default() }
    }

    /// Opens a record that was read, in its place. One that is for another instance stays as it
    /// is, where packets are for whoever they name: it is dropped without a look at its seal.
    ///
    /// # Errors
    /// Nothing of it may take effect; why.
    pub fn open(&self, seal: &dyn Sealing, record: &mut Record) -> Result<(), DropCause> {
        if matches!(record.topic, Topic::Calls | Topic::Replies)
            && let Ok(Addresses { destination, .. }) = Addresses::peek(&record.payload)
            && destination != self.me
            && destination != InstanceId::ANY
        {
            return Ok(());
        }
        let place = (record.topic, record.partition.partition);
        let Some(opened) = seal.open(place, &record.payload)? else { return Ok(()) };
        record.payload = opened.packet;
        record.proof = opened.proof;
        if record.proof == Proof::None { Ok(()) } else { self.check(record, opened.sealed_at) }
    }

    /// Refuses a copy of a record.
    fn check(&self, record: &Record, sealed_at: Option<Time>) -> Result<(), DropCause> {
        let reader = &mut Reader::new(&record.payload);
        let Header { sender, sequence, .. } = Header::decode(reader).map_err(inbox::cause)?;
        if reader.is_empty() {
            // A client's hello, of before it can know the broker's clock: nothing to repeat.
            return Ok(());
        }
        let Record { topic, partition, offset, appended, .. } = *record;
        let found = Found { sender, sequence, sealed_at, appended, offset };
        self.replays.lock().handle_packet(topic, partition, &found)
    }

    /// Partitions of calls that are read no more.
    pub fn forget(&self, partitions: &[PartitionId]) {
        let mut replays = self.replays.lock();
        partitions.iter().for_each(|partition| replays.forget(Topic::Calls, *partition));
    }
}
