//! Text for people: columns, sizes, durations.

use std::io::{self, Write};

use crate::model::text::printable;

/// What stands for a thing that is not known or not there.
pub(super) const NOTHING: &str = "-";

/// Print `rows` in columns as wide as their widest cell, under `titles`.
pub(super) fn table<const N: usize>(out: &mut dyn Write, titles: [&str; N], rows: &[[String; N]]) -> io::Result<()> {
    let mut widths = titles.map(|title| title.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    print_row(out, &widths, titles.map(str::to_uppercase).each_ref().map(String::as_str))?;
    rows.iter().try_for_each(|row| print_row(out, &widths, row.each_ref().map(String::as_str)))
}

fn print_row<const N: usize>(out: &mut dyn Write, widths: &[usize; N], cells: [&str; N]) -> io::Result<()> {
    let pad = |(cell, width): (&&str, &usize)| format!("{:<width$}", printable(cell).replace(['\n', '\t'], " "));
    let padded: Vec<String> = cells.iter().zip(widths).map(pad).collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}

/// The thing, or [`NOTHING`].
pub(super) fn known(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NOTHING.to_owned(), |value| value.to_string())
}

/// A number of bytes, to three digits or so.
pub(super) fn bytes(count: f64) -> String {
    let mut count = count;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if count < 1024.0 {
            let decimals = usize::from(unit != "B" && count < 100.0);
            return format!("{count:.decimals$} {unit}");
        }
        count /= 1024.0;
    }
    format!("{count:.1} TiB")
}

/// A duration in milliseconds, to two digits or more.
pub(super) fn milliseconds(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} ms"),
        1_000..120_000 => format!("{}.{} s", count / 1_000, count % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", count / 60_000),
        7_200_000..172_800_000 => format!("{} h", count / 3_600_000),
        _ => format!("{} days", count / 86_400_000),
    }
}

/// A duration in microseconds, as [`milliseconds`] from one millisecond on.
pub(super) fn microseconds(count: u64) -> String {
    match count {
        0..1_000 => format!("{count} µs"),
        _ => milliseconds(count / 1_000),
    }
}

/// Print a text of any number of lines behind its name. Lines are indented, so that no text looks like another field.
pub(super) fn field(out: &mut dyn Write, name: &str, text: &str) -> io::Result<()> {
    writeln!(out, "  {name:<9} {}", printable(text).replace('\n', "\n            "))
}

/// The text on one line, of at most so many characters.
pub(super) fn line(text: &str, chars_max: usize) -> String {
    let text = printable(text).replace(['\n', '\t'], " ");
    match text.char_indices().nth(chars_max) {
        Some(_) => text.chars().take(chars_max.saturating_sub(1)).chain(['…']).collect(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut out = Vec::new();
        let rows = [["ä".to_owned(), "1".to_owned()], ["orders".to_owned(), String::new()]];
        table(&mut out, ["id", "lag"], &rows).expect("printed");
        assert_eq!(String::from_utf8(out).expect("text"), "ID      LAG\nä       1\norders\n");
    }

    #[test]
    fn sizes_and_durations_are_short() {
        for (count, text) in [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.5 KiB"), (524_288_000.0, "500 MiB")] {
            assert_eq!(bytes(count), text);
        }
        for (count, text) in
            [(0, "0 ms"), (1_250, "1.2 s"), (119_999, "119.9 s"), (120_000, "2 min"), (7_200_000, "2 h")]
        {
            assert_eq!(milliseconds(count), text);
        }
        for (count, text) in [(999, "999 µs"), (1_000, "1 ms"), (1_000_000, "1.0 s")] {
            assert_eq!(microseconds(count), text);
        }
    }
}
