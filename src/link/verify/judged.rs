//! What lanes have made of records whose timestamps may have been ahead of the clock.
//!
//! A lane holds a timestamp against the clock when it reads the record, and a replay comes later:
//! the clock on the wall says something else by then. So a replay takes what was decided from where
//! it was written: the dead letter, which was committed with the checkpoint. Where none is written,
//! it is decided only as far as time cannot have changed it.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::readers::Readers;
use crate::connector::Cluster;
use crate::link::ahead::{self, Clock};
use crate::link::failure::Failure;
use crate::link::letters::PREFIX;
use crate::link::revision::StageSpec;
use crate::link::run::Stop;
use crate::link::status::lock;
use crate::model::{Batch, OnError, RecordRef, TopicPartition};

/// How long dead letters that are there may take to come.
const READ_PATIENCE: Duration = Duration::from_secs(30);

/// What tells one judged record from all others.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Record {
    stage: String,
    topic: String,
    partition: String,
    offset: String,
    ordinal: String,
    message: String,
}

/// The records of a link that were found ahead, as its dead letters have them.
#[derive(Debug, Default)]
struct Letters {
    records: HashSet<Record>,
    /// Whether no letter is missing.
    are_all: bool,
}

/// What was decided, as far as it is written.
pub(super) struct Judged<'v> {
    link: String,
    cluster: String,
    topic: Arc<str>,
    target: Arc<dyn Cluster>,
    cancelled: &'v (dyn Fn() -> bool + Sync),
    /// The clock on the wall when the replay began.
    now_ms: i64,
    /// Read when somebody asks for the first time.
    letters: Mutex<Option<Result<Arc<Letters>, String>>>,
    /// The first record of each partition of which nobody knows what was decided.
    assumed: Mutex<BTreeMap<TopicPartition, i64>>,
}

/// The clock of a replay under a revision.
pub(super) struct ReplayClock<'j> {
    pub(super) judged: &'j Judged<'j>,
    /// When the revision was published: it has handled nothing before.
    pub(super) published_ms: i64,
}

impl Clock for ReplayClock<'_> {
    fn is_ahead(&self, batch: &Batch, stage: &StageSpec, most_ms: i64) -> Result<bool, Stop> {
        let Some(timestamp) = batch.timestamps.first().copied() else { return Ok(false) };
        match stage.on_error {
            // A lane has not gone on behind one.
            OnError::Stop => return Ok(false),
            OnError::DeadLetter => {
                let letters = self.judged.letters().map_err(undecided)?;
                let is_there = letters.records.contains(&record(batch, stage, timestamp, most_ms));
                if is_there || letters.are_all {
                    return Ok(is_there);
                }
            }
            OnError::Skip | OnError::Pass => {}
        }
        if timestamp <= self.published_ms {
            return Ok(false);
        }
        if timestamp > self.judged.now_ms.saturating_add(most_ms) {
            return Ok(true);
        }
        let place = TopicPartition::new(batch.topic.clone(), batch.partition);
        let offset = batch.offsets.first().copied().unwrap_or_default();
        lock(&self.judged.assumed).entry(place).or_insert(offset);
        Ok(false)
    }
}

fn undecided(message: String) -> Stop {
    Stop::Failed(Box::new(Failure::fatal("not-replayed", message, "")))
}

fn record(batch: &Batch, stage: &StageSpec, timestamp: i64, most_ms: i64) -> Record {
    Record {
        stage: stage.name.clone(),
        topic: batch.topic.to_string(),
        partition: batch.partition.to_string(),
        offset: batch.offsets.first().copied().unwrap_or_default().to_string(),
        ordinal: batch.first_ordinal.to_string(),
        message: ahead::message(timestamp, most_ms),
    }
}

