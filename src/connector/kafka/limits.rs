//! How large the record batches may be that topics take: what a topic says of it, and what brokers have refused.
//!
//! Brokers count what they store. A topic with a `compression.type` of its own has them compress record batches again, so one that fits as it is sent
//! may not fit as it is stored, and a lane that opens again would send the same bytes for ever. Therefore:
//!
//! - A record batch that its topic would compress again is not passed through. Where a topic stores records uncompressed, that size counts.
//! - A broker that refuses a record batch is believed, whatever its reason: the next ones are half as large, down to single records, and a record that is refused alone
//!   is not sent again.
//!
//! [`Limits`] belongs to the cluster and not to a lane: a lane that opens again goes on with what was refused. It is forgotten when the topic has other settings.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::records::{BatchSize, Encoder, Error, FinishedBatch};
use crate::model::{Batch, Codec};

/// The largest record batch that a topic takes where its settings say nothing, in bytes.
const BYTES_MAX_DEFAULT: usize = 1_048_588;

/// How long it is believed what a topic says.
const AGE_MAX: Duration = Duration::from_secs(30);

/// What brokers make of the compression of record batches: `compression.type` of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Storing {
    /// They store them as they are sent.
    AsSent,
    /// They compress them again with this codec, unless they have it.
    With(Codec),
    /// They compress them again with a codec that is not known here.
    WithAnother,
}

impl Storing {
    /// What a setting means.
    pub(super) fn named(setting: &str) -> Self {
        match setting {
            "producer" => Self::AsSent,
            "uncompressed" => Self::With(Codec::None),
            name => Codec::ALL.into_iter().find(|codec| codec.name() == name).map_or(Self::WithAnother, Self::With),
        }
    }

    /// Whether a record batch with this codec is stored as it is.
    fn keeps(self, codec: Codec) -> bool {
        match self {
            Self::AsSent => true,
            Self::With(own) => own == codec,
            Self::WithAnother => false,
        }
    }
}

/// What the settings of a topic say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stated {
    /// The largest record batch, in bytes.
    pub(super) bytes_max: usize,
    pub(super) storing: Storing,
}

impl Default for Stated {
    fn default() -> Self {
        Self { bytes_max: BYTES_MAX_DEFAULT, storing: Storing::AsSent }
    }
}

/// What brokers have refused, as bounds for what is sent next, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// What several records may take together, before they are compressed.
    together: usize,
    /// What a record alone has to be smaller than, as it is sent.
    alone: usize,
    /// Whether record batches may be passed through.
    passes: bool,
}

impl Bounds {
    const NONE: Self = Self { together: usize::MAX, alone: usize::MAX, passes: true };

    /// A record batch of this size was refused. Whatever it was, it is not written like this again.
    fn refuse(&mut self, size: BatchSize) {
        match size.uncompressed {
            None => self.passes = false,
            Some(bytes) if size.records > 1 => self.together = self.together.min(bytes / 2),
            Some(bytes) => {
                // It must not go together with others either.
                self.together = self.together.min(bytes - 1);
                self.alone = self.alone.min(size.bytes);
            }
        }
    }
}

/// How large the record batches may be that a topic takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limit {
    stated: Stated,
    bounds: Bounds,
}

impl Default for Limit {
    fn default() -> Self {
        Self { stated: Stated::default(), bounds: Bounds::NONE }
    }
}

impl Limit {
    /// The largest record batch by the settings of the topic, in bytes.
    pub(super) fn bytes_max(&self) -> usize {
        self.stated.bytes_max
    }

    /// What several records may take together, before they are compressed, in bytes.
    pub(super) fn together(&self) -> usize {
        self.stated.bytes_max.min(self.bounds.together)
    }

    /// Whether a record batch of others is taken as it is.
    pub(super) fn passes(&self, codec: Codec, bytes: usize) -> bool {
        self.bounds.passes && bytes <= self.stated.bytes_max && self.stated.storing.keeps(codec)
    }

    /// Whether a record is taken that is alone in a record batch of this size.
    fn takes_alone(&self, alone: BatchSize) -> bool {
        let Stated { bytes_max, storing } = self.stated;
        let stored = match storing {
            Storing::With(Codec::None) => alone.uncompressed.unwrap_or(alone.bytes),
            Storing::AsSent | Storing::With(_) | Storing::WithAnother => alone.bytes,
        };
        stored <= bytes_max && alone.bytes < self.bounds.alone
    }

    /// One record batch with as many of the records in `range` as may go together, and one at least.
    ///
    /// # Errors
    /// [`Error::RecordTooLarge`] if the topic does not take the first record, even alone.
    ///
    /// # Panics
    /// If the batch has no such range, or the range is empty.
    pub(super) fn encode(
        &self,
        encoder: &mut Encoder,
        batch: &Batch,
        range: Range<usize>,
    ) -> Result<FinishedBatch, Error> {
        let index = range.start;
        let encoded = encoder.encode(batch, range, self.together())?;
        let size = encoded.size();
        if size.records == 1 && !self.takes_alone(size) {
            return Err(Error::RecordTooLarge { index, bytes: size.bytes, bytes_max: self.stated.bytes_max });
        }
        Ok(encoded)
    }
}

/// What is known of the topics of a cluster.
#[derive(Debug, Default)]
pub(super) struct Limits {
    topics: HashMap<Arc<str>, Known>,
}

#[derive(Debug)]
struct Known {
    limit: Limit,
    /// When the topic was asked; `None`: it is to be asked again.
    asked: Option<Instant>,
}

impl Limits {
    /// The limit of a topic; of one that is not known, what it would be.
    pub(super) fn of(&self, topic: &str) -> Limit {
        self.topics.get(topic).map(|known| known.limit).unwrap_or_default()
    }

    /// The topics that have to be asked, or to be asked again.
    pub(super) fn unknown(&self, topics: &[Arc<str>], now: Instant) -> Vec<Arc<str>> {
        let asked = |topic: &Arc<str>| self.topics.get(topic).and_then(|known| known.asked);
        let is_fresh = |asked: Instant| now.saturating_duration_since(asked) < AGE_MAX;
        topics.iter().filter(|topic| !asked(topic).is_some_and(is_fresh)).cloned().collect()
    }

    /// A topic has these settings. What was refused under others is forgotten.
    pub(super) fn learn(&mut self, topic: Arc<str>, stated: Stated, now: Instant) {
        let before = self.of(&topic);
        let bounds = if before.stated == stated { before.bounds } else { Bounds::NONE };
        self.topics.insert(topic, Known { limit: Limit { stated, bounds }, asked: Some(now) });
    }

    /// Forget topics that are not there any more.
    pub(super) fn keep(&mut self, is_there: impl Fn(&Arc<str>) -> bool) {
        self.topics.retain(|topic, _| is_there(topic));
    }

    /// Topics may have other settings by now. What was refused is remembered.
    pub(super) fn ask_again(&mut self) {
        self.topics.values_mut().for_each(|known| known.asked = None);
    }

    /// A broker has refused a record batch of this size.
    pub(super) fn refuse(&mut self, topic: &Arc<str>, size: BatchSize) {
        let known = self.topics.entry(topic.clone()).or_insert(Known { limit: Limit::default(), asked: None });
        known.limit.bounds.refuse(size);
    }
}

#[cfg(test)]
mod tests;
