//! Calls of a key stay in order, whoever is killed.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use krpc::prelude::*;

use crate::{
    delivery::{DeliveryClient, Entry, entries, micros, server},
    work::{Site, block_on, eventually},
};

const KEYS: u64 = 200;
const CALLS: u64 = 500;

/// Calls of one key under way at once: so many wait for each other at their server.
const UNDER_WAY: usize = 16;

#[test]
fn calls_of_a_key_stay_in_order_through_kills() {
    let site = Site::new("keys");
    let servers = [server(&site), server(&site), server(&site)];
    let killed = block_on(async {
        let channel = site.place.channel().await;
        channel.open("guarantee.Delivery").await.unwrap();
        let client = DeliveryClient::new(&channel);
        let done = Arc::new(AtomicUsize::new(0));
        let keys = (0..KEYS).map(|key| tokio::spawn(book(client.clone(), key, Arc::clone(&done))));
        let keys: Vec<_> = keys.collect();
        let all = usize::try_from(KEYS * CALLS).unwrap();
        let mut killed = HashMap::new();
        let mut restarted = Vec::new();
        for (life, part) in [(0, 4), (1, 2)] {
            let enough = || done.load(Ordering::Relaxed) >= all / part;
            eventually("calls are done", secs(120), enough).await;
            servers[life].kill9().unwrap();
            killed.insert(u32::try_from(life).unwrap(), micros());
            restarted.push(server(&site));
        }
        for key in keys {
            key.await.unwrap();
        }
        killed
    });
    let entries = entries(&site);
    let mut of = HashMap::<u64, Vec<Entry>>::new();
    entries.iter().for_each(|entry| of.entry(entry.key).or_default().push(*entry));
    assert_eq!(of.len() as u64, KEYS);
    let begun: usize = of.iter().map(|(key, log)| check(*key, log, &killed)).sum();
    let repeated = begun as u64 - KEYS * CALLS;
    println!("figure: {} calls of {KEYS} keys, {repeated} repeated", KEYS * CALLS);
}

/// Makes the calls of a key, in order, several at once.
async fn book(client: DeliveryClient, key: u64, done: Arc<AtomicUsize>) {
    let mut under_way = VecDeque::new();
    for number in 0..CALLS {
        // Polled once it is on its way, in this order.
        let mut call = Box::pin(client.book(key, number).timeout(secs(120)).into_future());
        assert!(poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_pending())).await);
        under_way.push_back(call);
        if under_way.len() == UNDER_WAY {
            under_way.pop_front().unwrap().await.unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        }
    }
    for call in under_way {
        call.await.unwrap();
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many executions there were of a key. None began while another one ran, none before the one
/// in front of it, and there were all.
fn check(key: u64, log: &[Entry], killed: &HashMap<u32, u64>) -> usize {
    let (mut running, mut last): (Option<Entry>, Option<Entry>) = (None, None);
    let mut begun = 0;
    for entry in log {
        if !entry.begins {
            let began = running
                .take()
                .filter(|began| (began.life, began.number) == (entry.life, entry.number));
            assert!(began.is_some(), "key {key}: {entry:?} did not begin");
            continue;
        }
        if let Some(open) = running.replace(*entry) {
            let dead = killed.get(&open.life).is_some_and(|at| *at <= entry.at);
            assert!(dead, "key {key}: {entry:?} began while {open:?} ran");
        }
        let next = last.map_or(0, |last| last.number + 1);
        let repeats = last.is_some_and(|last| entry.life != last.life && entry.number < next);
        assert!(entry.number == next || repeats, "key {key}: {entry:?} after {last:?}");
        last = Some(*entry);
        begun += 1;
    }
    let ended = log.iter().filter(|entry| !entry.begins).map(|entry| entry.number);
    let ended: HashSet<_> = ended.collect();
    assert_eq!(ended.len() as u64, CALLS, "key {key}: each of its calls was executed to its end");
    begun
}
