//! Counts, sums and compares numbers by key in windows of time. See `README.md`.

mod progress;
mod tally;
#[cfg(test)]
mod tests;
mod window;

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::json::{self, Num, Pointer};
use tidegate_plugin::{
    By, Column, ConfigError, Expiry, Outputs, Record, Reject, Route, Routes, State, StatefulTransform,
    export_stateful_transform, host,
};

use crate::progress::Progress;
use crate::tally::{Function, Tally};
use crate::window::{Cell, Window};

/// Results that one record brings out at most; those that are left come with the records behind it. A stage's default limits
/// (outputs, host calls and time of a record) leave room for several times as many.
const RESULTS_AT_ONCE: usize = 2000;

/// Cells of closed windows that are deleted at most while one record is worked on. A record makes one cell, so what is left
/// behind gets less with each of them.
const SWEPT_AT_ONCE: usize = 256;

/// What is computed of which records.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The length of a window in milliseconds.
    #[schemars(range(min = 1))]
    window_ms: i64,
    /// What records are grouped by.
    #[serde(default)]
    by: By,
    /// Where the number is in the value.
    value: Option<Pointer>,
    /// What is computed.
    functions: Vec<Function>,
    /// How long a window stays open after its end, in milliseconds of record time.
    #[serde(default)]
    grace_ms: u64,
    /// The topic for records that come when their window is closed. Without it they are dropped.
    late_route: Option<String>,
}

struct Aggregate {
    window_ms: i64,
    by: By,
    value: Option<Pointer>,
    functions: Vec<Function>,
    grace_ms: u64,
    late: Option<Route>,
}

impl StatefulTransform for Aggregate {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value, Column::Timestamp];

    fn new(config: Config, routes: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        let errors = errors(&config);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            window_ms: config.window_ms,
            by: config.by,
            value: config.value,
            functions: config.functions,
            grace_ms: config.grace_ms,
            late: config.late_route.map(|topic| routes.declare(topic)),
        })
    }

    fn transform(&self, record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let cell = self.cell(record)?;
        let number = self.number(record)?;
        let before = Progress::load(state)?;
        let mut progress = before.clone();
        let closed = before.closed.max(state.time().saturating_sub_unsigned(self.grace_ms));
        self.close(closed, &mut progress, state, outputs)?;
        if cell.window.end <= closed {
            self.late(outputs);
        } else {
            add(&cell.key(), number, state)?;
            progress.open(cell.key());
        }
        sweep(&mut progress, state);
        if progress != before {
            progress.store(state);
        }
        Ok(())
    }
}

/// What is wrong with a configuration.
fn errors(config: &Config) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    if config.window_ms < 1 {
        errors.push(ConfigError::new("/window_ms", "must be 1 at least"));
    }
    if config.functions.is_empty() {
        errors.push(ConfigError::new("/functions", "give one function at least"));
    }
    for (index, function) in config.functions.iter().enumerate() {
        if config.functions[..index].contains(function) {
            errors.push(ConfigError::new(format!("/functions/{index}"), "this function is there twice"));
        }
    }
    let needs_value = config.functions.iter().any(|function| *function != Function::Count);
    match (&config.value, needs_value) {
        (None, true) => errors.push(ConfigError::new("/value", "say where the number is")),
        (Some(_), false) => errors.push(ConfigError::new("/value", "no function looks at it: leave it out")),
        _ => {}
    }
    errors
}

impl Aggregate {
    /// Where a record belongs.
    fn cell(&self, record: &Record<'_>) -> Result<Cell, Reject> {
        let timestamp = record.timestamp();
        let window = Window::of(timestamp, self.window_ms)
            .ok_or_else(|| Reject::new("bad-timestamp", format!("no window holds the timestamp {timestamp}")))?;
        Ok(Cell { window, group: self.by.find(record)?.map(|group| group.into_owned()) })
    }

    /// The number of a record, if one is wanted.
    fn number(&self, record: &Record<'_>) -> Result<Option<Num>, Reject> {
        let Some(pointer) = &self.value else { return Ok(None) };
        let document = record.value().map(json::text).transpose()?;
        let part = document.map_or(Ok(None), |document| pointer.find(document))?;
        match part.and_then(Num::read) {
            Some(Num::Float(number)) if number.is_infinite() => {
                Err(Reject::new("overflow", format!("the number at \"{pointer}\" is too large for a double")))
            }
            Some(number) => Ok(Some(number)),
            None => Err(Reject::new("not-a-number", format!("the value has no number at \"{pointer}\""))),
        }
    }

    /// Emit the results of windows that end at `closed` or before, in the order of window and group.
    fn close(
        &self,
        closed: i64,
        progress: &mut Progress,
        state: &State<'_>,
        outputs: &mut Outputs,
    ) -> Result<(), Reject> {
        let Some(first) = progress.next.clone() else { return Ok(()) };
        if Cell::read(&first)?.window.end > closed {
            return Ok(());
        }
        *progress = Progress { closed, unswept: true, next: None };
        for (results, (key, tally)) in state.scan_from(window::PREFIX, &first).enumerate() {
            let cell = Cell::read(&key)?;
            if results == RESULTS_AT_ONCE || cell.window.end > closed {
                progress.next = Some(key);
                break;
            }
            self.emit(&cell, &Tally::decode(&tally)?, outputs);
        }
        Ok(())
    }

    /// Emit the result of a cell.
    fn emit(&self, cell: &Cell, tally: &Tally, outputs: &mut Outputs) {
        let value = tally.json(cell.window, &self.functions);
        let mut output = outputs.emit();
        output.key(cell.group.as_deref()).value(Some(value.as_bytes())).headers([]).timestamp(cell.window.end - 1);
    }

    /// The record came when its window was closed.
    fn late(&self, outputs: &mut Outputs) {
        host::count("late_records", 1);
        if let Some(route) = self.late {
            outputs.emit().route(route);
        }
    }
}

/// Add a record to its cell.
fn add(key: &[u8], number: Option<Num>, state: &State<'_>) -> Result<(), Reject> {
    let tally = match state.get(key) {
        Some(tally) => Tally::decode(&tally)?.add(number)?,
        None => Tally::first(number),
    };
    state.put(key, &tally.encode(), Expiry::Never);
    Ok(())
}

/// Delete cells whose results are out.
fn sweep(progress: &mut Progress, state: &State<'_>) {
    if !progress.unswept {
        return;
    }
    let next = progress.next.as_ref();
    let done = state.scan(window::PREFIX).map(|(key, _)| key).take_while(|key| next.is_none_or(|next| key < next));
    let swept: Vec<_> = done.take(SWEPT_AT_ONCE).collect();
    swept.iter().for_each(|key| state.delete(key));
    progress.unswept = swept.len() == SWEPT_AT_ONCE;
}

/// What the state holds cannot be what this plugin has written.
fn broken(what: &str) -> Reject {
    Reject::new(
        "broken-state",
        format!("the state holds {what} that cannot be read; give the stage another name to begin without state"),
    )
}

export_stateful_transform!(Aggregate);
