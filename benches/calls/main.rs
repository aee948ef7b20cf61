//! What a call costs on a real Apache Kafka: `cargo xtask bench`.
//!
//! Systems run in processes of their own, client and server apart, and take turns, so that a
//! drift of the machine hits all alike. Every answer is checked. Beside kRPC stands the floor:
//! an echo of one record each way with nothing but rdkafka.

mod calls;
mod raw;

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use hdrhistogram::Histogram;

/// Calls in flight, and how many calls are measured (raw, kRPC).
const CASES: [(usize, usize, usize); 4] = [
    (1, 2_000, 2_000),
    (128, 60_000, 100_000),
    (1_024, 120_000, 300_000),
    (8_192, 120_000, 500_000),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> =
        args.iter().map(String::as_str).filter(|arg| *arg != "--bench").collect();
    match words.as_slice() {
        ["serve", "raw", brokers] => raw::serve(brokers),
        ["serve", "krpc", brokers] => calls::serve(brokers),
        ["call", "raw", brokers, window, count] => {
            raw::call(brokers, number(window), number(count)).print();
        }
        ["call", "krpc", brokers, window, count] => {
            calls::call(brokers, number(window), number(count)).print();
        }
        // Cargo says `--bench` only for a bench, which is optimised; without, it is a test run.
        _ if words.len() == args.len() => println!("run by `cargo xtask bench`"),
        rest => table(rest.contains(&"--quick")),
    }
}

fn number(word: &str) -> usize {
    word.parse().expect("a number")
}

/// One measured case.
struct Measured {
    per_second: f64,
    latency: Histogram<u64>,
}

impl Measured {
    fn new(count: usize, elapsed: Duration, latency: Histogram<u64>) -> Self {
        Self { per_second: count as f64 / elapsed.as_secs_f64(), latency }
    }

    fn print(&self) {
        let (p50, p99) =
            (self.latency.value_at_quantile(0.5), self.latency.value_at_quantile(0.99));
        println!("measured {} {p50} {p99}", self.per_second);
    }
}

/// A server in a process of its own, killed when it goes out of scope.
struct Serving(Child);

impl Serving {
    fn start(system: &str, brokers: &str) -> Self {
        let mut child = command(&["serve", system, brokers]).spawn().expect("a process starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut lines = BufReader::new(stdout).lines();
        assert!(lines.any(|line| line.is_ok_and(|line| line == "ready")), "{system} did not start");
        Self(child)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It may have ended by itself; the measurement is over either way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program has a path"));
    command.args(args).stdout(Stdio::piped());
    command
}

/// Calls per second, p50 and p99 in microseconds.
fn measure(system: &str, brokers: &str, window: usize, count: usize) -> (f64, u64, u64) {
    let (window, count) = (window.to_string(), count.to_string());
    let output = command(&["call", system, brokers, &window, &count]).output();
    let output = output.expect("a process starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("measured "));
    let words: Vec<_> = line.unwrap_or_else(|| panic!("{system}: {text}")).split(' ').collect();
    let parse = |at: usize| words[at].parse::<u64>().expect("microseconds");
    (words[0].parse().expect("a rate"), parse(1), parse(2))
}

fn table(quick: bool) {
    let kafka = match std::env::var("KRPC_TEST_BROKERS") {
        Ok(brokers) => (brokers, None),
        Err(_) => {
            let kafka = krpc_testkit::Kafka::builder().bench(true).start().expect("Kafka starts");
            (kafka.bootstrap().to_owned(), Some(kafka))
        }
    };
    let brokers = kafka.0.as_str();
    let rounds = if quick { 1 } else { 3 };
    let _servers = ["raw", "krpc"].map(|system| Serving::start(system, brokers));
    // A fresh JVM is several times slower than a warm one.
    for system in ["raw", "krpc"] {
        for _ in 0..if quick { 1 } else { 3 } {
            measure(system, brokers, 1_024, 100_000);
        }
    }
    println!("| in flight | system | calls/s | p50 µs | p99 µs | rate : raw |");
    println!("|---|---|---|---|---|---|");
    for (window, raw_count, krpc_count) in CASES {
        let mut results: [Vec<(f64, u64, u64)>; 2] = Default::default();
        for _ in 0..rounds {
            results[0].push(measure("raw", brokers, window, raw_count));
            results[1].push(measure("krpc", brokers, window, krpc_count));
        }
        let [raw, krpc] = results.map(median);
        for (system, (rate, p50, p99)) in [("raw rdkafka", raw), ("kRPC", krpc)] {
            let ratio = rate / raw.0;
            println!("| {window} | {system} | {rate:.0} | {p50} | {p99} | {ratio:.2} |");
        }
    }
}

/// The run of median rate.
fn median(mut runs: Vec<(f64, u64, u64)>) -> (f64, u64, u64) {
    runs.sort_by(|a, b| a.0.total_cmp(&b.0));
    runs[runs.len() / 2]
}
