//! The built-ins against a model that knows nothing of batches.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::{Builtins, Done};
use crate::config::Config;
use crate::model::{self, Batch, BatchBuilder, Condition, FilterSpec, HeaderRef, RecordRef, TransformSpec};

const NOW: i64 = 1_705_312_800_000;

type Bytes = Option<Vec<u8>>;

/// A record by itself.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    offset: i64,
    timestamp: i64,
    key: Bytes,
    value: Bytes,
    headers: Vec<(Vec<u8>, Bytes)>,
}

impl Plain {
    fn of(record: RecordRef<'_>) -> Self {
        Self {
            offset: record.offset(),
            timestamp: record.timestamp(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(|header| (header.name.to_vec(), header.value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

fn batch(records: &[Plain]) -> Batch {
    let mut builder = BatchBuilder::new();
    for record in records {
        let headers = record.headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() });
        builder.push(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref(), headers);
    }
    builder.finish("orders", 3)
}

/// Let records go through built-ins, in batches of so many.
fn run(builtins: &Builtins, records: &[Plain], size: usize) -> (Vec<Plain>, Done) {
    let (mut out, mut done) = (Vec::new(), Done::default());
    for part in records.chunks(size) {
        let mut batch = batch(part);
        let next_offset = batch.next_offset;
        let it = builtins.apply(&mut batch, || NOW);
        assert_eq!(batch.next_offset, next_offset, "what was dropped is stood for");
        done = Done { filtered: done.filtered + it.filtered, transformed: done.transformed + it.transformed };
        out.extend(batch.records().map(Plain::of));
    }
    (out, done)
}

/// What the built-ins make of a record, by the words of the documentation.
fn expected(builtins: &model::Builtins, record: &Plain) -> Option<Plain> {
    let passes = builtins.filter.as_ref().is_none_or(|filter| passes(filter, record));
    let transform = builtins.transform.clone().unwrap_or_default();
    passes.then(|| transformed(&transform, record.clone()))
}

fn passes(filter: &FilterSpec, record: &Plain) -> bool {
    let begins = |prefix: &String| record.key.as_ref().is_some_and(|key| key.starts_with(prefix.as_bytes()));
    let found = |pattern: &String| [&record.key, &record.value].into_iter().flatten().any(|part| finds(pattern, part));
    let mut passes = filter.min_timestamp.is_none_or(|min| min <= record.timestamp);
    passes &= filter.key_prefix.is_empty() || filter.key_prefix.iter().any(begins);
    passes &=
        filter.filter_by_header.iter().all(|(name, value)| last(record, name) == Some(Some(value.clone().into())));
    passes &= filter.condition.as_ref().is_none_or(|condition| holds(condition, record));
    passes &= filter.include_patterns.is_empty() || record.value.is_none() || filter.include_patterns.iter().any(found);
    passes && !filter.exclude_patterns.iter().any(found)
}

/// The expressions that the model knows, without an engine for them.
const PATTERNS: [&str; 5] = ["b", ".*a.*", "^a", "(a|c)b", "c$"];

fn finds(pattern: &str, part: &[u8]) -> bool {
    match pattern {
        "b" => part.contains(&b'b'),
        ".*a.*" => part.contains(&b'a'),
        "^a" => part.first() == Some(&b'a'),
        "(a|c)b" => part.windows(2).any(|two| two == b"ab" || two == b"cb"),
        _ => part.last() == Some(&b'c'),
    }
}

fn last(record: &Plain, name: &str) -> Option<Bytes> {
    record.headers.iter().rev().find(|header| header.0 == name.as_bytes()).map(|header| header.1.clone())
}

fn holds(condition: &Condition, record: &Plain) -> bool {
    match condition {
        Condition::And { and } => !and.iter().any(|one| !holds(one, record)),
        Condition::Or { or } => or.iter().any(|one| holds(one, record)),
        Condition::Not { not } => !holds(not, record),
        Condition::KeyPrefix { key_prefix } => {
            let key = record.key.clone().unwrap_or_default();
            record.key.is_some() && key_prefix.iter().any(|prefix| key.starts_with(prefix.as_bytes()))
        }
        Condition::Header { header, equals: None } => last(record, header).is_some(),
        Condition::Header { header, equals: Some(value) } => {
            last(record, header).flatten().as_deref() == Some(value.as_bytes())
        }
    }
}

fn transformed(transform: &TransformSpec, mut record: Plain) -> Plain {
    record.headers.retain(|(name, _)| !transform.remove_headers.iter().any(|removed| removed.as_bytes() == name));
    for (name, value) in &mut record.headers {
        let mappings = transform.header_transforms.get(std::str::from_utf8(name).expect("text"));
        let new = mappings.into_iter().flatten().find_map(|mapping| {
            let (old, new) = mapping.split_once(" -> ").expect("an arrow");
            (value.as_deref() == Some(old.as_bytes())).then(|| new.as_bytes().to_vec())
        });
        *value = new.or(value.take());
    }
    let (offset, timestamp) = (record.offset.to_string(), record.timestamp.to_string());
    for (name, value) in &transform.add_headers {
        let value = value.replace("${now}", "2024-01-15T10:00:00.000Z").replace("${topic}", "orders");
        let value =
            value.replace("${partition}", "3").replace("${offset}", &offset).replace("${timestamp}", &timestamp);
        record.headers.push((name.clone().into_bytes(), Some(value.into_bytes())));
    }
    record
}

fn text() -> impl Strategy<Value = String> {
    "[abc]{0,2}"
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop_oneof![1 => Just(None), 4 => vec(prop::sample::select(&b"abcx\n\xff"[..]), 0..5).prop_map(Some)]
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    let value = prop_oneof![1 => Just(None), 4 => text().prop_map(|text| Some(text.into_bytes()))];
    let headers = vec(("[abc]", value).prop_map(|(name, value)| (name.into_bytes(), value)), 0..4);
    vec((1..3_i64, 0..10_i64, bytes(), bytes(), headers), 1..40).prop_map(|records| {
        let mut next = 0;
        let mut plain = |(gap, timestamp, key, value, headers)| {
            next += gap;
            Plain { offset: next, timestamp, key, value, headers }
        };
        records.into_iter().map(&mut plain).collect()
    })
}

fn condition() -> impl Strategy<Value = Condition> {
    let prefix = vec("[abc]{1,2}", 1..3).prop_map(|key_prefix| Condition::KeyPrefix { key_prefix });
    let header = ("[abc]", prop::option::of(text())).prop_map(|(header, equals)| Condition::Header { header, equals });
    prop_oneof![prefix, header].prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 1..3).prop_map(|and| Condition::And { and }),
            vec(inner.clone(), 1..3).prop_map(|or| Condition::Or { or }),
            inner.prop_map(|not| Condition::Not { not: Box::new(not) }),
        ]
    })
}

