//! Processes: the servers and clients of a measurement, and what they used.
//!
//! Reads Linux's `/proc`, since the CPU time of another process is to be had nowhere else.

use std::{env, fs, time::Duration};

use anyhow::{Context, Result};
use krpc_testkit::Program;
use rustix::param::clock_ticks_per_second;

/// Starts this program once more. It dies with the handle, and with this process.
pub(crate) fn spawn(args: &[String]) -> Result<Program> {
    let path = env::current_exe().context("this program has no path")?;
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Ok(Program::spawn(path, &args, &[])?)
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
        let others = others.iter().map(ToString::to_string);
        let mut sum = Self::default();
        for process in others.chain(["self".to_owned()]) {
            let read = |file: &str| {
                let path = format!("/proc/{process}/{file}");
                fs::read_to_string(&path).context(path)
            };
            sum.cpu += cpu(&read("stat")?).context("/proc/…/stat has no times")?;
            let peak = peak_mib(&read("status")?).context("/proc/…/status has no VmHWM")?;
            sum.peak_mib = sum.peak_mib.max(peak);
        }
        Ok(sum)
    }
}

/// User and system time in `/proc/PID/stat`, its 14th and 15th field. The 2nd, the program's name,
/// stands in parentheses and may hold anything.
fn cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u64>().ok();
    let ticks = ticks()? + ticks()?;
    Some(Duration::from_millis(ticks * 1_000 / clock_ticks_per_second()))
}

/// The peak of resident memory in `/proc/PID/status`.
fn peak_mib(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
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
        assert_eq!(peak_mib("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1 kB\n"), Some(2.0));
        assert_eq!(cpu("7 (a) S 1"), None);
        assert_eq!(peak_mib("VmHWM: much"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Usage::of_self_and(&[]).is_ok_and(|usage| usage.peak_mib > 0.0));
    }
}
