//! What a link's target must hold, worked out from its source and its history with plain code of its own.
//!
//! It knows nothing of the engine: it reads source, target and history over the API, does to each source record what the
//! documentation of the plugins says, under the revision that the history names for its offset, and compares.
//!
//! It replays: each partition's records one by one, with what the stages remember of them. So it says as well which records are
//! put aside, and what is in the state when all is done.

mod memory;
mod plugins;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use tidegate::api::wire;
use tidegate::model::{RevisionNumber, StateRow, TopicPartition};
use tidegate::store::{Options, Store};

use crate::harness::Client;
use memory::Memory;
use plugins::{Bad, explode, keeps, redact, route};

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
#[derive(Debug, Default)]
pub struct Tally {
    pub records_in: usize,
    pub records_out: usize,
    /// The revisions that handled any record.
    pub revisions: usize,
    /// Records that were put aside, by code.
    pub put_aside: BTreeMap<&'static str, usize>,
    /// How often state was migrated.
    pub migrations: usize,
    /// What each partition's stages remember at the end.
    pub states: Vec<PartitionState>,
}

/// What the stages remember of a source partition at the end.
#[derive(Debug)]
pub struct PartitionState {
    partition: TopicPartition,
    next_offset: i64,
    revision: wire::Revision,
    memories: BTreeMap<String, Memory>,
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
        let mut replay = Replay::new(&link, &timeline, topic, partition);
        let records = client.records(&link.source, topic, partition);
        for (index, record) in records.iter().enumerate() {
            let offset = record.offset.expect("an offset");
            if offset != index as i64 {
                return Err(format!("{topic}-{partition}: offset {offset} stands at {index} in the source"));
            }
            used.insert(replay.go_to(offset)?.number);
            tally.records_in += 1;
            let outputs = replay.handle(offset, content(record));
            tally.records_out += outputs.len();
            for output in outputs.into_iter().chain(std::mem::take(&mut replay.letters)) {
                let to = output.topic.unwrap_or_else(|| format!("{}{topic}", link.topic_prefix));
                let count = *target_partitions.get(&to).ok_or_else(|| format!("there is no target topic {to}"))?;
                let target = match &output.partition_key {
                    Some(key) => (murmur2(key) & 0x7fff_ffff) % count,
                    None => partition % count,
                };
                expected.entry((to, target, partition)).or_default().push((Some(offset), output.content));
            }
        }
        let next_offset = records.len() as i64;
        let revision = replay.go_to(next_offset)?.clone();
        replay.put_aside.into_iter().for_each(|(code, count)| *tally.put_aside.entry(code).or_default() += count);
        tally.migrations += replay.migrations;
        let (partition, memories) = (TopicPartition::new(topic.as_str(), partition), replay.memories);
        tally.states.push(PartitionState { partition, next_offset, revision, memories });
    }
    tally.revisions = used.len();
    let found = found(client, &link.target, &target_partitions)?;
    let differences = differences(&expected, &found);
    if differences.is_empty() { Ok(tally) } else { Err(differences) }
}

/// Compare what is stored of a link in the file of its target, which no daemon has open, with what its stages must remember.
/// `Err` shows the first differences of each state.
pub fn compare_states(store: &Path, link: &str, states: &[PartitionState]) -> Result<(), String> {
    let store = Store::open(store, Options::default()).map_err(|error| error.to_string())?;
    let mut text = String::new();
    for state in states {
        let mut stored = store.states(link, &state.partition).map_err(|error| error.to_string())?.states;
        for (name, memory) in &state.memories {
            let what = format!("the state of {name} for {}", state.partition);
            let Some(stored) = stored.remove(name) else {
                let _ = writeln!(text, "{what} is not there");
                continue;
            };
            let head = &stored.head;
            let stage = state.revision.stages.iter().find(|stage| stage.stage == *name).expect("a stage");
            let expected =
                (state.next_offset, memory.time, memory.layout, stage.digest, RevisionNumber(state.revision.number));
            let found = (head.next_offset, head.time, head.layout, head.plugin, head.revision);
            if expected != found {
                let _ = writeln!(text, "the head of {what}:\n  expected {expected:?}\n  found    {found:?}");
            }
            let row = |(key, (value, expires))| (key, StateRow { value, expires });
            let expected: BTreeMap<_, _> = memory.rows().into_iter().map(row).collect();
            let keys: BTreeSet<_> = expected.keys().chain(stored.rows.keys()).collect();
            let differing = keys.into_iter().filter(|key| expected.get(*key) != stored.rows.get(*key));
            for key in differing.take(DIFFERENCES_MAX) {
                let (expected, found) = (expected.get(key), stored.rows.get(key));
                let key = key.escape_ascii();
                let _ = writeln!(text, "{what}, {key}:\n  expected {expected:?}\n  found    {found:?}");
            }
        }
        for stage in stored.keys() {
            let _ = writeln!(text, "there is a state of {stage} for {}", state.partition);
        }
    }
    if text.is_empty() { Ok(()) } else { Err(text) }
}

