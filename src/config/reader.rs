//! Reads a TOML tree, one key after the other: a [`Table`] hands out [`Item`]s and remembers which keys it was asked
//! for, so that the rest is unknown in the end.

use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::Place;
use super::report::{Asked, Report, Unit};
use super::units::{parse_duration_ms, parse_size, show_duration, show_size};

/// A table that is being read.
pub(super) struct Table<'a> {
    /// Its header.
    pub(super) place: Place,
    pub(super) report: &'a Report<'a>,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
    refused: Vec<&'static str>,
}

/// What is written in a table, whoever reads it.
pub(super) struct Written<'a> {
    pub(super) place: Place,
    pub(super) report: &'a Report<'a>,
    entries: &'a DeTable<'a>,
}

/// A value that is being read.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub(super) place: Place,
    pub(super) report: &'a Report<'a>,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Table<'a> {
    /// The file itself.
    pub(super) fn root(entries: &'a DeTable<'a>, report: &'a Report<'a>) -> Self {
        Self::new(Place::top(), report, entries)
    }

    fn new(place: Place, report: &'a Report<'a>, entries: &'a DeTable<'a>) -> Self {
        Self { place, report, entries, known: Vec::new(), refused: Vec::new() }
    }

    /// The value of `key`, if it is there.
    pub(super) fn item(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.known.push(key);
        self.note(key, || Asked::Key);
        let value = self.entries.get(key)?;
        Some(self.item_of(key, value))
    }

    fn note(&self, key: &str, asked: impl FnOnce() -> Asked) {
        self.report.note(|| (self.place.child(key, 0..0), asked()));
    }

    /// The value of `key`, which is read by somebody else too.
    pub(super) fn peek(&self, key: &str) -> Option<Item<'a>> {
        self.entries.get(key).map(|value| self.item_of(key, value))
    }

    /// The value of `key`. It is an error if it is not there; `help` says what to write.
    pub(super) fn required(&mut self, key: &'static str, help: &str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.report.error_if_all_was_read(&self.place, format!("{key:?} is missing"), help);
        }
        item
    }

    /// The table under `key`. One that is not there reads as an empty one.
    pub(super) fn table(&mut self, key: &'static str) -> Table<'a> {
        static EMPTY: std::sync::LazyLock<DeTable<'static>> = std::sync::LazyLock::new(DeTable::new);
        let place = self.place.child(key, self.place.span.clone());
        let found = self.item(key).and_then(|item| item.table());
        found.unwrap_or_else(|| Self::new(place, self.report, &EMPTY))
    }

    /// A whole number in `range`.
    pub(super) fn integer(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.note(key, || Asked::Default(default.to_string()));
        self.item(key).and_then(|item| item.integer(range)).unwrap_or(default)
    }

    /// Bytes in `range`: a number, or a text like `64MiB`.
    pub(super) fn size(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.note(key, || Asked::Default(format!("{:?}", show_size(default))));
        self.item(key).and_then(|item| item.size(range)).unwrap_or(default)
    }

    /// A share in percent: a whole number from 0 to 100.
    pub(super) fn percent(&mut self, key: &'static str, default: u32) -> u32 {
        self.integer(key, default.into(), 0..=100) as u32
    }

    /// The milliseconds, in `range`, of a text like `7d`.
    pub(super) fn duration_ms(&mut self, key: &'static str, default: u64, range: RangeInclusive<u64>) -> u64 {
        self.note(key, || Asked::Default(format!("{:?}", show_duration(default))));
        self.item(key).and_then(|item| item.duration_ms_in(range)).unwrap_or(default)
    }

    /// True or false.
    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.note(key, || Asked::Default(default.to_string()));
        self.item(key).and_then(|item| item.flag()).unwrap_or(default)
    }

    /// Say that these keys belong elsewhere; the second of each pair is a help.
    pub(super) fn misplaced(&mut self, keys: &[(&'static str, &str)], here: &str) {
        self.refuse_as(keys, |key| format!("{key:?} is not a key of {here}"));
    }

    fn refuse_as(&mut self, keys: &[(&'static str, &str)], message: impl Fn(&str) -> String) {
        for (key, help) in keys {
            self.refused.push(key);
            if let Some((name, _)) = self.entries.get_key_value(*key) {
                let place = self.place.child(key, name.span());
                self.report.error_with_help(&place, message(key), *help);
            }
        }
    }

    /// Where the value of `key` stands, if it is there.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.entries.get(key).map(|value| self.place.child(key, value.span()))
    }

    /// What is written, to find places in it later.
    pub(super) fn written(&self) -> Written<'a> {
        Written { place: self.place.clone(), report: self.report, entries: self.entries }
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.entries.keys().map(|name| &**name.get_ref())
    }

    /// All entries, whatever their keys: for tables whose keys are names that the user chose. The place of each key comes
    /// with it.
    pub(super) fn named(self) -> impl Iterator<Item = (&'a str, Place, Item<'a>)> {
        self.refuse_nulls();
        self.entries.iter().map(move |(name, value)| {
            let key: &str = name.get_ref();
            (key, self.place.child(key, name.span()), self.item_of(key, value))
        })
    }

    fn item_of(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item { place: self.place.child(key, value.span()), report: self.report, value: value.get_ref() }
    }

    /// Report what a definition says null of. To a setting, null says that it is not set: like a key that is not there. For tables in which a
    /// key that is not there says something else.
    pub(super) fn refuse_nulls(&self) {
        for null in self.report.nulls_in(&self.place) {
            self.report.error(&null.place, "expected a value, found null");
        }
    }

    /// Report every key that nobody asked for.
    pub(super) fn finish(self) {
        let nulls = self.report.nulls_in(&self.place).map(|null| (&*null.key, null.place.clone()));
        let entries =
            self.entries.keys().map(|name| (&**name.get_ref(), self.place.child(name.get_ref(), name.span())));
        for (key, place) in entries.chain(nulls) {
            if !self.known.contains(&key) && !self.refused.contains(&key) {
                let help = suggest(key, self.known.iter().copied());
                self.report.error_with_help(&place, format!("unknown key {key:?}"), help);
            }
        }
    }
}

impl Written<'_> {
    /// Where the value at a path like `pipeline[0].limits.time_ms` stands, if it is written.
    pub(super) fn place_at(&self, path: &str) -> Option<Place> {
        let mut place = self.place.clone();
        let mut entries = Some(self.entries);
        for step in path.split('.') {
            let (key, index) = step.strip_suffix(']').and_then(|step| step.split_once('[')).unwrap_or((step, ""));
            let value = entries?.get(key)?;
            place = place.child(key, value.span());
            let mut value = value.get_ref();
            if let DeValue::Array(values) = value {
                let (index, entry) = index.parse().ok().and_then(|index| Some((index, values.get::<usize>(index)?)))?;
                place = place.item(index, entry.span());
                value = entry.get_ref();
            }
            entries = if let DeValue::Table(entries) = value { Some(entries) } else { None };
        }
        Some(place)
    }
}

