//! MirrorMaker 2: one process in its dedicated mode. What is measured is exactly once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::{Jars, Release, free_port, start_child};
use rustix::process::{Pid, Signal, kill_process};

use crate::{Job, Measured, Result};

/// How many lines of what it said are shown when it fails.
const LOG_LINES_SHOWN: usize = 20;

/// How long it may take to end, and how often is looked whether it has.
const END_PATIENCE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Measure MirrorMaker 2. What it says goes to `mirror-maker.log` in `dir`.
///
/// Errors: the topic is there at the target already, or it does not start or not get on; with the end of what it said.
pub fn mirror_maker(dir: &Path, job: &Job) -> Result<Measured> {
    job.create_target()?;
    let cannot = |error: std::io::Error| format!("MirrorMaker 2 in {}: {error}", dir.display());
    let settings = dir.join("mirror-maker.properties");
    fs::write(&settings, properties(job, free_port()?)).map_err(cannot)?;
    let begun = Instant::now();
    let mut running = MirrorMaker::start(dir, &settings)?;
    let measured = job.measure("MirrorMaker 2", &mut running.process, begun);
    measured.map_err(|error| format!("{error}\n{}", running.last_lines()))
}

/// A MirrorMaker 2 that runs. It is killed when this is dropped.
#[derive(Debug)]
pub struct MirrorMaker {
    process: Child,
    log: PathBuf,
}

impl MirrorMaker {
    /// Start it with a properties file. What it says goes to `mirror-maker.log` in `dir`.
    ///
    /// Errors: it cannot be started.
    pub fn start(dir: &Path, settings: &Path) -> Result<Self> {
        let cannot = |error: std::io::Error| format!("MirrorMaker 2 in {}: {error}", dir.display());
        let log = dir.join("mirror-maker.log");
        let mut command = java()?;
        let out = File::create(&log).map_err(cannot)?;
        command.arg(settings).current_dir(dir).stderr(out.try_clone().map_err(cannot)?).stdout(out);
        Ok(Self { process: start_child(command).map_err(cannot)?, log })
    }

    /// End it as its operators do, and wait until it has written down how far it has come.
    ///
    /// Errors: it does not end.
    pub fn terminate(mut self) -> Result<()> {
        let cannot = |error: std::io::Error| format!("MirrorMaker 2: {error}");
        kill_process(Pid::from_child(&self.process), Signal::TERM).map_err(|error| cannot(error.into()))?;
        let begun = Instant::now();
        while self.process.try_wait().map_err(cannot)?.is_none() {
            if begun.elapsed() > END_PATIENCE {
                return Err(format!("MirrorMaker 2 does not end\n{}", self.last_lines()));
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// End it as by kill -9.
    pub fn kill(self) {}

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }

    /// What it said last.
    pub fn last_lines(&self) -> String {
        last_lines(&self.log)
    }
}

impl Drop for MirrorMaker {
    fn drop(&mut self) {
        // One that has ended needs no killing.
        let _ended = self.process.kill().and_then(|()| self.process.wait());
    }
}

/// As its own script starts it: both compilers, its collector and 2 GB; the brokers of a test have less.
fn java() -> Result<Command> {
    let options = ["-Xms256M", "-Xmx2G", "-XX:TieredStopAtLevel=4", "-XX:-UseSerialGC", "-XX:+UseG1GC"];
    let options = options.map(str::to_owned);
    Ok(Jars::find(Release::default())?.java("org.apache.kafka.connect.mirror.MirrorMaker", &options))
}

/// All that it could do beside copying is off; each poll is a transaction, as it is by default.
fn properties(job: &Job, port: u16) -> String {
    let Job { source, target, topic, partitions, codec, .. } = job;
    format!(
        "clusters=source,target\n\
         source.bootstrap.servers={source}\n\
         target.bootstrap.servers={target}\n\
         source->target.enabled=true\n\
         target->source.enabled=false\n\
         source->target.topics={topic}\n\
         source->target.emit.heartbeats.enabled=false\n\
         target->source.emit.heartbeats.enabled=false\n\
         emit.checkpoints.enabled=false\n\
         sync.topic.configs.enabled=false\n\
         sync.topic.acls.enabled=false\n\
         refresh.groups.enabled=false\n\
         offset.lag.max=1000000\n\
         replication.policy.class=org.apache.kafka.connect.mirror.IdentityReplicationPolicy\n\
         tasks.max={partitions}\n\
         replication.factor=1\n\
         offset-syncs.topic.replication.factor=1\n\
         config.storage.replication.factor=1\n\
         offset.storage.replication.factor=1\n\
         status.storage.replication.factor=1\n\
         target.exactly.once.source.support=enabled\n\
         dedicated.mode.enable.internal.rest=true\n\
         listeners=http://127.0.0.1:{port}\n\
         source.consumer.isolation.level=read_committed\n\
         source.consumer.max.poll.records=10000\n\
         target.producer.compression.type={}\n\
         target.producer.batch.size=1000000\n\
         target.producer.linger.ms=5\n",
        codec.name()
    )
}

fn last_lines(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
}
