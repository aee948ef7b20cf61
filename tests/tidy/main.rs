//! The shape of this repository: what no compiler and no lint checks, each rule a test.
//!
//! A rule is a function over texts that returns what it found, so that each is also tested on a
//! text that breaks it. A failure names file and line, and says what to do.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod architecture;
mod documents;
mod manifests;
mod modules;
mod scan;
mod shape;
mod source;
mod words;

use std::fmt;

/// What breaks a rule, and what to do about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Violation {
    /// Relative to the repository's root.
    path: String,
    /// From 1; 0 stands for the whole file.
    line: usize,
    message: String,
}

impl Violation {
    pub(crate) fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Fails with all of them.
#[track_caller]
pub(crate) fn expect_none(found: impl IntoIterator<Item = Violation>) {
    let found: Vec<_> = found.into_iter().map(|violation| format!("\n  {violation}")).collect();
    assert!(found.is_empty(), "{} to mend:{}", found.len(), found.concat());
}

/// Fails unless these lines, and no others, were found: the check of a check.
#[track_caller]
pub(crate) fn expect_lines(found: &[Violation], lines: &[usize]) {
    let seen: Vec<_> = found.iter().map(|violation| violation.line).collect();
    assert_eq!(seen, lines, "{found:?}");
}