fn found(client: &Client, cluster: &str, topics: &BTreeMap<String, u32>) -> Result<BTreeMap<Place, Sequence>, String> {
    let mut found = BTreeMap::<Place, Sequence>::new();
    for (topic, partitions) in topics {
        for partition in 0..*partitions {
            for record in client.records(cluster, topic, partition) {
                let mut content = content(&record);
                shorten_panics(&mut content);
                let origin = content.headers.iter().find(|(name, _)| name == ORIGIN.as_bytes());
                let origin = origin.and_then(|(_, value)| std::str::from_utf8(value.as_deref()?).ok()?.parse().ok());
                // Results of `aggregate` have no headers, and the scenes with them as many partitions here as there.
                let origin: u32 = match origin {
                    None if !content.headers.is_empty() => {
                        return Err(format!("{topic}-{partition}: a record without origin"));
                    }
                    origin => origin.unwrap_or(partition),
                };
                found.entry((topic.clone(), partition, origin)).or_default().push((None, content));
            }
        }
    }
    Ok(found)
}

/// What a panic says is in the message of its letter, between where it happened and what the engine calls it.
fn shorten_panics(content: &mut Content) {
    for (name, value) in &mut content.headers {
        let Some(text) = value.as_deref().filter(|_| name == b"tidegate.dlq.message") else { continue };
        let text = String::from_utf8_lossy(text);
        let said = "this record is poison";
        if text.contains("counter/src/lib.rs") && text.contains(said) {
            *value = Some(said.as_bytes().to_vec());
        }
    }
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

    /// The revisions that began at `from` or later, up to `to`, in order.
    fn between(&self, partition: u32, from: i64, to: i64) -> impl Iterator<Item = &'a wire::Revision> {
        let starts = self.starts.get(&partition).map(Vec::as_slice).unwrap_or_default();
        let begin = starts.partition_point(|(first, _)| *first < from);
        starts[begin..].iter().take_while(move |(first, _)| *first <= to).map(|(_, index)| &self.revisions[*index])
    }
}

/// The records of a source partition, handled once more.
struct Replay<'a> {
    link: &'a wire::Link,
    timeline: &'a Timeline<'a>,
    topic: &'a str,
    partition: u32,
    /// Revisions that began before this are in force already.
    next: i64,
    revision: Option<&'a wire::Revision>,
    memories: BTreeMap<String, Memory>,
    /// What the record at hand has made of dead letters.
    letters: Vec<Output>,
    put_aside: BTreeMap<&'static str, usize>,
    migrations: usize,
}

impl<'a> Replay<'a> {
    fn new(link: &'a wire::Link, timeline: &'a Timeline<'a>, topic: &'a str, partition: u32) -> Self {
        Self {
            link,
            timeline,
            topic,
            partition,
            next: 0,
            revision: None,
            memories: BTreeMap::new(),
            letters: Vec::new(),
            put_aside: BTreeMap::new(),
            migrations: 0,
        }
    }

