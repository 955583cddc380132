//! Plugins that answer nonsense: addresses, texts, counts, orders.

use crate::table::{Row, Seen};
use crate::template::{Answer, Template, counted, rejects, rejects_with, sources, verdicts, words};

fn panic(words: &'static str) -> Seen {
    Seen::Poison("plugin-panic", words)
}

fn contract(words: &'static str) -> Seen {
    Seen::Poison("plugin-contract", words)
}

/// Answers that are not even in the memory.
pub fn ranges() -> Vec<Row> {
    let row = |name: &'static str, body: String, seen: Seen| Row::of(name, Template::filter().work(body), seen);
    let reject = |fields: [u32; 5]| format!("{} {}", words(65536, &fields), verdicts([2048, 3, 65536, 1]));
    let output = Seen::Poison("plugin-output-limit", "handed more than 1048576 bytes");
    vec![
        row("an answer outside of the memory", "(i32.const 0x7ffffff0)".to_owned(), panic("out of bounds")),
        row("an answer that ends outside of the memory", "(i32.const 1048568)".to_owned(), panic("out of bounds")),
        row("an answer at an odd address", "(i32.const 1025)".to_owned(), panic("not aligned")),
        row("a list outside of the memory", verdicts([0x7fff_ffff, 3, 0, 0]), panic("out of bounds")),
        row("a list that ends outside of the memory", verdicts([2048, 1 << 20, 0, 0]), panic("out of bounds")),
        row("a list of four billion", verdicts([2048, u32::MAX, 0, 0]), panic("out of bounds")),
        row("a list whose size overflows", verdicts([2048, 3, 65536, 0x1000_0000]), panic("out of bounds")),
        row("a list of rejects at an odd address", verdicts([2048, 3, 65537, 1]), panic("not aligned")),
        row("a code outside of the memory", reject([0, 0x7fff_ffff, 9, 0, 0]), panic("out of bounds")),
        row("a message of four billion", reject([0, 0, 0, 0, u32::MAX]), panic("out of bounds")),
        row(
            "a message that is no text",
            format!("(i32.store (i32.const 4096) (i32.const -1)) {}", reject([0, 0, 0, 4096, 4])),
            panic("utf-8"),
        ),
        row("a million verdicts", verdicts([0, 1_000_000, 0, 0]), contract("1000000 verdicts for 1 records")),
        row("ten thousand rejects of a kilobyte each, all the same one", many_rejects(), output),
    ]
}

fn many_rejects() -> String {
    format!(
        "(loop $again
            (i32.store (i32.add (i32.const 200000) (i32.mul (global.get $n) (i32.const 20))) (i32.const 0))
            (i32.store (i32.add (i32.const 200012) (i32.mul (global.get $n) (i32.const 20))) (i32.const 2048))
            (i32.store (i32.add (i32.const 200016) (i32.mul (global.get $n) (i32.const 20))) (i32.const 1000))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const 10000)))) {}",
        verdicts([2048, 3, 200_000, 10_000])
    )
}

