//! The machine alone: calls, records, reports and time in; packets and ends out.

#![allow(clippy::unwrap_used)]

use std::borrow::Cow;

use super::*;
use crate::{
    client::placing::StartCall,
    codec::ValueCodec,
    ids::PartitionId,
    metadata::Metadata,
    sealing::Proof,
    status::Code,
    time::Micros,
    wire::{
        MAX_PACKET_BYTES,
        frame::{Announce, Refused},
        packet::{Header, Routes},
    },
};

const ME: InstanceId = InstanceId::from_bytes([1; 16]);
const SERVER: InstanceId = InstanceId::from_bytes([2; 16]);
const NOW: Time = Time::from_micros(1_800_000_000_000_000);
const TIMEOUT: Duration = Duration::from_secs(1);
const STORED: Delivery<'_> = Delivery::Stored { appended: None, offset: None };

type Machine = ClientMachine<u32>;

fn client() -> Machine {
    ClientMachine::new(ClientSetup {
        me: ME,
        service: 0,
        topology: Topology { call_partitions: 1, reply_partitions: 1 },
        reply_partition: 0,
        max_packet_bytes: MAX_PACKET_BYTES,
        max_in_flight: 2,
        seed: 0,
    })
}

fn start(machine: &mut Machine) -> Result<CallId, Status> {
    machine.start(call(), 7, NOW)
}

fn call() -> StartCall<'static> {
    const NONE: &Metadata = &Metadata::new();
    StartCall {
        path: "acme.Sum/add",
        fingerprint: 0,
        codec: ValueCodec::Json,
        metadata: NONE,
        value: b"[1,2]",
        terms: None,
        timeout: TIMEOUT,
        receipt: None,
        at_most_once: false,
    }
}

fn reply(call: CallId) -> Frame<'static> {
    Frame::Reply(Reply {
        call,
        server_elapsed: Micros::default(),
        flight_request: Micros::default(),
        metadata: Cow::Owned(Metadata::new()),
        outcome: Outcome::Ok { codec: ValueCodec::Json, value: b"3" },
    })
}

/// A packet of the server's as a record; its sequence is its offset.
fn arrive(machine: &mut Machine, destination: InstanceId, offset: i64, frames: &[Frame<'_>]) {
    let sequence = u64::try_from(offset).unwrap();
    let mut out = Vec::new();
    Header { sender: SERVER, destination, sequence, reply_to: Routes::new() }.encode(&mut out);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    let partition = PartitionId { service: 0, partition: 0 };
    let payload = Bytes::from(out);
    let topic = Topic::Replies;
    machine.handle_record(
        &Record { topic, partition, offset, appended: None, payload, proof: Proof::None },
        NOW,
    );
}

/// What the packets that are sent now hold; all of them are delivered.
fn sent(machine: &mut Machine) -> Vec<(CallId, &'static str)> {
    let mut sent = Vec::new();
    while let Some(transmit) = machine.poll_transmit(NOW) {
        let mut inbox = Inbox::new(SERVER);
        let partition = PartitionId { service: 0, partition: 0 };
        let packet = inbox.open(partition, &transmit.payload).unwrap();
        sent.extend(packet.frames().map(|frame| match frame.unwrap() {
            Frame::Request(request) => (request.call, "request"),
            Frame::Cancel(cancel) => (cancel.call, "cancel"),
            other => panic!("{other:?}"),
        }));
        machine.handle_delivered(transmit.token, &STORED, NOW);
    }
    sent
}

fn code(completion: Completion) -> Option<Code> {
    match completion.ending {
        Ending::Status(status) => Some(status.code()),
        _ => None,
    }
}

#[test]
fn a_call_ends_with_its_reply() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    assert_eq!(sent(&mut machine), [(id, "request")]);
    assert_eq!(machine.poll_call(id, &8), None);
    arrive(&mut machine, ME, 0, &[reply(id)]);
    assert_eq!(machine.take_wakes()[..], [8], "whoever asked last");
    let completion = machine.poll_call(id, &8).unwrap();
    assert_eq!((completion.server, code(completion)), (SERVER, None));
    assert_eq!((machine.in_flight(), machine.dropped().faults()), (0, 0));
}

