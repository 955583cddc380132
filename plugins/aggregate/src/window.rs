//! Windows of time, and the groups in them.

use tidegate_plugin::Reject;

use crate::broken;

/// What the keys of cells begin with.
pub(crate) const PREFIX: &[u8] = b"w";

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first millisecond.
    pub(crate) start: i64,
    /// The first millisecond after it.
    pub(crate) end: i64,
}

impl Window {
    /// The window of length `length` that holds `timestamp`. Windows begin at multiples of their length. `None` if its start or its end
    /// is no `i64`.
    pub(crate) fn of(timestamp: i64, length: i64) -> Option<Self> {
        let start = timestamp.checked_sub(timestamp.rem_euclid(length))?;
        Some(Self { start, end: start.checked_add(length)? })
    }
}

/// A group in a window: what a result is computed for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) window: Window,
    /// `None` for records that have nothing to group them by.
    pub(crate) group: Option<Vec<u8>>,
}

impl Cell {
    /// The key in the state: `w`, end, start, 0 for null or 1, group. It sorts like window and group, null first. The end comes first
    /// and both are there, so that windows of another length, from before a change of the configuration, are closed in their turn.
    pub(crate) fn key(&self) -> Vec<u8> {
        let group = self.group.as_deref().unwrap_or_default();
        let is_some = [u8::from(self.group.is_some())];
        [PREFIX, &sortable(self.window.end), &sortable(self.window.start), &is_some, group].concat()
    }

    /// Read a key.
    pub(crate) fn read(key: &[u8]) -> Result<Self, Reject> {
        let read = || {
            let (end, rest) = key.strip_prefix(PREFIX)?.split_first_chunk()?;
            let (start, rest) = rest.split_first_chunk()?;
            let (is_some, group) = rest.split_first()?;
            let window = Window { start: unsorted(*start), end: unsorted(*end) };
            Some(Self { window, group: (*is_some == 1).then(|| group.to_vec()) })
        };
        read().ok_or_else(|| broken("a key"))
    }
}

/// A number as bytes that sort like it.
fn sortable(number: i64) -> [u8; 8] {
    (number ^ i64::MIN).to_be_bytes()
}

fn unsorted(bytes: [u8; 8]) -> i64 {
    i64::from_be_bytes(bytes) ^ i64::MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_at_multiples_of_their_length() {
        let of = |timestamp, length| Window::of(timestamp, length).map(|window| (window.start, window.end));
        assert_eq!(of(0, 10), Some((0, 10)));
        assert_eq!(of(9, 10), Some((0, 10)));
        assert_eq!(of(10, 10), Some((10, 20)));
        assert_eq!(of(-1, 10), Some((-10, 0)));
        assert_eq!(of(i64::MIN, 10), None);
        assert_eq!(of(i64::MAX, 10), None);
    }

    #[test]
    fn keys_sort_like_windows_and_groups() {
        let cell = |start, end, group: Option<&str>| {
            let group = group.map(|group| group.as_bytes().to_vec());
            Cell { window: Window { start, end }, group }
        };
        let cells = [
            cell(-300, -290, Some("z")),
            cell(-10, 0, None),
            cell(-10, 0, Some("")),
            cell(-10, 0, Some("a")),
            cell(-10, 0, Some("a\0")),
            cell(-10, 0, Some("b")),
            cell(0, 10, None),
            cell(250, 260, None),
            cell(0, 300, None),
        ];
        assert!(cells.is_sorted_by_key(Cell::key));
        for cell in cells {
            assert_eq!(Cell::read(&cell.key()), Ok(cell));
        }
        assert!(Cell::read(b"w123").is_err());
    }
}
