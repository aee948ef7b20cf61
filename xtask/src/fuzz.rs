//! Fuzzing: libFuzzer on the functions of `fuzz/`, through cargo-fuzz, which needs a nightly
//! compiler. What a run finds of inputs stays in the target folder, for the next one.

use std::fs;

use crate::cargo::{Cargo, target};
use crate::setup;
use crate::steps::Steps;

/// The functions, by the bytes that they take.
pub(crate) const TARGETS: [&str; 6] =
    ["frame", "packet", "open", "value", "commit_metadata", "ticket"];

/// How long each is fuzzed if nothing else is said, in seconds.
pub(crate) const SECONDS: u32 = 60;

/// How long `ci` does it.
const SMOKE_SECONDS: u32 = 5;

/// Bytes of an input: twice a full map of finished calls, or metadata beyond its limit.
const MAX_LEN: u32 = 8 * 1024;

/// Fuzzes one target, or all of them in turns.
pub(crate) fn run(target: Option<&str>, seconds: u32) -> Result<(), String> {
    setup::ensure(setup::BUILD)?;
    match missing() {
        Some(Missing::CargoFuzz) => Cargo::new(INSTALL).run()?,
        Some(missing) => return Err(format!("fuzzing needs {}", missing.told())),
        None => {}
    }
    let chosen = TARGETS.into_iter().filter(|name| target.is_none_or(|target| target == *name));
    let mut steps = Steps::default();
    chosen.for_each(|name| steps.add(fuzz(name, seconds)));
    steps.finish()
}

/// A few seconds of each, where nightly and cargo-fuzz are installed. The corpora are run by a test
/// of krpc-core in any case.
pub(crate) fn smoke() -> Result<(), String> {
    if let Some(missing) = missing() {
        println!("SKIPPED: fuzzing (`cargo xtask fuzz`), as it needs {}", missing.told());
        return Ok(());
    }
    run(None, SMOKE_SECONDS)
}

fn fuzz(name: &str, seconds: u32) -> Result<(), String> {
    let folder = target().join("fuzz");
    let found = folder.join("corpus").join(name);
    fs::create_dir_all(&found).map_err(|error| format!("{}: {error}", found.display()))?;
    let seconds = format!("-max_total_time={seconds}");
    // The first folder gets what is found; that of the tree is only read.
    let corpora = [found.to_string_lossy(), format!("fuzz/corpus/{name}").into()];
    let fuzz = Cargo::of_toolchain("nightly", "fuzz run").args([name]).args(corpora);
    let fuzz = fuzz.args(["--", &seconds, &format!("-max_len={MAX_LEN}"), "-timeout=10"]);
    // Of the cargo that runs this program, which is not the one that is to build.
    fuzz.env_remove("CARGO").env("CARGO_TARGET_DIR", &folder.to_string_lossy()).run()
}

const INSTALL: &str = "install --locked cargo-fuzz";

/// What fuzzing lacks.
#[derive(Debug, Clone, Copy)]
enum Missing {
    Nightly,
    CargoFuzz,
}

impl Missing {
    /// With the command that brings it.
    fn told(self) -> String {
        match self {
            Self::Nightly => {
                "a nightly compiler: rustup toolchain install nightly --profile minimal".to_owned()
            }
            Self::CargoFuzz => format!("cargo-fuzz: cargo {INSTALL}"),
        }
    }
}

fn missing() -> Option<Missing> {
    if !Cargo::of_toolchain("nightly", "--version").succeeds_quietly() {
        return Some(Missing::Nightly);
    }
    let there = Cargo::new("fuzz --version").succeeds_quietly();
    (!there).then_some(Missing::CargoFuzz)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::cargo::root;

    #[test]
    fn the_targets_are_those_of_the_package() {
        let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
        let bins = manifest.split("[[bin]]\nname = \"").skip(1);
        let bins: Vec<_> = bins.map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(bins, TARGETS);
        let folders = fs::read_dir(root().join("fuzz/corpus")).unwrap();
        let mut folders: Vec<_> = folders.map(|it| it.unwrap().file_name()).collect();
        let mut targets = TARGETS;
        folders.sort();
        targets.sort_unstable();
        assert_eq!(folders, targets);
    }
}
