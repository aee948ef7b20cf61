//! Calls whose answer is fetched with a ticket: they wait for what they need, are answered into the
//! results, and are cancelled from a topic of its own.

use super::*;
use crate::error::SetupError;
use crate::sealing::Proof;

const LATER: Duration = Duration::from_secs(5);

fn enqueued(call: u64) -> Frame<'static> {
    let answer = Some(vec![Route::Results(1)].into());
    let frame = on_terms(call, Terms { answer, ..Terms::default() });
    let Frame::Request(request) = frame else { unreachable!() };
    Frame::Request(Request { budget: Duration::from_secs(3600), ..request })
}

/// A record of the topic of cancels, as any process writes it.
fn cancels(offset: i64, calls: &[u64]) -> Record {
    let mut out = Vec::new();
    let sender = InstanceId::from_bytes([9; 16]);
    Header { sender, destination: CALLER, sequence: 0, reply_to: Routes::new() }.encode(&mut out);
    calls.iter().for_each(|call| cancel(*call).encode(&mut out).unwrap());
    let (topic, payload) = (Topic::Cancels, Bytes::from(out));
    Record { topic, partition: HERE, offset, appended: None, payload, proof: Proof::None }
}

/// The topics that it asks for, after the time has passed that it asks for.
fn opens(machine: &mut Machine, now: Time) -> Vec<Topic> {
    assert!(machine.next_timeout().unwrap() <= now);
    machine.handle_timeout(now);
    std::iter::from_fn(|| machine.poll_open()).map(|(_, topic)| topic).collect()
}

/// A server that has met these calls and waits for the topics, of which that of results is open.
fn waiting(calls: &[Frame<'_>]) -> Machine {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, calls), NOW);
    assert_eq!(run(&mut machine), None);
    let mut opens = opens(&mut machine, NOW);
    opens.sort_by_key(|topic| topic.suffix());
    assert_eq!(opens, [Topic::Cancels, Topic::Results]);
    machine.handle_opened(0, Topic::Results, &Ok(4), NOW);
    assert_eq!(run(&mut machine), None, "its cancels are not known");
    machine
}

fn ready(calls: &[Frame<'_>]) -> Machine {
    let mut machine = waiting(calls);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![], NOW);
    assert!(machine.take_ripe());
    machine
}

#[test]
fn cancels_that_are_refused_are_read() {
    let mut machine = waiting(&[enqueued(1)]);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![(0, 8)], NOW);
    machine.handle_refused(&cancels(7, &[1]), DropCause::BadSeal, NOW);
    assert_eq!(drops(&machine, DropCause::BadSeal), 1);
    assert!(machine.take_ripe(), "the end is reached");
    assert!(run(&mut machine).is_some(), "nobody is known to have cancelled it");
}

#[test]
fn a_call_waits_until_its_cancels_are_known() {
    let mut machine = waiting(&[enqueued(1), enqueued(2)]);
    // Others do not wait for them.
    machine.handle_record(&record(HERE, 1, &[request(3)]), NOW);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(3), None)]);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![(0, 8)], NOW);
    machine.handle_cancels(&cancels(6, &[2]), NOW);
    assert!(run(&mut machine).is_none() && !machine.take_ripe(), "not at the end yet");
    machine.handle_cancels(&cancels(7, &[77]), NOW);
    assert!(machine.take_ripe());
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    // What was cancelled before anybody met it was taken out when that was read.
    let mut answered = deliver(&mut machine);
    answered.sort_by_key(|(call, _)| *call);
    let expected = [(CallId(1), None), (CallId(2), Some(Code::Cancelled))];
    assert_eq!(answered, expected);
    assert_eq!((run(&mut machine), machine.unfinished()), (None, 0));
    let counts = machine.counts();
    assert_eq!((counts.executed, counts.cancelled, counts.cancels_unread), (2, 1, 0));
}

#[test]
fn a_call_that_waits_holds_nothing_of_its_record() {
    let mut machine = owner(1);
    let record = record(HERE, 0, &[enqueued(1), enqueued(2)]);
    machine.handle_record(&record, NOW);
    assert!(record.payload.is_unique());
    assert!(machine.cancels_read.bytes() > 0);
    opens(&mut machine, NOW);
    machine.handle_opened(0, Topic::Results, &Ok(4), NOW);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![], NOW);
    assert_eq!(machine.cancels_read.bytes(), 0);
}

