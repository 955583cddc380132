//! Records in, the offsets of those that pass out; always the same, however the batches are cut.

use sha2::{Digest, Sha256};
use tidegate_plugin::Expiry;
use tidegate_plugin::testing::{Answer, Partition, TestRecord};

use super::*;

/// Records with these keys and timestamps. Offsets count from 0.
fn records(keys: &[(&str, i64)]) -> Vec<TestRecord> {
    let record = |(offset, (key, timestamp)): (usize, &(&str, i64))| TestRecord {
        key: Some(key.as_bytes().to_vec()),
        timestamp: *timestamp,
        offset: offset as i64,
        ..TestRecord::default()
    };
    keys.iter().enumerate().map(record).collect()
}

fn run(config: &str, records: &[TestRecord]) -> Answer {
    let run = |size| Partition::in_batches_of(size).filter::<Dedupe>(config, records).expect("a configuration");
    let whole = run(records.len());
    for size in [1, 2, 3] {
        assert_eq!(run(size), whole, "batches of {size}");
    }
    whole
}

fn check(config: &str, records: &[TestRecord], expect: &[i64]) {
    let offsets: Vec<_> = run(config, records).outputs.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, expect, "{config}");
}

#[test]
fn a_key_passes_again_when_its_age_is_reached() {
    let keys = [("a", 1000), ("b", 1001), ("a", 1099), ("a", 1100), ("b", 1100), ("b", 1101)];
    check(r#"{"max_age_ms": 100}"#, &records(&keys), &[0, 1, 3, 5]);
}

#[test]
fn a_duplicate_does_not_begin_the_age_anew() {
    check(r#"{"max_age_ms": 100}"#, &records(&[("a", 0), ("a", 60), ("a", 120)]), &[0, 2]);
}

#[test]
fn an_old_timestamp_does_not_turn_back_the_time() {
    check(r#"{"max_age_ms": 100}"#, &records(&[("a", 1000), ("late", 5), ("late", 104), ("late", 1099)]), &[0, 1]);
}

#[test]
fn an_age_beyond_all_time_is_for_ever() {
    check(r#"{"max_age_ms": 18446744073709551615}"#, &records(&[("a", 1000), ("a", i64::MAX)]), &[0]);
}

#[test]
fn the_oldest_of_too_many_keys_is_forgotten() {
    let keys = [("a", 0), ("b", 0), ("a", 0), ("c", 0), ("b", 0), ("c", 0), ("a", 0), ("b", 0)];
    check(r#"{"max_keys": 2}"#, &records(&keys), &[0, 1, 3, 6, 7]);
}

#[test]
fn age_and_number_hold_together() {
    let keys = [("a", 0), ("b", 1), ("a", 9), ("a", 10), ("b", 10), ("c", 10), ("b", 12), ("a", 12)];
    check(r#"{"max_keys": 2, "max_age_ms": 10}"#, &records(&keys), &[0, 1, 3, 5, 6, 7]);
}

#[test]
fn only_as_many_keys_are_stored_as_are_remembered() {
    let names: Vec<_> = (0..1000).map(|n| n.to_string()).collect();
    let keys: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
    assert_eq!(run(r#"{"max_keys": 10}"#, &records(&keys)).state.len(), 10 + 10 + 2);
}

#[test]
fn fewer_keys_than_before_are_reached_little_by_little() {
    let names: Vec<_> = (0..120).map(|n| n.to_string()).collect();
    let keys: Vec<_> = names.iter().map(|name| (name.as_str(), 0)).collect();
    let (before, after) = keys.split_at(100);
    let mut partition = Partition::in_batches_of(7);
    partition.filter::<Dedupe>(r#"{"max_keys": 50}"#, &records(before)).expect("a configuration");
    let answer = partition.filter::<Dedupe>(r#"{"max_keys": 2}"#, &records(after)).expect("a configuration");
    assert_eq!(answer.outputs.len(), 20);
    assert_eq!(answer.state.len(), 2 + 2 + 2);
}

#[test]
fn a_field_of_the_value_counts_by_its_text() {
    let values = [Some(r#"{"id":"7"}"#), Some(r#"{"id":7}"#), Some(r#"{"id":7.0}"#), Some(r#"{"id":null}"#), None];
    let value = |value: &Option<&str>| value.map(|value| value.as_bytes().to_vec());
    let mut records: Vec<_> = values.iter().map(|v| TestRecord { value: value(v), ..TestRecord::default() }).collect();
    records.iter_mut().zip(0..).for_each(|(record, offset)| record.offset = offset);
    let config = |missing| format!(r#"{{"by": {{"pointer": "/id"}}, "max_keys": 9, "missing": "{missing}"}}"#);
    check(&config("keep"), &records, &[0, 2, 3, 4]);
    check(&config("drop"), &records, &[0, 2]);
    let answer = run(&config("reject"), &records);
    assert_eq!(answer.rejects, [(3, "missing".to_owned()), (4, "missing".to_owned())]);
}

/// State outlives versions of the plugin: this layout has the number 1 for ever.
#[test]
fn version_1_of_the_state_is_what_it_was() {
    assert_eq!(Dedupe::STATE_VERSION, 1);
    let state = run(r#"{"max_keys": 5}"#, &records(&[("abc", 0)])).state;
    // The hash is half of the SHA-256 test vector for "abc".
    let hash = *b"\xba\x78\x16\xbf\x8f\x01\xcf\xea\x41\x41\x40\xde\x5d\xae\x22\x23";
    let expect = [
        ([b"k", &hash[..]].concat(), vec![]),
        (b"n".to_vec(), vec![1, 0, 0, 0, 0, 0, 0, 0]),
        (b"o\0\0\0\0\0\0\0\0".to_vec(), hash.to_vec()),
        (b"u".to_vec(), [[0; 8], [0xff; 8]].concat()),
    ];
    assert_eq!(state, expect);
}

/// What versions before `u` made of new keys: with a `max_keys`, and with the age that is configured.
struct Earlier(Option<u64>);

impl StatefulFilter for Earlier {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Key];

    fn new(config: Config) -> Result<Self, Vec<ConfigError>> {
        Ok(Self(config.max_age_ms))
    }

    fn keep(&self, record: &Record<'_>, state: &State<'_>) -> Result<bool, Reject> {
        let hash = &Sha256::digest(record.key().unwrap_or_default())[..16];
        let number = state.get(b"n").map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("a number")));
        let expires = self.0.map_or(Expiry::Never, |age| Expiry::At(state.time().saturating_add_unsigned(age)));
        state.put(b"n", &(number + 1).to_le_bytes(), Expiry::Never);
        state.put(&[b"k", hash].concat(), b"", expires);
        state.put(&[b"o", number.to_be_bytes().as_slice()].concat(), hash, expires);
        Ok(true)
    }
}

const KEYS: &str = r#"{"max_keys": 1000}"#;
const AGE: &str = r#"{"max_age_ms": 100}"#;
const BOTH: &str = r#"{"max_keys": 1000, "max_age_ms": 100}"#;

/// Records with the keys `prefix`0, `prefix`1 and so on, all of one time.
fn named(prefix: &str, count: usize, timestamp: i64) -> Vec<TestRecord> {
    let names: Vec<_> = (0..count).map(|number| format!("{prefix}{number}")).collect();
    let keys: Vec<_> = names.iter().map(|name| (name.as_str(), timestamp)).collect();
    records(&keys)
}

fn passed(partition: &mut Partition, config: &str, records: &[TestRecord]) -> usize {
    partition.filter::<Dedupe>(config, records).expect("a configuration").outputs.len()
}

#[test]
fn keys_from_before_an_age_was_configured_leave_whether_they_are_seen_again_or_not() {
    for (first, second, third) in [KEYS, AGE, BOTH]
        .iter()
        .flat_map(|first| [KEYS, AGE, BOTH].map(|second| (*first, second)))
        .flat_map(|(first, second)| [AGE, BOTH].map(|third| (first, second, third)))
    {
        for size in [1, 3, 50] {
            let what = format!("{first}, {second}, {third}, batches of {size}");
            let mut partition = Partition::in_batches_of(size);
            assert_eq!(passed(&mut partition, first, &named("a", 12, 0)), 12, "{what}");
            assert_eq!(passed(&mut partition, second, &named("b", 12, 1)), 12, "{what}");
            // All are still known, and have begun their age when these are through.
            assert_eq!(passed(&mut partition, third, &named("a", 6, 2)), 0, "{what}");
            assert_eq!(passed(&mut partition, third, &named("b", 6, 3)), 0, "{what}");
            // Some are seen again, some are not.
            assert_eq!(passed(&mut partition, third, &named("a", 6, 103)), 6, "{what}");
            let answer = partition.filter::<Dedupe>(third, &named("z", 1, 1000)).expect("a configuration");
            let kinds: String = answer.state.iter().map(|(key, _)| char::from(key[0])).collect();
            let left = kinds.replace(['n', 'u'], "");
            assert_eq!(left, if third == BOTH { "ko" } else { "k" }, "{what}");
        }
    }
}

#[test]
fn a_key_that_has_an_age_keeps_it_whatever_else_is_configured() {
    for (first, second) in [(AGE, KEYS), (AGE, BOTH), (BOTH, KEYS), (BOTH, AGE), (BOTH, BOTH), (AGE, AGE)] {
        let mut partition = Partition::in_batches_of(1);
        passed(&mut partition, first, &named("a", 12, 0));
        // The first record with both notes that all keys have an age.
        passed(&mut partition, first, &named("a", 1, 0));
        assert_eq!(passed(&mut partition, second, &named("a", 12, 99)), 0, "{first}, {second}");
        assert_eq!(passed(&mut partition, second, &named("a", 12, 100)), 12, "{first}, {second}");
    }
}

#[test]
fn what_an_earlier_version_left_keeps_its_age_and_without_a_number_gets_one() {
    let left = |config: &str| {
        let mut partition = Partition::in_batches_of(1);
        partition.filter::<Earlier>(config, &named("a", 12, 0)).expect("a configuration");
        partition
    };
    // It had both, and still has.
    let mut partition = left(BOTH);
    assert_eq!(passed(&mut partition, BOTH, &named("a", 12, 99)), 0);
    assert_eq!(passed(&mut partition, BOTH, &named("a", 12, 100)), 12);
    // Nothing bounds what it had without an age.
    let mut partition = left(KEYS);
    assert_eq!(passed(&mut partition, AGE, &named("a", 12, 50)), 0);
    assert_eq!(passed(&mut partition, AGE, &named("a", 12, 150)), 12);
    // The same when an age comes after the new version has put keys without one.
    let mut partition = left(KEYS);
    passed(&mut partition, KEYS, &named("b", 1, 0));
    assert_eq!(passed(&mut partition, BOTH, &named("a", 12, 50)), 0);
    assert_eq!(passed(&mut partition, BOTH, &named("a", 12, 150)), 12);
    // `max_keys` bounds the rest.
    let mut partition = left(KEYS);
    let lowered = r#"{"max_keys": 2, "max_age_ms": 100}"#;
    assert_eq!(passed(&mut partition, lowered, &named("b", 12, 1)), 12);
    assert_eq!(partition.filter::<Dedupe>(lowered, &[]).expect("a configuration").state.len(), 2 + 2 + 2);
}

#[test]
fn a_memory_without_bounds_is_refused() {
    let error = |config| Partition::in_batches_of(1).filter::<Dedupe>(config, &[]).expect_err(config)[0].path.clone();
    assert_eq!(error("{}"), "");
    assert_eq!(error(r#"{"max_keys": 0}"#), "/max_keys");
    assert_eq!(error(r#"{"max_age_ms": 0}"#), "/max_age_ms");
    assert_eq!(error(r#"{"max_age_ms": 1, "by": {"pointer": "id"}}"#), "/by");
}
