//! Which records go on.

use crate::config::Patterns;
use crate::model::{Batch, Condition, FilterSpec, RecordRef};

/// A filter with compiled expressions.
#[derive(Debug)]
pub(super) struct Filter {
    spec: FilterSpec,
    include: Option<Patterns>,
    exclude: Option<Patterns>,
}

impl Filter {
    pub(super) fn new(spec: &FilterSpec) -> Result<Self, String> {
        let compiled = |expressions: &[String]| {
            (!expressions.is_empty()).then(|| Patterns::compile(expressions.iter().map(String::as_str))).transpose()
        };
        let (include, exclude) = (compiled(&spec.include_patterns)?, compiled(&spec.exclude_patterns)?);
        Ok(Self { spec: spec.clone(), include, exclude })
    }

    /// Drop the records that do not pass. How many.
    pub(super) fn apply(&self, batch: &mut Batch) -> u64 {
        let keep: Vec<u8> = batch.records().map(|record| u8::from(self.passes(record))).collect();
        batch.retain(&keep);
        (keep.len() - batch.len()) as u64
    }

    /// What costs least is asked first.
    fn passes(&self, record: RecordRef<'_>) -> bool {
        let spec = &self.spec;
        spec.min_timestamp.is_none_or(|min| record.timestamp() >= min)
            && (spec.key_prefix.is_empty() || begins(record, &spec.key_prefix))
            && spec.filter_by_header.iter().all(|(name, value)| has(record, name, Some(value)))
            && spec.condition.as_ref().is_none_or(|condition| holds(condition, record))
            && !self.exclude.as_ref().is_some_and(|patterns| is_in(patterns, record))
            && self.is_included(record)
    }

    /// A tombstone has no value that could match. It passes, or a key whose records pass because of their values would never be
    /// deleted at the target.
    fn is_included(&self, record: RecordRef<'_>) -> bool {
        let Some(patterns) = &self.include else { return true };
        record.value().is_none() || is_in(patterns, record)
    }
}

fn is_in(patterns: &Patterns, record: RecordRef<'_>) -> bool {
    let matches = |part: Option<&[u8]>| part.is_some_and(|part| patterns.matches(part));
    matches(record.key()) || matches(record.value())
}

fn begins(record: RecordRef<'_>, prefixes: &[String]) -> bool {
    record.key().is_some_and(|key| prefixes.iter().any(|prefix| key.starts_with(prefix.as_bytes())))
}

/// Whether there is a header of this name, and the last one has this value.
fn has(record: RecordRef<'_>, name: &str, value: Option<&String>) -> bool {
    let Some(header) = record.last_header(name.as_bytes()) else { return false };
    value.is_none_or(|value| header.value == Some(value.as_bytes()))
}

fn holds(condition: &Condition, record: RecordRef<'_>) -> bool {
    match condition {
        Condition::And { and } => and.iter().all(|condition| holds(condition, record)),
        Condition::Or { or } => or.iter().any(|condition| holds(condition, record)),
        Condition::Not { not } => !holds(not, record),
        Condition::KeyPrefix { key_prefix } => begins(record, key_prefix),
        Condition::Header { header, equals } => has(record, header, equals.as_ref()),
    }
}
