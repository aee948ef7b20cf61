//! A Kafka that outlives the terminal it was started from.
//!
//! `start` runs this program once more, as a process in a session of its own. That one holds a
//! lock as long as it lives and writes down where its Kafka listens:
//! ```text
//! <target>/xtask/kafka.lock    held: Kafka runs, or is about to
//!               /kafka.state   pid, number of brokers and bootstrap string, one line each
//!               /kafka.log     what the process and its brokers' failures print
//! ```

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use krpc_testkit::{KAFKA_VERSION, Kafka};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process, setsid};

use crate::steps::chain;
use crate::{cargo, setup};

/// How often files and processes are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// How long the process may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How long the new process waits for a lock: `status` holds it for a moment.
const LOCK_LIMIT: Duration = Duration::from_secs(2);

/// What to do with the Kafka that stays.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Starts it in the background and prints its bootstrap string.
    Start {
        /// How many brokers.
        #[arg(long, default_value_t = 1)]
        brokers: usize,
    },
    /// Stops it and removes its data.
    Stop,
    /// Prints its bootstrap string, or fails where none runs.
    Status,
    /// The process in the background.
    #[command(hide = true)]
    Serve {
        /// How many brokers.
        #[arg(long)]
        brokers: usize,
    },
}

/// Does what `command` says.
pub(crate) fn run(command: &Command) -> Result<(), String> {
    let files = Files::new()?;
    match command {
        Command::Start { brokers } => start(&files, *brokers),
        Command::Stop => stop(&files),
        Command::Status => status(&files),
        Command::Serve { brokers } => serve(&files, *brokers),
    }
}

fn start(files: &Files, brokers: usize) -> Result<(), String> {
    if let Some(state) = files.running()? {
        if state.brokers != brokers {
            let count = state.brokers;
            return Err(format!("a Kafka of {count} broker(s) runs already: stop it first"));
        }
        eprintln!("it runs already");
        println!("{}", state.bootstrap);
        return Ok(());
    }
    setup::ensure(setup::ALL)?;
    let mut child = files.spawn(brokers)?;
    loop {
        let own = |state: &State| u32::try_from(state.pid) == Ok(child.id());
        if let Some(state) = files.running()?.filter(own) {
            eprintln!("Apache Kafka {KAFKA_VERSION}, {} broker(s)", state.brokers);
            println!("{}", state.bootstrap);
            return Ok(());
        }
        if child.try_wait().map_err(|error| error.to_string())?.is_some() {
            let log = fs::read_to_string(&files.log).unwrap_or_default();
            return Err(format!("Kafka did not start\n{log}"));
        }
        thread::sleep(GLANCE);
    }
}

fn stop(files: &Files) -> Result<(), String> {
    let Some(state) = files.running()? else {
        eprintln!("it does not run");
        return Ok(());
    };
    // The lock was held a moment ago, so the number is still that process's own.
    let pid = Pid::from_raw(state.pid).ok_or("the state names no process")?;
    kill_process(pid, Signal::TERM).map_err(|error| format!("could not stop it: {error}"))?;
    let started = Instant::now();
    while files.running()?.is_some() || state.answers() {
        if started.elapsed() > STOP_LIMIT {
            return Err(format!("process {} did not end within {STOP_LIMIT:?}", state.pid));
        }
        thread::sleep(GLANCE);
    }
    eprintln!("stopped");
    Ok(())
}

fn status(files: &Files) -> Result<(), String> {
    let state = files.running()?.ok_or("it does not run: `cargo xtask kafka start`")?;
    eprintln!("{} broker(s), process {}", state.brokers, state.pid);
    println!("{}", state.bootstrap);
    Ok(())
}

