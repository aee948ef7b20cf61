//! Cancels that cannot be told yet, slow brokers, and successors that know nothing.

use super::*;
use crate::sealing::Proof;

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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Servers are killed, give their partitions back, lose them and get them again, while records
    /// are refused.
    #[test]
    fn nothing_is_lost_whatever_happens(
        dues in prop::collection::vec((0_u64..40_000, 0_u32..PARTITIONS), 1..60),
        together in 1_usize..6,
        refuses in prop::option::of(2_u64..9),
        faults in prop::collection::vec((1_u64..6_000, 0_u8..4, any::<bool>()), 0..8),
    ) {
        let mut world = World::new(&[0, 1]);
        world.refuses = refuses;
        let hour = Duration::from_secs(3_600);
        let calls: Vec<_> = (0..).zip(&dues).collect();
        for calls in calls.chunks(together) {
            let frames = calls.iter().map(|(call, (due, _))| {
                due_at(*call, NOW + Duration::from_millis(*due), hour, Terms::default())
            });
            let frames: Vec<_> = frames.collect();
            world.send(Topic::Calls, calls[0].1.1, InstanceId::ANY, &frames);
        }
        for (after, fault, commits) in &faults {
            world.wait(Duration::from_millis(*after));
            if *commits {
                world.commit();
            }
            let owned = world.owned.clone();
            match fault {
                0 => world.kill(),
                1 => {
                    world.server.handle_lost(&owned, world.now);
                    world.assign();
                }
                2 => {
                    world.server.handle_lost(&owned[..1], world.now);
                    world.wait(SECOND / 5);
                    world.assign();
                }
                _ => {
                    world.server.release(&owned, world.now);
                    world.wait(SECOND / 5);
                    for point in world.server.take_released(&owned, world.now) {
                        world.committed.insert(point.partition, (point.offset, point.metadata));
                    }
                    world.assign();
                }
            }
        }
        world.wait((NOW + Duration::from_secs(60)).saturating_since(world.now));
        let mut first: HashSet<u64> = HashSet::new();
        for (call, at) in &world.executed {
            first.insert(*call);
            let due = dues[usize::try_from(*call).unwrap()].0;
            prop_assert!(*at >= NOW + Duration::from_millis(due));
        }
        prop_assert_eq!(first.len(), dues.len(), "each is executed");
        prop_assert!(world.server.next_timeout().is_none_or(|at| at > world.now));
        world.commit();
        prop_assert_eq!(world.server.unfinished(), 0);
        prop_assert!(world.server.delays.under_way.is_empty());
        prop_assert!(world.server.delays.waiting.is_empty());
        prop_assert_eq!(world.server.delays.bytes_under_way, 0);
    }
}

#[test]
fn a_topic_that_is_refused_is_waited_for_and_then_told() {
    let mut machine = server(1, 8);
    let id = PartitionId { service: 0, partition: 0 };
    machine.handle_assigned(&[(id, None)], NOW);
    let mut world = World::new(&[0]);
    world.call(0, &due_in(1, 300 * SECOND, Terms::default()));
    let payload = world.logs[&(Topic::Calls, 0)][0].1.clone();
    let record = Record {
        topic: Topic::Calls,
        partition: id,
        offset: 0,
        appended: None,
        payload,
        proof: Proof::None,
    };
    machine.handle_record(&record, NOW);
    let (mut now, mut asked) = (NOW, 0);
    while machine.unfinished() > 0 && now < NOW + 200 * SECOND {
        now = now + SECOND;
        machine.handle_timeout(now);
        while let Some((service, topic)) = machine.poll_open() {
            asked += u32::from(topic == Topic::Delayed);
            let refused = SetupError::Transport("refused".to_owned());
            machine.handle_opened(service, topic, &Err(refused), now);
        }
        while let Some(transmit) = machine.poll_transmit(now) {
            world.note_answers(&transmit.payload);
            let delivery = Delivery::Stored { appended: None, offset: None };
            machine.handle_delivered(transmit.token, &delivery, now);
        }
    }
    assert_eq!(world.answers, [(1, Some(Code::FailedPrecondition))]);
    assert!(asked > 20, "asked {asked} times");
}

/// As where the rights to the topic were taken away after it was opened.
#[test]
fn a_topic_that_may_not_be_written_to_is_tried_for_a_while_and_then_told() {
    let mut world = World::new(&[0]);
    world.call(0, &due_in(1, 300 * SECOND, Terms::default()));
    let no_answer = Terms { answer: Some(Routes::new()), ..Terms::default() };
    world.call(0, &due_in(2, 40 * SECOND, no_answer));
    world.refused.insert(Topic::Delayed);
    world.wait(30 * SECOND);
    assert_eq!((&world.answers[..], world.server.unfinished()), (&[][..], 2));
    world.wait(40 * SECOND);
    assert_eq!(world.answers, [(1, Some(Code::FailedPrecondition))]);
    assert_eq!(world.ids(), [2], "in memory, when it was due");
    world.wait(SECOND);
    assert_eq!(world.server.unfinished(), 0);
}

/// As when nobody was there for longer than a group's offsets are kept.
#[test]
fn what_waits_is_found_by_a_group_that_has_forgotten_all() {
    let mut world = World::new(&[0, 1]);
    world.call(0, &due_in(1, 60 * SECOND, Terms::default()));
    world.wait(SECOND);
    world.committed.clear();
    world.logs.remove(&(Topic::Calls, 0));
    world.kill();
    world.wait(60 * SECOND);
    assert_eq!(world.ids(), [1]);
}

/// Who vouches for a packet, if that caller does for its own.
pub(super) fn proof(caller: Option<&Asker>, payload: &Bytes) -> Proof {
    let Some(caller) = caller else { return Proof::None };
    match Packet::open_any(payload) {
        Ok(packet) if packet.header.sender == CALLER => Proof::Asker(Box::new(caller.clone())),
        _ => Proof::Key,
    }
}

/// It waits for longer than its caller is remembered.
#[test]
fn who_asked_is_not_forgotten_on_the_way() {
    let asker = |key| Asker { caller: Some("billing".into()), key, offer: Some([7; 32]) };
    let mut world = World { caller: Some(asker(1)), ..World::new(&[0, 1]) };
    world.server.permits.allow("billing", ["*"]).unwrap();
    world.call(1, &due_in(1, 30 * SECOND, Terms::default()));
    for until in [1, 12, 25, 31] {
        world.wait((NOW + until * SECOND).saturating_since(world.now));
        (2..70_000).for_each(|key| _ = world.server.outbox.askers.number(&asker(key)));
    }
    assert_eq!((world.ids(), &world.answers[..]), (vec![1], &[(1, None)][..]));
    let logs = world.logs.iter().filter(|((topic, _), _)| *topic != Topic::Replies);
    let packets = logs.flat_map(|(_, log)| log).map(|(_, it)| Packet::open_any(it).unwrap());
    let moved: Vec<_> = packets.filter(|packet| packet.header.sender != CALLER).collect();
    assert!(moved.len() > 2, "{moved:?}");
    for packet in moved {
        for frame in packet.frames() {
            let Ok(Frame::Request(request)) = frame else { panic!("{frame:?}") };
            let asked = request.terms.unwrap().asker.unwrap();
            assert_eq!((asked.caller.as_deref(), asked.key), (Some("billing"), 1));
            assert_eq!(asked.offer, Some([7; 32]));
        }
    }
}
