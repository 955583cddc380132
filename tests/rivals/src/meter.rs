//! What a process takes to copy a topic.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use kafka_oracle::Codec;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::Result;

/// How often to look: CPU time is counted in steps of 10 ms.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A target that has all and does not change for so long is done. Then its last change was the end.
const DONE_AFTER: Duration = Duration::from_secs(3);
/// A rival that does not get on for so long never will.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often to say how far it is.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// What is warm: behind the start, before the end.
const WARM: (f64, f64) = (0.25, 0.95);

/// What is to be copied. The target has an empty topic of the same name when a rival begins.
#[derive(Clone, Debug)]
pub struct Job {
    /// The brokers of the source.
    pub source: String,
    /// The brokers of the target.
    pub target: String,
    /// In both clusters.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many records it has.
    pub records: u64,
    /// What the target's batches are compressed with.
    pub codec: Codec,
}

/// What it took, from the start of the process to the last record, and of that while it was warm. A run of less than a second says nothing: it is looked
/// at every 50 ms, and CPU time has steps of 10 ms.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// All.
    pub records: u64,
    /// Of the process, in user and system mode together.
    pub cpu_seconds: f64,
    /// From the start of the process.
    pub wall_seconds: f64,
    /// Those between the first quarter and the last twentieth.
    pub warm_records: u64,
    /// For those.
    pub warm_cpu_seconds: f64,
    /// For those.
    pub warm_wall_seconds: f64,
}

impl Measured {
    /// Records per CPU second of the whole run.
    pub fn whole(&self) -> f64 {
        self.records as f64 / self.cpu_seconds
    }

    /// Records per CPU second while it was warm.
    pub fn warm(&self) -> f64 {
        self.warm_records as f64 / self.warm_cpu_seconds
    }
}

/// How far it was at a moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Since the start.
    wall_seconds: f64,
    cpu_seconds: f64,
    /// In the log of the target: records, and markers of transactions.
    offsets: i64,
}

impl Job {
    /// Make the empty topic at the target.
    pub(crate) fn create_target(&self) -> Result<()> {
        kafka_oracle::create(&self.target, &self.topic, self.partitions, &[])
    }

    /// Watch a process until the target has all, and see that it has.
    pub(crate) fn measure(&self, name: &str, process: &mut Child, begun: Instant) -> Result<Measured> {
        let samples = self.samples(name, process, begun)?;
        let there = kafka_oracle::count(&self.target, &self.topic)?;
        if there != self.records {
            return Err(format!("{name} has copied {there} records of {}", self.records));
        }
        // Each transaction leaves a marker in each partition that it wrote to.
        if samples.last().is_some_and(|last| last.offsets.unsigned_abs() <= self.records) {
            return Err(format!("{name} has not used transactions"));
        }
        evaluate(&samples, self.records).ok_or_else(|| format!("{name} was not looked at"))
    }

    fn samples(&self, name: &str, process: &mut Child, begun: Instant) -> Result<Vec<Sample>> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &self.target)
            .create()
            .map_err(|error| format!("no client of {}: {error}", self.target))?;
        let mut samples: Vec<Sample> = Vec::new();
        let (mut changed, mut said) = (Instant::now(), Instant::now());
        loop {
            let offsets = self.offsets(&consumer)?;
            if let Some(status) = process.try_wait().map_err(|error| format!("{name}: {error}"))? {
                return Err(format!("{name} has ended: {status}"));
            }
            if samples.last().is_none_or(|last| last.offsets != offsets) {
                changed = Instant::now();
            }
            let all = offsets.unsigned_abs() >= self.records;
            if all && changed.elapsed() > DONE_AFTER {
                return Ok(samples);
            }
            if changed.elapsed() > PATIENCE {
                return Err(format!("{name} stands still at {offsets} of {} records", self.records));
            }
            if said.elapsed() > SAY_EVERY {
                println!("  {name}: {offsets} of {} records", self.records);
                said = Instant::now();
            }
            let (wall_seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), cpu_seconds(process.id())?);
            samples.push(Sample { wall_seconds, cpu_seconds, offsets });
            thread::sleep(LOOK_EVERY);
        }
    }

    /// The ends of all partitions together.
    fn offsets(&self, consumer: &BaseConsumer) -> Result<i64> {
        let end = |partition| consumer.fetch_watermarks(&self.topic, partition, PATIENCE).map(|(_, high)| high);
        let ends: std::result::Result<Vec<i64>, _> = (0..self.partitions).map(end).collect();
        ends.map(|ends| ends.iter().sum()).map_err(|error| format!("{}: {error}", self.topic))
    }
}

fn evaluate(samples: &[Sample], records: u64) -> Option<Measured> {
    let last = samples.last()?.offsets as f64;
    let reached = |share: f64| samples.iter().find(|sample| sample.offsets as f64 >= last * share);
    let (end, warm, cool) = (reached(1.0)?, reached(WARM.0)?, reached(WARM.1)?);
    let share = (cool.offsets - warm.offsets) as f64 / last;
    Some(Measured {
        records,
        cpu_seconds: end.cpu_seconds,
        wall_seconds: end.wall_seconds,
        warm_records: (records as f64 * share) as u64,
        warm_cpu_seconds: cool.cpu_seconds - warm.cpu_seconds,
        warm_wall_seconds: cool.wall_seconds - warm.wall_seconds,
    })
}

/// The CPU time of a process so far, in user and system mode together.
///
/// Errors: it has ended.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
    let ticks = ticks(&stat).ok_or_else(|| format!("{path} is not as expected: {stat}"))?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The 14th and the 15th field together. The second is a name in parentheses, which may have blanks.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_and_system_time_are_found_behind_any_name() {
        assert_eq!(ticks("12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 31 11 0 0 20"), Some(42));
        assert_eq!(ticks("12 (a"), None);
        assert!(cpu_seconds(std::process::id()).is_ok());
    }

    #[test]
    fn what_is_warm_begins_late_and_ends_early() {
        let sample = |second: i32| {
            // Half a second of CPU each, and five to start with; 5 records a second after ten seconds.
            let (wall_seconds, cpu_seconds) = (f64::from(second), 5.0 + f64::from(second) / 2.0);
            Sample { wall_seconds, cpu_seconds, offsets: i64::from((second - 10).clamp(0, 20)) * 5 }
        };
        let samples: Vec<Sample> = (0..60).map(sample).collect();
        let measured = evaluate(&samples, 100).expect("measured");
        assert_eq!((measured.records, measured.cpu_seconds, measured.wall_seconds), (100, 20.0, 30.0));
        let warm = (measured.warm_records, measured.warm_cpu_seconds, measured.warm_wall_seconds);
        assert_eq!(warm, (70, 7.0, 14.0));
    }
}
