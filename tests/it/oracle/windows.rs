//! What `aggregate` does and remembers, for numbers that are integers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use super::memory::{NEVER, Rows};
use super::plugins::{Bad, document, field, known};
use super::{Content, Output};

/// Results that one record brings out at most, and cells that are deleted at most while one record is worked on.
const RESULTS_AT_ONCE: usize = 2000;
const SWEPT_AT_ONCE: usize = 256;

/// End and start of a window, and the group: cells are in this order.
type Cell = (i64, i64, Option<Vec<u8>>);

#[derive(Debug)]
struct Sums {
    count: u64,
    /// Sum, smallest and largest number; `None` if there was a record whose number was not asked for.
    numbers: Option<[i128; 3]>,
}

/// The windows of a source partition.
#[derive(Debug)]
pub(super) struct Windows {
    cells: BTreeMap<Cell, Sums>,
    closed: i64,
    unswept: bool,
    /// The first cell whose result is not out.
    next: Option<Cell>,
    /// Whether there ever was a record.
    begun: bool,
}

impl Default for Windows {
    fn default() -> Self {
        Self { cells: BTreeMap::new(), closed: i64::MIN, unswept: false, next: None, begun: false }
    }
}

impl Windows {
    /// The number of a record, if one is asked for.
    pub(super) fn number(config: &Value, content: &Content) -> Result<Option<i128>, Bad> {
        known(config, &["window_ms", "grace_ms", "value", "functions", "late_route"]);
        let Some(pointer) = config["value"].as_str() else { return Ok(None) };
        let document = document(content);
        let number = document.as_ref().and_then(|document| field(document, config, "value")).and_then(Value::as_i64);
        let missing = || Bad::rejected("not-a-number", format!("the value has no number at \"{pointer}\""));
        number.map(|number| Some(i128::from(number))).ok_or_else(missing)
    }

    /// Count a record in; what comes out with it.
    pub(super) fn add(&mut self, config: &Value, time: i64, number: Option<i128>, record: Output) -> Vec<Output> {
        self.begun = true;
        let closed = self.closed.max(time - config["grace_ms"].as_i64().unwrap_or(0));
        let mut outputs = self.close(config, closed, &record);
        let (timestamp, length) = (record.content.timestamp, config["window_ms"].as_i64().expect("a length"));
        let start = timestamp.div_euclid(length) * length;
        let cell = (start + length, start, record.content.key.clone());
        if cell.0 <= closed {
            let topic = config["late_route"].as_str().map(str::to_owned);
            outputs.extend(topic.map(|topic| Output { topic: Some(topic), ..record }));
        } else {
            self.count(cell.clone(), number);
            self.next = Some(self.next.take().map_or(cell.clone(), |next| next.min(cell)));
        }
        self.sweep();
        outputs
    }

    fn count(&mut self, cell: Cell, number: Option<i128>) {
        let Some(sums) = self.cells.get_mut(&cell) else {
            self.cells.insert(cell, Sums { count: 1, numbers: number.map(|number| [number; 3]) });
            return;
        };
        sums.count += 1;
        sums.numbers = sums.numbers.zip(number).map(|([sum, min, max], n)| [sum + n, min.min(n), max.max(n)]);
    }

    /// The results of windows that end at `closed` or before.
    fn close(&mut self, config: &Value, closed: i64, record: &Output) -> Vec<Output> {
        let Some(first) = self.next.take_if(|next| next.0 <= closed) else { return Vec::new() };
        (self.closed, self.unswept) = (closed, true);
        let mut outputs = Vec::new();
        for (cell, sums) in self.cells.range(first..) {
            if outputs.len() == RESULTS_AT_ONCE || cell.0 > closed {
                self.next = Some(cell.clone());
                break;
            }
            let value = Some(result(config, cell, sums).into_bytes());
            let content = Content { key: cell.2.clone(), value, headers: Vec::new(), timestamp: cell.0 - 1 };
            outputs.push(Output { content, ..record.clone() });
        }
        outputs
    }

    fn sweep(&mut self) {
        if !self.unswept {
            return;
        }
        let done = self.cells.keys().take_while(|cell| self.next.as_ref().is_none_or(|next| cell < &next));
        let done: Vec<Cell> = done.take(SWEPT_AT_ONCE).cloned().collect();
        for cell in &done {
            self.cells.remove(cell);
        }
        self.unswept = done.len() == SWEPT_AT_ONCE;
    }

    /// The entries, as the plugin's documentation lays them out.
    pub(super) fn rows(&self) -> Rows {
        let mut rows: Rows = self.cells.iter().map(|(cell, sums)| (key(cell), (sums.encode(), NEVER))).collect();
        if self.begun {
            let next = self.next.as_ref().map(key).unwrap_or_default();
            let progress = [&self.closed.to_le_bytes()[..], &[u8::from(self.unswept)], &next].concat();
            rows.insert(b"p".to_vec(), (progress, NEVER));
        }
        rows
    }
}

impl Sums {
    fn encode(&self) -> Vec<u8> {
        let number = |number: i128| [&[0], &number.to_le_bytes()[..]].concat();
        let numbers: Vec<u8> = self.numbers.into_iter().flatten().flat_map(number).collect();
        [&self.count.to_le_bytes()[..], &numbers].concat()
    }
}

fn key((end, start, group): &Cell) -> Vec<u8> {
    let sortable = |number: i64| (number ^ i64::MIN).to_be_bytes();
    let is_some = [u8::from(group.is_some())];
    [b"w", &sortable(*end)[..], &sortable(*start), &is_some, group.as_deref().unwrap_or_default()].concat()
}

fn result(config: &Value, (end, start, _): &Cell, sums: &Sums) -> String {
    let mut json = format!(r#"{{"window_start":{start},"window_end":{end}"#);
    let number = |at: usize| sums.numbers.map_or_else(|| "null".to_owned(), |numbers| numbers[at].to_string());
    let functions = config["functions"].as_array().expect("functions");
    for (name, result) in
        [("count", sums.count.to_string()), ("sum", number(0)), ("min", number(1)), ("max", number(2))]
    {
        if functions.iter().any(|function| function == name) {
            let _ = write!(json, r#","{name}":{result}"#);
        }
    }
    json + "}"
}
