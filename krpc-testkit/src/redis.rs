//! A Redis, for what keeps its state there.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::error::During;
use crate::guard::Guard;
use crate::{Error, Program, ports};

/// Debian's name of the program and of its package.
const SERVER: &str = "redis-server";

/// How long it may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How often it is asked whether it is.
const GLANCE: Duration = Duration::from_millis(10);

/// How often a start is tried again when another process was faster to take the port.
const PORT_ATTEMPTS: usize = 5;

/// A running `redis-server` on a port of its own, which keeps its data through a kill. Dropping it
/// ends it and removes its data.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Mutex<Option<Program>>,
    folder: TempDir,
}

impl Redis {
    /// Starts one, and waits until it answers.
    ///
    /// # Errors
    /// [`Error::MissingPackage`] where it is not installed; [`Error::Redis`] when it does not
    /// start; [`Error::Io`].
    pub fn start() -> Result<Self, Error> {
        let mut attempt = 1;
        loop {
            let folder = tempfile::Builder::new()
                .prefix("redis-")
                .tempdir_in(Guard::get()?.folder())
                .during(|| "could not make a folder for Redis".into())?;
            let redis = Self { port: ports::free_port()?, process: Mutex::new(None), folder };
            match redis.launch() {
                Err(Error::Redis { .. }) if attempt < PORT_ATTEMPTS => attempt += 1,
                launched => return launched.map(|()| redis),
            }
        }
    }

    /// What clients connect to: `redis://127.0.0.1:port`. It stays the same over restarts.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it with SIGKILL. What it had answered is there after a restart.
    ///
    /// # Errors
    /// [`Error::Io`]. One that does not run is none.
    pub fn kill(&self) -> Result<(), Error> {
        self.process().take().map_or(Ok(()), |program| program.kill9())
    }

    /// Starts it again, on the same port with the same data, and waits until it answers. One that
    /// runs is killed before.
    ///
    /// # Errors
    /// As [`Redis::start`].
    pub fn restart(&self) -> Result<(), Error> {
        self.kill()?;
        self.launch()
    }

    /// Stops its process where it is: it answers nothing, and connections to it stay.
    ///
    /// # Errors
    /// [`Error::Io`]. One that does not run is none.
    pub fn pause(&self) -> Result<(), Error> {
        self.send(Signal::STOP)
    }

    /// Lets a paused one go on.
    ///
    /// # Errors
    /// As [`Redis::pause`].
    pub fn resume(&self) -> Result<(), Error> {
        self.send(Signal::CONT)
    }

    fn send(&self, what: Signal) -> Result<(), Error> {
        self.process().as_ref().map_or(Ok(()), |program| program.send(what))
    }

    fn launch(&self) -> Result<(), Error> {
        let (port, folder) = (self.port.to_string(), self.folder.path().to_string_lossy());
        let args = [
            ["--bind", "127.0.0.1"],
            ["--port", &port],
            ["--dir", &folder],
            // Written to the file before it answers; a killed process takes no page with it.
            ["--appendonly", "yes"],
            ["--save", ""],
        ];
        let program = Program::spawn(SERVER, args.as_flattened(), &[]).map_err(|error| {
            let missing = matches!(&error, Error::Io { source, .. }
                if source.kind() == io::ErrorKind::NotFound);
            match missing {
                true => Error::MissingPackage { program: SERVER, package: SERVER },
                false => error,
            }
        })?;
        let started = Instant::now();
        while self.ping().is_err() {
            let ended = program.wait(Duration::ZERO).is_some();
            let waited = started.elapsed();
            if ended || waited > READY_LIMIT {
                return Err(Error::Redis { waited, log: program.lines().join("\n") });
            }
            thread::sleep(GLANCE);
        }
        *self.process() = Some(program);
        Ok(())
    }

    fn ping(&self) -> io::Result<()> {
        let mut connection = TcpStream::connect(("127.0.0.1", self.port))?;
        connection.set_read_timeout(Some(READY_LIMIT / 10))?;
        connection.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        connection.read_exact(&mut answer)?;
        // While it reads its data it answers with an error.
        if answer == *b"+PONG\r\n" { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
    }

    fn process(&self) -> MutexGuard<'_, Option<Program>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Sends a command and reads a line.
    fn ask(redis: &Redis, command: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", redis.port))?;
        connection.set_read_timeout(Some(Duration::from_millis(200)))?;
        connection.write_all(format!("{command}\r\n").as_bytes())?;
        let mut bytes = [0; 64];
        let length = connection.read(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    #[test]
    fn it_keeps_what_it_was_told_through_a_kill() {
        let redis = Redis::start().unwrap();
        assert_eq!(ask(&redis, "SET a b").unwrap(), "+OK\r\n");
        redis.kill().unwrap();
        redis.kill().unwrap();
        assert!(ask(&redis, "GET a").is_err());
        redis.restart().unwrap();
        assert_eq!(ask(&redis, "GET a").unwrap(), "$1\r\nb\r\n");
    }

    #[test]
    fn a_paused_one_answers_nothing_until_it_goes_on() {
        let redis = Redis::start().unwrap();
        redis.pause().unwrap();
        assert!(ask(&redis, "GET a").is_err());
        redis.resume().unwrap();
        assert_eq!(ask(&redis, "GET a").unwrap(), "$-1\r\n");
    }

    #[test]
    fn one_that_cannot_start_says_why() {
        let (port, folder) = (ports::free_port().unwrap(), tempfile::tempdir().unwrap());
        std::fs::remove_dir(folder.path()).unwrap();
        let redis = Redis { port, process: Mutex::new(None), folder };
        let error = redis.launch().unwrap_err();
        assert!(matches!(error, Error::Redis { log, .. } if log.contains("No such file")));
    }
}
