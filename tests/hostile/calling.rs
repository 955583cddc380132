//! Plugins that are loaded and then take too much: time, stack, memory, handles, the host's patience, state.

use crate::table::{Row, Seen};
use crate::template::{Template, sources};

const LOOP: &str = "(loop $ever (br $ever))";

const TIME: Seen = Seen::Poison("plugin-time-limit", "used more than 50 ms of CPU time");
const MEMORY: Seen = Seen::Poison("plugin-memory-limit", "asked for more than 16777216 bytes of memory");
const STACK: Seen = Seen::Poison("plugin-panic", "call stack exhausted");
const UNREACHABLE: Seen = Seen::Poison("plugin-panic", "unreachable");

/// `times` times what is in the loop; `$n` counts them.
fn times(times: u32, body: &str) -> String {
    format!(
        "(global.set $n (i32.const 0))
        (loop $again {body}
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const {times}))))"
    )
}

pub fn time() -> Vec<Row> {
    let work = |name: &'static str, body: &str| Row::of(name, Template::filter().before_work(body), TIME);
    vec![
        work("a filter that never answers", LOOP),
        Row::of(
            "a transform that never answers",
            Template::transform().work(format!("{LOOP} {}", sources(&[0]))),
            TIME,
        ),
        Row::of("post-return of the work runs for ever", Template::filter().with("post-work", LOOP), TIME),
        Row::of("post-return of the work traps", Template::filter().with("post-work", "unreachable"), UNREACHABLE),
        work(
            "bulk instructions, one after the other",
            "(loop $ever (memory.fill (i32.const 4096) (i32.const 0) (i32.const 900000)) (br $ever))",
        ),
        Row::of(
            "tail calls without end",
            Template::filter().before_work("(call $tail)").with("core", "(func $tail (return_call $tail))"),
            TIME,
        ),
        Row::of(
            "indirect calls without end",
            Template::filter()
                .before_work("(loop $ever (call_indirect (type $nothing) (i32.const 0)) (br $ever))")
                .with("core", "(type $nothing (func)) (table 1 funcref) (func $f) (elem (i32.const 0) $f)"),
            TIME,
        ),
        work(
            "an exponential search that would end one day",
            "(loop $ever (global.set $n (i32.add (global.get $n) (i32.const 1)))
                (br_if $ever (i64.ne (i64.mul (i64.extend_i32_u (global.get $n)) (i64.const 2)) (i64.const -3))))",
        ),
    ]
}

/// What ends at once, as any mistake does.
pub fn mistakes() -> Vec<Row> {
    let work = |name: &'static str, body: &str, words: &'static str| {
        Row::of(name, Template::filter().before_work(body), Seen::Poison("plugin-panic", words))
    };
    vec![
        work("a panic", "unreachable", "unreachable"),
        Row::of(
            "a panic in a function named after a limit",
            Template::filter().before_work("(call $liar)").with(
                "core",
                r#"(func $liar (@name "handle limit exceeded, fuel allocated for hostcalls") unreachable)"#,
            ),
            UNREACHABLE,
        ),
        work("a division by zero", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        work("a load outside of the memory", "(drop (i32.load (i32.const -8)))", "out of bounds memory access"),
        work("a number too large to convert", "(drop (i32.trunc_f64_u (f64.const 1e300)))", "integer overflow"),
    ]
}

pub fn room() -> Vec<Row> {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))";
    let grow_table = "(loop $more (br_if $more (i32.ne (table.grow (ref.null func) (i32.const 1000)) (i32.const -1))))";
    vec![
        Row::of(
            "recursion without end",
            Template::filter().before_work("(call $deep)").with("core", "(func $deep (call $deep) (call $deep))"),
            STACK,
        ),
        Row::of(
            "recursion with large frames",
            Template::filter().before_work("(drop (call $deep (i64.const 1)))").with(
                "core",
                "(func $deep (param i64) (result i64) (local i64 i64 i64 i64 i64 i64 i64 i64)
                    (i64.add (call $deep (i64.add (local.get 0) (i64.const 1))) (call $deep (local.get 0))))",
            ),
            STACK,
        ),
        Row::of(
            "memory until there is no more",
            Template::filter().before_work(&format!("{grow} unreachable")),
            MEMORY,
        ),
        Row::of(
            "memory until there is no more, in 64 leaps",
            Template::filter()
                .before_work(&format!("{} unreachable", times(64, "(drop (memory.grow (i32.const 1000)))"))),
            MEMORY,
        ),
        Row::of(
            "memory until there is no more, every byte of it written",
            Template::filter().before_work(&format!(
                "{grow} (memory.fill (i32.const 131072) (i32.const 7) (i32.const 16000000)) unreachable"
            )),
            MEMORY,
        ),
        Row::of(
            "memory until there is no more, and then it works on",
            Template::filter().before_work(grow),
            Seen::Harmless,
        ),
        Row::of(
            "tables until there is no more",
            Template::filter().before_work(&format!("{grow_table} unreachable")).with("core", "(table 1 funcref)"),
            Seen::Poison("plugin-memory-limit", "elements of tables"),
        ),
        Row::of("handles until there are no more", handles(), Seen::Poison("plugin-handle-limit", "handles")),
    ]
}

