//! Counts what docs/SCALING.md states as measured: requests, records and bytes of clients and
//! servers on a real Kafka, and the threads, sockets and memory of their process.
//!
//! Nothing here is a time, but for how long a group takes to settle; so the machine need not be
//! quiet. Clients and servers are all in this process, each with its own handles of librdkafka.

mod counts;

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum};
use futures_util::future::try_join_all;
use krpc::prelude::*;
use krpc_testkit::Kafka;
use serde_bytes::ByteBuf;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};
use tracing_subscriber::{filter::LevelFilter, layer::Layer, prelude::*};

use counts::{Counts, STATISTICS, Statistics, Usage, shares};

/// How long a group may take to settle, and for how long nothing may move in it then.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
const SETTLED: Duration = Duration::from_secs(3);

/// Calls of a closed loop.
const CALLS: usize = 40_000;

/// Calls of one client that calls at a pace.
const PACE: Duration = Duration::from_millis(100);

/// Bytes of a value, as in the bench.
const VALUE: usize = 16;

/// Counts what docs/SCALING.md states as measured.
#[derive(Debug, Parser)]
struct Cli {
    /// What to count.
    #[arg(value_enum, default_values = ["pack", "share", "idle", "join"])]
    what: Vec<What>,
    /// Brokers of the Kafka that is started.
    #[arg(long, default_value_t = 1)]
    brokers: usize,
    /// Clients of `idle`, servers of `join`.
    #[arg(long, default_value_t = 20)]
    count: usize,
    /// Partitions of the calls topic in `idle`.
    #[arg(long, default_value_t = 12)]
    partitions: u32,
    /// How long a steady state is counted.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum What {
    /// Calls in flight at once share records.
    Pack,
    /// Clients share reply partitions.
    Share,
    /// Clients and servers without anything to do.
    Idle,
    /// Servers that join a group and leave it.
    Join,
}

#[krpc::service(name = "scaling.Echo")]
trait Echo {
    async fn echo(&self, value: ByteBuf) -> ByteBuf;
}

struct Echoing;

impl Echo for Echoing {
    async fn echo(&self, value: ByteBuf) -> ByteBuf {
        value
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    tracing_subscriber::registry().with(Statistics.with_filter(LevelFilter::DEBUG)).init();
    let kafka = Kafka::builder().brokers(cli.brokers).start()?;
    let brokers = kafka.bootstrap();
    println!("{} broker(s); of each line: calls/clients/servers, then counts", cli.brokers);
    for what in &cli.what {
        println!("\n{what:?}");
        match what {
            What::Pack => pack(brokers).await?,
            What::Share => share(brokers, cli.seconds).await?,
            What::Idle => idle(brokers, &cli).await?,
            What::Join => join(brokers, cli.count, cli.seconds).await?,
        }
    }
    Ok(())
}

/// One service with topics of its own, and what is set for it.
struct Case<'a> {
    brokers: &'a str,
    name: String,
    settings: Vec<(&'static str, String)>,
}

impl Case<'_> {
    async fn server(&self) -> Result<Server> {
        let mut builder = Server::builder(self.brokers)
            .set("KRPC_PREFIX", &self.name)
            .property("client.id", &format!("server.{}", self.name))
            .property("statistics.interval.ms", STATISTICS);
        for (name, value) in &self.settings {
            builder = builder.set(name, value);
        }
        Ok(builder.concurrency(16_384).serve(EchoServer::new(Echoing)).start().await?)
    }

    /// Servers that come at once.
    async fn servers(&self, count: usize) -> Result<Vec<Server>> {
        try_join_all((0..count).map(|_| self.server())).await
    }

    /// Clients that have made a call each.
    async fn clients(&self, count: usize) -> Result<Vec<Channel>> {
        let mut channels = Vec::with_capacity(count);
        for _ in 0..count {
            let builder = Channel::builder(self.brokers)
                .set("KRPC_PREFIX", &self.name)
                .property("client.id", &format!("client.{}", self.name))
                .property("statistics.interval.ms", STATISTICS);
            let channel = builder.connect().await?;
            call(&EchoClient::new(&channel)).await?;
            channels.push(channel);
        }
        Ok(channels)
    }

