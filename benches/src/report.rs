//! What the figures of all rounds say: medians, spreads and ratios.
//!
//! Figures come as one for each system, case and round, those of an earlier round before those of
//! a later one. So the n-th figure of one system and the n-th of another were measured in the
//! same round. Ratios are formed within a round, and only then is their median taken: what makes
//! the machine slow for a minute slows both, and cancels. A ratio of medians would keep it.

mod marks;
mod table;

use serde::Serialize;

pub(crate) use marks::{marks, marks_table};
pub(crate) use table::table;

use crate::figure::Figure;

/// Cases as they are written, and what they are called in the tables.
const CASES: [(&str, &str); 25] = [
    ("one", "one at a time"),
    ("128", "128 in flight"),
    ("1024", "1,024 in flight"),
    ("8192", "8,192 in flight"),
    ("1k", "1 KiB values"),
    ("64k", "64 KiB values"),
    ("1m", "1 MiB values"),
    ("clients-1x16", "1 client × 16"),
    ("clients-16x16", "16 clients × 16"),
    ("clients-64x16", "64 clients × 16"),
    ("channels-16x16", "16 connections × 16"),
    ("channels-64x16", "64 connections × 16"),
    ("servers-2", "2 servers"),
    ("servers-4", "4 servers"),
    ("open-10", "open loop, 10 % of peak"),
    ("open-50", "open loop, 50 % of peak"),
    ("open-80", "open loop, 80 % of peak"),
    ("seal-one", "sealed, one at a time"),
    ("seal-1024", "sealed, 1,024 in flight"),
    ("backlog", "backlog"),
    ("slow-fast", "slow and fast server"),
    ("cluster-one", "3 brokers, one at a time"),
    ("cluster-1024", "3 brokers, 1,024 in flight"),
    ("cold", "connect → first reply"),
    ("idle", "idle"),
];

/// Systems as they are written, and what they are called in tables and plots.
pub(crate) const SYSTEMS: [(&str, &str); 4] =
    [("raw", "raw rdkafka"), ("krpc", "kRPC"), ("tarpc", "tarpc"), ("tonic", "tonic")];

/// One quantity of a figure. Zero stands for what the case does not measure.
pub(crate) type Field = fn(&Figure) -> f64;

pub(crate) const RATE: Field = |figure| figure.calls_per_s;
pub(crate) const P50: Field = |figure| figure.p50_us;
pub(crate) const P99: Field = |figure| figure.p99_us;
const P999: Field = |figure| figure.p999_us;
const CPU: Field = |figure| figure.cpu_us_per_call;
const RSS: Field = |figure| figure.rss_mib;

/// A quantity over the rounds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None without values. What is not a number, such as a ratio to what was not measured, does
    /// not count.
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let below = if values.len() % 2 == 0 { values[middle - 1] } else { values[middle] };
        Some(Self { median: f64::midpoint(below, values[middle]), min, max })
    }

    fn divided_by(self, unit: f64) -> Self {
        Self { median: self.median / unit, min: self.min / unit, max: self.max / unit }
    }
}

/// One quantity of one system in one case.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell<'a> {
    pub(crate) system: &'a str,
    pub(crate) case: &'a str,
    pub(crate) field: Field,
}

impl<'a> Cell<'a> {
    pub(crate) const fn new(system: &'a str, case: &'a str, field: Field) -> Self {
        Self { system, case, field }
    }

    /// Its value in each round.
    fn rounds<'b>(self, figures: &'b [Figure]) -> impl Iterator<Item = f64> + use<'a, 'b> {
        let ours = move |it: &&Figure| it.system == self.system && it.case == self.case;
        figures.iter().filter(ours).map(self.field)
    }

    /// Its median and range; none where it was not run.
    pub(crate) fn spread(self, figures: &[Figure]) -> Option<Spread> {
        Spread::of(self.rounds(figures))
    }

    /// How many times another's value it has, within each round.
    pub(crate) fn ratio(self, to: Cell<'_>, figures: &[Figure]) -> Option<Spread> {
        Spread::of(self.rounds(figures).zip(to.rounds(figures)).map(|(ours, its)| ours / its))
    }
}

/// What was measured: case and system, in the order of the tables. What the tables do not know
/// comes last.
fn measured(figures: &[Figure]) -> Vec<(&str, &str)> {
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    for figure in figures {
        let pair = (figure.case.as_str(), figure.system.as_str());
        if !pairs.contains(&pair) {
            pairs.push(pair);
        }
    }
    let place = |all: &[(&str, &str)], name: &str| {
        all.iter().position(|(known, _)| *known == name).unwrap_or(all.len())
    };
    pairs.sort_by_key(|(case, system)| (place(&CASES, case), *case, place(&SYSTEMS, system)));
    pairs
}

/// The name for readers, or the word itself.
fn name<'a>(all: &[(&str, &'a str)], word: &'a str) -> &'a str {
    all.iter().find(|(known, _)| *known == word).map_or(word, |(_, name)| name)
}

/// The medians of one system in one case. A [`Figure`] with more fields: it can be read as one.
#[derive(Serialize)]
struct Medians {
    #[serde(flatten)]
    figure: Figure,
    calls_per_s_min: f64,
    calls_per_s_max: f64,
    rounds: usize,
}

