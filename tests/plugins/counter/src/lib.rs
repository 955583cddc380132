//! Numbers records by key and in all, in the header `count`; and breaks down on records that ask for it, after it has changed its
//! state. For tests.
//!
//! The layout of the state is that of the package's major version. Numbers are text in version 1, and 8 bytes, little-endian, in
//! version 2.
//!
//! | version 1 | version 2 | is |
//! |---|---|---|
//! | `n`, key | `c`, key | how many records had this key; forgotten with `keep_ms` |
//! | `t` | `a` | how many records there were |

use schemars::JsonSchema;
use serde::Deserialize;
use tidegate_plugin::{
    Column, ConfigError, Expiry, Header, MigrationState, Outputs, Record, Reject, Routes, State, StatefulTransform,
    export_stateful_transform,
};

/// What a value must contain for the record to be poison.
const PANICS: &[u8] = br#""poison":"panic""#;
const REJECTS: &[u8] = br#""poison":"reject""#;

/// How long numbers are kept, and how records are handled that are poison.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A key is forgotten when so many milliseconds of record time have passed without it.
    keep_ms: u64,
    /// Whether poison does harm.
    fragile: bool,
}

struct Counter(Config);

/// A version of the layout.
#[derive(Clone, Copy)]
struct Layout {
    key: &'static [u8],
    all: &'static [u8],
    is_text: bool,
}

impl Layout {
    fn of(version: u32) -> Self {
        match version {
            1 => Self { key: b"n", all: b"t", is_text: true },
            _ => Self { key: b"c", all: b"a", is_text: false },
        }
    }

    fn encode(self, number: u64) -> Vec<u8> {
        if self.is_text { number.to_string().into_bytes() } else { number.to_le_bytes().to_vec() }
    }

    /// Errors: these bytes are no number, in words.
    fn decode(self, bytes: &[u8]) -> Result<u64, String> {
        let number = if self.is_text {
            std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok())
        } else {
            bytes.try_into().ok().map(u64::from_le_bytes)
        };
        number.ok_or_else(|| format!("{bytes:?} is no number"))
    }
}

impl Counter {
    fn expiry(&self, time: i64) -> Expiry {
        Expiry::At(time.saturating_add_unsigned(self.0.keep_ms))
    }

    /// Count one more under `key`.
    fn count(&self, layout: Layout, key: &[u8], expiry: Expiry, state: &State<'_>) -> Result<u64, Reject> {
        let before = state.get(key).map_or(Ok(0), |bytes| layout.decode(&bytes));
        let number = before.map_err(|error| Reject::new("broken-state", error))? + 1;
        state.put(key, &layout.encode(number), expiry);
        Ok(number)
    }
}

impl StatefulTransform for Counter {
    type Config = Config;
    const NEEDS: &'static [Column] = &[Column::Key, Column::Value, Column::Headers];
    const STATE_VERSION: u32 = (env!("CARGO_PKG_VERSION_MAJOR").as_bytes()[0] - b'0') as u32;

    fn new(config: Config, _: &mut Routes) -> Result<Self, Vec<ConfigError>> {
        Ok(Self(config))
    }

    fn transform(&self, record: &Record<'_>, state: &State<'_>, outputs: &mut Outputs) -> Result<(), Reject> {
        let layout = Layout::of(Self::STATE_VERSION);
        let key = [layout.key, record.key().unwrap_or_default()].concat();
        let number = self.count(layout, &key, self.expiry(state.time()), state)?;
        let all = self.count(layout, layout.all, Expiry::Never, state)?;
        let count = format!("{number} of {all}");
        outputs.emit().headers(record.headers().chain([Header::new(b"count", count.as_bytes())]));
        let value = record.value().unwrap_or_default();
        let says = |poison: &[u8]| self.0.fragile && value.windows(poison.len()).any(|part| part == poison);
        assert!(!says(PANICS), "this record is poison");
        if says(REJECTS) { Err(Reject::new("poison", "this record is poison")) } else { Ok(()) }
    }

    fn migrate(&self, from: u32, to: u32, state: &MigrationState) -> Result<(), String> {
        let (old, new) = (Layout::of(from), Layout::of(to));
        let all = state.get(old.all);
        for (key, value) in state.scan(old.key).collect::<Vec<_>>() {
            state.delete(&key);
            let key = [new.key, &key[old.key.len()..]].concat();
            state.put(&key, &new.encode(old.decode(&value)?), self.expiry(state.time()));
        }
        if let Some(all) = all {
            state.delete(old.all);
            state.put(new.all, &new.encode(old.decode(&all)?), Expiry::Never);
        }
        Ok(())
    }
}

export_stateful_transform!(Counter);
