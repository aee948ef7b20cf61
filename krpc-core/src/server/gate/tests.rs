//! The gate in its machine: what comes in which order, and what may begin then.

#![allow(clippy::unwrap_used)]

use crate::{
    ids::CallId,
    policy::Policy,
    server::{
        commit_map::FinishedMap,
        incoming::Methods,
        ledger::CommitPoint,
        machine::tests::{
            BUDGET, HERE, Machine, NOW, cancel, commit, deliver, finish, own, record, request,
            request_to, run, server_of,
        },
        service::MethodDescriptor,
    },
    status::Code,
    time::Time,
    transport::Record,
    wire::frame::Frame,
};

const METHODS: Methods = &[&MethodDescriptor {
    name: "once",
    path: "acme.Sum/once",
    doc: "",
    args: &[],
    output: "",
    error: None,
    timeout: None,
    idempotent: false,
    policy: &Policy { at_most_once: true, ..Policy::PLAIN },
    fingerprint: 0,
}];

fn owner(limit: usize) -> Machine {
    let mut machine = server_of(METHODS, 1, limit);
    own(&mut machine, &[HERE]);
    machine
}

fn once(call: u64) -> Frame<'static> {
    request_to("acme.Sum/once", call)
}

fn take(machine: &mut Machine, offset: i64, frames: &[Frame<'_>]) {
    machine.handle_record(&record(HERE, offset, frames), NOW);
}

fn acknowledge(machine: &mut Machine, made: bool) {
    machine.handle_committed(&[(HERE, made)], NOW);
}

/// Whether a point says that this call is finished.
fn says(points: &[CommitPoint], offset: i64, index: u32) -> bool {
    let [point] = points else { panic!("{points:?}") };
    let map = FinishedMap::decode(point.offset, &point.metadata).unwrap();
    offset < point.offset || map.is_finished(offset, index)
}

const UNAVAILABLE: Option<Code> = Some(Code::Unavailable);
const UNKNOWN: Option<Code> = Some(Code::Unknown);

#[test]
fn nothing_begins_before_the_claim_is_acknowledged() {
    let mut machine = server_of(METHODS, 1, 4);
    machine.handle_assigned(&[(HERE, None)], NOW);
    assert!(machine.has_commits() && machine.awaits_commit(), "it is due at once");
    take(&mut machine, 0, &[request(1)]);
    assert_eq!((run(&mut machine), machine.load().1), (None, 1));
    acknowledge(&mut machine, true);
    assert_eq!(run(&mut machine), None, "of the owner before");
    assert_eq!(machine.poll_commit().len(), 1);
    take(&mut machine, 1, &[request(2)]);
    acknowledge(&mut machine, false);
    assert!(run(&mut machine).is_none() && machine.has_commits(), "named again");
    assert_eq!(machine.poll_commit().len(), 1);
    assert!(!machine.take_ripe(), "nothing may run yet");
    acknowledge(&mut machine, true);
    assert!(machine.take_ripe(), "whoever commits runs nothing");
    assert!(run(&mut machine).is_some() && run(&mut machine).is_some());
    assert!(!machine.awaits_commit() && !machine.has_commits());
    take(&mut machine, 2, &[request(3)]);
    assert!(run(&mut machine).is_some(), "unasked from now on");
}

/// Nobody waits then: the loop of commits makes its pauses.
#[test]
fn a_crash_before_hurries_no_commit_but_the_claim() {
    let mut dead = server_of(METHODS, 1, 1);
    dead.handle_assigned(&[(HERE, None)], NOW);
    let claim = commit(&mut dead).remove(0);

    let mut machine = server_of(METHODS, 1, 4);
    machine.handle_assigned(&[(HERE, Some((claim.offset, claim.metadata)))], NOW);
    assert!(machine.awaits_commit());
    commit(&mut machine);
    assert!(!machine.awaits_commit(), "no record came that is in no doubt");
    take(&mut machine, 0, &[request(1)]);
    assert!(machine.awaits_commit(), "the predecessor may have died of it");
    commit(&mut machine);
    let place = run(&mut machine).unwrap();
    finish(&mut machine, place);
    deliver(&mut machine);
    assert!(machine.has_commits() && !machine.awaits_commit());
}

#[test]
fn an_at_most_once_call_begins_when_its_end_is_committed() {
    let mut machine = owner(4);
    take(&mut machine, 0, &[request(1), once(2), once(3)]);
    assert!(run(&mut machine).is_some() && run(&mut machine).is_none(), "the plain one alone");
    assert!(machine.has_commits() && machine.awaits_commit());
    let points = machine.poll_commit();
    assert!(!says(&points, 0, 0) && says(&points, 0, 1) && says(&points, 0, 2));
    take(&mut machine, 1, &[once(4)]);
    assert_eq!(run(&mut machine), None, "not acknowledged");
    acknowledge(&mut machine, false);
    assert_eq!(run(&mut machine), None, "nor made");
    let points = machine.poll_commit();
    assert!(says(&points, 0, 1) && says(&points, 1, 0), "again, and what came meanwhile");
    acknowledge(&mut machine, true);
    let places = [(); 3].map(|()| run(&mut machine).unwrap());
    assert_eq!(machine.unfinished(), 4);
    places.iter().for_each(|place| finish(&mut machine, *place));
    assert_eq!(deliver(&mut machine).len(), 3);
    assert_eq!((machine.unfinished(), machine.has_commits()), (1, false), "it is said already");
}

#[test]
fn what_the_map_does_not_cover_does_not_begin() {
    let mut machine = owner(4_000);
    for offset in (0_i64..4_000).step_by(2) {
        let call = offset.unsigned_abs();
        take(&mut machine, offset, &[request(call)]);
        take(&mut machine, offset + 1, &[once(call + 1)]);
    }
    let plain: Vec<_> = std::iter::from_fn(|| run(&mut machine)).collect();
    assert_eq!(plain.len(), 2_000);
    let points = commit(&mut machine);
    let out: Vec<_> = std::iter::from_fn(|| run(&mut machine)).collect();
    let said = (0..4_000).filter(|offset| says(&points, *offset, 0)).count();
    assert_eq!((out.len(), machine.load().1), (said, 2_000 - said));
    assert!((1_420..1_470).contains(&said), "{said}");
    // Those before it make room as they end.
    plain.iter().for_each(|place| finish(&mut machine, *place));
    deliver(&mut machine);
    commit(&mut machine);
    assert_eq!(std::iter::from_fn(|| run(&mut machine)).count(), 2_000 - said);
}

/// It fell out of the map as those before it fell into pieces, and began again elsewhere.
#[test]
fn a_call_that_has_begun_stays_committed() {
    let mut machine = owner(4_000);
    (0..3_200).for_each(|at: i64| take(&mut machine, at, &[request(at.unsigned_abs())]));
    take(&mut machine, 3_200, &[once(3_200)]);
    let plain: Vec<_> = std::iter::from_fn(|| run(&mut machine)).collect();
    commit(&mut machine);
    let begun = run(&mut machine).unwrap();
    plain.iter().skip(1).step_by(2).for_each(|place| finish(&mut machine, *place));
    deliver(&mut machine);
    take(&mut machine, 3_201, &[once(3_201)]);
    let points = commit(&mut machine);
    assert!(says(&points, 3_200, 0));
    assert_eq!(run(&mut machine), None, "no commit says so of the second");

    let mut successor = server_of(METHODS, 1, 1);
    let committed = Some((points[0].offset, points[0].metadata.clone()));
    successor.handle_assigned(&[(HERE, committed)], NOW);
    commit(&mut successor);
    take(&mut successor, 3_200, &[once(3_200)]);
    assert_eq!((run(&mut successor), successor.counts().skipped), (None, 1));

    plain.iter().step_by(2).for_each(|place| finish(&mut machine, *place));
    finish(&mut machine, begun);
    deliver(&mut machine);
    commit(&mut machine);
    assert!(run(&mut machine).is_some(), "there is room again");
}

#[test]
fn calls_of_a_released_partition_are_left_or_answered() {
    let mut machine = owner(1);
    take(&mut machine, 0, &[request(1), once(2), once(3)]);
    let first = run(&mut machine).unwrap();
    commit(&mut machine);
    take(&mut machine, 1, &[once(4)]);
    machine.poll_commit();
    take(&mut machine, 2, &[once(5)]);
    // 2 and 3 are out and not begun, 4 is in the commit under way, 5 waits.
    machine.release(&[HERE], NOW);
    assert_eq!(deliver(&mut machine), [(CallId(2), UNAVAILABLE), (CallId(3), UNAVAILABLE)]);
    assert!(!machine.is_released(&[HERE]));
    acknowledge(&mut machine, true);
    assert_eq!((run(&mut machine), deliver(&mut machine)), (None, vec![(CallId(4), UNAVAILABLE)]));
    finish(&mut machine, first);
    assert_eq!(deliver(&mut machine), [(CallId(1), None)]);
    assert!(machine.is_released(&[HERE]), "5 is left to the next owner");
    let points = machine.take_released(&[HERE], NOW);
    assert!(says(&points, 1, 0) && !says(&points, 2, 0));
    assert_eq!(deliver(&mut machine), []);
}

#[test]
fn a_commit_that_is_not_acknowledged_leaves_the_outcome_unknown() {
    for lost in [true, false] {
        let mut machine = owner(1);
        take(&mut machine, 0, &[once(1), once(2)]);
        machine.poll_commit();
        take(&mut machine, 1, &[once(3)]);
        if lost {
            machine.handle_lost(&[HERE], NOW);
        } else {
            machine.release(&[HERE], NOW);
            assert!(!machine.is_released(&[HERE]));
            machine.take_released(&[HERE], NOW);
        }
        assert_eq!(deliver(&mut machine), [(CallId(1), UNKNOWN), (CallId(2), UNKNOWN)]);
        acknowledge(&mut machine, true);
        assert_eq!((run(&mut machine), machine.unfinished(), machine.load().1), (None, 0, 0));
    }
}

/// An acknowledgement of the ownership before says nothing of this one.
#[test]
fn a_late_acknowledgement_opens_nothing() {
    let mut machine = owner(1);
    take(&mut machine, 0, &[once(1)]);
    machine.poll_commit();
    machine.handle_lost(&[HERE], NOW);
    assert_eq!(deliver(&mut machine), [(CallId(1), UNKNOWN)]);
    machine.handle_assigned(&[(HERE, None)], NOW);
    take(&mut machine, 0, &[once(1)]);
    acknowledge(&mut machine, true);
    assert_eq!(run(&mut machine), None);
    commit(&mut machine);
    assert!(run(&mut machine).is_some(), "nothing was committed for it before");
}

#[test]
fn a_call_given_up_in_the_gate_is_finished_without_an_answer() {
    let mut machine = owner(2);
    take(&mut machine, 0, &[once(1)]);
    machine.poll_commit();
    take(&mut machine, 1, &[once(2), once(3)]);
    take(&mut machine, 2, &[cancel(1), cancel(2)]);
    acknowledge(&mut machine, true);
    assert_eq!((run(&mut machine), machine.counts().cancelled), (None, 2));
    commit(&mut machine);
    assert!(run(&mut machine).is_some());
    assert_eq!((deliver(&mut machine), machine.unfinished()), (vec![], 1));
}

#[test]
fn what_became_too_late_in_the_gate_is_answered_and_not_executed() {
    let mut machine = owner(2);
    take(&mut machine, 0, &[once(1)]);
    machine.poll_commit();
    machine.handle_committed(&[(HERE, true)], NOW + BUDGET);
    assert!(machine.poll_dispatch(NOW + BUDGET, |_| 7).is_none());
    assert_eq!(deliver(&mut machine), [(CallId(1), Some(Code::DeadlineExceeded))]);
    assert_eq!(machine.unfinished(), 0);
}

#[test]
fn a_server_that_ends_says_what_it_cut_off() {
    let mut machine = owner(2);
    take(&mut machine, 0, &[once(1), request(2)]);
    commit(&mut machine);
    let places = [run(&mut machine).unwrap(), run(&mut machine).unwrap()];
    machine.retire(NOW);
    machine.abandon(NOW);
    assert_eq!(deliver(&mut machine), [(CallId(1), UNKNOWN)], "the other is repeated elsewhere");
    places.iter().for_each(|place| finish(&mut machine, *place));
    assert_eq!(deliver(&mut machine), [(CallId(2), None)], "answered once");
}

#[test]
fn a_fence_grows_with_each_owner() {
    let fence = |committed: Option<(i64, String)>, now: Time| {
        let mut machine = server_of(METHODS, 1, 1);
        machine.handle_assigned(&[(HERE, committed)], now);
        commit(&mut machine);
        let appended = None;
        machine.handle_record(&Record { appended, ..record(HERE, 0, &[request(1)]) }, now);
        let dispatch = machine.poll_dispatch(now, |_| 7).unwrap();
        assert_eq!(dispatch.call.attempt(), 1, "the last one ended in good order");
        let point = machine.take_released(&[HERE], now).remove(0);
        (dispatch.call.fence, Some((point.offset, point.metadata)))
    };
    let (first, committed) = fence(None, NOW);
    let (second, _) = fence(committed, NOW - BUDGET);
    assert_eq!(second, first + 1, "whatever its clock says");
    let (third, _) = fence(None, NOW + BUDGET);
    assert!(third > second, "nor does it need what was committed");
}
