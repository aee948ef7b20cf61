//! The order of keys through whole lives of servers: calls come, run, end, are answered in any
//! order, committed at any moment; servers crash, or give their partition away in good order.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::server::ledger::CommitPoint;

const KEYS: u64 = 3;

/// What happens next; numbers pick one of what there is.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A record of so many calls.
    Arrive(u64),
    Run,
    End(usize),
    /// The reports of replies come in any order.
    Deliver(usize),
    Commit,
    Crash,
    HandOver,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1_u64..8).prop_map(Step::Arrive),
        8 => Just(Step::Run),
        8 => any::<usize>().prop_map(Step::End),
        6 => any::<usize>().prop_map(Step::Deliver),
        3 => Just(Step::Commit),
        1 => Just(Step::Crash),
        1 => Just(Step::HandOver),
    ]
}

/// A partition, its servers one after the other, and what the handlers saw.
struct World {
    /// The calls of each record.
    log: Vec<Vec<u64>>,
    calls: u64,
    committed: Option<(i64, String)>,
    machine: Machine,
    life: u32,
    /// Handlers: place and call.
    running: Vec<(usize, u64)>,
    sent: Vec<Transmit>,
    /// Of each key the last call that began, and the server's life.
    last: Vec<Option<(u64, u32)>>,
    ended: BTreeSet<u64>,
}

const fn key_of(call: u64) -> u64 {
    // Not the call's remainder, so that records hold several calls of a key.
    call / 2 % KEYS
}

/// Of a key's calls, the how manieth this is.
const fn ordinal(call: u64) -> u64 {
    call / (2 * KEYS) * 2 + call % 2
}

impl World {
    fn new() -> Self {
        Self {
            log: Vec::new(),
            calls: 0,
            committed: None,
            machine: owner(4),
            life: 0,
            running: Vec::new(),
            sent: Vec::new(),
            last: vec![None; usize::try_from(KEYS).unwrap()],
            ended: BTreeSet::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Arrive(calls) => {
                self.log.push((self.calls..self.calls + calls).collect());
                self.calls += calls;
                self.read(self.log.len() - 1);
            }
            Step::Run => self.run(),
            Step::End(pick) => self.end(pick),
            Step::Deliver(pick) => self.deliver(pick),
            Step::Commit => self.commit(),
            Step::Crash => self.next_life(),
            Step::HandOver => self.hand_over(),
        }
        self.sent.extend(answers(&mut self.machine).into_iter().map(|(transmit, _)| transmit));
    }

    fn read(&mut self, offset: usize) {
        let key = |call: &u64| of_key(*call, &key_of(*call).to_be_bytes());
        let frames: Vec<_> = self.log[offset].iter().map(key).collect();
        self.machine.handle_record(&record(HERE, offset.try_into().unwrap(), &frames), NOW);
    }

    fn run(&mut self) {
        while let Some((place, call)) = next(&mut self.machine) {
            let key = key_of(call);
            let beside = self.running.iter().find(|(_, other)| key_of(*other) == key);
            assert!(beside.is_none(), "{call} began while {beside:?} ran");
            let last = self.last[usize::try_from(key).unwrap()].replace((call, self.life));
            let follows = ordinal(call) == last.map_or(0, |(last, _)| ordinal(last) + 1);
            let repeats = last.is_some_and(|(last, life)| life != self.life && call <= last);
            assert!(follows || repeats, "{call} after {last:?}, in life {}", self.life);
            self.running.push((place, call));
        }
    }

    fn end(&mut self, pick: usize) {
        if self.running.is_empty() {
            return;
        }
        let (place, call) = self.running.swap_remove(pick % self.running.len());
        finish(&mut self.machine, place);
        self.ended.insert(call);
    }

    fn deliver(&mut self, pick: usize) {
        if self.sent.is_empty() {
            return;
        }
        let transmit = self.sent.swap_remove(pick % self.sent.len());
        self.machine.handle_delivered(transmit.token, &STORED, NOW);
    }

    fn commit(&mut self) {
        let points = self.machine.poll_commit();
        self.keep(&points);
        let results: Vec<_> = points.iter().map(|point| (point.partition, true)).collect();
        self.machine.handle_committed(&results, NOW);
    }

    fn keep(&mut self, points: &[CommitPoint]) {
        if let Some(point) = points.last() {
            self.committed = Some((point.offset, point.metadata.clone()));
        }
    }

    /// The handlers that run on at the release timeout are cut off.
    fn hand_over(&mut self) {
        self.machine.release(&[HERE], NOW);
        self.machine.cut_off(&[HERE], NOW);
        for (place, _) in std::mem::take(&mut self.running) {
            finish(&mut self.machine, place);
        }
        assert!(self.machine.is_cut_off(&[HERE]));
        let points = self.machine.take_released(&[HERE], NOW);
        self.keep(&points);
        assert_clean(&self.machine);
        self.next_life();
    }

    fn next_life(&mut self) {
        self.life += 1;
        self.running.clear();
        self.sent.clear();
        // It is not about what ends servers: none of it is given up.
        self.machine = server(1, 4).with_attempts(1_000);
        self.machine.handle_assigned(&[(HERE, self.committed.clone())], NOW);
        self.commit();
        let from = self.committed.as_ref().map_or(0, |(offset, _)| *offset);
        (usize::try_from(from).unwrap()..self.log.len()).for_each(|offset| self.read(offset));
    }
}

proptest! {
    #[test]
    fn no_life_of_a_server_changes_the_order_of_a_key(
        steps in proptest::collection::vec(step(), 1..300),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.step(step));
        while !world.machine.is_flushed() || world.machine.unfinished() > 0 {
            let steps = [Step::Commit, Step::Run, Step::End(0), Step::Deliver(0)];
            steps.into_iter().for_each(|step| world.step(step));
        }
        world.commit();
        prop_assert!(world.ended.iter().copied().eq(0..world.calls), "each was executed");
        let end = world.committed.map_or(0, |(offset, _)| offset);
        prop_assert_eq!(usize::try_from(end).unwrap(), world.log.len());
        assert_clean(&world.machine);
    }
}
