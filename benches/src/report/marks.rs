//! The marks that a full run has to reach, each beside what was measured.
//!
//! A mark that is missed is shown as missed, and one whose case was not run as not run: a table
//! that shows only what is good would be of no use.
//!
//! Some marks need more than a system's own figure. These figures are of the case too, with words
//! of their own in the system's place:
//!
//! - `backlog`, `steady`: the same server with calls that come at the pace of its replies: their
//!   rate, and its peak of memory. That of `backlog`, `krpc` is the server's alone as well.
//! - `backlog`, `early` and `late`: the most memory that the server had in the first quarter of the
//!   drain, in which what it reads ahead is filled, and in its second half.
//! - `slow-fast`, `capacity`: the sum of the rates that each of the two servers has alone, which
//!   are `fast` and `slow`.
//! - `seal-one` and `seal-1024`: kRPC with its packets sealed in the way that stands there; `krpc`
//!   seals none.
//! - `cold`, `process`: kRPC's fresh processes, each from its start to its end.
//! - `idle`, `client` and `server`: of each its memory and, in microseconds *for each second*, its
//!   CPU time.
//!
//! The clients of `clients-64x16` share one connection, in kRPC a `Channel`, as its documentation
//! advises and as it does for the other systems. A connection for each is not what users are to
//! have; what it costs is shown beside that mark, without a bound.

use std::fmt;

use super::{
    CASES, CPU, Cell, P50, P99, RATE, RSS, Spread, name,
    table::{markdown, number, with_range},
};
use crate::figure::Figure;

/// Where the mark lies.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

impl Bound {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    Met,
    Missed,
    NotRun,
    /// There is no bound: it is for comparison.
    Shown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotRun => "not run",
            Self::Shown => "no mark",
        })
    }
}

/// One mark, held against the figures.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) case: &'static str,
    /// The quantity, or whose ratio to what.
    pub(crate) what: &'static str,
    pub(crate) bound: Option<Bound>,
    pub(crate) measured: Option<Spread>,
    /// kRPC's figure and the one it is held against, where the mark is a ratio.
    sides: Option<(f64, f64)>,
    pub(crate) verdict: Verdict,
}

/// What is measured for a mark: a quantity or, with `to`, its ratio within each round.
struct Rule {
    what: &'static str,
    of: Cell<'static>,
    to: Option<Cell<'static>>,
    bound: Option<Bound>,
    /// A quantity is divided by this, so that it is in the unit that `what` names.
    unit: f64,
}

impl Rule {
    const fn value(what: &'static str, of: Cell<'static>, most: f64, unit: f64) -> Self {
        Self { what, of, to: None, bound: Some(Bound::AtMost(most)), unit }
    }

    const fn ratio(what: &'static str, of: Cell<'static>, to: Cell<'static>, bound: Bound) -> Self {
        Self { what, of, to: Some(to), bound: Some(bound), unit: 1.0 }
    }

    /// A ratio that is only shown.
    const fn shown(what: &'static str, of: Cell<'static>, to: Cell<'static>) -> Self {
        Self { what, of, to: Some(to), bound: None, unit: 1.0 }
    }

    /// A quantity that is only shown.
    const fn look(what: &'static str, of: Cell<'static>) -> Self {
        Self { what, of, to: None, bound: None, unit: 1.0 }
    }

    /// kRPC's rate to that of another system in the same case.
    const fn peer(what: &'static str, case: &'static str, peer: &'static str, least: f64) -> Self {
        let to = Cell::new(peer, case, RATE);
        Self::ratio(what, Cell::new("krpc", case, RATE), to, Bound::AtLeast(least))
    }

