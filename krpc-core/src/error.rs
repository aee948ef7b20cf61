//! The error of a call, and the errors of setting up a client or a server.

use std::{convert::Infallible, fmt, time::Duration};

use crate::status::{Code, Status};

/// Why a call failed: by the application's own word, or otherwise.
///
/// A method that returns a bare value has `E = Infallible`; its errors are always
/// [`Error::Status`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Error<E = Infallible> {
    /// The handler returned `Err(E)`.
    App(E),
    /// Anything else: deadline, broker, decoding, panic, limits.
    Status(Status),
}

impl<E> Error<E> {
    /// The code, if this is not the application's own error.
    pub fn code(&self) -> Option<Code> {
        self.status().map(Status::code)
    }

    /// The status, if this is not the application's own error.
    pub const fn status(&self) -> Option<&Status> {
        match self {
            Self::App(_) => None,
            Self::Status(status) => Some(status),
        }
    }

    /// Whether calling again, unchanged, may succeed; never for the application's own errors.
    pub fn is_retryable(&self) -> bool {
        self.status().is_some_and(Status::is_retryable)
    }

    /// Whether an at-most-once call was executed or not, and nobody can tell:
    /// [`Status::is_outcome_unknown`].
    pub fn is_outcome_unknown(&self) -> bool {
        self.status().is_some_and(Status::is_outcome_unknown)
    }
}

impl<E> From<Status> for Error<E> {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(error) => write!(f, "application error: {error:?}"),
            Self::Status(status) => status.fmt(f),
        }
    }
}

// Bound to `Debug` alone, so that `?` works with every error type a service may name.
impl<E: fmt::Debug> std::error::Error for Error<E> {}

/// Why a client could not connect or a server could not start.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The endpoint string is none of a bootstrap list, `memory:` or `embedded:`.
    #[error("invalid endpoint {endpoint:?}: {reason}")]
    InvalidEndpoint {
        /// The string as given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A setting has a value outside its range, or librdkafka refuses a property.
    #[error("invalid setting {name} = {value:?}: {reason}")]
    InvalidConfig {
        /// The setting's name, as in the environment or the property list.
        name: String,
        /// The value as given.
        value: String,
        /// What would be valid.
        reason: String,
    },
    /// A service's name cannot be part of a topic's name.
    #[error("invalid service name {name:?}: {reason}")]
    InvalidService {
        /// The name as given.
        name: String,
        /// What would be valid.
        reason: String,
    },
    /// Two services of one name in one server.
    #[error("service {name:?} is served twice by this server")]
    DuplicateService {
        /// The name they share.
        name: String,
    },
    /// A server without a service.
    #[error("a server needs at least one service: call .serve(…)")]
    NoService,
    /// Packets of a service cannot be sealed as they are to be.
    #[error("packets of {service} cannot be sealed: {cause}")]
    Seal {
        /// The service.
        service: String,
        /// What is wrong with the settings or the keys; nothing secret.
        cause: String,
    },
    /// The broker did not answer in time.
    #[error("no answer from {endpoint} within {waited:?}: {cause}")]
    Unreachable {
        /// The endpoint as given.
        endpoint: String,
        /// How long was tried.
        waited: Duration,
        /// The last cause that was seen.
        cause: String,
    },
    /// The broker did not believe who we are: a wrong name or password, a token it does not take.
    #[error("{endpoint} refused who we are: {cause}")]
    Authentication {
        /// The endpoint as given.
        endpoint: String,
        /// The broker's word, or the token provider's.
        cause: String,
    },
    /// No encrypted connection came about.
    #[error("TLS with {endpoint}: {fault}: {cause}")]
    Tls {
        /// The endpoint as given.
        endpoint: String,
        /// What kind of failure it is.
        fault: TlsFault,
        /// The words of the library.
        cause: String,
    },
    /// The broker refused for missing rights.
    #[error("not authorized to {action} {resource}: {cause}")]
    Unauthorized {
        /// The right that is missing: `create`, `describe`, `write`, `read`, `join`.
        action: String,
        /// The topic or group.
        resource: String,
        /// The broker's word.
        cause: String,
    },
    /// A topic is there but cannot carry this service.
    #[error("topic {topic} does not fit: {reason}")]
    UnfitTopic {
        /// The topic's name.
        topic: String,
        /// What it lacks and what would be enough.
        reason: String,
    },
    /// A topic is not there, and creating topics is switched off or failed.
    #[error("topic {topic} does not exist: {reason}")]
    MissingTopic {
        /// The topic's name.
        topic: String,
        /// Why it was not created.
        reason: String,
    },
    /// Anything else the transport reports.
    #[error("transport: {0}")]
    Transport(String),
    /// The channel or server was closed meanwhile.
    #[error("closed")]
    Closed,
}

/// Why no encrypted connection came about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody whom we trust vouches for the broker's certificate.
    UnknownAuthority,
    /// The broker's certificate is not valid any more, or not yet.
    Expired,
    /// The broker's certificate is made out to another host.
    WrongHost,
    /// Our own certificate is not valid any more, or not yet.
    OwnExpired,
    /// The broker does not take our own certificate, or wants one.
    OwnRefused,
    /// Something else.
    Other,
}

impl fmt::Display for TlsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownAuthority => {
                "nobody we trust vouches for the broker's certificate (KRPC_TLS_CA_FILE)"
            }
            Self::Expired => "the broker's certificate has expired, or is not valid yet",
            Self::WrongHost => "the broker's certificate is made out to another host",
            Self::OwnExpired => {
                "our certificate has expired, or is not valid yet (KRPC_TLS_CERT_FILE)"
            }
            Self::OwnRefused => {
                "the broker does not take our certificate, or wants one (KRPC_TLS_CERT_FILE)"
            }
            Self::Other => "the handshake failed",
        })
    }
}

impl SetupError {
    /// The status that a waiting call gets when its channel cannot be set up.
    pub fn to_status(&self) -> Status {
        let code = match self {
            Self::Unreachable { .. } | Self::Transport(_) | Self::Closed => Code::Unavailable,
            Self::Unauthorized { .. } => Code::PermissionDenied,
            Self::Authentication { .. } | Self::Tls { .. } => Code::Unauthenticated,
            _ => Code::FailedPrecondition,
        };
        Status::new(code, self.to_string())
    }
}

/// Why a server's shutdown was not clean.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// Handlers still ran when the drain time was over; their calls will be executed again.
    #[error("{unfinished} calls were unfinished after {waited:?}; another server repeats them")]
    DrainTimeout {
        /// How many calls were running.
        unfinished: usize,
        /// The drain time.
        waited: Duration,
    },
    /// The transport was beyond repair before the end: others have taken over.
    #[error("the transport broke: {0}")]
    Broken(Status),
    /// The last commit failed: finished calls may be executed again.
    #[error("the last commit failed: {0}")]
    Commit(String),
}
