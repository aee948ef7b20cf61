//! Calls with an idempotency key, their results in a real Redis: servers are killed, and Redis is.

use std::{
    collections::{HashMap, HashSet},
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use krpc::{
    Error, RetryPolicy,
    prelude::*,
    store::{RedisStore, StoreFailure},
};
use krpc_testkit::{Program, Redis};
use tempfile::TempDir;

use crate::work::{Site, block_on, eventually};

#[krpc::service(name = "guarantee.Orders")]
trait Orders {
    /// Writes down that it executes `order`, takes a while, and yields a number that no other
    /// execution yields.
    async fn place(&self, order: u64, millis: u64) -> u64;
}

struct Desk {
    log: Mutex<File>,
    executions: AtomicU64,
}

impl Orders for Desk {
    async fn place(&self, order: u64, millis: u64) -> u64 {
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        let number = (u64::from(std::process::id()) << 32) + number;
        // One write per line, to a file opened for appending: whole lines, whoever is killed.
        self.log.lock().unwrap().write_all(format!("{order} {number}\n").as_bytes()).unwrap();
        tokio::time::sleep(krpc::prelude::millis(millis)).await;
        number
    }
}

const ENDPOINT: &str = "KRPC_TEST_ENDPOINT";
const LOG: &str = "KRPC_TEST_LOG";
const REDIS: &str = "KRPC_TEST_REDIS";
const PASSES_BY: &str = "KRPC_TEST_PASSES_BY";

/// Not a test by itself: the tests below start this program again with these variables set, and
/// then this is a server until it is told to stop.
#[test]
fn serve_orders() {
    let (Ok(endpoint), Ok(redis)) = (std::env::var(ENDPOINT), std::env::var(REDIS)) else { return };
    let log = std::env::var(LOG).unwrap();
    let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
    let desk = Desk { log: Mutex::new(log), executions: AtomicU64::new(0) };
    let passes_by = std::env::var(PASSES_BY).is_ok();
    let failure = if passes_by { StoreFailure::Execute } else { StoreFailure::Refuse };
    block_on(async {
        let server = Server::builder(endpoint)
            .serve(OrdersServer::new(desk))
            .result_store(RedisStore::connect(&redis).await.unwrap())
            .when_store_fails(failure);
        let server = server.start().await.unwrap();
        println!("serving");
        server.run_until(ctrl_c()).await.unwrap();
    });
}

/// A place on the shared broker, a Redis, and the servers that a test starts.
struct Shop {
    site: Site,
    redis: Redis,
    logs: TempDir,
    started: AtomicUsize,
}

/// One execution: by which server, and the number that it yields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Execution {
    server: usize,
    number: u64,
}

impl Shop {
    fn open(name: &str) -> Self {
        let (site, redis) = (Site::new(name), Redis::start().unwrap());
        Self { site, redis, logs: tempfile::tempdir().unwrap(), started: AtomicUsize::new(0) }
    }

    fn log(&self, server: usize) -> std::path::PathBuf {
        self.logs.path().join(format!("server-{server}"))
    }

    fn server(&self, settings: &[(&str, &str)]) -> Program {
        let log = self.log(self.started.fetch_add(1, Ordering::Relaxed));
        let (place, redis) = (&self.site.place, self.redis.url());
        let mut envs = vec![
            (ENDPOINT, place.brokers.as_str()),
            ("KRPC_PREFIX", place.prefix.as_str()),
            (REDIS, redis.as_str()),
            (LOG, log.to_str().unwrap()),
        ];
        envs.extend_from_slice(settings);
        let me = std::env::current_exe().unwrap();
        let args = ["--exact", "redis::serve_orders", "--nocapture"];
        let program = Program::spawn(me, &args, &envs).unwrap();
        program.wait_for_line("serving", Duration::from_secs(30)).unwrap();
        program
    }

    async fn client(&self) -> OrdersClient {
        OrdersClient::new(&self.site.place.channel().await)
    }

