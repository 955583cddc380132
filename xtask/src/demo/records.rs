//! The demo's records: made from their number alone, so that the check can make them again.

use serde_json::json;

/// How many.
pub(super) const RECORDS: u64 = 1_000_000;

/// The partitions of the source topic.
pub(super) const PARTITIONS: u32 = 4;

/// Records of a request. More of them make fewer commits, and use more memory.
const CHUNK: u64 = 25_000;

/// Lines for one request.
pub(super) struct Chunk {
    pub(super) lines: String,
    pub(super) records: u64,
}

/// All records, as lines for the API.
pub(super) fn chunks() -> impl Iterator<Item = Chunk> {
    (0..RECORDS).step_by(CHUNK as usize).map(|first| {
        let numbers = first..RECORDS.min(first + CHUNK);
        let records = numbers.end - numbers.start;
        Chunk { lines: numbers.map(line).collect(), records }
    })
}

fn line(number: u64) -> String {
    // A number that looks random and is a function of the record: a multiplicative hash.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let value = format!(
        r#"{{"order":{number},"amount":{},"card":"4111{:012}","city":"Rotterdam"}}"#,
        mixed % 1000,
        mixed % 1_000_000_000_000
    );
    let record = json!({
        "key": format!("customer-{}", mixed % 5000),
        "value": value,
        "headers": [["source", "demo"]],
        "timestamp": 1_700_000_000_000_u64 + number,
    });
    format!("{record}\n")
}
