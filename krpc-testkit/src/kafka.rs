//! A cluster of brokers as one handle.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
#[cfg(feature = "secure")]
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::During;
use crate::guard::Guard;
use crate::install::{self, Installed};
use crate::node::Node;
#[cfg(feature = "secure")]
use crate::secure::Secure;
use crate::settings::{self, Jvm, Layout};
use crate::{BROKERS_VARIABLE, Error, ports, probe};

/// The heap of a broker for tests.
pub(crate) const DEFAULT_HEAP: &str = "400m";

/// The heap of a broker for benches.
const BENCH_HEAP: &str = "1g";

/// How long one broker may take to be ready, and each further one more.
const READY_LIMIT: Duration = Duration::from_secs(60);

/// How often a cluster is tried again when another process was faster to take a port.
const PORT_ATTEMPTS: usize = 5;

/// How long a broker that is there already may take to answer.
const EXTERNAL_LIMIT: Duration = Duration::from_secs(5);

static SHARED: OnceLock<Result<Kafka, String>> = OnceLock::new();

/// A running Apache Kafka. Dropping it ends its brokers and removes their data.
///
/// Dropped by a panic, it prints the end of each broker's log to stderr, and keeps the whole logs
/// in `krpc-kafka/failed` of the cargo target folder.
#[derive(Debug)]
pub struct Kafka {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Started here. The brokers are dropped, and so ended, before their folder is removed.
    Own {
        nodes: Vec<Node>,
        bootstrap: String,
        #[cfg(feature = "secure")]
        secure: Option<Box<Secure>>,
        _folder: TempDir,
    },
    /// Started by somebody else.
    External { bootstrap: String, brokers: usize },
}

impl Kafka {
    /// Starts one broker, which is its own controller.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// Starts a cluster of `brokers`. From three on, internal topics and the default for new
    /// topics have three copies with two in sync, and any one broker may be lost; with fewer,
    /// broker 0 is the only controller.
    ///
    /// # Errors
    /// As [`Builder::start`].
    pub fn cluster(brokers: usize) -> Result<Self, Error> {
        Self::builder().brokers(brokers).start()
    }

    /// Chooses what is started.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The one broker that all tests of this process share, started at the first call. The
    /// variable `KRPC_TEST_BROKERS` (a bootstrap string) names one that is there already.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when the named broker does not answer within 5 s, else as
    /// [`Builder::start`]. A failure is remembered: further calls give [`Error::Shared`] at once.
    pub fn shared() -> Result<&'static Self, Error> {
        let mut failure = None;
        let shared = SHARED.get_or_init(|| {
            let named = env::var(BROKERS_VARIABLE).ok().filter(|named| !named.is_empty());
            let kafka = named.map_or_else(Self::start, |named| Self::external(&named));
            kafka.map_err(|error| {
                let text = error.to_string();
                failure = Some(error);
                text
            })
        });
        match (shared, failure) {
            (Ok(kafka), _) => Ok(kafka),
            (Err(_), Some(first)) => Err(first),
            (Err(text), None) => Err(Error::Shared(text.clone())),
        }
    }

    fn external(bootstrap: &str) -> Result<Self, Error> {
        let first = bootstrap.split(',').next().unwrap_or_default().trim();
        let members = probe::members(first, EXTERNAL_LIMIT)
            .map_err(|source| Error::Unreachable { address: bootstrap.to_owned(), source })?;
        let brokers = members.brokers.len();
        Ok(Self { kind: Kind::External { bootstrap: bootstrap.to_owned(), brokers } })
    }

    /// What clients connect to: `127.0.0.1:p1,127.0.0.1:p2`. It stays the same over restarts.
    #[must_use]
    pub fn bootstrap(&self) -> &str {
        match &self.kind {
            Kind::Own { bootstrap, .. } | Kind::External { bootstrap, .. } => bootstrap,
        }
    }

    /// How many brokers there are, running or not. They are numbered from 0, and so are Kafka's
    /// own node ids.
    #[must_use]
    pub fn brokers(&self) -> usize {
        match &self.kind {
            Kind::Own { nodes, .. } => nodes.len(),
            Kind::External { brokers, .. } => *brokers,
        }
    }

    /// Whether it was started by somebody else, so that brokers cannot be stopped or paused.
    #[must_use]
    pub fn is_external(&self) -> bool {
        matches!(self.kind, Kind::External { .. })
    }

    /// Ends a broker with SIGTERM and waits for its end; after 20 s, with SIGKILL. A broker that
    /// does not run stays so.
    ///
    /// # Errors
    /// [`Error::External`], [`Error::NoSuchBroker`], [`Error::Io`].
    pub fn stop(&self, broker: usize) -> Result<(), Error> {
        self.node(broker)?.stop()
    }

    /// Ends a broker with SIGKILL, paused or not. A broker that does not run stays so.
    ///
    /// # Errors
    /// [`Error::External`], [`Error::NoSuchBroker`], [`Error::Io`].
    pub fn kill(&self, broker: usize) -> Result<(), Error> {
        self.node(broker)?.kill()
    }

    /// Starts a broker again on its ports and its data, after stopping it if it runs. Waits until
    /// it answers and counts itself among the live brokers; its partitions' copies may still be
    /// catching up then.
    ///
    /// # Errors
    /// [`Error::External`], [`Error::NoSuchBroker`], [`Error::Ended`] and [`Error::NotReady`] with
    /// the end of its log, [`Error::Io`].
    pub fn restart(&self, broker: usize) -> Result<(), Error> {
        let node = self.node(broker)?;
        node.stop()?;
        node.launch()?;
        node.wait_ready(READY_LIMIT, |members| node.is_among(members))
    }

    /// Halts a broker with SIGSTOP: its connections stay open and nothing answers.
    ///
    /// # Errors
    /// [`Error::External`], [`Error::NoSuchBroker`], [`Error::NotRunning`], [`Error::Io`].
    pub fn pause(&self, broker: usize) -> Result<(), Error> {
        self.node(broker)?.send(Signal::STOP)
    }

    /// Lets a paused broker go on.
    ///
    /// # Errors
    /// [`Error::External`], [`Error::NoSuchBroker`], [`Error::NotRunning`], [`Error::Io`].
    pub fn resume(&self, broker: usize) -> Result<(), Error> {
        self.node(broker)?.send(Signal::CONT)
    }

    /// The last 16 KiB of what a broker printed; empty for an external one or an unknown number.
    #[must_use]
    pub fn logs(&self, broker: usize) -> String {
        self.node(broker).map(Node::log_tail).unwrap_or_default()
    }

    /// The locks of a cluster that is closed to strangers.
    #[cfg(feature = "secure")]
    pub(crate) fn secure(&self) -> Result<&Secure, Error> {
        match &self.kind {
            Kind::Own { secure: Some(secure), .. } => Ok(secure),
            _ => Err(Error::Invalid("it was not started with `secure`".to_owned())),
        }
    }

    fn node(&self, broker: usize) -> Result<&Node, Error> {
        match &self.kind {
            Kind::External { .. } => Err(Error::External),
            Kind::Own { nodes, .. } => {
                nodes.get(broker).ok_or(Error::NoSuchBroker { broker, brokers: nodes.len() })
            }
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        if let Kind::Own { nodes, .. } = &self.kind
            && thread::panicking()
        {
            show_logs(nodes);
        }
    }
}

