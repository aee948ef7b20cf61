//! Where calls go, when they end, and what of them is sent.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::{
    client::{
        machine::ClientSetup,
        pending::{Completion, Ending, Place},
    },
    ids::{InstanceId, PartitionId},
    inbox::Inbox,
    outbox::Transmit,
    transport::{Delivery, Topology},
    wire::{
        MAX_PACKET_BYTES,
        frame::{Cancel, Frame},
        packet::Routes,
    },
};

const NOW: Time = Time::from_micros(1_800_000_000_000_000);
const SECOND: Duration = Duration::from_secs(1);
const WEEK: Duration = Duration::from_secs(7 * 24 * 60 * 60);
const PARTITIONS: u32 = 12;

type Machine = ClientMachine<u32>;

fn client() -> Machine {
    ClientMachine::new(ClientSetup {
        me: InstanceId::from_bytes([1; 16]),
        service: 0,
        topology: Topology { call_partitions: PARTITIONS, reply_partitions: 1 },
        reply_partition: 0,
        max_packet_bytes: MAX_PACKET_BYTES,
        max_in_flight: 100,
        seed: 0,
    })
}

fn plain() -> StartCall<'static> {
    StartCall {
        path: "acme.Sum/add",
        fingerprint: 0,
        codec: ValueCodec::Json,
        metadata: const { &Metadata::new() },
        value: b"[1,2]",
        terms: None,
        timeout: SECOND,
        receipt: None,
        at_most_once: false,
    }
}

fn keyed(key: &str) -> StartCall<'static> {
    let terms = Terms { key: Some(key.as_bytes().into()), ..Terms::default() };
    StartCall { terms: Some(Box::new(terms)), ..plain() }
}

fn one_way() -> StartCall<'static> {
    let terms = Terms { answer: Some(Routes::new()), ..Terms::default() };
    let terms = Some(Box::new(terms));
    StartCall { terms, timeout: WEEK, receipt: Some(SECOND), ..plain() }
}

