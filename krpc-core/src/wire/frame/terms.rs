//! Terms of a call: what whoever executes, holds or moves it must keep to. A plain call has none.

use crate::{
    ids::{CallId, InstanceId},
    time::Time,
    wire::packet::Routes,
};

/// What is agreed of a call beside its method and arguments. Unlike metadata it must not be missed:
/// who does not know a term does not execute the call.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// Calls of one key run one after the other.
    pub key: Option<Box<[u8]>>,
    /// Calls of one idempotency key are executed once between them.
    pub idempotency_key: Option<Box<str>>,
    /// Where the answer goes, instead of where the packet's header says; no route: none is wanted.
    pub answer: Option<Routes>,
    /// When it is to be executed.
    pub due: Option<Due>,
    /// Whose call it was before it was moved; its answer and its cancellation go by this.
    pub origin: Option<MovedFrom>,
    /// Executions that came before, plus one; 2 at least.
    pub attempt: Option<u32>,
}

/// When a call is to be executed. Both moments are on the broker's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due {
    /// When the call is to be executed.
    pub due: Time,
    /// When whoever holds it looks at it next; once it was moved to be executed, `due`.
    pub look: Time,
}

/// The caller of a call that somebody else wrote anew, and the caller's number of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedFrom {
    /// The client that made the call.
    pub caller: InstanceId,
    /// The call's number within that client.
    pub call: CallId,
}
