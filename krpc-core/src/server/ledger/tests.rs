//! The ledger against a model of it, takeovers, and what it costs.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a measurement has a clock

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::MAX_MAP_CHARS;

mod once;

const P: PartitionId = PartitionId { service: 0, partition: 3 };

const fn at(offset: i64, index: u32) -> Position {
    Position { partition: P, offset, index }
}

/// An owner that has said so already.
fn taken(committed: Option<(i64, &str)>) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.assign(P, committed, 0).unwrap();
    assert_eq!(only(ledger.commit_points()).offset, committed.map_or(0, |(offset, _)| offset));
    ledger
}

/// A point's offset, and whether it says anything of what is beyond.
fn whole(point: &CommitPoint) -> (i64, bool) {
    let map = FinishedMap::decode(point.offset, &point.metadata).unwrap();
    (point.offset, map == FinishedMap::default())
}

fn head(point: &CommitPoint) -> Head {
    FinishedMap::read(point.offset, &point.metadata).unwrap().0
}

fn only(points: Vec<CommitPoint>) -> CommitPoint {
    assert_eq!(points.len(), 1, "{points:?}");
    points.into_iter().next().unwrap()
}

/// A small generator: machines have no randomness, tests have a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[test]
fn the_commit_point_is_the_lowest_unfinished() {
    let mut ledger = taken(None);
    assert!(!ledger.has_changes() && ledger.commit_points().is_empty());
    assert_eq!(ledger.open(P, 40, 2), Opened::Fresh);
    assert!(!ledger.has_changes(), "nothing is finished yet");
    assert_eq!(ledger.open(P, 44, 1), Opened::Fresh);
    assert!(ledger.finish(at(40, 1)) && ledger.finish(at(44, 0)));
    let point = only(ledger.commit_points());
    assert_eq!(point.offset, 40);
    let mut successor = taken(Some((40, &point.metadata)));
    assert_eq!(successor.open(P, 40, 2), Opened::Resumed);
    assert!(successor.is_finished(at(40, 1)) && !successor.is_finished(at(40, 0)));
    assert_eq!(successor.open(P, 44, 1), Opened::Finished);

    assert!(ledger.finish(at(40, 0)));
    let point = only(ledger.commit_points());
    assert_eq!(whole(&point), (45, true), "holes are finished");
    assert!(ledger.commit_points().is_empty(), "named once");
}

#[test]
fn an_owner_says_that_it_is_there_and_how_it_went() {
    let mut first = Ledger::new();
    assert_eq!(first.assign(P, None, 40), Ok(Head::default()), "nobody before");
    let claim = only(first.commit_points());
    let expected = Head { fence: 40, released: false, ..Head::default() };
    assert_eq!((whole(&claim), head(&claim), first.fence(P)), ((0, true), expected, Some(40)));
    assert!(!first.has_changes());
    first.commit_failed(P);
    assert_eq!(only(first.commit_points()), claim);

    let mut second = Ledger::new();
    let before = second.assign(P, Some((0, &claim.metadata)), 7).unwrap();
    assert_eq!(
        (before.released, second.fence(P)),
        (false, Some(41)),
        "it grows whatever the clock"
    );
    second.begin_twice(at(9, 0));
    let last = second.revoke(P).unwrap();
    let doubt = Head { fence: 41, released: false, ..Head::default() };
    assert_eq!(head(&last), doubt, "as the first left it");
    assert_eq!((second.is_assigned(P), second.fence(P)), (false, None));

    let mut third = Ledger::new();
    third.assign(P, Some((0, &last.metadata)), 0).unwrap();
    third.open(P, 0, 1);
    third.trust(P, 1);
    third.finish(at(0, 0));
    assert_eq!(head(&third.revoke(P).unwrap()), Head { fence: 42, ..Head::default() });
}

