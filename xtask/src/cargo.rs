//! Runs cargo in the workspace's root.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::counts::Counts;

/// One call of cargo.
#[derive(Debug)]
pub(crate) struct Cargo {
    command: Command,
    shown: String,
}

impl Cargo {
    /// `cargo` with these arguments, split at blanks.
    pub(crate) fn new(args: &str) -> Self {
        let program = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(program);
        command.current_dir(root());
        Self { command, shown: "cargo".to_owned() }.args(args.split_whitespace())
    }

    /// `cargo` of another toolchain, through rustup.
    pub(crate) fn of_toolchain(version: &str, args: &str) -> Self {
        let mut command = Command::new("rustup");
        command.current_dir(root()).args(["run", version, "cargo"]);
        let shown = format!("rustup run {version} cargo");
        Self { command, shown }.args(args.split_whitespace())
    }

    /// Further arguments, as they are.
    pub(crate) fn args<A: AsRef<str>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        for arg in args {
            self.shown = self.shown + " " + arg.as_ref();
            self.command.arg(arg.as_ref());
        }
        self
    }

    /// A variable for cargo and what it runs.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.shown = format!("{name}={value} {}", self.shown);
        self.command.env(name, value);
        self
    }

    /// Takes a variable away.
    pub(crate) fn env_remove(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Runs it to its end.
    pub(crate) fn run(mut self) -> Result<(), String> {
        self.announce();
        let status = self.command.status().map_err(|error| self.unable(&error))?;
        if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", self.shown)) }
    }

    /// Whether it ends well; nothing of it is shown.
    pub(crate) fn succeeds_quietly(mut self) -> bool {
        let quiet = self.command.stdout(Stdio::null()).stderr(Stdio::null());
        quiet.status().is_ok_and(|status| status.success())
    }

    /// Runs it, passes its output on and adds the results of test programs to `counts`.
    pub(crate) fn run_counting(mut self, counts: &mut Counts) -> Result<(), String> {
        self.announce();
        if io::stdout().is_terminal() {
            self.command.env("CARGO_TERM_COLOR", "always");
        }
        let mut child =
            self.command.stdout(Stdio::piped()).spawn().map_err(|error| self.unable(&error))?;
        let output = child.stdout.take().expect("its stdout was asked to be a pipe just above");
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Bytes, not text: a test may print anything.
        while output.read_until(b'\n', &mut line).map_err(|error| self.unable(&error))? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            counts.take(text.trim_end());
            line.clear();
        }
        let status = child.wait().map_err(|error| self.unable(&error))?;
        if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", self.shown)) }
    }

    fn announce(&self) {
        eprintln!("\n$ {}", self.shown);
    }

    fn unable(&self, error: &io::Error) -> String {
        format!("could not run `{}`: {error}", self.shown)
    }
}

/// The workspace's root.
pub(crate) fn root() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// The folder that cargo builds into.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}
