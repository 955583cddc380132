//! What brokers answer when something is wrong, in words.

use std::fmt;
use std::time::Duration;

use kafka_protocol::ResponseError;

use super::records;
use crate::background::Unfinished;
use crate::connector::{Acl, Class, Error, LaneSettings};
use crate::model::TopicPartition;

/// An error code of Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) i16);

impl Code {
    pub(super) const NONE: Self = Self(0);
    pub(super) const OFFSET_OUT_OF_RANGE: Self = Self::of(ResponseError::OffsetOutOfRange);
    pub(super) const UNKNOWN_TOPIC_OR_PARTITION: Self = Self::of(ResponseError::UnknownTopicOrPartition);
    pub(super) const MESSAGE_TOO_LARGE: Self = Self::of(ResponseError::MessageTooLarge);
    pub(super) const RECORD_LIST_TOO_LARGE: Self = Self::of(ResponseError::RecordListTooLarge);
    pub(super) const LEADER_NOT_AVAILABLE: Self = Self::of(ResponseError::LeaderNotAvailable);
    pub(super) const NOT_LEADER_OR_FOLLOWER: Self = Self::of(ResponseError::NotLeaderOrFollower);
    pub(super) const REPLICA_NOT_AVAILABLE: Self = Self::of(ResponseError::ReplicaNotAvailable);
    pub(super) const INVALID_TIMESTAMP: Self = Self::of(ResponseError::InvalidTimestamp);
    pub(super) const INVALID_RECORD: Self = Self::of(ResponseError::InvalidRecord);
    pub(super) const COORDINATOR_LOADING: Self = Self::of(ResponseError::CoordinatorLoadInProgress);
    pub(super) const COORDINATOR_NOT_AVAILABLE: Self = Self::of(ResponseError::CoordinatorNotAvailable);
    pub(super) const NOT_COORDINATOR: Self = Self::of(ResponseError::NotCoordinator);
    pub(super) const ILLEGAL_GENERATION: Self = Self::of(ResponseError::IllegalGeneration);
    pub(super) const INCONSISTENT_GROUP_PROTOCOL: Self = Self::of(ResponseError::InconsistentGroupProtocol);
    pub(super) const UNKNOWN_MEMBER_ID: Self = Self::of(ResponseError::UnknownMemberId);
    pub(super) const REBALANCE_IN_PROGRESS: Self = Self::of(ResponseError::RebalanceInProgress);
    pub(super) const TOPIC_AUTHORIZATION_FAILED: Self = Self::of(ResponseError::TopicAuthorizationFailed);
    pub(super) const GROUP_AUTHORIZATION_FAILED: Self = Self::of(ResponseError::GroupAuthorizationFailed);
    pub(super) const CLUSTER_AUTHORIZATION_FAILED: Self = Self::of(ResponseError::ClusterAuthorizationFailed);
    pub(super) const TOPIC_EXISTS: Self = Self::of(ResponseError::TopicAlreadyExists);
    pub(super) const INVALID_PARTITIONS: Self = Self::of(ResponseError::InvalidPartitions);
    pub(super) const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self::of(ResponseError::OutOfOrderSequenceNumber);
    pub(super) const POLICY_VIOLATION: Self = Self::of(ResponseError::PolicyViolation);
    pub(super) const INVALID_PRODUCER_EPOCH: Self = Self::of(ResponseError::InvalidProducerEpoch);
    pub(super) const INVALID_TXN_STATE: Self = Self::of(ResponseError::InvalidTxnState);
    pub(super) const CONCURRENT_TRANSACTIONS: Self = Self::of(ResponseError::ConcurrentTransactions);
    pub(super) const INVALID_TRANSACTION_TIMEOUT: Self = Self::of(ResponseError::InvalidTransactionTimeout);
    pub(super) const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self =
        Self::of(ResponseError::TransactionalIdAuthorizationFailed);
    pub(super) const SECURITY_DISABLED: Self = Self::of(ResponseError::SecurityDisabled);
    pub(super) const OPERATION_NOT_ATTEMPTED: Self = Self::of(ResponseError::OperationNotAttempted);
    pub(super) const STORAGE_ERROR: Self = Self::of(ResponseError::KafkaStorageError);
    pub(super) const FETCH_SESSION_NOT_FOUND: Self = Self::of(ResponseError::FetchSessionIdNotFound);
    pub(super) const INVALID_FETCH_SESSION_EPOCH: Self = Self::of(ResponseError::InvalidFetchSessionEpoch);
    pub(super) const FENCED_LEADER_EPOCH: Self = Self::of(ResponseError::FencedLeaderEpoch);
    pub(super) const UNKNOWN_LEADER_EPOCH: Self = Self::of(ResponseError::UnknownLeaderEpoch);
    pub(super) const OFFSET_NOT_AVAILABLE: Self = Self::of(ResponseError::OffsetNotAvailable);
    pub(super) const FENCED_INSTANCE_ID: Self = Self::of(ResponseError::FencedInstanceId);
    pub(super) const PRODUCER_FENCED: Self = Self::of(ResponseError::ProducerFenced);
    pub(super) const FETCH_SESSION_TOPIC_ID_ERROR: Self = Self::of(ResponseError::FetchSessionTopicIdError);