/// At most once: finished for the successor before it begins, here when it is answered.
#[test]
fn a_call_finished_early_is_unfinished_here() {
    let mut ledger = taken(None);
    ledger.open(P, 0, 2);
    assert!(ledger.finish_early(at(0, 1)) && !ledger.finish_early(at(0, 1)));
    assert!(ledger.is_early(at(0, 1)) && !ledger.is_early(at(0, 0)));
    assert_eq!((ledger.unfinished(P), ledger.total_unfinished()), (2, 2));
    let point = only(ledger.commit_points());
    assert_eq!(ledger.covered(P), i64::MAX);
    let mut successor = taken(Some((0, &point.metadata)));
    assert_eq!(successor.open(P, 0, 2), Opened::Resumed);
    assert!(successor.is_finished(at(0, 1)));
    assert!(ledger.finish_early(at(0, 0)), "the last of its packet");
    assert_eq!(only(ledger.commit_points()).offset, 1);
    assert!(ledger.finish(at(0, 1)) && ledger.finish(at(0, 0)) && !ledger.finish(at(0, 0)));
    assert_eq!((ledger.unfinished(P), ledger.has_changes()), (0, false));
}

/// What does not fit into the map is not said, and the ledger knows where that begins.
#[test]
fn a_full_map_says_how_far_it_goes() {
    let mut ledger = taken(None);
    (0..4_000).for_each(|offset| _ = ledger.open(P, offset, 1));
    (0..4_000)
        .filter(|offset| offset % 2 == 1)
        .for_each(|at| assert!(ledger.finish(self::at(at, 0))));
    let point = only(ledger.commit_points());
    let (map, covered) = (FinishedMap::decode(0, &point.metadata).unwrap(), ledger.covered(P));
    assert!((2_840..2_940).contains(&covered), "{covered}");
    for offset in 0..4_000 {
        assert_eq!(map.is_finished(offset, 0), offset % 2 == 1 && offset < covered, "{offset}");
    }
}

#[test]
fn calls_of_one_record_are_finished_together_and_each_counts_once() {
    let mut ledger = taken(None);
    let finish = |ledger: &mut Ledger, offset, calls: &[u32]| {
        ledger.finish_of(P, offset, calls.iter().copied())
    };
    ledger.open(P, 0, 4);
    ledger.open(P, 1, 2);
    assert_eq!(finish(&mut ledger, 0, &[2, 0, 2, 4]), 2, "one came twice, one does not exist");
    assert_eq!((ledger.unfinished(P), ledger.total_unfinished()), (4, 4));
    assert!(ledger.finish_early(at(0, 1)));
    assert_eq!(finish(&mut ledger, 0, &[1, 3, 1, 0]), 2, "one of them was early");
    assert_eq!((ledger.unfinished(P), ledger.total_unfinished()), (2, 2));
    assert_eq!(only(ledger.commit_points()).offset, 1);
    assert_eq!(finish(&mut ledger, 0, &[3]) + finish(&mut ledger, 7, &[0]), 0);
    assert!(!ledger.has_changes(), "nothing was finished");
    ledger.lose(P);
    assert_eq!(finish(&mut ledger, 1, &[0, 1]), 0);
    assert_eq!(ledger.total_unfinished(), 0);
}

#[test]
fn finishing_twice_or_elsewhere_says_no() {
    let mut ledger = taken(None);
    assert!(!ledger.finish(at(0, 0)));
    ledger.open(P, 0, 2);
    assert!(!ledger.finish(at(0, 2)) && !ledger.finish(at(1, 0)) && !ledger.finish(at(-1, 0)));
    assert!(ledger.finish(at(0, 0)) && !ledger.finish(at(0, 0)));
    assert!(ledger.finish(at(0, 1)) && !ledger.finish(at(0, 1)));
    assert_eq!(ledger.total_unfinished(), 0);
}

#[test]
fn records_come_once() {
    let mut ledger = taken(Some((10, "")));
    assert_eq!(ledger.open(P, 9, 1), Opened::Finished, "below the commit point");
    assert_eq!(ledger.open(P, 10, 1), Opened::Fresh);
    assert_eq!(ledger.open(P, 10, 1), Opened::Finished, "open already");
    assert_eq!(ledger.open(P, 11, 0), Opened::Finished, "garbage");
    assert_eq!(ledger.open(P, 5, 1), Opened::Finished);
    assert_eq!(ledger.open(PartitionId { service: 1, partition: 3 }, 5, 1), Opened::NotAssigned);
    assert_eq!((ledger.unfinished(P), ledger.total_unfinished()), (1, 1));
    assert_eq!(only(ledger.commit_points()).offset, 10);
    assert!(ledger.finish(at(10, 0)));
    assert_eq!(ledger.revoke(P).map(|point| point.offset), Some(12));
}

