//! What carries packets: the traits between the drivers and a broker.
//!
//! A transport moves bytes and reports events; it knows topics, partitions, offsets and groups,
//! and nothing of frames or calls. Two rules keep the drivers simple:
//!
//! - [`Producer::send`] never blocks and never calls back from inside itself, so it may be called
//!   under a lock;
//! - events come on the transport's own threads or tasks and must not block them either; where
//!   something takes time, the event returns a future that the transport waits for.
//!
//! from: [`crate::client::channel`] and [`crate::server::driver`] (packets to send)
//! to: the same (delivery reports, records, assignments)

mod config;
pub mod memory;
mod security;

use std::{fmt, future::Future, pin::Pin, sync::Arc};

use bytes::Bytes;

pub use self::{
    config::{GroupProtocol, TransportConfig},
    security::{BearerToken, Mechanism, Secret, Security, TokenProvider, Tokens},
};
pub use crate::server::ledger::CommitPoint;
use crate::{
    error::SetupError,
    ids::PartitionId,
    outbox::Transmit,
    sealing::Proof,
    status::{Code, Status},
    time::Time,
};

/// A future behind a pointer, for the cold paths of a transport.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which of a service's topics.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// Requests, read by the worker group.
    Calls,
    /// Replies and announcements, read by clients.
    Replies,
    /// Answers that are kept for whoever comes back for them.
    Results,
    /// Calls that were given up, for people to look at.
    Dead,
    /// Cancels of calls that may not have begun yet, read by all servers.
    Cancels,
    /// Calls that wait for their time, by how long each is held: [`crate::delay`].
    Delayed,
}

impl Topic {
    /// The last part of the topic's name.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Replies => "replies",
            Self::Results => "results",
            Self::Dead => "dead",
            Self::Cancels => "cancels",
            Self::Delayed => "delayed",
        }
    }

    /// Whether it is found or created only when somebody asks for it, with
    /// [`Topics::open_topic`]. Such a topic is read by hand, and keeps what was read.
    pub const fn is_lazy(self) -> bool {
        matches!(self, Self::Results | Self::Dead | Self::Cancels | Self::Delayed)
    }
}

/// Where a record goes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The service's index within its channel or server: as given to `open`.
    pub service: u16,
    /// Which of its topics.
    pub topic: Topic,
    /// The partition.
    pub partition: u32,
    /// Each record is stored once at most, and those that are reported as stored are in the order
    /// in which they were sent, even while brokers fail. Such a record is not to be sent again
    /// when its report says that it failed: it may be stored nevertheless, and late.
    pub exact: bool,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which of the service's topics: its calls (server), its replies (client), or one that is
    /// followed.
    pub topic: Topic,
    /// The service's index, and the partition of that topic.
    pub partition: PartitionId,
    /// The record's offset.
    pub offset: i64,
    /// When the broker appended it, on the broker's clock; `None` where the topic keeps the
    /// sender's time.
    pub appended: Option<Time>,
    /// The record's value; empty if it is null.
    pub payload: Bytes,
    /// Who vouches for it, once it is opened.
    pub proof: Proof,
}

/// What became of a record that was sent.
#[derive(Clone, Debug)]
pub enum Delivery<'a> {
    /// It is stored as durably as `acks` asks for.
    Stored {
        /// When the broker appended it, on the broker's clock, if the topic says.
        appended: Option<Time>,
        /// The record's offset; `None` if the transport does not know it.
        offset: Option<i64>,
    },
    /// It was given up.
    Failed {
        /// Why; retryable if sending the same bytes again may succeed.
        status: Status,
        /// The record's value, for sending it again.
        payload: &'a [u8],
    },
}

/// Why a record was not taken for sending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Rejected {
    /// The queue is full: try again after a delivery report.
    Full,
    /// It can never be sent, or not by this producer any more.
    Failed(Status),
}

/// A service's topics, as found or created.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Topology {
    /// Partitions of the calls topic.
    pub call_partitions: u32,
    /// Partitions of the replies topic.
    pub reply_partitions: u32,
}

/// An endpoint, parsed and configured: makes the two sides.
pub trait Endpoint: Send + Sync + fmt::Debug {
    /// The endpoint as users write it, for messages.
    fn name(&self) -> &str;

    /// The name of one of a service's topics, for messages.
    fn topic(&self, service: &str, topic: Topic) -> String;

    /// A client's side. Does not wait for the broker: [`ClientTransport::open`] does.
    ///
    /// # Errors
    /// Settings that cannot be used.
    fn client(&self, events: Arc<dyn ClientEvents>)
    -> Result<Arc<dyn ClientTransport>, SetupError>;

