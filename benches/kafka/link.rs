//! A link in a process of its own, and what it takes.

use std::io::BufRead;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::start_child;
use serde::{Deserialize, Serialize};
use tidegate::config::{ClusterKind, Config};
use tidegate::connector::Cluster;
use tidegate::connector::kafka::KafkaCluster;
use tidegate::link::supervisor::LinkState;
use tidegate::link::{Desired, Link};
use tidegate::plugin::PluginEngine;

use crate::Result;
use crate::common::{Filtered, byte_filter, process_cpu_time};

/// The variable that makes this program a child; it holds the job.
const CHILD: &str = "TIDEGATE_BENCH_LINK";

/// What the child says when it is at work.
const RUNNING: &str = "running";

/// How often the child looks how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A link that gets nowhere for so long never will.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is warm: behind the start, before the end.
const WARM: (f64, f64) = (0.25, 0.95);

/// What the link does to the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Work {
    Nothing,
    /// The plugin byte-filter.
    Plugin,
    /// The same in the host, at the source.
    Native,
}

/// A link.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The brokers of the source.
    pub(crate) source: String,
    /// The brokers of the target.
    pub(crate) target: String,
    /// The topics, as a TOML list.
    pub(crate) topics: String,
    /// What they are called in the target.
    pub(crate) prefix: String,
    pub(crate) lanes: u32,
    pub(crate) exactly_once: bool,
    pub(crate) interval_ms: u64,
    /// What the target's record batches are compressed with.
    pub(crate) codec: String,
    pub(crate) work: Work,
    /// End and report when so many have been read and committed. `None`: go on until killed.
    pub(crate) records: Option<u64>,
}

/// What the process took, as it says itself.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Taken {
    pub(crate) records: f64,
    pub(crate) cpu_seconds: f64,
    pub(crate) wall_seconds: f64,
    pub(crate) warm_records: f64,
    pub(crate) warm_cpu_seconds: f64,
    pub(crate) warm_wall_seconds: f64,
    /// The most memory that was resident, in MiB.
    pub(crate) resident_mib: f64,
}

impl Taken {
    pub(crate) fn whole(&self) -> f64 {
        self.records / self.cpu_seconds
    }

    pub(crate) fn warm(&self) -> f64 {
        self.warm_records / self.warm_cpu_seconds
    }
}

impl Job {
    /// Everything in one transaction each 100 ms, by one lane.
    pub(crate) fn new(source: &str, target: &str, topic: &str, prefix: &str) -> Self {
        Self {
            source: source.to_owned(),
            target: target.to_owned(),
            topics: format!("[\"{topic}\"]"),
            prefix: prefix.to_owned(),
            lanes: 1,
            exactly_once: true,
            interval_ms: 100,
            codec: "none".to_owned(),
            work: Work::Nothing,
            records: None,
        }
    }

    /// Start it.
    pub(crate) fn start(&self) -> Result<Child> {
        let program = std::env::current_exe().map_err(|error| format!("where is this program: {error}"))?;
        let text = serde_json::to_string(self).map_err(|error| error.to_string())?;
        let mut command = Command::new(program);
        command.env(CHILD, text).env("RUST_BACKTRACE", "0").stdin(Stdio::null()).stdout(Stdio::piped());
        start_child(command).map_err(|error| format!("cannot start a link: {error}"))
    }

    /// Start it, and wait until all of its lanes are at work.
    pub(crate) fn start_and_await(&self) -> Result<Child> {
        let mut link = self.start()?;
        let mut line = String::new();
        let said = link.stdout.as_mut().map(|out| std::io::BufReader::new(out).read_line(&mut line));
        match said {
            Some(Ok(_)) if line.trim() == RUNNING => Ok(link),
            _ => Err(format!("the link has not started: {line}")),
        }
    }