#[test]
fn a_failed_commit_is_named_again() {
    let mut ledger = taken(None);
    ledger.open(P, 0, 1);
    ledger.finish(at(0, 0));
    let point = only(ledger.commit_points());
    assert!(!ledger.has_changes());
    ledger.commit_failed(P);
    assert_eq!(only(ledger.commit_points()), point);
    let last = ledger.revoke(P).unwrap();
    assert_eq!(whole(&last), whole(&point), "that commit may still fail");
    ledger.commit_failed(P);
    assert!(!ledger.has_changes());
}

#[test]
fn a_lost_partition_commits_nothing() {
    let mut ledger = taken(None);
    ledger.open(P, 0, 2);
    ledger.finish(at(0, 0));
    ledger.lose(P);
    assert!(!ledger.has_changes() && !ledger.is_assigned(P) && ledger.commit_points().is_empty());
    assert!(!ledger.finish(at(0, 1)), "the handler that still ran");
    assert_eq!(ledger.total_unfinished(), 0);
    assert_eq!(ledger.open(P, 1, 1), Opened::NotAssigned);
}

#[test]
fn unreadable_metadata_is_an_empty_map() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.assign(P, Some((5, "host-17")), 0), Err(MapError::NotBase64));
    assert_eq!(ledger.open(P, 4, 1), Opened::Finished, "its offset holds");
    assert_eq!(ledger.open(P, 5, 1), Opened::Fresh);
    assert_eq!(ledger.assign(P, Some((i64::MIN, "")), 0), Ok(Head::default()));
    assert_eq!(ledger.total_unfinished(), 0, "it started anew");
    assert_eq!(ledger.open(P, i64::MAX, 1), Opened::Fresh);
}

/// The planted bug "map forgotten on takeover": the second owner commits before it has read the
/// records that the first one finished out of order; the third must still know them.
#[test]
fn inherited_entries_survive_commits_before_they_are_read_again() {
    let mut first = taken(None);
    (0..20).for_each(|offset| _ = first.open(P, offset, 3));
    (10..20).for_each(|offset| (0..3).for_each(|index| assert!(first.finish(at(offset, index)))));
    assert!(first.finish(at(8, 1)));
    let point = first.revoke(P).unwrap();
    assert_eq!(point.offset, 0);

    let mut second = taken(Some((0, &point.metadata)));
    assert_eq!(second.open(P, 0, 3), Opened::Fresh);
    assert!(second.finish(at(0, 0)));
    let point = only(second.commit_points());
    assert!(second.is_finished(at(15, 2)) && !second.is_finished(at(7, 0)));

    let mut third = taken(Some((point.offset, &point.metadata)));
    assert_eq!(third.open(P, 0, 3), Opened::Resumed);
    (1..8).for_each(|offset| assert_eq!(third.open(P, offset, 3), Opened::Fresh));
    assert_eq!(third.open(P, 8, 3), Opened::Resumed);
    assert!(third.is_finished(at(8, 1)) && !third.is_finished(at(8, 0)));
    assert_eq!(third.open(P, 9, 3), Opened::Fresh);
    (10..20).for_each(|offset| assert_eq!(third.open(P, offset, 3), Opened::Finished));
    assert_eq!(third.total_unfinished(), 9 * 3 + 2 - 1);
}

#[test]
fn a_packet_of_another_size_is_repeated_whole() {
    let mut first = taken(None);
    first.open(P, 0, 1);
    first.open(P, 1, 3);
    first.finish(at(1, 2));
    let point = first.revoke(P).unwrap();
    let mut second = taken(Some((point.offset, &point.metadata)));
    second.open(P, 0, 1);
    assert_eq!(second.open(P, 1, 4), Opened::Fresh);
    assert!(!second.is_finished(at(1, 2)));
    assert_eq!(second.unfinished(P), 5);
}