#[test]
fn a_reply_that_nobody_waits_for_is_dropped() {
    let mut machine = client();
    let (answered, cancelled) = (start(&mut machine).unwrap(), start(&mut machine).unwrap());
    machine.cancel(cancelled);
    arrive(&mut machine, ME, 0, &[reply(answered)]);
    let count = |machine: &Machine| machine.dropped().count(DropCause::UnknownCall);
    assert_eq!(count(&machine), 0);
    let never = CallId(1 << 40);
    arrive(&mut machine, ME, 1, &[reply(answered), reply(cancelled), reply(never)]);
    assert_eq!(count(&machine), 3, "answered before, cancelled, never made");
    assert_eq!(code(machine.poll_call(answered, &7).unwrap()), None, "the first reply counts");
}

#[test]
fn a_reply_for_everyone_is_misrouted() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    arrive(&mut machine, InstanceId::ANY, 0, &[reply(id)]);
    assert_eq!(machine.dropped().count(DropCause::MisroutedReply), 1);
    assert_eq!((machine.poll_call(id, &7), machine.in_flight()), (None, 1), "it still waits");
    arrive(&mut machine, ME, 1, &[reply(id)]);
    assert!(machine.poll_call(id, &7).is_some());
}

#[test]
fn frames_that_are_no_servers_are_of_an_unexpected_kind() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    let announce = Frame::Announce(Announce::default());
    arrive(&mut machine, ME, 0, &[Frame::Cancel(Cancel { call: id }), announce, reply(id)]);
    assert_eq!(machine.dropped().count(DropCause::UnexpectedKind), 1);
    assert_eq!(machine.dropped().faults(), 1, "the others are a server's");
    assert!(machine.poll_call(id, &7).is_some(), "its neighbour takes effect");
}

#[test]
fn the_server_is_told_that_a_call_was_given_up() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    sent(&mut machine);
    machine.cancel(id);
    assert_eq!(sent(&mut machine), [(id, "cancel")]);
    assert_eq!((machine.in_flight(), machine.occupied()), (0, 0));
    machine.cancel(id);
    assert_eq!(sent(&mut machine), [], "once");
}

#[test]
fn a_call_ends_at_its_deadline_and_a_late_reply_changes_nothing() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    sent(&mut machine);
    let deadline = NOW + TIMEOUT;
    assert_eq!(machine.next_timeout(), Some(deadline));
    machine.handle_timeout(deadline - Duration::from_micros(1));
    assert_eq!(machine.poll_call(id, &7), None);
    machine.handle_timeout(deadline);
    arrive(&mut machine, ME, 0, &[reply(id)]);
    assert_eq!(code(machine.poll_call(id, &7).unwrap()), Some(Code::DeadlineExceeded));
    assert_eq!(machine.dropped().count(DropCause::UnknownCall), 1);
}

#[test]
fn a_refusal_is_told_at_the_deadline_and_of_an_at_most_once_call_proves_nothing() {
    let mut machine = client();
    let plain = start(&mut machine).unwrap();
    let once = StartCall { at_most_once: true, ..call() };
    let once = machine.start(once, 7, NOW).unwrap();
    sent(&mut machine);
    let refused = Frame::Refused(Refused { cause: 2, key: 0x3f2a_91c0 });
    arrive(&mut machine, InstanceId::ANY, 0, std::slice::from_ref(&refused));
    assert_eq!(machine.dropped().count(DropCause::UnexpectedKind), 1);
    arrive(&mut machine, ME, 1, &[refused]);
    assert_eq!(machine.poll_call(plain, &7), None);
    machine.handle_timeout(NOW + TIMEOUT);
    for (id, expected) in [(plain, Code::FailedPrecondition), (once, Code::DeadlineExceeded)] {
        let Ending::Status(status) = machine.poll_call(id, &7).unwrap().ending else { panic!() };
        assert_eq!(status.code(), expected);
        assert!(status.message().contains("key 3f2a91c0 is not known"), "{status}");
    }
    // Not so the calls of later.
    let later = NOW + TIMEOUT * 2;
    let id = machine.start(call(), 7, later).unwrap();
    machine.handle_timeout(later + TIMEOUT);
    assert_eq!(code(machine.poll_call(id, &7).unwrap()), Some(Code::DeadlineExceeded));
}

