//! Cancels that cannot be told yet, slow brokers, and successors that know nothing.

use super::*;

fn ticket() -> Terms {
    Terms { answer: Some(Routes::from_vec(vec![Route::Results(0)])), ..Terms::default() }
}

/// It is not written as one that is due now, to be told by whoever takes it: if that server could
/// not read the cancels, it would execute it.
#[test]
fn who_holds_the_ticket_of_a_cancelled_call_is_told_before_it_is_due() {
    let mut world = World::new(&[0, 1]);
    for (call, delay) in [(1, 1), (2, 30)] {
        world.call(0, &due_in(call, delay * SECOND, ticket()));
    }
    world.wait(SECOND / 2);
    world.send(Topic::Cancels, 0, CALLER, &[cancel(1), cancel(2)]);
    world.wait(20 * SECOND);
    assert_eq!(world.ids(), [0; 0]);
    world.answers.sort_unstable_by_key(|(call, _)| *call);
    assert_eq!(world.answers, [(1, Some(Code::Cancelled)), (2, Some(Code::Cancelled))]);
    assert_eq!(world.logs[&(Topic::Calls, 0)].len(), 2);
    assert_eq!(world.server.unfinished(), 0);
}

/// What waits of a class is no call of partition 0: counted as one it would end the release too
/// early.
#[test]
fn what_waits_of_the_classes_is_not_counted_as_a_partitions() {
    let mut world = World::new(&[0, 1]);
    world.call(0, &due_in(2, 30 * SECOND, ticket()));
    world.silent.insert(Topic::Results);
    world.wait(SECOND / 2);
    world.send(Topic::Cancels, 0, CALLER, &[cancel(2)]);
    world.wait(20 * SECOND);
    assert_eq!(world.server.delays.waiting.len(), 1, "until it can be told");
    assert_eq!(world.server.delays.forget(PartitionId { service: 0, partition: 0 }), 0);
    assert!(world.server.delays.waiting.is_empty());
}

#[test]
fn what_waits_is_not_in_memory_though_it_is_long_due_and_the_broker_slow() {
    let mut world = World::new(&[0, 1]);
    let large = vec![0; 256 * 1024];
    for call in 0..120 {
        let Frame::Request(request) = due_in(call, 60 * SECOND, Terms::default()) else { return };
        world.call(0, &Frame::Request(Request { value: &large, ..request }));
    }
    world.wait(SECOND);
    world.silent.insert(Topic::Delayed);
    world.wait(30 * SECOND);
    let most = QUEUED_BYTES + 10 * large.len();
    assert!((QUEUED_BYTES..most).contains(&world.server.delays.bytes_under_way));
    world.silent.clear();
    world.wait(30 * SECOND);
    assert_eq!(world.ids().len(), 120);
    assert_eq!(world.server.delays.bytes_under_way, 0);
}

/// Who comes next is not to take what was committed for the word that there are none.
#[test]
fn what_waits_is_found_by_the_successor_of_one_that_had_not_found_out() {
    let forgets: [fn(&mut World); 2] = [
        |world| world.committed.clear(),
        |world| {
            // As a tool leaves it that sets offsets.
            let first = world.committed.get_mut(&PartitionId { service: 0, partition: 0 });
            first.unwrap().1.clear();
        },
    ];
    for forget in forgets {
        let mut world = World::new(&[0, 1]);
        world.call(0, &due_in(1, 60 * SECOND, Terms::default()));
        world.wait(SECOND);
        world.commit();
        forget(&mut world);
        world.logs.remove(&(Topic::Calls, 0));
        world.kill();
        world.commit();
        world.kill();
        world.wait(60 * SECOND);
        assert_eq!(world.ids(), [1]);
    }
}