    /// What clients and servers send and receive while this goes on.
    async fn during(&self, work: impl Future<Output = Result<()>>) -> Result<(Counts, Counts)> {
        let (clients, servers) = (self.side("client"), self.side("server"));
        let before = (Counts::of(&clients).await?, Counts::of(&servers).await?);
        work.await?;
        let (clients, servers) = (Counts::of(&clients).await?, Counts::of(&servers).await?);
        Ok((clients - &before.0, servers - &before.1))
    }

    fn side(&self, side: &str) -> String {
        format!("{side}.{}#", self.name)
    }

    async fn end(&self, clients: Vec<Channel>, servers: Vec<Server>) -> Result<()> {
        Counts::forget(&self.side("client"));
        Counts::forget(&self.side("server"));
        for channel in clients {
            channel.close().await;
        }
        try_join_all(servers.into_iter().map(Server::shutdown)).await?;
        Ok(())
    }
}

async fn call(client: &EchoClient) -> Result<()> {
    let answer = client.echo(ByteBuf::from([7; VALUE])).timeout(secs(60)).await?;
    ensure!(*answer == [7; VALUE], "an answer to another call");
    Ok(())
}

/// Each client keeps `in_flight` calls in flight, until they have made `calls` together.
async fn closed(channels: &[Channel], in_flight: usize, calls: usize) -> Result<()> {
    let mut callers = JoinSet::new();
    for channel in channels {
        for _ in 0..in_flight {
            let client = EchoClient::new(channel);
            let calls = calls / channels.len() / in_flight;
            callers.spawn(async move {
                for _ in 0..calls {
                    call(&client).await?;
                }
                anyhow::Ok(())
            });
        }
    }
    callers.join_all().await.into_iter().collect()
}

/// Each client makes `calls` calls, one every [`PACE`], each at a moment of its own.
async fn paced(channels: &[Channel], calls: u32) -> Result<()> {
    let mut callers = JoinSet::new();
    for (index, channel) in (0_u32..).zip(channels) {
        let client = EchoClient::new(channel);
        let late = PACE * index / u32::try_from(channels.len())?;
        callers.spawn(async move {
            sleep(late).await;
            let mut pace = interval(PACE);
            for _ in 0..calls {
                pace.tick().await;
                call(&client).await?;
            }
            anyhow::Ok(())
        });
    }
    callers.join_all().await.into_iter().collect()
}

