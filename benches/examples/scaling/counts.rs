//! librdkafka's counts, which reach `tracing` as statistics, and what this process uses.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::{self, Debug},
    fs,
    ops::Sub,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// How often librdkafka tells its counts, in milliseconds.
pub(crate) const STATISTICS: &str = "250";

/// How long it may take until each handle has told its counts again.
const TOLD_LIMIT: Duration = Duration::from_secs(30);

/// Kinds that librdkafka counts only together, such as heartbeats of KIP-848's protocol.
const OTHERS: &str = "others";

/// The newest statistics of each handle of librdkafka, by its name.
static TOLD: LazyLock<Mutex<HashMap<String, (Instant, String)>>> = LazyLock::new(Mutex::default);

fn told() -> MutexGuard<'static, HashMap<String, (Instant, String)>> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the statistics among all events.
#[derive(Debug)]
pub(crate) struct Statistics;

impl<S: Subscriber> Layer<S> for Statistics {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut message = Message(None);
        event.record(&mut message);
        let Some(text) = message.0 else { return };
        let name = text.strip_prefix("{ \"name\": \"").and_then(|rest| rest.split_once('"'));
        if let Some((name, _)) = name {
            let name = name.to_owned();
            told().insert(name, (Instant::now(), text));
        }
    }
}

struct Message(Option<String>);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// What the handles of one side sent and received since their start.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Requests by kind; those that librdkafka does not count by kind are under [`OTHERS`].
    pub(crate) requests: BTreeMap<String, i64>,
    /// Bytes of all requests and of all responses.
    pub(crate) sent_bytes: i64,
    pub(crate) received_bytes: i64,
    /// Records, and bytes of them.
    pub(crate) produced: i64,
    pub(crate) produced_bytes: i64,
    pub(crate) consumed: i64,
    pub(crate) consumed_bytes: i64,
    /// Requests that were sent again, such as those that met a topic too new for the broker.
    pub(crate) retries: i64,
    /// Rebalances, over all members of groups.
    pub(crate) rebalances: i64,
}

impl Counts {
    /// Of all handles whose name begins with `side`, from now on.
    pub(crate) async fn of(side: &str) -> Result<Self> {
        let asked = Instant::now();
        loop {
            sleep(Duration::from_millis(100)).await;
            let told = told();
            let mut texts = told.iter().filter(|(name, _)| name.starts_with(side));
            if texts.clone().all(|(_, (at, _))| *at > asked) {
                return texts.try_fold(Self::default(), |sum, (_, (_, text))| sum.plus(text));
            }
            drop(texts);
            drop(told);
            ensure!(asked.elapsed() < TOLD_LIMIT, "handles of {side} no longer tell their counts");
        }
    }

    /// Forgets handles that were closed, before they are missed.
    pub(crate) fn forget(side: &str) {
        told().retain(|name, _| !name.starts_with(side));
    }

    /// Requests of a kind.
    pub(crate) fn of_kind(&self, kind: &str) -> i64 {
        self.requests.get(kind).copied().unwrap_or_default()
    }

    fn plus(mut self, text: &str) -> Result<Self> {
        let all: Value = serde_json::from_str(text)?;
        let number = |value: &Value, name: &str| value[name].as_i64().unwrap_or_default();
        self.sent_bytes += number(&all, "tx_bytes");
        self.received_bytes += number(&all, "rx_bytes");
        self.produced += number(&all, "txmsgs");
        self.produced_bytes += number(&all, "txmsg_bytes");
        self.consumed += number(&all, "rxmsgs");
        self.consumed_bytes += number(&all, "rxmsg_bytes");
        self.rebalances += number(&all["cgrp"], "rebalance_cnt");
        let brokers = all["brokers"].as_object().context("statistics without brokers")?;
        for broker in brokers.values() {
            let mut others = number(broker, "tx");
            for (kind, count) in broker["req"].as_object().into_iter().flatten() {
                let count = count.as_i64().unwrap_or_default();
                others -= count;
                *self.requests.entry(kind.clone()).or_default() += count;
            }
            self.retries += number(broker, "txretries");
            *self.requests.entry(OTHERS.to_owned()).or_default() += others;
        }
        Ok(self)
    }
}

impl Sub<&Self> for Counts {
    type Output = Self;

    fn sub(mut self, before: &Self) -> Self {
        for (kind, count) in &before.requests {
            *self.requests.entry(kind.clone()).or_default() -= count;
        }
        self.sent_bytes -= before.sent_bytes;
        self.received_bytes -= before.received_bytes;
        self.produced -= before.produced;
        self.produced_bytes -= before.produced_bytes;
        self.consumed -= before.consumed;
        self.consumed_bytes -= before.consumed_bytes;
        self.retries -= before.retries;
        self.rebalances -= before.rebalances;
        self
    }
}

/// The counts divided, for a table.
pub(crate) fn shares(counts: &Counts, by: f64) -> String {
    let share = |count: i64| count as f64 / by;
    let kinds = counts.requests.iter().filter(|(_, count)| **count > 0);
    let kinds: Vec<_> = kinds.map(|(kind, count)| format!("{kind} {:.2}", share(*count))).collect();
    format!(
        "{}; sent {:.0} B, received {:.0} B, records out {:.2}, in {:.2}, \
         retries {:.2}, rebalances {:.2}",
        kinds.join(", "),
        share(counts.sent_bytes),
        share(counts.received_bytes),
        share(counts.produced),
        share(counts.consumed),
        share(counts.retries),
        share(counts.rebalances),
    )
}

/// What this process uses, as Linux tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    threads: usize,
    sockets: usize,
    resident_kib: i64,
}

impl Usage {
    pub(crate) fn now() -> Result<Self> {
        let files =
            fs::read_dir("/proc/self/fd")?.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let sockets = files.filter(|file| file.to_string_lossy().starts_with("socket:")).count();
        let status = fs::read_to_string("/proc/self/status")?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|rest| rest.trim().strip_suffix(" kB"));
        let resident_kib = resident.context("no VmRSS")?.trim().parse()?;
        Ok(Self { threads: fs::read_dir("/proc/self/task")?.count(), sockets, resident_kib })
    }

    /// What each of `count` things takes that came since `before`.
    pub(crate) fn each_since(&self, before: &Self, count: usize) -> impl fmt::Display {
        let each = |now: i64, before: i64| (now - before) as f64 / count.max(1) as f64;
        let whole = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        format!(
            "threads {:.1}, sockets {:.1}, resident {:.0} KiB each",
            each(whole(self.threads), whole(before.threads)),
            each(whole(self.sockets), whole(before.sockets)),
            each(self.resident_kib, before.resident_kib),
        )
    }
}
