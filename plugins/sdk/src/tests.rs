//! A batch in, verdicts or outputs out, without a host.

use crate::bindings::types::{self, Batch};
use crate::export::{self, Slot};
use crate::{Column, ConfigError, Filter, Header, NoConfig, Outputs, Record, Reject, Route, Routes, Transform};

const NULL: u32 = u32::MAX;
const KEEP: u32 = u32::MAX - 1;

/// Three records: key `k`, value `one`, two headers; null key, empty value, no header; key `m`, null value, one header.
fn batch() -> Batch {
    Batch {
        topic: "orders".to_owned(),
        partition: 3,
        count: 3,
        arena: b"..kone-h1v1h1m".to_vec(),
        keys: vec![2, 1, 0, NULL, 13, 1],
        values: vec![3, 3, 14, 0, 0, NULL],
        header_ends: vec![2, 2, 3],
        headers: vec![7, 2, 9, 2, 11, 2, 0, NULL, 7, 2, 9, 0],
        timestamps: vec![100, -1, i64::MAX],
        offsets: vec![40, 41, 41],
        first_ordinal: 0,
    }
}

/// Records `from..to` of a batch, as a host that cuts it would hand them over.
fn cut(batch: &Batch, from: usize, to: usize) -> Batch {
    let first_header = if from == 0 { 0 } else { batch.header_ends[from - 1] };
    let last_header = batch.header_ends[to - 1];
    let siblings = batch.offsets[..from].iter().rev().take_while(|offset| **offset == batch.offsets[from]).count();
    Batch {
        count: (to - from) as u32,
        keys: batch.keys[2 * from..2 * to].to_vec(),
        values: batch.values[2 * from..2 * to].to_vec(),
        header_ends: batch.header_ends[from..to].iter().map(|end| end - first_header).collect(),
        headers: batch.headers[4 * first_header as usize..4 * last_header as usize].to_vec(),
        timestamps: batch.timestamps[from..to].to_vec(),
        offsets: batch.offsets[from..to].to_vec(),
        first_ordinal: siblings as u32,
        ..batch.clone()
    }
}

fn slot<T: Transform>(config: &str) -> Slot<T> {
    let slot = Slot::new();
    export::configure_transform(&slot, "stage".to_owned(), config).expect("a configuration");
    slot
}

/// Writes all that a record says into its value.
struct Print;

impl Transform for Print {
    type Config = NoConfig;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value, Column::Headers, Column::Timestamp, Column::Offset];

    fn new(_: NoConfig, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        Ok(Self)
    }

    fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let show = |bytes: Option<&[u8]>| bytes.map_or("null".to_owned(), |b| String::from_utf8_lossy(b).into_owned());
        let headers: Vec<_> = record.headers().map(|h| format!("{}={}", show(Some(h.name)), show(h.value))).collect();
        let place = format!("{}-{}@{}.{}", record.topic(), record.partition(), record.offset(), record.ordinal());
        let (key, value, headers) = (show(record.key()), show(record.value()), headers.join(","));
        let printed = format!("{place} {key}:{value} [{headers}] {} {:x}", record.timestamp(), record.random());
        outputs.emit().value(Some(printed.as_bytes()));
        Ok(())
    }
}

fn printed(batch: Batch) -> Vec<String> {
    let outputs = export::transform(&slot::<Print>("{}"), batch);
    let range = |range: &[u32]| outputs.arena[range[0] as usize..][..range[1] as usize].to_vec();
    outputs.values.chunks(2).map(|r| String::from_utf8(range(r)).expect("text")).collect()
}

#[test]
fn a_record_has_all_its_columns() {
    assert_eq!(
        printed(batch()),
        [
            "orders-3@40.0 k:one [h1=v1,h1=null] 100 a6c228fb66c423cb",
            "orders-3@41.0 null: [] -1 6799695900f70343",
            "orders-3@41.1 m:null [h1=] 9223372036854775807 649cfab8de0be1cb",
        ]
    );
}

