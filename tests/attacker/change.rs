//! What a stranger changes, moves, cuts and repeats.

use std::iter;

use futures_util::future::join_all;
use krpc::{prelude::*, seal::Seal};
use krpc_core::{
    ids::InstanceId,
    transport::Topic,
    wire::packet::{Addresses, Header},
};

use super::{Scene, Written, key};
use crate::support::{count, place::PARTITIONS, scenario};

/// Calls at the same time, so that packets are large enough to be compressed.
const TOGETHER: u64 = 20;

fn seals() -> [Seal; 4] {
    let (encrypted, verified) = (Seal::new().encrypt(key()), Seal::new().verify(key()));
    [encrypted.clone(), verified.clone(), encrypted.compress(3), verified.compress(3)]
}

fn under_each_seal(body: impl AsyncFn(Scene)) {
    for seal in seals() {
        scenario(async |place| {
            let seal = seal.clone();
            body(Scene::new(&place, seal).await).await;
        });
    }
}

/// Calls whose numbers begin at 0, all together; then the largest records of calls and of replies.
async fn record(scene: &Scene) -> (Written, Written) {
    let calls = join_all((0..TOGETHER).map(|job| scene.work.quick(job).timeout(secs(50)))).await;
    assert!(iter::zip(0..TOGETHER, calls).all(|(job, answer)| answer == Ok(job)));
    let largest = |topic| {
        let written = scene.written(topic).into_iter();
        let own = written.filter(|(.., value)| is_for(value) != Some(scene.channel.instance()));
        let all = scene.written(topic).into_iter();
        let mine = all.filter(|(.., value)| is_for(value) == Some(scene.channel.instance()));
        match topic {
            Topic::Calls => own.max_by_key(|(.., value)| value.len()).unwrap(),
            _ => mine.max_by_key(|(.., value)| value.len()).unwrap(),
        }
    };
    (largest(Topic::Calls), largest(Topic::Replies))
}

fn is_for(packet: &[u8]) -> Option<InstanceId> {
    Addresses::peek(packet).ok().map(|addresses| addresses.destination)
}

#[test]
fn each_bit_that_is_flipped_and_each_cut_is_refused_and_counted() {
    under_each_seal(async |scene| {
        let (call, reply) = record(&scene).await;
        for (topic, partition, packet) in [&call, &reply] {
            let before = scene.dropped();
            let bits = packet.len() * 8;
            for bit in 0..bits {
                let mut damaged = packet.to_vec();
                damaged[bit / 8] ^= 1 << (bit % 8);
                scene.write(*topic, *partition, &damaged);
            }
            for end in 0..packet.len() {
                scene.write(*topic, *partition, &packet[..end]);
            }
            let mut longer = packet.to_vec();
            longer.push(0);
            scene.write(*topic, *partition, &longer);
            let all = u64::try_from(bits + packet.len() + 1).unwrap();
            // An answer whose destination was changed is for somebody else.
            let more = if *topic == Topic::Calls { (all, 0) } else { (0, all - 16 * 8) };
            scene.until_dropped(before, more).await;
        }
        assert!(count(&scene.server.stats().dropped, "bad_seal") > 500);
        scene.assert_executed(TOGETHER);
    });
}

#[test]
fn headers_that_are_swapped_do_not_open() {
    under_each_seal(async |scene| {
        record(&scene).await;
        scene.work.quick(TOGETHER).await.unwrap();
        for topic in [Topic::Calls, Topic::Replies] {
            let (before, mut swapped) = (scene.dropped(), 0);
            let written = scene.written(topic);
            for (_, partition, one) in &written {
                for (_, _, other) in &written {
                    let (head, body) =
                        (Header::len_of(one).unwrap(), Header::len_of(other).unwrap());
                    if one == other {
                        continue;
                    }
                    scene.write(topic, *partition, &[&one[..head], &other[body..]].concat());
                    swapped += 1;
                }
            }
            assert!(swapped > 2);
            let more = if topic == Topic::Calls { (swapped, 0) } else { (0, swapped) };
            scene.until_dropped(before, more).await;
        }
        scene.assert_executed(TOGETHER + 1);
    });
}

#[test]
fn packets_that_are_moved_do_not_open() {
    under_each_seal(async |scene| {
        record(&scene).await;
        // Now cancels and results are read, too.
        let ticket = scene.work.quick(TOGETHER).enqueue().await.unwrap();
        assert_eq!(scene.work.attach(&ticket).await, Ok(TOGETHER));
        let topics = [Topic::Calls, Topic::Replies, Topic::Results];
        let (before, (mut server, mut channel)) = (scene.dropped(), (0, 0));
        let written: Vec<_> = topics.into_iter().flat_map(|it| scene.written(it)).collect();
        for (from, partition, packet) in &written {
            for other in 0..PARTITIONS {
                if (*from, *partition) != (Topic::Calls, other) {
                    scene.write(Topic::Calls, other, packet);
                    server += 1;
                }
                scene.broker.inject("Sum", Topic::Calls, other, packet).unwrap();
                server += 1;
            }
            scene.write(Topic::Cancels, 0, packet);
            server += 1;
            if *from != Topic::Replies {
                scene.write(Topic::Replies, 0, packet);
                channel += 1;
            }
        }
        scene.until_dropped(before, (server, channel)).await;
        assert!(count(&scene.server.stats().dropped, "bad_seal") > 0);
        assert!(count(&scene.server.stats().dropped, "unknown_key") > 0);
        scene.assert_executed(TOGETHER + 1);
    });
}
