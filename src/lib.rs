#![doc = include_str!("../README.md")]

// The macro's `::krpc::` paths work in this package's own tests and examples too.
extern crate self as krpc;

#[cfg(feature = "kafka")]
pub mod acl;
mod client;
mod config;
mod endpoint;
mod local;
#[cfg(feature = "redis")]
mod redis;
pub mod rt;
mod server;
pub mod store;

pub use client::{Channel, ChannelBuilder};
pub use config::{Config, KNOBS, Knob};
pub use krpc_core::{
    client::{
        call::{Call, Client as UntypedClient, Reply, ReplyFuture},
        channel::ChannelStats,
        dead::{
            Arguments, CallPosition, DeadLetter, DeadLetterError, DeadLetters, ListDeadLetters,
        },
        enqueue::Enqueue,
        retry::{RetryCounts, RetryPolicy},
        ticket::Ticket,
        tickets::{Attach, AttachReply, TicketStatus},
    },
    codec::{CodecError, ValueCodec},
    context::{Caller, Context},
    dead::{LetterId, NotALetterId},
    error::{Error, SetupError, ShutdownError, TlsFault},
    ids::InstanceId,
    key::Key,
    metadata::Metadata,
    server::{
        builtin::{MethodInfo, ServiceInfo},
        stats::{ServerCounts, ServerStats},
    },
    status::{Code, Status},
    transport::{BearerToken, GroupProtocol, Mechanism, Secret, TokenProvider},
};
pub use krpc_macros::service;
pub use server::{ServeError, Server, ServerBuilder, ctrl_c};

/// Packets that are compressed, verified or encrypted: [`ChannelBuilder::seal`],
/// [`ServerBuilder::seal`].
#[cfg(feature = "seal")]
pub mod seal {
    pub use krpc_core::seal::{
        KEY_BYTES, Key, KeyId, KeyProvider, KeyRing, Level, MAX_CALLER_BYTES, MAX_HASH_BYTES,
        MAX_KEYS, Seal, SealError,
    };
    pub use krpc_core::transport::BoxFuture;
}

/// What a service and a client need: `use krpc::prelude::*;`.
pub mod prelude {
    use std::time::Duration;

    pub use crate::{
        Call, Channel, Code, Context, Reply, Server, Status, Ticket, TicketStatus, ctrl_c,
    };

    /// A duration of whole seconds.
    pub const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A duration of whole milliseconds.
    pub const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }
}
