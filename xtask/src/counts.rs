//! Adds up the tests that cargo reports.

use std::fmt;

/// How many tests ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Those that passed.
    pub(crate) passed: u64,
    /// Those that failed.
    pub(crate) failed: u64,
    /// Those that were left out, with a reason.
    pub(crate) ignored: u64,
}

impl Counts {
    /// Takes in one line of output, if it is the result of a test program:
    /// `test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; …`.
    pub(crate) fn take(&mut self, line: &str) {
        let Some((_, result)) = line.split_once("test result: ") else { return };
        let Some((_, numbers)) = result.split_once(". ") else { return };
        for part in numbers.split("; ") {
            let Some((number, what)) = part.split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_added_up_and_other_lines_are_not() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test a ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s",
            "test result: FAILED. 4 passed; 3 failed; 0 ignored; 0 measured; 9 filtered out",
            "5 passed; 5 failed",
            "test result: what",
        ] {
            counts.take(line);
        }
        assert_eq!(counts, Counts { passed: 6, failed: 3, ignored: 1 });
        assert_eq!(counts.to_string(), "6 passed, 3 failed");
    }
}
