//! How long files, functions and lines may be.

use crate::{Violation, expect_lines, expect_none, source::Source, source::sources};

/// Lines that no file has more of.
const FILE: usize = 500;

/// Lines that nine in ten files have no more of.
const MOST_FILES: usize = 400;

/// Lines of a function, from `fn` to its closing brace.
const FUNCTION: usize = 70;

/// Characters of a line.
const COLUMNS: usize = 100;

fn long_files(sources: &[Source]) -> Vec<Violation> {
    let too_long = |source: &Source| {
        let lines = source.text.lines().count();
        let message = format!("{lines} lines, at most {FILE}: split it by subject");
        (lines > FILE).then(|| Violation::new(&source.path, 0, message))
    };
    sources.iter().filter_map(too_long).collect()
}

fn rather_long_files(sources: &[Source]) -> Vec<Violation> {
    let long: Vec<_> = sources.iter().filter(|it| it.text.lines().count() > MOST_FILES).collect();
    if long.len() * 10 <= sources.len() {
        return Vec::new();
    }
    let share = format!("one of {} in {} files", long.len(), sources.len());
    let message = format!("{share} with more than {MOST_FILES} lines, at most one in ten may be");
    long.iter().map(|source| Violation::new(&source.path, 0, message.clone())).collect()
}

fn long_functions(source: &Source) -> Vec<Violation> {
    let lines = |first: usize, last: usize| last - first + 1;
    let long = source.functions.iter().filter(|it| lines(it.first, it.last) > FUNCTION);
    long.map(|function| {
        let (name, lines) = (&function.name, lines(function.first, function.last));
        let message = format!("`{name}` has {lines} lines, at most {FUNCTION}: take a step out");
        Violation::new(&source.path, function.first, message)
    })
    .collect()
}

fn long_lines(source: &Source) -> Vec<Violation> {
    let lines = (1..).zip(source.text.lines()).filter(|(_, text)| text.chars().count() > COLUMNS);
    lines
        .map(|(line, text)| {
            let columns = text.chars().count();
            let message = format!("{columns} columns, at most {COLUMNS}: break it");
            Violation::new(&source.path, line, message)
        })
        .collect()
}

#[test]
fn no_file_is_too_long() {
    expect_none(long_files(sources()));
}

#[test]
fn nine_in_ten_files_are_short() {
    expect_none(rather_long_files(sources()));
}

#[test]
fn no_function_is_too_long() {
    expect_none(sources().iter().flat_map(long_functions));
}

#[test]
fn no_line_is_too_long() {
    expect_none(sources().iter().flat_map(long_lines));
}

#[test]
fn long_files_are_seen() {
    let file = |lines: usize| Source::new("a.rs", "\n".repeat(lines));
    assert!(long_files(&[file(FILE)]).is_empty());
    expect_lines(&long_files(&[file(FILE), file(FILE + 1)]), &[0]);
    let mut files = vec![file(MOST_FILES); 9];
    files.push(file(MOST_FILES + 1));
    assert!(rather_long_files(&files).is_empty());
    files.push(file(MOST_FILES + 1));
    expect_lines(&rather_long_files(&files), &[0, 0]);
}

#[test]
fn long_functions_are_seen() {
    let text = |lines: usize| format!("\nfn f() {{{}}}\n", "\n".repeat(lines - 1));
    assert!(long_functions(&Source::new("a.rs", text(FUNCTION))).is_empty());
    expect_lines(&long_functions(&Source::new("a.rs", text(FUNCTION + 1))), &[2]);
}

#[test]
fn long_lines_are_seen() {
    let text = format!("{}\n{}\n", "ä".repeat(COLUMNS), "ä".repeat(COLUMNS + 1));
    expect_lines(&long_lines(&Source::new("a.rs", text)), &[2]);
}
