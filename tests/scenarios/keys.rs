//! Calls of a key: one at a time, in order, whatever the others do.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use futures_util::future::join_all;
use krpc::prelude::*;
use tokio::sync::Semaphore;

use crate::support::{Place, eventually, place::settled, scenario, start};

/// Accounts, whose bookings must not cross.
#[krpc::service]
trait Bank {
    /// Takes a moment.
    #[rpc(key = account)]
    async fn book(&self, cx: &Context, account: String, number: u64) -> u64;
    /// Waits until the test lets it through.
    #[rpc(key = account)]
    async fn audit(&self, account: String, number: u64) -> u64;
    /// Has no key of its own; yields the one it was called with.
    async fn key(&self, cx: &Context) -> Option<Vec<u8>>;
}

/// What the handlers did, in the order in which they did it.
#[derive(Clone)]
struct Teller {
    log: Arc<Mutex<Vec<Entry>>>,
    gate: Arc<Semaphore>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Entry {
    Begin(String, u64),
    End(String, u64),
    Dropped(String, u64),
}

/// A handler at work; its drop is its end.
struct Work<'a> {
    teller: &'a Teller,
    account: String,
    number: u64,
    done: bool,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        let account = self.account.clone();
        self.teller.note(match self.done {
            true => Entry::End(account, self.number),
            false => Entry::Dropped(account, self.number),
        });
    }
}

impl Teller {
    fn new() -> Self {
        Self { log: Arc::default(), gate: Arc::new(Semaphore::new(0)) }
    }

    fn note(&self, entry: Entry) {
        self.log.lock().unwrap().push(entry);
    }

    fn begin(&self, account: String, number: u64) -> Work<'_> {
        self.note(Entry::Begin(account.clone(), number));
        Work { teller: self, account, number, done: false }
    }

    fn log(&self) -> Vec<Entry> {
        self.log.lock().unwrap().clone()
    }

    fn began(&self, account: &str) -> Vec<u64> {
        let of = |entry: &Entry| match entry {
            Entry::Begin(name, number) if name == account => Some(*number),
            _ => None,
        };
        self.log.lock().unwrap().iter().filter_map(of).collect()
    }

    /// The most handlers that ever ran at once: of all keys, and of one.
    fn overlap(&self) -> (usize, usize) {
        let (mut running, mut most, mut most_of_one) = (HashMap::new(), 0, 0);
        for entry in self.log() {
            match entry {
                Entry::Begin(account, _) => *running.entry(account).or_default() += 1,
                Entry::End(account, _) | Entry::Dropped(account, _) => {
                    *running.get_mut(&account).unwrap() -= 1;
                }
            }
            most = most.max(running.values().sum());
            most_of_one = most_of_one.max(running.values().copied().max().unwrap_or_default());
        }
        (most, most_of_one)
    }
}

impl Bank for Teller {
    async fn book(&self, cx: &Context, account: String, number: u64) -> u64 {
        assert_eq!(cx.key(), Some(account.as_bytes()));
        let mut work = self.begin(account, number);
        tokio::time::sleep(millis(2)).await;
        work.done = true;
        number
    }

    async fn audit(&self, account: String, number: u64) -> u64 {
        let mut work = self.begin(account, number);
        self.gate.acquire().await.unwrap().forget();
        work.done = true;
        number
    }

    async fn key(&self, cx: &Context) -> Option<Vec<u8>> {
        cx.key().map(<[u8]>::to_vec)
    }
}

async fn client(place: &Place) -> BankClient {
    let channel = place.connect().await;
    // So that calls are made in the order of their first polls.
    channel.open("Bank").await.unwrap();
    BankClient::new(&channel)
}

#[test]
fn calls_of_a_key_run_in_order_and_one_at_a_time() {
    scenario(async |place| {
        let teller = Teller::new();
        let server = place.serve(BankServer::new(teller.clone())).await;
        let bank = client(&place).await;
        let calls = (0..200_u64).map(|call| bank.book(format!("account {}", call % 10), call / 10));
        let values = join_all(calls).await;
        assert!(values.into_iter().map(Result::unwrap).eq((0..200).map(|call| call / 10)));
        for account in 0..10 {
            assert!(teller.began(&format!("account {account}")).into_iter().eq(0..20));
        }
        let (most, of_one) = teller.overlap();
        assert_eq!(of_one, 1);
        assert!(most > 1, "keys run beside each other");
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert_eq!(server.stats().keyed, 0);
    });
}

#[test]
fn a_slow_key_does_not_hold_up_others() {
    scenario(async |place| {
        let teller = Teller::new();
        let builder = place.server().concurrency(2).serve(BankServer::new(teller.clone()));
        let server = start(builder).await;
        let bank = client(&place).await;
        let slow: Vec<_> =
            (0..50).map(|call| tokio::spawn(bank.audit("slow".to_owned(), call))).collect();
        eventually("they wait for the one that runs", || {
            let stats = server.stats();
            (stats.keyed, stats.running, stats.queued) == (49, 1, 0)
        })
        .await;
        let others = (0..100_u64).map(|call| bank.book(format!("account {}", call % 10), call));
        assert!(join_all(others).await.into_iter().all(|result| result.is_ok()));
        assert_eq!((server.stats().running, server.stats().keyed), (1, 49));
        teller.gate.add_permits(50);
        for call in slow {
            call.await.unwrap().unwrap();
        }
        assert_eq!((teller.began("slow").len(), teller.overlap().1), (50, 1));
    });
}

