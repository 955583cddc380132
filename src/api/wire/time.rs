//! Points in time.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::model::time::{NO_TIMESTAMP, now_ms, parse_rfc3339, rfc3339};

/// A point in time: milliseconds since 1970-01-01 UTC. On the wire it is RFC 3339, for example
/// `2024-01-15T10:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Time(pub i64);

/// The times that RFC 3339 can write: its years have four digits.
const RFC_3339: RangeInclusive<i64> = -62_167_219_200_000..=253_402_300_799_999;

/// A text that is not a [`Time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write it like 2024-01-15T10:00:00.000Z")]
pub struct NotATime;

impl Time {
    /// The system's clock.
    pub fn now() -> Self {
        Self(now_ms())
    }

    /// A record's timestamp, in milliseconds. Producers choose it: it may be none, or beyond all calendars.
    pub fn of_record(timestamp: i64) -> Option<Self> {
        (timestamp != NO_TIMESTAMP && RFC_3339.contains(&timestamp)).then_some(Self(timestamp))
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time", "description": "A point in time in UTC, RFC 3339, with milliseconds."})
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

/// In UTC: what the wire writes has no other zone.
impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let ms = parse_rfc3339(text).filter(|_| text.ends_with('Z'));
        ms.map(Self).ok_or(NotATime)
    }
}

impl From<Time> for String {
    fn from(time: Time) -> Self {
        time.to_string()
    }
}

impl TryFrom<String> for Time {
    type Error = NotATime;

    fn try_from(text: String) -> Result<Self, NotATime> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_may_have_a_time_that_no_calendar_has() {
        for (timestamp, written) in [
            (0, Some("1970-01-01T00:00:00.000Z")),
            (253_402_300_799_999, Some("9999-12-31T23:59:59.999Z")),
            (253_402_300_800_000, None),
            (-62_167_219_200_000, Some("0000-01-01T00:00:00.000Z")),
            (-62_167_219_200_001, None),
            (i64::MAX, None),
            (i64::MIN, None),
            (-1, None),
        ] {
            assert_eq!(Time::of_record(timestamp).map(|time| time.to_string()).as_deref(), written, "{timestamp}");
        }
    }

    #[test]
    fn known_times_are_written_right() {
        for (milliseconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_705_312_800_000, "2024-01-15T10:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(Time(milliseconds).to_string(), text);
            assert_eq!(text.parse(), Ok(Time(milliseconds)), "{text}");
        }
    }

    #[test]
    fn the_fraction_is_optional() {
        assert_eq!("2024-01-15T10:00:00Z".parse(), Ok(Time(1_705_312_800_000)));
        assert_eq!("2024-01-15T10:00:00.5Z".parse(), Ok(Time(1_705_312_800_500)));
        assert_eq!("2024-01-15T10:00:00.123456Z".parse(), Ok(Time(1_705_312_800_123)));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2024-01-15",
            "2024-01-15T10:00:00",
            "2024-02-30T10:00:00Z",
            "2024-13-01T10:00:00Z",
            "2024-01-15T24:00:00Z",
            "2024-01-15T10:00:00+01:00",
            "2024-01-15T10:00:00.éZ",
            "-024-01-15T10:00:00Z",
        ] {
            assert_eq!(text.parse::<Time>(), Err(NotATime), "{text}");
        }
    }
}
