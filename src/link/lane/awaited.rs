//! Partitions that are to be read, and of which it is not known yet where they begin and end.
//!
//! A lane asks both clusters before it reads a partition, and compares what they say with the
//! checkpoint. Each partition has an answer of its own: one that its cluster says nothing of waits
//! here, stands still like one that cannot be fetched, and is asked for again. The others are read
//! meanwhile.
//!
//! **Invariant:** a partition leaves only with an answer of its source and of its target, or with a
//! loss. So none is read before its past was compared.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Session;
use super::past::{Doubted, Ranges, check_without_source};
use crate::background::{Errand, Unfinished};
use crate::connector::{
    Class, Cluster, Each, EpochEnd, Error, PartitionRange, Patience, Stalled, Topic, Trouble, Waits,
};
use crate::link::failure::Failure;
use crate::model::{TopicId, TopicPartition};

/// How long a partition waits before its clusters are asked again. Most often its leader moves,
/// which takes a moment; one that is gone may be for days.
const WAITS: Waits =
    Waits { first: Duration::from_millis(50), longest: Duration::from_secs(30), for_help: Duration::from_secs(30) };

/// How many partitions are asked for at once, at most: answers have a bound.
const ASKED_AT_ONCE: usize = 2_000;

/// A partition that waits.
#[derive(Debug)]
struct Waiting {
    /// Its topic, as the source described it last.
    topic: Topic,
    /// The topic that its records go to.
    target: Topic,
    /// Where its partition of the target ended before the lane had written anything there.
    target_end: Option<i64>,
    trouble: Option<Trouble>,
}

impl Waiting {
    fn is_due(&self, now: Instant) -> bool {
        self.trouble.as_ref().is_none_or(|trouble| trouble.due() <= now)
    }

    /// The partition of the target that its records go to: where the target has fewer, several of
    /// the source share one.
    fn written(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(self.target.name.clone(), partition % self.target.partitions.max(1))
    }
}

/// The partitions that wait.
#[derive(Debug, Default)]
pub(super) struct Awaited {
    partitions: BTreeMap<TopicPartition, Waiting>,
    /// The clusters are being asked for these.
    asking: Option<(Vec<TopicPartition>, Errand<Vec<Answer>>)>,
}

impl Awaited {
    pub(super) fn contains(&self, partition: &TopicPartition) -> bool {
        self.partitions.contains_key(partition)
    }

    /// Let a partition wait, to be asked for at once.
    pub(super) fn add(&mut self, partition: TopicPartition, topic: Topic, target: Topic) {
        self.partitions.insert(partition, Waiting { topic, target, target_end: None, trouble: None });
    }

    /// The target of a topic has another number of partitions.
    pub(super) fn retarget(&mut self, topic: &Arc<str>, target: &Topic) {
        let of_topic = self.partitions.iter_mut().filter(|(partition, _)| partition.topic == *topic);
        for (partition, waiting) in of_topic {
            let before = waiting.written(partition.partition);
            waiting.target = target.clone();
            if waiting.written(partition.partition) != before {
                waiting.target_end = None;
            }
        }
    }

    /// Forget the partitions of topics. Which they were.
    pub(super) fn forget(&mut self, topics: &[Arc<str>]) -> Vec<TopicPartition> {
        let gone = self.partitions.keys().filter(|partition| topics.contains(&partition.topic));
        let gone: Vec<TopicPartition> = gone.cloned().collect();
        gone.iter().for_each(|partition| drop(self.partitions.remove(partition)));
        gone
    }

    /// Something is wrong with a partition at `now`.
    fn fail(&mut self, partition: &TopicPartition, why: Error, now: Instant) {
        if let Some(waiting) = self.partitions.get_mut(partition) {
            waiting.trouble = Some(Trouble::after(waiting.trouble.as_ref(), why, now, WAITS));
        }
    }

    /// The partitions that have waited for so long at `now` that people should hear of it.
    pub(super) fn stalled(&self, now: Instant) -> impl Iterator<Item = Stalled> {
        self.partitions.iter().filter_map(move |(partition, waiting)| {
            let why = waiting.trouble.as_ref()?.told(now)?.clone();
            Some(Stalled { partition: partition.clone(), why })
        })
    }
}

/// What is to be known of a partition.
#[derive(Clone, Debug)]
struct Inquiry {
    partition: TopicPartition,
    /// The partition of the target, unless it is known where it ended.
    written: Option<TopicPartition>,
    /// Where the lane goes on, if that is known.
    next: Option<i64>,
    /// The epoch of the leader that had what was copied last.
    epoch: Option<i32>,
}

