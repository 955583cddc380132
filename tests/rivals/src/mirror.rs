//! MirrorMaker 2, exactly once: one process in its dedicated mode.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use kafka_brokers::{Jars, free_port, start_child};

use crate::{Job, Measured, Result};

/// How many lines of what it said are shown when it fails.
const LOG_LINES_SHOWN: usize = 20;

/// Measure MirrorMaker 2. What it says goes to `mirror-maker.log` in `dir`.
///
/// Errors: the topic is there at the target already, or it does not start or not get on; with the end of what it said.
pub fn mirror_maker(dir: &Path, job: &Job) -> Result<Measured> {
    job.create_target()?;
    let cannot = |error: std::io::Error| format!("MirrorMaker 2 in {}: {error}", dir.display());
    let (settings, log) = (dir.join("mirror-maker.properties"), dir.join("mirror-maker.log"));
    fs::write(&settings, properties(job, free_port()?)).map_err(cannot)?;
    let mut command = java()?;
    let out = File::create(&log).map_err(cannot)?;
    command.arg(&settings).current_dir(dir).stderr(out.try_clone().map_err(cannot)?).stdout(out);
    let begun = Instant::now();
    let mut process = start_child(command).map_err(cannot)?;
    let measured = job.measure("MirrorMaker 2", &mut process, begun);
    // One that has ended needs no killing.
    let _ended = process.kill().and_then(|()| process.wait());
    measured.map_err(|error| format!("{error}\n{}", last_lines(&log)))
}

/// As its own script starts it: both compilers, its collector and 2 GB; the brokers of a test have less.
fn java() -> Result<Command> {
    let options = ["-Xms256M", "-Xmx2G", "-XX:TieredStopAtLevel=4", "-XX:-UseSerialGC", "-XX:+UseG1GC"];
    let options = options.map(str::to_owned);
    Ok(Jars::find()?.java("org.apache.kafka.connect.mirror.MirrorMaker", &options))
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
