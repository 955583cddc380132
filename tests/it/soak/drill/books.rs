//! Who writes what, and what has become of it: every record is in both clusters once, in the order of its writer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::json;

use crate::harness::Client;

/// The writers of one partition, by the cluster that they write to, and what they have written.
#[derive(Default)]
struct Page {
    /// The number of the next record.
    next: u64,
    /// The numbers that were acknowledged.
    acknowledged: BTreeSet<u64>,
}

/// All that was written, by cluster, topic and partition.
#[derive(Default)]
pub struct Books(Mutex<BTreeMap<(String, String, u32), Page>>);

impl Books {
    /// Append records. A kill may leave them or not: they are never sent again.
    pub fn write(&self, client: &Client, cluster: &str, topic: &str, partition: u32, count: u64) -> Option<u16> {
        let at = (cluster.to_owned(), topic.to_owned(), partition);
        let first = {
            let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let page = pages.entry(at.clone()).or_default();
            page.next += count;
            page.next - count
        };
        let line =
            |number: u64| json!({ "partition": partition, "value": format!("{cluster} {number:08}") }).to_string();
        let lines: Vec<String> = (first..first + count).map(line).collect();
        let answer = client.post(&format!("/api/v1/clusters/{cluster}/topics/{topic}/records"), lines.join("\n"));
        let status = answer.ok()?.status;
        if status == 200 {
            let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            pages.entry(at).or_default().acknowledged.extend(first..first + count);
        }
        Some(status)
    }

    /// Compare both sides of a topic with each other and with what was written. How many records there are; `Err` says what is wrong.
    pub fn check(&self, client: &Client, clusters: [&str; 2], topic: &str, partitions: u32) -> Result<usize, String> {
        let mut total = 0;
        for partition in 0..partitions {
            let sides = clusters.map(|cluster| by_writer(client, cluster, topic, partition));
            let [source, target] = &sides;
            for writer in clusters {
                let what = format!("{topic}-{partition}, what was written to {writer}");
                let nothing = Vec::new();
                let [source, target] = [source, target].map(|side| side.get(writer).unwrap_or(&nothing));
                for (side, name) in [(source, clusters[0]), (target, clusters[1])] {
                    if let Some(two) = side.windows(2).find(|two| two[0] >= two[1]) {
                        return Err(format!("{what}: in {name} {} is followed by {}", two[0], two[1]));
                    }
                }
                let pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let page = pages.get(&(writer.to_owned(), topic.to_owned(), partition));
                let acknowledged = page.map(|page| page.acknowledged.clone()).unwrap_or_default();
                let next = page.map_or(0, |page| page.next);
                let [at_source, at_target] = [source, target].map(|side| side.iter().copied().collect::<BTreeSet<_>>());
                for (name, found) in [(clusters[0], &at_source), (clusters[1], &at_target)] {
                    if let Some(lost) = acknowledged.difference(found).next() {
                        return Err(format!("{what}: {lost} was acknowledged, and is not in {name}"));
                    }
                    if found.last().is_some_and(|last| *last >= next) {
                        return Err(format!("{what}: nobody has written {:?}, and it is in {name}", found.last()));
                    }
                }
                if let Some(alone) = at_source.symmetric_difference(&at_target).next() {
                    return Err(format!("{what}: {alone} is in one cluster only"));
                }
                total += at_source.len();
            }
            let known: Vec<&str> = clusters.to_vec();
            if let Some(other) = sides.iter().flat_map(BTreeMap::keys).find(|writer| !known.contains(&&***writer)) {
                return Err(format!("{topic}-{partition}: a record of {other}"));
            }
        }
        Ok(total)
    }
}

/// The numbers in a partition, in their order, by who wrote them.
fn by_writer(client: &Client, cluster: &str, topic: &str, partition: u32) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for record in client.records(cluster, topic, partition) {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        let (writer, number) = value.split_once(' ').expect("a writer and a number");
        found.entry(writer.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    found
}
