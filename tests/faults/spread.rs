//! Consumer groups where a plugin spreads the records of a source partition over topics, and mixes those of several in one partition: through a change of lanes, a kill, and
//! when it is not known any more where records went.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_oracle::{Content, Record};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};
use serde_json::{Value, json};
use tidegate::api::wire::{ConsumerGroup, GroupCertainty};

use crate::clusters::{Pair, Version};
use crate::groups::{places, sync};
use crate::harness::{Daemon, Dice, Site, comes_true, wait_until};
use crate::scene::PATIENCE;

for_version_2_first! {
    groups_go_on_where_their_records_were_spread_to,
}

const PARTITIONS: i32 = 3;

/// Records of one go.
const RECORDS: u64 = 3_000;

/// How many groups are looked at in one go.
const GROUPS: u64 = 15;

/// What the plugin does is decided by the record's number. A quarter each stays in the topic, goes to another one and keeps its partition, or goes to a third one, where the
/// customer decides about the partition; the rest is put aside.
fn value(number: u64) -> String {
    match number % 4 {
        0 => format!("{{\"n\":{number}}}"),
        1 => format!("{{\"n\":{number},\"to\":\"kept\"}}"),
        2 => format!("{{\"n\":{number},\"to\":\"mixed\",\"customer\":\"c{}\"}}", number % 7),
        _ => "nonsense".to_owned(),
    }
}

fn number(record: &Record) -> Option<u64> {
    let text = std::str::from_utf8(record.value.as_deref()?).ok()?;
    let (_, rest) = text.split_once("\"n\":")?;
    rest.split([',', '}']).next()?.parse().ok()
}

/// A link, and what is known of its topics.
struct Scene {
    name: String,
    source: String,
    target: String,
    site: Site,
    written: u64,
}

/// Where a record is: topic and partition, and the offset.
type Place = ((String, i32), i64);

/// Where a group was put, by topic and partition; and what was said about that.
type Moved = (BTreeMap<(String, i32), i64>, ConsumerGroup);

impl Scene {
    fn new(version: Version, pair: &Pair) -> Self {
        let name = format!("spread-{}", version.name());
        let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
        let site = Site::new(&format!(
            "[clusters.east]\nkind = \"kafka\"\nbrokers = [{source:?}]\n[clusters.west]\nkind = \"kafka\"\nbrokers = [{target:?}]\n\
             [links.{name}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [{name:?}]\nlanes = 2\n\
             groups = [\"{name}-nobody\"]\ngroup_sync_interval = \"1s\"\n\
             [links.{name}.config]\ntransaction_timeout_ms = 10000\n\
             [links.{name}.breaker]\nrejected_percent = 100\n\
             [[links.{name}.pipeline]]\nstage = \"route\"\nplugin = \"PLUGINS/route.wasm\"\n\
             config = {{ pointer = \"/to\", routes = {{ kept = \"{name}.kept\", mixed = \"{name}.mixed\" }}, partition_by = \"/customer\" }}\n"
        ));
        kafka_oracle::create(&source, &name, PARTITIONS, &[]).expect("a topic");
        Self { name, source, target, site, written: 0 }
    }

    /// The topics of the target that a record comes to unless it is put aside.
    fn topics(&self) -> [String; 3] {
        [self.name.clone(), format!("{}.kept", self.name), format!("{}.mixed", self.name)]
    }

