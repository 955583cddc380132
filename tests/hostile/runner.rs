//! Lets every plugin of the table do its worst, and compares what is seen with what the table says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate::model::{Batch, BatchBuilder, HeaderRef, Limits};
use tidegate::plugin::{ConfigError, PluginEngine, StageMetrics, State};

use crate::table::{Row, Seen, rows};
use crate::template::Template;

/// No message about a plugin is longer than this, whatever the plugin says.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What of the memory that plugins took may still be there when they are gone: the allocator keeps some for the next.
const RESIDENT_BYTES_MARGIN: i64 = 8 << 20;

/// What became of a plugin.
#[derive(Debug)]
pub enum Outcome {
    Refused(String),
    Unconfigurable(String),
    Poison { code: &'static str, message: String },
    Worked { log_lines: u64, metrics: u64 },
}

impl Outcome {
    fn is(&self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Refused(message), Seen::Refused(words)) => message.contains(words),
            (Self::Unconfigurable(message), Seen::Unconfigurable(words)) => message.contains(words),
            (Self::Poison { code, message }, Seen::Poison(wanted, words)) => code == wanted && message.contains(words),
            (Self::Worked { log_lines, metrics }, Seen::Dropped { log_lines: lines, metrics: changes }) => {
                log_lines >= lines && metrics >= changes
            }
            (Self::Worked { log_lines, metrics }, Seen::Harmless) => (*log_lines, *metrics) == (0, 0),
            _ => false,
        }
    }

    fn message(&self) -> &str {
        match self {
            Self::Refused(message) | Self::Unconfigurable(message) | Self::Poison { message, .. } => message,
            Self::Worked { .. } => "",
        }
    }
}

/// Three records, one of them large.
fn batch() -> Batch {
    let mut builder = BatchBuilder::new();
    for (offset, length) in [(7, 200), (8, 5), (9, 0)] {
        let header = HeaderRef { name: b"name", value: Some(b"value") };
        builder.push(offset, 1000 + offset, Some(b"key"), Some(&vec![b'v'; length]), [header]);
    }
    builder.finish("orders", 0)
}

fn limits() -> Limits {
    Limits { memory_bytes: 16 << 20, time_ms: 50, record_time_ms: 50, output_bytes: 1 << 20, ..Limits::default() }
}

/// What `tidegate plugin inspect` says against a component; nothing if it shows it. The compiler has five seconds, so that nobody
/// waits a minute for a bomb.
fn inspect(component: &[u8]) -> Result<(), String> {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("plugin.wasm");
    fs::write(&file, component).expect("a file");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -St 5; exec \"$0\" plugin inspect \"$1\""])
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(&file);
    let output = shell.output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(0) => Ok(()),
        Some(1) if error.starts_with("error: ") => Err(error),
        status => panic!("inspect ended with {status:?}: {error}"),
    }
}

/// Load a plugin, configure it, and let it work on a batch.
fn call(engine: &PluginEngine, component: &[u8]) -> Outcome {
    let plugin = match engine.load(component) {
        Ok(plugin) => plugin,
        Err(refusal) => return Outcome::Refused(refusal.to_string()),
    };
    let metrics = Arc::<StageMetrics>::default();
    let instance = match plugin.configure(&"stage".into(), "{}", &limits(), &metrics) {
        Ok(instance) => instance,
        Err(error @ (ConfigError::Refused(_) | ConfigError::Trapped(_))) => {
            return Outcome::Unconfigurable(error.to_string());
        }
    };
    let mut state = plugin.state_version().map(|_| State::new(BTreeMap::new(), i64::MIN, 1 << 20));
    match instance.call(&batch(), limits().time(), state.as_mut()) {
        Ok((instance, verdict)) => {
            assert!(instance.memory_bytes() <= limits().memory_bytes);
            let done = verdict.apply(batch());
            assert!(done.batch.offsets.iter().all(|offset| (7..10).contains(offset)));
            let dropped = metrics.dropped();
            Outcome::Worked { log_lines: dropped.log_lines, metrics: dropped.metrics }
        }
        Err(trapped) => {
            let trap = trapped.trap;
            Outcome::Poison { code: trap.kind.code(), message: trap.message }
        }
    }
}