/// The same call, due in so long.
fn due(machine: &Machine, after: Duration, call: StartCall<'static>) -> StartCall<'static> {
    let mut terms = *call.terms.unwrap_or_default();
    terms.due = Some(machine.due(NOW + after, NOW));
    StartCall { terms: Some(Box::new(terms)), timeout: after + call.timeout, ..call }
}

/// All packets that are sent now.
fn sent(machine: &mut Machine) -> Vec<Transmit> {
    std::iter::from_fn(|| machine.poll_transmit(NOW)).collect()
}

/// What is in a packet: each call's id, and the request or `None` for a cancel.
fn read(transmit: &Transmit) -> Vec<(CallId, Option<(Terms, Duration)>)> {
    let mut inbox = Inbox::new(InstanceId::from_bytes([2; 16]));
    let partition = PartitionId { service: 0, partition: 0 };
    let packet = inbox.open(partition, &transmit.payload).unwrap();
    let frames = packet.frames().map(|frame| match frame.unwrap() {
        Frame::Request(request) => {
            let terms = request.terms.map(|terms| *terms).unwrap_or_default();
            (request.call, Some((terms, request.budget)))
        }
        Frame::Cancel(cancel) => (cancel.call, None),
        other => panic!("{other:?}"),
    });
    frames.collect()
}

fn deliver(machine: &mut Machine, transmit: &Transmit, offset: i64) {
    let stored = Delivery::Stored { appended: None, offset: Some(offset) };
    machine.handle_delivered(transmit.token, &stored, NOW);
}

fn fail(machine: &mut Machine, transmit: &Transmit, status: Status) {
    let failed = Delivery::Failed { status, payload: &transmit.payload };
    machine.handle_delivered(transmit.token, &failed, NOW);
}

fn status(completion: Option<Completion>) -> Status {
    match completion.unwrap().ending {
        Ending::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn calls_of_a_key_go_to_its_partition_in_the_exact_lane() {
    let mut machine = client();
    for key in ["a", "b", "acme/17"] {
        for _ in 0..3 {
            machine.start(keyed(key), 7, NOW).unwrap();
        }
        let partition = murmur2::partition(key.as_bytes(), PARTITIONS);
        for transmit in sent(&mut machine) {
            assert_eq!((transmit.target.partition, transmit.target.exact), (partition, true));
            for (_, request) in read(&transmit) {
                assert_eq!(request.unwrap().0.key.unwrap()[..], *key.as_bytes());
            }
            deliver(&mut machine, &transmit, 0);
        }
    }
    assert_eq!((machine.balance().outstanding(), machine.in_flight()), (9, 9));
}

#[test]
fn the_cancel_of_a_keyed_call_follows_it_in_its_lane() {
    let mut machine = client();
    let id = machine.start(keyed("a"), 7, NOW).unwrap();
    let request = sent(&mut machine).remove(0);
    assert_eq!(machine.cancel(id), Some(7));
    let cancel = sent(&mut machine).remove(0);
    assert_eq!((cancel.target, read(&cancel)), (request.target, vec![(id, None)]));
    assert_eq!(machine.balance().outstanding(), 0);
}

#[test]
fn a_one_way_call_ends_with_the_report_of_its_record() {
    let mut machine = client();
    let id = machine.start(one_way(), 7, NOW).unwrap();
    let transmit = sent(&mut machine).remove(0);
    let (terms, budget) = read(&transmit).remove(0).1.unwrap();
    assert_eq!((terms.answer, budget), (Some(Routes::new()), WEEK));
    assert_eq!(machine.next_timeout(), Some(NOW + SECOND), "nobody waits for a week");
    assert_eq!(machine.poll_call(id, &7), None);
    deliver(&mut machine, &transmit, 41);
    assert_eq!(machine.take_wakes()[..], [7]);
    let partition = transmit.target.partition;
    let place = Place { partition, offset: Some(41), index: 0 };
    assert_eq!(machine.poll_call(id, &7).unwrap().ending, Ending::Stored(place));
    assert_eq!((machine.in_flight(), machine.receipts), (0, 0));
    assert_eq!(machine.balance().outstanding(), 0);
}

#[test]
fn each_call_of_a_record_learns_its_own_place() {
    let mut machine = client();
    // The first two leave alone, each in a record; what gathers meanwhile leaves together.
    let key = |call: StartCall<'static>| {
        let mut terms = *call.terms.unwrap_or_default();
        terms.key = Some(b"k".as_slice().into());
        StartCall { terms: Some(Box::new(terms)), ..call }
    };
    let mut flying = Vec::new();
    for _ in 0..2 {
        machine.start(key(plain()), 7, NOW).unwrap();
        flying.extend(sent(&mut machine));
    }
    let first = machine.start(key(one_way()), 7, NOW).unwrap();
    let answered = machine.start(key(plain()), 7, NOW).unwrap();
    let last = machine.start(key(one_way()), 7, NOW).unwrap();
    assert_eq!((flying.len(), sent(&mut machine).len()), (2, 0));
    deliver(&mut machine, &flying[0], 0);
    let together = sent(&mut machine).remove(0);
    deliver(&mut machine, &together, 5);
    let partition = together.target.partition;
    for (id, index) in [(first, 0), (last, 2)] {
        let place = Place { partition, offset: Some(5), index };
        assert_eq!(machine.poll_call(id, &7).unwrap().ending, Ending::Stored(place));
    }
    assert_eq!(machine.poll_call(answered, &7), None, "it waits for its answer");
    assert_eq!((machine.in_flight(), machine.receipts), (3, 0));
}

#[test]
fn a_one_way_call_whose_caller_is_gone_is_not_called_back() {
    let mut machine = client();
    let id = machine.start(one_way(), 7, NOW).unwrap();
    assert_eq!(machine.cancel(id), Some(7));
    let packets = sent(&mut machine);
    assert_eq!(packets.len(), 1);
    assert!(matches!(&read(&packets[0])[..], [(sent, Some(_))] if *sent == id));
    deliver(&mut machine, &packets[0], 0);
    assert_eq!(sent(&mut machine).len(), 0);
    assert_eq!((machine.occupied(), machine.receipts), (0, 0));
}

#[test]
fn a_broker_that_says_nothing_ends_a_one_way_call_and_blames_no_server() {
    let mut machine = client();
    let id = machine.start(one_way(), 7, NOW).unwrap();
    machine.handle_timeout(NOW + SECOND);
    let status = status(machine.poll_call(id, &7));
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("may have it"), "{status}");
    assert_eq!((machine.receipts, machine.balance().outstanding()), (0, 0));
}

#[test]
fn what_fails_for_good_ends_a_one_way_call() {
    let mut machine = client();
    let id = machine.start(one_way(), 7, NOW).unwrap();
    let transmit = sent(&mut machine).remove(0);
    fail(&mut machine, &transmit, Status::new(Code::PermissionDenied, "no rights"));
    assert_eq!(status(machine.poll_call(id, &7)).code(), Code::PermissionDenied);
    assert_eq!(machine.receipts, 0);
}

#[test]
fn an_at_most_once_call_is_never_sent_again_and_its_end_says_what_is_known() {
    let cases = [
        (Status::new(Code::Unavailable, "no answer"), true),
        (Status::new(Code::PermissionDenied, "no rights"), false),
    ];
    for (cause, unknown) in cases {
        let mut machine = client();
        let call = StartCall { at_most_once: true, ..plain() };
        let id = machine.start(call, 7, NOW).unwrap();
        let transmit = sent(&mut machine).remove(0);
        assert!(transmit.target.exact);
        fail(&mut machine, &transmit, cause.clone());
        let status = status(machine.poll_call(id, &7));
        assert_eq!((status.is_outcome_unknown(), status.is_retryable()), (unknown, false));
        assert!(status.message().contains(cause.message()), "{status}");
        machine.handle_timeout(NOW + SECOND);
        assert_eq!((sent(&mut machine).len(), machine.is_flushed()), (0, true));
    }
}

#[test]
fn a_channel_that_breaks_does_not_ask_for_an_at_most_once_call_to_be_made_again() {
    let cases = [(Code::Unavailable, true), (Code::Cancelled, false)];
    for (code, unknown) in cases {
        let mut machine = client();
        let once = machine.start(StartCall { at_most_once: true, ..plain() }, 7, NOW).unwrap();
        let other = machine.start(plain(), 8, NOW).unwrap();
        assert!(sent(&mut machine).len() >= 2);
        let cause = Status::new(code, "gone");
        machine.close(&cause, NOW);
        let ended = status(machine.poll_call(once, &7));
        assert_eq!((ended.is_outcome_unknown(), ended.is_retryable()), (unknown, false));
        assert!(ended.message().contains("gone"), "{ended}");
        assert_eq!(status(machine.poll_call(other, &8)), cause);
    }
}

#[test]
fn what_is_posted_is_in_flight_as_calls_are() {
    let mut machine = client();
    machine.setup.max_in_flight = 1;
    let post = |machine: &mut Machine| {
        let lane = (Topic::Cancels, 0, InstanceId::ANY);
        let cancel = Cancel { call: CallId(1) };
        machine.post(lane, |out| cancel.encode(out), SECOND, 7, NOW)
    };
    let id = post(&mut machine).unwrap();
    for refused in [post(&mut machine), machine.start(plain(), 7, NOW)] {
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }
    let transmit = sent(&mut machine).remove(0);
    deliver(&mut machine, &transmit, 0);
    assert!(machine.poll_call(id, &7).is_some());
    assert!(post(&mut machine).is_ok());
}

#[test]
fn a_keyed_call_that_failed_is_not_sent_again_and_its_caller_may() {
    let mut machine = client();
    let id = machine.start(keyed("a"), 7, NOW).unwrap();
    let transmit = sent(&mut machine).remove(0);
    fail(&mut machine, &transmit, Status::new(Code::Unavailable, "no answer"));
    let status = status(machine.poll_call(id, &7));
    assert!(status.is_retryable() && !status.is_outcome_unknown());
    assert!(machine.is_flushed());
}

#[test]
fn a_call_that_is_queued_leaves_room_for_what_servers_add() {
    let mut machine = client();
    let value = vec![0; MAX_PACKET_BYTES - QUEUED_OVERHEAD];
    let delayed = due(&machine, WEEK, plain());
    for call in [one_way(), delayed] {
        let large = StartCall { value: &value, ..call };
        let status = machine.start(large, 7, NOW).unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("to be queued"), "{status}");
    }
    assert_eq!((machine.in_flight(), machine.receipts, machine.is_flushed()), (0, 0, true));
    machine.start(StartCall { value: &value, ..plain() }, 7, NOW).unwrap();
    assert_eq!(sent(&mut machine).len(), 1, "an ordinary call of that size may travel");
}