    const fn of(error: ResponseError) -> Self {
        Self(error.code())
    }

    /// Whether it is no error at all.
    pub(super) fn check(self) -> Result<(), Self> {
        if self.0 == 0 { Ok(()) } else { Err(self) }
    }

    /// Whether it goes away by itself in some seconds: a coordinator is moving, or still ends a transaction.
    pub(super) fn is_passing(self) -> bool {
        let moving = [Self::COORDINATOR_LOADING, Self::COORDINATOR_NOT_AVAILABLE, Self::NOT_COORDINATOR];
        self == Self::CONCURRENT_TRANSACTIONS || moving.contains(&self)
    }

    /// Whether it goes away by itself because a partition moves, or was just made: brokers learn that one after the other, and a new leader does not know at once how
    /// far the others are.
    pub(super) fn is_moving(self) -> bool {
        matches!(
            self,
            Self::UNKNOWN_TOPIC_OR_PARTITION
                | Self::LEADER_NOT_AVAILABLE
                | Self::NOT_LEADER_OR_FOLLOWER
                | Self::REPLICA_NOT_AVAILABLE
                | Self::STORAGE_ERROR
                | Self::OFFSET_NOT_AVAILABLE
                | Self::FENCED_LEADER_EPOCH
                | Self::UNKNOWN_LEADER_EPOCH
        )
    }

    /// Whether a record batch is too large for its topic.
    pub(super) fn is_too_large(self) -> bool {
        matches!(self, Self::MESSAGE_TOO_LARGE | Self::RECORD_LIST_TOO_LARGE)
    }

