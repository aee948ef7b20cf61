//! Calls that nobody waits for end, whoever is killed.

use std::collections::{HashMap, HashSet};

use futures_util::future::join_all;
use krpc::prelude::*;

use crate::{
    delivery::{DeliveryClient, entries, server},
    work::{Site, block_on, eventually},
};

const CALLS: u64 = 1_000;

#[test]
fn retries_survive_their_server_and_block_no_commit() {
    let site = Site::new("one-way");
    let (first, second) = (server(&site), server(&site));
    block_on(async {
        let client = DeliveryClient::new(&site.place.channel().await);
        let stored = join_all((0..CALLS).map(|number| client.post(number))).await;
        assert!(stored.into_iter().all(|result| result.is_ok()));
        // Nobody knows of these calls any more but the topic and the servers.
        drop(client);
        let began = || begun(&site, |attempt| attempt >= 2) > 0;
        eventually("some have failed", secs(30), began).await;
        first.kill9().unwrap();
        let ended = || done(&site).len() as u64 == CALLS;
        eventually("all have succeeded", secs(60), ended).await;
        // In good order: what it has not committed, the next one would find.
        second.terminate().unwrap();
        assert!(second.wait(secs(30)).is_some_and(|status| status.success()));
        let before = entries(&site).len();
        let third = server(&site);
        let client = DeliveryClient::new(&site.place.channel().await);
        client.book(0, CALLS).await.unwrap();
        third.terminate().unwrap();
        assert!(third.wait(secs(30)).is_some_and(|status| status.success()));
        assert_eq!(entries(&site).len(), before + 2, "nothing was left for it");
    });
    let mut executions = HashMap::<u64, usize>::new();
    let entries = entries(&site);
    let begins = entries.iter().filter(|entry| entry.begins && entry.number < CALLS);
    begins.for_each(|entry| *executions.entry(entry.number).or_default() += 1);
    let most = executions.values().max().unwrap();
    let all: usize = executions.values().sum();
    println!("figure: {CALLS} one-way calls, {all} executions, at most {most} of one");
    // One that the killed server had not begun counts as begun all the same: nobody can tell.
    assert!(executions.values().all(|times| (2..=6).contains(times)), "{executions:?}");
}

fn begun(site: &Site, attempt: impl Fn(u64) -> bool) -> usize {
    entries(site).iter().filter(|entry| entry.begins && attempt(entry.key)).count()
}

fn done(site: &Site) -> HashSet<u64> {
    let ends = entries(site).into_iter().filter(|entry| !entry.begins);
    ends.map(|entry| entry.number).collect()
}
