//! What a link's target must hold, worked out from its source and its history with plain code of its own.
//!
//! It knows nothing of the engine: it reads source, target and history over the API, does to each source record what the
//! documentation of the plugins says, under the revision that the history names for its offset, and compares.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tidegate::api::wire;

use crate::harness::Client;

/// The header with which every source record names its partition: target partitions mix those of several.
pub const ORIGIN: &str = "origin";

/// How many differences are shown.
const DIFFERENCES_MAX: usize = 5;

/// What must be preserved of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Content {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    timestamp: i64,
}

/// What a pipeline makes of a record.
#[derive(Clone, Debug)]
struct Output {
    content: Content,
    topic: Option<String>,
    partition_key: Option<Vec<u8>>,
}

/// The records of one source partition in one target partition, each with its source offset where that is known.
type Sequence = Vec<(Option<i64>, Content)>;

/// Target topic, target partition, source partition.
type Place = (String, u32, u32);

/// What was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub records_in: usize,
    pub records_out: usize,
    /// The revisions that handled any record.
    pub revisions: usize,
}

/// Compare the target of a link that has caught up with what it must hold. `Err` shows the first differences.
pub fn compare(client: &Client, link: &str) -> Result<Tally, String> {
    let link = client.link(link);
    let [topic] = &link.topics[..] else { panic!("the oracle is for links of one topic") };
    let revisions = client.revisions(&link.id);
    let timeline = Timeline::new(&revisions)?;
    let target_partitions: BTreeMap<String, u32> =
        client.topics(&link.target).into_iter().map(|topic| (topic.name, topic.partitions)).collect();
    let mut expected = BTreeMap::<Place, Sequence>::new();
    let mut tally = Tally::default();
    let mut used = BTreeSet::new();
    for partition in 0..client.ends(&link.source, topic).len() as u32 {
        let records = client.records(&link.source, topic, partition);
        for (index, record) in records.iter().enumerate() {
            let offset = record.offset.expect("an offset");
            if offset != index as i64 {
                return Err(format!("{topic}-{partition}: offset {offset} stands at {index} in the source"));
            }
            let revision = timeline.at(partition, offset)?;
            used.insert(revision.number);
            tally.records_in += 1;
            for output in run(&revision.stages, content(record)) {
                let to = output.topic.unwrap_or_else(|| format!("{}{topic}", link.topic_prefix));
                let count = *target_partitions.get(&to).ok_or_else(|| format!("there is no target topic {to}"))?;
                let target = match &output.partition_key {
                    Some(key) => (murmur2(key) & 0x7fff_ffff) % count,
                    None => partition % count,
                };
                tally.records_out += 1;
                expected.entry((to, target, partition)).or_default().push((Some(offset), output.content));
            }
        }
    }
    tally.revisions = used.len();
    let found = found(client, &link.target, &target_partitions)?;
    let differences = differences(&expected, &found);
    if differences.is_empty() { Ok(tally) } else { Err(differences) }
}

fn found(client: &Client, cluster: &str, topics: &BTreeMap<String, u32>) -> Result<BTreeMap<Place, Sequence>, String> {
    let mut found = BTreeMap::<Place, Sequence>::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            for record in client.records(cluster, topic, partition) {
                let content = content(&record);
                let origin = content.headers.iter().find(|(name, _)| name == ORIGIN.as_bytes());
                let origin = origin.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse().ok());
                let origin: u32 = origin.ok_or_else(|| format!("{topic}-{partition}: a record without origin"))?;
                found.entry((topic.clone(), partition, origin)).or_default().push((None, content));
            }
        }
    }
    Ok(found)
}

fn differences(expected: &BTreeMap<Place, Sequence>, found: &BTreeMap<Place, Sequence>) -> String {
    let places: BTreeSet<&Place> = expected.keys().chain(found.keys()).collect();
    let nothing = Sequence::new();
    let mut text = String::new();
    let differing = places.into_iter().filter_map(|place| {
        let (expected, found) = (expected.get(place).unwrap_or(&nothing), found.get(place).unwrap_or(&nothing));
        let same = |(a, b): &(&(_, Content), &(_, Content))| a.1 == b.1;
        let at = expected.iter().zip(found).take_while(same).count();
        (at < expected.len().max(found.len())).then_some((place, expected, found, at))
    });
    for ((topic, partition, origin), expected, found, at) in differing.take(DIFFERENCES_MAX) {
        let _ = writeln!(
            text,
            "{topic}-{partition}, from source partition {origin}: {} records expected, {} found; they differ at the {at}th:\n  \
             expected {}\n  found    {}",
            expected.len(),
            found.len(),
            show(expected.get(at)),
            show(found.get(at)),
        );
    }
    text
}

fn show(record: Option<&(Option<i64>, Content)>) -> String {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let Some((offset, content)) = record else { return "nothing".to_owned() };
    let headers: Vec<_> =
        content.headers.iter().map(|(name, value)| (String::from_utf8_lossy(name), text(value))).collect();
    format!(
        "offset {offset:?} key {:?} value {:?} at {} with {headers:?}",
        text(&content.key),
        text(&content.value),
        content.timestamp
    )
}

fn content(record: &wire::Record) -> Content {
    Content {
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect(),
        timestamp: record.timestamp.expect("a timestamp"),
    }
}

/// Which revision handled which offset.
struct Timeline<'a> {
    revisions: &'a [wire::Revision],
    /// By source partition: first offset and index of the revision, in the order of the revisions.
    starts: BTreeMap<u32, Vec<(i64, usize)>>,
}