#[test]
fn cutting_a_batch_changes_nothing() {
    let whole = printed(batch());
    let ones: Vec<_> = (0..3).flat_map(|i| printed(cut(&batch(), i, i + 1))).collect();
    let between_siblings = [printed(cut(&batch(), 0, 2)), printed(cut(&batch(), 2, 3))].concat();
    assert_eq!(ones, whole);
    assert_eq!(between_siblings, whole);
}

#[test]
fn header_finds_the_last_of_a_name() {
    struct Last;
    impl Filter for Last {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Headers];

        fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
            Ok(Self)
        }

        fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
            Ok(record.header(b"h1") == Some(Header { name: b"h1", value: None }))
        }
    }
    let slot = Slot::<Last>::new();
    export::configure_filter(&slot, String::new(), "{}").expect("a configuration");
    assert_eq!(export::filter(&slot, batch()).keep, [1, 0, 0]);
}

/// Keeps what has a key, rejects tombstones.
struct Keyed;

impl Filter for Keyed {
    type Config = NoConfig;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value];

    fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
        Ok(Self)
    }

    fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
        record.value().ok_or_else(|| Reject::new("tombstone", "no value"))?;
        Ok(record.key().is_some())
    }
}

#[test]
fn a_filter_answers_for_every_record() {
    let slot = Slot::<Keyed>::new();
    export::configure_filter(&slot, "stage".to_owned(), "{}").expect("a configuration");
    let columns = Batch { header_ends: vec![], headers: vec![], timestamps: vec![], offsets: vec![], ..batch() };
    let verdicts = export::filter(&slot, columns);
    assert_eq!(verdicts.keep, [1, 0, 0]);
    let [reject] = verdicts.rejects.as_slice() else { unreachable!("one reject") };
    assert_eq!((reject.index, reject.code.as_str(), reject.message.as_str()), (2, "tombstone", "no value"));
}

#[test]
#[should_panic(expected = "not in the plugin's NEEDS: Columns(OFFSET)")]
fn a_column_that_was_not_asked_for_is_no_null() {
    struct Careless;
    impl Filter for Careless {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Key];

        fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
            Ok(Self)
        }

        fn keep(&self, record: &Record<'_>) -> Result<bool, Reject> {
            Ok(record.offset() > 0)
        }
    }
    let slot = Slot::<Careless>::new();
    export::configure_filter(&slot, String::new(), "{}").expect("a configuration");
    export::filter(&slot, batch());
}

#[test]
fn a_description_says_what_a_plugin_needs() {
    let description = export::describe_filter::<Keyed>("keyed", "1.2.3");
    assert_eq!((description.name.as_str(), description.version.as_str()), ("keyed", "1.2.3"));
    assert_eq!(description.needs, types::Columns::KEY | types::Columns::VALUE);
    let schema: serde_json::Value = serde_json::from_str(&description.config_schema).expect("JSON");
    assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()));
}