    /// A server's side. Does not wait for the broker: [`ServerTransport::open`] does.
    ///
    /// # Errors
    /// Settings that cannot be used.
    fn server(&self, events: Arc<dyn ServerEvents>)
    -> Result<Arc<dyn ServerTransport>, SetupError>;
}

/// Sends records.
pub trait Producer: Send + Sync + fmt::Debug {
    /// Queues a record. Never blocks; its [`Delivery`] is reported once, later, with `token`,
    /// never from inside this call. Records of one target are stored in the order of these calls.
    ///
    /// # Errors
    /// [`Rejected`]: no report will come.
    fn send(&self, target: Target, payload: &[u8], token: u64) -> Result<(), Rejected>;

    /// Somebody waits for a report: the next ones come at once. Otherwise a transport may keep them
    /// for some milliseconds, or until a record arrives, to save a wake-up.
    fn hurry(&self) {}

    /// Records for an exact [`Target`] are to come: what they need is made now, so that the first
    /// of them does not wait for it.
    fn prepare_exact(&self) {}
}

/// The topics of an opened service that are found or created, and read, only if asked for:
/// [`Topic::is_lazy`]. Of either side; nothing of it costs anything before it is used.
pub trait Topics: Send + Sync {
    /// Finds or creates such a topic, so that it can be written to and followed; returns how many
    /// partitions it has. Asking again is harmless.
    ///
    /// # Errors
    /// Unreachable, unauthorized, unfit or missing; within the connect timeout.
    fn open_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<u32, SetupError>> {
        let _ = service;
        let message = format!("this transport has no topic of {}", topic.suffix());
        Box::pin(async { Err(SetupError::Transport(message)) })
    }

    /// The offsets of a partition's oldest record, and of the record that comes next.
    ///
    /// # Errors
    /// The topic is not open; the broker does not answer or refuses.
    fn bounds(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
    ) -> BoxFuture<'_, Result<(i64, i64), Status>> {
        let _ = (service, topic, partition);
        Box::pin(async { Err(unimplemented()) })
    }

    /// Reads a partition of an opened topic from this offset on, as a member of no group; its
    /// records come by `arrived`, some perhaps before this returns. An offset outside the
    /// partition is taken for the nearest one inside. A partition that is followed already goes
    /// on from here; of what came before, some records may still arrive.
    ///
    /// # Errors
    /// The topic is not open; the transport is closed.
    fn follow(
        &self,
        service: u16,
        topic: Topic,
        partition: u32,
        from: i64,
    ) -> BoxFuture<'_, Result<(), Status>> {
        let _ = (service, topic, partition, from);
        Box::pin(async { Err(unimplemented()) })
    }

    /// Ends [`follow`](Self::follow). Does not wait: some records may still arrive.
    fn unfollow(&self, service: u16, topic: Topic, partition: u32) {
        let _ = (service, topic, partition);
    }
}

fn unimplemented() -> Status {
    Status::new(Code::Unimplemented, "this transport cannot do that")
}

/// How far a worker group is in a partition of a calls topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    /// The next offset, as the group committed it; `None` if it never did.
    pub offset: Option<i64>,
    /// What was committed along with it.
    pub metadata: String,
    /// The offset of the record that comes next.
    pub end: i64,
}

/// A client's side of a transport.
pub trait ClientTransport: Producer + Topics {
    /// Waits until the endpoint answers at all.
    ///
    /// # Errors
    /// Unreachable within the connect timeout.
    fn reach(&self) -> BoxFuture<'_, Result<(), SetupError>> {
        Box::pin(async { Ok(()) })
    }

    /// Makes a service usable: finds or creates its topics, picks one reply partition by `seed`,
    /// and reads it from its end as it is **now**, before anything is sent. Returns the topology
    /// and that partition.
    ///
    /// # Errors
    /// Unreachable, unauthorized, unfit or missing topics; within the connect timeout.
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
        seed: u64,
    ) -> BoxFuture<'a, Result<(Topology, u32), SetupError>>;

    /// How far the worker group of a service is in a partition of its calls. Disturbs nobody.
    ///
    /// # Errors
    /// The service is not open; the broker does not answer or refuses.
    fn committed(&self, service: u16, partition: u32) -> BoxFuture<'_, Result<Committed, Status>> {
        let _ = (service, partition);
        Box::pin(async { Err(unimplemented()) })
    }

    /// Stops reading, gives queued records a bounded time to leave, and ends all threads.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A server's side of a transport.
pub trait ServerTransport: Producer + Topics {
    /// Finds or creates a service's topics. Called for each service before [`Self::join`].
    ///
    /// # Errors
    /// Unreachable, unauthorized, unfit or missing topics; within the connect timeout.
    fn open<'a>(
        &'a self,
        service: u16,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Topology, SetupError>>;

    /// Joins the worker group of each opened service; returns when the group has been asked, not
    /// when partitions are assigned.
    ///
    /// # Errors
    /// Missing rights to the group.
    fn join(&self) -> BoxFuture<'_, Result<(), SetupError>>;

