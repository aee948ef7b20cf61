//! What a call costs on a real Apache Kafka: records and wakes, counted rather than timed.
//!
//! A program of its own, whose tests take turns: wakes are counted over the whole process. Each
//! figure is the best of several rounds. What else the machine does scatters a round, mostly
//! upwards: it tears calls apart that would have shared a packet and its wakes. No noise makes
//! every round bad, while a regression does. `--nocapture` shows the figures, and which threads
//! woke.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

#[allow(unused_imports, reason = "this test needs a part of it")]
mod support;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use krpc::{Channel, rt::Service};
use krpc_core::server::{driver::Server, options::ServerOptions};
use krpc_transport_kafka::KafkaEndpoint;
use tokio::task::JoinSet;

use support::{
    Backend, Place, eventually, scenario,
    services::{Adder, SumClient, SumServer},
};

const BACKEND: Backend = Backend::Kafka;

/// How often a load is counted.
const ROUNDS: usize = 7;

/// What a call may cost, and how it is called meanwhile.
struct Bound {
    callers: u32,
    /// Calls that each caller makes in a round, one after the other.
    calls: u32,
    /// Records per call, at most, from the client and from the server.
    requests: f64,
    replies: f64,
    /// Wakes per call, at most, of all threads of both.
    wakes: f64,
}

/// Each call has a packet of its own each way. Beside them there is room for the server's
/// announcements, one record every 100 ms at most.
///
/// About 10.3 wakes, which are the hops of a call: the caller's worker, which reads the reply; a
/// broker thread of librdkafka for each producer, when there is something to send and when its
/// report is read; one for each consumer, when records come; the server's drain thread. It was 13.6
/// and more when a thread read the replies and each report woke its producer's.
const ALONE: Bound = Bound { callers: 1, calls: 100, requests: 1.02, replies: 1.1, wakes: 12.0 };

/// Calls that come together leave together, and share the wakes of a call alone. The best of seven
/// rounds, on two cores that were idle or had up to four busy programs beside it, was in 30 runs:
/// 54 to 106 calls in a packet of requests, 68 to 119 in one of replies, 0.17 to 0.30 wakes per
/// call. With the cork of the outbox switched off it was 20 to 25, 29 to 38, and 0.40 to 0.44; with
/// a thread more that each call wakes, 0.39 to 1.53 wakes.
const MANY: Bound =
    Bound { callers: 128, calls: 25, requests: 1.0 / 35.0, replies: 1.0 / 50.0, wakes: 0.37 };

#[test]
fn a_call_alone_costs_one_record_each_way() {
    check(&ALONE);
}

#[test]
fn calls_among_many_share_records_and_wakes() {
    check(&MANY);
}

fn check(bound: &Bound) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    scenario(async |place| {
        let server = serve(&place).await;
        let channel = place.connect().await;
        let sum = SumClient::new(&channel);
        // Greets, makes the connections, and lets tables and buffers grow.
        call(&sum, bound).await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = Counts::take(&channel, &server);
            call(&sum, bound).await;
            rounds.push(Counts::take(&channel, &server).since(&before));
        }
        judge(bound, &rounds);
    });
}

/// The only server, which owns all partitions.
async fn serve(place: &Place) -> Server {
    let kafka = KafkaEndpoint::new(&place.endpoint, place.config()).unwrap();
    let services: Vec<Arc<dyn Service>> = vec![Arc::new(SumServer::new(Adder))];
    // A slow or busy machine must not decide how handlers are run.
    let options = ServerOptions { first_poll: Duration::MAX, ..ServerOptions::default() };
    let server = Server::start(&kafka, services, options).await.unwrap();
    let all = usize::try_from(place.config().call_partitions).unwrap();
    eventually("the server owns all partitions", || server.stats().partitions[0].len() == all)
        .await;
    server
}

/// One round; every answer is checked.
async fn call(sum: &SumClient, bound: &Bound) {
    let mut tasks = JoinSet::new();
    for caller in 0..i64::from(bound.callers) {
        let (sum, calls) = (sum.clone(), i64::from(bound.calls));
        tasks.spawn(async move {
            for number in 0..calls {
                assert_eq!(sum.add(caller, number).await, Ok(caller + number));
            }
        });
    }
    tasks.join_all().await;
}

/// What was counted until now, or in one round.
struct Counts {
    requests: u64,
    replies: u64,
    /// How often each thread woke, by its id, and its name.
    wakes: HashMap<String, (String, u64)>,
}

impl Counts {
    fn take(channel: &Channel, server: &Server) -> Self {
        let requests = channel.stats("Sum").unwrap().packets;
        Self { requests, replies: server.stats().packets, wakes: wakes() }
    }

    fn since(mut self, before: &Self) -> Self {
        self.requests -= before.requests;
        self.replies -= before.replies;
        for (id, (_, wakes)) in &mut self.wakes {
            *wakes -= before.wakes.get(id).map_or(0, |(_, before)| *before);
        }
        self
    }
}

/// A thread that sleeps leaves its core by its own will, and wakes once for it: Linux counts that
/// for each thread. Those that have ended are not among them; here none ends but an idle one.
fn wakes() -> HashMap<String, (String, u64)> {
    let mut threads = HashMap::new();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        // It may have ended since the folder was read.
        let status = fs::read_to_string(thread.unwrap().path().join("status"));
        let Ok(status) = status else { continue };
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.expect("a field of a thread's status").trim().to_owned()
        };
        let wakes = field("voluntary_ctxt_switches:").parse().unwrap();
        threads.insert(field("Pid:"), (field("Name:"), wakes));
    }
    threads
}

fn judge(bound: &Bound, rounds: &[Counts]) {
    let calls = f64::from(bound.callers) * f64::from(bound.calls);
    let figure = |what: &str, most: f64, count: &dyn Fn(&Counts) -> u64| {
        let mut counts: Vec<_> = rounds.iter().map(count).collect();
        counts.sort_unstable();
        let each = |count: u64| count as f64 / calls;
        let [best, median, worst] =
            [0, counts.len() / 2, counts.len() - 1].map(|i| each(counts[i]));
        println!(
            "figure: {what} per call, {} in flight: {best:.4}, at most {most:.4} \
             (median {median:.4}, worst {worst:.4})",
            bound.callers
        );
        (what.to_owned(), best, most)
    };
    let figures = [
        figure("request records", bound.requests, &|round| round.requests),
        figure("reply records", bound.replies, &|round| round.replies),
        figure("wakes", bound.wakes, &|round| round.wakes.values().map(|(_, wakes)| wakes).sum()),
    ];
    let mut threads = BTreeMap::<&str, u64>::new();
    for (name, wakes) in rounds.iter().flat_map(|round| round.wakes.values()) {
        *threads.entry(name).or_default() += wakes;
    }
    for (name, wakes) in threads {
        let each = wakes as f64 / calls / rounds.len() as f64;
        println!("figure: wakes per call, {} in flight, of {name}: {each:.4}", bound.callers);
    }
    let above: Vec<_> = figures.iter().filter(|(_, best, most)| best > most).collect();
    assert!(above.is_empty(), "above the bound (what, best, at most): {above:?}");
}