#[test]
fn the_commit_point_passes_an_inherited_run() {
    let mut first = taken(None);
    (0..50).for_each(|offset| _ = first.open(P, offset, 1));
    (1..50).for_each(|offset| assert!(first.finish(at(offset, 0))));
    let point = first.revoke(P).unwrap();
    let mut second = taken(Some((point.offset, &point.metadata)));
    second.open(P, 0, 1);
    second.finish(at(0, 0));
    let point = only(second.commit_points());
    assert_eq!(whole(&point), (50, true));
    assert_eq!(second.open(P, 30, 1), Opened::Finished);
    assert_eq!(second.open(P, 50, 1), Opened::Fresh);
}

/// The record that was unfinished is gone from the log (its retention passed): what is left of the
/// partition is finished, and the group learns it.
#[test]
fn reading_only_finished_records_moves_the_commit_point() {
    let mut first = taken(None);
    (0..3).for_each(|offset| _ = first.open(P, offset, 1));
    (1..3).for_each(|offset| assert!(first.finish(at(offset, 0))));
    let point = first.revoke(P).unwrap();
    let mut second = taken(Some((point.offset, &point.metadata)));
    assert_eq!(second.open(P, 1, 1), Opened::Finished);
    assert_eq!(only(second.commit_points()).offset, 3);
}

/// One slow call and 10,000 fast ones, in packets of 1 to 256 calls: the map stays tiny.
#[test]
fn one_slow_call_among_ten_thousand() {
    for size in [1, 2, 16, 64, 256] {
        let mut ledger = taken(None);
        let packets = 10_000 / i64::from(size) + 1;
        (0..packets).for_each(|offset| _ = ledger.open(P, offset, size));
        let fast = (0..packets).flat_map(|offset| (0..size).map(move |index| at(offset, index)));
        fast.skip(1).for_each(|position| assert!(ledger.finish(position)));
        let point = only(ledger.commit_points());
        println!("packets of {size}: {} characters", point.metadata.len());
        assert_eq!(point.offset, 0);
        assert!(point.metadata.len() <= 24, "{}", point.metadata.len());
        assert_eq!(ledger.partitions[&P].open.len(), 1, "memory is what is unfinished");
    }
}

/// What the log holds, what is finished in truth, and what the group last committed.
struct World {
    log: BTreeMap<i64, u32>,
    finished: BTreeSet<(i64, u32)>,
    stored: Option<CommitPoint>,
    /// What was finished when `stored` was taken, as far as its owner knew.
    stored_knows: BTreeSet<(i64, u32)>,
}

impl World {
    fn store(&mut self, point: CommitPoint, knows: &BTreeSet<(i64, u32)>) {
        assert!(point.metadata.len() <= MAX_MAP_CHARS && point.metadata.is_ascii());
        let before = self.stored.as_ref().map_or(i64::MIN, |point| point.offset);
        assert!(before <= point.offset, "the commit went back");
        for (offset, calls) in self.log.range(before..point.offset) {
            for index in 0..*calls {
                assert!(self.finished.contains(&(*offset, index)), "committed past {offset}");
            }
        }
        self.stored = Some(point);
        self.stored_knows = knows.clone();
    }

    /// One owner: takes over, reads some, finishes some in any order, commits now and then, and
    /// goes with or without a word. Returns how many calls it found unfinished.
    fn own(&mut self, dice: &mut Dice, exact: bool, steps: u64) {
        let committed = self.stored.as_ref().map(|point| (point.offset, point.metadata.as_str()));
        let mut ledger = taken(committed);
        let start = self.stored.as_ref().map_or(i64::MIN, |point| point.offset);
        let mut knows = self.stored_knows.clone();
        let mut unread =
            self.log.range(start..).map(|(at, calls)| (*at, *calls)).rev().collect::<Vec<_>>();
        let mut running = Vec::new();
        for _ in 0..dice.roll(steps) {
            match dice.roll(8) {
                0..3 => {
                    let Some((offset, calls)) = unread.pop() else { continue };
                    let todo = self.read(&mut ledger, offset, calls, &mut knows, exact);
                    running.extend(todo.into_iter().map(|index| (offset, index)));
                }
                3..7 if !running.is_empty() => {
                    let pick = usize::try_from(dice.roll(running.len() as u64)).unwrap();
                    let (offset, index) = running.swap_remove(pick);
                    assert!(ledger.finish(at(offset, index)));
                    self.finished.insert((offset, index));
                    knows.insert((offset, index));
                }
                7 if exact || dice.roll(500) == 0 => {
                    let changed = ledger.has_changes();
                    let points = ledger.commit_points();
                    assert_eq!(changed, points.len() == 1);
                    match points.into_iter().next() {
                        Some(point) if dice.roll(4) > 0 => self.store(point, &knows),
                        Some(point) => ledger.commit_failed(point.partition),
                        None => {}
                    }
                }
                _ => {}
            }
            assert_eq!(ledger.unfinished(P), running.len());
            assert_eq!(ledger.total_unfinished(), running.len());
        }
        let last = if dice.roll(2) == 0 { ledger.revoke(P) } else { None };
        if let Some(point) = last {
            self.store(point, &knows);
        }
    }

