//! Delayed calls are executed, and none before it is due, whoever is killed.

use std::{
    collections::HashMap,
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use krpc::{Ticket, TicketStatus, prelude::*};
use krpc_core::{murmur2, transport::TransportConfig};

use crate::{
    delivery::micros,
    work::{Program, Site, block_on, eventually},
};

const SECOND: u64 = 1_000_000;

#[krpc::service(name = "guarantee.Alarm")]
trait Alarm {
    /// Writes down that it is executed, and that it was due at this moment of the machine's clock.
    async fn ring(&self, id: u64, due: u64) -> u64;
    #[rpc(one_way)]
    async fn post(&self, id: u64, due: u64);
    /// The process that executes calls of a key.
    #[rpc(key = key)]
    async fn process(&self, key: u64) -> u32;
}

/// Keeps a log that survives `kill -9`.
struct Clock(Mutex<File>);

impl Clock {
    fn note(&self, id: u64, due: u64) -> u64 {
        let line = format!("{} {id} {due}\n", micros());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
        id
    }
}

impl Alarm for Clock {
    async fn ring(&self, id: u64, due: u64) -> u64 {
        self.note(id, due)
    }

    async fn post(&self, id: u64, due: u64) {
        self.note(id, due);
    }

    async fn process(&self, _key: u64) -> u32 {
        std::process::id()
    }
}

/// Not a test by itself, as `work::serve` is not.
#[test]
fn serve() {
    Site::serve(|builder, log| {
        let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        builder.serve(AlarmServer::new(Clock(Mutex::new(log))))
    });
}

fn server(site: &Site) -> Program {
    site.program("delay::serve", &[])
}

/// An execution: moments of the machine's clock, which all processes share.
#[derive(Clone, Copy, Debug)]
struct Rung {
    at: u64,
    id: u64,
    due: u64,
}

impl Rung {
    fn late(&self) -> Duration {
        assert!(self.at >= self.due, "{self:?} is early");
        Duration::from_micros(self.at - self.due)
    }
}

fn read(log: &Path) -> Vec<Rung> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let rung = |line: &str| {
        let numbers: Vec<_> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        Rung { at: numbers[0], id: numbers[1], due: numbers[2] }
    };
    text.lines().map(rung).collect()
}

/// Each call's first execution, and how many further ones there were.
fn executions(site: &Site) -> (HashMap<u64, Rung>, usize) {
    let rung: Vec<_> = site.logs().flat_map(|(_, log)| read(&log)).collect();
    let mut first = HashMap::<u64, Rung>::new();
    for rung in &rung {
        let known = first.entry(rung.id).or_insert(*rung);
        known.at = known.at.min(rung.at);
    }
    let twice = rung.len() - first.len();
    (first, twice)
}

/// A moment of the machine's clock.
fn moment(micros: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(micros)
}

async fn client(site: &Site) -> AlarmClient {
    let channel = site.place.channel().await;
    channel.open("guarantee.Alarm").await.unwrap();
    AlarmClient::new(&channel)
}

/// The half, all but a hundredth, and the longest of these.
fn figure(what: &str, late: &mut [Duration]) {
    late.sort_unstable();
    let at = |share: usize| late[(late.len() * share / 100).min(late.len() - 1)];
    let (count, most) = (late.len(), at(100));
    println!("figure: {what}: {count} calls, late p50 {:?} p99 {:?} max {most:?}", at(50), at(99));
}

/// The server that holds the calls that are due later: the owner of partition 0.
async fn mover(client: &AlarmClient) -> u32 {
    let partitions = TransportConfig::default().call_partitions;
    let is_first = |key: &u64| murmur2::partition(&key.to_be_bytes(), partitions) == 0;
    let key = (0..).find(is_first).unwrap();
    client.process(key).timeout(secs(30)).await.unwrap()
}