/// Makes handles of a resource of its own, and drops none.
fn handles() -> Template {
    Template::filter()
        .with(
            "lowered",
            "(type $own (resource (rep i32))) (core func $new (canon resource.new $own))
            (core instance $resources (export \"new\" (func $new)))",
        )
        .with("core-imports", "(import \"resources\" \"new\" (func $new (param i32) (result i32)))")
        .with("arguments", "(with \"resources\" (instance $resources))")
        .before_work("(loop $ever (drop (call $new (i32.const 7))) (br $ever))")
}

/// `cabi_realloc` in a hostile mood, when a batch is handed over.
pub fn realloc() -> Vec<Row> {
    let row = |name: &'static str, body: &str, seen: Seen| Row::of(name, Template::filter().realloc(body), seen);
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))";
    vec![
        row("realloc runs for ever", &format!("{LOOP} unreachable"), TIME),
        row("realloc traps", "unreachable", UNREACHABLE),
        row(
            "realloc calls itself",
            "(drop (call $realloc (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))) unreachable",
            STACK,
        ),
        row("realloc answers an odd address", "(i32.const 131073)", Seen::Poison("plugin-panic", "not aligned")),
        row(
            "realloc answers an address outside of the memory",
            "(i32.const 0x7ffffff0)",
            Seen::Poison("plugin-panic", "beyond end of memory"),
        ),
        row(
            "realloc answers an address too near the end",
            "(i32.const 1048568)",
            Seen::Poison("plugin-panic", "beyond end of memory"),
        ),
        row(
            "realloc answers the last address there is",
            "(i32.const -8)",
            Seen::Poison("plugin-panic", "beyond end of memory"),
        ),
        row("realloc answers the same address each time", "(i32.const 131072)", Seen::Harmless),
        row(
            "realloc answers addresses that overlap by half",
            "(global.set $free (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -8))) (global.get $free)",
            Seen::Harmless,
        ),
        row("realloc answers the address of the plugin's own data", "(i32.const 0)", Seen::Harmless),
        row("realloc takes all memory and gives none", &format!("{grow} unreachable"), MEMORY),
    ]
}