    fn read(
        &self,
        ledger: &mut Ledger,
        offset: i64,
        calls: u32,
        knows: &mut BTreeSet<(i64, u32)>,
        exact: bool,
    ) -> BTreeSet<u32> {
        let opened = ledger.open(P, offset, calls);
        let todo = (0..calls).filter(|index| !ledger.is_finished(at(offset, *index)));
        let todo = todo.collect::<BTreeSet<_>>();
        for index in 0..calls {
            let known = knows.contains(&(offset, index));
            assert!(todo.contains(&index) || known, "skipped {offset}/{index}, never finished");
            if exact {
                assert_ne!(todo.contains(&index), known, "repeated {offset}/{index}");
            } else if todo.contains(&index) {
                knows.remove(&(offset, index));
            }
        }
        let expected = match todo.len() {
            0 => Opened::Finished,
            left if left == calls as usize => Opened::Fresh,
            _ => Opened::Resumed,
        };
        assert_eq!(opened, expected);
        todo
    }
}

fn chain(seed: u64, owners: usize, sizes: &[u32], records: u64, exact: bool) {
    let mut dice = Dice(seed);
    let mut log = BTreeMap::new();
    let mut offset = 0;
    for _ in 0..records {
        offset += 1 + i64::try_from(dice.roll(6).saturating_sub(3)).unwrap();
        log.insert(offset, sizes[usize::try_from(dice.roll(sizes.len() as u64)).unwrap()]);
    }
    let mut world =
        World { log, finished: BTreeSet::new(), stored: None, stored_knows: BTreeSet::new() };
    let steps = if exact { 400 } else { 15_000 };
    (0..owners).for_each(|_| world.own(&mut dice, exact, steps));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Against sets of calls: a chain of owners that come, finish in any order, commit or fail to,
    /// and go. Nothing unfinished is committed past or skipped; nothing the map names is repeated.
    #[test]
    fn takeovers_repeat_only_the_unfinished(seed: u64, owners in 1_usize..8) {
        chain(seed, owners, &[0, 1, 1, 2, 3, 9, 70], 60, true);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3))]

    /// The same where maps overflow: what was cut is repeated, and nothing else goes wrong.
    #[test]
    fn takeovers_with_full_maps_lose_nothing(seed: u64) {
        chain(seed, 3, &[4096, 3000, 1], 14, false);
    }
}

/// Run by hand: `cargo test --release … ledger_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn ledger_speed() {
    for (size, held) in [(1, 256), (1, 8192), (64, 8192)] {
        let mut ledger = taken(None);
        let mut dice = Dice(1);
        let mut running = Vec::new();
        let mut next = 0;
        let rounds = 2_000_000;
        let before = std::time::Instant::now();
        for round in 0..rounds {
            while running.len() < held {
                ledger.open(P, next, size);
                running.extend((0..size).map(|index| (next, index)));
                next += 1;
            }
            let pick = usize::try_from(dice.roll(running.len() as u64)).unwrap();
            let (offset, index) = running.swap_remove(pick);
            assert!(ledger.finish(at(offset, index)));
            if round % 20_000 == 0 {
                assert!(!ledger.commit_points().is_empty());
            }
        }
        println!("packets of {size}, {held} running: {:?} per call", before.elapsed() / rounds);
    }
}
