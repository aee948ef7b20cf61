//! How a module begins.

use crate::{
    Violation, architecture, expect_lines, expect_none,
    source::{Source, read, sources},
};

fn without_documentation(source: &Source) -> Vec<Violation> {
    let begins = ["//! ", "#![doc = include_str!("];
    if begins.iter().any(|begin| source.text.starts_with(begin)) {
        return Vec::new();
    }
    let message = "begin with `//!`: what it is, then why it is so";
    vec![Violation::new(&source.path, 1, message)]
}

/// The last paragraph of the module's documentation must say both words.
fn without_from_and_to(source: &Source) -> Vec<Violation> {
    let lines: Vec<_> =
        source.text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim).collect();
    let last: Vec<_> = lines.rsplit(|line| line.is_empty()).next().unwrap_or(&[]).to_vec();
    let begins = last.first().is_some_and(|line| line.starts_with("from"));
    if begins && last.iter().any(|line| line.contains("to: ")) {
        return Vec::new();
    }
    let message = "it lies on the walk of a call: end its `//!` with the lines `from:` and `to:`";
    vec![Violation::new(&source.path, lines.len().max(1), message)]
}

#[test]
fn each_module_says_what_it_is() {
    expect_none(sources().iter().flat_map(without_documentation));
}

#[test]
fn each_file_of_the_walk_says_from_and_to() {
    let walk = architecture::walk(&read("ARCHITECTURE.md"));
    let is_on_walk = |source: &&Source| walk.iter().any(|step| step.path == source.path);
    let files: Vec<_> = sources().iter().filter(is_on_walk).collect();
    assert!(files.len() > 10, "the walk of ARCHITECTURE.md names files: {files:?}");
    expect_none(files.into_iter().flat_map(without_from_and_to));
}

#[test]
fn modules_without_documentation_are_seen() {
    for good in ["//! A.\n", "#![doc = include_str!(\"../README.md\")]\n"] {
        assert!(without_documentation(&Source::new("a.rs", good)).is_empty());
    }
    for bad in ["use std::fmt;\n//! late\n", "// A.\n", "/// A.\n", ""] {
        expect_lines(&without_documentation(&Source::new("a.rs", bad)), &[1]);
    }
}

#[test]
fn files_of_the_walk_without_from_and_to_are_seen() {
    for good in [
        "//! A.\n//!\n//! from: b\n//! to: c\n\nuse d;\n",
        "//! A.\n//!\n//! from: b · to: c,\n//! and d\n",
        "//! A.\n//!\n//! from, to: b\n",
    ] {
        assert!(without_from_and_to(&Source::new("a.rs", good)).is_empty(), "{good}");
    }
    for (bad, line) in [
        ("//! A.\n\nuse b;\n", 1),
        ("//! A.\n//!\n//! from: b\n", 3),
        ("//! A.\n//!\n//! from: b\n//! to: c\n//!\n//! More.\n", 6),
    ] {
        expect_lines(&without_from_and_to(&Source::new("a.rs", bad)), &[line]);
    }
}
