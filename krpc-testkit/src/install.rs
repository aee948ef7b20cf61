//! What every start needs, made once and kept in the cargo target folder: Kafka's jars, the
//! checkpoint that a formatted cluster begins with, and the JVM's archive of loaded classes.
//!
//! ```text
//! <target>/krpc-kafka/<version>/lock                  held while anything below is made
//!                              /jars/*.jar            fetched by Maven
//!                              /bootstrap.checkpoint  taken from one formatted folder
//!                              /classes-<java>.jsa    written by one training run
//! ```
//! Each part is made elsewhere and renamed into place, so that it is there whole or not at all.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::Error;
use crate::error::During;
use crate::node::{Node, SpawnGuarded, checkpoint_in, tail};
use crate::settings::{Archive, Jvm, Layout};
use crate::{kafka, ports};

/// The version of Apache Kafka that is run.
pub const KAFKA_VERSION: &str = "4.4.0";

/// Kafka's build leaves the choice of a logger open; this one needs no configuration file.
const LOGGER: (&str, &str) = ("slf4j-simple", "1.7.36");

const MAVEN_GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

/// A download of 43 MB, on a slow line.
const FETCH_LIMIT: Duration = Duration::from_secs(600);

/// Formatting takes a second; a training start, three.
const STEP_LIMIT: Duration = Duration::from_secs(120);

const WORK_PREFIX: &str = "making-";

const GLANCE: Duration = Duration::from_millis(10);

/// Found or made once in a process.
static INSTALLED: Mutex<Option<Installed>> = Mutex::new(None);

/// Where the parts are.
#[derive(Debug, Clone)]
pub(crate) struct Installed {
    /// The JVM's program.
    pub(crate) java: PathBuf,
    /// Every jar, joined by colons.
    pub(crate) class_path: String,
    /// The records that a new cluster starts with.
    pub(crate) checkpoint: PathBuf,
    /// The archive of classes, if it could be made.
    pub(crate) archive: Archive,
}

impl Installed {
    /// Finds the parts, or makes them. Other processes wait meanwhile.
    pub(crate) fn get() -> Result<Self, Error> {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(installed) = &*installed {
            return Ok(installed.clone());
        }
        let made = Self::make(&cache().join(KAFKA_VERSION))?;
        *installed = Some(made.clone());
        Ok(made)
    }

    fn make(cache: &Path) -> Result<Self, Error> {
        let java = java()?;
        fs::create_dir_all(cache).during(|| format!("could not make {}", cache.display()))?;
        let lock = File::create(cache.join("lock")).during(|| "could not make a lock".into())?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(std::io::Error::from)
            .during(|| "could not lock the cache".into())?;
        sweep(cache);
        let jars = cache.join("jars");
        if !jars.exists() {
            fetch(cache, &jars)?;
        }
        let mut installed = Self {
            class_path: class_path(&jars)?,
            checkpoint: cache.join("bootstrap.checkpoint"),
            archive: Archive::Without,
            java,
        };
        if !installed.checkpoint.exists() {
            let work = work_folder(cache)?;
            fs::rename(installed.format(work.path(), &[])?, &installed.checkpoint)
                .during(|| "formatting left no checkpoint".into())?;
        }
        installed.archive = installed.archive_in(cache);
        Ok(installed)
    }

    /// Formats a folder within this one; where its checkpoint is. That holds feature levels, the
    /// users that are asked for, and nothing of the node or the cluster.
    pub(crate) fn format(&self, folder: &Path, users: &[String]) -> Result<PathBuf, Error> {
        let data = folder.join("formatted");
        let layout = single(10_000, 10_001);
        let properties = folder.join("format.properties");
        fs::write(&properties, layout.properties(0, &data))
            .during(|| "could not write settings".into())?;
        let mut format = Command::new(&self.java);
        format
            .args(["-XX:-UsePerfData", "-XX:TieredStopAtLevel=1", "-cp", &self.class_path])
            .args(["kafka.tools.StorageTool", "format", "-t", &layout.cluster, "-c"])
            .arg(&properties)
            .args(users);
        run("formatting", &mut format, folder, STEP_LIMIT)?;
        Ok(checkpoint_in(&data))
    }