/// Prints the ends of the logs and keeps them whole; a later failure of the same test replaces
/// them.
fn show_logs(nodes: &[Node]) {
    let kept = install::cache().join("failed");
    // A log that cannot be kept was at least printed.
    let _ = fs::create_dir_all(&kept);
    let test = thread::current().name().unwrap_or("test").replace(['/', ':'], "-");
    for (broker, node) in nodes.iter().enumerate() {
        let copy = kept.join(format!("{test}-broker-{broker}.log"));
        let _ = fs::copy(node.log_path(), &copy);
        eprintln!("--- broker {broker}, whole log in {} ---\n{}", copy.display(), node.log_tail());
    }
}

/// What kind of Kafka to start: by default one broker, made for a fast start.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    brokers: usize,
    chosen: BTreeMap<String, String>,
    heap: Option<String>,
    bench: bool,
    #[cfg(feature = "secure")]
    users: Option<Vec<(String, String)>>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            brokers: 1,
            chosen: BTreeMap::new(),
            heap: None,
            bench: false,
            #[cfg(feature = "secure")]
            users: None,
        }
    }
}

impl Builder {
    /// How many brokers; 1 by default. The first is a controller too; from three brokers on, the
    /// first three are.
    pub fn brokers(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// One line of `server.properties` for every broker; it wins over the kit's own choice.
    /// Settings that the kit must compute (ports, node ids, folders) are refused by
    /// [`start`](Self::start).
    pub fn setting(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.chosen.insert(key.into(), value.into());
        self
    }

    /// The largest heap of each broker, as Java writes it; `400m` by default, `1g` for benches.
    pub fn heap(mut self, heap: impl Into<String>) -> Self {
        self.heap = Some(heap.into());
        self
    }

    /// Whether the JVM is built for speed (G1, all compilers, a heap of 1 GiB) rather than for a
    /// fast start; `false` by default.
    pub fn bench(mut self, bench: bool) -> Self {
        self.bench = bench;
        self
    }

    /// Closes the brokers to strangers: each gets every [`Door`](crate::Door), and nobody may
    /// anything that no rule allows. The users are there with their passwords, of letters, digits
    /// and `-`.
    #[cfg(feature = "secure")]
    pub fn secure(mut self, users: &[(&str, &str)]) -> Self {
        let users = users.iter().map(|(name, password)| ((*name).into(), (*password).into()));
        self.users = Some(users.collect());
        self
    }

    /// Starts the brokers and waits until each of them sees all of them. The first start on a
    /// machine fetches Kafka, which takes about half a minute.
    ///
    /// # Errors
    /// [`Error::Missing`] without Java or Maven, [`Error::Prepare`] when Kafka cannot be fetched,
    /// [`Error::Ended`] and [`Error::NotReady`] (60 s, 20 s more for each further broker) with the
    /// end of the broker's log, [`Error::Invalid`] for zero brokers or a setting that is not free,
    /// [`Error::Io`].
    pub fn start(&self) -> Result<Kafka, Error> {
        if self.brokers == 0 {
            return Err(Error::Invalid("a cluster needs at least one broker".to_owned()));
        }
        self.chosen.keys().try_for_each(|key| settings::check(key))?;
        let installed = Installed::get()?;
        let mut attempt = 1;
        loop {
            match self.try_start(&installed) {
                Err(error) if error.is_port_clash() && attempt < PORT_ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn try_start(&self, installed: &Installed) -> Result<Kafka, Error> {
        let folder = TempDir::new_in(Guard::get()?.folder())
            .during(|| "could not make a temporary folder".into())?;
        #[cfg_attr(not(feature = "secure"), expect(unused_mut, reason = "only locks change it"))]
        let mut layout = Layout {
            cluster: cluster_id(),
            ports: free_ports(self.brokers)?,
            controller_ports: free_ports(settings::controllers(self.brokers))?,
            doors: Vec::new(),
            chosen: self.chosen.clone(),
        };
        #[cfg(feature = "secure")]
        let (secure, installed) = self.lock(&mut layout, installed, folder.path())?;
        #[cfg(feature = "secure")]
        let installed = &installed;
        let default_heap = if self.bench { BENCH_HEAP } else { DEFAULT_HEAP };
        let jvm = Jvm {
            heap: self.heap.clone().unwrap_or_else(|| default_heap.to_owned()),
            fast: self.bench,
            archive: installed.archive.clone(),
        };
        let nodes = (0..self.brokers)
            .map(|index| Node::prepare(installed, &jvm, &layout, index, folder.path()))
            .collect::<Result<Vec<Node>, Error>>()?;
        nodes.iter().try_for_each(Node::launch)?;
        let limit = (1..self.brokers).fold(READY_LIMIT, |limit, _| limit + READY_LIMIT / 3);
        for node in &nodes {
            node.wait_ready(limit, |members| nodes.iter().all(|node| node.is_among(members)))?;
        }
        let addresses: Vec<&str> = nodes.iter().map(Node::address).collect();
        let bootstrap = addresses.join(",");
        let kind = Kind::Own {
            nodes,
            bootstrap,
            #[cfg(feature = "secure")]
            secure,
            _folder: folder,
        };
        Ok(Kafka { kind })
    }
}

#[cfg(feature = "secure")]
impl Builder {
    /// Locks the brokers, if that is asked for; the users are in the checkpoint then.
    fn lock(
        &self,
        layout: &mut Layout,
        installed: &Installed,
        folder: &Path,
    ) -> Result<(Option<Box<Secure>>, Installed), Error> {
        let mut installed = installed.clone();
        let Some(users) = &self.users else { return Ok((None, installed)) };
        let secure = Secure::prepare(users, folder, self.brokers)?;
        secure.lock(layout);
        installed.checkpoint = installed.format(folder, &secure.scram())?;
        Ok((Some(Box::new(secure)), installed))
    }
}

fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    (0..count).map(|_| ports::free_port()).collect()
}

/// A random id in the form that Kafka's tools give one: 22 characters, the base64 of 16 bytes.
pub(crate) fn cluster_id() -> String {
    let random = RandomState::new();
    format!("{:016x}{:05x}A", random.hash_one(0), random.hash_one(1) & 0xf_ffff)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Without its checkpoint a broker starts too, but refuses every KIP-848 group.
    #[test]
    fn settings_arrive_and_the_new_group_protocol_is_on() {
        let kafka = Kafka::builder().setting("message.max.bytes", "12345").start().unwrap();
        let Kind::Own { nodes, .. } = &kafka.kind else { panic!("it was started here") };
        let log = fs::read_to_string(nodes[0].log_path()).unwrap();
        assert!(log.contains("group.version=1"), "{log}");
        let settings = nodes[0].log_path().with_file_name("server.properties");
        assert!(fs::read_to_string(settings).unwrap().contains("message.max.bytes=12345\n"));
    }

    #[test]
    fn what_cannot_be_started_is_refused_at_once() {
        let computed = Kafka::builder().setting("listeners", "x").start();
        assert!(matches!(computed, Err(Error::Invalid(_))));
        assert!(matches!(Kafka::cluster(0), Err(Error::Invalid(_))));
    }

    #[test]
    fn cluster_ids_have_the_usual_form() {
        assert_eq!(cluster_id().len(), 22);
        assert_ne!(cluster_id(), cluster_id());
    }

    #[test]
    fn an_external_broker_must_answer() {
        let port = ports::free_port().unwrap();
        let error = Kafka::external(&format!("127.0.0.1:{port},127.0.0.1:1")).unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        let own = Kafka::start().unwrap();
        let external = Kafka::external(own.bootstrap()).unwrap();
        assert_eq!((external.brokers(), external.is_external()), (1, true));
        assert!(matches!(external.kill(0), Err(Error::External)));
    }
}