pub fn host() -> Vec<Row> {
    let row = |name: &'static str, body: String, seen: Seen| {
        Row::of(name, Template::filter().with_host().before_work(&body), seen)
    };
    // A name that differs each time: `$n` in four bytes of letters.
    let name =
        "(i32.store (i32.const 4096) (i32.add (i32.const 0x41414141) (i32.add (i32.and (global.get $n) (i32.const 15))
        (i32.add (i32.shl (i32.and (global.get $n) (i32.const 0xf0)) (i32.const 4))
            (i32.shl (i32.and (global.get $n) (i32.const 0xf00)) (i32.const 8))))))";
    let many = |body: &str| times(2000, body);
    vec![
        row(
            "a flood of log lines",
            many("(call $log (i32.const 1) (i32.const 0) (i32.const 7))"),
            Seen::Dropped { log_lines: 1700, metrics: 0 },
        ),
        row(
            "a flood of text in log lines",
            times(100, "(call $log (i32.const 1) (i32.const 4096) (i32.const 60000))"),
            Seen::Poison("plugin-output-limit", "handed more than 1048576 bytes"),
        ),
        row(
            "a counter with a new name each time",
            many(&format!("{name} (call $count (i32.const 4096) (i32.const 4) (i64.const 1))")),
            Seen::Dropped { log_lines: 0, metrics: 1900 },
        ),
        row(
            "a gauge with a new name each time",
            many(&format!("{name} (call $gauge (i32.const 4096) (i32.const 4) (f64.const nan))")),
            Seen::Dropped { log_lines: 0, metrics: 1900 },
        ),
        row(
            "a counter with a name of a thousand bytes",
            "(call $count (i32.const 2048) (i32.const 1000) (i64.const -1))".to_owned(),
            Seen::Dropped { log_lines: 0, metrics: 1 },
        ),
        row(
            "a counter that is raised to the most, again and again",
            times(100, "(call $count (i32.const 0) (i32.const 7) (i64.const -1))"),
            Seen::Harmless,
        ),
        row(
            "a gauge that is no number",
            "(call $gauge (i32.const 0) (i32.const 7) (f64.const nan))".to_owned(),
            Seen::Dropped { log_lines: 0, metrics: 1 },
        ),
        row(
            "a gauge without bounds",
            "(call $gauge (i32.const 0) (i32.const 7) (f64.const -inf))".to_owned(),
            Seen::Dropped { log_lines: 0, metrics: 1 },
        ),
        row(
            "a counter with a name that steers the terminal",
            "(call $count (i32.const 2048) (i32.const 7) (i64.const 1))".to_owned(),
            Seen::Dropped { log_lines: 0, metrics: 1 },
        ),
        row(
            "last words that steer the terminal, then a trap",
            "(i64.store (i32.const 4096) (i64.const 0xae80e24a325b1b0a)) (call $log (i32.const 3) (i32.const 4096) (i32.const 8)) unreachable"
                .to_owned(),
            Seen::Poison("plugin-panic", " [2J  (wasm trap"),
        ),
        Row::of(
            "log lines from post-return",
            Template::filter().with_host().with("post-work", "(call $log (i32.const 1) (i32.const 0) (i32.const 7))"),
            Seen::Poison("plugin-panic", "cannot leave component instance"),
        ),
        row(
            "a log line that is no text",
            "(i32.store (i32.const 4096) (i32.const -1)) (call $log (i32.const 3) (i32.const 4096) (i32.const 4))"
                .to_owned(),
            Seen::Poison("plugin-panic", "utf-8"),
        ),
        row(
            "a log line outside of the memory",
            "(call $log (i32.const 3) (i32.const 0x7fffffff) (i32.const 100))".to_owned(),
            Seen::Poison("plugin-panic", "out of bounds"),
        ),
        row(
            "a level that there is not",
            "(call $log (i32.const 9) (i32.const 0) (i32.const 7))".to_owned(),
            Seen::Poison("plugin-panic", "discriminant"),
        ),
        row(
            "its last words, then a trap",
            "(call $log (i32.const 3) (i32.const 0) (i32.const 7)) unreachable".to_owned(),
            Seen::Poison("plugin-panic", "hostile"),
        ),
        row(
            "a trap, and the blame on a record that is not there",
            "(call $working-on (i32.const -1)) unreachable".to_owned(),
            UNREACHABLE,
        ),
        row(
            "a flood of calls of the host",
            "(loop $ever (call $working-on (i32.const 0)) (br $ever))".to_owned(),
            Seen::Poison("plugin-host-call-limit", "called the host more than"),
        ),
    ]
}

