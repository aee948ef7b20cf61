//! A ticket: all that is needed to find the answer of a call that was enqueued, in any process.
//!
//! from: [`super::enqueue`] · to: whoever comes back for the answer

use std::{convert::Infallible, fmt, marker::PhantomData};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{CallId, InstanceId},
    time::Time,
    wire::MAX_PATH_BYTES,
};

/// The version of tickets that this crate writes, and the only one that it reads.
const VERSION: u32 = 1;

/// The receipt of a call that was enqueued with [`Call::enqueue`](super::call::Call::enqueue).
///
/// It is data: write it to a file or a database with serde, and read it in another process, on
/// another machine, after a restart. It holds no secret, and none of the call's arguments.
///
/// The types of the call's value and error are a part of the ticket's type, but not of what is
/// written: whoever reads it says them, as whoever calls the method does.
///
/// ```
/// use krpc_core::client::ticket::Ticket;
///
/// # let line = r#"{"v":1,"path":"Sum/add","caller":"6b2f0d3c9a414e0cb7f35b1d5c1f8a27","call":7,
/// #     "partition":3,"offset":41,"index":0,"results_partition":2,"results_from":17,
/// #     "deadline":1800000000000000}"#;
/// let ticket: Ticket<i64> = serde_json::from_str(line)?;
/// assert_eq!((ticket.service(), ticket.method()), ("Sum", "add"));
/// let again: Ticket<i64> = serde_json::from_str(&serde_json::to_string(&ticket)?)?;
/// assert_eq!(again, ticket);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written", bound = "")]
pub struct Ticket<T, E = Infallible> {
    pub(super) stub: Stub,
    types: PhantomData<fn() -> (T, E)>,
}

/// What a ticket says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stub {
    /// `service/method`.
    pub(super) path: String,
    /// The client that made the call, and its number there: who the answer is for.
    pub(super) caller: InstanceId,
    pub(super) call: CallId,
    /// Where the call lies; the offset is `None` if the transport does not know it.
    pub(super) partition: u32,
    pub(super) offset: Option<i64>,
    pub(super) index: u32,
    /// Where its answer will be, not before this offset.
    pub(super) results_partition: u32,
    pub(super) results_from: i64,
    /// When it is too late to execute it, on the broker's clock.
    pub(super) deadline: Time,
    /// When it is to be executed, if it was delayed; on the broker's clock as well.
    pub(super) due: Option<Time>,
}

impl<T, E> Ticket<T, E> {
    pub(super) const fn new(stub: Stub) -> Self {
        Self { stub, types: PhantomData }
    }

    /// The service that was called.
    pub fn service(&self) -> &str {
        self.stub.path.rsplit_once('/').map_or("", |(service, _)| service)
    }

    /// The method that was called.
    pub fn method(&self) -> &str {
        self.stub.path.rsplit_once('/').map_or("", |(_, method)| method)
    }

    /// The same ticket, for a value and an error of other types.
    pub fn cast<T2, E2>(self) -> Ticket<T2, E2> {
        Ticket::new(self.stub)
    }
}

// By hand, since the types of the value and the error need not be any of these.
impl<T, E> Clone for Ticket<T, E> {
    fn clone(&self) -> Self {
        Self::new(self.stub.clone())
    }
}

impl<T, E> PartialEq for Ticket<T, E> {
    fn eq(&self, other: &Self) -> bool {
        self.stub == other.stub
    }
}

impl<T, E> Eq for Ticket<T, E> {}

/// The call's identity: its client's instance and its number there.
impl<T, E> fmt::Display for Ticket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.stub.caller, self.stub.call.0)
    }
}

impl<T, E> fmt::Debug for Ticket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Ticket").field(&self.stub).finish()
    }
}

/// A ticket as it is written. All but the version is optional to the reader, so that a ticket of
/// another version is told by its number, not by what it lacks.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, rename = "Ticket")]
struct Written {
    v: Option<u32>,
    path: Option<String>,
    caller: Option<String>,
    call: Option<u64>,
    partition: Option<u32>,
    offset: Option<i64>,
    index: Option<u32>,
    results_partition: Option<u32>,
    results_from: Option<i64>,
    deadline: Option<u64>,
    // Last, and absent from most tickets, as from all before it was known.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<u64>,
}

impl<T, E> From<Ticket<T, E>> for Written {
    fn from(Ticket { stub, .. }: Ticket<T, E>) -> Self {
        Self {
            v: Some(VERSION),
            path: Some(stub.path),
            caller: Some(stub.caller.to_string()),
            call: Some(stub.call.0),
            partition: Some(stub.partition),
            offset: stub.offset,
            index: Some(stub.index),
            results_partition: Some(stub.results_partition),
            results_from: Some(stub.results_from),
            deadline: Some(stub.deadline.as_micros()),
            due: stub.due.map(Time::as_micros),
        }
    }
}

impl<T, E> TryFrom<Written> for Ticket<T, E> {
    type Error = NoTicket;