impl<'a> Item<'a> {
    /// Say what kind of value is read.
    fn note(&self, kind: impl FnOnce() -> String) {
        self.report.note(|| (self.place.clone(), Asked::Kind(kind())));
    }

    /// Say between what a number has to be.
    fn note_range(&self, unit: Unit, range: &RangeInclusive<u64>) {
        self.report.note(|| (self.place.clone(), Asked::Range(unit, *range.start(), *range.end())));
    }

    /// A text.
    pub(super) fn text(&self) -> Option<&'a str> {
        self.note(|| "text".to_owned());
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.wrong_type("a string"),
        }
    }

    /// The text, if it is one. Nothing is said of what it is not.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        if let DeValue::String(text) = self.value { Some(text) } else { None }
    }

    /// True or false.
    pub(super) fn flag(&self) -> Option<bool> {
        self.note(|| "`true` or `false`".to_owned());
        match self.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => self.wrong_type("true or false"),
        }
    }

    /// A table.
    pub(super) fn table(&self) -> Option<Table<'a>> {
        self.note(|| "table".to_owned());
        match self.value {
            DeValue::Table(entries) => Some(Table::new(self.place.clone(), self.report, entries)),
            _ => self.wrong_type("a table"),
        }
    }

    /// The same for one that was read before: what is wrong with its type was said then.
    pub(super) fn table_again(&self) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(self.place.clone(), self.report, entries)),
            _ => None,
        }
    }

    /// The entries of an array; `expected` says what is expected, for example `an array of strings`.
    pub(super) fn items(&self, expected: &str) -> Option<impl Iterator<Item = Item<'a>>> {
        self.note(|| expected.to_owned());
        let DeValue::Array(values) = self.value else {
            return self.wrong_type(expected);
        };
        let (place, report) = (self.place.clone(), self.report);
        Some(values.iter().enumerate().map(move |(index, value)| Item {
            place: place.item(index, value.span()),
            report,
            value: value.get_ref(),
        }))
    }

    /// The texts of an array of strings that are not empty, and their places; or of a single string. What is wrong is reported and left out.
    pub(super) fn texts(&self) -> Vec<(&'a str, Place)> {
        let items = match self.value {
            DeValue::String(_) => vec![self.clone()],
            _ => self.items("a string or an array of strings").into_iter().flatten().collect(),
        };
        items.iter().filter_map(|item| Some((item.filled()?, item.place.clone()))).collect()
    }

    /// A text that is not empty.
    pub(super) fn filled(&self) -> Option<&'a str> {
        let text = self.text()?;
        self.parsed(if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text) })
    }

    /// A whole number in `range`.
    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.note(|| bounded("number", &range, |number| grouped(*number)));
        self.note_range(Unit::None, &range);
        let DeValue::Integer(written) = self.value else {
            return self.wrong_type("a whole number");
        };
        let number = u64::from_str_radix(written.as_str(), written.radix()).ok().filter(|it| range.contains(it));
        if number.is_none() {
            let (low, high) = range.into_inner();
            self.report.error(&self.place, format!("{written} is out of range: write a number from {low} to {high}"));
        }
        number
    }

    /// Bytes in `range`: a number, or a text like `64MiB`.
    pub(super) fn size(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.note(|| bounded("size", &range, |bytes| show_size(*bytes)));
        self.note_range(Unit::Bytes, &range);
        let (shown, bytes) = match self.value {
            DeValue::Integer(written) => {
                (written.to_string(), u64::from_str_radix(written.as_str(), written.radix()).ok())
            }
            DeValue::String(text) => (text.to_string(), Some(self.parsed(parse_size(text))?)),
            _ => return self.wrong_type("a size: a number of bytes, or a string like \"64MiB\""),
        };
        let bytes = bytes.filter(|it| range.contains(it));
        if bytes.is_none() {
            let (low, high) = range.into_inner();
            let message =
                format!("{shown} is out of range: write a size from {} to {}", show_size(low), show_size(high));
            self.report.error(&self.place, message);
        }
        bytes
    }

    /// The milliseconds of a text like `7d`.
    pub(super) fn duration_ms(&self) -> Option<u64> {
        self.note(|| "time".to_owned());
        match self.value {
            DeValue::String(text) => self.parsed(parse_duration_ms(text)),
            _ => self.wrong_type("a duration: a string like \"7d\""),
        }
    }

    /// The milliseconds of a text like `7d`, in `range`.
    pub(super) fn duration_ms_in(&self, range: RangeInclusive<u64>) -> Option<u64> {
        self.note(|| bounded("time", &range, |ms| show_duration(*ms)));
        self.note_range(Unit::Ms, &range);
        let time = self.duration_ms()?;
        if !range.contains(&time) {
            let (low, high) = range.into_inner();
            let message = format!(
                "{} is out of range: write a duration from {} to {}",
                show_duration(time),
                show_duration(low),
                show_duration(high)
            );
            self.report.error(&self.place, message);
            return None;
        }
        Some(time)
    }

    /// One of `choices`. What is in `later` is known, and not supported yet.
    pub(super) fn choice<T: Clone>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        self.note(|| choices.iter().map(|(name, _)| format!("`{name:?}`")).collect::<Vec<_>>().join(", "));
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Some(choice.clone());
        }
        let help = suggest(text, choices.iter().map(|(name, _)| *name));
        self.report.error_with_help(&self.place, format!("{text:?} is not known here"), help);
        None
    }

    /// The value, or its error reported here.
    pub(super) fn parsed<T>(&self, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.report.error(&self.place, message)).ok()
    }

    /// Report that it is something else than what is expected.
    pub(super) fn wrong_type<T>(&self, expected: &str) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.report.error(&self.place, format!("expected {expected}, found {found}"));
        None
    }
}

