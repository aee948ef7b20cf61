//! The plots of docs/PERFORMANCE.md, as SVG, from the medians of a run.
//!
//! Both axes are logarithmic everywhere: the figures span decades, and equal ratios are equally
//! far apart. The background is drawn, so that a plot can be read on a dark page too. A system has
//! one colour and one shape of points in all plots. The same figures give the same bytes.

#[cfg(test)]
mod tests;

use std::{fs, path::Path};

use anyhow::Result;
use plotters::{
    chart::ChartContext,
    coord::{
        Shift,
        combinators::{LogCoord, WithKeyPoints},
    },
    prelude::*,
};

use crate::{
    figure::Figure,
    report::{Cell, Field, P50, P99, RATE, SYSTEMS},
};

const SIZE: (u32, u32) = (760, 460);

/// The part above a plot: its title, and which line is which.
const HEAD: u32 = 64;

/// In the order of [`SYSTEMS`]. They differ in lightness too, for those who see fewer colours.
const COLOURS: [RGBColor; 4] = [
    RGBColor(0x59, 0x59, 0x59),
    RGBColor(0x00, 0x4c, 0x99),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
];

/// The shapes of points, by their corners.
const SHAPES: [&[(i32, i32)]; 4] = [
    &[(-6, 4), (6, 4), (0, -7)],
    &[(-5, -2), (-2, -5), (2, -5), (5, -2), (5, 2), (2, 5), (-2, 5), (-5, 2)],
    &[(-7, 0), (0, -7), (7, 0), (0, 7)],
    &[(-5, -5), (5, -5), (5, 5), (-5, 5)],
];

const INK: RGBColor = RGBColor(0x22, 0x22, 0x22);
const GRID: RGBColor = RGBColor(0xdd, 0xdd, 0xdd);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Axis = WithKeyPoints<LogCoord<f64>>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// One plot: cases along x, a quantity or two of each system along y.
struct Plot {
    file: &'static str,
    title: &'static str,
    x: &'static str,
    y: &'static str,
    /// Case, its place along x, what is written there, and by what its quantity is multiplied.
    cases: &'static [(&'static str, f64, &'static str, f64)],
    /// What is drawn solid and, with a second one, dashed.
    fields: &'static [Field],
    /// How a value along y is written.
    label: fn(f64) -> String,
}

/// Cases by calls in flight.
const IN_FLIGHT: [(&str, f64, &str, f64); 4] = [
    ("one", 1.0, "1", 1.0),
    ("128", 128.0, "128", 1.0),
    ("1024", 1_024.0, "1,024", 1.0),
    ("8192", 8_192.0, "8,192", 1.0),
];

const MIB: f64 = 1_048_576.0;

const PLOTS: [Plot; 5] = [
    Plot {
        file: "throughput.svg",
        title: "Calls per second by calls in flight, 16-byte values",
        x: "calls in flight",
        y: "calls/s",
        cases: &IN_FLIGHT,
        fields: &[RATE],
        label: short,
    },
    Plot {
        file: "latency.svg",
        title: "Latency by calls in flight, p50 solid, p99 dashed",
        x: "calls in flight",
        y: "latency",
        cases: &IN_FLIGHT,
        fields: &[P50, P99],
        label: time,
    },
    Plot {
        file: "values.svg",
        title: "Throughput by size of the values, in each direction",
        x: "size of argument and of result",
        y: "MiB/s",
        cases: &[
            ("1024", 16.0, "16 B", 16.0 / MIB),
            ("1k", 1_024.0, "1 KiB", 1_024.0 / MIB),
            ("64k", 65_536.0, "64 KiB", 65_536.0 / MIB),
            ("1m", MIB, "1 MiB", 1.0),
        ],
        fields: &[RATE],
        label: |value| value.to_string(),
    },
    Plot {
        file: "clients.svg",
        title: "Calls per second by clients of one connection, 16 calls in flight each",
        x: "clients that share a connection",
        y: "calls/s",
        cases: &[
            ("clients-1x16", 1.0, "1", 1.0),
            ("clients-16x16", 16.0, "16", 1.0),
            ("clients-64x16", 64.0, "64", 1.0),
        ],
        fields: &[RATE],
        label: short,
    },
    Plot {
        file: "open-loop.svg",
        title: "Latency at a fixed rate, p50 solid, p99 dashed",
        x: "calls/s, of the system's own rate with 1,024 in flight",
        y: "latency, from when a call is due",
        cases: &[
            ("open-10", 10.0, "10 %", 1.0),
            ("open-50", 50.0, "50 %", 1.0),
            ("open-80", 80.0, "80 %", 1.0),
        ],
        fields: &[P50, P99],
        label: time,
    },
];

/// A line of a plot.
struct Line {
    /// The place of its system in [`SYSTEMS`].
    system: usize,
    dashed: bool,
    points: Vec<(f64, f64)>,
}

/// Draws all plots of which there is anything: the name of the file, and the SVG.
pub(crate) fn draw(figures: &[Figure]) -> Result<Vec<(&'static str, String)>> {
    let mut drawn = Vec::new();
    for plot in &PLOTS {
        let lines = plot.lines(figures);
        if !lines.is_empty() {
            drawn.push((plot.file, plot.draw(&lines)?));
        }
    }
    Ok(drawn)
}

/// Draws all plots into files of a folder.
pub(crate) fn write(figures: &[Figure], folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (file, svg) in draw(figures)? {
        fs::write(folder.join(file), svg)?;
    }
    Ok(())
}

