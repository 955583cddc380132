//! What an error code of a fetch means for a lane, and what the lane is told.

use crate::connector::kafka::error::Code;
use crate::connector::{Class, Error, PartitionRange};
use crate::model::TopicPartition;

/// The code of an error that goes away when a replica is back.
pub(super) const NO_LEADER: &str = "no-leader";

const LOST: &str = "restore the source, or copy into a new link with another target topic";

/// What a code that a fetch answer has for a partition means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The partition may have moved, or its broker has to catch up: ask who leads it, and go on there.
    Again,
    /// There is nothing at the offset: see what there is.
    OutOfRange,
    /// Only a person can help.
    Refused,
}

impl Meaning {
    pub(super) fn of(code: Code) -> Self {
        match code {
            Code::OFFSET_OUT_OF_RANGE => Self::OutOfRange,
            Code::TOPIC_AUTHORIZATION_FAILED => Self::Refused,
            // Known: 3, 5, 6, 9, 56, 74, 75, 78, 100, 103. An unknown one is tried again too, and named if it stays.
            _ => Self::Again,
        }
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

/// A partition could not be read for too long.
pub(super) fn unreadable(partition: &TopicPartition, why: &Error) -> Error {
    Error { message: format!("{partition} cannot be read: {why}"), ..why.clone() }
}

/// A broker answers again and again with what has been read.
pub(super) fn no_progress(partition: &TopicPartition, offset: i64) -> Error {
    let message = format!("the broker has nothing at offset {offset} of {partition} but what is before it");
    Error { class: Class::Reopen, code: "malformed-answer", message, remedy: "look at the broker's log" }
}

fn fatal(code: &'static str, message: String, remedy: &'static str) -> Error {
    Error { class: Class::Fatal, code, message, remedy }
}
