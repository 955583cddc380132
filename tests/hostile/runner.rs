//! Hostile bytes by the hundred, in this process: what is cut or damaged at random, and a bomb that a daemon takes a minute for.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use tidegate::model::{Batch, BatchBuilder, HeaderRef, Limits};
use tidegate::plugin::{ConfigError, PluginEngine, Refusal, StageMetrics, State};

use crate::loading::compiler_bomb;
use crate::template::Template;

/// No message about a plugin is longer than this, whatever the plugin says.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What became of a plugin.
#[derive(Debug)]
enum Outcome {
    Refused(String),
    Unconfigurable(String),
    Poison(String),
    Worked,
}

impl Outcome {
    fn message(&self) -> &str {
        match self {
            Self::Refused(message) | Self::Unconfigurable(message) | Self::Poison(message) => message,
            Self::Worked => "",
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

/// Load a plugin, configure it, and let it work on a batch.
fn call(engine: &PluginEngine, component: &[u8]) -> Outcome {
    let plugin = match engine.load(component) {
        Ok(plugin) => plugin,
        Err(refusal) => return Outcome::Refused(refusal.to_string()),
    };
    let instance = match plugin.configure(&"stage".into(), "{}", &limits(), &Arc::<StageMetrics>::default()) {
        Ok(instance) => instance,
        Err(error) => return Outcome::Unconfigurable(error.to_string()),
    };
    let mut state = plugin.state_version().map(|_| State::new(BTreeMap::new(), i64::MIN, 1 << 20));
    match instance.call(&batch(), limits().time(), state.as_mut()) {
        Ok((instance, verdict)) => {
            assert!(instance.memory_bytes() <= limits().memory_bytes);
            let done = verdict.apply(batch());
            assert!(done.batch.offsets.iter().all(|offset| (7..10).contains(offset)));
            Outcome::Worked
        }
        Err(trapped) => Outcome::Poison(trapped.trap.message),
    }
}

/// `plugin inspect` gives the compiler a second of CPU time here, so that nobody waits a minute.
#[test]
fn a_function_that_takes_the_compiler_minutes_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("plugin.wasm");
    fs::write(&file, compiler_bomb(230_000)).expect("a file");
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -St 1; exec \"$0\" plugin inspect \"$1\""])
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .arg(&file);
    let output = shell.output().expect("the command runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: ") && error.contains("1 s of CPU time to compile"), "{error}");
}

#[test]
fn a_component_cut_anywhere_is_refused() {
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
    assert!(matches!(call(&engine, &whole), Outcome::Worked), "the engine is as good as before");
}

/// Others in the way are no fault of a plugin, and it can come in as soon as one of them goes.
#[test]
fn a_plugin_is_not_blamed_for_a_full_house() {
    let engine = PluginEngine::new(None).expect("an engine");
    let crowd = engine.load(&Template::filter().bytes()).expect("a plugin");
    let configured = || crowd.configure(&"stage".into(), "{}", &limits(), &Arc::<StageMetrics>::default());
    let mut instances = Vec::new();
    let error = loop {
        match configured() {
            Ok(instance) => instances.push(instance),
            Err(error) => break error,
        }
        assert!(instances.len() < 10_000, "there is no end of the room");
    };
    assert!(matches!(error, ConfigError::NoRoom), "{error:?}");
    let other = Template::transform().bytes();
    let refusal = engine.load(&other).expect_err("no room to ask it");
    assert!(matches!(refusal, Refusal::NoRoom), "{refusal}");
    instances.truncate(instances.len() - 1);
    engine.load(&other).expect("there is room for one");
    configured().expect("and after that for another one");
}
