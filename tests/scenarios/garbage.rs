//! Records that nobody should have written, into both topics of a service while it works.

use std::{borrow::Cow, collections::BTreeMap, time::Duration};

use krpc::{InstanceId, Metadata, prelude::*};
use krpc_core::{
    codec::ValueCodec,
    ids::CallId,
    time::Micros,
    transport::Topic,
    wire::{
        frame::{Cancel, Frame, Outcome, Reply as ReplyFrame, Request},
        packet::{Header, Route, Routes},
    },
};
use tokio::task::JoinSet;

use crate::support::{
    Place, count, eventually, eventually_ok,
    place::PARTITIONS,
    scenario,
    services::{Adder, SumClient, SumServer},
    start,
    stranger::Stranger,
    total,
};

/// How often garbage is written, and how many calls are made at the same time.
const ROUNDS: u64 = 20;
const CALLS: i64 = 100;

/// Records of each kind in a round, of cut and of flipped ones.
const EACH: u64 = 3;
const DAMAGED: u64 = 20;

#[test]
fn garbage_is_dropped_and_counted_and_no_call_is_lost() {
    scenario(async |place| {
        // One partition of replies, so that all of the garbage meets the channel.
        let server = place.server().set("KRPC_REPLY_PARTITIONS", 1);
        let server = start(server.serve(SumServer::new(Adder))).await;
        let channel = place.channel().set("KRPC_REPLY_PARTITIONS", 1).connect().await.unwrap();
        channel.open("Sum").await.unwrap();
        let sum = SumClient::new(&channel);
        let stranger = Stranger::new(&place, "Sum");
        let mut calls = Garbage::new(&place, InstanceId::ANY, true);
        let mut replies = Garbage::new(&place, channel.instance(), false);

        let mut good = JoinSet::new();
        for round in 0..ROUNDS {
            for n in 0..CALLS {
                let (x, y) = (i64::try_from(round).unwrap(), n);
                let call = sum.add(x * CALLS, y).timeout(secs(50));
                good.spawn(async move { call.await == Ok(x * CALLS + y) });
            }
            calls.write_round(|at, record| {
                let partition = u32::try_from(at % u64::from(PARTITIONS)).unwrap();
                stranger.write(Topic::Calls, partition, record);
            });
            replies.write_round(|_, record| stranger.write(Topic::Replies, 0, record));
        }
        stranger.flush();
        let right = good.join_all().await;
        assert_eq!(right.len(), 2_000);
        assert!(right.into_iter().all(|right| right), "a call was lost or answered wrongly");

        eventually_ok(|| {
            let stats = server.stats();
            let taken = stats.counts.executed - 2_000 + stats.counts.expired;
            calls.is_counted(&stats.dropped, taken)
        })
        .await;
        eventually_ok(|| replies.is_counted(&channel.stats("Sum").unwrap().dropped, 0)).await;
        // Nothing of it holds up what comes later, and it is committed as all else is.
        assert_eq!(sum.add(1, 2).await, Ok(3));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        server.shutdown().await.unwrap();
        let server = place.server().set("KRPC_REPLY_PARTITIONS", 1);
        let server = start(server.serve(SumServer::new(Adder))).await;
        assert_eq!(sum.add(1, 2).await, Ok(3));
        assert_eq!(server.stats().counts.executed, 1, "a record was read again");
    });
}

/// Makes garbage, the same in each run, and remembers how it must be counted.
struct Garbage {
    /// Whom packets are for, unless they are meant to be for another.
    destination: InstanceId,
    is_calls: bool,
    /// Whether packets are sealed: then what is not is refused, whatever else is wrong with it.
    is_refused: bool,
    sender: InstanceId,
    random: u64,
    sequence: u64,
    written: u64,
    expected: BTreeMap<&'static str, u64>,
}

impl Garbage {
    fn new(place: &Place, destination: InstanceId, is_calls: bool) -> Self {
        let (expected, is_refused) = (BTreeMap::new(), place.seal.is_some());
        let sender = InstanceId::from_bytes([5; 16]);
        let (random, sequence, written) = (7, 0, 0);
        Self { destination, is_calls, is_refused, sender, random, sequence, written, expected }
    }

