//! The machine alone: records, reports and time in; handlers, packets and commit points out.

#![allow(clippy::unwrap_used)]

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{
    codec::ValueCodec,
    sealing::Proof,
    status::{Code, Status},
    time::Micros,
    transport::{CommitPoint, Topic},
    wire::{
        MAX_PACKET_BYTES,
        coding::put_varint,
        frame::{Announce, Cancel, Due, FrameKind, Reply, Request, Terms},
        packet::{Header, Route},
    },
};

pub(in crate::server) const ME: InstanceId = InstanceId::from_bytes([1; 16]);
pub(in crate::server) const CALLER: InstanceId = InstanceId::from_bytes([2; 16]);
pub(in crate::server) const HERE: PartitionId = PartitionId { service: 0, partition: 0 };
pub(in crate::server) const NOW: Time = Time::from_micros(1_800_000_000_000_000);
pub(in crate::server) const BUDGET: Duration = Duration::from_secs(1);
pub(in crate::server) const STORED: Delivery<'_> =
    Delivery::Stored { appended: None, offset: None };

pub(in crate::server) type Machine = ServerMachine<u64>;

pub(in crate::server) fn server(services: usize, limit: usize) -> Machine {
    server_of(&[], services, limit)
}

pub(in crate::server) fn server_of(methods: Methods, services: usize, limit: usize) -> Machine {
    let topology = Topology { call_partitions: 2, reply_partitions: 1 };
    Machine::new(ME, vec![(topology, methods); services], limit, MAX_PACKET_BYTES)
}

/// A server of one service that owns the partition.
pub(in crate::server) fn owner(limit: usize) -> Machine {
    let mut machine = server(1, limit);
    own(&mut machine, &[HERE]);
    machine
}

/// The partitions come, and the group takes the claim.
pub(in crate::server) fn own(machine: &mut Machine, partitions: &[PartitionId]) {
    let assigned: Vec<_> = partitions.iter().map(|partition| (*partition, None)).collect();
    machine.handle_assigned(&assigned, NOW);
    commit(machine);
}

/// Commits what is to be committed.
pub(in crate::server) fn commit(machine: &mut Machine) -> Vec<CommitPoint> {
    let points = machine.poll_commit();
    let results: Vec<_> = points.iter().map(|point| (point.partition, true)).collect();
    machine.handle_committed(&results, NOW);
    points
}

pub(in crate::server) fn request(call: u64) -> Frame<'static> {
    request_to("acme.Sum/add", call)
}

pub(in crate::server) fn request_to(path: &'static str, call: u64) -> Frame<'static> {
    Frame::Request(Request {
        call: CallId(call),
        terms: None,
        path,
        budget: BUDGET,
        deadline: None,
        fingerprint: 0,
        codec: ValueCodec::Json,
        metadata: Cow::Owned(Metadata::new()),
        value: b"[1,2]",
    })
}

pub(in crate::server) fn on_terms(call: u64, terms: Terms) -> Frame<'static> {
    let Frame::Request(request) = request(call) else { unreachable!() };
    Frame::Request(Request { terms: Some(Box::new(terms)), ..request })
}

pub(in crate::server) fn cancel(call: u64) -> Frame<'static> {
    Frame::Cancel(Cancel { call: CallId(call) })
}

pub(in crate::server) fn reply(call: u64) -> Frame<'static> {
    Frame::Reply(Reply {
        call: CallId(call),
        server_elapsed: Micros::default(),
        flight_request: Micros::default(),
        metadata: Cow::Owned(Metadata::new()),
        outcome: OUTCOME,
    })
}

pub(in crate::server) const OUTCOME: Outcome<'_> =
    Outcome::Ok { codec: ValueCodec::Json, value: b"3" };