/// Waits until each server owns something and nothing moves; tells when the last of it moved.
async fn settle(servers: &[Server], began: Instant) -> Result<Duration> {
    let (mut owned, mut moved) = (Vec::new(), Instant::now());
    loop {
        let now: Vec<_> = servers.iter().map(|server| server.stats().partitions).collect();
        if now != owned {
            (owned, moved) = (now, Instant::now());
        } else if moved.elapsed() > SETTLED && !owned.iter().flatten().any(Vec::is_empty) {
            return Ok(moved - began);
        }
        ensure!(began.elapsed() < SETTLE_LIMIT, "the group does not settle: {owned:?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn pack(brokers: &str) -> Result<()> {
    for in_flight in [1, 16, 128, 1_024, 8_192] {
        let case = Case { brokers, name: format!("pack{in_flight}"), settings: Vec::new() };
        let servers = case.servers(1).await?;
        let channels = case.clients(1).await?;
        // Whole rounds, and not so many one by one.
        let calls = if in_flight == 1 { CALLS / 10 } else { CALLS * 3 / in_flight * in_flight };
        let counted = case.during(closed(&channels, in_flight, calls)).await?;
        print_calls(&format!("{in_flight} in flight"), &counted, calls);
        case.end(channels, servers).await?;
    }
    Ok(())
}

async fn share(brokers: &str, seconds: u32) -> Result<()> {
    for partitions in [1, 4, 16] {
        for clients in [1, 16, 64] {
            let name = format!("share{partitions}.{clients}");
            let settings = vec![("KRPC_REPLY_PARTITIONS", partitions.to_string())];
            let case = Case { brokers, name, settings };
            let servers = case.servers(1).await?;
            let channels = case.clients(clients).await?;
            let each = seconds * 1_000 / u32::try_from(PACE.as_millis())?;
            let counted = case.during(paced(&channels, each)).await?;
            let what = format!("{clients} clients on {partitions} reply partitions");
            print_calls(&format!("{what}, 10/s each"), &counted, clients * usize::try_from(each)?);
            let counted = case.during(closed(&channels, 16, CALLS)).await?;
            print_calls(&format!("{what}, 16 in flight"), &counted, CALLS);
            case.end(channels, servers).await?;
        }
    }
    Ok(())
}

async fn idle(brokers: &str, cli: &Cli) -> Result<()> {
    let Cli { count, seconds, partitions, .. } = *cli;
    for protocol in ["classic", "consumer"] {
        let settings = vec![
            ("KRPC_GROUP_PROTOCOL", protocol.to_owned()),
            ("KRPC_CALL_PARTITIONS", partitions.to_string()),
        ];
        let case = Case { brokers, name: format!("idle.{protocol}"), settings };
        // The first of either kind takes what all share.
        let (mut servers, first) = (case.servers(1).await?, case.clients(1).await?);
        let before = Usage::now()?;
        servers.extend(case.servers(7).await?);
        settle(&servers, Instant::now()).await?;
        println!("one more server: {}", Usage::now()?.each_since(&before, 7));
        let before = Usage::now()?;
        let mut channels = case.clients(count).await?;
        println!("one more client: {}", Usage::now()?.each_since(&before, count));
        channels.extend(first);
        let (start, _) = case
            .during(async {
                channels.extend(case.clients(1).await?);
                Ok(())
            })
            .await?;
        println!("all clients, while one more starts and calls: {}", shares(&start, 1.0));
        let (clients, on_servers) = case.during(rest(seconds)).await?;
        let of = |count: usize| (count * seconds as usize) as f64;
        println!("one client, in 1 s: {}", shares(&clients, of(channels.len())));
        println!("one server, {protocol}, in 1 s: {}", shares(&on_servers, of(servers.len())));
        case.end(channels, servers).await?;
    }
    Ok(())
}

async fn join(brokers: &str, count: usize, seconds: u32) -> Result<()> {
    for protocol in ["classic", "consumer"] {
        let settings = vec![
            ("KRPC_GROUP_PROTOCOL", protocol.to_owned()),
            ("KRPC_CALL_PARTITIONS", (count * 2).to_string()),
        ];
        let case = Case { brokers, name: format!("join.{protocol}"), settings };
        let began = Instant::now();
        let mut servers = case.servers(count).await?;
        let took = settle(&servers, began).await?;
        let all = Counts::of(&case.side("server")).await?;
        println!("{protocol}, {count} at once, settled in {took:.1?}: {}", shares(&all, 1.0));
        let mut took = Duration::ZERO;
        let more = async {
            let began = Instant::now();
            servers.push(case.server().await?);
            took = settle(&servers, began).await?;
            Ok(())
        };
        let (_, counted) = case.during(more).await?;
        println!("{protocol}, one more, settled in {took:.1?}: {}", shares(&counted, 1.0));
        let (_, counted) = case.during(rest(seconds)).await?;
        println!("{protocol}, at rest, all in 1 s: {}", shares(&counted, seconds.into()));
        case.end(Vec::new(), servers).await?;
    }
    Ok(())
}

async fn rest(seconds: u32) -> Result<()> {
    sleep(Duration::from_secs(seconds.into())).await;
    Ok(())
}

fn print_calls(what: &str, (clients, servers): &(Counts, Counts), calls: usize) {
    let per_call = |count: i64| count as f64 / calls as f64;
    let bytes = |counts: &Counts| counts.produced_bytes as f64 / counts.produced.max(1) as f64;
    println!(
        "{what}: {calls} calls; records of calls {:.4} ({:.0} B), of replies {:.4} ({:.0} B), read \
         by clients {:.4}; client: Produce {:.4}, Fetch {:.4}, {:.0} B out, {:.0} B in; server: \
         Produce {:.4}, Fetch {:.4}, {:.0} B out, {:.0} B in, {} commits",
        per_call(clients.produced),
        bytes(clients),
        per_call(servers.produced),
        bytes(servers),
        per_call(clients.consumed),
        per_call(clients.of_kind("Produce")),
        per_call(clients.of_kind("Fetch")),
        per_call(clients.sent_bytes),
        per_call(clients.received_bytes),
        per_call(servers.of_kind("Produce")),
        per_call(servers.of_kind("Fetch")),
        per_call(servers.sent_bytes),
        per_call(servers.received_bytes),
        servers.of_kind("OffsetCommit"),
    );
}