    /// Whether each cause was counted as often as it must be, and all records were, but for those
    /// that were taken for good.
    fn is_counted(&self, dropped: &[(&'static str, u64)], taken: u64) -> Result<(), String> {
        let few = |(cause, times): &(&&str, &u64)| count(dropped, cause) < **times;
        let few: Vec<_> = self.expected.iter().filter(|it| !self.is_refused && few(it)).collect();
        if few.is_empty() && total(dropped) + taken >= self.written {
            return Ok(());
        }
        let written = self.written;
        Err(format!("{written} written, {taken} taken, {dropped:?}, too few of {few:?}"))
    }

    fn write_round(&mut self, mut write: impl FnMut(u64, Option<&[u8]>)) {
        self.sender = InstanceId::from_bytes([5; 16]);
        for _ in 0..EACH {
            for (cause, record) in self.of_each_kind() {
                write(self.written, record.as_deref());
                self.written += 1;
                *self.expected.entry(cause).or_default() += 1;
            }
        }
        // Of another sender: a changed sequence would move the window of duplicates.
        self.sender = InstanceId::from_bytes([6; 16]);
        for n in 0..DAMAGED {
            let (mut record, header) = self.good();
            if n % 2 == 0 {
                // Anywhere but after the header, where it would be a sound packet of no frames.
                let cut = self.below(record.len());
                record.truncate(if cut == header { cut - 1 } else { cut });
            } else {
                let bit = self.below(record.len() * 8);
                // Not the bit that would make a route of the only frame.
                let (byte, bit) = if bit / 8 == header - 1 { (4, 0) } else { (bit / 8, bit % 8) };
                record[byte] ^= 1 << bit;
            }
            write(self.written, Some(&record));
            self.written += 1;
        }
    }

    /// One record of each kind, and its cause.
    fn of_each_kind(&mut self) -> Vec<(&'static str, Option<Vec<u8>>)> {
        let changed = |record: &(Vec<u8>, usize), at: usize, byte: u8| {
            let mut record = record.0.clone();
            record[at] = byte;
            Some(record)
        };
        let good = self.good();
        let mut random: Vec<u8> = (0..self.below(300)).map(|_| self.byte()).collect();
        random.insert(0, b'K');
        let mut left_over = good.0.clone();
        left_over.extend([0x01, 0x7f]);
        let unknown = |out: &mut Vec<u8>| out.extend([0x7e, 3, 1, 2, 3]);
        let malformed = |out: &mut Vec<u8>| out.extend([0x01, 2, 0xff, 0xff]);
        let (foreign, mine) = (InstanceId::from_bytes([9; 16]), self.destination);
        let mut kinds = vec![
            ("empty", None),
            ("empty", Some(Vec::new())),
            ("bad_magic", Some(random)),
            ("bad_magic", Some(b"{\"method\":\"add\"}".to_vec())),
            ("version", changed(&good, 2, 2)),
            ("version", changed(&good, 2, 0)),
            ("flags", changed(&good, 3, 0x80)),
            ("flags", changed(&good, 7, 1)),
            ("malformed", Some(good.0[..30].to_vec())),
            ("malformed", Some(left_over)),
            ("foreign", Some(self.packet(foreign, |out| request(out, "Sum/add")))),
            ("unknown_kind", Some(self.packet(mine, unknown))),
            ("frame_malformed", Some(self.packet(mine, malformed))),
        ];
        let repeated = self.packet(mine, unknown);
        kinds.push(("unknown_kind", Some(repeated.clone())));
        if self.is_calls {
            kinds.push(("unexpected_kind", Some(self.packet(mine, |out| reply(out, 1)))));
        } else {
            // One partition only, so the second of two does meet the first.
            kinds.push(("duplicate", Some(repeated)));
            let nobody = u64::MAX - self.sequence;
            kinds.push(("unknown_call", Some(self.packet(mine, |out| reply(out, nobody)))));
            let everyone = self.packet(InstanceId::ANY, |out| reply(out, 0));
            kinds.push(("misrouted_reply", Some(everyone)));
            let among_replies = self.packet(mine, |out| request(out, "Sum/add"));
            kinds.push(("unexpected_kind", Some(among_replies)));
            let cancel = |out: &mut Vec<u8>| Cancel { call: CallId(0) }.encode(out).unwrap();
            kinds.push(("unexpected_kind", Some(self.packet(mine, cancel))));
        }
        kinds
    }

    /// A packet as ours are, and the length of its header.
    fn good(&mut self) -> (Vec<u8>, usize) {
        let header = self.packet(self.destination, |_| {}).len();
        let (is_calls, nobody) = (self.is_calls, u64::MAX - self.sequence);
        let packet = self.packet(self.destination, |out| {
            if is_calls { request(out, "Sum/add") } else { reply(out, nobody) }
        });
        (packet, header)
    }

    /// A packet of its own sequence.
    fn packet(&mut self, destination: InstanceId, frames: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        // From 1,000 on the number takes as many bytes for each packet.
        self.sequence += 1;
        let sequence = 1_000 + self.sequence;
        let reply_to = if self.is_calls { vec![Route::Partition(0)].into() } else { Routes::new() };
        let mut out = Vec::new();
        Header { sender: self.sender, destination, sequence, reply_to }.encode(&mut out);
        frames(&mut out);
        out
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = self.random;
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }

    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap();
        usize::try_from(self.next() % bound).unwrap()
    }
}

fn request(out: &mut Vec<u8>, path: &str) {
    let request = Request {
        call: CallId(7),
        terms: None,
        path,
        budget: Duration::from_secs(10),
        deadline: None,
        fingerprint: 7,
        codec: ValueCodec::MessagePack,
        metadata: Cow::Owned(Metadata::new()),
        value: b"\x82\xa1x\x01\xa1y\x02",
    };
    Frame::Request(request).encode(out).unwrap();
}

fn reply(out: &mut Vec<u8>, call: u64) {
    let reply = ReplyFrame {
        call: CallId(call),
        server_elapsed: Micros(5),
        flight_request: Micros(6),
        metadata: Cow::Owned(Metadata::new()),
        outcome: Outcome::Ok { codec: ValueCodec::MessagePack, value: b"\x2a" },
    };
    Frame::Reply(reply).encode(out).unwrap();
}
