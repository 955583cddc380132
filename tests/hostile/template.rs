//! From the holes of `plugin.wat` to a component.

/// The component, with holes.
const TEMPLATE: &str = include_str!("plugin.wat");

/// The imports of a plugin that calls the host, and how its code gets at them.
const HOST: [(&str, &str); 4] = [
    (
        "imports",
        r#"(import "tidegate:plugin/host@0.1.0" (instance $host
            (type $level-def (enum "debug" "info" "warn" "error"))
            (export "level" (type $level (eq $level-def)))
            (export "log" (func (param "level" $level) (param "message" string)))
            (export "count" (func (param "name" string) (param "delta" u64)))
            (export "gauge" (func (param "name" string) (param "value" f64)))
            (export "working-on" (func (param "index" u32)))))"#,
    ),
    (
        "lowered",
        r#"(core func $log (canon lower (func $host "log") (memory $memory)))
        (core func $count (canon lower (func $host "count") (memory $memory)))
        (core func $gauge (canon lower (func $host "gauge") (memory $memory)))
        (core func $working-on (canon lower (func $host "working-on")))
        (core instance $host-code (export "log" (func $log)) (export "count" (func $count))
            (export "gauge" (func $gauge)) (export "working-on" (func $working-on)))"#,
    ),
    (
        "core-imports",
        r#"(import "host" "log" (func $log (param i32 i32 i32)))
        (import "host" "count" (func $count (param i32 i32 i64)))
        (import "host" "gauge" (func $gauge (param i32 i32 f64)))
        (import "host" "working-on" (func $working-on (param i32)))"#,
    ),
    ("arguments", r#"(with "host" (instance $host-code))"#),
];

/// The same for the state.
const STATE: [(&str, &str); 4] = [
    (
        "imports",
        r#"(import "tidegate:plugin/state@0.1.0" (instance $state
            (type $entry-def (record (field "key" (list u8)) (field "value" (list u8))))
            (export "entry" (type $entry (eq $entry-def)))
            (export "get" (func (param "at" u32) (param "key" (list u8)) (result (option (list u8)))))
            (export "put" (func (param "at" u32) (param "key" (list u8)) (param "value" (list u8)) (param "expires" s64)))
            (export "scan" (func (param "at" u32) (param "prefix" (list u8)) (param "start" (list u8)) (param "limit" u32)
                (result (list $entry))))))"#,
    ),
    (
        "lowered",
        r#"(core func $get (canon lower (func $state "get") (memory $memory) (realloc $realloc)))
        (core func $put (canon lower (func $state "put") (memory $memory)))
        (core func $scan (canon lower (func $state "scan") (memory $memory) (realloc $realloc)))
        (core instance $state-code (export "get" (func $get)) (export "put" (func $put)) (export "scan" (func $scan)))"#,
    ),
    (
        "core-imports",
        r#"(import "state" "get" (func $get (param i32 i32 i32 i32)))
        (import "state" "put" (func $put (param i32 i32 i32 i32 i32 i64)))
        (import "state" "scan" (func $scan (param i32 i32 i32 i32 i32 i32 i32)))"#,
    ),
    ("arguments", r#"(with "state" (instance $state-code))"#),
];

const LIFT_WORK: &str = r#"(canon lift (core func $code "work") (memory $memory) (realloc $realloc)
    (post-return (core func $code "post-work"))))"#;

const MIGRATING: &str = r#"
    (func $state-version (result u32) (canon lift (core func $code "state-version")))
    (func $migrate-state (param "from" u32) (param "to" u32) (result (result (error string)))
        (canon lift (core func $code "migrate-state") (memory $memory)))
    (instance $migrating
        (export "state-version" (func $state-version)) (export "migrate-state" (func $migrate-state)))
    (export "tidegate:plugin/migrating@0.1.0" (instance $migrating))"#;

/// A plugin in the making. What is not changed behaves: it keeps every record.
pub struct Template(Vec<(&'static str, String)>);

impl Template {
    fn new(exports: String, work: &str) -> Self {
        let holes = [
            ("exports", exports.as_str()),
            ("work", work),
            ("realloc", "(call $honest (local.get 0) (local.get 1) (local.get 2) (local.get 3))"),
            ("describe", "(i32.const 16)"),
            ("configure", "(i32.const 64)"),
            ("state-version", "(i32.const 1)"),
            ("migrate-state", "(i32.const 64)"),
        ];
        let empty = ["imports", "lowered", "core-imports", "core", "arguments", "bombs"];
        let empty =
            empty.iter().chain(&["post-describe", "post-configure", "post-work"]).map(|hole| (*hole, String::new()));
        Self(holes.iter().map(|(hole, text)| (*hole, (*text).to_owned())).chain(empty).collect())
    }

    /// A filter that keeps all.
    pub fn filter() -> Self {
        Self::new(filtering(), &keep_all())
    }

    /// A transform that keeps all.
    pub fn transform() -> Self {
        Self::new(work_export("transforming", "transform", "outputs"), &sources(&[0, 1, 2]))
    }

    /// A filter that remembers, and could call the state.
    pub fn stateful() -> Self {
        let template = Self::new(format!("{MIGRATING}{}", filtering()), &keep_all());
        STATE.iter().fold(template, |template, (hole, text)| template.add(hole, text))
    }

    /// With the functions of the host.
    pub fn with_host(self) -> Self {
        HOST.iter().fold(self, |template, (hole, text)| template.add(hole, text))
    }

    /// With other text in a hole.
    pub fn with(mut self, hole: &str, text: impl Into<String>) -> Self {
        let found = self.0.iter_mut().find(|(name, _)| *name == hole);
        found.unwrap_or_else(|| panic!("there is no hole {hole}")).1 = text.into();
        self
    }

    /// With more text in a hole.
    pub fn add(mut self, hole: &str, text: &str) -> Self {
        let found = self.0.iter_mut().find(|(name, _)| *name == hole);
        found.unwrap_or_else(|| panic!("there is no hole {hole}")).1 += text;
        self
    }

    /// With another body of the work.
    pub fn work(self, text: impl Into<String>) -> Self {
        self.with("work", text)
    }

    /// With something done before the work, which then keeps all.
    pub fn before_work(self, text: &str) -> Self {
        self.work(format!("{text} {}", keep_all()))
    }

    /// With a realloc that behaves until the plugin is configured.
    pub fn realloc(self, text: &str) -> Self {
        self.with(
            "realloc",
            format!(
                "(if (i32.eqz (global.get $armed)) (then
                    (return (call $honest (local.get 0) (local.get 1) (local.get 2) (local.get 3))))) {text}"
            ),
        )
    }

    pub fn bytes(&self) -> Vec<u8> {
        let text =
            self.0.iter().fold(TEMPLATE.to_owned(), |text, (hole, with)| text.replace(&format!("<<{hole}>>"), with));
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}"))
    }
}

