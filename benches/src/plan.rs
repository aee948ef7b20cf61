//! What a run consists of: which cases, how often, how long, and how much time that takes.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::{
    cases::{CASES, Case, Closed, Kind, PEAK, SMOKE, WARM_UP},
    load::Times,
    systems::{System, seal},
};

/// How much is done in each case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    /// Of the closed and the open loop.
    pub(crate) times: Times,
    /// How long each case of the warm-up runs; none runs if that is nothing.
    pub(crate) warm_up: Times,
    /// Calls that wait for a server.
    pub(crate) backlog: u64,
    /// Fresh processes of each system.
    pub(crate) fresh: u64,
    /// How long idle processes are watched.
    pub(crate) idle: Duration,
    /// Unless the command line says otherwise.
    rounds: usize,
}

pub(crate) const FULL: Scale = Scale {
    times: times(1_000, 2_000),
    warm_up: times(0, 3_000),
    backlog: 1_000_000,
    fresh: 50,
    idle: Duration::from_secs(10),
    rounds: 5,
};

pub(crate) const QUICK: Scale = Scale {
    times: times(400, 800),
    warm_up: times(0, 2_000),
    backlog: 100_000,
    fresh: 10,
    idle: Duration::from_secs(3),
    rounds: 2,
};

pub(crate) const BRIEF: Scale = Scale {
    times: times(50, 300),
    warm_up: times(0, 0),
    backlog: 1_000,
    fresh: 2,
    idle: Duration::from_secs(1),
    rounds: 1,
};

const fn times(warm_ms: u64, measure_ms: u64) -> Times {
    Times { warm_ms, measure_ms }
}

/// What a run consists of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) scale: Scale,
    pub(crate) cases: Vec<Case>,
    pub(crate) systems: Vec<System>,
    pub(crate) rounds: usize,
}

impl Plan {
    pub(crate) fn smoke(systems: Vec<System>) -> Self {
        Self { scale: BRIEF, cases: SMOKE.to_vec(), systems, rounds: 1 }
    }

    /// The cases of these names, or all that the scale has.
    pub(crate) fn new(
        quick: bool,
        only: &[String],
        systems: Vec<System>,
        rounds: Option<usize>,
    ) -> Result<Self> {
        for name in only {
            let names = || CASES.iter().map(|case| case.name).collect::<Vec<_>>().join(", ");
            let known = CASES.iter().any(|case| case.name == name);
            ensure!(known, "there is no case `{name}`, only {}", names());
        }
        let wanted = |case: &&Case| match only {
            [] => case.quick || !quick,
            names => names.iter().any(|name| name == case.name),
        };
        let scale = if quick { QUICK } else { FULL };
        let cases = CASES.iter().filter(wanted).copied().collect();
        Ok(Self { scale, cases, systems, rounds: rounds.unwrap_or(scale.rounds) })
    }

    /// The numbers of brokers that are needed, one after the other.
    pub(crate) fn clusters(&self) -> Vec<usize> {
        let mut clusters: Vec<_> = self.cases.iter().map(|case| case.brokers).collect();
        clusters.sort_unstable();
        clusters.dedup();
        clusters
    }

    /// The cases of a round, from 1, on so many brokers.
    pub(crate) fn cases(&self, brokers: usize, round: usize) -> impl Iterator<Item = &Case> {
        let wanted = move |case: &&Case| case.brokers == brokers && round <= case.rounds;
        self.cases.iter().filter(wanted)
    }

    /// The systems that a case is measured with: several brokers make a difference only on Kafka.
    pub(crate) fn systems(&self, brokers: usize) -> impl Iterator<Item = System> {
        self.systems.iter().copied().filter(move |it| brokers == 1 || it.is_on_kafka())
    }

    /// The same in the order of a round: every second one goes backwards, so that none is always
    /// the one that finds the broker rested, or busy with what another left.
    pub(crate) fn turns(&self, brokers: usize, round: usize) -> Vec<System> {
        let mut systems: Vec<_> = self.systems(brokers).collect();
        if round.is_multiple_of(2) {
            systems.reverse();
        }
        systems
    }

