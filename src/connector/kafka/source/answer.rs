//! What a broker answers to a fetch, read without believing any number in it: the layout is that of `FetchResponse`, versions 4 to 17.
//!
//! It is read here and not by the library of messages because that makes room for as many partitions as an answer claims to have,
//! before it looks whether they are there.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use uuid::Uuid;

use crate::connector::kafka::error::Code;
use crate::connector::kafka::records::AbortedTransaction;

/// From this version on lengths are varints, and there are tagged fields.
const FLEXIBLE: i16 = 12;
/// From this version on topics have ids instead of names.
pub(super) const TOPIC_IDS: i16 = 13;
/// From this version on there are fetch sessions.
pub(super) const SESSIONS: i16 = 7;

/// A fetch answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FetchAnswer {
    /// How long the broker will not listen to this connection.
    pub(super) throttle: Duration,
    /// What is wrong with the request as a whole.
    pub(super) code: Code,
    /// The fetch session; 0: none.
    pub(super) session: i32,
    /// Those that have something to say, in the broker's order.
    pub(super) partitions: Vec<PartitionAnswer>,
}

/// How an answer names a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TopicKey {
    Name(Arc<str>),
    Id(Uuid),
}

/// A partition in a [`FetchAnswer`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PartitionAnswer {
    pub(super) topic: TopicKey,
    pub(super) partition: u32,
    pub(super) code: Code,
    /// Where its log ends since another leader took over, if that is before what was asked for.
    pub(super) diverges_at: Option<i64>,
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) records: Bytes,
}

impl FetchAnswer {
    /// Read the body of an answer.
    ///
    /// # Errors
    /// It ends early, or has bytes left over.
    pub(crate) fn read(body: Bytes, version: i16) -> Result<Self, String> {
        let mut reader = Reader { bytes: body, flexible: version >= FLEXIBLE };
        let answer = reader.answer(version).ok_or("the fetch answer ends early")?;
        if reader.bytes.is_empty() { Ok(answer) } else { Err("the fetch answer has bytes left over".to_owned()) }
    }
}

struct Reader {
    bytes: Bytes,
    flexible: bool,
}

impl Reader {
    fn answer(&mut self, version: i16) -> Option<FetchAnswer> {
        let throttle = Duration::from_millis(u64::try_from(self.int32()?).unwrap_or(0));
        let (mut code, mut session) = (Code::NONE, 0);
        if version >= SESSIONS {
            (code, session) = (Code(self.int16()?), self.int32()?);
        }
        let mut partitions = Vec::new();
        for _ in 0..self.count()? {
            let topic = if version >= TOPIC_IDS {
                TopicKey::Id(Uuid::from_u128(self.bytes.try_get_u128().ok()?))
            } else {
                let name = self.string()?;
                TopicKey::Name(std::str::from_utf8(&name).ok()?.into())
            };
            for _ in 0..self.count()? {
                partitions.push(self.partition(topic.clone(), version)?);
            }
            self.tags(|_, _| Some(()))?;
        }
        self.tags(|_, _| Some(()))?;
        Some(FetchAnswer { throttle, code, session, partitions })
    }

    fn partition(&mut self, topic: TopicKey, version: i16) -> Option<PartitionAnswer> {
        let partition = u32::try_from(self.int32()?).ok()?;
        let code = Code(self.int16()?);
        let _high_watermark = self.int64()?;
        let _last_stable_offset = self.int64()?;
        if version >= 5 {
            let _log_start = self.int64()?;
        }
        let mut aborted = Vec::new();
        for _ in 0..self.count()? {
            aborted.push(AbortedTransaction { producer_id: self.int64()?, first_offset: self.int64()? });
            self.tags(|_, _| Some(()))?;
        }
        if version >= 11 {
            let _preferred_replica = self.int32()?;
        }
        let records = self.records()?;
        let mut diverges_at = None;
        self.tags(|tag, mut field| {
            if tag == DIVERGING_EPOCH {
                let _epoch = field.try_get_i32().ok()?;
                diverges_at = Some(field.try_get_i64().ok()?).filter(|end| *end >= 0);
            }
            Some(())
        })?;
        Some(PartitionAnswer { topic, partition, code, diverges_at, aborted, records })
    }

    fn int16(&mut self) -> Option<i16> {
        self.bytes.try_get_i16().ok()
    }

    fn int32(&mut self) -> Option<i32> {
        self.bytes.try_get_i32().ok()
    }

    fn int64(&mut self) -> Option<i64> {
        self.bytes.try_get_i64().ok()
    }

    /// The number of entries of an array. Null is none.
    fn count(&mut self) -> Option<u32> {
        if self.flexible {
            return Some(self.varint()?.saturating_sub(1));
        }
        Some(u32::try_from(self.int32()?).unwrap_or(0))
    }

    fn string(&mut self) -> Option<Bytes> {
        let length = if self.flexible { self.varint()?.checked_sub(1)? } else { u32::try_from(self.int16()?).ok()? };
        self.take(length)
    }

    /// Null is nothing.
    fn records(&mut self) -> Option<Bytes> {
        let length = self.count()?;
        self.take(length)
    }

    fn take(&mut self, length: u32) -> Option<Bytes> {
        let length = length as usize;
        (length <= self.bytes.len()).then(|| self.bytes.split_to(length))
    }

    fn varint(&mut self) -> Option<u32> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.bytes.try_get_u8().ok()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return u32::try_from(value).ok();
            }
        }
        None
    }

    /// Tagged fields, each shown to `visit` with its number.
    fn tags(&mut self, mut visit: impl FnMut(u32, Bytes) -> Option<()>) -> Option<()> {
        if !self.flexible {
            return Some(());
        }
        for _ in 0..self.varint()? {
            let tag = self.varint()?;
            let length = self.varint()?;
            visit(tag, self.take(length)?)?;
        }
        Some(())
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
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

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
            let answer = FetchAnswer::read(encoded(version), version).expect("sound");
            assert_eq!(answer.throttle, Duration::from_millis(5), "version {version}");
            assert_eq!((answer.code, answer.session), (Code::NONE, if version >= SESSIONS { 9 } else { 0 }));
            let [first, second] = &answer.partitions[..] else { panic!("two partitions") };
            let key =
                if version >= TOPIC_IDS { TopicKey::Id(Uuid::from_u128(42)) } else { TopicKey::Name("orders".into()) };
            assert_eq!((&first.topic, first.partition, first.code), (&key, 7, Code(6)));
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
                FetchAnswer::read(whole.slice(..length), version).expect_err("cut");
            }
        }
    }

    #[test]
    fn counts_that_are_not_true_allocate_nothing() {
        let mut bytes = vec![0; 10];
        bytes.extend(i32::MAX.to_be_bytes());
        FetchAnswer::read(bytes.into(), 11).expect_err("no topic is there");
        let mut bytes = vec![0; 10];
        bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
        FetchAnswer::read(bytes.into(), 17).expect_err("no topic is there");
    }

    proptest! {
        #[test]
        fn any_bytes_give_an_answer_or_an_error(
            version in 4_i16..=17,
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
        ) {
            let _any = FetchAnswer::read(Bytes::from(bytes.clone()), version);
            let mut damaged = encoded(version).to_vec();
            let at = at.index(damaged.len());
            for (place, byte) in damaged[at..].iter_mut().zip(bytes) {
                *place = byte;
            }
            let _any = FetchAnswer::read(damaged.into(), version);
        }
    }
}
