//! The seam between the machines and what seals their packets: `seal`, which is there only with
//! the feature of that name. Without seals each of these is one branch.
//!
//! A packet is sealed when it leaves the outbox for the first time, and opened before a machine
//! sees it. So machines know plain packets only.
//!
//! from: the drivers, which open records with [`open`]; [`crate::outbox`]
//! to: `seal`

use std::{fmt, sync::Arc};

use bytes::Bytes;
use foldhash::HashMap;

use crate::{
    error::SetupError,
    ids::InstanceId,
    inbox::DropCause,
    status::{Code, Status},
    time::Time,
    transport::{BoxFuture, Endpoint, Record, Target, Topic},
    wire::packet::Addresses,
};

/// Bytes of a nonce.
pub const NONCE_LEN: usize = 24;

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
        endpoint: &'a dyn Endpoint,
    ) -> BoxFuture<'a, Result<Arc<dyn Sealing>, SetupError>>;
}

/// Seals and opens the packets of one service.
pub trait Sealing: Send + Sync + fmt::Debug {
    /// The most bytes that sealing adds to a packet.
    fn overhead(&self) -> usize;

    /// Seals a packet for a partition of one of the service's topics; `out` then holds it, and
    /// nothing else. The time is the broker's, if that is known.
    ///
    /// # Errors
    /// Why the packet cannot be sealed; it never can.
    fn seal(
        &self,
        place: (Topic, u32),
        nonce: Nonce,
        sealed_at: Option<Time>,
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status>;

    /// Opens a packet that was read there; `None` if it is not sealed, and accepted as it is.
    ///
    /// # Errors
    /// The packet must not be read; why.
    fn open(&self, place: (Topic, u32), packet: &[u8]) -> Result<Option<Bytes>, DropCause>;
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
        packet: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let Some(seal) = self.seals.get(&target.service) else {
            return Err(Status::new(Code::Internal, "the service has no seal"));
        };
        seal.seal((target.topic, target.partition), (self.nonces)(), sealed_at, packet, out)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").field("seals", &self.seals).finish_non_exhaustive()
    }
}

/// Opens a record that was read, in its place. One that is for another instance stays as it is,
/// where packets are for whoever they name: it is dropped without a look at its seal.
///
/// # Errors
/// Nothing of it may take effect; why.
pub(crate) fn open(
    seal: &dyn Sealing,
    me: InstanceId,
    record: &mut Record,
) -> Result<(), DropCause> {
    if matches!(record.topic, Topic::Calls | Topic::Replies)
        && let Ok(Addresses { destination, .. }) = Addresses::peek(&record.payload)
        && destination != me
        && destination != InstanceId::ANY
    {
        return Ok(());
    }
    let place = (record.topic, record.partition.partition);
    if let Some(opened) = seal.open(place, &record.payload)? {
        record.payload = opened;
    }
    Ok(())
}