fn filtering() -> String {
    work_export("filtering", "filter", "verdicts")
}

/// The export of an interface with one function of batches.
pub fn work_export(interface: &str, function: &str, answer: &str) -> String {
    format!(
        r#"(func ${function} (param "batch" $batch) (result ${answer}) {LIFT_WORK}
        (instance ${interface} (export "{function}" (func ${function})))
        (export "tidegate:plugin/{interface}@0.1.0" (instance ${interface}))"#
    )
}

/// Stores: 32-bit numbers from an address on.
pub fn words(at: u32, words: &[u32]) -> String {
    let store = |(index, word): (usize, &u32)| {
        format!("(i32.store (i32.const {}) (i32.const {word}))", at as usize + 4 * index)
    };
    words.iter().enumerate().map(store).collect::<Vec<_>>().join(" ")
}

/// The answer of a filter: where the verdicts are and how many, where the rejects are and how many.
pub fn verdicts(lists: [u32; 4]) -> String {
    format!("{} (i32.const 1024)", words(1024, &lists))
}

/// The answer of a filter with as many verdicts as an expression says, where `{}` is the number of records; and where the rejects are
/// and how many.
pub fn counted(count: &str, rejects: [u32; 2]) -> String {
    let count = count.replace("{}", "(i32.load offset=12 (local.get 0))");
    let lists = words(1024, &[2048, 0, rejects[0], rejects[1]]);
    format!("{lists} (i32.store (i32.const 1028) {count}) (i32.const 1024)")
}

/// The answer that keeps the three records of the batch, without a look at what the host handed over.
pub fn keep_all() -> String {
    verdicts([2048, 3, 0, 0])
}

/// Rejects of these records, without code and message, and the verdicts with them.
pub fn rejects(indices: &[u32]) -> String {
    rejects_with(indices, [0, 0], [0, 0])
}

/// Rejects of these records with a code and a message, each an address and a length.
pub fn rejects_with(indices: &[u32], code: [u32; 2], message: [u32; 2]) -> String {
    let reject = |index: &u32| [*index, code[0], code[1], message[0], message[1]];
    let rejects: Vec<u32> = indices.iter().flat_map(reject).collect();
    format!("{} {}", words(65536, &rejects), counted("{}", [65536, indices.len() as u32]))
}

/// An answer of a transform, by list; the arena is the thousand bytes.
#[derive(Default)]
pub struct Answer<'a> {
    pub sources: &'a [u32],
    pub keys: &'a [u32],
    pub values: &'a [u32],
    pub header_counts: &'a [u32],
    pub headers: &'a [u32],
    /// How many timestamps; each is 0.
    pub timestamps: u32,
    pub routes: &'a [u32],
    pub partition_keys: &'a [u32],
    pub rejected: &'a [u32],
}

impl Answer<'_> {
    pub fn body(&self) -> String {
        let mut at = 65536;
        let mut text = String::new();
        let mut list = |list: &[u32], unit: u32| {
            text += &words(at, list);
            let place = [at, list.len() as u32 / unit];
            at += 4 * list.len() as u32 + 8;
            at &= !7;
            place
        };
        let rejects: Vec<u32> = self.rejected.iter().flat_map(|index| [*index, 0, 0, 0, 0]).collect();
        let places = [
            list(self.sources, 1),
            [2048, 1000],
            list(self.keys, 1),
            list(self.values, 1),
            list(self.header_counts, 1),
            list(self.headers, 1),
            [80000, self.timestamps],
            list(self.routes, 1),
            list(self.partition_keys, 1),
            list(&rejects, 5),
        ];
        format!("{text} {} (i32.const 1024)", words(1024, places.as_flattened()))
    }
}

/// A transform's answer that keeps these inputs.
pub fn sources(sources: &[u32]) -> String {
    Answer { sources, ..Answer::default() }.body()
}