    /// Whether an opened service has such a topic; it is not created.
    ///
    /// # Errors
    /// Unreachable or unauthorized; within the connect timeout.
    fn has_topic(&self, service: u16, topic: Topic) -> BoxFuture<'_, Result<bool, SetupError>> {
        let _ = (service, topic);
        Box::pin(async { Ok(false) })
    }

    /// Commits these points, one request for all; the results come in the same order. A point of
    /// a partition that this server no longer owns is an error and changes nothing.
    fn commit(&self, points: Vec<CommitPoint>) -> BoxFuture<'_, Vec<Result<(), String>>>;

    /// Leaves the groups: each owned partition goes through [`ServerEvents::release`] and its
    /// final point is committed. Returns what could not be committed.
    fn leave(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Gives queued records a bounded time to leave and ends all threads; call after `leave`.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a producer reports.
pub trait ProducerEvents: Send + Sync + fmt::Debug {
    /// The fate of one record, exactly once per accepted [`Producer::send`].
    fn delivered(&self, token: u64, delivery: Delivery<'_>);
}

/// What a client's side reports.
pub trait ClientEvents: ProducerEvents {
    /// A record of an opened service's reply partition, or of one that is followed.
    fn arrived(&self, record: Record);

    /// The transport broke for good: nothing will be sent or arrive any more.
    fn broken(&self, status: Status);
}

/// What a server's side reports.
pub trait ServerEvents: ProducerEvents {
    /// Partitions this server now owns, and what the group has committed for each: the next
    /// offset and its metadata. Comes before any record of them.
    ///
    /// Also after [`lost`](Self::lost), with nothing committed, when the log of an owned partition
    /// was cut or made anew: its offsets begin again, and what was known of them is void. Like
    /// `arrived`, both may be called under a lock then.
    fn assigned(&self, partitions: Vec<(PartitionId, Option<(i64, String)>)>);

    /// A record of an owned partition, or of one that is followed. Runs none of the user's code,
    /// so it may be called under a lock.
    fn arrived(&self, record: Record);

    /// `None` if more records are welcome now; otherwise a future that resolves when they are.
    /// Asked after each batch of records, so that the backlog stays in Kafka.
    ///
    /// Handlers are begun in here: it must not be called under a lock, nor by the thread that
    /// serves rebalances.
    fn full(&self) -> Option<BoxFuture<'static, ()>>;

    /// Partitions are about to be taken away in good order: nothing more of them is dispatched,
    /// and the future resolves when what runs is finished and answered, or the release timeout
    /// is over. It yields the final points to commit.
    fn release(&self, partitions: Vec<PartitionId>) -> BoxFuture<'static, Vec<CommitPoint>>;

    /// Partitions were lost without warning: somebody else may own them already, or the log that
    /// was read is gone.
    fn lost(&self, partitions: Vec<PartitionId>);

    /// The transport broke for good.
    fn broken(&self, status: Status);
}

/// A machine that has packets to send.
pub(crate) trait Transmitter {
    fn poll_transmit(&mut self, now: Time) -> Option<Transmit>;
    fn handle_sent(&mut self, payload: Vec<u8>);
    fn handle_rejected(&mut self, transmit: Transmit, rejected: Rejected, now: Time);

    /// Whether something waits for a delivery report.
    fn awaits_report(&self) -> bool;
}

/// Hands all packets that are due to a producer. The service's index goes into the upper bits of
/// each token, so that the delivery report finds it. Yields the service whose packet was not taken
/// and why, if one was not: of that one no report comes.
pub(crate) fn flush(
    machine: &mut impl Transmitter,
    producer: &dyn Producer,
    now: Time,
) -> Option<(usize, Status)> {
    let mut refused = None;
    while let Some(transmit) = machine.poll_transmit(now) {
        let service = transmit.target.service;
        let token = (u64::from(service) << TAG_SHIFT) | transmit.token;
        match producer.send(transmit.target, &transmit.payload, token) {
            Ok(()) => machine.handle_sent(transmit.payload),
            Err(rejected) => {
                if let Rejected::Failed(status) = &rejected {
                    refused = Some((usize::from(service), status.clone()));
                }
                machine.handle_rejected(transmit, rejected, now);
            }
        }
    }
    if machine.awaits_report() {
        producer.hurry();
    }
    refused
}

/// The service's index and the machine's own token of a delivery report's token.
pub(crate) const fn split_token(token: u64) -> (usize, u64) {
    ((token >> TAG_SHIFT) as usize, token & ((1 << TAG_SHIFT) - 1))
}

/// 48 bits of tokens: at a million packets a second they last nine years.
const TAG_SHIFT: u32 = 48;
