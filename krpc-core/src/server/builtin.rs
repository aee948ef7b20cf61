//! What every server answers without code of the user: `$ping` and `$info`.
//!
//! from: [`super::driver`] · to: the same, or on to the user's service

use serde::{Deserialize, Serialize};

use super::{
    driver::Shared,
    service::{Incoming, MethodDescriptor, Service, ServiceDescriptor},
};
use crate::{
    policy::Policy,
    status::{Code, Status},
};

/// The names of the built-in methods; names of users never start with `$`.
pub(crate) const PING: &str = "$ping";
pub(crate) const INFO: &str = "$info";

/// What a server says of itself and of the service that was asked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceInfo {
    /// The service's name.
    pub name: String,
    /// The version its trait states.
    pub version: String,
    /// Its documentation.
    pub doc: String,
    /// The answering server's instance, in hexadecimal.
    pub server: String,
    /// The version of kRPC the server is built with.
    pub krpc: String,
    /// The partitions of the calls topic that this server owns.
    pub partitions: Vec<u32>,
    /// Handlers that run now, over all services of the server.
    pub running: usize,
    /// Calls that wait for a place.
    pub queued: usize,
    /// Calls that got a place to run since the server's start.
    pub executed: u64,
    /// Packets of replies sent since the server's start: replies under way at once share them.
    pub packets: u64,
    /// Records and frames that the server dropped since its start, by cause.
    pub dropped: Vec<(String, u64)>,
    /// The service's methods.
    pub methods: Vec<MethodInfo>,
}

/// A method, as its trait was written.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct MethodInfo {
    /// The name on the wire.
    pub name: String,
    /// Its documentation.
    pub doc: String,
    /// Names and types of its arguments.
    pub args: Vec<(String, String)>,
    /// The type of its value.
    pub output: String,
    /// The type of its own error.
    pub error: Option<String>,
    /// Its default timeout in milliseconds.
    pub timeout_ms: Option<u64>,
    /// Whether executing it twice is as good as once.
    pub idempotent: bool,
    /// The fingerprint of its signature.
    pub fingerprint: u32,
}

#[derive(Deserialize)]
struct NoArgs {}

static DESCRIPTOR: MethodDescriptor = MethodDescriptor {
    name: "$builtin",
    path: "$builtin",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: true,
    policy: &Policy::PLAIN,
    fingerprint: 0,
};

/// Answers built-in methods, refuses calls for another service, and hands on all else: the
/// service's own methods first, as nearly every call is for one of them.
pub(crate) fn dispatch(server: &Shared, index: u16, service: &dyn Service, call: Incoming) {
    if call.is_known() {
        return service.dispatch(call);
    }
    let descriptor = service.descriptor();
    let named = call.path().rsplit_once('/').map_or("", |(service, _)| service);
    if named != descriptor.name {
        let message = format!("no service {named:?} on the topics of {:?}", descriptor.name);
        return call.refuse(Status::new(Code::Unimplemented, message));
    }
    match call.method() {
        PING => {
            let me = server.me().to_string();
            call.run(&DESCRIPTOR, |_, NoArgs {}| async move { me });
        }
        INFO => {
            let info = info(server, index, descriptor);
            call.run(&DESCRIPTOR, |_, NoArgs {}| async move { info });
        }
        _ => service.dispatch(call),
    }
}

fn info(server: &Shared, index: u16, service: &ServiceDescriptor) -> ServiceInfo {
    let mut stats = server.stats();
    ServiceInfo {
        name: service.name.to_owned(),
        version: service.version.to_owned(),
        doc: service.doc.to_owned(),
        server: server.me().to_string(),
        krpc: env!("CARGO_PKG_VERSION").to_owned(),
        partitions: stats.partitions.swap_remove(usize::from(index)),
        running: stats.running,
        queued: stats.queued,
        executed: stats.counts.executed,
        packets: stats.packets,
        dropped: stats.dropped.iter().map(|(cause, n)| ((*cause).to_owned(), *n)).collect(),
        methods: service.methods.iter().map(|method| method_info(method)).collect(),
    }
}

fn method_info(method: &MethodDescriptor) -> MethodInfo {
    let arg = |arg: &super::service::ArgDescriptor| (arg.name.to_owned(), arg.ty.to_owned());
    MethodInfo {
        name: method.name.to_owned(),
        doc: method.doc.to_owned(),
        args: method.args.iter().map(arg).collect(),
        output: method.output.to_owned(),
        error: method.error.map(str::to_owned),
        timeout_ms: method.timeout.and_then(|timeout| u64::try_from(timeout.as_millis()).ok()),
        idempotent: method.idempotent,
        fingerprint: method.fingerprint,
    }
}
