//! Batches with any number of bad records, against the same records one by one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::config::{BreakerAction, Config};
use crate::link::memory;
use crate::link::pipeline::Stage;
use crate::link::revision::{Origin, RevisionRecord, StageSpec};
use crate::link::watch::Watch;
use crate::model::{BatchBuilder, Digest, Limits, RevisionNumber, StateRow};
use crate::plugin::PluginEngine;
use crate::plugin::engine::CALLING_STACK_BYTES;

/// The most records that a batch may have.
const MANY: usize = 100_000;

/// What a lane's thread has beside what plugins may take is 1 MiB: a search must do with less.
const STACK_BYTES: usize = CALLING_STACK_BYTES - (256 << 10);

/// Timestamps of these tests are behind it.
const CLOCK: ahead::WallClock = ahead::WallClock(i64::MAX);

static ENGINE: LazyLock<PluginEngine> = LazyLock::new(|| PluginEngine::new(None).expect("an engine"));
static COMPONENT: LazyLock<Vec<u8>> = LazyLock::new(|| wat::parse_str(include_str!("ordered.wat")).expect("valid"));

/// What is done with a record: see `ordered.wat`.
type Order = u8;

/// An order, and the timestamp of the record.
type Ordered = (Order, i64);

/// A lane's run with what it remembers.
struct Bench {
    run: Run,
    states: Vec<Option<State>>,
    seen: Seen,
}

/// All that can be seen of what became of records.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    outputs: Vec<i64>,
    /// Offset, stage and code.
    letters: Vec<(i64, Option<usize>, String)>,
    /// By stage.
    rows: Vec<BTreeMap<Vec<u8>, StateRow>>,
    times: Vec<i64>,
    /// For each stage the records in, out, dropped, rejected and trapped on.
    tallies: Vec<[u64; 5]>,
}