/// What a source says of a partition.
#[derive(Clone, Copy, Debug)]
struct Said {
    range: PartitionRange,
    log_end: i64,
    epoch_end: EpochEnd,
}

/// What is known of a partition.
#[derive(Debug)]
struct Answer {
    partition: TopicPartition,
    /// The identity of its topic, if there is one of this name.
    topic: Option<TopicId>,
    source: Result<Said, Error>,
    /// `None`: it was not asked for.
    target_end: Option<Result<i64, Error>>,
}

/// Ask both clusters.
fn ask(source: &dyn Cluster, target: &dyn Cluster, inquiries: Vec<Inquiry>) -> Vec<Answer> {
    // The target first: while the lane opens, nothing is written before this is known.
    let written: Vec<TopicPartition> = inquiries.iter().filter_map(|inquiry| inquiry.written.clone()).collect();
    // A foreign transaction that hangs hides what is behind it: that is no loss.
    let mut target_ends = target.log_ends(&written, Patience::Short).into_iter();
    let topics = source.topics();
    let said = match &topics {
        Ok(_) => ask_source(source, &inquiries),
        Err(error) => inquiries.iter().map(|_| Err(error.clone())).collect(),
    };
    let topics = topics.unwrap_or_default().into_iter().map(|topic| (topic.name, topic.id));
    let topics: BTreeMap<Arc<str>, TopicId> = topics.collect();
    let answer = |(Inquiry { partition, written, .. }, source): (Inquiry, Result<Said, Error>)| Answer {
        topic: topics.get(&partition.topic).copied(),
        target_end: written.and_then(|_| target_ends.next()),
        partition,
        source,
    };
    inquiries.into_iter().zip(said).map(answer).collect()
}

fn ask_source(source: &dyn Cluster, inquiries: &[Inquiry]) -> Each<Said> {
    let partitions: Vec<TopicPartition> = inquiries.iter().map(|inquiry| inquiry.partition.clone()).collect();
    let ranges = source.ranges_of(&partitions, Patience::Short).into_iter();
    let said = |range: PartitionRange| Said { range, log_end: range.end, epoch_end: EpochEnd::Unsaid };
    let mut all: Each<Said> = ranges.map(|range| range.map(said)).collect();
    // A link may begin amid a transaction that is still open: what readers do not see yet is not
    // lost.
    let beyond = |inquiry: &Inquiry, said: &Said| {
        inquiry.next.filter(|next| *next > said.range.end).map(|_| inquiry.partition.clone())
    };
    let log_ends = |partitions: &[TopicPartition]| source.log_ends(partitions, Patience::Short);
    ask_more(inquiries, &mut all, beyond, log_ends, |said, end| said.log_end = end);
    // Another leader may have a shorter log, and have gone on.
    let epoch = |inquiry: &Inquiry, _: &Said| Some((inquiry.partition.clone(), inquiry.epoch?));
    let epoch_ends = |epochs: &[(TopicPartition, i32)]| source.ends_of_epochs(epochs, Patience::Short);
    ask_more(inquiries, &mut all, epoch, epoch_ends, |said, end| said.epoch_end = end);
    all
}

/// Ask for more of those partitions of which something is known already. What is not answered takes
/// the place of what is known.
fn ask_more<Q, A>(
    inquiries: &[Inquiry],
    all: &mut Each<Said>,
    question: impl Fn(&Inquiry, &Said) -> Option<Q>,
    ask: impl FnOnce(&[Q]) -> Each<A>,
    put: impl Fn(&mut Said, A),
) {
    let wanted = inquiries.iter().zip(all).filter_map(|(inquiry, known)| {
        let question = question(inquiry, known.as_ref().ok()?)?;
        Some((known, question))
    });
    let (known, questions): (Vec<_>, Vec<Q>) = wanted.unzip();
    if questions.is_empty() {
        return;
    }
    for (known, answer) in known.into_iter().zip(ask(&questions)) {
        match (answer, &mut *known) {
            (Ok(answer), Ok(said)) => put(said, answer),
            (Err(error), _) => *known = Err(error),
            (Ok(_), Err(_)) => {}
        }
    }
}

impl Session {
    /// Ask for all partitions that wait and are due, and wait for what is answered: no records
    /// could be read meanwhile.
    pub(super) fn ask_now(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        for _ in 0..self.awaited.partitions.len().div_ceil(ASKED_AT_ONCE) {
            let answers = ask(&*self.link.source, &*self.link.target, self.inquiries(now));
            self.take_answers(answers)?;
        }
        Ok(())
    }