#[test]
fn what_is_due_later_goes_to_the_mover_with_a_key_or_without() {
    let mut machine = client();
    for (after, call) in [(WEEK, plain()), (WEEK, keyed("a")), (NEAR, keyed("b"))] {
        let key = call.terms.as_ref().and_then(|terms| terms.key.clone());
        let id = machine.start(due(&machine, after, call), 7, NOW).unwrap();
        let transmit = sent(&mut machine).remove(0);
        assert_eq!((transmit.target.topic, transmit.target.partition), (Topic::Calls, MOVER));
        assert!(!transmit.target.exact);
        let (sent, request) = read(&transmit).remove(0);
        let (terms, budget) = request.unwrap();
        let at = NOW + after;
        assert_eq!((sent, terms.due), (id, Some(Due { due: at, look: at })));
        assert_eq!((terms.key, budget), (key, after + SECOND));
        deliver(&mut machine, &transmit, 0);
    }
    // They say nothing of how busy that server is.
    assert_eq!((machine.in_flight(), machine.balance().outstanding()), (3, 0));
}

#[test]
fn what_is_due_soon_goes_where_it_is_executed() {
    let mut machine = client();
    let after = NEAR - Duration::from_micros(1);
    let key = (0..).map(|n| n.to_string());
    let key = key.into_iter().find(|key| murmur2::partition(key.as_bytes(), PARTITIONS) != MOVER);
    let key = key.unwrap();
    machine.start(due(&machine, after, keyed(&key)), 7, NOW).unwrap();
    let transmit = sent(&mut machine).remove(0);
    let partition = murmur2::partition(key.as_bytes(), PARTITIONS);
    assert_eq!((transmit.target.partition, transmit.target.exact), (partition, true));
    assert!(read(&transmit).remove(0).1.unwrap().0.due.is_some());
    machine.start(due(&machine, after, plain()), 7, NOW).unwrap();
    assert_eq!(machine.balance().outstanding(), 2);
}

