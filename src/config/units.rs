//! Sizes and durations as people write them: `64MiB`, `7d`.

/// The units of a size and their bytes.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// The units of a duration and their milliseconds.
const DURATION_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 24 * 3_600_000)];

/// The bytes that `text` stands for, for example `64MiB`.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse_size(text: &str) -> Result<u64, String> {
    parse(text, &SIZE_UNITS).ok_or_else(|| {
        format!(
            "{text:?} is not a size: write a whole number and one of B, KB, MB, GB, KiB, MiB, GiB, TiB, like \"64MiB\""
        )
    })
}

/// The milliseconds that `text` stands for, for example `7d`.
///
/// # Errors
/// What is wrong, and what would be right.
pub(super) fn parse_duration_ms(text: &str) -> Result<u64, String> {
    parse(text, &DURATION_UNITS).ok_or_else(|| {
        format!("{text:?} is not a duration: write a whole number and one of ms, s, m, h, d, like \"7d\"")
    })
}

/// The time that `text` stands for.
///
/// # Errors
/// What is wrong, and what would be right.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    parse_duration_ms(text).map(std::time::Duration::from_millis)
}

fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

/// `bytes` in the largest unit that shows it without a fraction.
pub(super) fn show_size(bytes: u64) -> String {
    let largest = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
        .into_iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale));
    largest.map_or_else(|| format!("{bytes}B"), |(unit, scale)| format!("{}{unit}", bytes / scale))
}

/// Milliseconds in the largest unit that shows them without a fraction.
pub fn show_duration(ms: u64) -> String {
    let largest = DURATION_UNITS.iter().rev().find(|(_, scale)| ms >= *scale && ms.is_multiple_of(*scale));
    largest.map_or_else(|| format!("{ms}ms"), |(unit, scale)| format!("{}{unit}", ms / scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        let expected = [
            ("0B", 0),
            ("64MiB", 64 << 20),
            ("10MB", 10_000_000),
            ("1 GiB", 1 << 30),
            ("3kB", 3000),
            ("2TiB", 2 << 40),
        ];
        for (text, bytes) in expected {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, ms) in [("100ms", 100), ("30s", 30_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)] {
            assert_eq!(parse_duration_ms(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn what_is_neither_is_refused() {
        for text in ["", "MiB", "64", "64mib", "6.4MiB", "-1MiB", "64MiB ", "99999999999TiB", "１MiB", "7d"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        for text in ["", "7", "d", "1w", "1.5h", "-1s", "99999999999999999999d", "1MiB"] {
            assert!(parse_duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_without_fractions() {
        let expected = [(0, "0B"), (1000, "1000B"), (1024, "1KiB"), (1 << 30, "1GiB"), ((1 << 20) + 1024, "1025KiB")];
        for (bytes, text) in expected {
            assert_eq!(show_size(bytes), text);
        }
    }

    #[test]
    fn durations_are_shown_without_fractions() {
        for (ms, text) in [(0, "0ms"), (1500, "1500ms"), (60_000, "1m"), (90_000, "90s"), (86_400_000, "1d")] {
            assert_eq!(show_duration(ms), text);
        }
    }
}