    fn write(&mut self) {
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &self.source).create().expect("a producer");
        // Of now: what plugins route to has the cluster's retention.
        let timestamp = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time").as_millis() as i64;
        for number in self.written..self.written + RECORDS {
            let value = Some(value(number).into_bytes());
            let record = Record { key: None, value, headers: Vec::new(), timestamp };
            // Not in turns with what decides where it goes.
            let partition = (number / 5 % PARTITIONS as u64) as i32;
            kafka_oracle::send(&producer, &self.name, partition, &record).expect("sent");
        }
        producer.flush(PATIENCE).expect("written");
        self.written += RECORDS;
    }

    /// Wait until all is there, and answer where each record is, by number.
    fn await_all(&self) -> BTreeMap<u64, Place> {
        let expected = (0..self.written).filter(|number| number % 4 != 3).count();
        let mut there = BTreeMap::new();
        let all_are = comes_true(PATIENCE, || {
            there = self.there();
            there.len() == expected
        });
        if !all_are {
            let link = self.site.client.link(&self.name);
            panic!("{}: {} of {expected} records: {:#?}, {link:#?}", self.name, there.len(), self.counts());
        }
        there
    }

    fn there(&self) -> BTreeMap<u64, Place> {
        let mut there = BTreeMap::new();
        for topic in self.topics() {
            let content = kafka_oracle::read(&self.target, &topic).unwrap_or_default();
            for (partition, records) in content.0 {
                let place = |placed: kafka_oracle::Placed| {
                    let number = number(&placed.record).expect("one of ours");
                    (number, ((topic.clone(), partition), placed.offset))
                };
                there.extend(records.into_iter().map(place));
            }
        }
        there
    }

    /// How many records each partition of the target has.
    fn counts(&self) -> BTreeMap<String, Result<Vec<usize>, String>> {
        let count = |topic: &String| {
            let content = kafka_oracle::read(&self.target, topic)?;
            Ok(content.0.values().map(Vec::len).collect())
        };
        self.topics().iter().map(|topic| (topic.clone(), count(topic))).collect()
    }

    /// Have groups be at places of the source, and answer what is made of each, and where it is put.
    fn moved(&self, groups: &BTreeMap<String, BTreeMap<i32, i64>>) -> BTreeMap<String, Moved> {
        for (group, from) in groups {
            kafka_oracle::commit(&self.source, group, &self.name, from).expect("committed");
        }
        let names: Vec<&str> = [&*self.name].into_iter().chain(groups.keys().map(String::as_str)).collect();
        let moved = sync(&self.site, &names);
        assert_eq!(moved.len(), groups.len());
        let at_target = |group: &str| {
            let offsets = self.topics().into_iter().flat_map(|topic| {
                let found = kafka_oracle::committed(&self.target, group, &topic, PARTITIONS).expect("offsets");
                found.into_iter().map(move |(partition, offset)| ((topic.clone(), partition), offset))
            });
            offsets.collect()
        };
        let found = |plan: ConsumerGroup| (plan.group.clone(), (at_target(&plan.group), plan));
        moved.into_iter().map(found).collect()
    }

    /// Whether each of some groups goes on where it misses nothing; and reads nothing again where that is said. Answers what was said of its places.
    fn check(
        &self,
        what: &str,
        dice: &mut Dice,
        source: &Content,
        there: &BTreeMap<u64, Place>,
    ) -> BTreeMap<GroupCertainty, usize> {
        let random = |number| (format!("{}-{what}-{number}", self.name), places(dice, source));
        let groups: BTreeMap<String, BTreeMap<i32, i64>> = (0..GROUPS).map(random).collect();
        let mut said = BTreeMap::new();
        for (group, (at, plan)) in self.moved(&groups) {
            let certainty = |place: &(String, i32)| {
                let found = plan.partitions.iter().find(|it| (&it.topic, it.partition as i32) == (&place.0, place.1));
                found.unwrap_or_else(|| panic!("{group} is not moved in {place:?}: {plan:?}")).certainty
            };
            let mut first_not_had: BTreeMap<&(String, i32), i64> = BTreeMap::new();
            for (partition, records) in &source.0 {
                for placed in records {
                    let Some((place, offset)) = number(&placed.record).and_then(|number| there.get(&number)) else {
                        continue;
                    };
                    let had = placed.offset < groups[&group][partition];
                    let again = *offset >= at[place];
                    assert!(
                        had || again,
                        "{group} misses {place:?} {offset} from {}, {:?}",
                        at[place],
                        certainty(place)
                    );
                    let exact = certainty(place) == GroupCertainty::Exact;
                    assert!(!exact || had != again, "{group} reads {place:?} {offset} again from {}", at[place]);
                    if !had {
                        let first = first_not_had.entry(place).or_insert(*offset);
                        *first = (*offset).min(*first);
                    }
                }
            }
            for (place, offset) in &at {
                let certainty = certainty(place);
                *said.entry(certainty).or_default() += 1;
                // No further back than it must be: before the first record that it has not had there is none that it reads again.
                if certainty == GroupCertainty::Shared {
                    let skipped = there.values().filter(|it| it.0 == *place && it.1 >= *offset);
                    assert_eq!(skipped.map(|it| it.1).min(), first_not_had.get(place).copied(), "{group} {place:?}");
                }
            }
        }
        println!("{}, {what}: {said:?}", self.name);
        said
    }

    /// Whether a group that is a bit further than `from` misses nothing. Where it goes on.
    fn misses_nothing(
        &self,
        what: &str,
        dice: &mut Dice,
        from: &BTreeMap<i32, i64>,
        there: &BTreeMap<u64, Place>,
    ) -> Moved {
        let group = format!("{}-{what}", self.name);
        let from: BTreeMap<i32, i64> =
            from.iter().map(|(number, from)| (*number, from + dice.below(500) as i64)).collect();
        let (at, plan) = self.moved(&[(group.clone(), from.clone())].into()).remove(&group).expect("a group");
        for (partition, records) in &self.source().0 {
            for placed in records.iter().filter(|placed| placed.offset >= from[partition]) {
                let Some((place, offset)) = number(&placed.record).and_then(|number| there.get(&number)) else {
                    continue;
                };
                assert!(*offset >= at[place], "{group} misses {place:?} {offset} from {}", at[place]);
            }
        }
        (at, plan)
    }

    /// The cluster deletes what was written down of where records went.
    fn delete_stretches(&self) {
        let offsets = format!("__tidegate.{}.offsets", self.name);
        for partition in kafka_oracle::read(&self.target, &offsets).expect("the topic").0.into_keys() {
            kafka_oracle::delete_records(&self.target, &offsets, partition).expect("deleted");
        }
    }

    /// Wait until it is noted that the link has come to these offsets, and answer where the target's partitions ended then.
    fn await_waypoint(&self, next: &BTreeMap<i32, i64>) -> BTreeMap<(String, i32), i64> {
        let prefix = format!("link/{}/waypoint-", self.name);
        // With the link epoch.
        let next: Vec<(i64, u64)> = next.values().map(|next| (*next, 0)).collect();
        let mut found = None;
        wait_until("it is noted where the link is", || {
            let meta = kafka_oracle::read(&self.target, "__tidegate.meta").expect("the topic");
            let is_one = |record: &Record| record.key.as_deref().is_some_and(|key| key.starts_with(prefix.as_bytes()));
            let records = meta.0.into_values().flatten().map(|placed| placed.record).filter(is_one);
            let waypoints = records.map(|record| serde_json::from_slice::<Value>(&record.value.expect("a value")));
            found = waypoints.map(|it| it.expect("JSON")).find(|it| it["next"][&self.name] == json!(next));
            found.is_some()
        });
        let found = found.expect("a waypoint");
        let ends = |topic: String| {
            let ends = found["ends"][&topic]["ends"].as_array().expect("ends").clone();
            (0..).zip(ends).map(move |(partition, end)| ((topic.clone(), partition), end.as_i64().expect("an end")))
        };
        self.topics().into_iter().flat_map(ends).collect()
    }

    /// Where the partitions of the source end.
    fn ends(&self) -> BTreeMap<i32, i64> {
        let ends = |(number, all): (&i32, &Vec<kafka_oracle::Placed>)| (*number, all.len() as i64);
        self.source().0.iter().map(ends).collect()
    }

    fn source(&self) -> Content {
        kafka_oracle::read(&self.source, &self.name).expect("the source")
    }
}

