//! A Kafka, and the processes of one measurement on it.
//!
//! Each measurement has servers and a client of its own, so that nothing of an earlier one is left
//! in them: no memory, no connections, no backlog.

use std::{env, time::Duration};

use anyhow::{Context, Result, ensure};
use krpc_testkit::{BROKERS_VARIABLE, KAFKA_VERSION, Kafka, Program};

use crate::{
    cases::{Case, WARM_UP},
    figure::Measured,
    load::{Load, Times},
    process,
    systems::{Drive, Ready, Serve, System},
};

/// How long a server may take to serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(10);

/// How long a client may take beside what it measures.
const CALL_LIMIT: Duration = Duration::from_secs(60);

/// How long each case of the warm-up runs, and how long if quick.
const WARM_UP_TIMES: [Times; 2] =
    [Times { warm_ms: 0, measure_ms: 3_000 }, Times { warm_ms: 0, measure_ms: 2_000 }];

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
    /// Starts a Kafka, made for speed rather than for a fast start if `fast`, unless the
    /// environment names one.
    pub(crate) fn start(fast: bool) -> Result<Self> {
        if let Ok(brokers) = env::var(BROKERS_VARIABLE)
            && !brokers.is_empty()
        {
            return Ok(Self { brokers, kafka: None });
        }
        let settings = SMALL_LOGS.into_iter();
        let kafka = settings.fold(Kafka::builder(), |it, (key, value)| it.setting(key, value));
        let kafka = kafka.bench(fast).start()?;
        Ok(Self { brokers: kafka.bootstrap().to_owned(), kafka: Some(kafka) })
    }

    /// The Kafka, for the head of a table.
    pub(crate) fn describe(&self) -> String {
        match &self.kafka {
            Some(kafka) => format!("Apache Kafka {KAFKA_VERSION}, {} broker(s)", kafka.brokers()),
            None => format!("Kafka at {}, named by {BROKERS_VARIABLE}", self.brokers),
        }
    }

    /// What `system`'s server is started with, unless a case says otherwise.
    pub(crate) fn server(&self, system: System) -> Serve {
        let brokers = if system.is_on_kafka() { self.brokers.clone() } else { String::new() };
        Serve { system, brokers, index: 0, delay_us: 0, concurrency: 16_384 }
    }

    /// A fresh JVM is several times slower than a warm one.
    pub(crate) fn warm_up(&self, systems: &[System], quick: bool) -> Result<()> {
        let times = WARM_UP_TIMES[usize::from(quick)];
        for case in WARM_UP {
            for &system in systems.iter().filter(|system| system.is_on_kafka()) {
                let measured = self.measure(system, case, times)?;
                let rate = measured.calls_per_s;
                eprintln!("warm-up: {:<13} {system:<6} {rate:>9.0} calls/s", case.name);
            }
        }
        Ok(())
    }

    /// One case of one system, with servers and a client of its own.
    pub(crate) fn measure(&self, system: System, case: &Case, times: Times) -> Result<Measured> {
        let told = || format!("{system}, case {}", case.name);
        let servers = Servers::start(&self.server(system), case.servers).with_context(told)?;
        let measured = servers.drive(case.load, times).with_context(told)?;
        servers.end().with_context(told)?;
        Ok(measured)
    }
}

impl Servers {
    /// Starts `count` servers alike, and returns when all of them serve.
    pub(crate) fn start(serve: &Serve, count: usize) -> Result<Self> {
        let system = serve.system;
        let mut servers = Self { system, programs: Vec::new(), addresses: Vec::new() };
        (0..count).try_for_each(|index| servers.add(&Serve { index, ..serve.clone() }))?;
        Ok(servers)
    }

    /// Starts one more.
    pub(crate) fn add(&mut self, serve: &Serve) -> Result<()> {
        let program = process::spawn(&serve.args())?;
        let line = program.wait_for(|line| line.starts_with("ready "), START_LIMIT)?;
        let ready: Ready = serde_json::from_str(&line["ready ".len()..])?;
        if !self.addresses.contains(&ready.address) {
            self.addresses.push(ready.address);
        }
        self.programs.push(program);
        Ok(())
    }

    /// Runs a client against them.
    pub(crate) fn drive(&self, load: Load, times: Times) -> Result<Measured> {
        let drive = Drive {
            system: self.system,
            at: self.addresses.clone(),
            servers: self.programs.iter().map(Program::pid).collect(),
            load,
            times,
        };
        let client = process::spawn(&drive.args())?;
        let limit = CALL_LIMIT + Duration::from_millis(times.warm_ms + times.measure_ms);
        let line = client.wait_for(|line| line.starts_with("measured "), limit)?;
        Ok(serde_json::from_str(&line["measured ".len()..])?)
    }

    /// Ends them in good order, as far as their system has one.
    pub(crate) fn end(self) -> Result<()> {
        self.programs.iter().try_for_each(Program::terminate)?;
        for program in &self.programs {
            ensure!(program.wait(END_LIMIT).is_some(), "a server did not end");
        }
        Ok(())
    }
}
