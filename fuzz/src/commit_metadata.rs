//! What a commit's metadata says, and what the next owner says of it in its turn.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use krpc_core::{
    delay::CLASSES,
    ids::{PartitionId, Position},
    server::{
        commit_map::{FinishedMap, Head, MapError},
        ledger::{CommitPoint, Ledger, Opened},
    },
    wire::MAX_MAP_CHARS,
};

use super::memory::within;

const PARTITION: PartitionId = PartitionId { service: 0, partition: 3 };

/// Offsets where the commit is, the last so that entries soon pass the largest.
const COMMITTED: [i64; 3] = [0, 1_000, i64::MAX - 1_000];

/// How far beyond the committed offset calls are looked at, and how many of each record.
const OFFSETS: i64 = 40;
const CALLS: u32 = 10;

/// Calls that a head names, at most.
const NAMED: usize = 64;

/// Characters that an owner leaves to the head of the next: 220 bytes.
const ROOM: usize = 294;

/// Reads text, and bytes as text.
///
/// # Panics
/// One of the properties does not hold.
pub fn run(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        read(COMMITTED[1], text, data);
    }
    let text = BASE64_URL_SAFE_NO_PAD.encode(data);
    COMMITTED.iter().for_each(|offset| read(*offset, &text, data));
}

fn read(offset: i64, text: &str, choices: &[u8]) {
    let read = within(1024 + 110 * text.len(), || FinishedMap::read(offset, text));
    let mut ledger = Ledger::new();
    let assigned = ledger.assign(PARTITION, Some((offset, text)), 7);
    let (head, map) = match read {
        Ok(read) => read,
        Err(error) => {
            assert_eq!(assigned, Err(error));
            assert_eq!(matches!(error, MapError::TooLong(_)), text.len() > MAX_MAP_CHARS);
            return;
        }
    };
    assert_eq!(assigned.as_ref(), Ok(&head));
    assert!(text.len() <= MAX_MAP_CHARS);
    let begun = head.named.iter().all(|named| named.offset >= offset);
    assert!(begun && head.named.len() <= NAMED && head.held.len() <= CLASSES as usize);
    assert!(head.held.iter().all(|held| *held >= 0) && (head.twice == 0 || head.twice > offset));
    let fence = head.fence.saturating_add(1).max(7);
    assert_eq!(ledger.fence(PARTITION), Some(fence));

    let point = only_point(&mut ledger);
    let (said, again) = decoded(&point, offset);
    assert_eq!((said.fence, said.released, said.held), (fence, false, head.held.clone()));
    if text.len() + ROOM <= MAX_MAP_CHARS {
        each_call(point.offset, |at, index| {
            let (before, now) = (map.is_finished(at, index), again.is_finished(at, index));
            assert_eq!(before, now, "call {index} of {at} is said otherwise");
        });
    }
    work(&mut ledger, offset, choices);
    last_word(&mut ledger, &head);
}

/// Records are opened and calls are finished: the next commit says what the ledger knows.
fn work(ledger: &mut Ledger, offset: i64, choices: &[u8]) {
    for (at, choice) in (offset..).zip(choices.iter().take(24)) {
        let calls = u32::from(choice % 8) + 1;
        let opened = ledger.open(PARTITION, at, calls);
        assert_ne!(opened, Opened::NotAssigned);
        for index in (0..calls).filter(|index| choice >> index & 1 == 1) {
            let position = Position { partition: PARTITION, offset: at, index };
            let unfinished = ledger.is_unfinished(position);
            assert_eq!(ledger.finish(position), unfinished);
            assert!(ledger.is_finished(position) && !ledger.is_unfinished(position));
        }
    }
    if !ledger.has_changes() {
        return;
    }
    let point = only_point(ledger);
    let (_, said) = decoded(&point, offset);
    let covered = ledger.covered(PARTITION);
    each_call(point.offset, |at, index| {
        let known = ledger.is_finished(Position { partition: PARTITION, offset: at, index });
        // Beyond that it lacks some; and it may be the last one's word once more.
        if at < covered {
            assert_eq!(said.is_finished(at, index), known, "call {index} of {at}");
        }
    });
}

fn last_word(ledger: &mut Ledger, before: &Head) {
    let point = ledger.revoke(PARTITION).expect("it was assigned and not lost");
    let (said, _) = decoded(&point, 0);
    assert!(said.released || !before.released);
    assert_eq!((said.held, ledger.total_unfinished()), (before.held.clone(), 0));
}

fn only_point(ledger: &mut Ledger) -> CommitPoint {
    let mut points = ledger.commit_points();
    assert!(points.len() == 1 && !ledger.has_changes());
    points.remove(0)
}

fn decoded(point: &CommitPoint, offset: i64) -> (Head, FinishedMap) {
    assert!(point.offset >= offset && point.metadata.len() <= MAX_MAP_CHARS);
    FinishedMap::read(point.offset, &point.metadata).expect("what was written can be read")
}

/// The calls near a commit.
fn each_call(offset: i64, mut call: impl FnMut(i64, u32)) {
    for at in offset..offset.saturating_add(OFFSETS) {
        (0..CALLS).for_each(|index| call(at, index));
    }
}
