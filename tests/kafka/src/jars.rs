//! The programs of Apache Kafka: resolved once by Maven into `target/kafka/RELEASE`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::brought::{alone, once};
use crate::{Release, Result};

/// The programs of a release of Apache Kafka, all there and able to run.
#[derive(Clone, Debug)]
pub struct Jars {
    release: Release,
    dir: PathBuf,
}

/// Where everything of Kafka is kept in this workspace: `target/kafka`.
pub fn home() -> PathBuf {
    let workspace = crate_dir().ancestors().nth(2).unwrap_or(crate_dir());
    workspace.join("target/kafka")
}

fn crate_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

impl Jars {
    /// Find the programs of a release. The first time, Maven brings them, which takes less than a minute.
    ///
    /// Errors: Java or Maven is missing and cannot be installed, or Maven fails.
    pub fn find(release: Release) -> Result<Self> {
        need_java(release)?;
        let dir = home().join(release.number());
        resolve(release, &dir)?;
        Ok(Self { release, dir })
    }

    /// A command that runs a tool, as in `AclCommand`: to be given arguments and started.
    pub fn tool(&self, name: &str) -> Command {
        self.java(&format!("{}.{name}", self.release.tools()), &[])
    }

    /// A command that runs a class of Kafka, as in `kafka.tools.StorageTool`: to be given arguments and started.
    pub fn java(&self, class: &str, java_options: &[String]) -> Command {
        let mut command = Command::new("java");
        let log = crate_dir().join("log4j2.properties");
        // Up fast and small: the serial collector has no threads, and the first compiler alone is enough for tests.
        command.args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.arg(format!("-Dlog4j2.configurationFile={}", log.display()));
        command.args(java_options);
        command.arg("-cp").arg(self.dir.join("*")).arg(class);
        command.stdin(Stdio::null());
        command
    }
}

/// Let Maven bring the jars of the pom unless they are there.
fn resolve(release: Release, dir: &Path) -> Result<()> {
    let pom = crate_dir().join("pom.xml");
    let wanted = fs::read(&pom).map_err(|error| format!("cannot read {}: {error}", pom.display()))?;
    once(dir, &wanted, || {
        need_maven()?;
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "-f"]).arg(&pom).arg(format!("-Dkafka.version={}", release.number()));
        maven.args(release.profile().iter().flat_map(|profile| ["-P", profile]));
        maven.arg("dependency:copy-dependencies").arg(format!("-DoutputDirectory={}", dir.display()));
        output(&mut maven).map(drop)
    })
}

/// A Java that is new enough, installed if it is missing.
fn need_java(kafka: Release) -> Result<()> {
    let (number, min) = (kafka.number(), kafka.java_min());
    if java_release().is_none() {
        install("default-jre-headless", &format!("Java {min} or newer"))?;
    }
    match java_release() {
        Some(release) if release >= min => Ok(()),
        Some(release) => Err(format!(
            "java is of release {release}, and Kafka {number} needs {min} or newer; put a newer one first in PATH"
        )),
        None => Err("java does not say its release; check `java -version`".to_owned()),
    }
}

fn java_release() -> Option<u32> {
    let output = Command::new("java").arg("-version").output().ok()?;
    release(&String::from_utf8_lossy(&output.stderr))
}

/// The release in what `java -version` says: `openjdk version "17.0.15" 2025-04-15`.
fn release(said: &str) -> Option<u32> {
    let (_, version) = said.split_once(" version \"")?;
    version.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

fn need_maven() -> Result<()> {
    if Command::new("mvn").arg("--version").output().is_ok() {
        return Ok(());
    }
    install("maven", "Maven, which brings the Kafka of the tests")
}

/// Install a package of Debian, if we may.
///
/// # Errors
/// We may not: what to do instead. Or it cannot be installed.
pub fn install(package: &str, what: &str) -> Result<()> {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/apt-get").exists() {
        return Err(format!(
            "{what}, is missing; install it, on Debian with \
             `apt-get update && apt-get install --no-install-recommends {package}`"
        ));
    }
    let _one_at_a_time = alone(&home().join("apt-get"))?;
    let mut apt = Command::new("apt-get");
    output(apt.args(["-qq", "update"]))?;
    let mut apt = Command::new("apt-get");
    apt.args(["-qq", "install", "--yes", "--no-install-recommends", package]);
    output(apt.env("DEBIAN_FRONTEND", "noninteractive")).map(drop)
}

/// Run a command, and answer what it says on standard output.
///
/// # Errors
/// The command cannot be run, or fails: with what it says.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // Maven complains on standard output, others on standard error.
    let said = [output.stdout, output.stderr].concat();
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&said).trim()))
}

#[cfg(test)]
mod tests {
    use super::release;

    #[test]
    fn the_release_of_java_is_read_as_every_vendor_says_it() {
        assert_eq!(release("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(release("Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version \"25\" 2025-09-16"), Some(25));
        assert_eq!(release("java version \"1.8.0_202\""), Some(1));
        assert_eq!(release("java version \"24-ea\""), Some(24));
        assert_eq!(release("no such thing"), None);
    }
}
