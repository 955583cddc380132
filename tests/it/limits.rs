//! What ends a plugin that takes too much or answers nonsense: a hand-written component, with another body each time.

use std::sync::Arc;

use tidegate::model::{Batch, BatchBuilder, Limits};
use tidegate::plugin::{PluginEngine, Refusal, TrapKind};

const COMPONENT: &str = include_str!("traps.wat");
const BODY: &str = "(result i32) unreachable)\n    (func (export \"realloc\")";

/// The component with this body of `filter`.
fn component(body: &str) -> Vec<u8> {
    assert!(COMPONENT.contains(BODY), "the component has another shape");
    let text = COMPONENT.replace(BODY, &format!("(result i32) {body})\n    (func (export \"realloc\")"));
    wat::parse_str(text).expect("a component")
}

fn one_record() -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(7, 0, None, Some(b"value"), []);
    builder.finish("orders", 0)
}

/// What ends the first call of a plugin whose `filter` has this body.
fn end_of(engine: &PluginEngine, body: &str) -> (TrapKind, String) {
    let limits = Limits { memory_bytes: 2 << 20, time_ms: 50, output_bytes: 1000, ..Limits::default() };
    let plugin = engine.load(&component(body)).expect("a plugin");
    let instance = plugin.configure(&"stage".into(), "{}", &limits, &Arc::default()).expect("configured");
    let trapped = instance.call(&one_record(), limits.time(), None).expect_err("it must not go well");
    (trapped.trap.kind, trapped.trap.message)
}

#[test]
fn a_plugin_over_a_limit_is_ended_and_the_limit_named() {
    let engine = PluginEngine::new(None).expect("an engine");
    let answer = |keep: u32, len: u32| {
        format!(
            "(i32.store (i32.const 1024) (i32.const {keep})) (i32.store (i32.const 1028) (i32.const {len})) i32.const 1024"
        )
    };
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    for (body, kind, word) in [
        ("(loop $ever (br $ever)) unreachable".to_owned(), TrapKind::Time, "50 ms of CPU time"),
        (grow.to_owned(), TrapKind::Memory, "2097152 bytes of memory"),
        (answer(0, 1 << 20), TrapKind::Output, "1000 bytes"),
        (answer(0, 7), TrapKind::Contract, "7 verdicts for 1 records"),
        (answer(0x7fff_ffff, 100), TrapKind::Panic, "out of bounds"),
        ("(i32.div_u (i32.const 1) (i32.const 0))".to_owned(), TrapKind::Panic, "divide by zero"),
    ] {
        let (ended_by, message) = end_of(&engine, &body);
        assert_eq!(ended_by, kind, "{body}: {message}");
        assert!(message.contains(word), "{body}: {message}");
    }
}

#[test]
fn a_plugin_that_never_starts_is_refused() {
    let engine = PluginEngine::new(None).expect("an engine");
    let start = "(func $ever (loop $ever (br $ever))) (start $ever)\n    (global $free";
    let text = COMPONENT.replace("(global $free", start);
    assert_ne!(text, COMPONENT);
    let refusal = engine.load(&wat::parse_str(text).expect("a component")).expect_err("refused");
    assert!(matches!(&refusal, Refusal::Describe(trap) if trap.kind == TrapKind::Time), "{refusal}");
}