    /// Run it to its end, and answer what it took.
    pub(crate) fn run(&self) -> Result<Taken> {
        let output = self.start()?.wait_with_output().map_err(|error| format!("waiting for a link: {error}"))?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim()).map_err(|error| format!("the link did not report: {error}: {text}"))
    }

    fn text(&self) -> String {
        let brokers = |list: &str| format!("{:?}", list.split(',').collect::<Vec<_>>());
        format!(
            "[clusters.east]\nkind = \"kafka\"\nbrokers = {}\n\
             [clusters.west]\nkind = \"kafka\"\nbrokers = {}\ncompression = \"{}\"\n\
             [links.bench-{}]\nsource = \"east\"\ntarget = \"west\"\ntopics = {}\ntopic_prefix = \"{}\"\nlanes = {}\n\
             [links.bench-{}.config]\ncheckpoint_interval_ms = {}\nenable_exactly_once = {}\nbatch_size = 10000\n",
            brokers(&self.source),
            brokers(&self.target),
            self.codec,
            self.prefix,
            self.topics,
            self.prefix,
            self.lanes,
            self.prefix,
            self.interval_ms,
            self.exactly_once,
        )
    }

    /// The link, in this process, as if somebody were about to start it.
    pub(crate) fn link(&self) -> Result<Link> {
        let dir = std::env::temp_dir();
        let parsed = Config::parse(&self.text(), "bench", &dir);
        let (config, _) = parsed.map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())?;
        let open = |id: &str| -> Result<Arc<dyn Cluster>> {
            match &config.clusters.get(id).ok_or("no cluster")?.kind {
                ClusterKind::Kafka(kafka) => {
                    Ok(Arc::new(KafkaCluster::open(kafka).map_err(|error| error.to_string())?))
                }
                ClusterKind::Embedded(_) => Err("an embedded cluster".to_owned()),
            }
        };
        let (source, target) = (open("east")?, open("west")?);
        let source = if self.work == Work::Native { Arc::new(Filtered(source)) } else { source };
        let stages = if self.work == Work::Plugin { vec![byte_filter()] } else { Vec::new() };
        let engine = PluginEngine::new(None).map_err(|error| error.to_string())?;
        let config = config.links.into_values().next().ok_or("no link")?;
        Ok(Link::new(config, "bench".into(), source, target, engine, stages))
    }
}

/// Be the link, and never return, if this process was started for that.
pub(crate) fn run_if_child() {
    let Ok(text) = std::env::var(CHILD) else { return };
    let done = serde_json::from_str::<Job>(&text).map_err(|error| error.to_string()).and_then(|job| be(&job));
    match done {
        Ok(taken) => println!("{}", serde_json::to_string(&taken).unwrap_or_default()),
        Err(error) => eprintln!("link: {error}"),
    }
    std::process::exit(0)
}

fn be(job: &Job) -> Result<Taken> {
    let begun = Instant::now();
    let link = job.link()?;
    link.order(Desired::Running).map_err(|failure| failure.to_string())?;
    let Some(records) = job.records else {
        while link.state().0 != LinkState::Active {
            thread::sleep(LOOK_EVERY);
        }
        println!("{RUNNING}");
        loop {
            thread::park();
        }
    };
    let (mut samples, mut moved) = (vec![(0_u64, 0.0, 0.0)], Instant::now());
    // Of the native filter's work the link sees what is left.
    let records = if job.work == Work::Native { u64::MAX } else { records };
    loop {
        let read = link.counters().records_in.load(Relaxed);
        if samples.last().is_some_and(|last| last.0 != read) {
            moved = Instant::now();
            samples.push((read, begun.elapsed().as_secs_f64(), process_cpu_time().as_secs_f64()));
        }
        let still = moved.elapsed();
        if read >= records || (job.work == Work::Native && read > 0 && still > Duration::from_secs(2)) {
            break;
        }
        if still > PATIENCE {
            return Err(format!("stands still at {read} of {records} records: {:?}", link.state()));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(evaluate(&samples, job))
}

fn evaluate(samples: &[(u64, f64, f64)], job: &Job) -> Taken {
    let last = samples[samples.len() - 1];
    let reached = |share: f64| *samples.iter().find(|sample| sample.0 as f64 >= last.0 as f64 * share).unwrap_or(&last);
    let (warm, cool) = (reached(WARM.0), reached(WARM.1));
    // What the source holds, whatever the link was shown of it.
    let scale = job.records.unwrap_or(last.0) as f64 / last.0 as f64;
    Taken {
        records: last.0 as f64 * scale,
        cpu_seconds: last.2,
        wall_seconds: last.1,
        warm_records: (cool.0 - warm.0) as f64 * scale,
        warm_cpu_seconds: cool.2 - warm.2,
        warm_wall_seconds: cool.1 - warm.1,
        resident_mib: resident_mib(std::process::id()),
    }
}

/// The most memory of a process that was ever resident, in MiB.
pub(crate) fn resident_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).map_or(f64::NAN, |kib| kib / 1024.0)
}