#[test]
fn a_call_that_was_cancelled_long_ago_is_answered_and_not_executed() {
    let mut machine = ready(&[enqueued(1)]);
    let first = run(&mut machine).unwrap();
    machine.handle_cancels(&cancels(0, &[2, 3]), NOW);
    machine.handle_record(&record(HERE, 1, &[enqueued(2), enqueued(3), enqueued(4)]), NOW);
    // They wait for no place.
    let cancelled = [(CallId(2), Some(Code::Cancelled)), (CallId(3), Some(Code::Cancelled))];
    assert_eq!(deliver(&mut machine), cancelled);
    finish(&mut machine, first);
    let last = run(&mut machine).unwrap();
    finish(&mut machine, last);
    assert_eq!(deliver(&mut machine), [(CallId(1), None), (CallId(4), None)]);
    assert_eq!((machine.unfinished(), commits(&mut machine)), (0, vec![2]));
}

#[test]
fn a_call_that_came_after_its_cancel_is_answered_once_that_is_possible() {
    let mut machine = owner(1);
    machine.handle_cancels(&cancels(0, &[1]), NOW);
    machine.handle_record(&record(HERE, 0, &[enqueued(1)]), NOW);
    opens(&mut machine, NOW);
    machine.handle_followed(0, vec![(0, 1)], NOW);
    assert_eq!(deliver(&mut machine), []);
    machine.handle_opened(0, Topic::Results, &Ok(4), NOW);
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::Cancelled))]);
    assert_eq!((run(&mut machine), machine.unfinished()), (None, 0));
}

/// The cancel stands right behind the call, and the topic of results takes a while to open.
#[test]
fn a_call_that_is_cancelled_while_it_waits_for_the_results_is_answered_when_they_are_there() {
    let mut machine = owner(1);
    let keyed = [1, 2].map(|call| {
        let answer = Some(vec![Route::Results(1)].into());
        on_terms(call, Terms { answer, key: Some((*b"key").into()), ..Terms::default() })
    });
    machine.handle_record(&record(HERE, 0, &keyed), NOW);
    machine.handle_record(&record(HERE, 1, &[cancel(1), cancel(2)]), NOW);
    opens(&mut machine, NOW);
    assert_eq!((deliver(&mut machine), machine.unfinished()), (vec![], 2));
    machine.handle_opened(0, Topic::Results, &Ok(4), NOW);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![], NOW);
    let cancelled = [(CallId(1), Some(Code::Cancelled)), (CallId(2), Some(Code::Cancelled))];
    assert_eq!(deliver(&mut machine), cancelled);
    assert_eq!((run(&mut machine), machine.unfinished()), (None, 0));
    assert!(machine.keys.is_empty() && commits(&mut machine) == [2]);
}

#[test]
fn a_running_call_is_cancelled_and_its_ticket_told() {
    let mut machine = ready(&[enqueued(1), enqueued(2)]);
    let place = run(&mut machine).unwrap();
    machine.handle_cancels(&cancels(0, &[1, 2]), NOW);
    assert_eq!((machine.poll_cancel(), machine.poll_cancel()), (Some(7), None));
    assert_eq!(deliver(&mut machine), [(CallId(2), Some(Code::Cancelled))]);
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::Cancelled))]);
    assert_eq!((machine.unfinished(), machine.counts().cancelled), (0, 2));
}

#[test]
fn the_beginning_and_the_answer_go_to_the_results() {
    let mut machine = ready(&[enqueued(1)]);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    let mut frames = Vec::new();
    while let Some(transmit) = machine.poll_transmit(NOW) {
        if transmit.target.topic == Topic::Results {
            assert_eq!((transmit.target.partition, transmit.target.exact), (1, false));
            let packet = crate::inbox::Packet::open_any(&transmit.payload).unwrap();
            assert_eq!(packet.header.destination, CALLER);
            frames.extend(packet.frames().map(|frame| match frame.unwrap() {
                Frame::Progress(progress) => format!("{:?}", progress.metadata),
                Frame::Reply(reply) => format!("reply {}", reply.call.0),
                other => panic!("{other:?}"),
            }));
        }
        machine.handle_delivered(transmit.token, &STORED, NOW);
    }
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(frames[0].contains("running") && frames[1] == "reply 1", "{frames:?}");
}