/// A packet of the caller's as a record; its sequence is its offset.
pub(in crate::server) fn record(
    partition: PartitionId,
    offset: i64,
    frames: &[Frame<'_>],
) -> Record {
    let mut out = header(offset);
    frames.iter().for_each(|frame| frame.encode(&mut out).unwrap());
    let (topic, payload) = (Topic::Calls, Bytes::from(out));
    Record { topic, partition, offset, appended: None, payload, proof: Proof::None }
}

pub(in crate::server) fn header(offset: i64) -> Vec<u8> {
    let sequence = u64::try_from(offset).unwrap();
    let reply_to = vec![Route::Partition(0)].into();
    let mut out = Vec::new();
    Header { sender: CALLER, destination: InstanceId::ANY, sequence, reply_to }.encode(&mut out);
    out
}

pub(in crate::server) fn run(machine: &mut Machine) -> Option<usize> {
    machine.poll_dispatch(NOW, |_| 7).map(|dispatch| dispatch.place)
}

pub(in crate::server) fn finish(machine: &mut Machine, place: usize) {
    machine.finish(place, OUTCOME, &Metadata::new(), NOW);
}

/// What was answered: each call, and the code of its status.
pub(in crate::server) type Answers = Vec<(CallId, Option<Code>)>;

/// The packets with replies that are sent now. Packets of announcements alone are delivered.
pub(in crate::server) fn answers(machine: &mut Machine) -> Vec<(Transmit, Answers)> {
    let mut sent = Vec::new();
    while let Some(transmit) = machine.poll_transmit(NOW) {
        let mut inbox = Inbox::new(CALLER);
        let packet = inbox.open(HERE, &transmit.payload).unwrap();
        let replies = packet.frames().filter_map(|frame| match frame.unwrap() {
            Frame::Reply(reply) => Some(reply),
            _ => None,
        });
        let answers: Answers = replies
            .map(|reply| match reply.outcome {
                Outcome::Status(status) => (reply.call, Some(status.code())),
                _ => (reply.call, None),
            })
            .collect();
        if answers.is_empty() {
            machine.handle_delivered(transmit.token, &STORED, NOW);
        } else {
            sent.push((transmit, answers));
        }
    }
    sent
}

/// Delivers every reply; returns what was answered.
pub(in crate::server) fn deliver(machine: &mut Machine) -> Answers {
    let mut all = Vec::new();
    loop {
        let sent = answers(machine);
        if sent.is_empty() {
            return all;
        }
        for (transmit, mut answers) in sent {
            machine.handle_delivered(transmit.token, &STORED, NOW);
            all.append(&mut answers);
        }
    }
}

/// The offsets to commit now.
pub(in crate::server) fn commits(machine: &mut Machine) -> Vec<i64> {
    commit(machine).into_iter().map(|point| point.offset).collect()
}

pub(in crate::server) fn drops(machine: &Machine, cause: DropCause) -> u64 {
    machine.dropped().count(cause)
}

#[test]
fn frames_that_are_no_clients_are_of_an_unexpected_kind() {
    let mut machine = owner(1);
    let announce = Frame::Announce(Announce::default());
    machine.handle_record(&record(HERE, 0, &[reply(1), announce, request(2)]), NOW);
    assert_eq!(drops(&machine, DropCause::UnexpectedKind), 2);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(2), None)], "its neighbour is executed");
    assert_eq!(commits(&mut machine), [1]);
}

#[test]
fn records_of_a_partition_that_is_not_owned_are_dropped() {
    let mut machine = server(1, 1);
    let dropped = |machine: &mut Machine, offset| {
        let before = drops(machine, DropCause::NotOwned);
        machine.handle_record(&record(HERE, offset, &[request(1)]), NOW);
        assert_eq!(run(machine), None);
        drops(machine, DropCause::NotOwned) == before + 1
    };
    assert!(dropped(&mut machine, 0), "not assigned yet");
    machine.handle_assigned(&[(HERE, None)], NOW);
    machine.release(&[HERE], NOW);
    assert!(dropped(&mut machine, 0), "on its way out");
    assert_eq!(machine.take_released(&[HERE], NOW).len(), 1);
    assert!(dropped(&mut machine, 0), "released");
    machine.handle_assigned(&[(HERE, None)], NOW);
    machine.handle_lost(&[HERE], NOW);
    assert!(dropped(&mut machine, 0), "lost");
}

