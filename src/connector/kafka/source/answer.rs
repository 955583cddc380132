//! What a broker answers to a fetch: the layout is that of `FetchResponse`, versions 4 to 17. Records are not copied.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::connector::kafka::error::Code;
use crate::connector::kafka::pace;
use crate::connector::kafka::records::AbortedTransaction;
use crate::connector::kafka::wire::{Call, Field, Fields, Flaw, RECORDS};

/// From this version on topics have ids instead of names.
pub(super) const TOPIC_IDS: i16 = 13;
/// The versions in which topics have names.
pub(in crate::connector::kafka) const BY_NAME: RangeInclusive<i16> = 4..=TOPIC_IDS - 1;
/// From this version on there are fetch sessions.
pub(super) const SESSIONS: i16 = 7;

/// A fetch answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FetchAnswer {
    /// How long the broker will not listen to this connection.
    pub(in crate::connector::kafka) throttle: Duration,
    /// What is wrong with the request as a whole.
    pub(in crate::connector::kafka) code: Code,
    /// The fetch session; 0: none.
    pub(in crate::connector::kafka) session: i32,
    /// Those that have something to say, in the broker's order.
    pub(in crate::connector::kafka) partitions: Vec<PartitionAnswer>,
}

/// How an answer names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::connector::kafka) enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition in a [`FetchAnswer`].
#[derive(Debug, PartialEq, Eq)]
pub(in crate::connector::kafka) struct PartitionAnswer {
    pub(in crate::connector::kafka) topic: TopicKey,
    pub(in crate::connector::kafka) partition: u32,
    pub(in crate::connector::kafka) code: Code,
    /// The end of what all replicas had just before the answer was put together; negative if that is not known.
    pub(in crate::connector::kafka) high_watermark: i64,
    /// Where the first transaction begins that is open; negative if that is not known.
    pub(in crate::connector::kafka) last_stable: i64,
    /// The replica that is nearer to us: it is to be fetched from there.
    pub(in crate::connector::kafka) nearer: Option<i32>,
    /// Where its log ends since another leader took over, if that is before what was asked for.
    pub(in crate::connector::kafka) diverges_at: Option<i64>,
    pub(in crate::connector::kafka) aborted: Vec<AbortedTransaction>,
    pub(in crate::connector::kafka) records: Bytes,
}

impl Call for FetchRequest {
    type Answer = FetchAnswer;
    const SPOKEN: RangeInclusive<i16> = 4..=17;
    const ANSWER_BYTES_MAX: usize = RECORDS;

    fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<FetchAnswer, Flaw> {
        let throttle: i32 = from.read(version)?;
        let (mut code, mut session) = (0, 0);
        if version >= SESSIONS {
            (code, session) = (from.read(version)?, from.read(version)?);
        }
        let topics = from.list(|from| topic(from, version))?.ok_or(Flaw::NoLength)?;
        from.tags(|_, _| Ok(()))?;
        Ok(FetchAnswer {
            throttle: pace::throttle(throttle),
            code: Code(code),
            session,
            partitions: topics.into_iter().flatten().collect(),
        })
    }
}

fn topic<F: Fields>(from: &mut F, version: i16) -> Result<Vec<PartitionAnswer>, Flaw> {
    let topic = if version >= TOPIC_IDS {
        TopicKey::Id(from.read(version)?)
    } else {
        TopicKey::Name(from.read::<StrBytes>(version)?.as_str().into())
    };
    let partitions = from.list(|from| partition(from, &topic, version))?.ok_or(Flaw::NoLength)?;
    from.tags(|_, _| Ok(()))?;
    Ok(partitions)
}

fn partition<F: Fields>(from: &mut F, topic: &TopicKey, version: i16) -> Result<PartitionAnswer, Flaw> {
    let partition = u32::try_from(from.read::<i32>(version)?).map_err(|_| Flaw::Impossible)?;
    let code = Code(from.read(version)?);
    let high_watermark = from.read(version)?;
    let last_stable = from.read(version)?;
    if version >= 5 {
        let _log_start: i64 = from.read(version)?;
    }
    let aborted: Option<Vec<AbortedTransaction>> = from.read(version)?;
    let mut nearer = None;
    if version >= 11 {
        nearer = Some(from.read(version)?).filter(|replica: &i32| *replica >= 0);
    }
    let records: Option<Bytes> = from.read(version)?;
    let mut diverges_at = None;
    from.tags(|tag, mut field| {
        if tag == DIVERGING_EPOCH {
            let _epoch: i32 = field.read(version)?;
            diverges_at = Some(field.read(version)?).filter(|end| *end >= 0);
        }
        Ok(())
    })?;
    let (topic, records) = (topic.clone(), records.unwrap_or_default());
    let aborted = aborted.unwrap_or_default();
    Ok(PartitionAnswer { topic, partition, code, high_watermark, last_stable, nearer, diverges_at, aborted, records })
}

