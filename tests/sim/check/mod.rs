//! The checkers: they see everything, and say at once what must not be.
//!
//! Each has a name, which its failures carry. [`calls`] says what must come of a call;
//! [`progress`] watches executions and commits.

pub(crate) mod calls;
mod progress;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use krpc_core::{
    client::pending::{Completion, Ending},
    ids::{CallId, InstanceId},
    status::{Code, Status},
    time::micros,
    wire::frame::Frame,
};

use self::{
    calls::Kind,
    progress::{Epoch, Partition},
};
use crate::{
    faults::{MILLI, Plan, SECOND},
    packets,
    rng::Rng,
};

/// Each accepted call ends, and ends once.
pub(crate) const ENDS: &str = "every_call_ends_once";
/// A reply is its own call's, and arguments are as they were sent.
pub(crate) const WRONG: &str = "no_reply_is_wrong";
/// `DeadlineExceeded` and `Unavailable` do not come before the deadline.
pub(crate) const EARLY: &str = "no_call_fails_before_its_deadline";
/// Where time is plenty, or all is well, a call gets its real answer, however wrong the clocks.
pub(crate) const FRESH: &str = "no_fresh_call_expires";
/// Any other status has a cause.
pub(crate) const EXPLAINED: &str = "every_status_has_its_cause";
/// What a commit covers is answered, or nobody wants or can get the answer.
pub(crate) const COMMITTED: &str = "nothing_unfinished_is_committed";
/// A commit says no less than the one before it.
pub(crate) const FORGOTTEN: &str = "no_commit_forgets";
/// What reached the calls topic gets an answer, in time or not.
pub(crate) const ANSWERED: &str = "every_stored_call_is_answered";
/// A successor executes only what the committed state leaves open, and each call once.
pub(crate) const REPEATED: &str = "only_what_is_open_is_repeated";
/// What was executed before a partition was given back in good order is not executed again.
pub(crate) const DRAINED: &str = "a_drain_repeats_nothing";
/// A call that is executed once at most is, wherever it stands and whoever owns that.
pub(crate) const ONCE: &str = "at_most_once_is_not_twice";
/// Only the owner of a partition starts its calls.
pub(crate) const OWNED: &str = "only_owners_execute";
/// Nothing is executed after its deadline.
pub(crate) const LATE: &str = "nothing_late_is_executed";
/// Where both sides are sealed alike, nothing is refused but forgeries and copies, and those are.
pub(crate) const SEALED: &str = "only_forgeries_and_copies_are_refused";
/// Tables and queues stay within their bounds, and are empty in the end.
pub(crate) const BOUNDED: &str = "memory_is_bounded";
/// When the faults stop, all calls end, all is committed, and nothing happens any more.
pub(crate) const QUIET: &str = "all_is_quiet_after_the_faults";

/// What a checker found.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) checker: &'static str,
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, checker, message } = self;
        write!(f, "{checker}: {message}; replay: KRPC_SIM_SEED={seed} cargo xtask sim")
    }
}

/// What is known of a call.
#[derive(Debug)]
struct Call {
    state: State,
    /// The true time of its deadline.
    deadline: u64,
    timeout: u64,
    /// How wrong the deadline that travels may be; `None` if none travels.
    doubt: Option<u64>,
    /// It is executed once at most, and may end without anybody knowing whether it was.
    at_most_once: bool,
    /// It must get its real answer.
    fresh: bool,
    /// A reply to it is stored.
    answered: bool,
    /// A reply to it was not stored.
    reply_lost: bool,
    /// A reply to it was refused for good.
    refused: bool,
    /// Where it stands in the calls topic, more than once if its record was repeated.
    positions: Vec<(u32, i64, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Waiting,
    /// Its caller was woken, and has not looked.
    Woken,
    Ended,
    /// Its caller gave it up.
    Dropped,
    /// Its client died.
    Orphaned,
}

/// All checkers.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) failure: Option<Failure>,
    seed: u64,
    patient: bool,
    stamps: bool,
    /// Calls started from here on have all the time they need.
    settled: bool,
    /// Somebody wrote garbage, which each side may take for the other's.
    pub(crate) garbled: bool,
    calls: Vec<Call>,
    ids: HashMap<(InstanceId, CallId), usize>,
    partitions: Vec<Partition>,
    epochs: Vec<Epoch>,
    /// How often what happened.
    pub(crate) tally: Tally,
}

/// How often each thing happened: a run in which nothing goes wrong shows nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally(pub(crate) BTreeMap<String, u64>);

impl Tally {
    /// It happened once more.
    pub(crate) fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// It happened so many times more.
    pub(crate) fn add(&mut self, what: &str, times: u64) {
        match self.0.get_mut(what) {
            Some(count) => *count += times,
            None if times > 0 => _ = self.0.insert(what.to_owned(), times),
            None => {}
        }
    }

