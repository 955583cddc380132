//! The heartbeats of a lane.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Session, now_ms};
use crate::config::heartbeat_topic;
use crate::link::failure::Failure;
use crate::link::heartbeats;
use crate::model::time::age_ms;
use crate::model::{Batch, TopicPartition};

impl Session {
    /// Read heartbeats from the next one on, if the link has any. What keeps a lane from that keeps no records back.
    pub(super) fn listen_for_heartbeats(&mut self) {
        let config = &self.link.config;
        if config.heartbeat_interval.is_none() {
            return;
        }
        let topic: Arc<str> = heartbeat_topic(&config.id).into();
        let partition = TopicPartition::new(topic.clone(), self.lane);
        let listening = heartbeats::listen(&*self.link.source, config, &partition).and_then(|end| {
            self.sink.prepare(&[heartbeats::target(config)])?;
            Ok(self.source.seek(&partition, end)?)
        });
        match listening {
            Ok(()) => self.heartbeats = Some(topic),
            Err(failure) => {
                if let Some(news) =
                    self.link.repeats.news(format!("heartbeats of {partition}: {failure}"), Instant::now())
                {
                    tracing::warn!(code = failure.code, repeated = news.repeated, "no heartbeats: {failure}");
                }
            }
        }
    }

    /// Whether a batch is of heartbeats.
    pub(super) fn is_heartbeat(&self, batch: &Batch) -> bool {
        self.heartbeats.as_ref() == Some(&batch.topic)
    }

    /// Hand heartbeats on: no stage sees them, and no checkpoint stands for them.
    pub(super) fn pass_heartbeats(&mut self, batch: &Batch) -> Result<(), Failure> {
        self.transaction.begun.get_or_insert_with(Instant::now);
        self.transaction.heartbeats.extend_from_slice(&batch.timestamps);
        self.sink.write(batch, &batch.topic)?;
        Ok(())
    }

    /// A commit is done, and readers of the target see these heartbeats.
    pub(super) fn note_heartbeats(&self, sent: &[i64]) {
        let now = now_ms();
        for age in sent.iter().filter_map(|sent| age_ms(*sent, now)) {
            self.link.latency.add(Duration::from_millis(age));
        }
    }
}
