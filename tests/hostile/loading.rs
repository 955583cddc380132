//! Plugins that never come to run: malformed, with imports that are not offered, bombs, and descriptions that are attacks.

use crate::table::{Row, Seen};
use crate::template::{Template, work_export};

const LOOP: &str = "(loop $ever (br $ever))";

pub fn malformed() -> Vec<Row> {
    let no_component = Seen::Refused("not a WebAssembly component");
    let invalid = Seen::Refused("not a valid component");
    let half = || {
        let mut bytes = Template::filter().bytes();
        bytes.truncate(bytes.len() / 2);
        bytes
    };
    let without_end = || {
        let mut bytes = Template::filter().bytes();
        bytes.pop();
        bytes
    };
    vec![
        Row::new("no bytes", Vec::new, no_component.clone()),
        Row::new("a text", || b"#!/bin/sh".to_vec(), no_component.clone()),
        Row::new("half of the first eight bytes", || b"\0asm\x0d".to_vec(), no_component),
        Row::new("a core module", || b"\0asm\x01\0\0\0".to_vec(), Seen::Refused("a core WebAssembly module")),
        Row::new("half a component", half, invalid.clone()),
        Row::new("a component without its last byte", without_end, invalid.clone()),
        Row::new("a section longer than the file", || section(1, u32::MAX >> 4, b""), invalid.clone()),
        Row::new("a section of a kind that there is not", || section(99, 1, b"x"), invalid.clone()),
        Row::new("noise behind a header", || [&b"\0asm\x0d\0\x01\0"[..], &[0xa5; 4096]].concat(), invalid),
        Row::new("components in components, 1,000 deep", || nested(1000), Seen::Refused("it exports nothing")),
        Row::new(
            "larger than any component",
            || {
                let mut bytes = Template::filter().bytes();
                bytes.resize((64 << 20) + 1, 0);
                bytes
            },
            Seen::Refused("larger than the 64 MiB"),
        ),
    ]
}

/// A component that holds one section, which says that it has `length` bytes.
fn section(kind: u8, length: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    bytes.push(kind);
    bytes.extend(leb(length));
    bytes.extend(content);
    bytes
}