    /// The archive of classes for this JVM. Where it cannot be made, an empty file says so, and
    /// Kafka starts without it.
    fn archive_in(&self, cache: &Path) -> Archive {
        let archive = cache.join(format!("classes-{:016x}.jsa", self.java_key()));
        if !archive.exists() {
            let made = self.train(cache).and_then(|(work, made)| {
                fs::rename(made, &archive).during(|| "could not keep the archive".into())?;
                drop(work);
                Ok(())
            });
            if made.is_err() {
                // Not even the note can be left: then the next process tries again.
                let _ = File::create(&archive);
            }
        }
        let usable = fs::metadata(&archive).is_ok_and(|file| file.len() > 0);
        if usable { Archive::Read(archive) } else { Archive::Without }
    }

    /// Runs one broker, which writes the archive when it ends.
    fn train(&self, cache: &Path) -> Result<(tempfile::TempDir, PathBuf), Error> {
        let work = work_folder(cache)?;
        let archive = work.path().join("classes.jsa");
        let jvm = Jvm {
            heap: kafka::DEFAULT_HEAP.to_owned(),
            fast: false,
            archive: Archive::Write(archive.clone()),
        };
        let layout = single(ports::free_port()?, ports::free_port()?);
        let node = Node::prepare(self, &jvm, &layout, 0, work.path())?;
        node.launch()?;
        node.wait_ready(STEP_LIMIT, |_| true)?;
        node.stop()?;
        Ok((work, archive))
    }

    /// Tells one JVM, and one place of the jars, from another: the archive fits only its own.
    fn java_key(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.class_path.hash(&mut hasher);
        let java = self.java.canonicalize().unwrap_or_else(|_| self.java.clone());
        java.hash(&mut hasher);
        let release = java.parent().and_then(Path::parent).map(|home| home.join("release"));
        release.and_then(|path| fs::read(path).ok()).hash(&mut hasher);
        hasher.finish()
    }
}

fn single(port: u16, controller_port: u16) -> Layout {
    Layout {
        cluster: kafka::cluster_id(),
        ports: vec![port],
        controller_ports: vec![controller_port],
        doors: Vec::new(),
        chosen: BTreeMap::new(),
    }
}

fn fetch(cache: &Path, jars: &Path) -> Result<(), Error> {
    let maven = find_program("mvn").ok_or_else(|| Error::Missing { program: "mvn".to_owned() })?;
    let work = work_folder(cache)?;
    let pom = work.path().join("pom.xml");
    let fetched = work.path().join("jars");
    fs::write(&pom, project()).during(|| "could not write pom.xml".into())?;
    let mut command = Command::new(maven);
    command
        .args(["--batch-mode", "--quiet", "--file"])
        .arg(&pom)
        .arg(MAVEN_GOAL)
        .arg("-DincludeScope=runtime")
        .arg(format!("-DoutputDirectory={}", fetched.display()));
    run("fetching the jars with Maven", &mut command, work.path(), FETCH_LIMIT)?;
    fs::rename(&fetched, jars).during(|| "could not keep the jars".into())
}

/// A project with nothing but what is to be fetched.
fn project() -> String {
    let dependency = |group: &str, artifact: &str, version: &str| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    };
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>krpc</groupId><artifactId>testkit</artifactId><version>1</version>\
         <packaging>pom</packaging><dependencies>{}{}</dependencies></project>\n",
        dependency("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        dependency("org.slf4j", LOGGER.0, LOGGER.1),
    )
}

fn class_path(jars: &Path) -> Result<String, Error> {
    let list = || {
        let entries = fs::read_dir(jars)?.collect::<std::io::Result<Vec<_>>>()?;
        let mut paths: Vec<String> =
            entries.iter().map(|entry| entry.path().display().to_string()).collect();
        // The archive of classes wants the same order each time.
        paths.sort();
        Ok(paths.join(":"))
    };
    list().during(|| format!("could not list {}", jars.display()))
}

