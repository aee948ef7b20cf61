//! What went wrong with a call, apart from the application's own errors.

use std::fmt;

use bytes::Bytes;

macro_rules! codes {
    ($($(#[$doc:meta])+ $name:ident = $number:literal, $text:literal;)+) => {
        /// gRPC's canonical codes, without `Ok`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Code { $($(#[$doc])+ $name = $number,)+ }

        impl Code {
            /// The code of this number on the wire; unknown numbers are [`Code::Unknown`].
            pub const fn from_u8(number: u8) -> Self {
                match number { $($number => Self::$name,)+ _ => Self::Unknown }
            }

            /// The code's name in gRPC's spelling, such as `DEADLINE_EXCEEDED`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }
        }
    };
}

codes! {
    /// The call was cancelled, as a rule by its caller.
    Cancelled = 1, "CANCELLED";
    /// The cause is not known, or of a code this version does not know.
    Unknown = 2, "UNKNOWN";
    /// The arguments could not be decoded or are not acceptable whatever the state.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// The deadline passed before the call was finished. It may or may not have executed.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// Something the call names does not exist.
    NotFound = 5, "NOT_FOUND";
    /// Something the call would create exists.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// The caller may not do this.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// A limit is reached: calls in flight, memory, size of a value.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// The system is not in the state the call needs.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// The call was given up for a conflict.
    Aborted = 10, "ABORTED";
    /// A value lies outside the valid range.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// The server has no such service or method.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// An invariant broke: a handler panicked, a reply could not be decoded.
    Internal = 13, "INTERNAL";
    /// The broker or the channel is not there at present.
    Unavailable = 14, "UNAVAILABLE";
    /// Data was lost or damaged beyond repair.
    DataLoss = 15, "DATA_LOSS";
    /// The caller did not prove who it is.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

impl Code {
    /// The number on the wire.
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    /// Whether calling again, unchanged, may succeed; the default of a status of this code.
    pub const fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::ResourceExhausted | Self::Aborted)
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The details of a status that says that a call's outcome is not known.
pub const OUTCOME_UNKNOWN: &[u8] = b"krpc.outcome-unknown";

/// A failure that is not the application's: a code, a message for people, whether to retry, and
/// optional bytes for programs.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Status {
    code: Code,
    message: String,
    retryable: bool,
    details: Bytes,
}

impl Status {
    /// A status of this code; retryable as the code says.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.is_retryable(),
            details: Bytes::new(),
        }
    }

    /// Of a call that may be executed once at most, and was executed or not: nobody can tell.
    pub fn outcome_unknown(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message).with_details(Bytes::from_static(OUTCOME_UNKNOWN))
    }

    /// Whether it says that an at-most-once call was executed or not, and nobody can tell. Such a
    /// call is not sent again.
    pub fn is_outcome_unknown(&self) -> bool {
        self.code == Code::Unknown && self.details == OUTCOME_UNKNOWN
    }

    /// The canonical code.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// The message for people: lower case, no secrets, at most 1 KiB on the wire.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether calling again, unchanged, may succeed.
    pub const fn is_retryable(&self) -> bool {
        self.retryable
    }

    /// Bytes for programs: empty, or what the message says they are (an application error that
    /// could not be decoded is kept here as it came).
    pub fn details(&self) -> &Bytes {
        &self.details
    }

    /// The same status, said to be worth a retry or not.
    #[must_use]
    pub const fn with_retryable(mut self, retryable: bool) -> Self {
        self.retryable = retryable;
        self
    }

    /// The same status with bytes for programs; at most 64 KiB travel.
    #[must_use]
    pub fn with_details(mut self, details: Bytes) -> Self {
        self.details = details;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_mark_is_an_unknown_outcome() {
        let unknown = Status::outcome_unknown("the server's last commit was not confirmed");
        assert!(unknown.is_outcome_unknown() && !unknown.is_retryable());
        assert!(!Status::new(Code::Unknown, "of a newer version").is_outcome_unknown());
        let other = Status::new(Code::Internal, "").with_details(unknown.details().clone());
        assert!(!other.is_outcome_unknown());
    }
}
