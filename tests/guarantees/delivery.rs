//! The service whose calls have keys or go one way, served by processes that log what they do.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    path::Path,
    sync::Mutex,
    time::SystemTime,
};

use krpc::prelude::*;

use crate::work::{Program, Site};

#[krpc::service(name = "guarantee.Delivery")]
pub(crate) trait Delivery {
    /// Takes a moment; calls of a key come in the order of their numbers.
    #[rpc(key = key)]
    async fn book(&self, key: u64, number: u64);
    /// Fails as long as this server has not executed it twice before.
    #[rpc(one_way, retry(max = 5, backoff = "200ms..1s", then = drop))]
    async fn post(&self, cx: &Context, number: u64) -> Result<(), String>;
}

/// What a handler did, when, and in which process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry {
    /// Microseconds of the machine's clock, which all processes share.
    pub(crate) at: u64,
    /// The process's number in the order of their starts.
    pub(crate) life: u32,
    pub(crate) begins: bool,
    pub(crate) key: u64,
    pub(crate) number: u64,
}

/// Keeps a log that survives `kill -9`.
struct Clerk(Mutex<File>);

impl Clerk {
    fn note(&self, what: &str, key: u64, number: u64) {
        let line = format!("{} {what} {key} {number}\n", micros());
        self.0.lock().unwrap().write_all(line.as_bytes()).unwrap();
    }
}

pub(crate) fn micros() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    u64::try_from(since.as_micros()).unwrap()
}

impl Delivery for Clerk {
    async fn book(&self, key: u64, number: u64) {
        self.note("begin", key, number);
        tokio::time::sleep(millis(1)).await;
        self.note("end", key, number);
    }

    async fn post(&self, cx: &Context, number: u64) -> Result<(), String> {
        self.note("begin", u64::from(cx.attempt()), number);
        if cx.attempt() < 3 {
            return Err("not yet".to_owned());
        }
        self.note("end", u64::from(cx.attempt()), number);
        Ok(())
    }
}

/// Not a test by itself, as `work::serve` is not.
#[test]
fn serve() {
    Site::serve(|builder, log| {
        let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        builder.serve(DeliveryServer::new(Clerk(Mutex::new(log))))
    });
}

/// A server of it in a process of its own.
pub(crate) fn server(site: &Site) -> Program {
    site.program("delivery::serve", &[])
}

/// What all processes did, in order.
pub(crate) fn entries(site: &Site) -> Vec<Entry> {
    let mut entries: Vec<_> = site.logs().flat_map(|(life, log)| read(life, &log)).collect();
    entries.sort_unstable();
    entries
}

fn read(life: u32, log: &Path) -> Vec<Entry> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let entry = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let number = |at: usize| words[at].parse().unwrap();
        let begins = words[1] == "begin";
        Entry { at: number(0), life, begins, key: number(2), number: number(3) }
    };
    text.lines().map(entry).collect()
}
