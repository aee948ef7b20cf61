//! A Kafka, and the processes of one measurement on it.
//!
//! Each measurement has servers and a client of its own, so that nothing of an earlier one is left
//! in them: no memory, no connections, no backlog.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use krpc_testkit::{BROKERS_VARIABLE, KAFKA_VERSION, Kafka, Program};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::{
    cases::{AT_PEAK, Closed, Kind, WARM_UP},
    figure::Measured,
    load::Times,
    process,
    systems::{Drive, Ready, Serve, System, seal::Sealing},
};

/// How long a server may take to serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take beside what it measures.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long a broker may take to tell what it has.
const METADATA_LIMIT: Duration = Duration::from_secs(10);

/// Logs stay small: a virtual machine is handed new memory slowly, so that a page cache that grows
/// costs more than the calls. With logs that grow, calls of a mebibyte are half as fast after two
/// gigabytes.
const SMALL_LOGS: [(&str, &str); 5] = [
    ("log.segment.bytes", "33554432"),
    ("log.retention.bytes", "67108864"),
    ("log.retention.check.interval.ms", "500"),
    ("log.segment.delete.delay.ms", "500"),
    ("log.initial.task.delay.ms", "500"),
];

/// A Kafka, and what is measured on it.
#[derive(Debug)]
pub(crate) struct Bench {
    brokers: String,
    /// Copies of the topics that are created; 0 for as many as the broker likes.
    replication: u8,
    /// Unless it was there already; it ends with this.
    kafka: Option<Kafka>,
}

/// Servers of one system. Dropping them kills them.
#[derive(Debug)]
pub(crate) struct Servers {
    system: System,
    programs: Vec<Program>,
    addresses: Vec<String>,
}

impl Bench {
    /// Starts a Kafka, made for speed rather than for a fast start if `fast`. The environment may
    /// name one, which is taken for a single broker; of several, each has a copy of everything.
    pub(crate) fn start(brokers: usize, fast: bool) -> Result<Self> {
        if let Ok(named) = env::var(BROKERS_VARIABLE)
            && !named.is_empty()
            && brokers == 1
        {
            return Ok(Self { brokers: named, replication: 0, kafka: None });
        }
        let settings = SMALL_LOGS.into_iter();
        let kafka = settings.fold(Kafka::builder(), |it, (key, value)| it.setting(key, value));
        let kafka = kafka.brokers(brokers).bench(fast).start()?;
        let replication = brokers.try_into()?;
        Ok(Self { brokers: kafka.bootstrap().to_owned(), replication, kafka: Some(kafka) })
    }

    /// The Kafka, for the head of a table.
    pub(crate) fn describe(&self) -> String {
        match &self.kafka {
            Some(kafka) => format!("Apache Kafka {KAFKA_VERSION}, {} broker(s)", kafka.brokers()),
            None => format!("Kafka at {}, named by {BROKERS_VARIABLE}", self.brokers),
        }
    }

    /// Kafka's bootstrap string.
    pub(crate) fn brokers(&self) -> &str {
        &self.brokers
    }

    /// What `system`'s server is started with, unless a case says otherwise.
    pub(crate) fn server(&self, system: System) -> Serve {
        let brokers = if system.is_on_kafka() { self.brokers.clone() } else { String::new() };
        let (replication, sealing) = (self.replication, Sealing::None);
        Serve { system, brokers, index: 0, delay_us: 0, concurrency: 16_384, replication, sealing }
    }

    /// A fresh JVM is several times slower than a warm one.
    pub(crate) fn warm_up(&self, systems: &[System], times: Times) -> Result<()> {
        for case in WARM_UP {
            let Kind::Closed(closed) = case.kind else { continue };
            for &system in systems.iter().filter(|system| system.is_on_kafka()) {
                let measured = self.measure(system, closed, times)?;
                let rate = measured.calls_per_s;
                eprintln!("warm-up: {:<13} {system:<6} {rate:>9.0} calls/s", case.name);
            }
        }
        self.check_copies()
    }

    /// The closed loop of one system, with servers and a client of its own.
    pub(crate) fn measure(&self, system: System, case: Closed, times: Times) -> Result<Measured> {
        let servers = Servers::start(&self.server(system), case.servers)?;
        let measured = servers.drive(&Drive { load: case.load, times, ..servers.client() })?;
        servers.end()?;
        Ok(measured)
    }

    /// Whether each topic has as many copies as were asked for.
    fn check_copies(&self) -> Result<()> {
        if self.replication == 0 {
            return Ok(());
        }
        let mut config = ClientConfig::new();
        let wanted = usize::from(self.replication);
        let consumer: BaseConsumer = config.set("bootstrap.servers", &self.brokers).create()?;
        let metadata = consumer.fetch_metadata(None, METADATA_LIMIT)?;
        for topic in metadata.topics() {
            for partition in topic.partitions() {
                let copies = partition.replicas().len();
                ensure!(copies == wanted, "{} has {copies} copies", topic.name());
            }
        }
        Ok(())
    }
}

impl Servers {
    /// None yet.
    pub(crate) const fn none(system: System) -> Self {
        Self { system, programs: Vec::new(), addresses: Vec::new() }
    }

    /// Starts `count` servers alike, and returns when all of them serve.
    pub(crate) fn start(serve: &Serve, count: usize) -> Result<Self> {
        let mut servers = Self::none(serve.system);
        (0..count).try_for_each(|index| servers.add(&Serve { index, ..serve.clone() }))?;
        Ok(servers)
    }

    /// Starts one more.
    pub(crate) fn add(&mut self, serve: &Serve) -> Result<()> {
        let program = process::spawn(&serve.args())?;
        let ready: Ready = process::answer(&program, "ready", START_LIMIT)?;
        if !self.addresses.contains(&ready.address) {
            self.addresses.push(ready.address);
        }
        self.programs.push(program);
        Ok(())
    }

    /// What a client of them is started with, unless a case says otherwise.
    pub(crate) fn client(&self) -> Drive {
        Drive {
            system: self.system,
            at: self.addresses.clone(),
            servers: self.pids(),
            load: AT_PEAK.load,
            times: Times { warm_ms: 0, measure_ms: 0 },
            rate: 0,
            once: false,
            sealing: Sealing::None,
        }
    }

    /// Runs a client against them.
    pub(crate) fn drive(&self, drive: &Drive) -> Result<Measured> {
        let client = process::spawn(&drive.args())?;
        let times = drive.times;
        let limit = CALL_LIMIT + Duration::from_millis(times.warm_ms + times.measure_ms);
        process::answer(&client, "measured", limit)
    }

    /// Their processes.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.programs.iter().map(Program::pid).collect()
    }

    /// Ends them in good order, as far as their system has one.
    pub(crate) fn end(self) -> Result<()> {
        self.programs.iter().try_for_each(Program::terminate)?;
        for program in &self.programs {
            let ended = program.wait(END_LIMIT).context("a server did not end")?;
            // The others end by the signal itself.
            let krpc = matches!(self.system, System::Krpc | System::KrpcOnce);
            if krpc && !ended.success() {
                eprintln!("a server ended with {ended}: {}", program.lines().join("\n"));
            }
        }
        Ok(())
    }
}