    /// The error of a lane, when `what` was answered with this code.
    pub(super) fn error(self, what: &str) -> Error {
        let (class, code, remedy) = match self {
            Self::TOPIC_AUTHORIZATION_FAILED => (Class::Reopen, "topic-not-authorized", "grant the ACL that is named"),
            Self::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => {
                (Class::Reopen, "transactional-id-not-authorized", "grant the ACL that is named")
            }
            // The last one: the transaction has been ended by somebody else.
            Self::INVALID_PRODUCER_EPOCH | Self::PRODUCER_FENCED | Self::INVALID_TXN_STATE => (
                Class::Fenced,
                "contended",
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

/// What helps where a record batch will never be read.
const SKIP: &str = "skip the record batch: `tidegate link reset LINK --topic TOPIC --partition PARTITION --to OFFSET`, with the offset behind it";

/// The error that a leader does not say `what` was asked of a partition.
pub(super) fn not_said(what: &str, partition: &TopicPartition, code: Code) -> Error {
    let error = code.error(&format!("{what} of {partition}"));
    match code {
        Code::TOPIC_AUTHORIZATION_FAILED => Error {
            message: format!(
                "we may not ask for {what} of {partition}: the ACL that is missing is Describe on its topic"
            ),
            ..error
        },
        _ => error,
    }
}

/// The error that a broker has not answered by now.
pub(super) fn silent(broker: i32, waited: Duration) -> Error {
    let message = format!("broker {broker} has not answered for {} s", waited.as_secs());
    again("broker-timeout", message, "look at the broker and at the network")
}

/// Record batches that cannot be read, whoever reads them: that does not go away by itself.
pub(super) fn undecodable(partition: &TopicPartition, error: &records::Error) -> Error {
    let remedy = match error {
        records::Error::OldFormat { .. } => "copy the topic once with a client of Kafka 3",
        records::Error::UnknownCodec { .. } => "use a newer version of this daemon",
        records::Error::DecompressedTooLarge { .. } => SKIP,
        _ => "start the link again; if that does not help, check the broker's disk",
    };
    Error { class: Class::Fatal, code: error.code(), message: format!("{partition}: {error}"), remedy }
}

/// How much of what a broker says is shown, in characters.
const SAID_MAX: usize = 500;

/// What a broker says of an error, to put behind what failed: without line ends and other characters that change how a log reads.
fn said(message: Option<&str>) -> String {
    message.map(|said| format!(": {}", said.escape_debug().take(SAID_MAX).collect::<String>())).unwrap_or_default()
}

fn again(code: &'static str, message: String, remedy: &'static str) -> Error {
    Error { class: Class::Reopen, code, message, remedy }
}

/// The code of a record batch that a broker has refused for its size. The next try is another one: see [`limits`](super::limits).
pub(super) const BATCH_REFUSED: &str = "batch-refused";

/// The error that a broker does not take records.
pub(super) fn not_written(topic: &str, partition: u32, code: Code, message: Option<&str>) -> Error {
    let said = said(message);
    let error = code.error(&format!("writing to {topic}-{partition}{said}"));
    match code {
        Code::TOPIC_AUTHORIZATION_FAILED => Error {
            message: format!("we may not write to topic {topic}: the ACL that is missing is Write on it"),
            ..error
        },
        code if code.is_too_large() => Error {
            code: BATCH_REFUSED,
            remedy: "wait: smaller record batches follow, and a record that is refused alone becomes a dead letter. To avoid that, raise max.message.bytes of the topic, or set its compression.type to producer",
            ..error
        },
        Code::INVALID_RECORD | Code::INVALID_TIMESTAMP => Error {
            class: Class::Fatal,
            code: "record-refused",
            remedy: "change what the topic takes (a compacted one wants keys; message.timestamp.after.max.ms), or have a filter or plugin drop or mend the record; then start the link",
            ..error
        },
        _ => error,
    }
}

/// The error that a lane cannot take its transactional id.
pub(super) fn not_taken_over(id: &str, code: Code) -> Error {
    let error = code.error(&format!("taking over {id}"));
    match code {
        Code::TRANSACTIONAL_ID_AUTHORIZATION_FAILED => Error {
            message: format!("we may not use transactional id {id}: the ACL that is missing is Write on it"),
            ..error
        },
        Code::INVALID_TRANSACTION_TIMEOUT => Error {
            message: format!("the brokers let no transaction live as long as transaction_timeout_ms says ({id})"),
            remedy: "lower transaction_timeout_ms of the link, or raise transaction.max.timeout.ms of the brokers",
            ..error
        },
        _ => error,
    }
}

/// The error that a topic could not be made.
pub(super) fn not_created(topic: &str, code: Code, message: Option<&str>) -> Error {
    let said = said(message);
    let error = code.error(&format!("making topic {topic}{said}"));
    match code {
        Code::TOPIC_AUTHORIZATION_FAILED | Code::CLUSTER_AUTHORIZATION_FAILED => Error {
            message: format!(
                "we may not make topic {topic}: the ACL that is missing is Create on it or on the cluster"
            ),
            code: "topic-not-authorized",
            remedy: "grant the ACL that is named, or make the topic",
            ..error
        },
        _ => error,
    }
}

/// The error that a topic of the target has too few partitions and does not get more.
pub(super) fn not_widened(topic: &str, code: Code, message: Option<&str>) -> Error {
    let said = said(message);
    let (class, message) = match code {
        Code::TOPIC_AUTHORIZATION_FAILED | Code::CLUSTER_AUTHORIZATION_FAILED => {
            (Class::Fatal, "we may not give it more: the ACL that is missing is Alter on it".to_owned())
        }
        Code::POLICY_VIOLATION => (Class::Fatal, format!("a policy of the cluster forbids more{said}")),
        // Quotas, controllers that move, brokers that are down.
        code => (Class::Reopen, format!("it does not get more: {code}{said}")),
    };
    Error {
        class,
        code: "target-partitions",
        message: format!("{topic} has fewer partitions in the target than in the source, and {message}"),
        remedy: "grant Alter on the target topic, or give it as many partitions as the source has (kafka-topics.sh --alter); then start the link",
    }
}

/// The error that the settings of a topic could not be read.
pub(super) fn settings_not_read(topic: &str, code: Code) -> Error {
    not_administered(code, &format!("the settings of topic {topic}"), "DescribeConfigs on it")
}

/// The error that the settings of a topic could not be changed.
pub(super) fn settings_not_changed(topic: &str, code: Code, message: Option<&str>) -> Error {
    let said = said(message);
    not_administered(code, &format!("changing the settings of topic {topic}{said}"), "AlterConfigs on it")
}

/// The error that ACLs could not be read.
pub(super) fn acls_not_read(code: Code) -> Error {
    not_administered(code, "the ACLs on topics", "Describe on the cluster")
}

/// The error that an ACL could not be added.
pub(super) fn acl_not_added(acl: &Acl, code: Code, message: Option<&str>) -> Error {
    let said = said(message);
    not_administered(code, &format!("adding the ACL \"{acl}\"{said}"), "Alter on the cluster")
}

fn not_administered(code: Code, what: &str, missing: &str) -> Error {
    let error = code.error(what);
    match code {
        Code::TOPIC_AUTHORIZATION_FAILED | Code::CLUSTER_AUTHORIZATION_FAILED => Error {
            code: "topic-not-authorized",
            message: format!("{what}: we may not do that, the ACL that is missing is {missing}"),
            remedy: "grant the ACL that is named",
            ..error
        },
        _ => error,
    }
}

/// The error that groups could not be listed.
pub(super) fn groups_not_listed(code: Code) -> Error {
    match code {
        Code::CLUSTER_AUTHORIZATION_FAILED | Code::GROUP_AUTHORIZATION_FAILED => {
            group_refused("(any)", "Describe on the cluster, or", code)
        }
        code => code.error("listing consumer groups"),
    }
}

/// The error that a group's offsets could not be read or set, for which `operation` is needed.
pub(super) fn group_refused(group: &str, operation: &str, code: Code) -> Error {
    let error = code.error(&format!("the offsets of group {group}"));
    match code {
        Code::GROUP_AUTHORIZATION_FAILED | Code::CLUSTER_AUTHORIZATION_FAILED => Error {
            code: "group-not-authorized",
            message: format!("we may not use group {group}: the ACL that is missing is {operation} on it"),
            remedy: "grant the ACL that is named",
            ..error
        },
        Code::TOPIC_AUTHORIZATION_FAILED => Error {
            message: format!("we may not set offsets of group {group}: the ACL that is missing is Read on its topics"),
            ..error
        },
        _ => error,
    }
}

/// The error that records could not be encoded.
pub(super) fn not_encoded(error: records::Error) -> Error {
    let code = error.code();
    Error {
        class: Class::Fatal,
        code,
        message: error.to_string(),
        remedy: "do what the message says, then start the link",
    }
}

/// The error that a record of our own does not fit.
pub(super) fn own_record_too_large(topic: &str, bytes: usize) -> Error {
    Error {
        class: Class::Fatal,
        code: "record-too-large",
        message: format!("{topic} does not take a record of {bytes} bytes that has to go there"),
        remedy: "raise max.message.bytes of the topic, then start the link",
    }
}

/// The error that something that was done aside has come to nothing.
pub(super) fn not_done(what: &str, unfinished: &Unfinished) -> Error {
    Error { code: unfinished.code(), ..again("internal", format!("{what} {unfinished}"), "it is tried again") }
}

/// The error that a broker answered what was not asked.
pub(super) fn not_asked(request: &str) -> Error {
    again("malformed-answer", format!("the answer to {request} is about something else"), "look at the broker's log")
}

/// The error that what a broker says of a partition cannot be.
pub(super) fn impossible(partition: &TopicPartition, what: &str) -> Error {
    let message = format!("the broker says of {partition} what cannot be: {what}");
    again("malformed-answer", message, "check what is between here and the broker; it is tried again")
}

pub(super) fn not_open(lane: &LaneSettings) -> Error {
    again("not-open", format!("lane {} of link {} is not open", lane.lane, lane.link), "open the lane again")
}

pub(super) fn commit_under_way(lane: &LaneSettings) -> Error {
    let message = format!("lane {} of link {} has a commit under way", lane.lane, lane.link);
    again("commit-under-way", message, "finish the commit first")
}

pub(super) fn no_coordinator() -> Error {
    again("not-open", "there is no coordinator without transactions".to_owned(), "open the lane again")
}

pub(super) fn cannot_wait(error: std::io::Error) -> Error {
    again("connection-lost", format!("waiting for brokers: {error}"), "look at the system's limits")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_says_is_one_short_line() {
        let error = not_written("orders", 0, Code(87), Some("first\nsecond \u{1b}[31m\u{202e}"));
        assert!(error.message.contains("first") && error.message.contains("second"), "{error}");
        assert!(!error.message.contains(['\n', '\u{1b}', '\u{202e}']), "{error}");
        let error = not_created("orders", Code(87), Some(&"x".repeat(10_000)));
        assert!(error.message.len() < 1_000, "{}", error.message.len());
    }

    /// By their numbers: a name can be that of another one.
    #[test]
    fn what_brokers_answer_while_a_partition_moves_is_waited_for() {
        let moving: Vec<i16> = (-1..130).filter(|code| Code(*code).is_moving()).collect();
        assert_eq!(moving, [3, 5, 6, 9, 56, 74, 75, 78]);
        assert_eq!(Code::FENCED_INSTANCE_ID, Code(82));
    }
}