    /// What all servers executed, by order.
    fn executions(&self) -> HashMap<u64, Vec<Execution>> {
        let mut executions: HashMap<u64, Vec<_>> = HashMap::new();
        for server in 0..self.started.load(Ordering::Relaxed) {
            for (order, number) in lines(&self.log(server)) {
                executions.entry(order).or_default().push(Execution { server, number });
            }
        }
        executions
    }
}

fn lines(log: &Path) -> Vec<(u64, u64)> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let line = |line: &str| {
        let (order, number) = line.split_once(' ').unwrap();
        (order.parse().unwrap(), number.parse().unwrap())
    };
    text.lines().map(line).collect()
}

fn key(order: u64) -> String {
    format!("order-{order}")
}

/// Calls servers until each of so many has executed something.
async fn all_serve(shop: &Shop, orders: &OrdersClient, servers: usize) {
    let mut order = 1_000_000;
    let seen = || shop.executions().values().flatten().map(|by| by.server).collect::<HashSet<_>>();
    while seen().len() < servers {
        let calls = (order..order + 50).map(|order| tokio::spawn(orders.place(order, 0)));
        for call in calls.collect::<Vec<_>>() {
            call.await.unwrap().unwrap();
        }
        order += 50;
    }
}

#[test]
fn each_key_is_executed_once_by_a_server_that_survives() {
    const KEYS: u64 = 500;
    const CALLERS: usize = 4;
    let shop = Shop::open("idempotency");
    // As long as a session lasts, so that the test takes no longer.
    let lease = [("KRPC_IDEMPOTENCY_LEASE", "6s")];
    let mut servers: Vec<_> = (0..3).map(|_| shop.server(&lease)).collect();
    let (ends, longest) = block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CALLERS {
            clients.push(shop.client().await);
        }
        all_serve(&shop, &clients[0], 3).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let mut calls = Vec::new();
        for order in 0..KEYS {
            tick.tick().await;
            for client in &clients {
                let call = client.place(order, 200).idempotency_key(key(order)).timeout(secs(90));
                calls.push(tokio::spawn(async move {
                    let began = Instant::now();
                    (order, call.await, began.elapsed())
                }));
            }
            if order == 150 || order == 300 {
                // At once with one that was killed: the fourth and the fifth server.
                servers.remove(0).kill9().unwrap();
                servers.push(shop.server(&lease));
            }
        }
        let (mut ends, mut longest) = (HashMap::<u64, Vec<u64>>::new(), Duration::ZERO);
        for call in calls {
            let (order, end, took) = call.await.unwrap();
            ends.entry(order).or_default().push(end.unwrap());
            longest = longest.max(took);
        }
        (ends, longest)
    });
    let (executions, killed) = (shop.executions(), [0, 1]);
    let (mut all, mut again) = (0, 0);
    for order in 0..KEYS {
        let (numbers, executions) = (&ends[&order], &executions[&order]);
        assert_eq!(numbers.len(), CALLERS);
        assert!(numbers.iter().all(|number| *number == numbers[0]), "{order}: {numbers:?}");
        assert!(executions.iter().any(|by| by.number == numbers[0]), "{order}");
        let others = executions.iter().filter(|by| by.number != numbers[0]);
        for other in others {
            assert!(killed.contains(&other.server), "{order} was executed twice: {executions:?}");
        }
        all += executions.len();
        again += usize::from(executions.len() > 1);
    }
    println!(
        "figure: {KEYS} keys, each sent {CALLERS} times at once, two of three servers killed: \
         {all} executions, {again} keys begun by a killed server and executed again, \
         longest wait {longest:?}"
    );
}

