//! What is drawn: read again as XML.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;

const LARGEST: usize = 40 * 1024;

/// One figure for every case of every plot and every system.
fn figures() -> Vec<Figure> {
    let mut figures = Vec::new();
    for (nth, (system, _)) in (1_u32..).zip(SYSTEMS) {
        let cases: BTreeMap<_, _> =
            PLOTS.iter().flat_map(|plot| plot.cases).map(|(case, x, _, _)| (*case, *x)).collect();
        for (case, x) in cases {
            let rate = 1_000.0 * f64::from(nth) * (1.0 + x);
            figures.push(Figure {
                system: system.to_owned(),
                case: case.to_owned(),
                calls_per_s: rate,
                p50_us: 1e6 / rate,
                p99_us: 3e6 / rate,
                p999_us: 5e6 / rate,
                cpu_us_per_call: 4.0,
                rss_mib: 20.0,
            });
        }
    }
    figures
}

fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).unwrap();
    let texts = document.descendants().filter(|node| node.has_tag_name("text"));
    let texts = texts.filter_map(|node| node.text().map(|text| text.trim().to_owned()));
    texts.collect()
}

#[test]
fn each_plot_is_small_and_names_systems_axes_and_cases() {
    let drawn = draw(&figures()).unwrap();
    assert_eq!(drawn.len(), PLOTS.len());
    for ((file, svg), plot) in drawn.iter().zip(&PLOTS) {
        assert!(svg.len() < LARGEST, "{file} has {} bytes", svg.len());
        let texts = texts(svg);
        let systems = SYSTEMS.map(|(_, name)| name);
        let cases = plot.cases.iter().map(|(_, _, label, _)| *label);
        for wanted in systems.into_iter().chain(cases).chain([plot.title, plot.x, plot.y]) {
            assert!(texts.iter().any(|text| text == wanted), "{file}: {wanted}: {texts:?}");
        }
    }
}

#[test]
fn the_background_is_drawn_first_and_over_all() {
    let (_, svg) = draw(&figures()).unwrap().swap_remove(0);
    let document = roxmltree::Document::parse(&svg).unwrap();
    let first = document.root_element().first_element_child().unwrap();
    let of = |name| first.attribute(name).unwrap().to_owned();
    let (width, height) = SIZE;
    assert_eq!(first.tag_name().name(), "rect");
    assert_eq!((of("x"), of("y")), ("0".to_owned(), "0".to_owned()));
    assert!(of("width").parse::<u32>().unwrap() + 1 >= width);
    assert!(of("height").parse::<u32>().unwrap() + 1 >= height);
    assert_eq!(of("fill"), "#FFFFFF");
}

#[test]
fn the_same_figures_give_the_same_bytes_in_any_order() {
    let mut figures = figures();
    let first = draw(&figures).unwrap();
    assert_eq!(draw(&figures).unwrap(), first);
    figures.reverse();
    assert_eq!(draw(&figures).unwrap(), first);
}

#[test]
fn what_was_not_run_is_left_out() {
    let mut figures = figures();
    figures.retain(|figure| figure.case == "one" && figure.system != "tonic");
    figures[0].calls_per_s = 0.0;
    let drawn = draw(&figures).unwrap();
    let files: Vec<_> = drawn.iter().map(|(file, _)| *file).collect();
    assert_eq!(files, ["throughput.svg", "latency.svg"]);
    let texts = texts(&drawn[0].1);
    let is_named = |name| texts.iter().any(|text| text == name);
    assert!(is_named("kRPC") && !is_named("tonic") && !is_named("raw rdkafka"), "{texts:?}");
    assert!(draw(&[]).unwrap().is_empty());
}

#[test]
fn labels_have_units_and_no_needless_digits() {
    for step in steps(&[1.0, 2.0, 5.0]) {
        let (short, time) = (short(step), time(step));
        assert!(short.chars().count() < 10, "{short}");
        assert!(time.chars().count() < 12, "{time}");
    }
    assert_eq!([1.0, 5e3, 2e6].map(short), ["1", "5 k", "2 M"]);
    assert_eq!([50.0, 2e3, 1e6].map(time), ["50 µs", "2 ms", "1 s"]);
}