fn leb(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 127 {
        bytes.push(number as u8 & 127 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(b"\0asm\x0d\0\x01\0".to_vec(), |inner, _| section(4, inner.len() as u32, &inner))
}

/// What wants or offers other things than the contract has.
pub fn strangers() -> Vec<Row> {
    let import = |name: &'static str, text: String, words: &'static str| {
        Row::of(name, Template::filter().with("imports", text), Seen::Refused(words))
    };
    let function =
        |interface: &str, function: &str| format!(r#"(import "{interface}" (instance (export "{function}" (func))))"#);
    let exports = |name: &'static str, text: String, words: &'static str| {
        Row::of(name, Template::filter().with("exports", text), Seen::Refused(words))
    };
    let filtering = work_export("filtering", "filter", "verdicts");
    let transforming = work_export("transforming", "transform", "outputs").replace("$filter", "$other");
    vec![
        import(
            "wasi: environment",
            function("wasi:cli/environment@0.2.0", "x"),
            "imports wasi:cli/environment@0.2.0, which is not offered",
        ),
        import(
            "wasi: files",
            function("wasi:filesystem/preopens@0.2.0", "x"),
            "imports wasi:filesystem/preopens@0.2.0",
        ),
        import("wasi: sockets", function("wasi:sockets/tcp@0.2.0", "x"), "imports wasi:sockets/tcp@0.2.0"),
        import(
            "wasi: clock",
            function("wasi:clocks/monotonic-clock@0.2.0", "x"),
            "imports wasi:clocks/monotonic-clock@0.2.0",
        ),
        import("wasi: random", function("wasi:random/random@0.2.0", "x"), "imports wasi:random/random@0.2.0"),
        import(
            "wasi: http",
            function("wasi:http/outgoing-handler@0.2.0", "x"),
            "imports wasi:http/outgoing-handler@0.2.0",
        ),
        import(
            "an interface of the house that there is not",
            function("tidegate:plugin/secrets@0.1.0", "read"),
            "imports tidegate:plugin/secrets@0.1.0",
        ),
        import(
            "an import of a bare function",
            r#"(import "exit" (func))"#.to_owned(),
            "imports exit, which is not offered",
        ),
        import(
            "an import of a core module",
            r#"(import "code" (core module))"#.to_owned(),
            "imports code, which is not offered",
        ),
        import(
            "the work of somebody else",
            function("tidegate:plugin/filtering@0.1.0", "filter"),
            "imports tidegate:plugin/filtering@0.1.0",
        ),
        import(
            "a function that the host has not",
            function("tidegate:plugin/host@0.1.0", "open-file"),
            "does not fit the contract",
        ),
        import(
            "a function of the host with another type",
            function("tidegate:plugin/host@0.1.0", "log"),
            "does not fit the contract",
        ),
        exports("no work", String::new(), "exports neither"),
        exports("no work, and a hundred kilobytes of names", long_names(20, 5000), "exports neither"),
        exports(
            "a name of an export that steers the terminal",
            r#"(instance $none) (export "\1b[2J" (instance $none))"#.to_owned(),
            "not a valid component",
        ),
        exports(
            "the contract of another time",
            filtering.replace("filtering@0.1.0", "filtering@7.0.0"),
            "is built for tidegate:plugin/filtering@7.0.0",
        ),
        exports("two worlds", format!("{filtering}{transforming}"), "exports both filtering and transforming"),
        exports(
            "work of another type",
            r#"(func $work (result u32) (canon lift (core func $code "state-version")))
                (instance $filtering (export "filter" (func $work)))
                (export "tidegate:plugin/filtering@0.1.0" (instance $filtering))"#
                .to_owned(),
            "does not fit the contract",
        ),
    ]
}

/// Exports of nothing, with names of so many bytes.
fn long_names(count: usize, bytes: usize) -> String {
    let export = |index: usize| format!(r#"(export "{}{index}" (instance $none))"#, "x".repeat(bytes));
    (0..count).map(export).fold("(instance $none)".to_owned(), |text, export| text + &export)
}

/// What blows up before the first call, or in it.
pub fn bombs() -> Vec<Row> {
    let core = |name: &'static str, field: &str, words: &'static str| {
        Row::of(name, Template::filter().with("core", field), Seen::Refused(words))
    };
    let bombs = |name: &'static str, text: String, words: &'static str| {
        Row::of(name, Template::filter().with("bombs", text), Seen::Refused(words))
    };
    let instances = |count: usize, module: &str| {
        format!("(core module $m {module})") + &"(core instance (instantiate $m))".repeat(count)
    };
    vec![
        core(
            "a start function that runs for ever",
            &format!("(func $ever {LOOP}) (start $ever)"),
            "fails in describe: used more than 1000 ms of CPU time",
        ),
        core(
            "a start function that traps",
            "(func $trap unreachable) (start $trap)",
            "fails in describe: wasm trap: wasm `unreachable` instruction executed",
        ),
        core(
            "a start function without end of its stack",
            "(func $deep (call $deep)) (start $deep)",
            "fails in describe: wasm trap: call stack exhausted",
        ),
        core("a memory of 4 GiB", "(memory 65536)", "fails in describe: asked for more than 67108864 bytes of memory"),
        core("a table of ten million", "(table 10000000 funcref)", "exceeds the limit of 1000000"),
        core(
            "a data segment outside of the memory",
            "(data (i32.const 0x7fffffff) \"x\")",
            "fails in describe: wasm trap: out of bounds memory access",
        ),
        core(
            "an element segment outside of the table",
            "(table 1 funcref) (func $f) (elem (i32.const 7) $f)",
            "fails in describe: wasm trap: undefined element: out of bounds table access",
        ),
        bombs("a hundred instances", instances(100, ""), "instance count too high"),
        bombs("a thousand instances", instances(1000, ""), "instances count exceeds limit of 1000"),
        bombs("a hundred memories", instances(50, "(memory 1) (memory 1)"), "memories, and a plugin may have 4"),
        bombs("a hundred tables", instances(50, "(table 1 funcref) (table 1 funcref)"), "table count too high"),
        bombs("ten thousand instances by nesting", multiplied(10, 4), "instance count too high"),
    ]
}

/// Components that each hold `width` instances of the one before.
fn multiplied(width: usize, depth: usize) -> String {
    let mut text = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_owned();
    for level in 0..depth {
        let instances = format!("(instance (instantiate $c{level}))").repeat(width);
        text += &format!("(component $c{} (alias outer 1 $c{level} (component $c{level})) {instances})", level + 1);
    }
    text + &format!("(instance (instantiate $c{depth}))")
}

/// What takes the compiler minutes: one function of this many steps, near the most that a function may have, whose values live to its end.
pub fn compiler_bomb(steps: usize) -> Vec<u8> {
    // 0 = (0 + 1) * 2; if 0 { 1 = load(2) }; 2 = 1 ^ 0
    let step = b"\x20\x00\x20\x01\x6a\x20\x02\x6c\x21\x00\x20\x00\x04\x40\x20\x02\x28\x02\x00\x21\x01\x0b\x20\x01\x20\x00\x73\x21\x02";
    let body = [&b"\0"[..], &step.repeat(steps), b"\x0b"].concat();
    let code = [&[1], &leb(body.len() as u32)[..], &body].concat();
    let module = [
        &b"\0asm\x01\0\0\0\x01\x07\x01\x60\x03\x7f\x7f\x7f\0\x03\x02\x01\0\x05\x03\x01\0\x01\x0a"[..],
        &leb(code.len() as u32),
        &code,
    ]
    .concat();
    section(1, module.len() as u32, &module)
}

/// What a plugin says about itself, as an attack.
pub fn descriptions() -> Vec<Row> {
    let describe =
        |name: &'static str, body: &str, seen: Seen| Row::of(name, Template::filter().with("describe", body), seen);
    let post = |body: &str| Template::filter().with("post-describe", body);
    let grown = "(drop (memory.grow (i32.const 64)))";
    let text = |field: u32, bytes: u32, letter: u8| {
        format!(
            "{grown} (memory.fill (i32.const 131072) (i32.const {letter}) (i32.const {bytes}))
            (i32.store (i32.const {field}) (i32.const 131072)) (i32.store (i32.const {}) (i32.const {bytes})) (i32.const 16)",
            field + 4
        )
    };
    let (name, schema) = (16, 36);
    vec![
        describe(
            "describe runs for ever",
            &format!("{LOOP} unreachable"),
            Seen::Refused("fails in describe: used more than 1000 ms of CPU time"),
        ),
        describe(
            "describe traps",
            "unreachable",
            Seen::Refused("fails in describe: wasm trap: wasm `unreachable` instruction executed"),
        ),
        Row::of(
            "describe calls itself",
            Template::filter()
                .with("describe", "(call $deep)")
                .with("core", "(func $deep (result i32) (i32.add (call $deep) (call $deep)))"),
            Seen::Refused("fails in describe: wasm trap: call stack exhausted"),
        ),
        describe("a description outside of the memory", "(i32.const 0x7ffffff0)", Seen::Refused("out of bounds")),
        describe("a description at an odd address", "(i32.const 17)", Seen::Refused("not aligned")),
        describe("a name that is no text", &text(name, 3, 0xff), Seen::Refused("fails in describe: invalid utf-8")),
        describe("a name of a megabyte", &text(name, 900_000, b'x'), Seen::Refused("name has 900000 bytes")),
        describe("a name that steers the terminal", &text(name, 3, 0x1b), Seen::Refused("control characters")),
        describe(
            "a name that turns the line around",
            "(i32.store (i32.const 131072) (i32.const 0x61ae80e2))
            (i32.store (i32.const 16) (i32.const 131072)) (i32.store (i32.const 20) (i32.const 4)) (i32.const 16)",
            Seen::Refused("control characters"),
        ),
        describe(
            "a configuration schema of two megabytes",
            &text(schema, 2 << 20, b' '),
            Seen::Refused("handed more than 1048576 bytes"),
        ),
        describe("a configuration schema half a million deep", &text(schema, 500_000, b'['), Seen::Harmless),
        Row::of(
            "post-return of describe runs for ever",
            post(LOOP),
            Seen::Refused("fails in describe: used more than 1000 ms"),
        ),
        Row::of(
            "post-return of describe traps",
            post("unreachable"),
            Seen::Refused("fails in describe: wasm trap: wasm `unreachable`"),
        ),
    ]
}