impl<'v> Judged<'v> {
    pub(super) fn new(
        link: &str,
        cluster: &str,
        topic: &str,
        target: Arc<dyn Cluster>,
        cancelled: &'v (dyn Fn() -> bool + Sync),
        now_ms: i64,
    ) -> Self {
        let (link, cluster) = (link.to_owned(), cluster.to_owned());
        Self {
            link,
            cluster,
            topic: topic.into(),
            target,
            cancelled,
            now_ms,
            letters: Mutex::default(),
            assumed: Mutex::default(),
        }
    }

    /// The partitions of which records were taken for timely without knowing, each from its first such
    /// record on.
    pub(super) fn assumed(&self) -> BTreeMap<TopicPartition, i64> {
        lock(&self.assumed).clone()
    }

    fn letters(&self) -> Result<Arc<Letters>, String> {
        lock(&self.letters).get_or_insert_with(|| self.read().map(Arc::new)).clone()
    }

    fn read(&self) -> Result<Letters, String> {
        let failed = |error| format!("the dead letters cannot be read: {error}");
        let mut letters = Letters { are_all: true, ..Letters::default() };
        let topics = self.target.topics().map_err(failed)?;
        if !topics.iter().any(|topic| topic.name == self.topic) {
            return Ok(letters);
        }
        let mut readers = Readers::new(self.target.clone());
        for (partition, range) in (0..).zip(self.target.ranges(&self.topic).map_err(failed)?) {
            let place = TopicPartition::new(self.topic.clone(), partition);
            // Retention may have taken some.
            letters.are_all &= range.log_start == 0;
            let (mut next, mut moved) = (range.log_start, Instant::now());
            while next < range.end {
                if (self.cancelled)() {
                    return Err("cancelled".to_owned());
                }
                match readers.read(&place, next).map_err(failed)? {
                    Some(batch) => {
                        letters.take(&batch, &self.link, &self.cluster);
                        (next, moved) = (batch.next_offset, Instant::now());
                    }
                    None if moved.elapsed() > READ_PATIENCE => {
                        letters.are_all = false;
                        break;
                    }
                    None => {}
                }
            }
        }
        Ok(letters)
    }
}

impl Letters {
    /// Remember which records of a link the letters of a batch are about, where they were ahead.
    fn take(&mut self, batch: &Batch, link: &str, cluster: &str) {
        self.records.extend(batch.records().filter_map(|letter| judged(letter, link, cluster)));
    }
}