    /// What happened elsewhere, too.
    pub(crate) fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| self.add(what, *times));
    }
}

impl Check {
    /// How long after the last fault everything is as it should be, in microseconds.
    pub(crate) const SETTLING: u64 = 60 * SECOND;

    pub(crate) fn new(plan: &Plan) -> Self {
        Self {
            failure: None,
            seed: plan.seed,
            patient: plan.patient,
            stamps: plan.stamps,
            settled: false,
            garbled: false,
            calls: Vec::new(),
            ids: HashMap::new(),
            partitions: (0..plan.partitions).map(|_| Partition::default()).collect(),
            epochs: Vec::new(),
            tally: Tally::default(),
        }
    }

    /// Keeps the first failure: later ones may follow from it.
    pub(crate) fn fail(&mut self, checker: &'static str, message: String) {
        self.failure.get_or_insert(Failure { seed: self.seed, checker, message });
    }

    pub(crate) fn require(
        &mut self,
        holds: bool,
        checker: &'static str,
        message: impl FnOnce() -> String,
    ) {
        if !holds {
            self.fail(checker, message());
        }
    }

    /// The faults have stopped and their traces are gone.
    pub(crate) const fn settled(&mut self) {
        self.settled = true;
    }

    /// A call's timeout, and after how long its caller drops it: those of a settled world wait.
    pub(crate) fn patience(&self, plan: &Plan, rng: &mut Rng) -> (Duration, Option<u64>) {
        match self.settled {
            true => (Duration::from_secs(4 * 3600), None),
            false => (plan.timeout(rng), plan.drop_after(rng)),
        }
    }

    /// The number of the next call.
    pub(crate) fn next_call(&self) -> usize {
        self.calls.len()
    }

    /// The next call was accepted.
    pub(crate) fn accepted(
        &mut self,
        caller: InstanceId,
        id: CallId,
        now: u64,
        timeout: Duration,
        doubt: Option<u64>,
    ) {
        let call = self.calls.len();
        if self.ids.insert((caller, id), call).is_some() {
            self.fail(ENDS, format!("call {call} got an id that another call had"));
        }
        let timeout = micros(timeout);
        let at_most_once = calls::is_at_most_once(self.seed, call);
        self.tally.count("call");
        self.calls.push(Call {
            state: State::Waiting,
            deadline: now + timeout,
            timeout,
            doubt,
            at_most_once,
            fresh: (self.patient && !at_most_once) || self.settled,
            answered: false,
            reply_lost: false,
            refused: false,
            positions: Vec::new(),
        });
    }

    /// A call was not accepted.
    pub(crate) fn refused(&mut self, call: usize, status: &Status, full: bool, len: usize) {
        let expected = match status.code() {
            Code::ResourceExhausted => full,
            Code::InvalidArgument => len >= calls::TOO_LARGE,
            _ => false,
        };
        self.require(expected, EXPLAINED, || format!("call {call} was refused: {status}"));
        self.tally.count("call refused");
    }

    /// A caller gave a call up.
    pub(crate) fn dropped(&mut self, call: usize) {
        self.leave(call, State::Dropped);
        self.tally.count("call dropped by its caller");
    }

    /// A client died.
    pub(crate) fn orphaned(&mut self, call: usize) {
        self.leave(call, State::Orphaned);
        self.tally.count("call left by its client");
    }

    fn leave(&mut self, call: usize, state: State) {
        let was = std::mem::replace(&mut self.calls[call].state, state);
        let right = matches!(was, State::Waiting | State::Woken);
        self.require(right, ENDS, || format!("call {call} was {was:?} already"));
    }

    /// A call's caller was woken.
    pub(crate) fn woken(&mut self, call: usize) {
        self.leave(call, State::Woken);
    }

    /// A call's caller was woken at this time, and this is what it saw.
    pub(crate) fn ended(&mut self, call: usize, end: Option<Completion>, refused: bool, now: u64) {
        let Some(Completion { ending, .. }) = end else {
            return self.fail(ENDS, format!("call {call} was woken and has no end"));
        };
        self.leave(call, State::Ended);
        self.tally.count(&format!("call ended: {}", name(&ending)));
        let kind = Kind::of(self.seed, call);
        let reply = calls::reply(self.seed, call);
        let status = match &ending {
            Ending::Ok(_, value) => {
                let right = kind == Kind::Returns && value[..] == reply;
                return self.require(right, WRONG, || format!("call {call}: {}", brief(&ending)));
            }
            Ending::App(_, value) => {
                let right = kind == Kind::Fails && value[..] == reply;
                return self.require(right, WRONG, || format!("call {call}: {}", brief(&ending)));
            }
            Ending::Status(status) => status,
            Ending::Stored(_) => {
                return self.fail(WRONG, format!("call {call}: {}", brief(&ending)));
            }
        };
        let Call { deadline, fresh, .. } = self.calls[call];
        let early = self.calls[call].earliest().saturating_sub(now);
        match status.code() {
            Code::Unknown | Code::Unavailable if self.calls[call].at_most_once => {
                let told = status.is_outcome_unknown() || status.code() == Code::Unavailable;
                self.require(told && !fresh, FRESH, || format!("call {call}: {status}"));
            }
            Code::DeadlineExceeded | Code::Unavailable => {
                self.require(!fresh, FRESH, || format!("call {call}: {status}"));
                self.require(early == 0, EARLY, || {
                    format!("call {call} of deadline {deadline}, {early} us too early: {status}")
                });
            }
            // What a call of no answer ends with where packets did not open.
            Code::FailedPrecondition if self.garbled => {
                self.require(!fresh && early == 0, EARLY, || format!("call {call}: {status}"));
            }
            code => {
                let expected = match code {
                    Code::Internal => kind == Kind::Panics,
                    Code::ResourceExhausted => kind == Kind::Overflows,
                    Code::PermissionDenied => refused,
                    _ => false,
                };
                self.require(expected, EXPLAINED, || format!("call {call}, {kind:?}: {status}"));
            }
        }
    }

