//! What the leaders of partitions say of them: where they begin, where they end, and where the
//! records of an epoch end.
//!
//! Each leader is asked on a thread of its own, and each partition has an answer of its own.
//!
//! Invariants
//! - A broker that does not answer keeps nobody from hearing of the partitions of the others, and
//!   is waited for once by all callers that ask again.
//! - A partition that was not asked for is never answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use kafka_protocol::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};

use super::client::{Client, Isolation, lock, topic_name};
use super::error::{self, Code};
use crate::background::Errand;
use crate::connector::{Each, EpochEnd, Error, PartitionRange, Patience};
use crate::model::TopicPartition;

/// How long leaders are waited for by a caller that asks again by itself: longer than a connection
/// with TLS and a login takes over any distance.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a partition that was just made, or moves, is waited for by all other callers.
const MOVE_PATIENCE: Duration = Duration::from_secs(15);

/// Asks [`Client::offsets`] for the first offset.
pub(super) const EARLIEST: i64 = -2;
/// Asks [`Client::offsets`] for the offset after the last one.
pub(super) const LATEST: i64 = -1;

/// What is asked of a leader: its partitions, with the epochs in which we know it to lead them.
type Asked = Vec<(TopicPartition, i32)>;

/// What a leader answers. The outer error: why it says nothing at all.
type Answered<A> = Result<BTreeMap<TopicPartition, Result<A, Unsaid>>, Error>;

/// Why something is not known of a partition.
#[derive(Clone, Debug)]
enum Unsaid {
    /// Its leader refuses to say it.
    Refused(Code),
    /// It could not be asked, or its answer makes no sense.
    Failed(Error),
}

impl Unsaid {
    fn is_moving(&self) -> bool {
        matches!(self, Self::Refused(code) if code.is_moving())
    }

    fn into_error(self, what: &str, partition: &TopicPartition) -> Error {
        match self {
            Self::Refused(code) => error::not_said(what, partition, code),
            Self::Failed(error) => error,
        }
    }
}

/// Brokers that have not answered in time, and may yet. **Invariant:** of those that are waited for
/// by callers which ask again, one thread waits for each.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<BTreeMap<i32, Arc<AtomicBool>>>);

impl Late {
    /// Whether a broker is still waited for.
    fn is_late(&self, broker: i32) -> bool {
        lock(&self.0).get(&broker).is_some_and(|has_ended| !has_ended.load(Relaxed))
    }

    /// A broker is late until what it is asked has ended.
    fn note(&self, broker: i32, has_ended: Arc<AtomicBool>) {
        lock(&self.0).insert(broker, has_ended);
    }
}

/// Says that something has ended, whatever became of it.
struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

impl Client {
    /// [`Client::ranges`] of one partition.
    ///
    /// # Errors
    /// As those of [`Client::ranges`].
    pub(super) fn range(&self, partition: &TopicPartition, isolation: Isolation) -> Result<PartitionRange, Error> {
        let found = self.ranges_of(std::slice::from_ref(partition), isolation, Patience::Long);
        found.into_iter().next().ok_or_else(|| error::not_asked("ListOffsets"))?
    }

