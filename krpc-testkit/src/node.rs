//! One broker: its folder, its process, its log.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Error;
use crate::error::During;
use crate::guard::Guard;
use crate::install::Installed;
use crate::probe::{self, Members};
use crate::settings::{Jvm, Layout};

/// How long a broker may take to end after SIGTERM before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How long one probe may take; a broker that is still starting answers late.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// How often a process is looked at: neither its end nor its readiness can be awaited.
const GLANCE: Duration = Duration::from_millis(10);

/// How much of a log's end is shown.
const TAIL_BYTES: u64 = 16 * 1024;

/// Where Kafka looks for the records that a new cluster starts with.
const CHECKPOINT: &str = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint";

/// One broker, running or not.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    folder: PathBuf,
    address: String,
    cluster: String,
    java: PathBuf,
    options: Vec<String>,
    process: Mutex<Option<Child>>,
}

impl Node {
    /// Lays out the folder of broker `index` below `parent`. It is not started yet.
    pub(crate) fn prepare(
        installed: &Installed,
        jvm: &Jvm,
        layout: &Layout,
        index: usize,
        parent: &Path,
    ) -> Result<Self, Error> {
        let folder = parent.join(format!("broker-{index}"));
        let data = folder.join("data");
        write_files(installed, layout, index, &folder, &data)
            .during(|| format!("could not write the files of broker {index}"))?;
        let mut options = jvm.options(&folder);
        options.extend(["-cp".to_owned(), installed.class_path.clone()]);
        Ok(Self {
            index,
            folder,
            address: format!("127.0.0.1:{}", layout.ports[index]),
            cluster: layout.cluster.clone(),
            java: installed.java.clone(),
            options,
            process: Mutex::new(None),
        })
    }

    /// Starts the process; it is not ready yet.
    pub(crate) fn launch(&self) -> Result<(), Error> {
        let start = || {
            let log = File::options().create(true).append(true).open(self.log_path())?;
            Command::new(&self.java)
                .args(&self.options)
                .args(["kafka.Kafka", "server.properties"])
                .current_dir(&self.folder)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn_guarded()
        };
        let child = start().during(|| format!("could not start broker {}", self.index))?;
        *self.process() = Some(child);
        Ok(())
    }

    /// Waits until the broker answers and `enough` is content with the cluster it sees.
    pub(crate) fn wait_ready(
        &self,
        limit: Duration,
        enough: impl Fn(&Members) -> bool,
    ) -> Result<(), Error> {
        let started = Instant::now();
        loop {
            self.check_alive()?;
            if let Ok(members) = probe::members(&self.address, PROBE_LIMIT)
                && members.cluster.as_ref() == Some(&self.cluster)
                && enough(&members)
            {
                return Ok(());
            }
            let waited = started.elapsed();
            if waited > limit {
                return Err(Error::NotReady { broker: self.index, waited, log: self.log_tail() });
            }
            thread::sleep(GLANCE);
        }
    }

    fn check_alive(&self) -> Result<(), Error> {
        let mut process = self.process();
        let child = process.as_mut().ok_or(Error::NotRunning { broker: self.index })?;
        let ended = child.try_wait().during(|| "could not look at a broker".into())?;
        match ended {
            None => Ok(()),
            Some(status) => {
                *process = None;
                Err(Error::Ended { broker: self.index, status, log: self.log_tail() })
            }
        }
    }

    /// Ends the broker as an operator would: SIGTERM, and SIGKILL where that takes too long.
    pub(crate) fn stop(&self) -> Result<(), Error> {
        let mut process = self.process();
        if let Some(child) = process.as_mut() {
            signal(child, Signal::TERM)?;
            // A paused broker must run to end by itself.
            signal(child, Signal::CONT)?;
            let started = Instant::now();
            while child.try_wait().during(|| "could not look at a broker".into())?.is_none() {
                if started.elapsed() > STOP_LIMIT {
                    break;
                }
                thread::sleep(GLANCE);
            }
        }
        drop(process);
        self.kill()
    }

    /// Ends the broker with SIGKILL. A broker that does not run stays so.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        if let Some(mut child) = self.process().take() {
            child.kill().during(|| format!("could not kill broker {}", self.index))?;
            child.wait().during(|| format!("could not reap broker {}", self.index))?;
        }
        Ok(())
    }

    /// Stops or continues the running process.
    pub(crate) fn send(&self, what: Signal) -> Result<(), Error> {
        self.check_alive().map_err(|_| Error::NotRunning { broker: self.index })?;
        self.process().as_mut().map_or(Ok(()), |child| signal(child, what))
    }

    /// Whether clients find this broker at `port`, by the members that a broker reports.
    pub(crate) fn is_among(&self, members: &Members) -> bool {
        members.brokers.iter().any(|(node, port)| {
            usize::try_from(*node) == Ok(self.index) && self.address.ends_with(&format!(":{port}"))
        })
    }

    /// `host:port` for clients.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The file with everything that the broker printed.
    pub(crate) fn log_path(&self) -> PathBuf {
        self.folder.join("broker.log")
    }

    /// The end of what the broker printed, whole lines.
    pub(crate) fn log_tail(&self) -> String {
        tail(&self.log_path())
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The guard is the last resort where this fails.
        let _ = self.kill();
    }
}

/// Starting a child that dies with this process.
pub(crate) trait SpawnGuarded {
    /// Like [`Command::spawn`].
    fn spawn_guarded(&mut self) -> std::io::Result<Child>;
}

impl SpawnGuarded for Command {
    fn spawn_guarded(&mut self) -> std::io::Result<Child> {
        Guard::get().map_err(std::io::Error::other)?.spawn(self)
    }
}

/// The last lines of a file; empty where it cannot be read.
pub(crate) fn tail(path: &Path) -> String {
    let read = || {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let whole = if from == 0 { 0 } else { text.find('\n').map_or(0, |at| at + 1) };
        std::io::Result::Ok(text[whole..].to_owned())
    };
    read().unwrap_or_default()
}

/// Sends a signal to a child that was not reaped, so that its number is still its own.
pub(crate) fn signal(child: &Child, what: Signal) -> Result<(), Error> {
    kill_process(Pid::from_child(child), what)
        .map_err(std::io::Error::from)
        .during(|| format!("could not signal process {}", child.id()))
}

/// What `kafka-storage format` would write, without the second that it takes.
fn write_files(
    installed: &Installed,
    layout: &Layout,
    index: usize,
    folder: &Path,
    data: &Path,
) -> std::io::Result<()> {
    let checkpoint = data.join(CHECKPOINT);
    fs::create_dir_all(checkpoint.parent().unwrap_or(data))?;
    fs::copy(&installed.checkpoint, &checkpoint)?;
    let meta = format!("version=1\ncluster.id={}\nnode.id={index}\n", layout.cluster);
    fs::write(data.join("meta.properties"), meta)?;
    fs::write(folder.join("server.properties"), layout.properties(index, data))
}

/// Where formatting left the checkpoint, below the data folder.
pub(crate) fn checkpoint_in(data: &Path) -> PathBuf {
    data.join(CHECKPOINT)
}
