//! Another program, run and watched by a test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::Error;
use crate::error::During;
use crate::node::{SpawnGuarded, signal};

/// How often the process is looked at while its end is waited for.
const GLANCE: Duration = Duration::from_millis(5);

/// How many lines an error or a panic shows.
const SHOWN_LINES: usize = 100;

/// A running program whose output is captured, line by line. Dropping it kills it; dropped by a
/// panic, it prints the last 100 lines to stderr. It dies with this process, however that ends.
#[derive(Debug)]
pub struct Program {
    name: String,
    pid: u32,
    child: Mutex<Child>,
    output: Arc<Output>,
}

/// The lines of both streams, in the order in which they were read.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    all: Vec<String>,
    /// How many of the two streams have ended.
    ended: usize,
}

impl Program {
    /// Starts `path` with these arguments and, beside the own environment, these variables. Its
    /// standard input is empty.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be started.
    pub fn spawn(
        path: impl AsRef<OsStr>,
        args: &[&str],
        envs: &[(&str, &str)],
    ) -> Result<Self, Error> {
        let name = path.as_ref().to_string_lossy().into_owned();
        let mut child = Command::new(path)
            .args(args)
            .envs(envs.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn_guarded()
            .during(|| format!("could not start `{name}`"))?;
        let output = Arc::new(Output::default());
        let pipes = "both streams were asked to be pipes just above";
        output.follow(child.stdout.take().expect(pipes));
        output.follow(child.stderr.take().expect(pipes));
        Ok(Self { name, pid: child.id(), child: Mutex::new(child), output })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Every line printed so far, to stdout and stderr.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.output.lines().all.clone()
    }

    /// Waits for a line that contains `part`, among those printed already and those to come.
    ///
    /// # Errors
    /// [`Error::NoLine`] after `timeout`, or earlier when the program has closed its output.
    pub fn wait_for_line(&self, part: &str, timeout: Duration) -> Result<String, Error> {
        self.wait_for(|line| line.contains(part), timeout)
    }

    /// Waits for a line that `wanted` accepts, among those printed already and those to come.
    ///
    /// # Errors
    /// [`Error::NoLine`] after `timeout`, or earlier when the program has closed its output.
    pub fn wait_for(
        &self,
        wanted: impl Fn(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, Error> {
        let started = Instant::now();
        let mut lines = self.output.lines();
        let mut seen = 0;
        loop {
            if let Some(line) = lines.all[seen..].iter().find(|line| wanted(line)) {
                return Ok(line.clone());
            }
            seen = lines.all.len();
            let waited = started.elapsed();
            if lines.ended == 2 || waited >= timeout {
                let output = lines.shown();
                return Err(Error::NoLine { program: self.name.clone(), waited, output });
            }
            let wait = self.output.changed.wait_timeout(lines, timeout - waited);
            lines = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for the program's end; `None` if it still runs after `timeout`.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child().try_wait() {
                return Some(status);
            }
            if started.elapsed() >= timeout {
                return None;
            }
            thread::sleep(GLANCE);
        }
    }

    /// Ends it with SIGKILL and waits for that.
    ///
    /// # Errors
    /// [`Error::Io`]. A program that has ended already is none.
    pub fn kill9(&self) -> Result<(), Error> {
        let mut child = self.child();
        child.kill().during(|| format!("could not kill `{}`", self.name))?;
        child.wait().during(|| format!("could not reap `{}`", self.name))?;
        Ok(())
    }

    /// Sends SIGTERM.
    ///
    /// # Errors
    /// [`Error::Io`]. A program that has ended already is none.
    pub fn terminate(&self) -> Result<(), Error> {
        self.send(Signal::TERM)
    }

    /// Sends SIGINT, as Ctrl-C does.
    ///
    /// # Errors
    /// [`Error::Io`]. A program that has ended already is none.
    pub fn interrupt(&self) -> Result<(), Error> {
        self.send(Signal::INT)
    }

    /// Sends any signal.
    pub(crate) fn send(&self, what: Signal) -> Result<(), Error> {
        let mut child = self.child();
        let ended = child.try_wait().during(|| format!("could not look at `{}`", self.name))?;
        if ended.is_some() { Ok(()) } else { signal(&child, what) }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // The guard is the last resort where this fails.
        let _ = self.kill9();
        if thread::panicking() {
            eprintln!("--- `{}` ({}) ---\n{}", self.name, self.pid, self.output.lines().shown());
        }
    }
}

impl Output {
    /// Collects the lines of one stream on a thread of its own, which ends with the stream.
    fn follow(self: &Arc<Self>, stream: impl Read + Send + 'static) {
        let output = Arc::clone(self);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while stream.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
                line.clear();
                output.lines().all.push(text);
                output.changed.notify_all();
            }
            output.lines().ended += 1;
            output.changed.notify_all();
        });
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn shown(&self) -> String {
        self.all[self.all.len().saturating_sub(SHOWN_LINES)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    fn sh(script: &str) -> Program {
        Program::spawn("sh", &["-c", script], &[("GREETING", "hello")]).unwrap()
    }

    #[test]
    fn lines_and_status_are_seen() {
        let program = sh("echo $GREETING; echo worse >&2; exit 3");
        assert_eq!(program.wait_for_line("ell", LONG).unwrap(), "hello");
        assert_eq!(program.wait_for(|line| line.len() == 5, LONG).unwrap().len(), 5);
        program.wait_for_line("worse", LONG).unwrap();
        assert_eq!(program.wait(LONG).unwrap().code(), Some(3));
        assert_eq!(program.lines().len(), 2);
    }

    #[test]
    fn a_line_that_cannot_come_is_not_waited_for() {
        let started = Instant::now();
        let error = sh("echo one").wait_for_line("two", LONG).unwrap_err();
        assert!(matches!(error, Error::NoLine { output, .. } if output == "one"));
        assert!(started.elapsed() < LONG);
    }

    #[test]
    fn a_wait_is_bounded() {
        let program = sh("sleep 1000");
        let short = Duration::from_millis(50);
        assert!(matches!(program.wait_for_line("x", short), Err(Error::NoLine { .. })));
        assert_eq!(program.wait(short), None);
    }

    #[test]
    fn signals_arrive() {
        let program = sh("trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.01; done");
        program.wait_for_line("ready", LONG).unwrap();
        program.terminate().unwrap();
        program.wait_for_line("term", LONG).unwrap();
        assert!(program.wait(LONG).unwrap().success());
        program.interrupt().unwrap();
        program.kill9().unwrap();
    }

    #[test]
    fn a_program_that_is_missing_is_an_error() {
        let error = Program::spawn("/nowhere/to/be/found", &[], &[]).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
    }
}
