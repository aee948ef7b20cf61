//! The settings of a broker and the options of its JVM.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use crate::Error;

/// Settings that the kit itself computes; a test cannot choose them.
const RESERVED: &[&str] = &[
    "advertised.listeners",
    "controller.quorum.voters",
    "listeners",
    "log.dirs",
    "metadata.log.dir",
    "node.id",
    "process.roles",
];

/// Small and fast rather than durable: the data lives as long as the test.
const BASE: &[(&str, &str)] = &[
    ("auto.create.topics.enable", "false"),
    ("background.threads", "2"),
    // A lost broker is noticed in two seconds, not nine; until then, one that was killed cannot
    // come back.
    ("broker.heartbeat.interval.ms", "200"),
    ("broker.session.timeout.ms", "2000"),
    ("controller.listener.names", "CONTROLLER"),
    ("group.consumer.heartbeat.interval.ms", "500"),
    ("group.consumer.min.heartbeat.interval.ms", "100"),
    ("group.consumer.min.session.timeout.ms", "1000"),
    ("group.consumer.session.timeout.ms", "3000"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    ("group.share.heartbeat.interval.ms", "500"),
    ("group.share.min.heartbeat.interval.ms", "100"),
    ("group.share.min.session.timeout.ms", "1000"),
    ("group.share.session.timeout.ms", "3000"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"),
    // The default allocates 128 MiB at the start.
    ("log.cleaner.dedupe.buffer.size", "2097152"),
    ("num.io.threads", "4"),
    ("num.network.threads", "2"),
    ("offsets.topic.num.partitions", "1"),
    ("share.coordinator.state.topic.num.partitions", "1"),
    ("transaction.state.log.num.partitions", "1"),
];

/// A cluster notices a lost controller in about a second.
const CLUSTER: &[(&str, &str)] = &[
    ("controller.quorum.election.timeout.ms", "500"),
    ("controller.quorum.fetch.timeout.ms", "1000"),
    ("controller.quorum.request.timeout.ms", "1000"),
];

/// What a cluster's brokers share.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The cluster's id.
    pub(crate) cluster: String,
    /// Where clients connect, one port per broker.
    pub(crate) ports: Vec<u16>,
    /// Where controllers connect, one port per controller: the first brokers are also controllers.
    pub(crate) controller_ports: Vec<u16>,
    /// Further listeners of each broker, as `listeners` takes them behind the kit's own.
    pub(crate) doors: Vec<String>,
    /// Settings that win over the kit's own.
    pub(crate) chosen: BTreeMap<String, String>,
}

/// How many of `brokers` are controllers too. Two would be no better than one: both are needed
/// for a majority.
pub(crate) fn controllers(brokers: usize) -> usize {
    if brokers < 3 { 1 } else { 3 }
}

/// Refuses a setting that the kit computes itself.
pub(crate) fn check(key: &str) -> Result<(), Error> {
    if RESERVED.contains(&key) {
        return Err(Error::Invalid(format!("`{key}` is computed by the testkit")));
    }
    Ok(())
}

impl Layout {
    /// The text of `server.properties` for one broker whose data lives in `data`.
    pub(crate) fn properties(&self, node: usize, data: &Path) -> String {
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |key: &str, value: String| settings.insert(key.to_owned(), value);
        let brokers = self.ports.len();
        for (key, value) in BASE {
            set(key, (*value).to_owned());
        }
        if brokers > 1 {
            for (key, value) in CLUSTER {
                set(key, (*value).to_owned());
            }
        }
        let copies = brokers.min(3);
        let in_sync = copies.div_ceil(2);
        set("default.replication.factor", copies.to_string());
        set("min.insync.replicas", in_sync.to_string());
        set("offsets.topic.replication.factor", copies.to_string());
        for topic in ["transaction.state.log", "share.coordinator.state.topic"] {
            set(&format!("{topic}.replication.factor"), copies.to_string());
            set(&format!("{topic}.min.isr"), in_sync.to_string());
        }
        let client = format!("PLAINTEXT://127.0.0.1:{}", self.ports[node]);
        let client = client + self.doors.get(node).map_or("", String::as_str);
        let controller = self.controller_ports.get(node);
        set("process.roles", controller.map_or("broker", |_| "broker,controller").to_owned());
        set("advertised.listeners", client.clone());
        let controller =
            controller.map(|port| format!(",CONTROLLER://127.0.0.1:{port}")).unwrap_or_default();
        set("listeners", client + &controller);
        set("controller.quorum.voters", self.voters());
        set("node.id", node.to_string());
        set("log.dirs", data.display().to_string());
        for (key, value) in &self.chosen {
            set(key, value.clone());
        }
        settings.iter().fold(String::new(), |mut text, (key, value)| {
            escape(key, &mut text);
            text.push('=');
            escape(value, &mut text);
            text.push('\n');
            text
        })
    }

    fn voters(&self) -> String {
        let voters = self.controller_ports.iter().enumerate();
        let voters: Vec<String> =
            voters.map(|(node, port)| format!("{node}@127.0.0.1:{port}")).collect();
        voters.join(",")
    }
}

/// Writes a key or value so that Java's `Properties.load` reads the same text again.
fn escape(text: &str, into: &mut String) {
    for unit in text.encode_utf16() {
        match u8::try_from(unit).map(char::from) {
            Ok(plain) if plain.is_ascii_alphanumeric() || "._-,/@".contains(plain) => {
                into.push(plain);
            }
            _ => write!(into, "\\u{unit:04x}").expect("writing to a string cannot fail"),
        }
    }
}

/// What the JVM does about its archive of loaded classes, which halves Kafka's start.
#[derive(Debug, Clone)]
pub(crate) enum Archive {
    /// None at all.
    Without,
    /// Read it; the JVM goes on without it where it does not fit.
    Read(PathBuf),
    /// Write it when the JVM ends.
    Write(PathBuf),
}

/// How the JVM is started.
#[derive(Debug, Clone)]
pub(crate) struct Jvm {
    /// The largest heap, as `-Xmx` takes it.
    pub(crate) heap: String,
    /// Whether it is built for speed (G1, C2) or for a fast start (serial collector, C1).
    pub(crate) fast: bool,
    /// The archive of classes.
    pub(crate) archive: Archive,
}

impl Jvm {
    /// The options for a JVM whose temporary files belong in `folder`.
    pub(crate) fn options(&self, folder: &Path) -> Vec<String> {
        let mut options = vec![
            format!("-Xmx{}", self.heap),
            format!("-Djava.io.tmpdir={}", folder.display()),
            "-Djava.awt.headless=true".to_owned(),
            // Its file in the system's temporary folder would survive a kill.
            "-XX:-UsePerfData".to_owned(),
            "-XX:+ExitOnOutOfMemoryError".to_owned(),
            "-Dorg.slf4j.simpleLogger.showDateTime=true".to_owned(),
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS".to_owned(),
            "-Dorg.slf4j.simpleLogger.showShortLogName=true".to_owned(),
            // It prints every setting, three times.
            "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config=warn".to_owned(),
            "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaConfig=warn".to_owned(),
        ];
        if self.fast {
            options.push(format!("-Xms{}", self.heap));
            options.push("-XX:+UseG1GC".to_owned());
            // As in Kafka's own start script.
            options.push("-XX:MaxGCPauseMillis=20".to_owned());
            options.push("-XX:InitiatingHeapOccupancyPercent=35".to_owned());
        } else {
            options.push("-XX:+UseSerialGC".to_owned());
            options.push("-XX:TieredStopAtLevel=1".to_owned());
        }
        match &self.archive {
            Archive::Without => {}
            Archive::Read(path) => {
                options.push(format!("-XX:SharedArchiveFile={}", path.display()));
                options.push("-Xshare:auto".to_owned());
            }
            Archive::Write(path) => {
                options.push(format!("-XX:ArchiveClassesAtExit={}", path.display()));
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(brokers: u16) -> Layout {
        let controllers = u16::try_from(controllers(brokers.into())).unwrap_or_default();
        Layout {
            cluster: "c".to_owned(),
            ports: (0..brokers).map(|node| 10_000 + node).collect(),
            controller_ports: (0..controllers).map(|node| 20_000 + node).collect(),
            doors: Vec::new(),
            chosen: BTreeMap::new(),
        }
    }

    fn has(text: &str, line: &str) -> bool {
        text.lines().any(|found| found == line)
    }

    #[test]
    fn one_broker_keeps_one_copy() {
        let text = layout(1).properties(0, Path::new("/d"));
        assert!(has(&text, "process.roles=broker,controller"), "{text}");
        assert!(has(&text, "offsets.topic.replication.factor=1"));
        assert!(has(&text, "min.insync.replicas=1"));
        assert!(!text.contains("controller.quorum.fetch.timeout.ms"));
    }

    #[test]
    fn the_fourth_broker_of_a_cluster_is_no_controller() {
        let text = layout(4).properties(3, Path::new("/d"));
        assert!(has(&text, "process.roles=broker"), "{text}");
        assert!(has(&text, "listeners=PLAINTEXT\\u003a//127.0.0.1\\u003a10003"), "{text}");
        assert!(has(&text, "transaction.state.log.replication.factor=3"));
        assert!(has(&text, "transaction.state.log.min.isr=2"));
        assert!(has(&text, "controller.quorum.fetch.timeout.ms=1000"));
    }

    #[test]
    fn a_chosen_setting_wins_and_is_escaped() {
        let mut layout = layout(1);
        layout.chosen.insert("num.io.threads".to_owned(), "7\n=é".to_owned());
        let text = layout.properties(0, Path::new("/d"));
        assert!(has(&text, "num.io.threads=7\\u000a\\u003d\\u00e9"), "{text}");
    }

    #[test]
    fn computed_settings_are_refused() {
        assert!(matches!(check("node.id"), Err(Error::Invalid(_))));
        assert!(check("num.io.threads").is_ok());
    }
}
