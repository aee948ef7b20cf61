//! Packets as an observer reads them, and records that are none.

use krpc_core::{
    transport::{Target, Topic},
    wire::{
        MAX_PACKET_BYTES,
        coding::Reader,
        frame::{Frame, FrameKind},
        packet::Header,
    },
};

use crate::{broker::Broker, rng::Rng};

/// A frame of a packet; its kind is known even if its body is damaged.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: FrameKind,
    pub(crate) frame: Option<Frame<'a>>,
}

/// A packet's header and frames; `None` if it is not whole.
pub(crate) fn open(payload: &[u8]) -> Option<(Header, Vec<Part<'_>>)> {
    let mut reader = Reader::new(payload);
    let header = Header::decode(&mut reader).ok()?;
    let mut parts = Vec::new();
    while !reader.is_empty() {
        let rest = reader.peek();
        let kind = FrameKind(reader.u8().ok()?);
        reader.prefixed("frame", MAX_PACKET_BYTES).ok()?;
        let whole = &rest[..rest.len() - reader.left()];
        let frame = Frame::decode(&mut Reader::new(whole)).ok();
        parts.push(Part { kind, frame });
    }
    Some((header, parts))
}

/// A record that somebody else writes, and where: nothing, noise, or a damaged copy of a packet.
///
/// Damage never leaves a packet that still opens but says something else: this version of the
/// format has no checksum, and Kafka's own finds such damage.
pub(crate) fn garbage(broker: &Broker, rng: &mut Rng) -> (Target, Vec<u8>) {
    let topic = if rng.chance(700) { Topic::Calls } else { Topic::Replies };
    let partition = rng.range(0, u64::from(broker.partitions(topic)) - 1) as u32;
    let target = Target { service: 0, topic, partition, exact: false };
    let log = broker.log(topic, partition);
    let mut bytes = match log.len() {
        0 => Vec::new(),
        records => log[rng.index(records)].payload.to_vec(),
    };
    match rng.range(0, 3) {
        0 => bytes.clear(),
        1 => bytes = (0..rng.range(1, 200)).map(|_| rng.next() as u8).collect(),
        // Cut between two frames it still opens: a repeated packet with some calls missing.
        2 if !bytes.is_empty() => bytes.truncate(rng.index(bytes.len())),
        _ if !bytes.is_empty() => {
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.range(0, 7);
            if open(&bytes).is_some() {
                bytes[0] ^= 0x80;
            }
        }
        _ => {}
    }
    (target, bytes)
}