impl Bench {
    fn new(policies: &[OnError]) -> Self {
        let text = "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
                    [links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n";
        let (config, _) = Config::parse(text, "tidegate.toml", Path::new("")).expect("a configuration");
        let mut config = config.links["l"].clone();
        config.breaker = BreakerConfig {
            window_records: 10 * MANY as u64,
            rejected_percent: 100,
            trapped_percent: 100,
            then: BreakerAction::Pause,
        };
        let plugin = ENGINE.load(&COMPONENT).expect("a plugin");
        let limits = Limits { host_calls_per_record: 10, ..Limits::default() };
        let spec = |(number, on_error): (usize, &OnError)| StageSpec {
            time_ahead_max_ms: None,
            name: format!("stage{number}"),
            plugin_digest: plugin.digest(),
            plugin_name: "ordered".to_owned(),
            plugin_version: "1".to_owned(),
            config: serde_json::json!({}).into(),
            on_error: *on_error,
            limits: limits.clone(),
        };
        let record = RevisionRecord {
            number: RevisionNumber(1),
            digest: Digest::of(b"content"),
            at_ms: 0,
            by: "test".to_owned(),
            origin: Origin::Toml,
            reason: None,
            undoes: None,
            restores: None,
            trial_until_ms: None,
            stages: policies.iter().enumerate().map(spec).collect(),
            builtins: crate::model::Builtins::default(),
        };
        let stage = |spec: &StageSpec| Stage { spec: spec.clone(), plugin: plugin.clone(), stats: Arc::default() };
        let stages = record.stages.iter().map(stage).collect();
        let pipeline = Pipeline::new(
            record,
            BTreeSet::new(),
            BTreeSet::new(),
            builtins::Builtins::default(),
            stages,
            Watch::default(),
        );
        let run = Run::new(&config, &Arc::new(pipeline)).expect("instances");
        let states = policies.iter().map(|_| Some(State::new(BTreeMap::new(), i64::MIN, limits.state_bytes))).collect();
        let seen = Seen {
            rows: vec![BTreeMap::new(); policies.len()],
            tallies: vec![[0; 5]; policies.len()],
            ..Seen::default()
        };
        Self { run, states, seen }
    }

    /// Let a batch go through, as a lane does.
    fn process(&mut self, batch: Batch) -> Result<(), Stop> {
        let search = Search { deadline: Instant::now() + Duration::from_secs(3600), interrupted: &|| false };
        let processed = match self.run.process(batch, &mut self.states, &CLOCK, None) {
            Err(Stop::Poisoned(batch)) => {
                memory::undo(&mut self.states);
                self.run.process(*batch, &mut self.states, &CLOCK, Some(search))?
            }
            done => done?,
        };
        memory::accept(&mut self.states);
        let seen = &mut self.seen;
        seen.outputs.extend(processed.outputs.iter().flat_map(|batch| &batch.offsets));
        let letters = processed.letters.into_iter();
        seen.letters.extend(letters.map(|letter| (letter.record.offsets[0], letter.stage, letter.cause.code)));
        for (rows, state) in seen.rows.iter_mut().zip(self.states.iter_mut().flatten()) {
            for (key, row) in state.take_changes() {
                match row {
                    Some(row) => drop(rows.insert(key, row)),
                    None => drop(rows.remove(&key)),
                }
            }
        }
        seen.times = self.states.iter().flatten().map(State::time).collect();
        for (sums, tally) in seen.tallies.iter_mut().zip(&processed.tallies) {
            let counts = [tally.records_in, tally.records_out, tally.dropped, tally.rejected, tally.trapped];
            sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
        }
        Ok(())
    }

    /// How many records the plugin of a stage was handed, all calls together.
    fn handed(&self, stage: usize) -> f64 {
        self.run.pipeline.stages[stage].stats.metrics.values()["handed"]
    }
}

fn batch(first: usize, records: &[Ordered]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (index, (order, timestamp)) in records.iter().enumerate() {
        builder.push((first + index) as i64, *timestamp, None, Some(&[0; 16][..usize::from(*order)]), []);
    }
    builder.finish("t", 0)
}

fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(body).expect("a thread");
    thread.join().expect("it ends well");
}

/// A batch of as many records as there can be, all alike but for the timestamps, of which none is good.
fn all_bad(order: Order, timestamp: fn(usize) -> i64, code: &'static str) {
    on_a_small_stack(move || {
        let mut bench = Bench::new(&[OnError::DeadLetter]);
        let records: Vec<_> = (0..MANY).map(|index| (order, timestamp(index))).collect();
        bench.process(batch(0, &records)).expect("processed");
        let wanted: Vec<_> = (0..MANY as i64).map(|offset| (offset, Some(0), code.to_owned())).collect();
        assert!(bench.seen.letters == wanted, "{} letters", bench.seen.letters.len());
        assert_eq!(bench.seen.rows, [BTreeMap::new()]);
        let handed = bench.handed(0) / MANY as f64;
        assert!(handed < 5.0, "each record was handed over {handed} times");
    });
}

#[test]
fn rejects_without_number_are_put_aside() {
    all_bad(1, |_| 0, "");
}

#[test]
fn rejects_that_leave_state_behind_are_put_aside() {
    all_bad(2, |_| 0, "");
}

#[test]
fn rejects_with_falling_timestamps_are_put_aside() {
    // Each is ahead of those behind it, and the last one is good: what was said of it counts only when all others are gone.
    on_a_small_stack(|| {
        let mut bench = Bench::new(&[OnError::DeadLetter]);
        let mut records: Vec<_> = (0..MANY).map(|index| (1, -(index as i64))).collect();
        records.push((0, i64::from(i32::MIN)));
        bench.process(batch(0, &records)).expect("processed");
        assert_eq!((bench.seen.letters.len(), bench.seen.times[0]), (MANY, i64::from(i32::MIN)));
        assert!(bench.handed(0) < 5.0 * MANY as f64, "{}", bench.handed(0));
    });
}