#[test]
fn a_claim_of_the_dead_runs_out() {
    const ORDER: u64 = 7;
    let shop = Shop::open("dead-claim");
    let first = shop.server(&[]);
    let (waited, values) = block_on(async {
        let orders = shop.client().await;
        let place = || orders.place(ORDER, 2_000).idempotency_key(key(ORDER)).timeout(secs(60));
        let begun = tokio::spawn(place());
        let executes = |times: usize| {
            let shop = &shop;
            move || shop.executions().get(&ORDER).is_some_and(|all| all.len() == times)
        };
        eventually("it executes", secs(20), executes(1)).await;
        first.kill9().unwrap();
        let killed = Instant::now();
        let _second = shop.server(&[]);
        let later = tokio::spawn(place());
        eventually("it executes again", secs(40), executes(2)).await;
        let waited = killed.elapsed();
        (waited, [begun.await.unwrap().unwrap(), later.await.unwrap().unwrap()])
    });
    let executions = &shop.executions()[&ORDER];
    println!(
        "figure: a server died inside its claim: executed again {waited:?} later, lease 10 s, \
         session 6 s; {} executions",
        executions.len()
    );
    assert!(waited >= secs(9), "the claim holds until its lease is over: {waited:?}");
    assert_eq!(executions.len(), 2);
    assert_eq!(values, [executions[1].number; 2], "all see what the survivor did");
}

/// What became of calls while Redis was killed and started again.
#[derive(Default, Debug)]
struct Ends {
    answered: HashSet<u64>,
    refused: HashSet<u64>,
    longest: Duration,
}

async fn load(shop: &Shop, rate: u64, seconds: u64) -> Ends {
    let orders = Arc::new(shop.client().await);
    all_serve(shop, &orders, 1).await;
    let mut tick = tokio::time::interval(Duration::from_micros(1_000_000 / rate));
    let mut calls = Vec::new();
    for order in 0..rate * seconds {
        tick.tick().await;
        if order == rate * 2 {
            shop.redis.kill().unwrap();
        }
        if order == rate * (seconds - 2) {
            shop.redis.restart().unwrap();
        }
        let call = orders.place(order, 20).idempotency_key(key(order));
        let call = call.retry(RetryPolicy::none()).timeout(secs(30));
        calls.push(tokio::spawn(async move {
            let began = Instant::now();
            (order, call.await, began.elapsed())
        }));
    }
    let mut ends = Ends::default();
    for call in calls {
        let (order, end, took) = call.await.unwrap();
        ends.longest = ends.longest.max(took);
        match end {
            Ok(_) => ends.answered.insert(order),
            Err(Error::Status(status)) => {
                assert_eq!((status.code(), status.is_retryable()), (Code::Unavailable, true));
                ends.refused.insert(order)
            }
            Err(error) => panic!("{error}"),
        };
    }
    ends
}

#[test]
fn a_store_that_is_down_refuses_or_is_passed_by_as_set() {
    const RATE: u64 = 100;
    const SECONDS: u64 = 8;
    for passes_by in [false, true] {
        let shop = Shop::open("store-down");
        let settings: &[_] = if passes_by { &[(PASSES_BY, "1")] } else { &[] };
        let _server = shop.server(settings);
        let ends = block_on(load(&shop, RATE, SECONDS));
        let executions = shop.executions();
        println!(
            "figure: {} calls at {RATE}/s, Redis down for {} s, {}: {} answered, {} refused, \
             longest wait {:?}",
            RATE * SECONDS,
            SECONDS - 4,
            if passes_by { "passed by" } else { "refused" },
            ends.answered.len(),
            ends.refused.len(),
            ends.longest
        );
        assert!(ends.answered.iter().all(|order| executions[order].len() == 1));
        assert!(ends.refused.iter().all(|order| !executions.contains_key(order)));
        let last = RATE * SECONDS - 1;
        assert!(ends.answered.contains(&last), "it works again by itself");
        if passes_by {
            assert_eq!(ends.refused.len(), 0);
        } else {
            assert!(ends.refused.len() > 100, "{}", ends.refused.len());
        }
    }
}
