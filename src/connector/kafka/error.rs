//! What brokers answer when something is wrong, in words.

use std::fmt;

use kafka_protocol::ResponseError;

use crate::connector::{Class, Error};
use crate::model::TopicPartition;

/// An error code of Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) i16);

impl Code {
    pub(super) const NONE: Self = Self(0);
    pub(super) const OFFSET_OUT_OF_RANGE: Self = Self(1);
    pub(super) const UNKNOWN_TOPIC_OR_PARTITION: Self = Self(3);
    pub(super) const NOT_LEADER: Self = Self(6);
    pub(super) const MESSAGE_TOO_LARGE: Self = Self(10);
    pub(super) const COORDINATOR_LOADING: Self = Self(14);
    pub(super) const COORDINATOR_NOT_AVAILABLE: Self = Self(15);
    pub(super) const NOT_COORDINATOR: Self = Self(16);
    pub(super) const TOPIC_AUTHORIZATION_FAILED: Self = Self(29);
    pub(super) const TOPIC_EXISTS: Self = Self(36);
    pub(super) const OUT_OF_ORDER_SEQUENCE: Self = Self(45);
    pub(super) const INVALID_PRODUCER_EPOCH: Self = Self(47);
    pub(super) const CONCURRENT_TRANSACTIONS: Self = Self(51);
    pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self = Self(53);
    pub(super) const FETCH_SESSION_NOT_FOUND: Self = Self(70);
    pub(super) const INVALID_FETCH_SESSION_EPOCH: Self = Self(71);
    pub(super) const PRODUCER_FENCED: Self = Self(90);
    pub(super) const FETCH_SESSION_TOPIC_ID_ERROR: Self = Self(106);

    /// The error of a lane, when `what` was answered with this code.
    pub(super) fn error(self, what: &str) -> Error {
        let (class, code, remedy) = match self {
            Self::TOPIC_AUTHORIZATION_FAILED => (Class::Reopen, "topic-not-authorized", "grant the ACL that is named"),
            Self::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
                (Class::Reopen, "transactional-id-not-authorized", "grant the ACL that is named")
            }
            Self::INVALID_PRODUCER_EPOCH | Self::PRODUCER_FENCED => (
                Class::Fenced,
                "fenced",
                "look whether another daemon runs the same link; if none does, it heals by itself",
            ),
            _ => (Class::Reopen, "broker-error", "look at the broker's log if it does not go away"),
        };
        Error { class, code, message: format!("{what}: {self}"), remedy }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ResponseError::try_from_code(self.0) {
            Some(error) => write!(f, "{error} (code {})", self.0),
            None => write!(f, "no error"),
        }
    }
}

fn again(code: &'static str, message: String, remedy: &'static str) -> Error {
    Error { class: Class::Reopen, code, message, remedy }
}

pub(super) fn unknown_topic(topic: &str) -> Error {
    again(
        "unknown-topic",
        format!("there is no topic {topic}, or we may not see it"),
        "make it, or grant Describe on it",
    )
}

pub(super) fn unknown_partition(partition: &TopicPartition, count: usize) -> Error {
    again(
        "unknown-partition",
        format!("there is no partition {partition}: the topic has {count}"),
        "give the topic more partitions",
    )
}

pub(super) fn no_leader(partition: &TopicPartition) -> Error {
    again("no-leader", format!("no broker leads {partition} now"), "start the brokers that have its replicas")
}

pub(super) fn broker_gone(broker: i32) -> Error {
    again("broker-gone", format!("broker {broker} is not part of the cluster now"), "start it")
}

pub(super) fn no_brokers() -> Error {
    again("no-brokers", "the cluster has no broker to ask".to_owned(), "name some in `brokers`")
}