/// Runs one step to its end, or kills it at the limit.
fn run(
    step: &'static str,
    command: &mut Command,
    folder: &Path,
    limit: Duration,
) -> Result<(), Error> {
    let log = folder.join("output.log");
    let mut child = File::create(&log)
        .and_then(|output| {
            let errors = output.try_clone()?;
            command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn_guarded()
        })
        .during(|| format!("could not start: {step}"))?;
    let started = Instant::now();
    loop {
        match child.try_wait().during(|| format!("could not look at: {step}"))? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => break,
            None if started.elapsed() > limit => {
                child.kill().during(|| format!("could not kill: {step}"))?;
                child.wait().during(|| format!("could not reap: {step}"))?;
                break;
            }
            None => thread::sleep(GLANCE),
        }
    }
    Err(Error::Prepare { step, output: tail(&log) })
}

/// A folder beside the cache's parts, so that renaming into place stays on one file system.
fn work_folder(cache: &Path) -> Result<tempfile::TempDir, Error> {
    tempfile::Builder::new()
        .prefix(WORK_PREFIX)
        .tempdir_in(cache)
        .during(|| format!("could not make a folder in {}", cache.display()))
}

/// Removes what a process that was killed left half made; the lock says that nobody is at it.
fn sweep(cache: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(WORK_PREFIX) {
            // What cannot be removed is only in the way.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// The folder for what is kept: the cargo target folder that this program was built into, else
/// the one that cargo was told to use, else the user's cache.
pub(crate) fn cache() -> PathBuf {
    let built_into = env::current_exe().ok().and_then(|program| target_folder(&program));
    let told = || env::var_os("CARGO_TARGET_DIR").map(PathBuf::from).filter(|p| p.is_absolute());
    let of_user = || {
        let home = || Some(PathBuf::from(env::var_os("HOME")?).join(".cache"));
        env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let folder = built_into.or_else(told).or_else(of_user).unwrap_or_else(env::temp_dir);
    folder.join("krpc-kafka")
}

/// Cargo keeps a note about the compiler in its target folder, whatever the folder's name is.
fn target_folder(program: &Path) -> Option<PathBuf> {
    let is_target =
        |folder: &&Path| folder.ends_with("target") || folder.join(".rustc_info.json").is_file();
    program.ancestors().skip(1).find(is_target).map(Path::to_owned)
}

fn java() -> Result<PathBuf, Error> {
    let of_home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    of_home
        .filter(|java| java.is_file())
        .or_else(|| find_program("java"))
        .ok_or_else(|| Error::Missing { program: "java".to_owned() })
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
    env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_target_folder_is_known_by_its_name_or_its_note() {
        let folder = tempfile::tempdir().unwrap();
        let noted = folder.path().join("elsewhere");
        fs::create_dir_all(noted.join("debug/deps")).unwrap();
        let program = noted.join("debug/deps/test");
        assert_eq!(target_folder(&program), None);
        File::create(noted.join(".rustc_info.json")).unwrap();
        assert_eq!(target_folder(&program), Some(noted));
        let named = Path::new("/x/target/debug/a");
        assert_eq!(target_folder(named), Some("/x/target".into()));
    }

    #[test]
    fn a_step_that_fails_shows_its_output() {
        let folder = tempfile::tempdir().unwrap();
        let mut fails = Command::new("sh");
        fails.args(["-c", "echo because; exit 3"]);
        let error = run("failing", &mut fails, folder.path(), STEP_LIMIT).unwrap_err();
        assert!(matches!(error, Error::Prepare { output, .. } if output == "because\n"));
    }

    #[test]
    fn a_step_that_hangs_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut hangs = Command::new("sleep");
        hangs.arg("1000");
        let started = Instant::now();
        let limit = Duration::from_millis(100);
        let error = run("hanging", &mut hangs, folder.path(), limit).unwrap_err();
        assert!(matches!(error, Error::Prepare { .. }));
        assert!(started.elapsed() < Duration::from_secs(60));
    }
}