    /// A record is stored in the replies topic.
    pub(crate) fn replied(&mut self, payload: &[u8]) {
        for call in self.replies_in(payload) {
            self.calls[call].answered = true;
        }
    }

    /// A record for the replies topic is not stored, or even refused for good.
    pub(crate) fn reply_lost(&mut self, payload: &[u8], refused: bool) {
        for call in self.replies_in(payload) {
            self.calls[call].reply_lost = true;
            self.calls[call].refused |= refused;
        }
    }

    /// A record for the calls topic is refused for good, and its client was told.
    pub(crate) fn request_refused(&mut self, payload: &[u8]) {
        let waits = self.requests_in(payload).into_iter().flatten();
        let waits = waits.filter(|call| self.calls[*call].state == State::Waiting);
        if let Some(call) = waits.min() {
            self.fail(ENDS, format!("call {call} waits on after its record was refused"));
        }
    }

    /// The calls of a packet, `None` for those that nobody made or can read.
    fn requests_in(&self, payload: &[u8]) -> Vec<Option<usize>> {
        let Some((header, parts)) = packets::open(payload) else { return Vec::new() };
        let requests = parts.into_iter().filter(|part| part.kind.is_call());
        let call = |part: packets::Part<'_>| match part.frame? {
            Frame::Request(request) => self.ids.get(&(header.sender, request.call)).copied(),
            _ => None,
        };
        requests.map(call).collect()
    }

    fn replies_in(&self, payload: &[u8]) -> Vec<usize> {
        let Some((header, parts)) = packets::open(payload) else { return Vec::new() };
        let replies = parts.into_iter().filter_map(|part| match part.frame? {
            Frame::Reply(reply) => self.ids.get(&(header.destination, reply.call)).copied(),
            _ => None,
        });
        replies.collect()
    }

    /// It does not come to an end.
    pub(crate) fn endless(&mut self, events: u64) {
        self.fail(QUIET, format!("{events} events and no end"));
    }

    /// When the last deadline is of a call that may miss it.
    pub(crate) fn last_deadline(&self) -> u64 {
        let hurried = self.calls.iter().filter(|call| !call.fresh);
        hurried.map(|call| call.deadline).max().unwrap_or_default()
    }

    /// What must hold of the calls when nothing happens any more.
    pub(crate) fn finish(&mut self) {
        let waits =
            self.calls.iter().position(|call| matches!(call.state, State::Waiting | State::Woken));
        if let Some(call) = waits {
            self.fail(ENDS, format!("call {call} never ended"));
        }
        let open = self.calls.iter().position(|call| {
            let excused = call.state == State::Dropped || call.reply_lost || call.at_most_once;
            !call.positions.is_empty() && !call.answered && !excused
        });
        if let Some(call) = open {
            self.fail(ANSWERED, format!("call {call}: {:?}", self.calls[call]));
        }
    }
}

/// The kind of an end.
const fn name(ending: &Ending) -> &'static str {
    match ending {
        Ending::Ok(..) => "value",
        Ending::App(..) => "own error",
        Ending::Status(status) => status.code().name(),
        Ending::Stored(_) => "stored",
    }
}

/// How a call ended, without most of its bytes.
pub(crate) fn brief(ending: &Ending) -> String {
    match ending {
        Ending::Ok(_, value) => format!("a value of {} bytes", value.len()),
        Ending::App(_, value) => format!("its own error of {} bytes", value.len()),
        Ending::Status(status) => status.to_string(),
        Ending::Stored(place) => format!("stored at {place:?}"),
    }
}

impl Call {
    /// Before this it does not fail for its deadline. Stamps are whole milliseconds.
    fn earliest(&self) -> u64 {
        self.deadline - self.doubt.unwrap_or_default().min(self.timeout) - 2 * MILLI
    }
}
