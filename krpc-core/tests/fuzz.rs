//! The corpora of `fuzz/`, and what fuzzing found, through the functions that are fuzzed: with any
//! compiler, and in every run of the tests.

#![allow(clippy::unwrap_used)]

use std::{fs, path::PathBuf};

#[path = "../../fuzz/src/lib.rs"]
pub mod targets;

/// Runs every file of a corpus, and what is near to it: the starts of its bytes, and each byte
/// changed, but for steps in between where that takes long.
fn corpus(target: &str, step: usize, run: fn(&[u8])) {
    let folder = [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", "corpus", target].into_iter();
    let folder = folder.collect::<PathBuf>();
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths.collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} is empty");
    for path in paths {
        // Shown of a test that fails.
        println!("{}", path.display());
        let bytes = fs::read(&path).unwrap();
        run(&bytes);
        for at in (0..bytes.len()).step_by(step) {
            run(&bytes[..at]);
            let mut changed = bytes.clone();
            changed[at] = changed[at].wrapping_add(0x81);
            run(&changed);
        }
    }
}

#[test]
fn frames() {
    corpus("frame", 1, targets::frame::run);
}

#[test]
fn packets() {
    corpus("packet", 1, targets::packet::run);
}

#[cfg(feature = "seal")]
#[test]
fn sealed_packets() {
    corpus("open", 3, targets::open::run);
}

#[test]
fn values() {
    corpus("value", 3, targets::value::run);
}

#[test]
fn commit_metadata() {
    corpus("commit_metadata", 1, targets::commit_metadata::run);
}

#[test]
fn tickets() {
    corpus("ticket", 1, targets::ticket::run);
}