/// A kind of value with its bounds. What can be as large as it likes has none above.
fn bounded(kind: &str, range: &RangeInclusive<u64>, show: impl Fn(&u64) -> String) -> String {
    let low = show(range.start());
    match *range.end() {
        high if high < i64::MAX.unsigned_abs() => format!("{kind}, {low} to {}", show(&high)),
        _ => format!("{kind}, {low} or more"),
    }
}

/// A number with a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

/// What the user may have meant by `word`, or all there is.
pub(super) fn suggest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> String {
    let known: Vec<_> = known.collect();
    // One edit for every three letters: more than that is another word.
    let near = known.iter().map(|it| (strsim::damerau_levenshtein(word, it), *it)).min();
    match near {
        Some((edits, name)) if edits <= word.chars().count().div_ceil(3) => format!("did you mean {name:?}?"),
        Some(_) => format!("known here: {}", known.join(", ")),
        None => "nothing is known here".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_nearest_word_or_all() {
        let suggest = |word| suggest(word, ["lanes", "source", "target"].into_iter());
        assert_eq!(suggest("lane"), "did you mean \"lanes\"?");
        assert_eq!(suggest("suorce"), "did you mean \"source\"?");
        assert_eq!(suggest("x"), "known here: lanes, source, target");
    }
}
