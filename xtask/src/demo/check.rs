//! Every record of the source, what the plugins make of it, and what the target holds: one by one, in order.
//!
//! This knows nothing of the engine: it reads both topics and the history through the API and does the plugins' work itself.

use std::collections::BTreeMap;

use indicatif::ProgressBar;
use serde_json::Value;

use super::client::Client;
use super::records::PARTITIONS;
use crate::plugins::Result;

/// Faults that are shown; more of them say nothing more.
const FAULTS_SHOWN: usize = 5;

/// What was found.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) filtered: u64,
    pub(super) transformed: u64,
    pub(super) out: u64,
    /// Which revision handled which offsets, a line each.
    pub(super) revisions: Vec<String>,
    pub(super) faults: Vec<String>,
}

/// A revision: from which offset of each partition on, and how many digits of a card it leaves.
struct Revision {
    number: u64,
    keep_last: usize,
    first_offsets: BTreeMap<u32, i64>,
}

pub(super) fn check(client: &Client, bar: &ProgressBar) -> Result<Checked> {
    let revisions = revisions(client)?;
    let mut checked = Checked { revisions: describe(&revisions), ..Checked::default() };
    for partition in 0..PARTITIONS {
        check_partition(client, partition, &revisions, &mut checked, bar)?;
    }
    bar.finish();
    Ok(checked)
}

fn check_partition(
    client: &Client,
    partition: u32,
    revisions: &[Revision],
    checked: &mut Checked,
    bar: &ProgressBar,
) -> Result<()> {
    let mut target = Reader::new(client, "west", partition);
    let mut source = Reader::new(client, "east", partition);
    while let Some(record) = source.next()? {
        bar.inc(1);
        let offset = record["offset"].as_i64().unwrap_or(-1);
        let value = record["value"].as_str().unwrap_or_default();
        let document: Value = serde_json::from_str(value).map_err(|error| format!("the source: {error}"))?;
        if document["amount"].as_f64().is_none_or(|amount| amount < 100.0) {
            checked.filtered += 1;
            continue;
        }
        let revision = revisions
            .iter()
            .rev()
            .find(|revision| revision.first_offsets.get(&partition).is_some_and(|first| *first <= offset));
        let Some(revision) = revision else {
            checked.faults.push(format!("orders-{partition} offset {offset}: no revision handled it"));
            return Ok(());
        };
        let expected = mask(value, document["card"].as_str().unwrap_or_default(), revision.keep_last);
        let Some(found) = target.next()? else {
            checked.faults.push(format!("orders-{partition} offset {offset}: missing in the target"));
            return Ok(());
        };
        checked.out += 1;
        checked.transformed += u64::from(expected != value);
        let same = ["key", "headers", "timestamp"].iter().all(|part| record[*part] == found[*part]);
        if !same || found["value"] != Value::String(expected) {
            let number = revision.number;
            let fault = format!("orders-{partition} offset {offset}, revision {number}: the target has {found}");
            checked.faults.push(fault);
            if checked.faults.len() >= FAULTS_SHOWN {
                return Ok(());
            }
        }
    }
    if let Some(extra) = target.next()? {
        checked.faults.push(format!("orders-{partition}: the target has more than the source explains: {extra}"));
    }
    Ok(())
}

/// What redact does to a card: all but the last digits become stars.
fn mask(value: &str, card: &str, keep_last: usize) -> String {
    let hidden = card.len().saturating_sub(keep_last);
    value.replace(card, &format!("{}{}", "*".repeat(hidden), &card[hidden..]))
}

fn revisions(client: &Client) -> Result<Vec<Revision>> {
    let history = client.get("/replication/links/orders/revisions")?;
    let revision = |revision: &Value| {
        let first = |first: &Value| Some((first["partition"].as_u64()? as u32, first["offset"].as_i64()?));
        let stages = revision["stages"].as_array().into_iter().flatten();
        let masks = stages.filter(|stage| stage["stage"] == "mask-cards");
        Revision {
            number: revision["number"].as_u64().unwrap_or_default(),
            keep_last: masks.filter_map(|stage| stage["config"]["keep_last"].as_u64()).sum::<u64>() as usize,
            first_offsets: revision["first_offsets"].as_array().into_iter().flatten().filter_map(first).collect(),
        }
    };
    let mut revisions: Vec<Revision> = history.as_array().into_iter().flatten().map(revision).collect();
    revisions.sort_by_key(|revision| revision.number);
    Ok(revisions)
}

fn describe(revisions: &[Revision]) -> Vec<String> {
    let line = |revision: &Revision| {
        let firsts: Vec<String> =
            revision.first_offsets.iter().map(|(partition, first)| format!("{partition}:{first}")).collect();
        format!("revision {} handled           from (partition:offset) {}", revision.number, firsts.join("  "))
    };
    revisions.iter().map(line).collect()
}

/// Reads a partition from its start to its end.
struct Reader<'a> {
    client: &'a Client,
    path: String,
    next_offset: i64,
    records: std::vec::IntoIter<Value>,
}

impl<'a> Reader<'a> {
    fn new(client: &'a Client, cluster: &str, partition: u32) -> Self {
        let path = format!(
            "/clusters/{cluster}/topics/orders/records?partition={partition}&max_records=10000&max_bytes=8388608&offset="
        );
        Self { client, path, next_offset: 0, records: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Result<Option<Value>> {
        if self.records.len() == 0 {
            let mut answer = self.client.get(&format!("{}{}", self.path, self.next_offset))?;
            self.next_offset = answer["next_offset"].as_i64().unwrap_or(self.next_offset);
            if let Value::Array(records) = answer["records"].take() {
                self.records = records.into_iter();
            }
        }
        Ok(self.records.next())
    }
}
