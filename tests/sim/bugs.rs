//! Bugs that can be planted, to show that the checkers see them.
//!
//! Each is planted between a machine and its surroundings, never in the machines themselves: the
//! machine is told something untrue, or what it says is not done. What follows is what would
//! follow from the same mistake inside.

use crate::check;

/// A planted bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bug {
    /// A reply counts as delivered when it is handed to the producer, so its call is committed
    /// before the reply is stored.
    CommitBeforeReply,
    /// A successor takes the committed offset without its map.
    MapForgotten,
    /// Dropping a call's future does not cancel the call.
    PendingLeaked,
    /// A client takes every packet of its reply partition for its own.
    WrongInstance,
    /// A revoked partition is committed up to what was read; what waits or runs is forgotten.
    DropOnRevoke,
    /// A commit counts as made when it is sent, so what waits for it begins before.
    GateBeforeAck,
    /// What was opened of a sealed partition is forgotten, so copies open, too.
    CopiesForgotten,
}

impl Bug {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::CommitBeforeReply,
        Self::MapForgotten,
        Self::PendingLeaked,
        Self::WrongInstance,
        Self::DropOnRevoke,
        Self::GateBeforeAck,
        Self::CopiesForgotten,
    ];

    /// Whether it shows where packets are sealed, and not elsewhere.
    pub(crate) fn is_sealed(self) -> bool {
        self == Self::CopiesForgotten
    }

    /// The checkers that may be the first to see it.
    pub(crate) const fn seen_by(self) -> &'static [&'static str] {
        match self {
            Self::CommitBeforeReply | Self::DropOnRevoke => &[check::COMMITTED],
            Self::MapForgotten => &[check::REPEATED, check::FORGOTTEN],
            Self::PendingLeaked => &[check::BOUNDED],
            Self::GateBeforeAck => &[check::ONCE],
            Self::WrongInstance => &[check::WRONG],
            Self::CopiesForgotten => &[check::SEALED],
        }
    }
}