impl Field for AbortedTransaction {
    fn read<F: Fields>(from: &mut F, version: i16) -> Result<Self, Flaw> {
        let aborted = Self { producer_id: from.read(version)?, first_offset: from.read(version)? };
        from.tags(|_, _| Ok(()))?;
        Ok(aborted)
    }
}

/// The tagged field of a partition that says where logs part.
const DIVERGING_EPOCH: u32 = 0;

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::fetch_response::{
        AbortedTransaction as Aborted, EpochEndOffset, FetchableTopicResponse, PartitionData,
    };
    use kafka_protocol::messages::{FetchResponse, TopicName};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::*;
    use crate::connector::kafka::wire::Reader;

    /// From this version on lengths are varints, and there are tagged fields.
    const FLEXIBLE: i16 = 12;

    fn read(body: Bytes, version: i16) -> Result<FetchAnswer, Flaw> {
        FetchRequest::read_answer(&mut Reader::new(body, FetchRequest::is_flexible(version)), version)
    }

    fn encoded(version: i16) -> Bytes {
        let mut partition = PartitionData::default()
            .with_partition_index(7)
            .with_error_code(6)
            .with_high_watermark(100)
            .with_last_stable_offset(90)
            .with_aborted_transactions(Some(vec![
                Aborted::default().with_producer_id(3.into()).with_first_offset(40),
                Aborted::default().with_producer_id(4.into()).with_first_offset(50),
            ]))
            .with_records(Some(Bytes::from_static(b"records")));
        if version >= FLEXIBLE {
            let end = EpochEndOffset::default().with_epoch(2).with_end_offset(77);
            partition = partition.with_diverging_epoch(end);
        }
        let empty = PartitionData::default().with_partition_index(8).with_aborted_transactions(None);
        let mut topic = FetchableTopicResponse::default().with_partitions(vec![partition, empty.with_records(None)]);
        if version >= TOPIC_IDS {
            topic = topic.with_topic_id(Uuid::from_u128(42));
        } else {
            topic = topic.with_topic(TopicName(StrBytes::from_static_str("orders")));
        }
        let mut answer = FetchResponse::default().with_throttle_time_ms(5).with_responses(vec![topic]);
        if version >= SESSIONS {
            answer = answer.with_session_id(9);
        }
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes, version).expect("encodes");
        bytes.freeze()
    }

    #[test]
    fn an_answer_of_every_version_is_read() {
        for version in 4..=17 {
            let answer = read(encoded(version), version).expect("sound");
            assert_eq!(answer.throttle, Duration::from_millis(5), "version {version}");
            assert_eq!((answer.code, answer.session), (Code::NONE, if version >= SESSIONS { 9 } else { 0 }));
            let [first, second] = &answer.partitions[..] else { panic!("two partitions") };
            let key =
                if version >= TOPIC_IDS { TopicKey::Id(Uuid::from_u128(42)) } else { TopicKey::Name("orders".into()) };
            assert_eq!((&first.topic, first.partition, first.code), (&key, 7, Code(6)));
            assert_eq!(first.high_watermark, 100);
            assert_eq!(first.diverges_at, (version >= FLEXIBLE).then_some(77));
            let aborted = |producer_id, first_offset| AbortedTransaction { producer_id, first_offset };
            assert_eq!(first.aborted, [aborted(3, 40), aborted(4, 50)]);
            assert_eq!(first.records, "records");
            assert_eq!((&second.topic, second.partition, second.code), (&key, 8, Code::NONE));
            assert!(second.records.is_empty() && second.aborted.is_empty() && second.diverges_at.is_none());
        }
    }

    #[test]
    fn an_answer_that_is_cut_is_refused() {
        for version in [4, 11, 12, 17] {
            let whole = encoded(version);
            for length in 0..whole.len() {
                read(whole.slice(..length), version).expect_err("cut");
            }
        }
    }

    #[test]
    fn counts_that_are_not_true_allocate_nothing() {
        let mut bytes = vec![0; 10];
        bytes.extend(i32::MAX.to_be_bytes());
        read(bytes.into(), 11).expect_err("no topic is there");
        let mut bytes = vec![0; 10];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        read(bytes.into(), 17).expect_err("no topic is there");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_or_an_error(
            version in 4_i16..=17,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
        ) {
            let _any = read(Bytes::from(bytes.clone()), version);
            let mut damaged = encoded(version).to_vec();
            let at = at.index(damaged.len());
            for (place, byte) in damaged[at..].iter_mut().zip(bytes) {
                *place = byte;
            }
            let _any = read(damaged.into(), version);
        }
    }
}