fn groups_go_on_where_their_records_were_spread_to(version: Version) {
    let mut scene = Scene::new(version, Pair::shared(version));
    let mut dice = Dice::new(17);
    scene.write();
    let daemon = scene.site.start();
    let there = scene.await_all();
    // Two topics of three keep the partitions apart.
    let shared = PARTITIONS as usize * GROUPS as usize;
    let known = BTreeMap::from([(GroupCertainty::Exact, 2 * shared), (GroupCertainty::Shared, shared)]);
    assert_eq!(scene.check("spread", &mut dice, &scene.source(), &there), known);
    let daemon = relaned(&mut scene, daemon);
    let there = scene.await_all();
    assert_eq!(scene.check("relaned", &mut dice, &scene.source(), &there), known);

    // The cluster deletes what was written down so far. Whoever is back there, or may be, reads everything; what comes later is known.
    scene.delete_stretches();
    let known_from = scene.ends();
    scene.write();
    let there = scene.await_all();
    let source = scene.source();
    let said = scene.check("forgotten", &mut dice, &source, &there);
    let count = |certainty| said.get(&certainty).copied().unwrap_or(0);
    assert!(count(GroupCertainty::Forgotten) + count(GroupCertainty::Nearest) > shared, "{said:?}");
    daemon.kill();
    let daemon = scene.site.start();
    let (_, plan) = scene.misses_nothing("known", &mut dice, &known_from, &there);
    let certainties: Vec<_> = plan.partitions.iter().map(|place| place.certainty).collect();
    assert!(certainties.iter().all(|certainty| *certainty <= GroupCertainty::Shared), "{plan:?}");

    // Where the link was when it had come this far is noted, and that is not deleted: whoever was further goes on there.
    let noted_from = scene.ends();
    let ends = scene.await_waypoint(&noted_from);
    scene.write();
    scene.await_all();
    scene.delete_stretches();
    scene.write();
    let there = scene.await_all();
    daemon.kill();
    let daemon = scene.site.start();
    let (at, plan) = scene.misses_nothing("noted", &mut dice, &noted_from, &there);
    assert!(plan.partitions.iter().all(|place| place.certainty == GroupCertainty::Nearest), "{plan:?}");
    assert_eq!(at, ends);
    daemon.terminate();
}

/// Lanes become others while records come, and the daemon is killed and begins to read what was written down anew.
fn relaned(scene: &mut Scene, daemon: Daemon) -> Daemon {
    let lanes = |scene: &Scene| scene.site.client.link(&scene.name).lanes.len();
    let mut daemon = daemon;
    for (number, kills) in [(5, false), (1, true)] {
        scene.write();
        let words = ["link", "relane", &scene.name, &number.to_string()];
        assert!(scene.site.cli(&words).status.success());
        scene.write();
        if kills {
            daemon.kill();
            daemon = scene.site.start();
        }
        wait_until("there are other lanes", || lanes(scene) == number);
        scene.await_all();
    }
    daemon
}