/// The broker's clock is three hours ahead, and known to half a millisecond.
#[test]
fn it_is_due_by_the_brokers_clock_and_rather_late_than_early() {
    let mut machine = client();
    let (ahead, way) = (3 * 3_600_000_000, Duration::from_micros(500));
    machine.clock.observe(NOW - way, NOW, (NOW - way).shifted(ahead));
    let at = NOW + WEEK;
    let Due { due, look } = machine.due(at, NOW);
    let early = due.saturating_since(at.shifted(ahead));
    assert!(early <= 2 * way + Duration::from_millis(1), "{early:?}");
    assert!(due >= at.shifted(ahead) && look == due);
    let local = machine.local_time(due, NOW);
    assert!(local >= at && local.saturating_since(at) <= Duration::from_millis(2), "{local:?}");
}

#[test]
fn the_cancel_of_a_delayed_call_follows_it_and_more_is_needed() {
    let mut machine = client();
    let id = machine.start(due(&machine, WEEK, keyed("a")), 7, NOW).unwrap();
    let request = sent(&mut machine).remove(0);
    assert!(machine.is_delayed(id));
    assert_eq!(machine.cancel(id), Some(7));
    let cancel = sent(&mut machine).remove(0);
    assert_eq!((cancel.target, read(&cancel)), (request.target, vec![(id, None)]));
    assert!(!machine.is_delayed(id), "once");
    let others = [plain(), due(&machine, WEEK, one_way())];
    for call in others {
        let id = machine.start(call, 7, NOW).unwrap();
        assert!(!machine.is_delayed(id), "not moved, or not given up");
    }
}

#[test]
fn a_delayed_call_that_is_queued_lies_with_the_mover() {
    let mut machine = client();
    let id = machine.start(due(&machine, WEEK, one_way()), 7, NOW).unwrap();
    let transmit = sent(&mut machine).remove(0);
    assert_eq!(machine.next_timeout(), Some(NOW + SECOND), "for the broker, as ever");
    assert_eq!(read(&transmit).remove(0).1.unwrap().1, 2 * WEEK);
    deliver(&mut machine, &transmit, 41);
    let place = Place { partition: MOVER, offset: Some(41), index: 0 };
    assert_eq!(machine.poll_call(id, &7).unwrap().ending, Ending::Stored(place));
}

#[test]
fn delayed_calls_that_expire_blame_no_server() {
    let mut machine = client();
    let id = machine.start(due(&machine, WEEK, plain()), 7, NOW).unwrap();
    let waiting = machine.start(StartCall { timeout: 2 * WEEK, ..plain() }, 7, NOW).unwrap();
    machine.handle_timeout(NOW + WEEK);
    assert_eq!(machine.poll_call(id, &7), None);
    machine.handle_timeout(NOW + WEEK + SECOND);
    assert_eq!(status(machine.poll_call(id, &7)).code(), Code::DeadlineExceeded);
    assert_eq!(machine.poll_call(waiting, &7), None);
    assert_eq!(machine.balance().outstanding(), 1);
}