impl Plot {
    fn lines(&self, figures: &[Figure]) -> Vec<Line> {
        let mut lines = Vec::new();
        for (system, (word, _)) in SYSTEMS.iter().enumerate() {
            for (at, field) in self.fields.iter().enumerate() {
                let points = self.cases.iter().filter_map(|(case, x, _, factor)| {
                    let median = Cell::new(word, case, *field).spread(figures)?.median;
                    // Zero is not measured, and has no place on such an axis.
                    (median > 0.0).then_some((*x, median * factor))
                });
                let points: Vec<_> = points.collect();
                if !points.is_empty() {
                    lines.push(Line { system, dashed: at > 0, points });
                }
            }
        }
        lines
    }

    fn draw(&self, lines: &[Line]) -> Result<String> {
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            root.fill(&WHITE)?;
            let (_, body) = root.split_vertically(HEAD);
            self.draw_head(&root, lines)?;
            let x = self.x_axis();
            let y = y_axis(lines);
            let mut chart = ChartBuilder::on(&body)
                .margin_left(8)
                .margin_right(24)
                .margin_bottom(6)
                .x_label_area_size(46)
                .y_label_area_size(70)
                .build_cartesian_2d(x, y)?;
            self.draw_axes(&mut chart)?;
            for line in lines {
                draw_line(&root, &mut chart, line)?;
            }
            root.present()?;
        }
        Ok(svg)
    }

    fn x_axis(&self) -> Axis {
        let places: Vec<_> = self.cases.iter().map(|(_, x, _, _)| *x).collect();
        let first = places.first().copied().unwrap_or(1.0);
        let last = places.last().copied().unwrap_or(1.0);
        // Points do not lie on the edge.
        let edge = (last / first).powf(0.04);
        (first / edge..last * edge).log_scale().with_key_points(places)
    }

    fn draw_axes(&self, chart: &mut Chart<'_, '_>) -> Result<()> {
        let x_label = |x: &f64| {
            let case = self.cases.iter().find(|(_, at, _, _)| at == x);
            case.map(|(_, _, label, _)| (*label).to_owned()).unwrap_or_default()
        };
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .axis_style(INK)
            .label_style(("sans-serif", 16, &INK))
            .axis_desc_style(("sans-serif", 17, &INK))
            .x_label_formatter(&x_label)
            .y_label_formatter(&|y| (self.label)(*y))
            .x_desc(self.x)
            .y_desc(self.y)
            .draw()?;
        Ok(())
    }

    /// Title and legend stand above the plot, where they never cover a line.
    fn draw_head(&self, area: &Area<'_>, lines: &[Line]) -> Result<()> {
        let text = |size: u32| ("sans-serif", size).into_font().color(&INK);
        area.draw(&Text::new(self.title, (78, 10), text(21)))?;
        let mut systems: Vec<_> = lines.iter().map(|line| line.system).collect();
        systems.dedup();
        for (system, left) in systems.into_iter().zip((78..).step_by(150)) {
            let style = COLOURS[system].stroke_width(2);
            area.draw(&PathElement::new([(left, 48), (left + 28, 48)], style))?;
            draw_point(area, (left + 14, 48), system)?;
            area.draw(&Text::new(SYSTEMS[system].1, (left + 36, 40), text(17)))?;
        }
        Ok(())
    }
}

/// From the step below the lowest value to the step above the highest. Steps are 1, 2 and 5 times
/// the powers of ten or, where these would be many, only the powers.
fn y_axis(lines: &[Line]) -> Axis {
    let values = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let lowest = values().fold(f64::INFINITY, f64::min);
    let highest = values().fold(f64::NEG_INFINITY, f64::max);
    let (fine, coarse) = (steps(&[1.0, 2.0, 5.0]), steps(&[1.0]));
    let below = fine.iter().copied().rfind(|step| *step < lowest).unwrap_or(lowest / 2.0);
    let above = fine.iter().copied().find(|step| *step > highest).unwrap_or(highest * 2.0);
    let mut labelled = if above / below > 1_000.0 { coarse } else { fine };
    labelled.retain(|step| (below..=above).contains(step));
    (below..above).log_scale().with_key_points(labelled)
}

/// These times the powers of ten. By division where they are small, for that gives the number
/// nearest to what is written on the axis, and so no digits behind it.
fn steps(of: &[f64]) -> Vec<f64> {
    let all = (-6..=12).flat_map(|power: i32| {
        let scale = 10_f64.powi(power.abs());
        of.iter().map(move |step| if power < 0 { step / scale } else { step * scale })
    });
    all.collect()
}

fn draw_line(root: &Area<'_>, chart: &mut Chart<'_, '_>, line: &Line) -> Result<()> {
    let points = line.points.iter().copied();
    let style = COLOURS[line.system].stroke_width(2);
    if line.dashed {
        chart.draw_series(DashedLineSeries::new(points.clone(), 7, 5, style))?;
    } else {
        chart.draw_series(LineSeries::new(points.clone(), style))?;
    }
    for at in points {
        draw_point(root, chart.backend_coord(&at), line.system)?;
    }
    Ok(())
}

/// A point in its system's shape.
fn draw_point(area: &Area<'_>, at: (i32, i32), system: usize) -> Result<()> {
    let corners = SHAPES[system].iter().map(|(x, y)| (at.0 + x, at.1 + y));
    area.draw(&Polygon::new(corners.collect::<Vec<_>>(), COLOURS[system].filled()))?;
    Ok(())
}

/// A value with a letter for its thousands.
fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", value / 1e6),
        _ if value >= 1e3 => format!("{} k", value / 1e3),
        _ => value.to_string(),
    }
}

/// A number of microseconds.
fn time(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} s", value / 1e6),
        _ if value >= 1e3 => format!("{} ms", value / 1e3),
        _ => format!("{} µs", value),
    }
}