/// What the operator sees of a component, from the first look on.
fn outcome(engine: &PluginEngine, component: &[u8]) -> Outcome {
    match inspect(component) {
        Err(message) => Outcome::Refused(message),
        Ok(()) => call(engine, component),
    }
}

/// The memory of this process that is in use, in bytes.
fn resident_bytes() -> i64 {
    let status = fs::read_to_string(Path::new("/proc/self/status")).expect("a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the memory in use");
    line.trim().trim_end_matches(" kB").parse::<i64>().expect("a number") << 10
}

/// What is wrong with what was seen of a row; nothing if all is as the table says.
fn fault(engine: &PluginEngine, row: &Row) -> Option<String> {
    let component = row.component();
    let before = resident_bytes();
    let outcome = outcome(engine, &component);
    engine.forget_unused();
    let kept = resident_bytes() - before;
    let wanted = &row.seen;
    if !outcome.is(wanted) {
        return Some(format!("{}: wanted {wanted:?}, found {outcome:?}", row.name));
    }
    if outcome.message().len() > MESSAGE_BYTES_MAX {
        return Some(format!("{}: a message of {} bytes", row.name, outcome.message().len()));
    }
    (kept > RESIDENT_BYTES_MARGIN).then(|| format!("{}: {kept} bytes of memory are kept", row.name))
}

/// Tests wait for each other, for one measures the memory of the process.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn every_plugin_is_seen_as_the_table_says_and_leaves_nothing_behind() {
    let _turn = turn();
    let engine = PluginEngine::new(None).expect("an engine");
    assert!(outcome(&engine, &Template::filter().bytes()).is(&Seen::Harmless));
    let before = resident_bytes();
    let faults: Vec<String> = rows().iter().filter_map(|row| fault(&engine, row)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(outcome(&engine, &Template::filter().bytes()).is(&Seen::Harmless), "the engine is as good as before");
    engine.forget_unused();
    let kept = resident_bytes() - before;
    assert!(kept < RESIDENT_BYTES_MARGIN, "{kept} bytes of memory are kept");
}

#[test]
fn what_is_not_made_hostile_works() {
    let _turn = turn();
    let engine = PluginEngine::new(None).expect("an engine");
    for template in [Template::filter(), Template::transform(), Template::filter().with_host()] {
        let outcome = outcome(&engine, &template.bytes());
        assert!(outcome.is(&Seen::Harmless), "{outcome:?}");
    }
}

#[test]
fn a_component_cut_anywhere_is_refused() {
    let _turn = turn();
    let engine = PluginEngine::new(None).expect("an engine");
    let whole = Template::transform().with_host().bytes();
    // A cut between two sections leaves a valid component, which then lacks an export.
    for length in (0..whole.len()).step_by(7) {
        let outcome = call(&engine, &whole[..length]);
        assert!(matches!(outcome, Outcome::Refused(_)), "{length} of {} bytes: {outcome:?}", whole.len());
    }
}

/// Flips of a bit may leave a valid plugin that does something else. Whatever it does, the process goes on, and what is said is short.
#[test]
fn a_component_with_a_flipped_bit_is_refused_or_contained() {
    let _turn = turn();
    let engine = PluginEngine::new(None).expect("an engine");
    let whole = Template::transform().with_host().bytes();
    let mut seed = 0x5eed_u64;
    let mut refused = 0;
    for _ in 0..300 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (seed >> 33) as usize % (whole.len() * 8);
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let outcome = call(&engine, &flipped);
        assert!(outcome.message().len() < MESSAGE_BYTES_MAX, "bit {bit}: {outcome:?}");
        refused += u32::from(matches!(outcome, Outcome::Refused(_)));
        engine.forget_unused();
    }
    assert!((100..300).contains(&refused), "{refused} of 300 refused: the flips do not hit what they should");
    assert!(call(&engine, &whole).is(&Seen::Harmless), "the engine is as good as before");
}
