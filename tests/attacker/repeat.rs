//! What a stranger writes once more.

use std::collections::BTreeSet;

use futures_util::{StreamExt, stream};
use krpc::{prelude::*, seal::Seal};
use krpc_core::{
    transport::Topic,
    wire::packet::{Addresses, Header},
};

use super::{Scene, key};
use crate::support::{Place, count, eventually, scenario};

/// More packets than the window over sequences covers.
const CALLS: u64 = 2_000;

/// What was recorded, and how much of it was written again.
#[derive(Default)]
struct Repeats {
    known: BTreeSet<(u8, u32, Vec<u8>)>,
    written: u64,
    /// Of packets of calls that hold more than a header.
    calls: u64,
    /// Of answers to the channel.
    replies: u64,
}

impl Repeats {
    /// Writes all that is new twice, to where it was.
    fn go_on(&mut self, scene: &Scene) {
        let recorded = scene.recorded(&[Topic::Calls, Topic::Replies]);
        let new: Vec<_> = recorded.difference(&self.known).cloned().collect();
        for record in &new {
            self.write(scene, record);
            self.write(scene, record);
        }
        self.known.extend(new);
    }

    fn write(&mut self, scene: &Scene, (topic, partition, value): &(u8, u32, Vec<u8>)) {
        let is_call = *topic == Topic::Calls as u8;
        let topic = if is_call { Topic::Calls } else { Topic::Replies };
        scene.write(topic, *partition, value);
        // What is sealed of a hello is 48 bytes at the most.
        let is_empty = value.len() - Header::len_of(value).unwrap() <= 48;
        let is_mine = Addresses::peek(value).unwrap().destination == scene.channel.instance();
        self.written += 1;
        self.calls += u64::from(is_call && !is_empty);
        self.replies += u64::from(is_mine);
    }
}

async fn repeat(place: &Place, seal: Seal) {
    let scene = Scene::new(place, seal).await;
    let mut repeats = Repeats::default();
    let calls = stream::iter(0..CALLS).map(|job| scene.work.quick(job).timeout(secs(50)));
    // One after the other as a rule, so that each has a packet of its own.
    let mut calls = calls.buffered(2).enumerate();
    while let Some((job, answer)) = calls.next().await {
        assert_eq!(answer, Ok(u64::try_from(job).unwrap()));
        if job % 10 == 0 {
            repeats.go_on(&scene);
        }
    }
    repeats.go_on(&scene);
    let all: Vec<_> = repeats.known.iter().cloned().collect();
    assert!(all.len() > usize::try_from(CALLS).unwrap(), "{}", all.len());
    all.iter().for_each(|record| repeats.write(&scene, record));
    let replayed = || count(&scene.server.stats().dropped, "replayed");
    eventually("each copy of a call is counted", || replayed() >= repeats.calls).await;
    assert_eq!(replayed(), repeats.calls);
    let refused = || count(&scene.channel.stats("Work").unwrap().dropped, "replayed");
    eventually("each copy of a reply is counted", || refused() >= repeats.replies).await;
    println!("figure: {} records written again, {} of calls", repeats.written, repeats.calls);
    scene.assert_executed(CALLS);
}

#[test]
fn every_packet_that_is_written_again_is_refused() {
    scenario(async |place| repeat(&place, Seal::new().encrypt(key())).await);
    scenario(async |place| repeat(&place, Seal::new().verify(key())).await);
}

/// What is left to a stranger, as docs/GUARANTEES.md says it.
#[test]
fn after_a_takeover_a_copy_of_a_committed_call_runs_once_more_at_most() {
    const FEW: u64 = 10;
    scenario(async |place| {
        let seal = Seal::new().encrypt(key());
        let first = Scene::new(&place, seal.clone()).await;
        for job in 0..FEW {
            assert_eq!(first.work.quick(job).timeout(secs(50)).await, Ok(job));
        }
        let mut repeats = Repeats::default();
        let recorded = first.recorded(&[Topic::Calls]);
        let Scene { server, worker, .. } = first;
        server.shutdown().await.unwrap();
        assert_eq!(worker.log.started(), 10);
        let next = Scene::new(&place, seal).await;
        for _ in 0..3 {
            recorded.iter().for_each(|record| repeats.write(&next, record));
        }
        let known = || count(&next.server.stats().dropped, "replayed");
        eventually("the second and the third copies are counted", || known() == 2 * FEW).await;
        next.assert_executed(FEW);
    });
}