/// The background process: it ends by a signal, and its brokers end with it.
fn serve(files: &Files, brokers: usize) -> Result<(), String> {
    // Its own session has no terminal whose end could end it.
    setsid().map_err(|error| format!("could not leave the terminal: {error}"))?;
    let _held = files.take_lock()?;
    // The process that held the lock before may have left its state.
    files.forget()?;
    let kafka = Kafka::cluster(brokers).map_err(|error| chain(&error))?;
    let state = State {
        pid: Pid::as_raw(Some(rustix::process::getpid())),
        brokers: kafka.brokers(),
        bootstrap: kafka.bootstrap().to_owned(),
    };
    files.remember(&state)?;
    // Spurious wake-ups are allowed; the end is a signal.
    loop {
        thread::park();
    }
}

/// What the background process writes down.
#[derive(Debug, PartialEq, Eq)]
struct State {
    pid: i32,
    brokers: usize,
    bootstrap: String,
}

impl State {
    fn to_text(&self) -> String {
        format!("{}\n{}\n{}\n", self.pid, self.brokers, self.bootstrap)
    }

    /// Whether a broker still listens.
    fn answers(&self) -> bool {
        self.bootstrap.split(',').any(|address| TcpStream::connect(address).is_ok())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let mut next = |what| lines.next().ok_or(format!("the state lacks its {what}"));
        let wrong = |what| move |_| format!("the state's {what} is no number");
        Ok(Self {
            pid: next("process")?.parse().map_err(wrong("process"))?,
            brokers: next("brokers")?.parse().map_err(wrong("brokers"))?,
            bootstrap: next("bootstrap string")?.to_owned(),
        })
    }
}

/// Where the lock, the state and the log are.
#[derive(Debug)]
struct Files {
    lock: PathBuf,
    state: PathBuf,
    log: PathBuf,
}

impl Files {
    fn new() -> Result<Self, String> {
        let folder = cargo::target().join("xtask");
        let of = |name: &str| folder.join(name);
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self { lock: of("kafka.lock"), state: of("kafka.state"), log: of("kafka.log") })
    }

    /// The state of the Kafka that runs, if one does and is ready.
    fn running(&self) -> Result<Option<State>, String> {
        let lock = self.open_lock()?;
        if flock(&lock, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        match fs::read_to_string(&self.state) {
            Ok(text) => text.parse().map(Some),
            Err(_) => Ok(None),
        }
    }

    fn take_lock(&self) -> Result<File, String> {
        let lock = self.open_lock()?;
        let started = Instant::now();
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if started.elapsed() > LOCK_LIMIT {
                return Err("another Kafka is being started".to_owned());
            }
            thread::sleep(GLANCE);
        }
        Ok(lock)
    }

    fn open_lock(&self) -> Result<File, String> {
        let opened = File::options().create(true).truncate(false).write(true).open(&self.lock);
        opened.map_err(|error| format!("{}: {error}", self.lock.display()))
    }

    fn forget(&self) -> Result<(), String> {
        match fs::remove_file(&self.state) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", self.state.display()))
            }
            _ => Ok(()),
        }
    }

    /// Whole or not at all: it is read as soon as it is there.
    fn remember(&self, state: &State) -> Result<(), String> {
        let partial = self.state.with_extension("partial");
        fs::write(&partial, state.to_text())
            .and_then(|()| fs::rename(&partial, &self.state))
            .map_err(|error| format!("{}: {error}", self.state.display()))
    }

    /// Starts the background process.
    fn spawn(&self, brokers: usize) -> Result<Child, String> {
        let start = || {
            let log = File::create(&self.log)?;
            std::process::Command::new(std::env::current_exe()?)
                .args(["kafka", "serve", "--brokers", &brokers.to_string()])
                .current_dir(cargo::root())
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
        };
        start().map_err(|error: std::io::Error| format!("could not start Kafka: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_read_as_written() {
        let bootstrap = "127.0.0.1:1,127.0.0.1:2".to_owned();
        let state = State { pid: 7, brokers: 2, bootstrap };
        assert_eq!(state.to_text().parse(), Ok(state));
        for broken in ["", "7\n", "7\n2\n", "x\n2\na:1\n"] {
            assert!(broken.parse::<State>().is_err(), "{broken:?}");
        }
    }
}
