//! Dead letters of a link: the records that it has put aside, with what was wrong with each.

use std::time::Duration;

use axum::extract::State;
use schemars::JsonSchema;
use serde::Deserialize;

use super::control::{ControlError, ControlPlane, ErrorKind, Read};
use super::error::ApiError;
use super::in_time::WAIT_MS_MAX;
use super::reply::Page;
use super::server::{Api, Params, Segments};
use super::wire::{Letter, PartitionStatus, ReadFrom, Record};
use crate::model::{Batch, RecordRef, TopicPartition};

/// The letters of an answer unless it is said otherwise, and at most.
const LIMIT: usize = 100;
const LIMIT_MAX: usize = 1000;

/// The most bytes of records of an answer, but for the last: letters may be large.
const BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParams {
    /// Where to begin: a partition of the topic of dead letters. 0 without it.
    partition: Option<u32>,
    /// Where to begin in that partition; at its beginning without it.
    #[schemars(range(min = 0))]
    offset: Option<i64>,
    /// At most so many; 100 without it.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    limit: Option<usize>,
    /// How long to wait for a cluster that does not answer, in milliseconds; half a second without it.
    #[schemars(range(max = WAIT_MS_MAX))]
    #[expect(dead_code, reason = "what stands before the handler reads it")]
    wait_ms: Option<u64>,
}

/// Where a page begins.
#[derive(Clone, Copy)]
struct Start {
    partition: u32,
    offset: i64,
}

/// By partition and offset. Where there are more, the header `Link` says where the next ones are.
pub(super) async fn list(
    State(api): State<Api>,
    Segments(link): Segments<String>,
    Params(params): Params<ListParams>,
) -> Result<Page<Letter>, ApiError> {
    let limit = params.limit.unwrap_or(LIMIT);
    let (partition, offset) = (params.partition.unwrap_or(0), params.offset.unwrap_or(0));
    if !(1..=LIMIT_MAX).contains(&limit) || offset < 0 {
        let detail = format!("bad query: limit is a number from 1 to {LIMIT_MAX}, and offset one from 0 on");
        return Err(ApiError::malformed("bad-query", detail, "leave it out, and it begins at the first letter"));
    }
    let path = format!("/api/v1/replication/links/{link}/dead-letters");
    let (items, next) = api.ask(move |control| letters(control, &link, Start { partition, offset }, limit)).await?;
    let next = next.map(|at| format!("{path}?partition={}&offset={}&limit={limit}", at.partition, at.offset));
    Ok(Page { items, next })
}

/// So many letters from a place on, and where the next ones are.
fn letters(
    control: &dyn ControlPlane,
    link: &str,
    start: Start,
    limit: usize,
) -> Result<(Vec<Letter>, Option<Start>), ControlError> {
    let link = control.link(link)?;
    let topic = match control.topic(&link.target, &link.dead_letters) {
        Ok(topic) => topic,
        // As long as nothing was put aside, the topic need not be there.
        Err(error) if error.kind == ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(error),
    };
    let mut found = Found { link: &link.id, letters: Vec::new(), limit, bytes: BYTES_MAX };
    for range in topic.partitions.iter().filter(|range| range.partition >= start.partition) {
        let first = if range.partition == start.partition { start.offset } else { 0 };
        let partition = TopicPartition::new(link.dead_letters.as_str(), range.partition);
        if let Some(offset) = found.read(control, &link.target, &partition, range, first)? {
            return Ok((found.letters, Some(Start { partition: range.partition, offset })));
        }
    }
    Ok((found.letters, None))
}

/// The letters of a page.
struct Found<'l> {
    link: &'l str,
    letters: Vec<Letter>,
    /// How many more there may be.
    limit: usize,
    /// How many bytes more may be read, also of other links in the same topic: a request has an end.
    bytes: usize,
}

impl Found<'_> {
    /// Read a partition to its end; or to where the page is full, which is answered.
    fn read(
        &mut self,
        control: &dyn ControlPlane,
        cluster: &str,
        partition: &TopicPartition,
        range: &PartitionStatus,
        first: i64,
    ) -> Result<Option<i64>, ControlError> {
        let mut next = first.max(range.log_start);
        while next < range.end {
            if self.limit == 0 || self.bytes == 0 {
                return Ok(Some(next));
            }
            let from = ReadFrom::Offset(next);
            let read = Read { from, records_max: self.limit, bytes_max: self.bytes, wait: Duration::ZERO };
            let answer = control.read(cluster, partition, read)?;
            self.take(partition, answer.batch.as_ref());
            // A page without progress before the end means that the end is not there any more.
            next = if answer.next_offset > next { answer.next_offset } else { range.end };
        }
        Ok(None)
    }

    fn take(&mut self, partition: &TopicPartition, batch: Option<&Batch>) {
        for record in batch.iter().flat_map(|batch| batch.records()) {
            let record = owned(partition, record);
            let bytes = [&record.key, &record.value].into_iter().flatten().map(Vec::len).sum::<usize>();
            self.bytes = self.bytes.saturating_sub(bytes);
            let letter = Letter::new(record);
            if letter.may_be_of(self.link) {
                self.limit = self.limit.saturating_sub(1);
                self.letters.push(letter);
            }
        }
    }
}

fn owned(partition: &TopicPartition, record: RecordRef<'_>) -> Record {
    Record {
        topic: Some(partition.topic.to_string()),
        partition: Some(partition.partition),
        offset: Some(record.offset()),
        timestamp: Some(record.timestamp()),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(Into::into).collect(),
    }
}