pub fn state() -> Vec<Row> {
    let state = |name: &'static str, template: Template, seen: Seen| Row::of(name, template, seen);
    let work = |body: &str| Template::stateful().before_work(body);
    let empty = "(call $put (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 9))";
    // What ran before has version 1.
    let migrating = || Template::stateful().with("state-version", "(i32.const 2)");
    let put = "(i32.store (i32.const 4096) (global.get $n))
        (call $put (i32.const 0) (i32.const 4096) (i32.const 4) (i32.const 4096) (i32.const 60000) (i64.const 0x7fffffffffffffff))";
    vec![
        state(
            "state-version runs for ever",
            Template::stateful().with("state-version", format!("{LOOP} unreachable")),
            Seen::Refused("CPU time"),
        ),
        state(
            "state-version traps",
            Template::stateful().with("state-version", "unreachable"),
            Seen::Refused("unreachable"),
        ),
        state(
            "a state version that there is not",
            Template::stateful().with("state-version", "(i32.const 0)"),
            Seen::Refused("version"),
        ),
        state(
            "migrate-state runs for ever",
            migrating().with("migrate-state", format!("{LOOP} unreachable")),
            Seen::Unmigratable("CPU time"),
        ),
        state(
            "migrate-state traps",
            migrating().with("migrate-state", "unreachable"),
            Seen::Unmigratable("unreachable"),
        ),
        state("a flood of state", work(&times(10, put)), Seen::Poison("plugin-state-limit", "state")),
        state(
            "a flood of empty keys and values",
            work(&times(
                100_000,
                "(i32.store (i32.const 4096) (global.get $n)) (call $put (i32.const 0) (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0) (i64.const 0x7fffffffffffffff))",
            )),
            Seen::Poison("plugin-state-limit", "would keep more than 262144 bytes of state"),
        ),
        state(
            "one empty entry that is put again and again",
            work(&format!("(loop $ever {empty} (br $ever))")),
            Seen::Poison("plugin-output-limit", "handed more than 1048576 bytes"),
        ),
        state(
            "migrate-state that puts an entry again and again",
            migrating().with("migrate-state", format!("(loop $ever {empty} (br $ever)) unreachable")),
            Seen::Unmigratable("handed more than 1048576 bytes"),
        ),
        state(
            "an entry that expired before there was time",
            work(
                "(call $put (i32.const 0) (i32.const 0) (i32.const 7) (i32.const 0) (i32.const 7) (i64.const 0x8000000000000000))",
            ),
            Seen::Harmless,
        ),
        state(
            "state that is used in configure",
            Template::stateful().with("configure", format!("{empty} (i32.const 64)")),
            Seen::Unconfigurable("while it had no records to work on"),
        ),
        state(
            "state that is used in post-return",
            Template::stateful().with("post-work", empty),
            Seen::Poison("plugin-panic", "cannot leave component instance"),
        ),
        state(
            "the state of record four billion",
            work("(call $get (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 4096))"),
            Seen::Poison("plugin-contract", "for record 4294967295 of a batch of"),
        ),
        state(
            "the state of a record that is not there",
            work("(call $get (i32.const 99) (i32.const 0) (i32.const 1) (i32.const 4096))"),
            Seen::Poison("plugin-contract", "record"),
        ),
        state(
            "a scan for more than there can be, for ever",
            work(
                "(loop $ever (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
            (i32.const -1) (i32.const 4096)) (br $ever))",
            ),
            Seen::Poison("plugin-host-call-limit", "called the host more than"),
        ),
        state(
            "state that goes back to an earlier record",
            work(
                "(call $get (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 4096))
            (call $get (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 4096))",
            ),
            Seen::Poison("plugin-contract", "record"),
        ),
        state(
            "state that is read and nothing else",
            work(&times(3, "(call $get (global.get $n) (i32.const 0) (i32.const 1) (i32.const 4096))")),
            Seen::Harmless,
        ),
    ]
}
