//! A record as a server or client takes it: header, frames, duplicates.

use krpc_core::{
    ids::{InstanceId, PartitionId},
    inbox::{DropCause, Inbox, Packet},
    wire::{
        MAX_PACKET_CALLS, MAX_ROUTES,
        coding::Reader,
        frame::{Frame, FrameKind},
        packet::{Addresses, Header},
    },
};

use super::{frame, memory::within};

/// The client of the golden packets.
const ME: InstanceId = InstanceId::from_bytes(*b"client-instance!");
const OTHER: InstanceId = InstanceId::from_bytes(*b"another-instance");

const PARTITION: PartitionId = PartitionId { service: 0, partition: 3 };

/// Bytes for opening a packet, whatever its frames are: they are read one by one. A sender's
/// window is most of it.
const MOST: usize = 16 * 1024;

/// Opens a record.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    let mut inbox = Inbox::new(ME);
    let opened = within(MOST, || inbox.open(PARTITION, data));
    match opened {
        Ok(packet) => {
            assert_eq!(inbox.dropped().faults(), 0);
            sound(&packet, data);
            repeated(&mut inbox, &packet, data);
            rewritten(&packet);
        }
        Err(cause) => {
            assert_eq!(inbox.dropped().count(cause), 1);
            // It leaves nothing behind by which it would be another one the next time.
            assert_eq!(inbox.open(PARTITION, data), Err(cause));
            let foreign = Addresses::peek(data)
                .is_ok_and(|to| ![ME, InstanceId::ANY].contains(&to.destination));
            assert_eq!(cause == DropCause::Foreign, foreign);
        }
    }
}

fn sound(packet: &Packet<'_>, data: &[u8]) {
    let Header { sender, destination, ref reply_to, .. } = packet.header;
    assert_eq!(Addresses::peek(data), Ok(Addresses { sender, destination }));
    assert!(sender != InstanceId::ANY && reply_to.len() <= MAX_ROUTES);
    assert_eq!(packet.broadcast, destination == InstanceId::ANY);
    assert_eq!(Header::len_of(data), Ok(data.len() - packet.frames().rest().len()));
    let (mut frames, mut calls) = (0, 0);
    let mut rest = packet.frames();
    loop {
        let before = rest.rest();
        let Some(read) = rest.next() else { break };
        frames += 1;
        let bytes = &before[..before.len() - rest.rest().len()];
        let kind = FrameKind(bytes[0]);
        calls += u32::from(kind.is_call());
        match &read {
            Ok(read) => {
                assert_eq!(kind.is_call(), matches!(read, Frame::Request(_)));
                frame::check(read, bytes);
            }
            Err(error) => assert_eq!((error.kind, error.is_request()), (kind, kind.is_call())),
        }
    }
    assert!(rest.rest().is_empty(), "frames were passed over");
    assert!(frames <= MAX_PACKET_CALLS && packet.calls() == calls);
}

/// It is a duplicate until the partition is taken anew, and somebody else's is foreign.
fn repeated(inbox: &mut Inbox, packet: &Packet<'_>, data: &[u8]) {
    assert_eq!(inbox.open(PARTITION, data), Err(DropCause::Duplicate));
    inbox.reset(PARTITION);
    assert_eq!(inbox.open(PARTITION, data).as_ref(), Ok(packet));
    inbox.forget(PARTITION);
    assert_eq!(inbox.open(PARTITION, data).as_ref(), Ok(packet));
    match Inbox::new(OTHER).open(PARTITION, data) {
        Ok(same) => assert!(packet.broadcast && same == *packet),
        Err(cause) => assert!(!packet.broadcast && cause == DropCause::Foreign),
    }
}

/// What can be read of it can be written, and opens as the same.
fn rewritten(packet: &Packet<'_>) {
    let mut written = Vec::new();
    packet.header.encode(&mut written);
    assert!(written.len() <= Header::max_len());
    let header = Header::decode(&mut Reader::new(&written));
    assert_eq!(header.as_ref(), Ok(&packet.header));
    let known = |frame: &Frame<'_>| !matches!(frame, Frame::Unknown(_));
    let frames: Vec<_> = packet.frames().filter_map(Result::ok).filter(known).collect();
    for frame in &frames {
        frame.encode(&mut written).expect("what was read can be written");
    }
    let mut inbox = Inbox::new(ME);
    let again = inbox.open(PARTITION, &written).expect("what was written can be opened");
    let again: Vec<_> = again.frames().map(|it| it.expect("it was read before")).collect();
    assert_eq!(again, frames);
}
