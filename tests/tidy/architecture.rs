//! ARCHITECTURE.md names files and functions that exist, and every file of the libraries.

use std::collections::BTreeSet;

use crate::{
    Violation, expect_lines, expect_none,
    source::{Source, read, root, sources},
};

const PAGE: &str = "ARCHITECTURE.md";

/// What the walk writes shorter.
const SHORT: [(&str, &str); 3] = [
    ("core/", "krpc-core/src/"),
    ("kafka/", "krpc-transport-kafka/src/"),
    ("golden/", "krpc-macros/tests/golden/"),
];

/// The rows of the walk.
const STEPS: usize = 13;

/// A file of the walk, and a function of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Step {
    pub(crate) path: String,
    function: String,
    /// The line of ARCHITECTURE.md.
    line: usize,
}

/// Between a heading and the next of its level: lines with their numbers.
fn chapter<'a>(page: &'a str, heading: &str) -> Vec<(usize, &'a str)> {
    let level = format!("{} ", heading.split(' ').next().unwrap_or_default());
    let lines = (1..).zip(page.lines()).skip_while(|(_, line)| *line != heading).skip(1);
    lines.take_while(|(_, line)| !line.starts_with(&level)).collect()
}

/// The rows of the chapter's table, without its head.
fn rows(page: &str) -> Vec<(usize, &str)> {
    let lines = chapter(page, "## 1. The walk of one call").into_iter();
    lines.filter(|(_, line)| line.starts_with("| ") && !line.starts_with("| |")).collect()
}

/// What the table of the walk names. Of its third column the words in code count: a path, and the
/// functions of it behind.
pub(crate) fn walk(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for (line, row) in rows(page) {
        let cell = row.split(" | ").nth(2).unwrap_or_default();
        let mut path = String::new();
        for word in cell.split('`').skip(1).step_by(2) {
            if word.ends_with(".rs") {
                let short = SHORT.iter().find(|(short, _)| word.starts_with(short));
                path = short.map_or_else(|| word.to_owned(), |(a, b)| word.replacen(a, b, 1));
            } else {
                steps.push(Step { path: path.clone(), function: word.to_owned(), line });
            }
        }
    }
    steps
}

fn steps_that_are_not(page: &str, find: impl Fn(&str) -> Option<Source>) -> Vec<Violation> {
    let missing = walk(page).into_iter().filter_map(|Step { path, function, line }| {
        let message = match find(&path) {
            None => format!("there is no {path}: name the file where this step is now"),
            Some(source) if !source.has_function(&function) => {
                format!("{path} has no function `{function}`: name the one that does this step now")
            }
            Some(_) => return None,
        };
        Some(Violation::new(PAGE, line, message))
    });
    missing.collect()
}

/// The paths of the map, in the last code block of its chapter: lines at the margin are folders,
/// the first word of a line that is set in is a path in there.
fn map(page: &str) -> Vec<(usize, String)> {
    let lines = chapter(page, "### Files").into_iter();
    let block = lines.skip_while(|(_, line)| *line != "```text").skip(1);
    let mut folder = "";
    let mut paths = Vec::new();
    for (number, line) in block.take_while(|(_, line)| *line != "```") {
        let Some(word) = line.split_whitespace().next() else { continue };
        if line.starts_with(' ') {
            paths.push((number, format!("{folder}{word}")));
        } else {
            folder = word;
        }
    }
    paths
}

/// Paths of the map that do not exist, and files of libraries that it lacks.
fn map_that_is_not(
    page: &str,
    exists: impl Fn(&str) -> bool,
    written: &[Source],
) -> Vec<Violation> {
    let paths = map(page);
    let gone = paths.iter().filter(|(_, path)| !exists(path));
    let mut found: Vec<_> = gone
        .map(|(line, path)| {
            let message = format!("there is no {path}: change the map as the files were");
            Violation::new(PAGE, *line, message)
        })
        .collect();
    let known: BTreeSet<_> = paths.iter().map(|(_, path)| path.as_str()).collect();
    let library = |source: &&Source| {
        let path = source.path.as_str();
        (path.starts_with("src/") || path.contains("/src/")) && !source.is_test(1)
    };
    let unknown = written.iter().filter(library).filter(|it| !known.contains(it.path.as_str()));
    found.extend(unknown.map(|source| {
        let message = format!("the map lacks {}: add it with what it is", source.path);
        Violation::new(PAGE, 0, message)
    }));
    found
}

#[test]
fn the_walk_names_functions_that_exist() {
    let page = read(PAGE);
    assert_eq!(rows(&page).len(), STEPS, "{PAGE} §1 has a row for each step");
    assert!(walk(&page).len() > STEPS * 2, "{PAGE} §1 names functions");
    expect_none(steps_that_are_not(&page, |path| {
        root().join(path).is_file().then(|| Source::new(path, read(path)))
    }));
}

#[test]
fn the_map_is_of_these_files() {
    let page = read(PAGE);
    assert!(map(&page).len() > 50, "{PAGE} §2 has a map");
    expect_none(map_that_is_not(&page, |path| root().join(path).exists(), sources()));
}

#[test]
fn steps_that_are_gone_are_seen() {
    let page = "## 1. The walk of one call\n\n| | step | where | what |\n|---|---|---|---|\n\
                | 1 | `x` | `a.rs` `one` `two` → `b.rs` `one` | `y` |\n\
                | 2 | x | `core/a.rs` `one` | y |\n## 2. The map\n| 3 | x | `a.rs` `no` | y |\n";
    let find = |path: &str| (path != "b.rs").then(|| Source::new(path, "fn one() {}\n"));
    let walk = walk(page);
    assert_eq!((walk.len(), walk[3].path.as_str()), (4, "krpc-core/src/a.rs"));
    expect_lines(&steps_that_are_not(page, find), &[5, 5]);
}

#[test]
fn a_map_of_other_files_is_seen() {
    let page = "### Files\n\n(D)\n\n```text\nsrc/    it\n  a.rs  one\n  b.rs  gone\n\nx/src/\n  \
                c.rs\n```\n\n## 3. The rules\n";
    let written = ["src/a.rs", "src/new.rs", "x/src/c.rs", "x/src/c/tests.rs", "tests/d.rs"];
    let written = written.map(|path| Source::new(path, ""));
    let exists = |path: &str| written.iter().any(|source| source.path == path);
    let found = map_that_is_not(page, exists, &written);
    expect_lines(&found, &[8, 0]);
    assert!(found[1].message.contains("src/new.rs"));
}
