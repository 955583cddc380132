//! Points in time as text: RFC 3339.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_MS: i64 = 86_400_000;

/// A producer's clock may be ahead of ours by so much: what it wrote is new then. Beyond that its
/// timestamp says nothing.
const AHEAD_MAX_MS: i64 = 3_600_000;

/// What stands for "no timestamp" in a record.
pub const NO_TIMESTAMP: i64 = -1;

/// The clock on the wall, in milliseconds since 1970-01-01 UTC.
pub fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64
}

/// Milliseconds since 1970-01-01 UTC as text, for example `2024-01-15T10:00:00.000Z`.
pub fn rfc3339(ms: i64) -> String {
    let (year, month, day) = date_of(ms.div_euclid(DAY_MS));
    let in_day = ms.rem_euclid(DAY_MS);
    let (seconds, milliseconds) = (in_day / 1000, in_day % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

/// The milliseconds since 1970-01-01 UTC of a text like `2024-01-15T10:00:00Z` or `2024-01-15T11:00:00.5+01:00`. What is finer than a
/// millisecond is dropped, but it must be digits. Every byte of the text is checked; leap seconds are refused.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, clock) = text.split_once(['T', 't'])?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, zone_minutes) = match clock.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => zone(clock)?,
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    digits(fraction, fraction.len())?;
    let milliseconds = fraction.bytes().chain(*b"00").take(3).fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
    let in_range = (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    let days = days_of(year, month, day);
    if !in_range || date_of(days) != (year, month, day) {
        return None;
    }
    Some(days * DAY_MS + ((hour * 60 + minute - zone_minutes) * 60 + second) * 1000 + milliseconds)
}

/// What stands before a zone like `+01:00`, and how far that is ahead of UTC, in minutes.
fn zone(clock: &str) -> Option<(&str, i64)> {
    let at = clock.len().checked_sub(6)?;
    let (clock, zone) = (clock.get(..at)?, clock.get(at..)?);
    let sign = match zone.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    (hours < 24 && minutes < 60).then_some((clock, sign * (hours * 60 + minutes)))
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

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, lengths: [usize; 3]) -> Option<[i64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let [first, second, third] = parts[..] else { return None };
    Some([number(first, lengths[0])?, number(second, lengths[1])?, number(third, lengths[2])?])
}

/// A number of so many digits, without a sign.
fn number(text: &str, length: usize) -> Option<i64> {
    digits(text, length)?.parse().ok()
}

/// The text, if it is so many digits, one at least.
fn digits(text: &str, length: usize) -> Option<&str> {
    let are_digits = length > 0 && text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then_some(text)
}

/// How long ago a record was written that says so itself, in milliseconds. `None`: it has no
/// timestamp (Kafka's -1, and 0 of programs that know no better), or one that no clock can have
/// shown by now.
pub fn age_ms(written: i64, now_ms: i64) -> Option<u64> {
    let may_be_true = written > 0 && written.saturating_sub(now_ms) <= AHEAD_MAX_MS;
    may_be_true.then(|| now_ms.saturating_sub(written).max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_taken_off() {
        let ten = 1_705_312_800_000;
        assert_eq!(rfc3339(ten), "2024-01-15T10:00:00.000Z");
        for (text, ms) in [
            ("2024-01-15T10:00:00Z", Some(ten)),
            ("2024-01-15T11:30:00.25+01:30", Some(ten + 250)),
            ("2024-01-14T23:00:00-11:00", Some(ten)),
            ("2024-01-15T10:00:00", None),
            ("2024-01-15T10:00:00+1:00", None),
            ("2024-01-15T10:00:00+24:00", None),
            ("2024-01-15T10:00:00ü1:00", None),
            ("2024-01-15t10:00:00z", Some(ten)),
            ("2024-01-15T10:00:00.123456789Z", Some(ten + 123)),
            ("2024-01-15T10:00:00.1Z", Some(ten + 100)),
            ("2024-01-15T10:00:00.123abcZ", None),
            ("2024-01-15T10:00:00.12 Z", None),
            ("2024-01-15T10:00:00.1234+Z", None),
            ("2024-01-15T10:00:00.Z", None),
            ("2024-01-15T10:00:00.1.2Z", None),
            ("2024-1-15T10:00:00Z", None),
            ("02024-01-15T10:00:00Z", None),
            ("2024-01-15T10:0:00Z", None),
            ("2024-01-15T10:00:000Z", None),
            ("+024-01-15T10:00:00Z", None),
            ("2024-01-15T10:00:00Z ", None),
            ("2024-01-15T10:00:00ZZ", None),
            ("2024-01-15T10:00:00+01:0", None),
            ("2024-02-30T10:00:00Z", None),
            ("2024-01-15T23:59:60Z", None),
        ] {
            assert_eq!(parse_rfc3339(text), ms, "{text}");
        }
    }

    #[test]
    fn what_a_timestamp_cannot_say_has_no_age() {
        const HOUR: i64 = AHEAD_MAX_MS;
        let now = 1_700_000_000_000;
        for absurd in [i64::MIN, -1_000_000, -1, 0, now + HOUR + 1, now * 1000, i64::MAX] {
            assert_eq!(age_ms(absurd, now), None, "{absurd}");
        }
        assert_eq!(age_ms(now + HOUR, now), Some(0), "a clock that is a little ahead");
        assert_eq!(age_ms(1, now), Some(now.unsigned_abs() - 1), "a record of long ago");
        for (written, now) in [(1, i64::MAX), (i64::MAX, i64::MIN), (i64::MIN, i64::MAX), (i64::MAX, -1)] {
            let _no_overflow = age_ms(written, now);
        }
    }
}
