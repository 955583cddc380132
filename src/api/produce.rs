//! From the body of a produce request to a batch for each partition. No IO.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::wire::{Header, Record, Time};
use crate::model::json_error::without_values;
use crate::model::partition::partition_of_key;
use crate::model::{Batch, BatchBuilder, is_reserved_header};

/// What is wrong with a body, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadRecords(String);

/// Where the records of a request go.
pub(super) struct Placing<'a> {
    /// The topic.
    pub(super) topic: &'a str,
    /// How many partitions it has.
    pub(super) partitions: u32,
    /// Where records without a key and a partition go. All of a request go to one partition: a batch for each of
    /// them would be slower to write and to read.
    pub(super) keyless: u32,
    /// The timestamp of records that have none.
    pub(super) now: Time,
}

/// Decode a JSON array of records, or records as JSON lines, and put them into a batch for each partition, in their order.
/// Nothing is answered unless all of them are right.
pub(super) fn divide(body: &[u8], placing: &Placing<'_>) -> Result<Vec<Batch>, BadRecords> {
    let mut builders = BTreeMap::<u32, BatchBuilder>::new();
    let is_array = body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let mut add = |place: &str, number: usize, json: &[u8]| {
        place_record(json, placing, &mut builders).map_err(|error| BadRecords(format!("{place} {number}: {error}")))
    };
    if is_array {
        let records: Vec<Cow<'_, RawValue>> = serde_json::from_slice(body)
            .map_err(|error| BadRecords(format!("not a JSON array: {}", without_values(&error.to_string()))))?;
        for (index, json) in records.iter().enumerate() {
            add("record", index + 1, json.get().as_bytes())?;
        }
    } else {
        let lines = body.split(|byte| *byte == b'\n').enumerate();
        for (index, json) in lines.filter(|(_, json)| !json.trim_ascii().is_empty()) {
            add("line", index + 1, json)?;
        }
    }
    Ok(builders.into_iter().map(|(partition, builder)| builder.finish(placing.topic, partition)).collect())
}

fn place_record(json: &[u8], placing: &Placing<'_>, builders: &mut BTreeMap<u32, BatchBuilder>) -> Result<(), String> {
    let record: Record = serde_json::from_slice(json).map_err(|error| without_line(&error))?;
    let partition = partition_of(&record, placing)?;
    if let Some(header) = record.headers.iter().find(|header| is_reserved_header(&header.name)) {
        let name = String::from_utf8_lossy(&header.name);
        return Err(format!("the header {name:?} is reserved for Tidegate: leave it out"));
    }
    let headers = record.headers.iter().map(Header::view);
    let timestamp = record.timestamp.unwrap_or(placing.now.0);
    let builder = builders.entry(partition).or_default();
    // The cluster gives the offsets.
    builder.push(0, timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    Ok(())
}

fn partition_of(record: &Record, placing: &Placing<'_>) -> Result<u32, String> {
    match (record.partition, &record.key) {
        (Some(partition), _) if partition < placing.partitions => Ok(partition),
        (Some(partition), _) => {
            Err(format!("there is no partition {partition}: {} has {} from 0", placing.topic, placing.partitions))
        }
        (None, Some(key)) => Ok(partition_of_key(key, placing.partitions)),
        (None, None) => Ok(placing.keyless % placing.partitions.max(1)),
    }
}

/// The error without serde's own place: each record is read by itself, so the line is always 1.
fn without_line(error: &serde_json::Error) -> String {
    let text = without_values(&error.to_string());
    match text.rsplit_once(" at line 1 column ") {
        Some((what, column)) => format!("{what} (column {column})"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placing() -> Placing<'static> {
        Placing { topic: "t", partitions: 4, keyless: 6, now: Time(99) }
    }

    fn check(body: &str, expect: &[(u32, &[&str])]) {
        let batches = divide(body.as_bytes(), &placing()).expect(body);
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or(b"null")).into_owned();
        let found: Vec<(u32, Vec<String>)> = batches
            .iter()
            .map(|batch| (batch.partition, batch.records().map(|record| text(record.value())).collect()))
            .collect();
        let expect: Vec<(u32, Vec<String>)> =
            expect.iter().map(|(at, values)| (*at, values.iter().map(|value| (*value).to_owned()).collect())).collect();
        assert_eq!(found, expect, "{body}");
    }

    #[test]
    fn a_given_partition_wins_then_the_key_then_the_turn() {
        let key = "a-little-bit-longer-string";
        check(&format!(r#"[{{"key":"{key}","value":"a","partition":0}}]"#), &[(0, &["a"])]);
        check(&format!(r#"[{{"key":"{key}","value":"a"}}]"#), &[(3, &["a"])]);
        check(r#"[{"value":"a"},{"value":"b"}]"#, &[(2, &["a", "b"])]);
    }

    #[test]
    fn lines_and_arrays_say_the_same() {
        let records = [r#"{"value":"a"}"#, r#"{"value":"b","partition":1}"#, r#"{"value":"c"}"#, "{}"];
        let expect: &[(u32, &[&str])] = &[(1, &["b"]), (2, &["a", "c", "null"])];
        check(&format!(" [{}] ", records.join(", ")), expect);
        check(&records.join("\n"), expect);
        check(&format!("\n{}\r\n\n", records.join("\r\n")), expect);
    }

    #[test]
    fn nothing_is_no_record() {
        for body in ["", "\n", "[]"] {
            check(body, &[]);
        }
    }

    #[test]
    fn a_missing_timestamp_is_now() {
        let batches = divide(br#"[{},{"timestamp":5}]"#, &placing()).expect("records");
        assert_eq!(batches[0].timestamps, [99, 5]);
    }

    #[test]
    fn a_wrong_record_is_named_by_its_place() {
        for (body, expect) in [
            ("{}\n\n{\"value\":1}", "line 3: invalid type: a number, expected a string (column 10)"),
            ("[{}, 5]", "record 2: invalid type: a number"),
            ("{}\nnonsense", "line 2: expected ident"),
            ("[{}", "not a JSON array: EOF while parsing"),
            (r#"{"partition":4}"#, "line 1: there is no partition 4: t has 4 from 0"),
            (
                r#"{"headers":[["tag","x"],["tidegate.via","east"]]}"#,
                "line 1: the header \"tidegate.via\" is reserved for Tidegate: leave it out",
            ),
        ] {
            let BadRecords(error) = divide(body.as_bytes(), &placing()).expect_err(body);
            assert!(error.starts_with(expect), "{body}: {error}");
        }
    }
}