#[test]
fn cancels_that_cannot_be_read_hold_nothing_up_for_long() {
    let mut machine = waiting(&[enqueued(1)]);
    let refused = Err(SetupError::Transport("no such right".to_owned()));
    machine.handle_opened(0, Topic::Cancels, &refused, NOW);
    machine.handle_timeout(NOW + LATER - Duration::from_millis(1));
    assert_eq!(run(&mut machine), None);
    machine.handle_timeout(NOW + LATER + Duration::from_secs(1));
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
    assert_eq!(machine.counts().cancels_unread, 1);
    // Those that come later do not wait.
    machine.handle_record(&record(HERE, 1, &[enqueued(2)]), NOW);
    assert!(run(&mut machine).is_some());
}

/// Whoever fetches it has no other: a packet that fails once is sent again.
#[test]
fn an_answer_that_comes_too_late_is_sent_again_for_a_minute() {
    let late = NOW + Duration::from_secs(2 * 3600);
    let mut machine = ready(&[enqueued(1)]);
    deliver(&mut machine);
    assert!(machine.poll_dispatch(late, |_| 7).is_none());
    assert_eq!(machine.counts().expired, 1);
    let status = Status::new(Code::Unavailable, "no broker");
    let mut sent = 0;
    let mut at = late;
    while machine.unfinished() > 0 {
        at = machine.next_timeout().map_or(at, |next| next.max(at));
        machine.handle_timeout(at);
        while let Some(transmit) = machine.poll_transmit(at) {
            sent += 1;
            let failed = Delivery::Failed { status: status.clone(), payload: &transmit.payload };
            machine.handle_delivered(transmit.token, &failed, at);
        }
    }
    assert!(sent > 2);
    let tried = at.saturating_since(late);
    assert!((60..62).contains(&tried.as_secs()), "{tried:?}");
}

#[test]
fn a_call_whose_results_are_refused_becomes_a_letter() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[enqueued(1)]), NOW);
    let refused = || Err(SetupError::Transport("no such right".to_owned()));
    let mut now = NOW;
    let mut asked = Vec::new();
    for _ in 0..70 {
        machine.handle_timeout(now);
        while let Some((service, topic)) = machine.poll_open() {
            asked.push(topic);
            machine.handle_opened(service, topic, &refused(), now);
        }
        now = now + Duration::from_secs(1);
        if asked.contains(&Topic::Dead) {
            break;
        }
    }
    assert!(asked.contains(&Topic::Dead) && now > NOW + Duration::from_secs(60));
    assert_eq!(run(&mut machine), None, "it is not executed");
}

#[test]
fn a_partition_that_goes_takes_the_calls_along_that_wait() {
    let mut machine = waiting(&[enqueued(1)]);
    machine.release(&[HERE], NOW);
    assert!(machine.is_released(&[HERE]));
    machine.take_released(&[HERE], NOW);
    machine.handle_opened(0, Topic::Cancels, &Ok(1), NOW);
    machine.handle_followed(0, vec![], NOW);
    assert_eq!(run(&mut machine), None);
    assert!(!machine.is_full());
}

#[test]
fn what_expired_is_told_once_that_is_possible() {
    let mut machine = owner(1);
    let Frame::Request(late) = enqueued(1) else { unreachable!() };
    let late = Frame::Request(Request { budget: Duration::ZERO, ..late });
    machine.handle_record(&record(HERE, 0, &[late]), NOW);
    assert_eq!((run(&mut machine), machine.unfinished()), (None, 1));
    opens(&mut machine, NOW);
    machine.handle_opened(0, Topic::Results, &Ok(4), NOW);
    machine.handle_followed(0, vec![], NOW);
    assert_eq!(run(&mut machine), None);
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::DeadlineExceeded))]);
    assert_eq!(machine.counts().undeliverable, 0);
}