fn patterns() -> impl Strategy<Value = Vec<String>> {
    vec(prop::sample::select(&PATTERNS[..]).prop_map(str::to_owned), 0..3)
}

prop_compose! {
    /// Most have few conditions: a record must have a chance.
    fn filter()(
        include in patterns(), exclude in patterns(), which in 0..64_u32,
        by_header in btree_map("[abc]", text(), 1..2), min in 0..10_i64, prefix in vec("[abc]", 1..3), condition in condition(),
    ) -> FilterSpec {
        let has = |bit: u32| which & which >> 3 & 1 << bit != 0;
        FilterSpec {
            include_patterns: if which % 3 == 0 { Vec::new() } else { include },
            exclude_patterns: if which % 2 == 0 { Vec::new() } else { exclude },
            filter_by_header: if has(0) { by_header } else { BTreeMap::new() },
            min_timestamp: has(1).then_some(min),
            key_prefix: if has(2) { prefix } else { Vec::new() },
            condition: (which % 5 < 2).then_some(condition),
        }
    }
}

prop_compose! {
    fn transform()(
        remove in vec("[abc]", 0..2),
        mappings in btree_map("[abc]", vec((text(), text()), 1..3), 0..3),
        add in btree_map("[abcd]", prop::sample::select(&["", "x", "${now}", "${topic}-${partition}", "${offset}/${timestamp}"][..]), 0..3),
    ) -> TransformSpec {
        let arrows = |mappings: Vec<(String, String)>| mappings.iter().map(|(old, new)| format!("{old} -> {new}")).collect();
        TransformSpec {
            remove_headers: remove,
            header_transforms: mappings.into_iter().map(|(name, mappings)| (name, arrows(mappings))).collect(),
            add_headers: add.into_iter().map(|(name, value)| (name, value.to_owned())).collect(),
        }
    }
}

proptest! {
    #[test]
    fn built_ins_do_what_the_model_does(
        records in records(), filter in prop::option::of(filter()), transform in prop::option::of(transform()),
    ) {
        let spec = model::Builtins { filter, transform, provenance: None };
        let builtins = Builtins::new(&spec).expect("built-ins");
        let expected: Vec<Plain> = records.iter().filter_map(|record| self::expected(&spec, record)).collect();
        let filtered = (records.len() - expected.len()) as u64;
        for size in [1, 7, 1000] {
            let (found, done) = run(&builtins, &records, size);
            prop_assert_eq!(&found, &expected, "in batches of {}", size);
            prop_assert_eq!(done.filtered, filtered);
            let only_filtered = Builtins::new(&model::Builtins { transform: None, ..spec.clone() }).expect("a filter");
            let (before, _) = run(&only_filtered, &records, size);
            let changed = before.iter().zip(&found).filter(|(before, after)| before != after).count() as u64;
            // A value that becomes the same value counts too.
            prop_assert!(done.transformed >= changed && done.transformed <= expected.len() as u64);
        }
    }
}

