//! Nothing outlives this process: its children die with it, whichever way it ends.
//!
//! Two small shell processes read from pipes whose other ends this process holds, and nobody else.
//! When it ends (by itself, by a panic, by Ctrl-C or by SIGKILL) the kernel closes the pipes. The
//! *leader* then kills the process group that it leads and that every child of ours belongs to,
//! stopped ones included. The *sweeper* waits until that group is gone and removes the folder.
//!
//! A child joins the group between fork and exec, so there is no moment in which it could escape.
//! While the leader lives, its number cannot be given to another group.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Error;
use crate::error::During;

/// Signal 0 as a group's number means the own group.
const LEADER: &str = "trap '' INT TERM HUP; while read -r _; do :; done; kill -s KILL 0";

/// The wait is bounded: where nobody reaps orphans, the dead group stays visible for ever.
const SWEEPER: &str = "trap '' INT TERM HUP; while read -r _; do :; done; n=0; \
     while kill -s 0 -- \"-$1\" 2>/dev/null && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done; \
     rm -rf -- \"$2\"";

static GUARD: Mutex<Option<Arc<Guard>>> = Mutex::new(None);

/// The two shell processes and the folder that they clean up.
#[derive(Debug)]
pub(crate) struct Guard {
    /// Its standard input is held open by this value, which lives as long as the process.
    leader: Child,
    /// Held for the same reason.
    _sweeper: Child,
    folder: PathBuf,
}

impl Guard {
    /// The guard of this process, started at its first use.
    pub(crate) fn get() -> Result<Arc<Self>, Error> {
        let mut guard = GUARD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guard) = &*guard {
            return Ok(Arc::clone(guard));
        }
        let started = Arc::new(Self::start()?);
        *guard = Some(Arc::clone(&started));
        Ok(started)
    }

    fn start() -> Result<Self, Error> {
        let folder = tempfile::Builder::new()
            .prefix("krpc-testkit-")
            .tempdir()
            .during(|| "could not make a temporary folder".into())?;
        let mut leader = shell(LEADER, []).during(|| "could not start `sh`".into())?;
        let group = leader.id().to_string();
        match shell(SWEEPER, [OsStr::new(&group), folder.path().as_os_str()]) {
            Ok(sweeper) => Ok(Self { leader, _sweeper: sweeper, folder: folder.keep() }),
            Err(source) => {
                // The leader would end by itself with its pipe; it is reaped here instead.
                let _ = leader.kill();
                let _ = leader.wait();
                Err(Error::Io { what: "could not start `sh`".into(), source })
            }
        }
    }

    /// The folder for everything temporary; it is removed after this process has ended.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Starts `command` as a child that dies with this process.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let group = i32::try_from(self.leader.id()).map_err(io::Error::other)?;
        command.process_group(group).spawn()
    }
}

/// A shell in a process group of its own, so that Ctrl-C in the terminal does not reach it.
fn shell<const N: usize>(script: &str, args: [&OsStr; N]) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", script, "sh"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::env;
    use std::fs;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{Kafka, Program};

    const HOST: &str = "KRPC_TESTKIT_HOST";
    const LIMIT: Duration = Duration::from_secs(180);

    /// Not a test of its own: the process that the tests below start and end.
    #[test]
    #[ignore = "the tests beside it run it, as a process of its own"]
    fn host() {
        let Ok(ending) = env::var(HOST) else { return };
        let kafka = Kafka::cluster(2).unwrap();
        let shared = Kafka::shared().unwrap();
        assert!(!shared.is_external());
        let other = Program::spawn("sleep", &["1000"], &[]).unwrap();
        kafka.pause(1).unwrap();
        println!("folder {}", Guard::get().unwrap().folder().display());
        println!("ready {}", other.pid());
        match ending.as_str() {
            "return" => drop(kafka),
            "panic" => panic!("on purpose"),
            _ => thread::sleep(LIMIT),
        }
    }

    /// Starts the host, ends it, and waits until nothing of it is left.
    fn nothing_is_left(ending: &str, end: impl FnOnce(&Program)) {
        let this = env::current_exe().unwrap();
        let args = ["--exact", "guard::tests::host", "--ignored", "--nocapture"];
        let envs = [(HOST, ending), (crate::BROKERS_VARIABLE, "")];
        let host = Program::spawn(this, &args, &envs).unwrap();
        let folder = host.wait_for_line("folder ", LIMIT).unwrap();
        let folder = folder.split("folder ").nth(1).unwrap();
        let other = host.wait_for_line("ready ", LIMIT).unwrap().replace("ready ", "");
        if ending == "signal" {
            assert_eq!(processes_of(folder), 3, "three brokers run");
            assert!(Path::new("/proc").join(&other).exists());
        }
        end(&host);
        host.wait(LIMIT).unwrap();
        let ended = Instant::now();
        let limit = Duration::from_secs(20);
        while processes_of(folder) > 0 || Path::new(folder).exists() || is_sleeping(&other) {
            assert!(ended.elapsed() < limit, "left behind: {folder} or process {other}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn processes_of(folder: &str) -> usize {
        let entries = fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        let wanted = |line: &Vec<u8>| String::from_utf8_lossy(line).contains("java.io.tmpdir");
        lines.filter(wanted).filter(|line| String::from_utf8_lossy(line).contains(folder)).count()
    }

    fn is_sleeping(pid: &str) -> bool {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"sleep"))
    }

    #[test]
    fn nothing_is_left_after_sigkill_even_of_a_paused_broker() {
        nothing_is_left("signal", |host| host.kill9().unwrap());
    }

    #[test]
    fn nothing_is_left_after_ctrl_c() {
        nothing_is_left("signal", |host| host.interrupt().unwrap());
    }

    #[test]
    fn nothing_is_left_after_a_panic() {
        nothing_is_left("panic", |_| {});
    }

    #[test]
    fn nothing_is_left_after_a_plain_return() {
        nothing_is_left("return", |_| {});
    }
}
