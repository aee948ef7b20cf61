//! What a stranger writes once more.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, future::join_all, stream};
use krpc::{prelude::*, seal::Seal};
use krpc_core::{
    transport::Topic,
    wire::packet::{Addresses, Header},
};

use super::{
    SERVICE, Scene, TOPICS, key,
    kinds::{self, DELAYED, Kinds, LAST},
};
use crate::support::{Backend, Place, count, eventually, scenario, stranger::Stranger};

/// More packets than the window over sequences covers.
const CALLS: u64 = match crate::BACKEND {
    Backend::Memory => 2_000,
    _ => 1_000,
};

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

#[test]
fn copies_of_all_topics_are_refused_in_their_place() {
    scenario(async |place| {
        let scene = Scene::new(&place, Seal::new().encrypt(key())).await;
        let kinds = Kinds::make(&scene).await;
        let delayed = kinds::delay(&scene).await;
        // What servers said before the channel began to read is news to it, once.
        for (topic, partition, value) in scene.written(Topic::Replies) {
            scene.write(topic, partition, &value);
        }
        scene.stranger.flush();
        assert_eq!(scene.work.quick(LAST).await, Ok(LAST));
        let (before, mut copies) = (scene.dropped(), (0, 0));
        let mut letters = 0;
        for topic in TOPICS {
            for (topic, partition, value) in scene.written(topic) {
                scene.write(topic, partition, &value);
                scene.write(topic, partition, &value);
                match topic {
                    Topic::Calls | Topic::Cancels | Topic::Delayed => copies.0 += 2,
                    Topic::Replies | Topic::Results => copies.1 += 2,
                    Topic::Dead => letters += 2,
                }
            }
        }
        scene.stranger.flush();
        scene.until_dropped(before, copies).await;
        assert_eq!(scene.channel.dead_letters(SERVICE).list().await.unwrap().len(), 1);
        scene.until_dropped(before, (copies.0, copies.1 + letters)).await;
        assert_eq!(scene.work.attach(&delayed).await, Ok(DELAYED));
        kinds.end(&scene).await;
        scene.assert_executed(LAST + 1);
    });
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

/// The copies are read after the reading of a class was ended, for it held enough, and begun again.
#[test]
fn a_copy_of_a_delayed_call_is_refused_when_its_class_is_read_on() {
    const LARGE: u64 = 8;
    // All in the first class, and as late as that goes.
    const DUE: Duration = Duration::from_millis(4_400);
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    scenario(async |place| {
        let scene = Scene::new(&place, Seal::new().verify(key())).await;
        let stranger = Stranger::new(&place, "Echo");
        let delayed = || stranger.read(Topic::Delayed);
        // The topic is made first, for that takes its time.
        let _late = scene.echo.echo(String::new()).delay(DAY).enqueue().await.unwrap();
        eventually("it lies among the delayed ones", || delayed().len() == 1).await;
        let small = scene.echo.echo("once".to_owned()).delay(DUE).enqueue().await.unwrap();
        eventually("so does the one to be copied", || delayed().len() == 2).await;
        let (class, copy) = delayed().swap_remove(0);
        let text = "x".repeat(300_000);
        let large = |_| scene.echo.echo(text.clone()).delay(DUE).enqueue();
        let large = (0..LARGE).map(large);
        let large: Vec<_> = join_all(large).await.into_iter().map(Result::unwrap).collect();
        let bytes = || delayed().iter().map(|(_, value)| value.len()).sum::<usize>();
        let executed = || scene.server.stats().counts.executed;
        // On a busy machine some are late for that.
        eventually("so do the others", || bytes() > 2_400_000 || executed() > 0).await;
        stranger.write(Topic::Delayed, class, Some(&copy));
        stranger.flush();
        assert_eq!(scene.echo.attach(&small).await, Ok("once, again".to_owned()));
        for ticket in &large {
            assert!(scene.echo.attach(ticket).await.is_ok());
        }
        let dropped = || scene.server.stats().dropped;
        eventually("the copy is counted", || count(&dropped(), "replayed") == 1).await;
        assert_eq!(executed(), LARGE + 1);
    });
}
