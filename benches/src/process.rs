//! Processes: the servers and clients of a measurement, and what they used.
//!
//! Reads Linux's `/proc`, since the CPU time of another process is to be had nowhere else.

use std::{env, fs, time::Duration};

use anyhow::{Context, Result};
use krpc_testkit::Program;
use rustix::param::clock_ticks_per_second;
use serde::de::DeserializeOwned;

/// Starts this program once more. It dies with the handle, and with this process.
pub(crate) fn spawn(args: &[String]) -> Result<Program> {
    let path = env::current_exe().context("this program has no path")?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ok(Program::spawn(path, &args, &[])?)
}

/// What a program says after a word, once it has.
pub(crate) fn answer<T: DeserializeOwned>(
    program: &Program,
    word: &str,
    limit: Duration,
) -> Result<T> {
    program.wait_for(|line| line.starts_with(word), limit)?;
    said(program, word)?.context("a line that was there is gone")
}

/// What a program has said after a word, if it has.
pub(crate) fn said<T: DeserializeOwned>(program: &Program, word: &str) -> Result<Option<T>> {
    let lines = program.lines();
    let value = lines.iter().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    Ok(value.map(serde_json::from_str).transpose()?)
}

/// What processes used since they were started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// User and system time, of all together.
    pub(crate) cpu: Duration,
    /// The largest peak of resident memory among them.
    pub(crate) peak_mib: f64,
}

impl Usage {
    /// Of this process and of those in `others`, together.
    pub(crate) fn of_self_and(others: &[u32]) -> Result<Self> {
        Self::sum(others.iter().map(ToString::to_string).chain(["self".to_owned()]))
    }

    /// Of these processes together.
    pub(crate) fn of(processes: &[u32]) -> Result<Self> {
        Self::sum(processes.iter().map(ToString::to_string))
    }

    fn sum(processes: impl Iterator<Item = String>) -> Result<Self> {
        let mut sum = Self::default();
        for process in processes {
            sum.cpu += cpu(&read(&process, "stat")?).context("/proc/…/stat has no times")?;
            let peak = mib(&read(&process, "status")?, "VmHWM:").context(NO_MEMORY)?;
            sum.peak_mib = sum.peak_mib.max(peak);
        }
        Ok(sum)
    }
}

/// What a process has in memory now.
pub(crate) fn resident_mib(process: u32) -> Result<f64> {
    mib(&read(&process.to_string(), "status")?, "VmRSS:").context(NO_MEMORY)
}

const NO_MEMORY: &str = "/proc/…/status says nothing of memory";

fn read(process: &str, file: &str) -> Result<String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).context(path)
}

/// User and system time in `/proc/PID/stat`, its 14th and 15th field. The 2nd, the program's name,
/// stands in parentheses and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / clock_ticks_per_second()))
}

/// A quantity of memory in `/proc/PID/status`: `VmRSS:` is what is resident, `VmHWM:` its peak.
fn mib(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u32 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14";
        let ticks = clock_ticks_per_second();
        assert_eq!(cpu(stat), Some(Duration::from_millis(200_000 / ticks)));
        let status = "Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n";
        assert_eq!((mib(status, "VmHWM:"), mib(status, "VmRSS:")), (Some(2.0), Some(1.0)));
        assert_eq!(cpu("7 (a) S 1"), None);
        assert_eq!(mib("VmHWM: much", "VmHWM:"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of_self_and(&[]).is_ok_and(|usage| usage.peak_mib > 0.0));
        assert!(resident_mib(std::process::id()).is_ok_and(|mib| mib > 0.0));
    }
}