    /// [`Client::ranges_of`] partitions, if all of them are known.
    ///
    /// # Errors
    /// One of them is not.
    pub(super) fn ranges(
        &self,
        partitions: &[TopicPartition],
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, PartitionRange>, Error> {
        all_of(partitions, self.ranges_of(partitions, isolation, Patience::Long))
    }

    /// Where partitions begin and where they end. `isolation` decides whether records of open
    /// transactions count at the end.
    pub(super) fn ranges_of(
        &self,
        partitions: &[TopicPartition],
        isolation: Isolation,
        patience: Patience,
    ) -> Each<PartitionRange> {
        // In this order: a partition may lose records at its start between the two, but it only
        // grows at its end.
        let starts = self.offsets_of(partitions, EARLIEST, Isolation::ReadUncommitted, patience);
        let begun = partitions.iter().zip(&starts).filter(|(_, start)| start.is_ok());
        let begun: Vec<TopicPartition> = begun.map(|(partition, _)| partition.clone()).collect();
        let mut ends = self.offsets_of(&begun, LATEST, isolation, patience).into_iter();
        let range = |(partition, start): (&TopicPartition, Result<i64, Error>)| {
            let log_start = start?;
            let end = ends.next().ok_or_else(|| error::not_asked("ListOffsets"))??;
            if end < log_start {
                return Err(error::impossible(partition, &format!("it begins at {log_start} and ends at {end}")));
            }
            Ok(PartitionRange { log_start, end })
        };
        partitions.iter().zip(starts).map(range).collect()
    }

    /// [`Client::offsets_of`] partitions, if all of them are known.
    ///
    /// # Errors
    /// One of them is not.
    pub(super) fn offsets(
        &self,
        partitions: &[TopicPartition],
        at: i64,
        isolation: Isolation,
    ) -> Result<BTreeMap<TopicPartition, i64>, Error> {
        all_of(partitions, self.offsets_of(partitions, at, isolation, Patience::Long))
    }

    /// Where partitions begin ([`EARLIEST`]) or end ([`LATEST`]). `isolation` decides whether open
    /// transactions count.
    pub(super) fn offsets_of(
        &self,
        partitions: &[TopicPartition],
        at: i64,
        isolation: Isolation,
        patience: Patience,
    ) -> Each<i64> {
        let ask = move |client: &Client, broker: i32, asked: &Asked| list_offsets(client, broker, asked, at, isolation);
        self.ask_leaders("the offsets", partitions, patience, ask)
    }

    /// Where the records end that partitions have of leaders up to an epoch.
    pub(super) fn ends_of_epochs(&self, epochs: &[(TopicPartition, i32)], patience: Patience) -> Each<EpochEnd> {
        let partitions: Vec<TopicPartition> = epochs.iter().map(|(partition, _)| partition.clone()).collect();
        let epochs: BTreeMap<TopicPartition, i32> = epochs.iter().cloned().collect();
        let ask = move |client: &Client, broker: i32, asked: &Asked| ends_of_epochs(client, broker, asked, &epochs);
        self.ask_leaders("the end of an epoch", &partitions, patience, ask)
    }

    /// Ask the leaders of partitions; `what` is asked for. A partition that moves is asked for
    /// again and again if the caller has the patience.
    fn ask_leaders<A: Clone + Send + 'static>(
        &self,
        what: &str,
        partitions: &[TopicPartition],
        patience: Patience,
        ask: impl Fn(&Client, i32, &Asked) -> Answered<A> + Send + Sync + 'static,
    ) -> Each<A> {
        let (ask, moving_until) = (Arc::new(ask), Instant::now() + MOVE_PATIENCE);
        // Brokers refuse a request that names a partition twice.
        let mut asked: BTreeSet<TopicPartition> = partitions.iter().cloned().collect();
        let mut known = BTreeMap::new();
        loop {
            known.extend(self.ask_leaders_once(&asked, patience, &ask));
            asked.retain(|partition| matches!(known.get(partition), Some(Err(unsaid)) if unsaid.is_moving()));
            if asked.is_empty() || patience == Patience::Short || Instant::now() > moving_until {
                break;
            }
            if let Err(error) = self.refresh_in_a_moment() {
                tracing::debug!(code = error.code, "metadata: {error}");
            }
        }
        if known.values().any(Result::is_err) {
            // Who asks again asks whoever leads by then.
            drop(self.refresh());
        }
        let said = |partition: &TopicPartition| {
            let known = known.get(partition).cloned().unwrap_or_else(|| Err(Unsaid::Failed(error::not_asked(what))));
            known.map_err(|unsaid| unsaid.into_error(what, partition))
        };
        partitions.iter().map(said).collect()
    }

    /// The same once. What a broker says that was waited for long enough is for nobody, but its
    /// connection is kept.
    fn ask_leaders_once<A: Send + 'static>(
        &self,
        partitions: &BTreeSet<TopicPartition>,
        patience: Patience,
        ask: &Arc<impl Fn(&Client, i32, &Asked) -> Answered<A> + Send + Sync + 'static>,
    ) -> BTreeMap<TopicPartition, Result<A, Unsaid>> {
        let failed = |error: &Error| Err(Unsaid::Failed(error.clone()));
        let (me, metadata) = match self.shared().ok_or_else(error::no_brokers).and_then(|me| Ok((me, self.metadata()?)))
        {
            Ok(known) => known,
            Err(error) => return partitions.iter().map(|partition| (partition.clone(), failed(&error))).collect(),
        };
        let (mut said, mut by_broker) = (BTreeMap::new(), BTreeMap::<i32, Asked>::new());
        for partition in partitions {
            match metadata.leader(partition) {
                Ok((broker, leader)) => {
                    by_broker.entry(broker).or_default().push((partition.clone(), leader.epoch));
                }
                Err(error) => drop(said.insert(partition.clone(), failed(&error))),
            }
        }
        let settings = self.settings();
        let wait = match patience {
            Patience::Short => ANSWER_PATIENCE,
            Patience::Long => settings.connect_timeout + settings.request_timeout,
        };
        let deadline = Instant::now() + wait;
        if patience == Patience::Short {
            for (broker, asked) in by_broker.extract_if(.., |broker, _| self.late().is_late(*broker)) {
                said.extend(asked.into_iter().map(|(partition, _)| (partition, failed(&error::silent(broker, wait)))));
            }
        }
        let begin = |(broker, asked): (i32, Asked)| {
            let (me, ask, of, has_ended) = (me.clone(), ask.clone(), asked.clone(), Arc::<AtomicBool>::default());
            let end = End(has_ended.clone());
            let errand = Errand::begin("leader", move || {
                let _end = end;
                ask(&me, broker, &of)
            });
            (broker, asked, errand, has_ended)
        };
        let under_way: Vec<_> = by_broker.into_iter().map(begin).collect();
        for (broker, asked, errand, has_ended) in under_way {
            let answered = match errand.done_by(deadline) {
                Some(Ok(answered)) => answered,
                Some(Err(unfinished)) => Err(error::not_done("asking a leader", &unfinished)),
                None => {
                    self.late().note(broker, has_ended);
                    Err(error::silent(broker, wait))
                }
            };
            match answered {
                Ok(mut answers) => said.extend(asked.into_iter().map(|(partition, _)| {
                    let answer = answers.remove(&partition);
                    (partition, answer.unwrap_or_else(|| failed(&error::not_asked("a question about partitions"))))
                })),
                Err(error) => said.extend(asked.into_iter().map(|(partition, _)| (partition, failed(&error)))),
            }
        }
        said
    }
}

