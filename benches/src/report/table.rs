//! The table of a run, as Markdown that can be read in a terminal too.

use super::{
    CASES, CPU, Cell, Field, P50, P99, P999, RATE, RSS, SYSTEMS, Spread, marks::PERCENT, measured,
    name,
};
use crate::figure::Figure;

/// Cases in which waiting is measured and the rate follows from it, or is given. Their ratio is
/// that of the p50.
fn is_of_latency(case: &str) -> bool {
    matches!(case, "one" | "seal-one" | "cluster-one" | "cold") || case.starts_with("open-")
}

/// Medians of each case and system; the range over the rounds in brackets. The last column says
/// how many times the rate of the row's system kRPC has, or how many times its p50.
pub(crate) fn table(figures: &[Figure]) -> String {
    let head =
        ["case", "system", "calls/s", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs/call", "RSS MiB"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    rows[0].push("kRPC : it".to_owned());
    for (case, system) in measured(figures) {
        let of = |field| Cell::new(system, case, field).spread(figures);
        let median = |field, digits| match of(field) {
            Some(Spread { median, .. }) if median != 0.0 => number(median, digits),
            _ => "–".to_owned(),
        };
        let rate = of(RATE).filter(|rate| rate.max > 0.0);
        rows.push(vec![
            name(&CASES, case).to_owned(),
            name(&SYSTEMS, system).to_owned(),
            rate.map_or_else(|| "–".to_owned(), |rate| with_range(rate, 0)),
            median(P50, 0),
            median(P99, 0),
            median(P999, 0),
            if case == "idle" { percent(of(CPU)) } else { median(CPU, 2) },
            median(RSS, 1),
            ratio_of_krpc(figures, case, system),
        ]);
    }
    markdown(&rows)
}

/// Of a core: what is idle has no calls to count for.
fn percent(cpu: Option<Spread>) -> String {
    cpu.map_or_else(String::new, |cpu| format!("{} %", number(cpu.median / PERCENT, 2)))
}

fn ratio_of_krpc(figures: &[Figure], case: &str, system: &str) -> String {
    let (field, unit): (Field, _) = if is_of_latency(case) { (P50, " p50") } else { (RATE, "") };
    let ours = Cell::new("krpc", case, field);
    let ratio = ours.ratio(Cell::new(system, case, field), figures);
    match ratio.filter(|_| system != "krpc") {
        Some(ratio) => format!("{}{unit}", with_range(ratio, 2)),
        None => "–".to_owned(),
    }
}

/// The median, and the range where there was more than one value.
pub(super) fn with_range(spread: Spread, digits: usize) -> String {
    let Spread { median, min, max } = spread;
    let median = number(median, digits);
    if min == max {
        return median;
    }
    format!("{median} ({}–{})", number(min, digits), number(max, digits))
}

/// With commas between thousands.
pub(super) fn number(value: f64, digits: usize) -> String {
    let plain = format!("{value:.digits$}");
    let whole = plain.find('.').unwrap_or(plain.len());
    let mut text = String::new();
    for (at, c) in plain.char_indices() {
        if at > 0 && at < whole && (whole - at).is_multiple_of(3) && &plain[..at] != "-" {
            text.push(',');
        }
        text.push(c);
    }
    text
}

/// A table; the first row is its head.
pub(super) fn markdown(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let length = |row: &Vec<String>, column: usize| row[column].chars().count();
    let widths: Vec<_> = (0..columns)
        .map(|column| rows.iter().map(|row| length(row, column)).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        for (cell, width) in row.iter().zip(&widths) {
            text.push_str(&format!("| {cell:width$} "));
        }
        text.push_str("|\n");
        if at == 0 {
            for width in &widths {
                text.push_str(&format!("|{}", "-".repeat(width + 2)));
            }
            text.push_str("|\n");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::{super::tests::figure, *};

    fn cells(line: &str) -> Vec<&str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(number(0.0, 0), "0");
        assert_eq!(number(999.4, 0), "999");
        assert_eq!(number(1_000.0, 0), "1,000");
        assert_eq!(number(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(number(-123.0, 1), "-123.0");
    }

    #[test]
    fn the_table_has_medians_ranges_and_paired_ratios() {
        let mut figures = Vec::new();
        for drift in [1.0, 0.5, 2.0] {
            figures.push(figure("tonic", "1024", 30_000.0 * drift, 33_000.0 / drift));
            figures.push(figure("krpc", "1024", 240_000.0 * drift, 4_000.0 / drift));
            figures.push(figure("raw", "one", 1_600.0 * drift, 600.0 / drift));
            figures.push(figure("krpc", "one", 1_500.0 * drift, 630.0 / drift));
        }
        let idle = figure("server", "idle", 0.0, 0.0);
        figures.push(Figure { cpu_us_per_call: 3_000.0, ..idle });
        let table = table(&figures);
        let lines: Vec<_> = table.lines().map(cells).collect();
        assert_eq!(lines[0].len(), 9);
        assert_eq!(lines[2][..4], ["one at a time", "raw rdkafka", "1,600 (800–3,200)", "600"]);
        assert_eq!(lines[2][8], "1.05 p50");
        assert_eq!(lines[3][8], "–");
        assert_eq!(lines[4][..3], ["1,024 in flight", "kRPC", "240,000 (120,000–480,000)"]);
        assert_eq!(lines[5][3..], ["33,000", "99,000", "165,000", "4.00", "20.0", "8.00"]);
        assert_eq!(lines[6], ["idle", "server", "–", "–", "–", "–", "0.30 %", "20.0", "–"]);
        let width = table.lines().next().unwrap().chars().count();
        assert!(table.lines().all(|line| line.chars().count() == width), "{table}");
    }

    #[test]
    fn a_ratio_that_varies_has_its_range() {
        let figures = [
            figure("raw", "128", 100.0, 1.0),
            figure("krpc", "128", 90.0, 1.0),
            figure("raw", "128", 100.0, 1.0),
            figure("krpc", "128", 110.0, 1.0),
        ];
        assert_eq!(ratio_of_krpc(&figures, "128", "raw"), "1.00 (0.90–1.10)");
    }
}