/// `configure` in a hostile mood.
pub fn configuring() -> Vec<Row> {
    let row = |name: &'static str, body: String, words: &'static str| {
        Row::of(name, Template::filter().with("configure", body), Seen::Unconfigurable(words))
    };
    let post = |name: &'static str, body: &str, words: &'static str| {
        Row::of(name, Template::filter().with("post-configure", body), Seen::Unconfigurable(words))
    };
    let realloc = |name: &'static str, body: &str, words: &'static str| {
        Row::of(name, Template::filter().with("realloc", body), Seen::Unconfigurable(words))
    };
    // The answer: 1 for errors, then where they are and how many.
    let errors = |place: u32, count: u32| format!("{} (i32.const 1024)", words(1024, &[1, place, count]));
    let ever = "(loop $ever (br $ever))";
    let route = |name: &'static str, text: [u32; 2], words: &'static str| {
        let body = format!("{} {} (i32.const 1024)", self::words(65536, &text), self::words(1024, &[0, 65536, 1]));
        Row::of(name, Template::transform().with("configure", body), Seen::Unconfigurable(words))
    };
    vec![
        row(
            "configure runs for ever",
            format!("{ever} unreachable"),
            "fails in configure: used more than 50 ms of CPU time",
        ),
        row(
            "configure traps",
            "unreachable".to_owned(),
            "fails in configure: wasm trap: wasm `unreachable` instruction executed",
        ),
        row(
            "configure answers neither yes nor no",
            format!("{} (i32.const 1024)", words(1024, &[7, 0, 0])),
            "discriminant",
        ),
        row("errors outside of the memory", errors(0x7fff_fff0, 3), "out of bounds"),
        row("four thousand errors in the configuration", errors(65536, 4000), "configuration: /: ; "),
        row("sixty thousand errors in the configuration", errors(65536, 60_000), "handed more than 1048576 bytes"),
        row(
            "an error of half a megabyte",
            format!("{} {}", words(65536, &[0, 7, 200_000, 500_000]), errors(65536, 1)),
            "configuration: hostile",
        ),
        row(
            "an error that is no text",
            format!(
                "(i32.store (i32.const 4096) (i32.const -1)) {} {}",
                words(65536, &[0, 0, 4096, 4]),
                errors(65536, 1)
            ),
            "utf-8",
        ),
        row(
            "a route of a filter that is no name of a topic",
            format!("{} {} (i32.const 1024)", words(65536, &[2048, 1000]), words(1024, &[0, 65536, 1])),
            "route",
        ),
        route("a route of sixty kilobytes", [4096, 60_000], "a route of 60000 bytes"),
        route("a route that steers the terminal", [2048, 7], "the plugin would route to"),
        route("a route that is no topic", [7, 2], "the plugin would route to"),
        post("post-return of configure runs for ever", ever, "used more than 50 ms"),
        post("post-return of configure traps", "unreachable", "unreachable"),
        realloc(
            "realloc of the configuration runs for ever",
            "(loop $ever (br $ever)) unreachable",
            "used more than 50 ms",
        ),
        realloc(
            "realloc of the configuration answers an address outside of the memory",
            "(i32.const 0x7ffffff0)",
            "beyond end of memory",
        ),
    ]
}

/// Verdicts and rejects that do not fit the batch.
pub fn filters() -> Vec<Row> {
    let row = |name: &'static str, body: String, seen: Seen| Row::of(name, Template::filter().work(body), seen);
    let order = || contract("the rejects are not in order, or not of this batch");
    vec![
        row("a verdict too few", counted("(i32.sub {} (i32.const 1))", [0, 0]), contract("0 verdicts for 1 records")),
        row("a verdict too many", counted("(i32.add {} (i32.const 1))", [0, 0]), contract("2 verdicts for 1 records")),
        row("no verdict", verdicts([0, 0, 0, 0]), contract("0 verdicts for 1 records")),
        row("rejects without a word", rejects(&[0, 1, 2]), Seen::Poison("", "")),
        row(
            "codes that steer the terminal",
            rejects_with(&[0, 1, 2], [2048, 7], [2048, 9]),
            Seen::Poison("       ", "         "),
        ),
        row("a code of a kilobyte", rejects_with(&[0, 1, 2], [4096, 1000], [0, 7]), Seen::Poison(CODE_CUT, "hostile")),
        row("rejects out of order", rejects(&[1, 0]), order()),
        row("a record that is rejected twice", rejects(&[1, 1]), order()),
        row("a reject of a record that is not there", rejects(&[0, 3]), order()),
        row("a reject of record four billion", rejects(&[u32::MAX]), order()),
    ]
}

/// A code of the most bytes that are kept, and the sign that it was cut.
const CODE_CUT: &str = "                                                                …";

