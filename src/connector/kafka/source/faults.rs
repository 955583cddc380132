//! What an error code of a fetch means for a lane, and what the lane is told.

use std::time::Duration;

use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::records;
use crate::connector::{Class, Error, HANGING_TRANSACTION, PartitionRange};
use crate::model::TopicPartition;

const LOST: &str = "restore the source, or copy into a new link with another target topic";

/// The error that a broker does not let us have a partition. Most go away where the partition is led, which is found out then: 3,
/// 5, 6, 9, 56, 74, 75, 78, 100, 103.
pub(super) fn not_fetched(partition: &TopicPartition, code: Code) -> Error {
    let error = code.error(&format!("a fetch of {partition}"));
    match code {
        Code::TOPIC_AUTHORIZATION_FAILED => Error {
            class: Class::Fatal,
            message: format!("we may not read {partition}: the ACL that is missing is Read on its topic"),
            ..error
        },
        _ => error,
    }
}

/// The error that so many brokers are being connected to that this one has to wait.
pub(super) fn too_many_at_once(node: i32) -> Error {
    Error {
        class: Class::Reopen,
        code: "brokers-not-connected",
        message: format!("broker {node} is not connected to yet: too many others are being connected to"),
        remedy: "see whether the cluster's brokers answer; it is tried again",
    }
}

/// Whether a fetch session has to be made anew.
pub(super) fn is_session_lost(code: Code) -> bool {
    [Code::FETCH_SESSION_NOT_FOUND, Code::INVALID_FETCH_SESSION_EPOCH, Code::FETCH_SESSION_TOPIC_ID_ERROR]
        .contains(&code)
}

/// What it means that nothing is at `offset`: `None` if there is by now.
pub(super) fn out_of_range(
    partition: &TopicPartition,
    offset: i64,
    has_read: bool,
    range: PartitionRange,
) -> Option<Error> {
    let PartitionRange { log_start, end } = range;
    let (code, message) = if offset < log_start {
        ("data-lost", format!("{partition}: records {offset} to {} are gone from the source", log_start - 1))
    } else if offset <= end {
        return None;
    } else if has_read {
        ("source-truncated", format!("{partition} ends at {end}, and records up to {} were read", offset - 1))
    } else {
        ("offset-beyond-end", format!("{partition} ends at offset {end}, before offset {offset}"))
    };
    Some(fatal(code, message, LOST))
}

/// The log was cut at `end` by a leader that had less of it, and went on differently.
pub(super) fn diverged(partition: &TopicPartition, offset: i64, end: i64) -> Error {
    let message =
        format!("{partition}: records {end} to {} were read, and a new leader does not have them", offset - 1);
    fatal("source-truncated", message, LOST)
}

pub(super) fn recreated(partition: &TopicPartition) -> Error {
    let message = format!("the source topic of {partition} was deleted and made again");
    fatal("source-recreated", message, "copy into a new link with another target topic")
}

/// A broker answers with something else than record batches.
pub(super) fn no_batch(partition: &TopicPartition, why: &records::Error) -> Error {
    let error = error::undecodable(partition, why);
    match why {
        // It may have been damaged on its way.
        records::Error::Corrupt { .. } => Error { class: Class::Reopen, ..error },
        _ => error,
    }
}

/// Records wait for a transaction that does not end.
pub(super) fn open_transaction(partition: &TopicPartition, from: i64, to: i64, age: Duration) -> Error {
    let last = to - 1;
    let message = format!(
        "{partition}: records {from} to {last} wait for a transaction that begins at offset {from} and has been open for more than {} min",
        age.as_secs() / 60
    );
    let remedy = "have its producer end it; if there is none any more, find it with `kafka-transactions.sh find-hanging` and end it with `kafka-transactions.sh abort`";
    Error { class: Class::Reopen, code: HANGING_TRANSACTION, message, remedy }
}

/// A broker answers again and again with what has been read.
pub(super) fn no_progress(partition: &TopicPartition, offset: i64) -> Error {
    let message = format!("the broker has nothing at offset {offset} of {partition} but what is before it");
    Error { class: Class::Reopen, code: "malformed-answer", message, remedy: "look at the broker's log" }
}

fn fatal(code: &'static str, message: String, remedy: &'static str) -> Error {
    Error { class: Class::Fatal, code, message, remedy }
}
