//! What a stranger moves, from each topic to each other.

use krpc::{InstanceId, seal::Seal};
use krpc_core::transport::Topic;

use super::{
    SERVICE, Scene, TOPICS, Written, is_for,
    kinds::{self, DELAYED, Kinds, LAST},
    serve, under_each_seal,
};
use crate::support::{Place, count, eventually_ok, place::PARTITIONS, stranger::Stranger, total};

/// Partitions of replies, of which the channel reads one.
const REPLIES: u32 = 2;

/// How many records were written that do not open, by who reads them.
#[derive(Default)]
struct Moved {
    written: u64,
    server: u64,
    /// Of those, what its successor reads, too: cancels, and what is behind a delayed call.
    again: u64,
    /// To the channel, but for dead letters.
    channel: u64,
    letters: u64,
}

/// Writes all that was recorded to wherever it was not.
fn move_all(scene: &Scene, sum: &Stranger, recorded: &[Written], results: u32) -> Moved {
    let looks_at = [Some(scene.channel.instance()), Some(InstanceId::ANY)];
    let mine = scene.reply_partition();
    let delayed = recorded.iter().filter(|it| it.0 == Topic::Delayed);
    let late = delayed.map(|it| it.1).max().unwrap();
    let mut moved = Moved::default();
    for topic in TOPICS {
        for partition in 0..scene.place.config().partitions(topic) {
            for (from, at, packet) in recorded {
                if (*from, *at) == (topic, partition) {
                    continue;
                }
                scene.write(topic, partition, packet);
                moved.written += 1;
                let again = topic == Topic::Cancels || (topic, partition) == (Topic::Delayed, late);
                moved.again += u64::from(again);
                match topic {
                    Topic::Calls | Topic::Delayed | Topic::Cancels => moved.server += 1,
                    Topic::Dead => moved.letters += 1,
                    Topic::Results => moved.channel += u64::from(partition == results),
                    // What is for others is not looked at.
                    Topic::Replies if !looks_at.contains(&is_for(packet)) => {}
                    Topic::Replies => moved.channel += u64::from(partition == mine),
                }
            }
        }
    }
    for partition in 0..PARTITIONS {
        for (.., packet) in recorded {
            sum.write(Topic::Calls, partition, Some(packet));
            moved.server += 1;
            moved.written += 1;
        }
    }
    scene.stranger.flush();
    sum.flush();
    moved
}

async fn move_everything(place: Place, seal: Seal) {
    let mut scene = Scene::with_replies(&place, seal.clone(), REPLIES).await;
    let kinds = Kinds::make(&scene).await;
    let delayed = kinds::delay(&scene).await;
    let recorded: Vec<_> = TOPICS.into_iter().flat_map(|topic| scene.written(topic)).collect();
    for topic in TOPICS {
        assert!(recorded.iter().any(|(from, ..)| *from == topic), "nothing of {topic:?}");
    }
    let from = |topic| move |it: &&Written| it.0 == topic;
    let replies = (0..REPLIES).filter(|partition| {
        recorded.iter().filter(from(Topic::Replies)).any(|it| it.1 == *partition)
    });
    assert_eq!(replies.count(), 2, "announcements are in each partition of replies");
    let results = recorded.iter().find(from(Topic::Results)).unwrap().1;

    let before = scene.dropped();
    let moved = move_all(&scene, &Stranger::new(&place, "Sum"), &recorded, results);
    scene.until_dropped(before, (moved.server, moved.channel)).await;
    // Whoever looks at the letters reads all that lies there.
    let letters = scene.channel.dead_letters(SERVICE).list().await.unwrap();
    let methods: Vec<_> = letters.iter().map(|letter| letter.method.as_str()).collect();
    assert_eq!(methods, ["Work/breaks"]);
    let all = (moved.server, moved.channel + moved.letters);
    scene.until_dropped(before, all).await;
    let (server, channel) = (scene.server.stats(), scene.channel.stats(SERVICE).unwrap());
    for cause in ["bad_seal", "unknown_key"] {
        assert!(count(&server.dropped, cause) > 0, "{cause}: {:?}", server.dropped);
    }
    assert!(count(&channel.dropped, "bad_seal") > 0, "{:?}", channel.dropped);
    assert_eq!(scene.work.attach(&delayed).await, Ok(DELAYED));
    kinds.end(&scene).await;
    scene.assert_executed(LAST);

    // Who comes later reads on behind what is finished.
    scene.server.shutdown().await.unwrap();
    scene.server = serve(&place, &seal, REPLIES, &scene.worker).await;
    let ticket = scene.work.quick(LAST).enqueue().await.unwrap();
    assert_eq!(scene.work.attach(&ticket).await, Ok(LAST));
    eventually_ok(|| match total(&scene.server.stats().dropped) {
        dropped if dropped == moved.again => Ok(()),
        dropped => Err(format!("{dropped} dropped, not {}", moved.again)),
    })
    .await;
    scene.assert_executed(LAST + 1);
    let (records, written) = (recorded.len(), moved.written);
    println!("figure: {records} records written {written} times to where they were not");
}

#[test]
fn packets_that_are_moved_do_not_open() {
    under_each_seal(move_everything);
}
