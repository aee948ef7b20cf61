//! What a call may cost, counted rather than timed, so that a busy machine does not shake it:
//! allocations by a test of `guards`, and here instructions, by valgrind.

use std::fs;
use std::process::{Command, Stdio};

use crate::cargo::{Cargo, target};
use crate::setup;

/// Calls that are counted, and the most instructions that each may take: client and server
/// together, in user space. A fourteenth above what was counted, as compilers differ: when it was a
/// sixth, what was added by and by took all of it, and a sixth of the calls per second.
#[derive(Debug, Clone, Copy)]
struct Bound {
    /// Calls in flight at once.
    callers: u32,
    /// How many calls each caller makes in the shorter run, and in the longer one. Their
    /// difference is what is counted: it leaves out starting and ending.
    rounds: [u32; 2],
    /// Instructions per call, at most.
    most: u64,
}

const BOUNDS: [Bound; 2] = [
    Bound { callers: 256, rounds: [20, 120], most: 9_400 },
    Bound { callers: 1, rounds: [500, 2500], most: 29_600 },
];

/// All guards, with their figures.
pub(crate) fn run() -> Result<(), String> {
    setup::ensure(setup::GUARDS)?;
    let allocations = "test --package krpc-guards --test allocations -- --nocapture";
    Cargo::new(allocations).run()?;
    Cargo::new("build --package krpc-guards --release").run()?;
    let results: Vec<_> = BOUNDS.into_iter().map(check).collect();
    results.into_iter().collect()
}

fn check(Bound { callers, rounds: [few, many], most }: Bound) -> Result<(), String> {
    let calls = u64::from(callers) * u64::from(many - few);
    let more = instructions(callers, many)?.saturating_sub(instructions(callers, few)?);
    let each = more / calls;
    println!("instructions per call, {callers} in flight: {each}, at most {most}");
    if each <= most {
        return Ok(());
    }
    Err(format!("a call takes {each} instructions with {callers} in flight, at most {most}"))
}

/// Counts one run. Its profile stays in the target folder, for `callgrind_annotate`.
fn instructions(callers: u32, rounds: u32) -> Result<u64, String> {
    let folder = target().join("guards");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let profile = folder.join(format!("callgrind.{callers}-{rounds}.out"));
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(target().join("release/krpc-guards"))
        .args([callers, rounds].map(|number| number.to_string()))
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("could not run valgrind: {error}"))?;
    let printed = String::from_utf8_lossy(&output.stderr);
    let counted = if output.status.success() { collected(&printed) } else { None };
    counted.ok_or_else(|| format!("valgrind counted nothing, {}:\n{printed}", output.status))
}

/// The number in what callgrind prints at its end: `==4711== Collected : 435228822`.
fn collected(printed: &str) -> Option<u64> {
    let mut lines = printed.lines();
    lines.find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_found() {
        let printed = "==1== Events    : Ir\n==1== Collected : 435228822\n==1== \n";
        assert_eq!(collected(printed), Some(435_228_822));
        assert_eq!(collected("valgrind: failed to start\n"), None);
    }
}