#[test]
fn a_request_that_cannot_be_delivered_ends_its_call() {
    let mut machine = client();
    let id = start(&mut machine).unwrap();
    let transmit = machine.poll_transmit(NOW).unwrap();
    let status = Status::new(Code::InvalidArgument, "too large for the broker");
    let failed = Delivery::Failed { status, payload: &transmit.payload };
    machine.handle_delivered(transmit.token, &failed, NOW);
    assert_eq!(machine.take_wakes()[..], [7]);
    assert_eq!(code(machine.poll_call(id, &7).unwrap()), Some(Code::InvalidArgument));
}

#[test]
fn too_many_calls_and_a_closed_channel_are_refused() {
    let mut machine = client();
    let ids = [start(&mut machine).unwrap(), start(&mut machine).unwrap()];
    assert_eq!(start(&mut machine).unwrap_err().code(), Code::ResourceExhausted);
    let closed = Status::new(Code::Unavailable, "closed");
    machine.refuse(closed.clone());
    machine.close(&closed, NOW);
    assert_eq!(start(&mut machine).unwrap_err().code(), Code::Unavailable);
    for id in ids {
        assert_eq!(code(machine.poll_call(id, &7).unwrap()), Some(Code::Unavailable));
    }
}

/// Two calls that are answered together, as they are in flight.
fn answered_together(machine: &mut Machine) -> [CallId; 2] {
    let calls = [start(machine).unwrap(), start(machine).unwrap()];
    sent(machine);
    arrive(machine, ME, machine.packets().cast_signed(), &calls.map(reply));
    calls
}

#[test]
fn callers_that_were_answered_together_share_their_next_packet() {
    let mut machine = client();
    let [first, second] = answered_together(&mut machine);
    assert!(machine.poll_call(first, &8).is_some());
    start(&mut machine).unwrap();
    assert!(machine.poll_transmit(NOW).is_none(), "the other is about to come");
    assert!(machine.poll_call(second, &8).is_some());
    start(&mut machine).unwrap();
    assert_eq!(sent(&mut machine).len(), 2);
    assert_eq!(machine.packets(), 2);
}

#[test]
fn a_caller_that_is_gone_is_not_waited_for() {
    let mut machine = client();
    let [first, second] = answered_together(&mut machine);
    machine.poll_call(first, &8);
    start(&mut machine).unwrap();
    assert!(machine.poll_transmit(NOW).is_none());
    machine.cancel(second);
    assert_eq!(sent(&mut machine).len(), 1);
}

#[test]
fn a_caller_that_does_not_call_again_is_waited_for_until_the_alarm() {
    let mut machine = client();
    let [first, second] = answered_together(&mut machine);
    machine.poll_call(first, &8);
    start(&mut machine).unwrap();
    machine.poll_call(second, &8);
    assert!(machine.poll_transmit(NOW).is_none(), "it may be about to call");
    let due = NOW + Duration::from_millis(2);
    assert_eq!(machine.next_timeout(), Some(due), "whether or not its thread is busy");
    machine.handle_timeout(due);
    assert_eq!(sent(&mut machine).len(), 1);
}

/// A future that is kept and not polled must not slow down those that are.
#[test]
fn an_end_that_nobody_looks_at_holds_up_one_packet_at_most() {
    let mut machine = client();
    let [first, _kept] = answered_together(&mut machine);
    machine.poll_call(first, &8);
    let next = start(&mut machine).unwrap();
    assert!(machine.poll_transmit(NOW).is_none());
    machine.handle_timeout(NOW + Duration::from_millis(2));
    assert_eq!(sent(&mut machine), [(next, "request")]);
    let other = start(&mut machine).unwrap();
    assert_eq!(sent(&mut machine), [(other, "request")], "at once, although nothing came");
    machine.cancel(other);
    assert_eq!(sent(&mut machine), [(other, "cancel")]);
    arrive(&mut machine, ME, 99, &[reply(next)]);
    machine.poll_call(next, &8);
    start(&mut machine).unwrap();
    assert_eq!(sent(&mut machine).len(), 1, "at once");
}