    fn measure(&self, figures: &[Figure]) -> Mark {
        let measured = match self.to {
            Some(to) => self.of.ratio(to, figures),
            None => self.of.spread(figures).map(|spread| spread.divided_by(self.unit)),
        };
        let verdict = match (measured, self.bound) {
            (None, _) => Verdict::NotRun,
            (Some(_), None) => Verdict::Shown,
            (Some(spread), Some(bound)) if bound.is_met(spread.median) => Verdict::Met,
            (Some(_), Some(_)) => Verdict::Missed,
        };
        let median = |cell: Cell<'_>| Some(cell.spread(figures)?.median);
        let sides = self.to.and_then(|to| Some((median(self.of)?, median(to)?)));
        let (case, what, bound) = (self.of.case, self.what, self.bound);
        Mark { case, what, bound, measured, sides, verdict }
    }
}

const MILLISECOND: f64 = 1_000.0;

/// 1 % of a core, in microseconds of processor time for each second.
pub(super) const PERCENT: f64 = 10_000.0;

/// Queued calls take no memory of the server: once it has read ahead as far as it may, it needs no
/// more, however many are left. What grew steadily by more than a third would be above this. What
/// took the whole backlog at once would not, so the most that it had is shown too, without a bound.
const FLAT: Bound = Bound::AtMost(1.25);

