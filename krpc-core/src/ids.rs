//! Identities: of a process's instance, of a call, of a partition.

use std::fmt;

/// One running client or server: 16 random bytes, new at every start.
///
/// All zeroes is [`InstanceId::ANY`]: in a packet's destination it means "whoever reads this".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstanceId([u8; 16]);

impl InstanceId {
    /// Nobody in particular: the destination of calls and announcements.
    pub const ANY: Self = Self([0; 16]);

    /// An identity made of these bytes; the caller supplies the entropy.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes as they travel.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A call's number within the client instance that made it; never used twice by one instance.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// A partition of one service's calls topic, as one server sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId {
    /// The service's index within its server, in the order of `.serve(…)`.
    pub service: u16,
    /// The partition's number within the calls topic.
    pub partition: u32,
}

/// No partition of a topic has such a number: Kafka's are below.
const HELD: u32 = 1 << 31;

impl PartitionId {
    /// A partition of the service's delayed calls, which stands among those of its calls under a
    /// number that none of them has.
    pub const fn held(service: u16, class: u32) -> Self {
        Self { service, partition: HELD | class }
    }

    /// Which partition of the delayed calls it is, if it is one of them.
    pub const fn class(self) -> Option<u32> {
        if self.partition & HELD == 0 { None } else { Some(self.partition & !HELD) }
    }
}

/// Where a call stands in its calls topic: which record, and which frame of that record.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Position {
    /// The partition that holds the record.
    pub partition: PartitionId,
    /// The record's offset.
    pub offset: i64,
    /// The call's index among the request frames of the record's packet.
    pub index: u32,
}