    /// Take what was answered of partitions that wait, and ask for those that are due. Nobody is
    /// waited for.
    pub(super) fn follow_awaited(&mut self, now: Instant) -> Result<(), Failure> {
        if let Some((_, errand)) = &self.awaited.asking {
            let Some(done) = errand.done() else { return Ok(()) };
            let asked = self.awaited.asking.take().map(|(asked, _)| asked).unwrap_or_default();
            match done {
                Ok(answers) => self.take_answers(answers)?,
                Err(unfinished) => {
                    asked.iter().for_each(|partition| self.awaited.fail(partition, not_asked(&unfinished), now));
                }
            }
        }
        let inquiries = self.inquiries(now);
        if !inquiries.is_empty() {
            let asked = inquiries.iter().map(|inquiry| inquiry.partition.clone()).collect();
            let (source, target) = (self.link.source.clone(), self.link.target.clone());
            let errand = Errand::begin("partitions", move || ask(&*source, &*target, inquiries));
            self.awaited.asking = Some((asked, errand));
        }
        Ok(())
    }

    /// What is to be asked at `now`.
    fn inquiries(&self, now: Instant) -> Vec<Inquiry> {
        let due = self.awaited.partitions.iter().filter(|(_, waiting)| waiting.is_due(now));
        let inquiry = |(partition, waiting): (&TopicPartition, &Waiting)| {
            let checkpoint = self.checkpoints.get(partition);
            let next = checkpoint.map(|checkpoint| checkpoint.next_offset);
            Inquiry {
                partition: partition.clone(),
                written: waiting.target_end.is_none().then(|| waiting.written(partition.partition)),
                next: next.or_else(|| self.link.genesis_start(partition)),
                epoch: checkpoint.and_then(|checkpoint| checkpoint.source_leader_epoch),
            }
        };
        due.take(ASKED_AT_ONCE).map(inquiry).collect()
    }

    fn take_answers(&mut self, answers: Vec<Answer>) -> Result<(), Failure> {
        for answer in answers {
            self.take_answer(answer)?;
        }
        self.name_revision();
        if std::mem::take(&mut self.migrated) {
            self.commit()?;
        }
        Ok(())
    }

    /// Read a partition if all is known of it. Otherwise it goes on waiting; what is known is
    /// compared all the same, before anything is written.
    fn take_answer(&mut self, answer: Answer) -> Result<(), Failure> {
        let Answer { partition, topic, source, target_end } = answer;
        // It may have gone meanwhile.
        let Some(waiting) = self.awaited.partitions.get_mut(&partition) else { return Ok(()) };
        waiting.topic.id = topic.unwrap_or(waiting.topic.id);
        let target_end = target_end.transpose().map(|end| {
            waiting.target_end = waiting.target_end.or(end);
            waiting.target_end
        });
        let (said, target_end) = match (source, target_end) {
            (Ok(said), Ok(Some(target_end))) => (said, target_end),
            (source, target_end) => {
                // A target that was not asked has said nothing either: it is asked the next time.
                if let Some(why) = source.err().or(target_end.err()) {
                    self.awaited.fail(&partition, why, Instant::now());
                }
                self.compare_early(&partition);
                return Ok(());
            }
        };
        let Some(waiting) = self.awaited.partitions.remove(&partition) else { return Ok(()) };
        let Said { range, log_end, epoch_end } = said;
        let ranges = Ranges { source: range, log_end, epoch_end, target_end };
        if let Some(why) = self.follow_partition(&partition, ranges, &waiting.topic, &waiting.target)? {
            self.awaited.partitions.insert(partition.clone(), waiting);
            self.awaited.fail(&partition, why, Instant::now());
        }
        Ok(())
    }

    /// Compare what is known of a partition that still waits with its checkpoint. Later the lane
    /// may have written to its partition of the target.
    fn compare_early(&mut self, partition: &TopicPartition) {
        let (waiting, checkpoint) = (self.awaited.partitions.get(partition), self.checkpoints.get(partition));
        let (Some(waiting), Some(checkpoint)) = (waiting, checkpoint) else { return };
        let Waiting { topic, target, target_end, .. } = waiting;
        if let Some(doubt) = check_without_source(partition, checkpoint, topic, target, *target_end) {
            self.doubted.push(Doubted::found(partition, checkpoint.clone(), doubt));
            self.awaited.partitions.remove(partition);
        }
    }
}

/// The error that nobody could be asked.
fn not_asked(unfinished: &Unfinished) -> Error {
    Error {
        class: Class::Reopen,
        code: unfinished.code(),
        message: format!("asking where partitions begin {unfinished}"),
        remedy: "it is tried again",
    }
}