    /// How long all of it takes.
    pub(crate) fn estimate(&self) -> Duration {
        let seconds = |brokers| {
            let rounds = (1..=self.rounds).flat_map(|round| self.cases(brokers, round));
            self.start(brokers) + rounds.map(|case| self.seconds(case)).sum::<f64>()
        };
        Duration::from_secs_f64(self.clusters().into_iter().map(seconds).sum())
    }

    /// A Kafka's start and warm-up.
    fn start(&self, brokers: usize) -> f64 {
        let warm_up = self.scale.warm_up;
        let cases = if warm_up.is_nothing() { 0 } else { WARM_UP.len() };
        let systems = self.systems.iter().filter(|system| system.is_on_kafka()).count();
        3.0 + 4.0 * brokers as f64 + (cases * systems) as f64 * (seconds(warm_up) + 0.4)
    }

    /// A case in one round. What is added to the measured times was measured on two cores.
    fn seconds(&self, case: &Case) -> f64 {
        let Scale { times, backlog, fresh, idle, .. } = self.scale;
        let systems = self.systems(case.brokers).count() as f64;
        match case.kind {
            Kind::Closed(Closed { load, .. }) => {
                systems * (seconds(times) + 0.3 + 0.02 * load.connections as f64)
            }
            Kind::AtMostOnce(_) => 2.0 * (seconds(times) + 0.3),
            Kind::Sealed(_) => seal::ALL.len() as f64 * (seconds(times) + 0.4),
            Kind::Open(_) => {
                let peak = self.cases.iter().any(|case| case.name == PEAK);
                systems * (seconds(times) + 0.3) * if peak { 1.0 } else { 2.0 }
            }
            Kind::Backlog => seconds(times) + 5.0 + backlog as f64 * 15e-6,
            Kind::SlowFast => 3.0 * (seconds(times) + 0.4),
            Kind::Cold => 1.0 + systems * fresh as f64 * 0.05,
            Kind::Idle => 1.5 + idle.as_secs_f64(),
        }
    }
}

fn seconds(times: Times) -> f64 {
    (times.warm_ms + times.measure_ms) as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::systems::ALL;

    fn plan(quick: bool, only: &[&str], rounds: Option<usize>) -> Plan {
        let only: Vec<_> = only.iter().map(ToString::to_string).collect();
        Plan::new(quick, &only, ALL.to_vec(), rounds).unwrap()
    }

    #[test]
    fn runs_take_no_longer_than_promised() {
        let minutes = |plan: Plan| plan.estimate().as_secs_f64() / 60.0;
        assert!(minutes(plan(true, &[], None)) < 2.8, "a quick run takes under 3 minutes");
        assert!(minutes(plan(false, &[], None)) < 25.0, "a full run takes under 26 minutes");
        assert!(minutes(Plan::smoke(ALL.to_vec())) < 0.6);
    }

    #[test]
    fn names_of_cases_are_all_different_and_must_be_known() {
        let mut names: Vec<_> = CASES.iter().map(|case| case.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
        assert!(Plan::new(false, &["none".to_owned()], ALL.to_vec(), None).is_err());
        assert_eq!(plan(true, &["open-10"], None).cases.len(), 1, "named, so not left out");
    }

    /// Ratios pair the n-th figures of two cases: what has fewer rounds has the first ones.
    #[test]
    fn cases_with_few_rounds_are_in_the_first_ones() {
        let plan = plan(false, &["one", "backlog"], Some(5));
        let cases: Vec<_> = (1..=5).map(|round| plan.cases(1, round).count()).collect();
        assert_eq!(cases, [2, 2, 2, 1, 1]);
    }

    #[test]
    fn several_brokers_are_for_the_systems_on_kafka() {
        let plan = plan(false, &["one", "cluster-one"], None);
        assert_eq!(plan.clusters(), [1, 3]);
        assert_eq!((plan.systems(1).count(), plan.systems(3).count()), (4, 2));
        assert_eq!(plan.cases(3, 1).map(|case| case.name).collect::<Vec<_>>(), ["cluster-one"]);
    }

    #[test]
    fn every_second_round_goes_backwards() {
        let plan = plan(false, &["one"], None);
        let turns = [1, 2, 3].map(|round| plan.turns(1, round));
        assert_eq!(turns[0], ALL);
        assert_eq!(turns[2], ALL);
        assert_eq!(turns[1].iter().rev().copied().collect::<Vec<_>>(), ALL);
    }
}
