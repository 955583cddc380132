//! Does with each record what its value says, and counts the records that it has handled. For tests: whatever a bad record leaves
//! behind shows in what the records behind it become.

#![allow(clippy::panic, reason = "a plugin that does what it is told")]

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidegate_plugin::{
    Column, ConfigError, Expiry, Header, Outputs, Record, Reject, Routes, State, StatefulTransform,
    export_stateful_transform,
};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// One record of so many is rejected, beginning with the one that has this number; 0 rejects none.
    #[serde(default)]
    reject_every: u64,
    /// The first records are not rejected.
    #[serde(default)]
    reject_after: u64,
    /// What a record that asks for it becomes: the bytes that the plugin was given.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    shown: Option<Box<RawValue>>,
}

/// What to do with a record.
#[derive(Deserialize)]
struct Order {
    #[serde(default)]
    r#do: String,
}

struct Obey {
    config: Config,
}

impl StatefulTransform for Obey {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value, Column::Headers, Column::Timestamp, Column::Offset];

    fn new(config: Config, _routes: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        Ok(Self { config })
    }

    fn transform(&self, record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let handled = number(state.get(b"handled")) + 1;
        // Before anything can go wrong: what a bad record has written must be gone for the next.
        state.put(b"handled", handled.to_string().as_bytes(), Expiry::Never);
        state.put(format!("recent/{handled:08}").as_bytes(), b"", Expiry::At(state.time() + 5));
        let order: Order = serde_json::from_slice(record.value().unwrap_or(b"{}"))
            .map_err(|error| Reject::new("not-an-order", error.to_string()))?;
        let every = self.config.reject_every;
        if every > 0 && handled > self.config.reject_after && handled.is_multiple_of(every) {
            return Err(Reject::new("every-so-many", "it is one of those"));
        }
        match order.r#do.as_str() {
            "panic" => panic!("told to"),
            "loop" => loop {
                std::hint::black_box(());
            },
            "memory" => drop(std::hint::black_box(vec![1_u8; 1 << 30])),
            "reject" => return Err(Reject::new("told-to", "the record says so")),
            "drop" => return Ok(()),
            "show" => {
                let shown = self.config.shown.as_ref().map_or("", |shown| shown.get());
                outputs.emit().value(Some(shown.as_bytes()));
                return Ok(());
            }
            "twice" => emit(record, state, outputs, handled),
            _ => {}
        }
        emit(record, state, outputs, handled);
        Ok(())
    }
}

/// An output that shows all that it could depend on.
fn emit(record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs, handled: u64) {
    let recent = state.scan(b"recent/").count();
    let text = format!("{handled} handled, {recent} recent, time {}, random {:016x}", state.time(), record.random());
    outputs.emit().headers(record.headers().chain([Header::new(b"obeyed", text.as_bytes())]));
}

fn number(text: Option<Vec<u8>>) -> u64 {
    text.and_then(|text| String::from_utf8(text).ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

export_stateful_transform!(Obey);