    /// The revision for the record at `offset`, once all that began before it were in force: they may have migrated state, also
    /// without any record.
    fn go_to(&mut self, offset: i64) -> Result<&'a wire::Revision, String> {
        for revision in self.timeline.between(self.partition, self.next, offset) {
            for stage in revision.stages.iter().filter(|stage| remembers(&stage.plugin)) {
                let memory = self.memories.entry(stage.stage.clone()).or_default();
                if stage.plugin.starts_with("counter") {
                    let before = self.revision.and_then(|before| before.stages.iter().find(|s| s.stage == stage.stage));
                    self.migrations += usize::from(migrate(memory, before, stage));
                }
            }
            self.revision = Some(revision);
        }
        self.next = offset + 1;
        let (topic, partition) = (self.topic, self.partition);
        self.revision.ok_or_else(|| format!("no revision handled offset {offset} of {topic}-{partition}"))
    }

    /// Let a record go through all stages.
    fn handle(&mut self, offset: i64, content: Content) -> Vec<Output> {
        let revision = self.revision.expect("a revision");
        let mut outputs = vec![Output { content, topic: None, partition_key: None }];
        for stage in &revision.stages {
            let mut made = Vec::new();
            for (ordinal, output) in outputs.into_iter().enumerate() {
                let memory = self.memories.get_mut(&stage.stage);
                match apply(stage, memory, output.clone()) {
                    Ok(outputs) => made.extend(outputs),
                    Err(bad) => self.put_aside(revision, stage, offset, ordinal, output.content, &bad),
                }
            }
            outputs = made;
        }
        outputs
    }

    fn put_aside(
        &mut self,
        revision: &wire::Revision,
        stage: &wire::RevisionStage,
        offset: i64,
        ordinal: usize,
        mut content: Content,
        bad: &Bad,
    ) {
        let headers = [
            ("link", self.link.id.clone()),
            ("cluster", self.link.source.clone()),
            ("topic", self.topic.to_owned()),
            ("partition", self.partition.to_string()),
            ("offset", offset.to_string()),
            ("ordinal", ordinal.to_string()),
            ("timestamp", content.timestamp.to_string()),
            ("stage", stage.stage.clone()),
            ("plugin", format!("{} {}", stage.plugin, stage.version)),
            ("digest", stage.digest.to_string()),
            ("revision", revision.number.to_string()),
            ("code", bad.code.to_owned()),
            ("message", bad.message.clone()),
            ("tries", bad.tries.to_string()),
        ];
        let header = |(name, value): (&str, String)| (format!("tidegate.dlq.{name}").into(), Some(value.into_bytes()));
        content.headers.extend(headers.map(header));
        let topic = Some(format!("{}.dead-letters", self.link.id));
        self.letters.push(Output { content, topic, partition_key: None });
        *self.put_aside.entry(bad.code).or_default() += 1;
    }
}

/// Bring what a counter remembers into the layout of the version that takes its place. Whether it was another one.
fn migrate(memory: &mut Memory, before: Option<&wire::RevisionStage>, now: &wire::RevisionStage) -> bool {
    let layout = |stage: &wire::RevisionStage| if stage.version.starts_with("1.") { 1 } else { 2 };
    // The newer one does it, as it was configured.
    let newer = before.filter(|before| layout(before) > layout(now)).unwrap_or(now);
    memory.migrate_counter(&serde_json::to_value(&newer.config).expect("JSON"), layout(now))
}

fn remembers(plugin: &str) -> bool {
    ["aggregate", "counter", "counter-2", "dedupe"].contains(&plugin)
}

fn apply(stage: &wire::RevisionStage, memory: Option<&mut Memory>, output: Output) -> Result<Vec<Output>, Bad> {
    let config = &serde_json::to_value(&stage.config).expect("JSON");
    let memory = || memory.expect("a memory");
    Ok(match stage.plugin.as_str() {
        "json-filter" => Vec::from_iter(keeps(config, &output.content)?.then_some(output)),
        "redact" => vec![redact(config, output)],
        "route" => vec![route(config, output)],
        "explode" => explode(config, output),
        "dedupe" => Vec::from_iter(memory().dedupe(config, &output.content).then_some(output)),
        "counter" | "counter-2" => vec![memory().counter(config, output)?],
        "aggregate" => memory().aggregate(config, output)?,
        other => panic!("the oracle does not know the plugin {other}"),
    })
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
