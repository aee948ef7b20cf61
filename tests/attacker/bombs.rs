//! Packets that expand to far more than they are.

use std::fs;

use krpc::{
    prelude::secs,
    seal::{Level, Seal},
};
use krpc_core::{
    ids::InstanceId,
    transport::Topic,
    wire::{
        MAX_PACKET_BYTES,
        coding::put_varint,
        packet::{Header, Route},
    },
};

use super::{Scene, key};
use crate::support::{count, place::PARTITIONS, scenario};

const BOMBS: u64 = 10_000;

/// What they may cost at the most, beside what the broker keeps of them.
const ROOM_KIB: u64 = 192 * 1024;

/// What most of those claim whose claim is not too large.
const MODEST: usize = 16 * 1024;

/// How the header says that they are compressed, and what else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Guise {
    /// Nothing else.
    Unsealed,
    /// Encrypted, with a key that nobody has.
    OtherKey,
    /// Encrypted, with the key that is used here: the stranger has read its id.
    KnownKey([u8; 4]),
}

/// One of four kinds of bombs, of a sequence of its own.
fn bomb(number: u64, guise: Guise) -> Vec<u8> {
    let header = Header {
        sender: InstanceId::from_bytes([9; 16]),
        destination: InstanceId::ANY,
        sequence: number,
        reply_to: [Route::Partition(0)].into_iter().collect(),
    };
    let mut packet = Vec::new();
    header.encode(&mut packet);
    let room = MAX_PACKET_BYTES - packet.len();
    let (flags, key) = match guise {
        Guise::Unsealed => (0b0001, [0; 4]),
        Guise::OtherKey => (0b0011, [1, 2, 3, 4]),
        Guise::KnownKey(id) => (0b0011, id),
    };
    packet[3] = flags;
    packet[4..8].copy_from_slice(&key);
    let (claimed, holds) = match number % 4 {
        // Not all: in a build for tests expanding is slow.
        0 if !number.is_multiple_of(200) => (MODEST as u64, MODEST),
        0 => (room as u64, room),
        1 => (u64::MAX - number, MAX_PACKET_BYTES),
        2 => (1_000, MAX_PACKET_BYTES),
        _ if number % 200 > 3 => (MODEST as u64, 1_000),
        _ => (room as u64, 1_000),
    };
    put_varint(&mut packet, claimed);
    put_zeroes(&mut packet, holds);
    if guise != Guise::Unsealed {
        packet.extend_from_slice(&[5; 48]);
    }
    packet
}

/// A frame of Zstandard (RFC 8878) that holds so many zeroes, in blocks of one repeated byte.
fn put_zeroes(out: &mut Vec<u8>, mut count: usize) {
    const BLOCK: usize = 128 * 1024;
    // Magic; neither the content's size nor a checksum; a window of 4 MiB.
    out.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0, 12 << 3]);
    while count > 0 {
        let size = count.min(BLOCK);
        count -= size;
        let header = u32::try_from(size << 3).unwrap() | 1 << 1 | u32::from(count == 0);
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.push(0);
    }
}

/// The most memory that this process ever had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Writes them into both topics while calls are made; what the server, and what the channel
/// dropped of them.
async fn drop_them(scene: &Scene, guise: Guise) {
    let (before, memory) = (scene.dropped(), peak());
    let (mut calls, mut replies) = (0, 0);
    for number in 0..BOMBS {
        let bomb = bomb(number, guise);
        if number % 8 < 4 {
            scene.write(Topic::Calls, u32::try_from(number / 8).unwrap() % PARTITIONS, &bomb);
            calls += 1;
        } else {
            scene.write(Topic::Replies, 0, &bomb);
            replies += 1;
        }
        if number % 1_000 == 0 {
            let job = number / 1_000;
            assert_eq!(scene.work.quick(job).timeout(secs(50)).await, Ok(job));
        }
    }
    scene.until_dropped(before, (calls, replies)).await;
    scene.assert_executed(BOMBS / 1_000);
    let grown = peak() - memory;
    println!("figure: {BOMBS} bombs, {guise:?}: {} MiB more at the most", grown / 1024);
    assert!(grown < ROOM_KIB, "{grown} KiB more");
}

#[test]
fn bombs_under_no_key_another_key_or_the_known_id_are_never_expanded() {
    for level in [Level::Encrypted, Level::Unsealed] {
        let seal = Seal::new().compress(3).encrypt(key()).accept(level);
        scenario(async |place| {
            let scene = Scene::new(&place, seal.clone()).await;
            let guise = match level {
                Level::Encrypted => Guise::Unsealed,
                _ => Guise::OtherKey,
            };
            drop_them(&scene, guise).await;
            let dropped = scene.server.stats().dropped;
            let cause = if guise == Guise::Unsealed { "too_weak" } else { "unknown_key" };
            assert_eq!(count(&dropped, cause), BOMBS / 2, "{dropped:?}");
        });
    }
    scenario(async |place| {
        let scene = Scene::new(&place, Seal::new().compress(3).encrypt(key())).await;
        let (_, _, packet) = &scene.written(Topic::Calls)[0];
        let id = packet[4..8].try_into().unwrap();
        drop_them(&scene, Guise::KnownKey(id)).await;
        assert_eq!(count(&scene.server.stats().dropped, "bad_seal"), BOMBS / 2);
    });
}

#[test]
fn bombs_that_are_expanded_take_a_packet_of_memory_each_and_not_at_once() {
    scenario(async |place| {
        let scene = Scene::new(&place, Seal::new().compress(3)).await;
        drop_them(&scene, Guise::Unsealed).await;
        let dropped = scene.server.stats().dropped;
        let quarter = BOMBS / 8;
        assert_eq!(count(&dropped, "expansion"), quarter, "{dropped:?}");
        assert_eq!(count(&dropped, "bad_compression"), 2 * quarter, "{dropped:?}");
        // Zeroes are frames without anything in them, and too many of them.
        assert_eq!(count(&dropped, "too_large"), quarter, "{dropped:?}");
    });
}