/// The medians of each system in each case.
fn medians(figures: &[Figure]) -> Vec<Medians> {
    let medians = measured(figures).into_iter().filter_map(|(case, system)| {
        let of = |field| Cell::new(system, case, field).spread(figures);
        let rate = of(RATE)?;
        let figure = Figure {
            system: system.to_owned(),
            case: case.to_owned(),
            calls_per_s: rate.median,
            p50_us: of(P50)?.median,
            p99_us: of(P99)?.median,
            p999_us: of(P999)?.median,
            cpu_us_per_call: of(CPU)?.median,
            rss_mib: of(RSS)?.median,
        };
        let rounds = Cell::new(system, case, RATE).rounds(figures).count();
        Some(Medians { figure, calls_per_s_min: rate.min, calls_per_s_max: rate.max, rounds })
    });
    medians.collect()
}

/// The medians as JSON: an array with one object, and one line, for each case and system.
pub(crate) fn json(figures: &[Figure]) -> serde_json::Result<String> {
    let lines: Result<Vec<_>, _> = medians(figures).iter().map(serde_json::to_string).collect();
    Ok(format!("[\n{}\n]\n", lines?.join(",\n")))
}

/// Figures from what [`json`] wrote: for each case and system the medians, as if of one round. So
/// their ratios are of medians, without a range, and may differ a little from those of the run.
pub(crate) fn from_json(text: &str) -> serde_json::Result<Vec<Figure>> {
    serde_json::from_str(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// A figure whose other fields follow from these two.
    pub(super) fn figure(system: &str, case: &str, rate: f64, p50: f64) -> Figure {
        Figure {
            system: system.to_owned(),
            case: case.to_owned(),
            calls_per_s: rate,
            p50_us: p50,
            p99_us: p50 * 3.0,
            p999_us: p50 * 5.0,
            cpu_us_per_call: 4.0,
            rss_mib: 20.0,
        }
    }

    #[test]
    fn the_median_is_the_middle_or_between_the_two_middle_ones() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        let of = |median, min, max| Some(Spread { median, min, max });
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), of(3.0, 3.0, 3.0));
        assert_eq!(spread(&[9.0, 1.0, 4.0]), of(4.0, 1.0, 9.0));
        assert_eq!(spread(&[9.0, 1.0, 4.0, 5.0]), of(4.5, 1.0, 9.0));
        assert_eq!(spread(&[f64::NAN, 1.0, f64::INFINITY]), of(1.0, 1.0, 1.0));
    }

    #[test]
    fn ratios_are_formed_within_a_round() {
        // The machine is ten times slower in the second round and twice as fast in the third.
        let mut figures = Vec::new();
        for drift in [1.0, 0.1, 2.0] {
            figures.push(figure("tarpc", "1024", 100.0 * drift, 9.0));
            figures.push(figure("krpc", "1024", 150.0 * drift, 9.0));
        }
        let cell = |system| Cell::new(system, "1024", RATE);
        let ratio = cell("krpc").ratio(cell("tarpc"), &figures).unwrap();
        for value in [ratio.median, ratio.min, ratio.max] {
            assert!((value - 1.5).abs() < 1e-9, "{ratio:?}");
        }
        let rate = cell("krpc").spread(&figures).unwrap();
        assert_eq!((rate.median, rate.min, rate.max), (150.0, 15.0, 300.0));
        assert_eq!(cell("krpc").ratio(cell("tonic"), &figures), None);
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        let figures = [figure("krpc", "idle", 0.0, 0.0), figure("raw", "idle", 0.0, 0.0)];
        let cell = |system| Cell::new(system, "idle", RATE);
        assert_eq!(cell("krpc").ratio(cell("raw"), &figures), None);
    }

    #[test]
    fn json_has_one_object_for_each_case_and_system_and_can_be_read_again() {
        let mut figures = Vec::new();
        for rate in [300.0, 100.0, 200.0] {
            figures.push(figure("krpc", "1024", rate, rate));
            figures.push(figure("raw", "one", rate / 2.0, 7.0));
            figures.push(figure("krpc", "one", rate, 8.0));
        }
        let text = json(&figures).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let objects = value.as_array().unwrap();
        let at: Vec<_> = objects
            .iter()
            .map(|it| (it["case"].as_str().unwrap(), it["system"].as_str().unwrap()))
            .collect();
        assert_eq!(at, [("one", "raw"), ("one", "krpc"), ("1024", "krpc")]);
        assert_eq!(objects[2]["calls_per_s"], 200.0);
        assert_eq!(objects[2]["calls_per_s_min"], 100.0);
        assert_eq!(objects[2]["calls_per_s_max"], 300.0);
        assert_eq!(objects[2]["p99_us"], 600.0);
        assert_eq!(objects[2]["rounds"], 3);
        assert_eq!(text.lines().count(), 5);
        let again = from_json(&text).unwrap();
        let rate = Cell::new("krpc", "1024", RATE);
        assert_eq!(rate.spread(&again).unwrap().median, 200.0);
        assert!(from_json("[{}]").is_err());
    }

    #[test]
    fn cases_the_tables_do_not_know_come_last() {
        let figures = [
            figure("krpc", "new", 1.0, 1.0),
            figure("other", "one", 1.0, 1.0),
            figure("krpc", "one", 1.0, 1.0),
            figure("krpc", "one", 1.0, 1.0),
        ];
        assert_eq!(measured(&figures), [("one", "krpc"), ("one", "other"), ("new", "krpc")]);
    }
}
