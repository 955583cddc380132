//! What a lane does and how long it takes, as spans: a transaction, the batches in it, what each stage does with them, and the commit. And what is rare and takes
//! longer: a component that is published, a failover with its steps.
//!
//! Nobody wants them unless the configuration says so, and then they cost a look at a flag each. They have a target of their own, by which the log leaves
//! them out.

use tracing::{Span, field, info_span};

use super::status::Tally;
use crate::config::LinkConfig;
use crate::model::{RevisionNumber, TopicPartition};

/// The target of all spans that are made to be collected.
pub const TARGET: &str = "tidegate::trace";

/// What a lane writes and commits as one.
pub(super) fn transaction(link: &LinkConfig, lane: u32, revision: RevisionNumber) -> Span {
    info_span!(
        target: TARGET,
        parent: None,
        "transaction",
        link = &*link.id,
        source = &*link.source,
        target = &*link.target,
        lane,
        revision = revision.0,
        records_in = field::Empty,
        records_out = field::Empty,
        bytes_out = field::Empty,
    )
}

/// What came of it.
pub(super) fn note_tally(transaction: &Span, tally: &Tally) {
    transaction.record("records_in", tally.records_in);
    transaction.record("records_out", tally.records_out);
    transaction.record("bytes_out", tally.bytes_out);
}

/// A batch that goes through the pipeline and into the sink.
pub(super) fn batch(transaction: &Span, partition: &TopicPartition, records: usize) -> Span {
    let TopicPartition { topic, partition } = partition;
    info_span!(target: TARGET, parent: transaction, "batch", topic = &**topic, partition, records)
}

/// A stage that is given records.
pub(super) fn stage(name: &str, records: usize) -> Span {
    info_span!(target: TARGET, "stage", stage = name, records)
}

/// From the beginning of a commit until the target has confirmed it.
pub(super) fn commit(transaction: &Span) -> Span {
    info_span!(target: TARGET, parent: transaction, "commit")
}

/// A component that becomes part of a link, from its compilation until lanes run it.
pub(super) fn publish(link: &LinkConfig, stage: &str) -> Span {
    info_span!(target: TARGET, parent: None, "publish", link = &*link.id, stage)
}

/// The target takes the source's place.
pub(super) fn failover(link: &LinkConfig, by: &str) -> Span {
    info_span!(target: TARGET, parent: None, "failover", link = &*link.id, source = &*link.source, target = &*link.target, by)
}

/// A step of that.
pub(super) fn step(name: &'static str) -> Span {
    info_span!(target: TARGET, "step", step = name)
}