#[test]
fn a_configuration_that_is_refused_configures_nothing() {
    let slot = Slot::<Keyed>::new();
    let errors = export::configure_filter(&slot, String::new(), r#"{"x": 1}"#).expect_err("an unknown key");
    assert_eq!(errors[0].path, "/x");
    assert!(slot.get().is_none());
}

/// Runs a transform that does `emit` with each record.
fn emitted(emit: fn(&Record<'_>, &mut Outputs, Route) -> Result<(), Reject>) -> types::Outputs {
    type Emit = fn(&Record<'_>, &mut Outputs, Route) -> Result<(), Reject>;
    std::thread_local!(static EMIT: std::cell::Cell<Option<Emit>> = const { std::cell::Cell::new(None) });
    struct Emitter(Route);
    impl Transform for Emitter {
        type Config = NoConfig;
        const NEEDS: &'static [Column] = &[Column::Key, Column::Headers];

        fn new(_: NoConfig, routes: &mut Routes) -> Result<Self, Vec<ConfigError>> {
            routes.declare("first");
            Ok(Self(routes.declare("second")))
        }

        fn transform(&self, record: &Record<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
            EMIT.get().expect("set")(record, outputs, self.0)
        }
    }
    EMIT.set(Some(emit));
    export::transform(&slot::<Emitter>("{}"), batch())
}

#[test]
fn what_nobody_sets_stays_empty() {
    let outputs = emitted(|_, outputs, _| {
        outputs.emit();
        Ok(())
    });
    assert_eq!(outputs.sources, [0, 1, 2]);
    assert!(outputs.arena.is_empty() && outputs.keys.is_empty() && outputs.values.is_empty());
    assert!(outputs.header_counts.is_empty() && outputs.headers.is_empty() && outputs.timestamps.is_empty());
    assert!(outputs.routes.is_empty() && outputs.partition_keys.is_empty() && outputs.rejects.is_empty());
}

#[test]
fn what_one_output_sets_is_kept_for_the_others() {
    let outputs = emitted(|record, outputs, second| {
        if record.key().is_none() {
            let mut output = outputs.emit();
            output.key(Some(b"new")).value(None).timestamp(7).route(second).partition_key(b"p");
            output.headers([Header::new(b"a", b"b"), Header { name: b"c", value: None }]);
        } else {
            outputs.emit();
        }
        Ok(())
    });
    assert_eq!(outputs.sources, [0, 1, 2]);
    assert_eq!(outputs.arena, b"newpabc");
    assert_eq!(outputs.keys, [0, KEEP, 0, 3, 0, KEEP]);
    assert_eq!(outputs.values, [0, KEEP, 0, NULL, 0, KEEP]);
    assert_eq!(outputs.timestamps, [i64::MIN, 7, i64::MIN]);
    assert_eq!(outputs.routes, [0, 2, 0]);
    assert_eq!(outputs.partition_keys, [0, NULL, 3, 1, 0, NULL]);
    assert_eq!(outputs.header_counts, [KEEP, 2, KEEP]);
    assert_eq!(outputs.headers, [4, 1, 5, 1, 6, 1, 0, NULL]);
}

#[test]
fn what_is_set_twice_has_the_second_value() {
    let outputs = emitted(|record, outputs, _| {
        outputs.emit().headers(record.headers());
        outputs.emit().headers([Header::new(b"x", b"y")]).headers([]).timestamp(1).timestamp(2);
        Ok(())
    });
    assert_eq!(outputs.sources, [0, 0, 1, 1, 2, 2]);
    assert_eq!(outputs.header_counts, [2, 0, 0, 0, 1, 0]);
    assert_eq!(outputs.headers.len(), 4 * 3);
    assert_eq!(outputs.timestamps, [i64::MIN, 2, i64::MIN, 2, i64::MIN, 2]);
}

#[test]
fn a_reject_takes_back_what_was_emitted() {
    let outputs = emitted(|record, outputs, second| {
        let mut output = outputs.emit();
        output.key(Some(b"gone")).value(Some(b"gone")).route(second).timestamp(1).partition_key(b"gone");
        output.headers([Header::new(b"gone", b"gone")]);
        if record.key() == Some(b"k") {
            return Err(Reject::new("no", "not this one"));
        }
        outputs.emit().value(Some(b"more"));
        Ok(())
    });
    assert_eq!(outputs.sources, [1, 1, 2, 2]);
    assert_eq!(outputs.rejects.iter().map(|reject| reject.index).collect::<Vec<_>>(), [0]);
    assert_eq!(outputs.arena.len(), 2 * (5 * 4 + 4));
    assert_eq!(outputs.values.len(), 2 * 4);
    assert_eq!(outputs.header_counts, [1, KEEP, 1, KEEP]);
    assert_eq!(outputs.headers.len(), 4 * 2);
    assert_eq!(outputs.keys[..2], [0, 4]);
}

#[test]
fn a_topic_declared_twice_is_one_route() {
    let mut routes = Routes::default();
    let (a, b, again) = (routes.declare("a"), routes.declare("b"), routes.declare("a"));
    assert_eq!((a.0, b.0, again.0), (1, 2, 1));
}
