//! The tools beside Rust: a JVM and Maven for Kafka, a C compiler and make for librdkafka, OpenSSL
//! for its feature `tls`, a Redis for the result store's tests, and valgrind for counting
//! instructions.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::geteuid;

/// The oldest Java that Kafka 4 runs on.
const OLDEST_JAVA: u32 = 17;

/// What building kRPC needs.
pub(crate) const BUILD: &[Tool] = &[
    Tool { program: "cc", packages: &["gcc", "libc6-dev"] },
    Tool { program: "c++", packages: &["g++"] },
    Tool { program: "make", packages: &["make"] },
];

/// What building and testing need.
pub(crate) const TEST: &[Tool] = &[
    BUILD[0],
    BUILD[1],
    BUILD[2],
    Tool { program: "java", packages: &[] },
    Tool { program: "mvn", packages: &["maven"] },
    Tool { program: "redis-server", packages: &["redis-server"] },
    Tool { program: OPENSSL, packages: &["libssl-dev", "pkg-config"] },
];

/// No program, but a library and its headers, which pkg-config knows.
const OPENSSL: &str = "openssl (library)";

/// What counting instructions needs.
pub(crate) const GUARDS: &[Tool] =
    &[BUILD[0], Tool { program: "valgrind", packages: &["valgrind"] }];

/// What every command together needs.
pub(crate) const ALL: &[Tool] =
    &[TEST[0], TEST[1], TEST[2], TEST[3], TEST[4], TEST[5], TEST[6], GUARDS[1]];

/// Either of them will do; which one there is depends on the distribution.
const JAVA_PACKAGES: [&str; 2] = ["openjdk-21-jre-headless", "openjdk-17-jre-headless"];

/// A program and the Debian packages that bring it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    program: &'static str,
    packages: &'static [&'static str],
}

impl Tool {
    fn is_there(self) -> bool {
        if self.program == "java" {
            return java_version().is_some_and(|version| version >= OLDEST_JAVA);
        }
        if self.program == OPENSSL {
            return runs(Command::new("pkg-config").args(["--exists", "openssl"]));
        }
        runs(Command::new(self.program).arg("--version"))
    }
}

/// Makes sure of `tools`: installs the missing ones through apt-get as root (or by sudo without a
/// password), else fails and says which command would.
pub(crate) fn ensure(tools: &[Tool]) -> Result<(), String> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| !tool.is_there()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = missing.iter().map(|tool| tool.program).collect();
    eprintln!("missing: {}", names.join(", "));
    let prefix: &[&str] = if geteuid().is_root() { &[] } else { &["sudo", "-n"] };
    let may_install = runs(Command::new("apt-get").arg("--version"))
        && (prefix.is_empty() || runs(Command::new("sudo").args(["-n", "true"])));
    if may_install {
        apt_get(prefix, &["update"])?;
    }
    let packages = packages(&missing, java_package());
    let command = format!("apt-get install --yes --no-install-recommends {}", packages.join(" "));
    if !may_install {
        return Err(format!("these are needed. As root, run: apt-get update && {command}"));
    }
    let install: Vec<&str> = command.split(' ').skip(1).collect();
    apt_get(prefix, &install)?;
    match missing.iter().find(|tool| !tool.is_there()) {
        None => Ok(()),
        Some(tool) if tool.program == "java" && env::var_os("JAVA_HOME").is_some() => Err(format!(
            "Java {OLDEST_JAVA} or newer is needed, and JAVA_HOME names another: unset it"
        )),
        Some(tool) => Err(format!("`{}` is still missing after its installation", tool.program)),
    }
}

/// The packages to install for what is missing.
fn packages(missing: &[Tool], java: &'static str) -> Vec<&'static str> {
    let of = |tool: &Tool| if tool.program == "java" { vec![java] } else { tool.packages.to_vec() };
    missing.iter().flat_map(of).collect()
}

fn java_package() -> &'static str {
    let known = |package: &&str| runs(Command::new("apt-cache").args(["show", package]));
    JAVA_PACKAGES.into_iter().find(known).unwrap_or(JAVA_PACKAGES[1])
}

fn apt_get(prefix: &[&str], args: &[&str]) -> Result<(), String> {
    let words = [prefix, &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"], args].concat();
    let shown = words.join(" ");
    eprintln!("$ {shown}");
    let status = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("could not run `{shown}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}`: {status}")) }
}

fn runs(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}

/// The version of the Java that Kafka would be run with.
fn java_version() -> Option<u32> {
    let of_home = env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let java = of_home.filter(|java| java.is_file()).unwrap_or_else(|| "java".into());
    let output = Command::new(java).arg("-version").stdin(Stdio::null()).output().ok()?;
    major(&String::from_utf8_lossy(&output.stderr))
}

/// The major version in what `java -version` prints: `openjdk version "17.0.15" 2025-04-15`, or
/// `java version "1.8.0_402"` of old, perhaps after lines about options picked up.
fn major(printed: &str) -> Option<u32> {
    let quoted = printed.split_once(" version \"")?.1;
    let mut numbers = quoted.split(|c: char| !c.is_ascii_digit());
    match numbers.next()?.parse().ok()? {
        1 => numbers.next()?.parse().ok(),
        version => Some(version),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_versions_are_read() {
        let picked_up = "Picked up JAVA_TOOL_OPTIONS: -Dx\nopenjdk version \"21-ea\" 2023";
        for (printed, version) in [
            ("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime …", Some(17)),
            ("java version \"1.8.0_402\"", Some(8)),
            (picked_up, Some(21)),
            ("openjdk version \"\"", None),
            ("command not found", None),
        ] {
            assert_eq!(major(printed), version, "{printed}");
        }
    }

    #[test]
    fn what_is_missing_names_its_packages() {
        let missing = [ALL[0], ALL[3], ALL[4], ALL[5], ALL[6]];
        let packages = packages(&missing, JAVA_PACKAGES[1]);
        let expected = "gcc libc6-dev openjdk-17-jre-headless maven redis-server libssl-dev \
                        pkg-config";
        assert_eq!(packages.join(" "), expected);
    }
}
