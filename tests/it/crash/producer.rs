//! Fills the source while the daemon is killed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use serde_json::json;

use super::{BACKLOG, CHUNK, RETRY};
use crate::harness::{Client, Dice, Site};
use crate::oracle::ORIGIN;

/// Makes a record as a JSON line, of a seed, the partition and the record's number.
pub(super) type MakeRecord = fn(u64, u32, u64) -> String;

/// Fills the source, one thread a partition.
pub(super) struct Producer {
    client: Client,
    seed: u64,
    record: MakeRecord,
    /// Records for each partition in all.
    records: u64,
    /// How far each partition may be filled now.
    allowed: AtomicU64,
}

impl Producer {
    pub(super) fn new(site: &Site, seed: u64, record: MakeRecord, records: u64) -> Self {
        Self { client: site.client.clone(), seed, record, records, allowed: AtomicU64::new(BACKLOG) }
    }

    pub(super) fn allow(&self, records: u64) {
        self.allowed.store(records, Relaxed);
    }

    /// Append until everything is durable. After a kill the partition's end says whether the last chunk is.
    pub(super) fn run(&self, partition: u32) {
        let path = "/api/v1/clusters/east/topics/flow/records";
        let mut durable = 0;
        while durable < self.records {
            if durable >= self.allowed.load(Relaxed) {
                thread::sleep(RETRY);
                continue;
            }
            let body: Vec<String> =
                (durable..durable + CHUNK).map(|number| (self.record)(self.seed, partition, number)).collect();
            match self.client.post(path, body.join("\n")) {
                Ok(answer) if answer.status == 200 => durable += CHUNK,
                _ => durable = self.end(partition),
            }
        }
    }

    fn end(&self, partition: u32) -> u64 {
        loop {
            if let Ok(answer) = self.client.get("/api/v1/clusters/east/topics/flow")
                && answer.status == 200
            {
                return answer.json()["partitions"][partition as usize]["end"].as_u64().expect("an end");
            }
            thread::sleep(RETRY);
        }
    }
}

/// Records of many kinds: some without a key, some tombstones, headers that occur twice, bytes that are no text.
pub(super) fn record(seed: u64, partition: u32, number: u64) -> String {
    let mut dice = Dice::new(seed ^ (u64::from(partition) << 40) ^ number);
    let mut record = json!({
        "partition": partition,
        "timestamp": 1_700_000_000_000_u64 + dice.below(1_000_000),
        "headers": [
            [ORIGIN, partition.to_string()],
            ["twice", dice.below(10).to_string()],
            ["twice", number.to_string()],
            ["null", null],
            {"name": "raw", "value_base64": "/wD+"},
        ],
    });
    match dice.below(6) {
        0 => {}
        1 => record["key_base64"] = "gP8A".into(),
        _ => record["key"] = format!("k{}", dice.below(50)).into(),
    }
    if dice.below(10) > 0 {
        record["value"] = value(&mut dice, partition, number).into();
    }
    record.to_string()
}

fn value(dice: &mut Dice, partition: u32, number: u64) -> String {
    let card = |dice: &mut Dice| format!("{:016}", dice.below(1 << 30));
    let kind = ["order", "refund", "other"][dice.below(3) as usize];
    let own = card(dice);
    let (n, customer, count) = (dice.below(100), dice.below(40), dice.below(4));
    let lines: Vec<String> =
        (0..count).map(|line| format!(r#"{{"card":"{}","sku":"{partition}-{number}-{line}"}}"#, card(dice))).collect();
    let lines = lines.join(" ,");
    format!(
        r#"{{"card":"{own}","id":"{partition}-{number}","n":{n}, "type":"{kind}","customer":"c{customer}","lines":[{lines}]}}"#
    )
}