/// What was answered of all these partitions.
fn all_of<A>(partitions: &[TopicPartition], answers: Each<A>) -> Result<BTreeMap<TopicPartition, A>, Error> {
    partitions.iter().cloned().zip(answers).map(|(partition, answer)| Ok((partition, answer?))).collect()
}

/// Partitions by their topics.
fn by_topic<P>(
    asked: &Asked,
    partition: impl Fn(&TopicPartition, i32) -> P,
) -> impl Iterator<Item = (Arc<str>, Vec<P>)> {
    let mut topics: BTreeMap<Arc<str>, Vec<P>> = BTreeMap::new();
    for (place, leader_epoch) in asked {
        topics.entry(place.topic.clone()).or_default().push(partition(place, *leader_epoch));
    }
    topics.into_iter()
}

fn list_offsets(client: &Client, broker: i32, asked: &Asked, at: i64, isolation: Isolation) -> Answered<i64> {
    let wanted = |place: &TopicPartition, leader_epoch: i32| {
        ListOffsetsPartition::default()
            .with_partition_index(place.partition as i32)
            .with_current_leader_epoch(leader_epoch)
            .with_timestamp(at)
    };
    let topics = by_topic(asked, wanted);
    let topics = topics
        .map(|(name, partitions)| ListOffsetsTopic::default().with_name(topic_name(&name)).with_partitions(partitions));
    let request = ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(isolation as i8)
        .with_topics(topics.collect());
    let mut said = BTreeMap::new();
    for topic in client.call_broker(broker, &request)?.topics {
        for partition in topic.partitions {
            let place = TopicPartition::new(topic.name.0.as_str(), partition.partition_index as u32);
            let answer = match Code(partition.error_code) {
                Code::NONE if partition.offset < 0 => {
                    let what = format!("it has an offset of {}", partition.offset);
                    Err(Unsaid::Failed(error::impossible(&place, &what)))
                }
                Code::NONE => Ok(partition.offset),
                code => Err(Unsaid::Refused(code)),
            };
            said.insert(place, answer);
        }
    }
    Ok(said)
}

fn ends_of_epochs(
    client: &Client,
    broker: i32,
    asked: &Asked,
    epochs: &BTreeMap<TopicPartition, i32>,
) -> Answered<EpochEnd> {
    let epoch_of = |place: &TopicPartition| epochs.get(place).copied().unwrap_or_default();
    let wanted = |place: &TopicPartition, leader_epoch: i32| {
        OffsetForLeaderPartition::default()
            .with_partition(place.partition as i32)
            .with_current_leader_epoch(leader_epoch)
            .with_leader_epoch(epoch_of(place))
    };
    let topics = by_topic(asked, wanted);
    let topics = topics.map(|(name, partitions)| {
        OffsetForLeaderTopic::default().with_topic(topic_name(&name)).with_partitions(partitions)
    });
    let request = OffsetForLeaderEpochRequest::default().with_replica_id((-1).into()).with_topics(topics.collect());
    let mut said = BTreeMap::new();
    for topic in client.call_broker(broker, &request)?.topics {
        for partition in topic.partitions {
            let place = TopicPartition::new(topic.topic.0.as_str(), partition.partition as u32);
            let (epoch, found) = (epoch_of(&place), partition.leader_epoch);
            let answer = match Code(partition.error_code) {
                // The leader knows nothing of it.
                Code::NONE if partition.end_offset < 0 => Ok(EpochEnd::Unsaid),
                Code::NONE if found > epoch => {
                    let what = format!("epoch {epoch} or one before is {found}");
                    Err(Unsaid::Failed(error::impossible(&place, &what)))
                }
                Code::NONE => Ok(EpochEnd::At(partition.end_offset)),
                code => Err(Unsaid::Refused(code)),
            };
            said.insert(place, answer);
        }
    }
    Ok(said)
}
