//! Points in time.

use std::fmt;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01 UTC. On the wire it is RFC 3339, for example
/// `2024-01-15T10:00:00.000Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Time(pub i64);

/// A text that is not a [`Time`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time: write it like 2024-01-15T10:00:00.000Z")]
pub struct NotATime;

const DAY_MS: i64 = 86_400_000;

impl Time {
    /// The system's clock.
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date_of(self.0.div_euclid(DAY_MS));
        let in_day = self.0.rem_euclid(DAY_MS);
        let (seconds, milliseconds) = (in_day / 1000, in_day % 1000);
        let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
    }
}

/// The date in the Gregorian calendar. The year is counted from March, so that the leap day is the last of its year
/// and a date is plain arithmetic over the cycle of 400 years (146,097 days).
fn date_of(days_since_epoch: i64) -> (i64, i64, i64) {
    let days = days_since_epoch + 719_468;
    let (cycle, day_of_cycle) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + i64::from(month <= 2), month, day)
}

/// The inverse of [`date_of`].
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (cycle, year_of_cycle) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    cycle * 146_097 + 365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100 + day_of_year - 719_468
}

impl FromStr for Time {
    type Err = NotATime;

    fn from_str(text: &str) -> Result<Self, NotATime> {
        let (date, clock) = text.strip_suffix('Z').and_then(|text| text.split_once('T')).ok_or(NotATime)?;
        let [year, month, day] = numbers(date, '-')?;
        let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
        let [hour, minute, second] = numbers(clock, ':')?;
        // Any number of digits is allowed; what is finer than a millisecond is cut.
        let milliseconds: i64 = format!("{fraction:0<3}").get(..3).and_then(digits).ok_or(NotATime)?;
        let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
        let days = days_of(year, month, day);
        if !in_range || date_of(days) != (year, month, day) {
            return Err(NotATime);
        }
        Ok(Self(days * DAY_MS + ((hour * 60 + minute) * 60 + second) * 1000 + milliseconds))
    }
}

fn numbers(text: &str, separator: char) -> Result<[i64; 3], NotATime> {
    let mut parts = text.split(separator).map(digits);
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(Some(first)), Some(Some(second)), Some(Some(third)), None) => Ok([first, second, third]),
        _ => Err(NotATime),
    }
}

/// A number of at most four digits, without a sign.
fn digits(text: &str) -> Option<i64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
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
