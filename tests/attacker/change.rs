//! What a stranger changes and cuts.

use krpc_core::{transport::Topic, wire::packet::Header};

use super::{Scene, TOGETHER, Written, is_for, under_each_seal};
use crate::support::count;

/// The largest records of calls and of replies.
async fn record(scene: &Scene) -> (Written, Written) {
    scene.call_together().await;
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

#[test]
fn each_bit_that_is_flipped_and_each_cut_is_refused_and_counted() {
    under_each_seal(async |place, seal| {
        let scene = Scene::new(&place, seal).await;
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
    under_each_seal(async |place, seal| {
        let scene = Scene::new(&place, seal).await;
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
