//! Records in, results out; always the same, however the batches are cut.

use std::collections::BTreeMap;

use tidegate_plugin::testing::{Answer, Partition, TestRecord};

use super::*;

/// A record with the key, the timestamp and the field `n` of its value.
fn record(key: &str, timestamp: i64, n: &str) -> TestRecord {
    TestRecord {
        key: Some(key.as_bytes().to_vec()),
        value: Some(format!(r#"{{"n":{n}}}"#).into_bytes()),
        headers: vec![(b"h".to_vec(), None)],
        timestamp,
        ..TestRecord::default()
    }
}

fn numbered(mut records: Vec<TestRecord>) -> Vec<TestRecord> {
    records.iter_mut().zip(0..).for_each(|(record, offset)| record.offset = offset);
    records
}

fn run(config: &str, records: &[TestRecord]) -> Answer {
    let run = |size| Partition::in_batches_of(size).transform::<Aggregate>(config, records).expect("a configuration");
    let whole = run(records.len());
    for size in [1, 3] {
        assert_eq!(run(size), whole, "batches of {size}");
    }
    whole
}

/// Offset, key, value and route of what came out.
fn shown(answer: &Answer) -> Vec<String> {
    let text = |bytes: &Option<Vec<u8>>| {
        bytes.as_ref().map_or("null".to_owned(), |bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let shown = |out: &TestRecord| {
        let route = out.route.as_deref().map(|route| format!(" to {route}")).unwrap_or_default();
        format!("{} {} {}{route}", out.offset, text(&out.key), text(&out.value))
    };
    answer.outputs.iter().map(shown).collect()
}

fn check(config: &str, records: Vec<TestRecord>, expect: &[&str]) -> Answer {
    let answer = run(config, &numbered(records));
    assert_eq!(shown(&answer), expect, "{config}");
    answer
}

const SUM: &str = r#"{"window_ms": 10, "value": "/n", "functions": ["sum"]}"#;

#[test]
fn windows_close_in_order_when_the_record_time_reaches_their_end() {
    let records = vec![
        record("b", 5, "1"),
        record("a", 9, "2"),
        record("b", 0, "3"),
        record("a", 12, "4"),
        record("a", 35, "5"),
        record("a", 40, "6"),
    ];
    let answer = check(
        SUM,
        records,
        &[
            r#"3 a {"window_start":0,"window_end":10,"sum":2}"#,
            r#"3 b {"window_start":0,"window_end":10,"sum":4}"#,
            r#"4 a {"window_start":10,"window_end":20,"sum":4}"#,
            r#"5 a {"window_start":30,"window_end":40,"sum":5}"#,
        ],
    );
    assert!(answer.outputs.iter().all(|out| out.headers.is_empty()));
    assert_eq!(answer.outputs.iter().map(|out| out.timestamp).collect::<Vec<_>>(), [9, 9, 19, 39]);
    assert_eq!(answer.state.len(), 2, "the open window and the progress");
}

#[test]
fn a_window_waits_for_its_grace() {
    let config = r#"{"window_ms": 10, "functions": ["count"], "grace_ms": 5, "late_route": "late"}"#;
    let records = vec![
        record("a", 1, "0"),
        record("a", 14, "0"),
        record("a", 2, "0"),
        record("a", 15, "0"),
        record("a", 3, "0"),
        record("b", 10, "0"),
    ];
    let answer =
        check(config, records, &[r#"3 a {"window_start":0,"window_end":10,"count":2}"#, r#"4 a {"n":0} to late"#]);
    assert_eq!((answer.outputs[1].timestamp, answer.outputs[1].headers.len()), (3, 1), "a late record is as it was");
    let without_route = config.replace(r#", "late_route": "late""#, "");
    check(&without_route, vec![record("a", 15, "0"), record("a", 3, "0")], &[]);
}

#[test]
fn a_rejected_record_neither_closes_a_window_nor_counts() {
    let records = vec![
        record("a", 1, "1"),
        record("a", 99, "\"no\""),
        record("a", 2, "2"),
        record("a", 98, "[]"),
        record("a", 10, "0"),
        record("a", i64::MAX, "0"),
        TestRecord { value: None, ..record("a", 500, "0") },
        TestRecord { value: Some(b"{".to_vec()), ..record("a", 500, "0") },
        record("a", 500, "1e999"),
    ];
    let answer = check(SUM, records, &[r#"4 a {"window_start":0,"window_end":10,"sum":3}"#]);
    let codes = [
        (1, "not-a-number"),
        (3, "not-a-number"),
        (5, "bad-timestamp"),
        (6, "not-a-number"),
        (7, "not-json"),
        (8, "overflow"),
    ];
    assert_eq!(answer.rejects, codes.map(|(offset, code)| (offset, code.to_owned())));
}

#[test]
fn a_reject_after_windows_closed_takes_the_results_back() {
    let largest = i128::MAX.to_string();
    let config = r#"{"window_ms": 10, "value": "/n", "functions": ["sum"], "grace_ms": 5}"#;
    // The third record closes the first window, and then is too much for its own.
    let records = vec![record("a", 0, "1"), record("b", 12, &largest), record("b", 16, "1"), record("c", 14, "5")];
    let answer = check(config, records.clone(), &[]);
    assert_eq!((answer.rejects.len(), answer.state.len()), (1, 4), "three cells and the progress");
    let records = [records, vec![record("c", 15, "0")]].concat();
    check(config, records, &[r#"4 a {"window_start":0,"window_end":10,"sum":1}"#]);
}

#[test]
fn groups_are_keys_or_texts_of_the_value() {
    let config = r#"{"window_ms": 10, "by": {"pointer": "/g"}, "functions": ["count"]}"#;
    let value = |value: &str, timestamp| TestRecord {
        value: Some(value.as_bytes().to_vec()),
        timestamp,
        ..TestRecord::default()
    };
    let records = vec![
        value(r#"{"g":"x"}"#, 0),
        value(r#"{"g":7}"#, 0),
        value(r#"{}"#, 0),
        TestRecord::default(),
        value(r#"{"g":"7"}"#, 0),
        value(r#"{"g":""}"#, 10),
    ];
    check(
        config,
        records,
        &[
            r#"5 null {"window_start":0,"window_end":10,"count":2}"#,
            r#"5 7 {"window_start":0,"window_end":10,"count":2}"#,
            r#"5 x {"window_start":0,"window_end":10,"count":1}"#,
        ],
    );
}

#[test]
fn many_results_come_out_in_portions_and_once() {
    let groups = 2 * RESULTS_AT_ONCE + 1;
    let mut records: Vec<_> = (0..groups).map(|n| record(&format!("{n:05}"), 0, "1")).collect();
    records.extend((0..40).map(|n| record("z", 10 + n, "1")));
    let records = numbered(records);
    let run = |size| Partition::in_batches_of(size).transform::<Aggregate>(SUM, &records).expect("a configuration");
    let answer = run(1000);
    assert_eq!(run(1), answer);
    let first: Vec<_> = answer.outputs[..groups].iter().filter_map(|out| out.key.clone()).collect();
    assert!(first.is_sorted(), "in the order of the groups, and each once");
    let of = |offset: usize| answer.outputs.iter().filter(|out| out.offset == offset as i64).count();
    assert_eq!([of(groups), of(groups + 1), of(groups + 2), of(groups + 3)], [RESULTS_AT_ONCE, RESULTS_AT_ONCE, 1, 0]);
    assert_eq!(answer.outputs.len(), groups + 3);
    assert_eq!(answer.state.len(), 2, "all closed cells are deleted");
}

#[test]
fn a_change_of_the_configuration_loses_no_window_and_repeats_none() {
    let longer = SUM.replace("10", "100");
    let patient = SUM.replace("\"value\"", "\"grace_ms\": 1000, \"value\"");
    let mut partition = Partition::in_batches_of(2);
    let mut step = |config: &str, offset, records: Vec<TestRecord>| {
        let mut records = numbered(records);
        records.iter_mut().for_each(|record| record.offset += offset);
        shown(&partition.transform::<Aggregate>(config, &records).expect("a configuration"))
    };
    assert!(step(SUM, 0, vec![record("a", 1, "1")]).is_empty());
    assert_eq!(
        step(&longer, 10, vec![record("a", 2, "2"), record("a", 50, "4")]),
        [r#"11 a {"window_start":0,"window_end":10,"sum":1}"#]
    );
    assert_eq!(
        step(SUM, 20, vec![record("a", 60, "8"), record("a", 100, "16")]),
        [r#"21 a {"window_start":60,"window_end":70,"sum":8}"#, r#"21 a {"window_start":0,"window_end":100,"sum":6}"#]
    );
    assert!(step(&patient, 30, vec![record("a", 61, "32"), record("a", 110, "64")]).is_empty());
    assert_eq!(
        step(SUM, 40, vec![record("a", 120, "0")]),
        [
            r#"40 a {"window_start":100,"window_end":110,"sum":16}"#,
            r#"40 a {"window_start":110,"window_end":120,"sum":64}"#
        ]
    );
}

/// What should come out, computed in the plain way: the window, the group and the sum; and how many were late.
fn model(records: &[(u8, i64, i64)], window: i64, grace: i64) -> (Vec<(i64, u8, i64)>, usize) {
    let (mut open, mut out, mut late) = (BTreeMap::new(), Vec::new(), 0);
    let mut time = i64::MIN;
    for (group, timestamp, n) in records {
        time = time.max(*timestamp);
        while let Some(entry) =
            open.first_entry().filter(|entry: &std::collections::btree_map::OccupiedEntry<'_, (i64, u8), i64>| {
                entry.key().0 + window + grace <= time
            })
        {
            let ((start, group), sum) = entry.remove_entry();
            out.push((start, group, sum));
        }
        let start = timestamp.div_euclid(window) * window;
        if start + window + grace <= time {
            late += 1;
        } else {
            *open.entry((start, *group)).or_insert(0) += n;
        }
    }
    (out, late)
}

#[test]
fn agrees_with_a_plain_computation() {
    let mut random: u64 = 42;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) % below) as i64
    };
    let mut late_in_all = 0;
    for (window, grace) in [(1, 0), (7, 3), (10, 25), (100, 0)] {
        let plain: Vec<_> =
            (0..2000).map(|n| (b'a' + next(3) as u8, n / 2 - 500 + next(30), next(1000) - 500)).collect();
        let record = |(group, timestamp, n): &(u8, i64, i64)| {
            let group = char::from(*group).to_string();
            self::record(&group, *timestamp, &n.to_string())
        };
        let records = numbered(plain.iter().map(record).collect());
        let config = format!(
            r#"{{"window_ms": {window}, "grace_ms": {grace}, "value": "/n", "functions": ["sum"], "late_route": "late"}}"#
        );
        let answer = run(&config, &records);
        let (expect, late) = model(&plain, window, grace);
        let expect: Vec<_> = expect
            .into_iter()
            .map(|(start, group, sum)| {
                let end = start + window;
                let key = char::from(group);
                format!(r#"{key} {{"window_start":{start},"window_end":{end},"sum":{sum}}}"#)
            })
            .collect();
        let results = shown(&answer).into_iter().filter(|line| !line.ends_with("late"));
        let results: Vec<_> =
            results.filter_map(|line| line.split_once(' ').map(|(_, rest)| rest.to_owned())).collect();
        assert_eq!(results, expect, "{config}");
        assert_eq!(answer.outputs.len(), expect.len() + late, "{config}");
        late_in_all += late;
    }
    assert!(late_in_all > 100, "only {late_in_all} were late");
}

/// State outlives versions of the plugin: this layout has the number 1 for ever.
#[test]
fn version_1_of_the_state_is_what_it_was() {
    assert_eq!(Aggregate::STATE_VERSION, 1);
    let answer = run(SUM, &numbered(vec![record("k", 1, "-2"), record("k", 2, "1.5")]));
    let cell = b"w\x80\0\0\0\0\0\0\x0a\x80\0\0\0\0\0\0\0\x01k".to_vec();
    let minus_two = [&[0, 0xfe][..], &[0xff; 15]].concat();
    let tally = [&[2, 0, 0, 0, 0, 0, 0, 0, 1][..], &(-0.5f64).to_le_bytes(), &minus_two, &[1], &1.5f64.to_le_bytes()];
    let progress = [&[0, 0, 0, 0, 0, 0, 0, 0x80, 0][..], &cell].concat();
    assert_eq!(answer.state, [(b"p".to_vec(), progress), (cell, tally.concat())]);
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let errors = |config: &str| -> Vec<_> {
        let errors = Partition::in_batches_of(1).transform::<Aggregate>(config, &[]).expect_err(config);
        errors.into_iter().map(|error| error.path).collect()
    };
    assert_eq!(errors(r#"{"window_ms": 0, "functions": []}"#), ["/window_ms", "/functions"]);
    assert_eq!(errors(r#"{"window_ms": 1, "functions": ["sum", "sum"]}"#), ["/functions/1", "/value"]);
    assert_eq!(errors(r#"{"window_ms": 1, "functions": ["count"], "value": ""}"#), ["/value"]);
    assert_eq!(errors(r#"{"window_ms": 1, "functions": ["mean"]}"#), ["/functions/0"]);
}