#[test]
fn ten_thousand_delayed_calls_outlive_their_server_and_none_is_early() {
    const CALLS: u64 = 10_000;
    /// What is due from a second before the kill until then may wait for another server.
    const TAKEOVER: u64 = 12 * SECOND;
    let site = Site::new("delayed");
    let mut servers: Vec<_> = (0..3).map(|_| server(&site)).collect();
    let killed = block_on(async {
        let client = client(&site).await;
        // So that the figures are not those of the first call of a service.
        client.ring(CALLS, 0).delay(secs(2)).await.unwrap();
        let start = micros();
        // Spread over the minute, and over the order in which they are sent.
        let due = |id: u64| start + 4 * SECOND + id * 7_919 % CALLS * (56 * SECOND / CALLS);
        let calls = (0..CALLS).map(|id| {
            let client = client.clone();
            let due = due(id);
            async move {
                if id % 2 == 0 {
                    client.post(id, due).at(moment(due)).await.unwrap();
                } else {
                    client.ring(id, due).at(moment(due)).enqueue().await.unwrap();
                }
            }
        });
        join_all(calls).await;
        let sent = Duration::from_micros(micros() - start);
        println!("figure: {CALLS} calls sent within {sent:?}, half of them with tickets");
        eventually("half a minute is over", secs(60), || micros() >= start + 30 * SECOND).await;
        let mover = mover(&client).await;
        let victim = servers.iter().position(|server| server.pid() == mover).unwrap();
        let killed = micros();
        servers[victim].kill9().unwrap();
        servers[victim] = server(&site);
        // Reading the logs takes time from the servers, so not before.
        eventually("a minute is over", secs(60), || micros() >= start + 60 * SECOND).await;
        let all = || executions(&site).0.len() as u64 > CALLS;
        eventually("all are executed", secs(90), all).await;
        // What is executed twice has its time too.
        let end = micros() + 2 * SECOND;
        eventually("two more seconds are over", secs(10), || micros() >= end).await;
        killed
    });
    let (mut first, twice) = executions(&site);
    first.retain(|id, _| *id < CALLS);
    assert_eq!(first.len() as u64, CALLS);
    let meanwhile = |rung: &Rung| (killed - SECOND..killed + TAKEOVER).contains(&rung.due);
    let (around, usual): (Vec<Rung>, Vec<Rung>) = first.into_values().partition(meanwhile);
    let late = |rung: Vec<Rung>| rung.iter().map(Rung::late).collect::<Vec<_>>();
    let (mut around, mut usual) = (late(around), late(usual));
    let mut all = [&around[..], &usual[..]].concat();
    figure("delayed, the mover killed halfway", &mut all);
    figure("due from 1 s before the kill to 12 s after it", &mut around);
    figure("due before and after", &mut usual);
    println!("figure: {twice} executed twice");
}

#[test]
fn a_delayed_ticket_is_cancelled_without_a_server() {
    let site = Site::new("delay-cancelled");
    block_on(async {
        let client = client(&site).await;
        let due = micros() + 10 * SECOND;
        let enqueue = |id: u64, due: u64| client.ring(id, due).at(moment(due)).enqueue();
        let cancelled = join_all((0..50).map(|id| enqueue(id, due))).await;
        let cancelled: Vec<Ticket<u64>> = cancelled.into_iter().map(Result::unwrap).collect();
        let kept = enqueue(99, due + SECOND / 2).await.unwrap();
        for ticket in &cancelled {
            client.cancel(ticket).await.unwrap();
        }
        let _server = server(&site);
        assert!(micros() < due, "the server came too late for this test");
        assert_eq!(client.attach(&kept).timeout(secs(60)).await, Ok(99));
        for ticket in &cancelled {
            let error = client.attach(ticket).timeout(secs(20)).await.unwrap_err();
            assert_eq!(error.code(), Some(Code::Cancelled), "{error}");
            assert_eq!(client.status(ticket).await, Ok(TicketStatus::Cancelled));
        }
        let (executed, twice) = executions(&site);
        assert_eq!((executed.len(), twice), (1, 0), "{executed:?}");
        executed[&99].late();
    });
}

#[test]
fn calls_that_come_due_while_no_server_is_there_are_executed_by_the_next() {
    const CALLS: u64 = 500;
    let site = Site::new("delay-down");
    block_on(async {
        let first = server(&site);
        let client = client(&site).await;
        let due = |id: u64| 5 * SECOND + id * 10_000;
        let start = micros();
        let calls = (0..CALLS).map(|id| {
            let due = start + due(id);
            client.post(id, due).at(moment(due)).into_future()
        });
        join_all(calls).await.into_iter().for_each(Result::unwrap);
        // It moves them from where they were sent to where they wait.
        eventually("they wait", secs(10), || micros() >= start + 3 * SECOND).await;
        first.kill9().unwrap();
        assert!(executions(&site).0.is_empty());
        // Long enough for the group to forget the one that was killed.
        let back = start + due(CALLS) + SECOND;
        eventually("all are due", secs(30), || micros() >= back).await;
        let second = server(&site);
        let serving = micros();
        let all = || executions(&site).0.len() as u64 == CALLS;
        eventually("all are executed", secs(30), all).await;
        let (executed, twice) = executions(&site);
        executed.values().for_each(|rung| _ = rung.late());
        let at = |rung: &Rung| Duration::from_micros(rung.at.saturating_sub(serving));
        let last = executed.values().map(at).max().unwrap();
        println!("figure: {CALLS} calls, all executed {last:?} after the start, {twice} twice");
        assert!(last < Duration::from_secs(10), "{last:?}");
        second.terminate().unwrap();
        assert!(second.wait(secs(30)).is_some_and(|status| status.success()));
    });
}