#[test]
fn records_that_trap_are_put_aside_with_a_hint() {
    all_bad(3, |_| 0, "plugin-panic");
}

#[test]
fn records_that_trap_are_put_aside_without_a_hint() {
    all_bad(4, |_| 0, "plugin-panic");
}

#[test]
fn hints_that_lie_cost_no_more_than_none() {
    all_bad(5, |_| 0, "plugin-panic");
}

#[test]
fn a_plugin_that_takes_its_whole_stack_leaves_ours_alone() {
    on_a_small_stack(|| {
        let mut bench = Bench::new(&[OnError::DeadLetter]);
        bench.process(batch(0, &[(8, 0); 1000])).expect("processed");
        assert_eq!(bench.seen.letters.len(), 1000);
    });
}

#[test]
fn a_plugin_that_rejects_what_it_had_handled_gets_one_record_at_a_time() {
    for policy in [OnError::DeadLetter, OnError::Pass] {
        let mut bench = Bench::new(&[policy]);
        bench.process(batch(0, &[(7, 0); 2000])).expect("processed");
        assert_eq!(bench.seen.tallies[0][3], 2000);
        // Twice: without a deadline and with one.
        assert!(bench.handed(0) < 6.0 * 2000.0, "{}", bench.handed(0));
    }
}

#[test]
fn rejects_that_would_take_for_ever_are_given_a_deadline() {
    let mut bench = Bench::new(&[OnError::DeadLetter]);
    let records = vec![(2, 0); 2 * UNDONE_MAX as usize];
    let stop = bench.run.process(batch(0, &records), &mut bench.states, &CLOCK, None);
    assert!(matches!(stop, Err(Stop::Poisoned(batch)) if batch.len() == records.len()));
    memory::undo(&mut bench.states);
    let search = Search { deadline: Instant::now(), interrupted: &|| false };
    thread::sleep(Duration::from_millis(1));
    let stop = bench.run.process(batch(0, &records), &mut bench.states, &CLOCK, Some(search));
    assert!(matches!(stop, Err(Stop::Late(batch)) if batch.len() == records.len()));
}

#[test]
fn the_breaker_opens_amid_a_search() {
    let mut bench = Bench::new(&[OnError::DeadLetter]);
    bench.run.breaker.window_records = 1000;
    bench.run.breaker.trapped_percent = 5;
    let stop = bench.process(batch(0, &vec![(3, 0); MANY]));
    assert!(matches!(stop, Err(Stop::Breaker(reason)) if reason.contains("trapped on 51 records")));
}

fn ordered() -> impl Strategy<Value = Vec<Ordered>> {
    let order = prop_oneof![12 => Just(0), 2 => Just(1), 2 => Just(2), 1 => 3..=6_u8];
    prop::collection::vec((order, 0..12_i64), 1..60)
}

fn policies() -> impl Strategy<Value = Vec<OnError>> {
    let policy = prop_oneof![Just(OnError::DeadLetter), Just(OnError::Skip), Just(OnError::Pass)];
    prop::collection::vec(policy, 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However batches are cut, and whatever is bad of them: what comes out is what comes out of one record after the other.
    #[test]
    fn a_batch_is_its_records_one_by_one(
        records in ordered(),
        policies in policies(),
        cuts in prop::collection::vec(1..40_usize, 0..6),
    ) {
        let (mut whole, mut single) = (Bench::new(&policies), Bench::new(&policies));
        let mut from = 0;
        for cut in cuts.into_iter().chain([records.len()]) {
            let to = records.len().min(from + cut);
            whole.process(batch(from, &records[from..to])).expect("processed");
            from = to;
        }
        for (index, record) in records.iter().enumerate() {
            single.process(batch(index, &[*record])).expect("processed");
        }
        prop_assert_eq!(whole.seen, single.seen);
    }
}
