//! Heartbeats: small records that a link sends through itself, to see how long records take.
//!
//! A thread writes one to each lane's partition of a topic of the source. The lane reads it like any other record, past the stages, and writes it to a topic of the same name in
//! the target; when the commit is done it knows how long it took from the one to the other. No checkpoint stands for heartbeats: a lane that opens begins with
//! the next one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::failure::Failure;
use super::histogram::{Histogram, Reading};
use super::lane::now_ms;
use super::orders::Turn;
use super::status::{LaneState, lock};
use super::supervisor::{Link, Shared};
use super::topics::notices::{About, Notice};
use super::warden::Alarm;
use crate::config::{LinkConfig, heartbeat_topic};
use crate::connector::{Cluster, Patience, Target};
use crate::model::{BatchBuilder, TopicPartition};

/// How many heartbeats the quantiles are of.
const SAMPLES_MAX: usize = 1_000;

/// How long heartbeats are kept, in milliseconds.
const RETENTION_MS: &str = "3600000";

/// How soon it is looked whether a link is at work.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The topic of a link's heartbeats, as it is made in source and target.
pub(super) fn target(config: &LinkConfig) -> Target {
    let settings = [("retention.ms", RETENTION_MS), ("message.timestamp.type", "CreateTime")];
    Target {
        topic: heartbeat_topic(&config.id).into(),
        partitions: config.lanes,
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        replication_factor: config.following.replication_factor,
    }
}

/// How long heartbeats took lately, from the producer to where a reader of the target sees them.
#[derive(Debug)]
pub struct Latency {
    samples: Mutex<VecDeque<Duration>>,
    /// All since the daemon started.
    histogram: Histogram,
}

impl Default for Latency {
    fn default() -> Self {
        Self { samples: Mutex::default(), histogram: Histogram::of_journeys() }
    }
}

/// What can be said of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of them took no longer.
    pub p50: Duration,
    /// 99 of 100 took no longer.
    pub p99: Duration,
    /// Of so many.
    pub heartbeats: usize,
}

impl Latency {
    pub(super) fn add(&self, took: Duration) {
        self.histogram.observe(took);
        let mut samples = lock(&self.samples);
        samples.truncate(SAMPLES_MAX - 1);
        samples.push_front(took);
    }

    /// `None` before the first.
    pub fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted: Vec<Duration> = lock(&self.samples).iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Quantiles { p50: at(50)?, p99: at(99)?, heartbeats: sorted.len() })
    }
}

/// The heartbeats of a link.
#[derive(Debug, Default)]
pub(super) struct Heartbeats {
    pub(super) latency: Arc<Latency>,
    /// Wakes the thread that sends them.
    pub(super) alarm: Alarm,
}

impl Link {
    /// How long heartbeats took lately in the lanes of this daemon; `None`: there were none.
    pub fn latency(&self) -> Option<Quantiles> {
        self.heartbeats.latency.quantiles()
    }

    /// How long all heartbeats took in the lanes of this daemon; `None`: the link has none.
    pub fn latencies(&self) -> Option<Reading> {
        self.config().heartbeat_interval.map(|_| self.heartbeats.latency.histogram.read())
    }

    /// Send heartbeats, until [`Link::dismiss`].
    pub fn beat(&self) {
        let Some(interval) = self.config().heartbeat_interval else { return };
        let mut wait = LOOK_AFTER.min(interval);
        while self.heartbeats.alarm.wait(wait) {
            let Some(shared) = self.at_work() else { continue };
            let sent = self.send_heartbeats(&shared);
            wait = if sent.is_ok() { interval } else { LOOK_AFTER.max(interval) };
            let notices = sent.err().map(|failure| Notice::of(&heartbeat_topic(&self.config().id).into(), failure));
            self.topics.notices.replace(About::Heartbeats, notices.into_iter().collect(), &self.events);
        }
    }

    fn send_heartbeats(&self, shared: &Shared) -> Result<(), Failure> {
        let topic: Arc<str> = heartbeat_topic(&shared.config.id).into();
        for (lane, status) in (0..).zip(&shared.lanes) {
            // Who has the lane sends them, and nobody who would not read them.
            if shared.orders.turn(lane) == Turn::Here && lock(status).state == LaneState::Running {
                let mut beat = BatchBuilder::new();
                beat.push(0, now_ms(), Some(self.daemon().as_bytes()), None, std::iter::empty());
                let partition = TopicPartition::new(topic.clone(), lane);
                shared.source.produce(&partition, &beat.finish(topic.clone(), lane))?;
            }
        }
        Ok(())
    }
}

/// Make the topic of heartbeats in the source, and answer where its partition of a lane ends.
pub(super) fn listen(source: &dyn Cluster, config: &LinkConfig, partition: &TopicPartition) -> Result<i64, Failure> {
    source.make_topics(&[target(config)])?.into_iter().collect::<Result<Vec<_>, _>>()?;
    // No lane waits for that.
    let range = source.ranges_of(std::slice::from_ref(partition), Patience::Short).pop();
    Ok(range.transpose()?.ok_or_else(|| Failure::fatal("internal", "no answer came", "report this"))?.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_last_heartbeats() {
        let latency = Latency::default();
        assert_eq!(latency.quantiles(), None);
        let ms = Duration::from_millis;
        latency.add(ms(7));
        assert_eq!(latency.quantiles(), Some(Quantiles { p50: ms(7), p99: ms(7), heartbeats: 1 }));
        (1..=1000).for_each(|took| latency.add(ms(took)));
        assert_eq!(latency.quantiles(), Some(Quantiles { p50: ms(500), p99: ms(990), heartbeats: 1000 }));
    }
}