#[test]
fn a_key_of_the_call_takes_the_methods_place() {
    scenario(async |place| {
        let teller = Teller::new();
        let _server = place.serve(BankServer::new(teller.clone())).await;
        let bank = client(&place).await;
        assert_eq!(bank.key().await.unwrap(), None);
        assert_eq!(bank.key().key("text").await.unwrap(), Some(b"text".to_vec()));
        assert_eq!(bank.key().key(7_u32).await.unwrap(), Some(vec![0, 0, 0, 7]));
        let one = (0..20).map(|call| bank.audit(format!("account {call}"), call).key("one"));
        let one: Vec<_> = one.map(tokio::spawn).collect();
        teller.gate.add_permits(20);
        for call in one {
            call.await.unwrap().unwrap();
        }
        let (most, _) = teller.overlap();
        assert_eq!(most, 1, "one key for all");
    });
}

#[test]
fn a_call_that_is_dropped_behind_its_key_is_not_executed() {
    scenario(async |place| {
        let teller = Teller::new();
        let server = place.serve(BankServer::new(teller.clone())).await;
        let bank = client(&place).await;
        let mut calls: Vec<_> =
            (0..5).map(|call| (call, tokio::spawn(bank.audit("a".to_owned(), call)))).collect();
        let waiting = || server.stats().keyed == 4 && teller.began("a").len() == 1;
        eventually("one runs and the others wait", waiting).await;
        // Tasks begin in any order.
        let first = teller.began("a")[0];
        let runs = calls.iter().position(|(call, _)| *call == first).unwrap();
        let (_, runs) = calls.swap_remove(runs);
        calls[1].1.abort();
        calls[2].1.abort();
        eventually("they are gone", || server.stats().keyed == 2).await;
        // The one that runs, too: the next one begins when it has ended.
        runs.abort();
        eventually("the next one runs", || teller.began("a").len() == 2).await;
        teller.gate.add_permits(5);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        let dropped = teller.log().contains(&Entry::Dropped("a".to_owned(), first));
        let began = teller.began("a").len();
        assert!(dropped && began == 3 && teller.overlap().1 == 1, "{:?}", teller.log());
        assert_eq!((server.stats().counts.cancelled, server.stats().keyed), (3, 0));
    });
}

#[test]
fn a_deadline_that_passes_behind_a_key_is_kept() {
    scenario(async |place| {
        let teller = Teller::new();
        let server = place.serve(BankServer::new(teller.clone())).await;
        let bank = client(&place).await;
        let first = tokio::spawn(bank.audit("a".to_owned(), 0).timeout(secs(50)));
        eventually("it runs", || teller.began("a").len() == 1).await;
        let late = bank.audit("a".to_owned(), 1).timeout(millis(100)).await.unwrap_err();
        assert_eq!(late.code(), Some(Code::DeadlineExceeded));
        // In doubt a call lives.
        let doubt = server.stats().clock_uncertainty.unwrap_or_default();
        tokio::time::sleep(millis(100) + 2 * doubt).await;
        teller.gate.add_permits(2);
        assert_eq!(first.await.unwrap(), Ok(0));
        assert_eq!(bank.audit("a".to_owned(), 2).await, Ok(2), "{:?}", teller.log());
        assert_eq!(teller.began("a"), [0, 2]);
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

/// Keys whose handlers do not end are cut off when their partitions go to another server, which
/// begins them only then.
#[test]
fn a_key_that_moves_runs_on_one_server_at_a_time() {
    scenario(async |place| {
        let teller = Teller::new();
        let builder = || {
            let builder = place.server().set("KRPC_RELEASE_TIMEOUT", "200ms");
            builder.serve(BankServer::new(teller.clone()))
        };
        let first = start(builder()).await;
        let bank = client(&place).await;
        let calls = (0..40_u64).map(|call| {
            let account = format!("account {}", call % 20);
            tokio::spawn(bank.audit(account, call / 20).timeout(secs(50)))
        });
        let calls: Vec<_> = calls.collect();
        eventually("one of each key runs", || first.stats().running == 20).await;
        let second = builder().start().await.unwrap();
        settled(&[&first, &second]).await;
        eventually("they run again", || {
            first.stats().running + second.stats().running == 20 && second.stats().running > 0
        })
        .await;
        teller.gate.add_permits(100);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!(teller.overlap().1, 1);
        let dropped = teller.log().iter().filter(|it| matches!(it, Entry::Dropped(..))).count();
        assert!(dropped > 0, "those of the partitions that moved");
    });
}
