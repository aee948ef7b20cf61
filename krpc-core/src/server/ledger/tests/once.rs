//! What a commit said of a call that may be executed once at most, each later one says too.

use super::*;

fn says(point: &CommitPoint, (offset, index): (i64, u32)) -> bool {
    let map = FinishedMap::decode(point.offset, &point.metadata).unwrap();
    offset < point.offset || map.is_finished(offset, index)
}

/// Every other call is finished, and the last one early; at 2 there is a packet of 400 calls.
fn nearly_full() -> (i64, CommitPoint) {
    let point = |last: i64| {
        let mut ledger = taken(None);
        (0..=last).for_each(|at| _ = ledger.open(P, at, if at == 2 { 400 } else { 1 }));
        (1..last).step_by(2).for_each(|offset| assert!(ledger.finish(at(offset, 0))));
        assert!(ledger.finish_early(at(last, 0)));
        (only(ledger.commit_points()), ledger.covered(P))
    };
    let whole = (2_701..3_001).step_by(2).map(|last| (last, point(last)));
    let (last, (point, _)) = whole.filter(|(_, (_, covered))| *covered == i64::MAX).last().unwrap();
    (last, point)
}

/// The tail of the predecessor's map, where the map of those before it grows, and the head.
#[test]
fn an_inherited_call_is_not_unsaid() {
    let (last, point) = nearly_full();
    let mut ledger = taken(Some((0, &point.metadata)));
    (0..3).for_each(|offset| _ = ledger.open(P, offset, if offset == 2 { 400 } else { 1 }));
    ledger.begin_twice(at(2, 0));
    (0..10).for_each(|index| ledger.begin_named(at(2, index), 3));
    assert!(says(&only(ledger.commit_points()), (last, 0)), "room for the head");
    for index in (10..400).step_by(2) {
        assert!(ledger.finish(at(2, index)));
        let point = only(ledger.commit_points());
        assert!(says(&point, (last, 0)) && head(&point).twice == 3, "{index}");
    }
    assert_eq!(ledger.covered(P), i64::MIN, "nothing new may begin");
    assert!(ledger.finish(at(0, 0)));
    let point = only(ledger.commit_points());
    assert!(point.offset == 2 && says(&point, (last, 0)), "the offset goes on");
    (0..400).for_each(|index| _ = ledger.finish(at(2, index)));
    assert_eq!(only(ledger.commit_points()).offset, 4);
    assert_eq!(ledger.covered(P), i64::MAX);
}

/// One owner: it opens, finishes and finishes early in any order, and commits; `begun` are calls
/// that may be executed once at most, and have been.
fn own(dice: &mut Dice, stored: &mut Option<CommitPoint>, begun: &mut BTreeSet<(i64, u32)>) {
    let committed = stored.as_ref().map(|point| (point.offset, point.metadata.as_str()));
    let mut ledger = taken(committed);
    let mut next = committed.map_or(0, |(offset, _)| offset);
    let (mut running, mut early) = (Vec::new(), Vec::new());
    let (ahead, steps) = (3_000 + dice.roll(5_000), 10_000 + dice.roll(20_000));
    for _ in 0..steps {
        if (running.len() as u64) < ahead && dice.roll(3) > 0 {
            let calls = if next % 500 == 0 { 300 } else { 1 };
            ledger.open(P, next, calls);
            let open = (0..calls).filter(|index| !ledger.is_finished(at(next, *index)));
            running.extend(open.map(|index| (next, index)));
            next += 1;
        } else if !running.is_empty() {
            let pick = usize::try_from(dice.roll(running.len() as u64)).unwrap();
            let (offset, index) = running.swap_remove(pick);
            if dice.roll(20) == 0 {
                assert!(ledger.finish_early(at(offset, index)));
                early.push((offset, index));
            } else {
                assert!(ledger.finish(at(offset, index)));
            }
        }
        if dice.roll(500) > 0 || !ledger.has_changes() {
            continue;
        }
        let point = only(ledger.commit_points());
        if dice.roll(4) > 0 {
            let covered = ledger.covered(P);
            begun.extend(early.extract_if(.., |(offset, _)| *offset < covered));
            *stored = Some(point);
        } else {
            ledger.commit_failed(P);
        }
        check(stored.as_ref(), begun);
    }
    if dice.roll(2) == 0 {
        *stored = ledger.revoke(P);
        check(stored.as_ref(), begun);
    }
}

fn check(stored: Option<&CommitPoint>, begun: &BTreeSet<(i64, u32)>) {
    let Some(point) = stored else { return };
    let map = FinishedMap::decode(point.offset, &point.metadata).unwrap();
    for (offset, index) in begun.range((point.offset, 0)..) {
        assert!(map.is_finished(*offset, *index), "{offset}/{index}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn no_commit_unsays_a_call_that_may_have_begun(seed: u64) {
        let (mut dice, mut stored, mut begun) = (Dice(seed), None, BTreeSet::new());
        (0..4).for_each(|_| own(&mut dice, &mut stored, &mut begun));
    }
}