/// The record that a letter of a link is about, if it is one that was ahead.
fn judged(letter: RecordRef<'_>, link: &str, cluster: &str) -> Option<Record> {
    // A letter about a letter has all headers twice; its own come last.
    let header = |name: &str| {
        let is_it = |header: &[u8]| header.strip_prefix(PREFIX.as_bytes()) == Some(name.as_bytes());
        let found = letter.headers().filter(|header| is_it(header.name)).last()?;
        String::from_utf8(found.value?.to_vec()).ok()
    };
    let is_ours = header("code")? == ahead::CODE && header("link")? == link && header("cluster")? == cluster;
    is_ours.then_some(())?;
    Some(Record {
        stage: header("stage")?,
        topic: header("topic")?,
        partition: header("partition")?,
        offset: header("offset")?,
        ordinal: header("ordinal")?,
        message: header("message")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::double::Panics;
    use crate::model::{BatchBuilder, HeaderRef};

    const HOUR: i64 = 3_600_000;
    /// When the lane read its records.
    const READ: i64 = 1_700_000_000_000;
    const AHEAD: i64 = READ + 2 * HOUR;

    /// The letters of a target about the records at these offsets, of these links.
    fn letters(about: &[(i64, &str)]) -> Letters {
        let mut letters = Letters { are_all: true, ..Letters::default() };
        for (offset, link) in about {
            let (offset, message) = (offset.to_string(), ahead::message(AHEAD, HOUR));
            let headers = [
                // A letter about a letter of another link.
                ("link", "other"),
                ("offset", "99"),
                ("link", *link),
                ("cluster", "east"),
                ("topic", "orders"),
                ("partition", "3"),
                ("offset", &offset),
                ("ordinal", "0"),
                ("stage", "s"),
                ("code", ahead::CODE),
                ("message", &message),
            ];
            let headers = headers.map(|(name, value)| (format!("{PREFIX}{name}"), value));
            let header = |(name, value): &'_ (String, &'_ str)| (name.clone().into_bytes(), value.as_bytes().to_vec());
            let headers: Vec<_> = headers.iter().map(header).collect();
            let headers = headers.iter().map(|(name, value)| HeaderRef { name, value: Some(value) });
            let mut builder = BatchBuilder::new();
            builder.push(0, AHEAD, None, None, headers);
            letters.take(&builder.finish("letters", 1), "l", "east");
        }
        letters
    }

    /// What a verification at `now_ms` takes the record at an offset for, and whether it only assumes
    /// that.
    fn judge(letters: Letters, on_error: OnError, offset: i64, timestamp: i64, now_ms: i64) -> (bool, bool) {
        let mut judged = Judged::new("l", "east", "letters", Arc::new(Panics::default()), &|| false, now_ms);
        judged.letters = Mutex::new(Some(Ok(Arc::new(letters))));
        let clock = ReplayClock { judged: &judged, published_ms: READ - HOUR };
        let mut builder = BatchBuilder::new();
        builder.push(offset, timestamp, None, None, []);
        let stage = StageSpec { on_error, ..StageSpec::example("s") };
        let is_ahead = clock.is_ahead(&builder.finish("orders", 3), &stage, HOUR).expect("judged");
        let assumed = BTreeMap::from([(TopicPartition::new("orders", 3), offset)]);
        (is_ahead, judged.assumed() == assumed)
    }

    const IS_AHEAD: (bool, bool) = (true, false);
    const IS_TIMELY: (bool, bool) = (false, false);
    const NOBODY_KNOWS: (bool, bool) = (false, true);

    #[test]
    fn what_a_lane_decided_holds_however_late_it_is_verified() {
        let known = || letters(&[(5, "l"), (6, "other")]);
        for now_ms in [READ, READ + 100 * HOUR] {
            let judge = |offset| judge(known(), OnError::DeadLetter, offset, AHEAD, now_ms);
            assert_eq!((judge(5), judge(6), judge(7)), (IS_AHEAD, IS_TIMELY, IS_TIMELY), "{now_ms}");
        }
        assert_eq!(judge(known(), OnError::DeadLetter, 5, AHEAD + 1, READ), IS_TIMELY, "another record");
    }

    #[test]
    fn letters_that_retention_may_have_taken_prove_nothing() {
        let some = || Letters { are_all: false, ..letters(&[(5, "l")]) };
        let judge = |offset, now_ms| judge(some(), OnError::DeadLetter, offset, AHEAD, now_ms);
        assert_eq!(judge(5, READ + 100 * HOUR), IS_AHEAD, "this one is there");
        assert_eq!((judge(7, READ), judge(7, READ + 100 * HOUR)), (IS_AHEAD, NOBODY_KNOWS));
    }

    #[test]
    fn what_is_not_written_is_decided_only_as_far_as_time_cannot_have_changed_it() {
        for on_error in [OnError::Skip, OnError::Pass] {
            let judge = |timestamp, now_ms| judge(Letters::default(), on_error, 5, timestamp, now_ms);
            assert_eq!(judge(AHEAD, READ), IS_AHEAD, "it still is");
            assert_eq!(judge(READ - HOUR, READ + 100 * HOUR), IS_TIMELY, "it was when the revision was new");
            assert_eq!(judge(AHEAD, READ + 100 * HOUR), NOBODY_KNOWS);
        }
        let behind = judge(Letters::default(), OnError::Stop, 5, AHEAD, READ);
        assert_eq!(behind, IS_TIMELY, "a lane has gone on behind it");
    }
}