/// A session timeout takes the partition while its handler runs, and the next rebalance brings it
/// back: the record comes again, and only the handler's reply may finish it.
#[test]
fn a_call_that_runs_is_not_finished_by_its_own_record_read_again() {
    let mut machine = owner(1);
    let call = record(HERE, 0, &[request(1)]);
    machine.handle_record(&call, NOW);
    let place = run(&mut machine).unwrap();
    machine.handle_lost(&[HERE], NOW);
    assert_eq!(machine.unfinished(), 0);
    own(&mut machine, &[HERE]);
    machine.handle_record(&call, NOW);
    assert_eq!(run(&mut machine), None, "it runs already");
    assert_eq!(drops(&machine, DropCause::Duplicate), 1);
    assert_eq!(machine.unfinished(), 1);
    assert_eq!(commits(&mut machine), [0; 0], "a crash now must not lose it");
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
    assert_eq!(commits(&mut machine), [1]);
}

#[test]
fn a_running_call_that_was_written_twice_is_finished_in_its_second_place() {
    let mut machine = owner(2);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let place = run(&mut machine).unwrap();
    machine.handle_record(&record(HERE, 1, &[request(1)]), NOW);
    assert_eq!((run(&mut machine), machine.unfinished()), (None, 1));
    finish(&mut machine, place);
    assert_eq!(deliver(&mut machine), [(CallId(1), None)], "answered once");
    assert_eq!(commits(&mut machine), [2]);
}

/// The commit of a point is under way when its partition is released, and fails afterwards.
#[test]
fn a_release_names_a_point_again_whose_commit_is_under_way() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    deliver(&mut machine);
    let named = machine.poll_commit();
    assert_eq!(named.len(), 1);
    machine.release(&[HERE], NOW);
    assert!(machine.is_released(&[HERE]));
    let last = machine.take_released(&[HERE], NOW);
    assert_eq!(last.iter().map(|point| point.offset).collect::<Vec<_>>(), [1]);
    machine.handle_committed(&[(HERE, false)], NOW);
    assert_eq!(machine.poll_commit(), [], "it is nobody's any more");
}

#[test]
fn a_packet_of_cancels_alone_takes_effect() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1), request(2)]), NOW);
    let place = run(&mut machine).unwrap();
    machine.handle_record(&record(HERE, 1, &[cancel(1), cancel(2)]), NOW);
    assert_eq!((machine.poll_cancel(), machine.poll_cancel()), (Some(7), None), "one runs");
    finish(&mut machine, place);
    assert_eq!(run(&mut machine), None, "the other never starts");
    assert_eq!(deliver(&mut machine), [], "nobody wants an answer");
    assert_eq!((machine.counts().executed, machine.counts().cancelled), (1, 2));
    assert_eq!((machine.unfinished(), commits(&mut machine)), (0, vec![2]));
}

#[test]
fn equal_numbers_of_two_services_are_two_calls() {
    let mut machine = server(2, 2);
    let there = PartitionId { service: 1, ..HERE };
    own(&mut machine, &[HERE, there]);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let here = run(&mut machine).unwrap();
    machine.handle_record(&record(there, 0, &[request(1)]), NOW);
    run(&mut machine).unwrap();
    assert_eq!(drops(&machine, DropCause::Duplicate), 0);
    machine.handle_record(&record(there, 1, &[cancel(1)]), NOW);
    finish(&mut machine, here);
    assert_eq!(deliver(&mut machine), [(CallId(1), None)], "the cancel was for the other");
}

#[test]
fn a_call_is_finished_by_its_replys_delivery_alone() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    let (transmit, _) = answers(&mut machine).pop().unwrap();
    machine.release(&[HERE], NOW);
    let still = |machine: &mut Machine| {
        !machine.is_released(&[HERE]) && machine.unfinished() == 1 && commits(machine).is_empty()
    };
    assert!(still(&mut machine), "handed to the transport, not stored");
    let status = Status::new(Code::Unavailable, "no broker");
    let failed = Delivery::Failed { status, payload: &transmit.payload };
    machine.handle_delivered(transmit.token, &failed, NOW);
    assert!(still(&mut machine), "to be sent again");
    machine.handle_timeout(machine.next_timeout().unwrap());
    assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
    assert!(machine.is_released(&[HERE]));
    assert_eq!((machine.unfinished(), commits(&mut machine)), (0, vec![1]));
}