    fn try_from(written: Written) -> Result<Self, NoTicket> {
        match written.v {
            Some(VERSION) => {}
            Some(other) => return Err(NoTicket::Version(other)),
            None => return Err(NoTicket::Lacks("v")),
        }
        let path = need(written.path, "path")?;
        if path.len() > MAX_PATH_BYTES || !path.contains('/') {
            return Err(NoTicket::Unsound("path"));
        }
        let caller = instance(&need(written.caller, "caller")?);
        let stub = Stub {
            path,
            caller: caller.ok_or(NoTicket::Unsound("caller"))?,
            call: CallId(need(written.call, "call")?),
            partition: need(written.partition, "partition")?,
            offset: written.offset,
            index: need(written.index, "index")?,
            results_partition: need(written.results_partition, "results_partition")?,
            results_from: need(written.results_from, "results_from")?,
            deadline: Time::from_micros(need(written.deadline, "deadline")?),
            due: written.due.map(Time::from_micros),
        };
        Ok(Self::new(stub))
    }
}

/// Why something is not a ticket that can be read.
#[derive(Debug, thiserror::Error)]
enum NoTicket {
    #[error("a ticket of version {0}; this kRPC reads version {VERSION}")]
    Version(u32),
    #[error("no ticket: `{0}` is missing")]
    Lacks(&'static str),
    #[error("no ticket: `{0}` is not what a ticket has there")]
    Unsound(&'static str),
}

fn need<V>(value: Option<V>, name: &'static str) -> Result<V, NoTicket> {
    value.ok_or(NoTicket::Lacks(name))
}

/// An instance of these 32 hexadecimal digits.
fn instance(text: &str) -> Option<InstanceId> {
    let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = u128::from_str_radix(text, 16).ok().filter(|_| digits)?;
    Some(InstanceId::from_bytes(number.to_be_bytes())).filter(|id| *id != InstanceId::ANY)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    struct NoTraits;

    fn ticket() -> Ticket<NoTraits, NoTraits> {
        Ticket::new(Stub {
            path: "acme.Sum/add".to_owned(),
            caller: InstanceId::from_bytes([0xab; 16]),
            call: CallId(u64::MAX),
            partition: 3,
            offset: Some(41),
            index: 7,
            results_partition: 2,
            results_from: 17,
            deadline: Time::from_micros(1_800_000_000_000_000),
            due: None,
        })
    }

    fn delayed() -> Ticket<NoTraits, NoTraits> {
        let due = Some(Time::from_micros(1_799_000_000_000_000));
        Ticket::new(Stub { due, ..ticket().stub })
    }

    fn error(json: &str) -> String {
        serde_json::from_str::<Ticket<i64>>(json).unwrap_err().to_string()
    }

    #[test]
    fn it_survives_text_and_bytes() {
        for ticket in [ticket(), delayed()] {
            let json = serde_json::to_string(&ticket).unwrap();
            assert_eq!(serde_json::from_str::<Ticket<_, _>>(&json).unwrap(), ticket);
            let bytes = rmp_serde::to_vec(&ticket).unwrap();
            assert_eq!(rmp_serde::from_slice::<Ticket<_, _>>(&bytes).unwrap(), ticket);
            let bytes = rmp_serde::to_vec_named(&ticket).unwrap();
            assert_eq!(rmp_serde::from_slice::<Ticket<_, _>>(&bytes).unwrap(), ticket);
        }
    }

    /// Tickets lie in files for days: a later version reads those of this one, or says why not.
    #[test]
    fn it_is_written_as_version_1_has_it() {
        let expected = concat!(
            r#"{"v":1,"path":"acme.Sum/add","caller":"abababababababababababababababab","#,
            r#""call":18446744073709551615,"partition":3,"offset":41,"index":7,"#,
            r#""results_partition":2,"results_from":17,"deadline":1800000000000000}"#,
        );
        assert_eq!(serde_json::to_string(&ticket()).unwrap(), expected);
        let expected = expected.replace('}', r#","due":1799000000000000}"#);
        assert_eq!(serde_json::to_string(&delayed()).unwrap(), expected);
    }

    #[test]
    fn what_is_no_ticket_is_refused_with_the_cause() {
        let json = serde_json::to_string(&ticket()).unwrap();
        let cases = [
            (json.replace(r#""v":1"#, r#""v":2"#), "version 2; this kRPC reads version 1"),
            (r#"{"v":2,"other":[]}"#.to_owned(), "version 2"),
            ("{}".to_owned(), "`v` is missing"),
            (r#"{"v":1}"#.to_owned(), "`path` is missing"),
            (json.replace("acme.Sum/add", "add"), "`path` is not"),
            (json.replace("abab", "abxx"), "`caller` is not"),
            (json.replace("abababab", "ab"), "`caller` is not"),
            (json.replace("ab", "00"), "`caller` is not"),
            (json.replace(r#""partition":3"#, r#""partition":-3"#), "invalid value"),
            ("[]".to_owned(), "`v` is missing"),
            ("7".to_owned(), "invalid type"),
        ];
        for (json, cause) in cases {
            let error = error(&json);
            assert!(error.contains(cause), "{json}: {error}");
        }
        let unknown_place = json.replace(r#""offset":41"#, r#""offset":null"#);
        let ticket: Ticket<i64> = serde_json::from_str(&unknown_place).unwrap();
        assert_eq!(ticket.stub.offset, None);
    }

    #[test]
    fn it_names_its_call() {
        let ticket = ticket().clone();
        assert_eq!(ticket.to_string(), "abababababababababababababababab-18446744073709551615");
        assert_eq!((ticket.service(), ticket.method()), ("acme.Sum", "add"));
        assert!(format!("{ticket:?}").starts_with("Ticket(Stub"));
        assert_eq!(ticket.clone().cast::<String, String>().cast(), ticket);
    }
}
