//! What a stranger makes a server write.

use krpc::seal::Seal;
use krpc_core::{
    ids::{CallId, InstanceId},
    transport::Topic,
    wire::{
        frame::Cancel,
        packet::{Header, Route},
    },
};

use super::{Scene, is_for, key, kinds::Kinds};
use crate::support::{eventually, scenario};

/// Records in each topic.
const RECORDS: u64 = 1_000;

/// What the server may write meanwhile of its own accord: what it owns, and the answers.
const FEW: usize = 20;

/// An unsealed packet of a sender of its own, who can be told.
fn garbage(number: u64) -> Vec<u8> {
    let mut packet = Vec::new();
    let sender = InstanceId::from_bytes((u128::from(number) << 64 | 0xbad).to_be_bytes());
    let reply_to = [Route::Partition(0)].into_iter().collect();
    Header { sender, destination: InstanceId::ANY, sequence: 1, reply_to }.encode(&mut packet);
    Cancel { call: CallId(number) }.encode(&mut packet).unwrap();
    packet
}

/// Writes garbage into a topic, over all partitions that there are.
fn flood(scene: &Scene, topic: Topic, first: u64) {
    let partitions = u64::from(scene.place.config().partitions(topic));
    for number in first..first + RECORDS {
        scene.write(topic, u32::try_from(number % partitions).unwrap(), &garbage(number));
    }
    scene.stranger.flush();
}

/// Answers to strangers.
fn told(scene: &Scene) -> usize {
    let me = scene.channel.instance();
    let replies = scene.stranger.read(Topic::Replies);
    let told = |it: &&(u32, Vec<u8>)| ![Some(me), Some(InstanceId::ANY)].contains(&is_for(&it.1));
    replies.iter().filter(told).count()
}

#[test]
fn only_senders_of_calls_are_told_that_they_are_refused() {
    const QUIET: [Topic; 4] = [Topic::Cancels, Topic::Delayed, Topic::Results, Topic::Dead];
    scenario(async |place| {
        let scene = Scene::new(&place, Seal::new().encrypt(key())).await;
        let _kinds = Kinds::make(&scene).await;
        let written = |topic| scene.stranger.read(topic).len();
        let (before, lay) = (scene.dropped().0, QUIET.map(written));
        let (calls, replies) = (written(Topic::Calls), written(Topic::Replies));
        for (first, topic) in (0..).step_by(1_000).zip(QUIET) {
            flood(&scene, topic, first);
        }
        // It reads two of them.
        let refused = || scene.dropped().0 - before;
        eventually("all is refused", || refused() == 2 * RECORDS).await;
        // What it wrote because of them would be before this answer.
        assert_eq!(scene.work.quick(100).await, Ok(100));
        assert_eq!(told(&scene), 0);
        assert!(written(Topic::Replies) < replies + FEW);
        assert_eq!(written(Topic::Calls), calls + 1);
        let all = usize::try_from(RECORDS).unwrap();
        assert_eq!(QUIET.map(written), lay.map(|lay| lay + all));

        // Whoever writes calls is told, or this would prove nothing. Not all are.
        flood(&scene, Topic::Calls, 10 * RECORDS);
        eventually("all is refused", || refused() == 3 * RECORDS).await;
        eventually("some are told", || told(&scene) > 0).await;
        assert!(told(&scene) < all / 2);
    });
}