#[test]
fn a_reply_that_cannot_be_delivered_holds_nothing_up() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    let (transmit, _) = answers(&mut machine).pop().unwrap();
    let status = Status::new(Code::InvalidArgument, "too large for the broker");
    let failed = Delivery::Failed { status, payload: &transmit.payload };
    machine.handle_delivered(transmit.token, &failed, NOW);
    assert_eq!((machine.counts().undeliverable, commits(&mut machine)), (1, vec![1]));
}

#[test]
fn what_is_too_late_on_arrival_is_answered_and_not_executed() {
    let mut machine = owner(1);
    let appended = Some(NOW - BUDGET);
    machine.handle_record(&Record { appended, ..record(HERE, 0, &[request(1)]) }, NOW);
    assert_eq!(run(&mut machine), None);
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::DeadlineExceeded))]);
    assert_eq!((machine.counts().executed, machine.counts().expired), (0, 1));
    assert_eq!(commits(&mut machine), [1]);
}

#[test]
fn what_became_too_late_while_it_waited_is_answered_and_not_executed() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1), request(2)]), NOW);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    assert!(machine.poll_dispatch(NOW + BUDGET, |_| 7).is_none());
    let late = Some(Code::DeadlineExceeded);
    assert_eq!(deliver(&mut machine), [(CallId(1), None), (CallId(2), late)]);
    assert_eq!((machine.counts().executed, machine.counts().expired), (1, 1));
}

#[test]
fn a_malformed_request_is_finished_in_its_place() {
    let mut out = header(0);
    out.push(FrameKind::REQUEST.0);
    put_varint(&mut out, 2);
    // A call's number, and flags that do not exist.
    out.extend_from_slice(&[1, 0xff]);
    request(2).encode(&mut out).unwrap();
    let mut machine = owner(1);
    let payload = Bytes::from(out);
    machine.handle_record(&Record { payload, ..record(HERE, 0, &[]) }, NOW);
    assert_eq!(drops(&machine, DropCause::FrameMalformed), 1);
    assert_eq!((machine.unfinished(), commits(&mut machine)), (1, vec![0]));
    let dispatch = machine.poll_dispatch(NOW, |_| 7).unwrap();
    assert_eq!((dispatch.call.origin.id, dispatch.call.origin.position.index), (CallId(2), 1));
    finish(&mut machine, dispatch.place);
    assert_eq!(deliver(&mut machine), [(CallId(2), None)]);
    assert_eq!((machine.unfinished(), commits(&mut machine)), (0, vec![1]));
}

#[test]
fn what_is_executed_once_at_most_is_not_executed_later() {
    let mut machine = server_of(keyed::AT_MOST_ONCE, 1, 8);
    own(&mut machine, &[HERE]);
    let due = Some(Due { due: NOW + BUDGET / 2, look: NOW + BUDGET / 2 });
    let delayed = on_terms(2, Terms { due, ..Terms::default() });
    machine.handle_record(&record(HERE, 0, &[delayed]), NOW);
    assert_eq!(run(&mut machine), None);
    assert_eq!(deliver(&mut machine), [(CallId(2), Some(Code::Unimplemented))]);
    assert_eq!(commits(&mut machine), [1]);
}

#[test]
fn a_server_that_retires_starts_nothing_more() {
    let mut machine = owner(1);
    machine.handle_record(&record(HERE, 0, &[request(1)]), NOW);
    machine.handle_record(&record(HERE, 1, &[request(2)]), NOW);
    let place = run(&mut machine).unwrap();
    assert_eq!(machine.retire(NOW), [HERE]);
    assert_eq!(machine.owned(0), [0; 0], "clients learn that it is no use to choose it");
    assert!(!machine.is_released(&[HERE]), "one runs");
    finish(&mut machine, place);
    assert_eq!(run(&mut machine), None, "the one that waited is the next owner's");
    assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
    assert!(machine.is_released(&[HERE]));
    let points = machine.take_released(&[HERE], NOW);
    assert_eq!(points.iter().map(|point| point.offset).collect::<Vec<_>>(), [1]);
    let other = PartitionId { partition: 1, ..HERE };
    machine.handle_assigned(&[(other, None)], NOW);
    machine.handle_record(&record(other, 0, &[request(3)]), NOW);
    assert_eq!((run(&mut machine), machine.owned(0)), (None, vec![]), "nor what still comes");
}

mod keyed;
mod one_way;
mod tickets;