/// Outputs that do not fit the batch, or each other.
pub fn transforms() -> Vec<Row> {
    const NULL: u32 = u32::MAX;
    const KEEP: u32 = 0xffff_fffe;
    const ONE: Answer<'_> = Answer {
        sources: &[0],
        keys: &[],
        values: &[],
        header_counts: &[],
        headers: &[],
        timestamps: 0,
        routes: &[],
        partition_keys: &[],
        rejected: &[],
    };
    let row = |name: &'static str, answer: Answer<'_>, words: &'static str| {
        Row::of(name, Template::transform().work(answer.body()), contract(words))
    };
    vec![
        row("sources that go down", Answer { sources: &[2, 1], ..ONE }, "not in the order of their inputs"),
        row(
            "a source that is not there",
            Answer { sources: &[0, 3], ..ONE },
            "comes from record 3, and the batch has 1",
        ),
        row("source four billion", Answer { sources: &[NULL], ..ONE }, "comes from record 4294967295"),
        row(
            "a record that is rejected and has outputs",
            Answer { rejected: &[0], ..ONE },
            "is rejected and has outputs",
        ),
        row("rejects of a transform out of order", Answer { rejected: &[2, 1], ..ONE }, "the rejects are not in order"),
        row("half a range", Answer { keys: &[0, 1, 2], ..ONE }, "keys does not hold pairs"),
        row("keys for other outputs", Answer { keys: &[0, 1, 0, 1], ..ONE }, "keys has 2 entries for 1 outputs"),
        row("values for other outputs", Answer { values: &[0, 1, 0, 1], ..ONE }, "values has 2 entries for 1 outputs"),
        row("a value outside of the arena", Answer { values: &[999, 2], ..ONE }, "outside of the arena of 1000 bytes"),
        row("a value whose end overflows", Answer { values: &[NULL, 2], ..ONE }, "outside of the arena"),
        row("timestamps for other outputs", Answer { timestamps: 2, ..ONE }, "timestamps has 2 entries for 1 outputs"),
        row("routes for other outputs", Answer { routes: &[0, 0], ..ONE }, "routes has 2 entries for 1 outputs"),
        row("a route that was not declared", Answer { routes: &[1], ..ONE }, "routed to topic 1, and 0 are declared"),
        row("header counts for other outputs", Answer { header_counts: &[0, 0], ..ONE }, "header-counts has 2 entries"),
        row(
            "more headers counted than there are",
            Answer { header_counts: &[1], ..ONE },
            "header-counts and headers do not agree",
        ),
        row(
            "header counts whose sum overflows to the right one",
            Answer { sources: &[0, 0], header_counts: &[0xffff_fffd, 4], headers: &[0, 1, 0, 1], ..ONE },
            "header-counts and headers do not agree",
        ),
        row(
            "half a header",
            Answer { header_counts: &[1], headers: &[0, 1], ..ONE },
            "headers does not hold four numbers",
        ),
        row(
            "a header without a name",
            Answer { header_counts: &[1], headers: &[0, NULL, 0, 1], ..ONE },
            "a header's name is null",
        ),
        row(
            "a header outside of the arena",
            Answer { header_counts: &[1], headers: &[0, 1, 999, 2], ..ONE },
            "outside of the arena",
        ),
        row(
            "a header that keeps",
            Answer { header_counts: &[1], headers: &[0, 1, 0, KEEP], ..ONE },
            "outside of the arena",
        ),
        row(
            "a partition key outside of the arena",
            Answer { partition_keys: &[1001, 1], ..ONE },
            "outside of the arena",
        ),
        Row::of(
            "a million outputs of a record",
            Template::transform().work(repeated(1_000_000)),
            Seen::Poison("plugin-output-limit", "handed more than 1048576 bytes"),
        ),
        Row::of(
            "twenty thousand outputs that keep a large value",
            Template::transform().work(repeated(20_000)),
            Seen::Poison("plugin-output-limit", "records of one"),
        ),
        Row::of(
            "eight thousand outputs of the same bytes of the arena",
            Template::transform().work(same_bytes(8000)),
            Seen::Poison("plugin-output-limit", "more than 1048576 bytes beside"),
        ),
        Row::of("timestamps at both ends of time", Template::transform().work(ends_of_time()), Seen::Harmless),
        Row::of("an output for each second record", Template::transform().work(sources(&[0, 2])), Seen::Harmless),
    ]
}

/// Keeps three records, and gives them the first time that there is, or nearly, and the last.
fn ends_of_time() -> String {
    let kept = Answer { sources: &[0, 1, 2], timestamps: 3, ..Answer::default() }.body();
    format!(
        "(i64.store (i32.const 80000) (i64.const 0x8000000000000001)) (i64.store (i32.const 80008) (i64.const -1))
        (i64.store (i32.const 80016) (i64.const 0x7fffffffffffffff)) {kept}"
    )
}

/// So many outputs of record 0, which take no more than a list of zeros.
fn repeated(count: u32) -> String {
    format!("(drop (memory.grow (i32.const 64))) {}  (i32.const 1024)", words(1024, &[262_144, count, 0, 0]))
}

/// So many outputs of record 0, each with the whole arena as its value.
fn same_bytes(count: u32) -> String {
    format!(
        "(drop (memory.grow (i32.const 64)))
        (loop $again
            (i32.store (i32.add (i32.const 524292) (i32.mul (global.get $n) (i32.const 8))) (i32.const 1000))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $again (i32.lt_u (global.get $n) (i32.const {count}))))
        {} (i32.const 1024)",
        words(1024, &[262_144, count, 2048, 1000, 0, 0, 524_288, 2 * count])
    )
}