impl<'a> Timeline<'a> {
    fn new(revisions: &'a [wire::Revision]) -> Result<Self, String> {
        let mut starts = BTreeMap::<u32, Vec<(i64, usize)>>::new();
        for (index, revision) in revisions.iter().enumerate() {
            if revision.number != index as u64 + 1 {
                return Err(format!("revision {} stands at {index} in the history", revision.number));
            }
            for first in &revision.first_offsets {
                let starts = starts.entry(first.partition).or_default();
                if starts.last().is_some_and(|(offset, _)| *offset > first.offset) {
                    let (partition, offset) = (first.partition, first.offset);
                    return Err(format!("revision {} goes back to {offset} in {partition}", revision.number));
                }
                starts.push((first.offset, index));
            }
        }
        Ok(Self { revisions, starts })
    }

    fn at(&self, partition: u32, offset: i64) -> Result<&'a wire::Revision, String> {
        let starts = self.starts.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let index = starts.partition_point(|(first, _)| *first <= offset).checked_sub(1);
        let index = index.ok_or_else(|| format!("no revision handled offset {offset} of partition {partition}"))?;
        Ok(&self.revisions[starts[index].1])
    }
}

fn run(stages: &[wire::RevisionStage], content: Content) -> Vec<Output> {
    let mut outputs = vec![Output { content, topic: None, partition_key: None }];
    for stage in stages {
        outputs = outputs.into_iter().flat_map(|output| apply(&stage.plugin, &stage.config, output)).collect();
    }
    outputs
}

fn apply(plugin: &str, config: &Value, output: Output) -> Vec<Output> {
    match plugin {
        "json-filter" => Vec::from_iter(keeps(config, &output.content).then_some(output)),
        "redact" => vec![redact(config, output)],
        "route" => vec![route(config, output)],
        "explode" => explode(config, output),
        other => panic!("the oracle does not know the plugin {other}"),
    }
}

/// Only what the tests use: any other key of a configuration would make the oracle wrong in silence.
fn known(config: &Value, keys: &[&str]) {
    let config = config.as_object().expect("a configuration");
    assert!(config.keys().all(|key| keys.contains(&key.as_str())), "the oracle does not know all of {config:?}");
}

fn field<'a>(document: &'a Value, config: &Value, key: &str) -> Option<&'a Value> {
    document.pointer(config[key].as_str()?)
}

fn document(content: &Content) -> Option<Value> {
    content.value.as_ref().map(|value| serde_json::from_slice(value).expect("a JSON value"))
}

fn keeps(config: &Value, content: &Content) -> bool {
    known(config, &["pointer", "at_least", "missing"]);
    match document(content).as_ref().and_then(|document| field(document, config, "pointer")) {
        Some(field) => field.as_u64() >= config["at_least"].as_u64(),
        None => config["missing"] == "keep",
    }
}

fn redact(config: &Value, mut output: Output) -> Output {
    known(config, &["pointers", "keep_last", "mask"]);
    assert_eq!(config["pointers"], serde_json::json!(["/card"]), "the oracle masks cards");
    let Some(document) = document(&output.content) else { return output };
    let Some(card) = document["card"].as_str() else { return output };
    let mask = config["mask"].as_str().unwrap_or("*");
    let keep = config["keep_last"].as_u64().unwrap_or(0) as usize;
    let hidden = if card.len() <= keep { card.len() } else { card.len() - keep };
    let masked = format!("\"card\":\"{}{}\"", mask.repeat(hidden), &card[hidden..]);
    let text = String::from_utf8(output.content.value.take().expect("a value")).expect("text");
    // The generator writes the card of the record itself first, before any other object.
    output.content.value = Some(text.replacen(&format!("\"card\":\"{card}\""), &masked, 1).into_bytes());
    output
}

fn route(config: &Value, mut output: Output) -> Output {
    known(config, &["pointer", "routes", "default", "partition_by"]);
    let document = document(&output.content);
    let text = |key| document.as_ref().and_then(|document| field(document, config, key)).and_then(Value::as_str);
    let topic = text("pointer").and_then(|text| config["routes"][text].as_str()).or(config["default"].as_str());
    output.topic = topic.map(str::to_owned).or(output.topic);
    output.partition_key = text("partition_by").map(|text| text.as_bytes().to_vec()).or(output.partition_key);
    output
}

fn explode(config: &Value, output: Output) -> Vec<Output> {
    #[derive(Deserialize)]
    struct Lines<'a> {
        #[serde(borrow)]
        lines: Vec<&'a RawValue>,
    }
    known(config, &["pointer", "key_from"]);
    assert_eq!(config["pointer"], "/lines", "the oracle explodes lines");
    let Some(value) = &output.content.value else { return vec![output] };
    let lines: Lines<'_> = serde_json::from_slice(value).expect("a value with lines");
    let explode = |line: &&RawValue| {
        let mut made = output.clone();
        made.content.value = Some(line.get().as_bytes().to_vec());
        let element: Value = serde_json::from_str(line.get()).expect("an element");
        if let Some(key) = field(&element, config, "key_from").and_then(Value::as_str) {
            made.content.key = Some(key.as_bytes().to_vec());
        }
        made
    };
    lines.lines.iter().map(explode).collect()
}

/// The hash of Kafka's default partitioner.
fn murmur2(key: &[u8]) -> u32 {
    let mix = 0x5bd1_e995_u32;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    for four in key.chunks(4) {
        if let [a, b, c, d] = four {
            let mut word = u32::from_le_bytes([*a, *b, *c, *d]).wrapping_mul(mix);
            word = (word ^ (word >> 24)).wrapping_mul(mix);
            hash = hash.wrapping_mul(mix) ^ word;
        } else {
            let rest = four.iter().rev().fold(0, |rest, byte| (rest << 8) | u32::from(*byte));
            hash = (hash ^ rest).wrapping_mul(mix);
        }
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(mix);
    hash ^ (hash >> 15)
}