const fn krpc(case: &'static str, field: super::Field) -> Cell<'static> {
    Cell::new("krpc", case, field)
}

const fn backlog(part: &'static str) -> Cell<'static> {
    Cell::new(part, "backlog", RSS)
}

const RULES: [Rule; 21] = [
    Rule::ratio("p50 : raw", krpc("one", P50), Cell::new("raw", "one", P50), Bound::AtMost(1.15)),
    Rule::peer("rate : raw", "128", "raw", 0.9),
    Rule::peer("rate : tonic", "128", "tonic", 1.5),
    Rule::peer("rate : tarpc", "1024", "tarpc", 1.3),
    Rule::peer("rate : tonic", "1024", "tonic", 7.0),
    Rule::peer("rate : tarpc", "8192", "tarpc", 2.0),
    Rule::ratio(
        "rate : one client with 1,024",
        krpc("clients-64x16", RATE),
        krpc("1024", RATE),
        Bound::AtLeast(0.8),
    ),
    Rule::shown("rate : one client with 1,024", krpc("channels-64x16", RATE), krpc("1024", RATE)),
    Rule::value("p99, ms", krpc("open-50", P99), 10.0, MILLISECOND),
    Rule::peer("bytes/s : raw", "1m", "raw", 0.8),
    Rule::peer("rate : steady rate", "backlog", "steady", 0.9),
    Rule::ratio("server's MiB, late : early", backlog("late"), backlog("early"), FLAT),
    Rule::look("server's MiB at most", backlog("krpc")),
    Rule::ratio(
        "encrypted, rate : not sealed",
        Cell::new("encrypt", "seal-1024", RATE),
        krpc("seal-1024", RATE),
        Bound::AtLeast(0.85),
    ),
    Rule::peer("rate : sum of capacities", "slow-fast", "capacity", 0.9),
    Rule::value("p50, ms", krpc("cold", P50), 120.0, MILLISECOND),
    Rule::value("p99, ms", krpc("cold", P99), 300.0, MILLISECOND),
    Rule::value("client, % of a core", Cell::new("client", "idle", CPU), 1.0, PERCENT),
    Rule::value("client, MiB", Cell::new("client", "idle", RSS), 40.0, 1.0),
    Rule::value("server, % of a core", Cell::new("server", "idle", CPU), 1.0, PERCENT),
    Rule::value("server, MiB", Cell::new("server", "idle", RSS), 40.0, 1.0),
];

/// Each mark, held against the figures.
pub(crate) fn marks(figures: &[Figure]) -> Vec<Mark> {
    RULES.iter().map(|rule| rule.measure(figures)).collect()
}

/// The marks as Markdown, and where those are that cannot be measured here.
pub(crate) fn marks_table(marks: &[Mark]) -> String {
    let head = ["mark", "kRPC's", "bound", "median", "kRPC", "beside", ""];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for mark in marks {
        let dash = || "–".to_owned();
        let side = |value: f64| number(value, if value < 100.0 { 1 } else { 0 });
        let (ours, its) =
            mark.sides.map_or_else(|| (dash(), dash()), |(ours, its)| (side(ours), side(its)));
        rows.push(vec![
            name(&CASES, mark.case).to_owned(),
            mark.what.to_owned(),
            mark.bound.map_or_else(dash, |bound| bound.to_string()),
            mark.measured.map_or_else(dash, |spread| with_range(spread, 2)),
            ours,
            its,
            mark.verdict.to_string(),
        ]);
    }
    let elsewhere = "Allocations per call are counted by `cargo xtask guards`.";
    format!("{}\n{elsewhere}\n", markdown(&rows))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{super::tests::figure, *};

    /// Figures that lie on the bound of a rule, or the factor away from it.
    fn at(rule: &Rule, factor: f64) -> Vec<Figure> {
        let bound = match rule.bound {
            Some(Bound::AtMost(bound) | Bound::AtLeast(bound)) => bound,
            None => 1.0,
        };
        let make = |cell: Cell<'_>, value: f64| {
            let mut figure = figure(cell.system, cell.case, value, value);
            (figure.p99_us, figure.cpu_us_per_call, figure.rss_mib) = (value, value, value);
            figure
        };
        match rule.to {
            None => vec![make(rule.of, bound * rule.unit * factor)],
            Some(to) => vec![make(rule.of, 1_000.0 * bound * factor), make(to, 1_000.0)],
        }
    }

    fn verdict(rule: &Rule, figures: &[Figure]) -> Verdict {
        rule.measure(figures).verdict
    }

    #[test]
    fn each_mark_is_met_on_its_bound_and_on_the_good_side_and_else_missed() {
        for rule in &RULES {
            let Some(bound) = rule.bound else {
                assert_eq!(verdict(rule, &at(rule, 0.01)), Verdict::Shown, "{}", rule.what);
                continue;
            };
            let good = if matches!(bound, Bound::AtMost(_)) { 0.99 } else { 1.01 };
            assert_eq!(verdict(rule, &at(rule, 1.0)), Verdict::Met, "{}", rule.what);
            assert_eq!(verdict(rule, &at(rule, good)), Verdict::Met, "{}", rule.what);
            assert_eq!(verdict(rule, &at(rule, 1.0 / good)), Verdict::Missed, "{}", rule.what);
        }
    }

    #[test]
    fn a_mark_without_both_its_sides_was_not_run() {
        for rule in &RULES {
            let mut figures = at(rule, 1.0);
            while figures.pop().is_some() {
                assert_eq!(verdict(rule, &figures), Verdict::NotRun, "{}", rule.what);
            }
        }
        assert!(marks(&[]).iter().all(|mark| mark.verdict == Verdict::NotRun));
    }

    #[test]
    fn the_median_of_the_rounds_decides() {
        let rule = &RULES[3];
        let mut figures = at(rule, 0.5);
        figures.extend([at(rule, 1.1), at(rule, 1.2)].concat());
        assert_eq!(verdict(rule, &figures), Verdict::Met);
        figures.extend([at(rule, 0.8), at(rule, 0.7)].concat());
        assert_eq!(verdict(rule, &figures), Verdict::Missed);
    }

    #[test]
    fn the_table_shows_what_is_missed_and_what_was_not_run() {
        let figures = [
            figure("krpc", "1024", 240_000.0, 4_000.0),
            figure("tarpc", "1024", 200_000.0, 6_000.0),
            figure("tonic", "1024", 30_000.0, 30_000.0),
        ];
        let table = marks_table(&marks(&figures));
        let row = |at: usize| {
            let line = table.lines().nth(at + 2).unwrap();
            line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>()
        };
        assert_eq!(row(0)[2..], ["≤ 1.15", "–", "–", "–", "not run"]);
        assert_eq!(row(3)[..3], ["1,024 in flight", "rate : tarpc", "≥ 1.3"]);
        assert_eq!(row(3)[3..], ["1.20", "240,000", "200,000", "MISSED"]);
        assert_eq!(row(4)[3..], ["8.00", "240,000", "30,000", "met"]);
    }
}