/// The built-ins of a link with these tables.
fn configured(tables: &str) -> Builtins {
    let text = format!(
        "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
         [links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['orders']\n{tables}\n"
    );
    let (config, _) = Config::parse(&text, "tidegate.toml", Path::new("")).expect("a configuration");
    Builtins::new(&config.links["l"].builtins).expect("built-ins")
}

fn record(key: &str, value: Option<&str>, headers: &[(&str, &str)]) -> Plain {
    let headers = headers.iter().map(|(name, value)| ((*name).into(), Some((*value).into())));
    Plain {
        offset: 5,
        timestamp: 1_704_067_200_000,
        key: Some(key.into()),
        value: value.map(Into::into),
        headers: headers.collect(),
    }
}

#[test]
fn the_documented_filter_lets_pass_what_is_documented() {
    let filter = configured(
        "filter = { enabled = true, include_patterns = ['.*important.*'], exclude_patterns = ['.*test.*'], \
         filter_by_header = { region = 'us-west-1', priority = 'high' }, min_timestamp = '2024-01-01T00:00:00Z' }",
    );
    let good = [("region", "us-west-1"), ("priority", "low"), ("priority", "high")];
    let earlier = Plain { timestamp: 1_704_067_199_999, ..record("k", Some("important"), &good) };
    for (record, passes) in [
        (record("k", Some("an\nimportant thing"), &good), true),
        (record("important", Some(""), &good), true),
        (record("k", Some("something"), &good), false),
        (record("test-1", Some("important"), &good), false),
        (record("k", Some("important"), &good[..2]), false),
        (record("k", Some("important"), &good[1..]), false),
        (record("k", None, &good), true),
        (record("test", None, &good), false),
        (record("k", None, &[]), false),
        (earlier, false),
    ] {
        let (found, _) = run(&filter, std::slice::from_ref(&record), 1);
        assert_eq!(found.len(), usize::from(passes), "{record:?}");
    }
}

#[test]
fn the_documented_conditions_hold_as_documented() {
    let filter = configured(
        "filter.where = { and = [ { key_prefix = 'eu-' }, { or = [ { header = 'tier', equals = 'premium' }, \
         { not = { header = 'replicate', equals = 'false' } } ] } ] }",
    );
    let no = ("replicate", "false");
    for (record, passes) in [
        (record("eu-1", None, &[]), true),
        (record("eu-1", Some("v"), &[no]), false),
        (record("eu-1", Some("v"), &[no, ("tier", "premium")]), true),
        (record("eu-1", Some("v"), &[("tier", "premium"), ("tier", "free"), no]), false),
        (record("eu-1", Some("v"), &[no, ("replicate", "true")]), true),
        (record("us-1", Some("v"), &[("tier", "premium")]), false),
    ] {
        let (found, _) = run(&filter, std::slice::from_ref(&record), 1);
        assert_eq!(found.len(), usize::from(passes), "{record:?}");
    }
}

#[test]
fn the_documented_transform_changes_what_is_documented() {
    let transform = configured(
        "[links.l.transform]\nadd_headers = { replicated_from = 'us-west-1', replication_timestamp = '${now}', \
         path = '${source.cluster} > ${link} > ${target.cluster}', at = '${topic}-${partition}@${offset}, ${timestamp} $${x}' }\n\
         remove_headers = ['internal-id']\nheader_transforms = { region = 'us-west-1 -> us-east-1', tier = ['1 -> 2', '2 -> 3'] }",
    );
    let before = [("region", "us-west-1"), ("internal-id", "7"), ("tier", "1"), ("region", "us-west-2"), ("tier", "2")];
    let (found, done) = run(&transform, &[record("k", Some("v"), &before)], 1);
    let after = [
        ("region", "us-east-1"),
        ("tier", "2"),
        ("region", "us-west-2"),
        ("tier", "3"),
        ("at", "orders-3@5, 1704067200000 ${x}"),
        ("path", "east > l > west"),
        ("replicated_from", "us-west-1"),
        ("replication_timestamp", "2024-01-15T10:00:00.000Z"),
    ];
    assert_eq!(found, [record("k", Some("v"), &after)]);
    assert_eq!(done, Done { filtered: 0, transformed: 1 });
}

#[test]
fn what_is_turned_off_does_nothing() {
    let off = "[links.l.filter]\nenabled = false\nkey_prefix = ['x']\n[links.l.transform]\nenabled = false\nremove_headers = ['a']";
    assert!(configured(off).is_empty());
    assert!(configured("").is_empty());
}

/// An engine that goes back would take longer than the world will stand.
#[test]
fn no_expression_takes_for_ever() {
    let filter = configured(
        "filter.exclude_patterns = ['(a*)*b', '(a|aa)+$x', '(x+x+)+y', '(.*)*(.*)*(.*)*c', '^(([a-z])+.)+[A-Z]([a-z])+$']",
    );
    let value = "a".repeat(100_000);
    let (found, _) = run(&filter, &[record("k", Some(&value), &[])], 1);
    assert_eq!(found.len(), 1);
}

#[test]
fn a_filter_copies_nothing() {
    let filter = configured("filter.key_prefix = ['a']");
    let mut it = batch(&[record("a", Some("v"), &[]), record("b", Some("w"), &[])]);
    let arena = it.arena.clone();
    assert_eq!(filter.apply(&mut it, || panic!("nobody asks for the time")).filtered, 1);
    assert_eq!((it.arena.as_ptr(), it.arena.len(), it.len()), (arena.as_ptr(), arena.len(), 1));
}
