//! Records in a topic: produce and read.

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::control::{ControlPlane, READ_WAIT_MAX, Read, ReadAnswer};
use super::error::ApiError;
use super::produce::{Placing, divide};
use super::reply::{Answer, Written};
use super::server::{Api, Body, ManyRecords, Params, Segments};
use super::wire::{Appended, ProduceAnswer, ReadFrom, RecordView, Records, Time};
use crate::model::{Batch, TopicPartition};

/// What a read takes unless it says otherwise: enough for a good rate, little enough for a quick answer.
const RECORDS_DEFAULT: usize = 500;
const BYTES_DEFAULT: usize = 1024 * 1024;

/// The largest answer. JSON may be several times as large as the records in it.
const RECORDS_MAX: usize = 10_000;
const BYTES_MAX: usize = 8 * 1024 * 1024;

/// The longest wait. A proxy in between may give up on a longer one.
const WAIT_MS_MAX: u64 = 30_000;

pub(super) async fn produce(
    State(api): State<Api>,
    Segments((cluster, topic)): Segments<(String, String)>,
    Body(body, _): Body<ManyRecords>,
) -> Answer<ProduceAnswer> {
    let keyless = api.keyless_turn();
    api.work(move |control| {
        let partitions = control.partition_count(&cluster, &topic)?;
        let placing = Placing { topic: &topic, partitions, keyless, now: Time::now() };
        let batches = divide(&body, &placing).map_err(|error| {
            ApiError::malformed("bad-record", error.to_string(), "nothing was written: correct it and send all again")
        })?;
        drop(body);
        append(control, &cluster, &batches)
    })
    .await
    .map(Json)
}

fn append(control: &dyn ControlPlane, cluster: &str, batches: &[Batch]) -> Result<ProduceAnswer, ApiError> {
    let mut answer = ProduceAnswer::default();
    for batch in batches {
        let partition = TopicPartition::new(batch.topic.clone(), batch.partition);
        let first_offset = control
            .append(cluster, &partition, batch)
            .map_err(|error| ApiError::from(error).after(std::mem::take(&mut answer.partitions)))?;
        let records = batch.len() as u64;
        answer.records += records;
        answer.partitions.push(Appended { partition: batch.partition, first_offset, records });
    }
    Ok(answer)
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadParams {
    /// The partition.
    partition: u32,
    /// Where to begin: an offset, `earliest` or `latest`. Without it, `earliest`.
    #[schemars(regex(pattern = "^(earliest|latest|[0-9]{1,18})$"))]
    offset: Option<String>,
    /// At most so many records; 500 without it.
    #[schemars(range(min = 1, max = RECORDS_MAX))]
    max_records: Option<usize>,
    /// About so many bytes of records; 1 MiB without it. One record is read even if it is larger.
    #[schemars(range(min = 1, max = BYTES_MAX))]
    max_bytes: Option<usize>,
    /// How long to wait for a record if there is none, in milliseconds; not at all without it. A cluster that does not answer is waited for as long, and for
    /// half a second without it.
    #[schemars(range(max = WAIT_MS_MAX))]
    wait_ms: Option<u64>,
}

pub(super) async fn read(
    State(api): State<Api>,
    Segments((cluster, topic)): Segments<(String, String)>,
    Params(params): Params<ReadParams>,
) -> Result<Written<Records>, ApiError> {
    let read = Read {
        from: from(params.offset.as_deref())?,
        records_max: within("max_records", params.max_records, RECORDS_DEFAULT, 1, RECORDS_MAX)?,
        bytes_max: within("max_bytes", params.max_bytes, BYTES_DEFAULT, 1, BYTES_MAX)?,
        wait: Duration::from_millis(within("wait_ms", params.wait_ms, 0, 0, WAIT_MS_MAX)?),
    };
    let partition = TopicPartition::new(topic, params.partition);
    wait_and_read(&api, cluster, partition, read).await.map(Written::new)
}

fn from(offset: Option<&str>) -> Result<ReadFrom, ApiError> {
    offset.map_or(Ok(ReadFrom::Earliest), |text| {
        text.parse().map_err(|error| ApiError::malformed("bad-query", format!("offset is {error}"), ""))
    })
}

fn within<T: PartialOrd + std::fmt::Display>(
    name: &str,
    value: Option<T>,
    default: T,
    min: T,
    max: T,
) -> Result<T, ApiError> {
    let value = value.unwrap_or(default);
    if value < min || value > max {
        let detail = format!("{name} is {value}, and must be from {min} to {max}");
        return Err(ApiError::malformed("bad-query", detail, "ask several times for more"));
    }
    Ok(value)
}

/// Read, in short waits, until there is a record, the time is over, or the server ends. When the client goes away, this
/// future is dropped and no further wait begins.
async fn wait_and_read(
    api: &Api,
    cluster: String,
    partition: TopicPartition,
    mut read: Read,
) -> Result<Vec<u8>, ApiError> {
    let deadline = Instant::now() + read.wait;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        read.wait = left.min(READ_WAIT_MAX);
        let (cluster, place) = (cluster.clone(), partition.clone());
        let (page, answer) = api
            .work(move |control| {
                let answer = control.read(&cluster, &place, read)?;
                // JSON is made here, on a thread that may be busy for a while.
                Ok((page(&place, &answer)?, answer))
            })
            .await?;
        if answer.batch.is_some_and(|batch| !batch.is_empty()) || left <= READ_WAIT_MAX || api.ending() {
            return Ok(page);
        }
        // What comes between two waits must not be missed, so `latest` is an offset from now on.
        read.from = ReadFrom::Offset(answer.next_offset);
    }
}

/// The answer to a read, on the writing side.
#[derive(Serialize)]
struct Page<'a> {
    records: Vec<RecordView<'a>>,
    next_offset: i64,
    log_start: i64,
    end: i64,
}

fn page(partition: &TopicPartition, answer: &ReadAnswer) -> Result<Vec<u8>, ApiError> {
    let view = |record| RecordView { topic: &partition.topic, partition: partition.partition, record };
    let records = answer.batch.iter().flat_map(Batch::records).map(view).collect();
    let ReadAnswer { next_offset, log_start, end, .. } = *answer;
    serde_json::to_vec(&Page { records, next_offset, log_start, end }).map_err(|error| {
        ApiError::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string(), "")
    })
}
