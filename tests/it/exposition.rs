//! A strict reader of what Prometheus reads: the text format 0.0.4 and OpenMetrics 1.0. Whatever is not exactly as it should be is a panic.

use std::collections::{BTreeMap, BTreeSet};

/// The families of a page by the names that samples have.
pub struct Scrape(pub BTreeMap<String, Family>);

pub struct Family {
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Debug)]
pub struct Sample {
    /// What stands behind the family's name: nothing, `_bucket`, `_sum`, `_count`.
    pub suffix: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Scrape {
    pub fn read(text: &str, open_metrics: bool) -> Self {
        let text = match open_metrics {
            true => text.strip_suffix("# EOF\n").expect("an end"),
            false => text,
        };
        assert!(text.is_empty() || text.ends_with('\n'), "the last line has no end");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let (name, help) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')).expect(line);
            let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect(line);
            let kind = kind.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).expect(line);
            check_name(name);
            let (name, kind) = match (open_metrics, kind) {
                (true, "counter") => (format!("{name}_total"), kind),
                (false, "untyped") => (name.to_owned(), "unknown"),
                _ => (name.to_owned(), kind),
            };
            assert!(["counter", "gauge", "histogram", "unknown"].contains(&kind), "{line}");
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            let mut family = Family { kind: kind.to_owned(), help: help.to_owned(), samples: Vec::new() };
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                family.samples.push(Sample::read(line, &name));
            }
            family.check(&name);
            assert!(families.insert(name.clone(), family).is_none(), "{name} is there twice");
        }
        Self(families)
    }

    /// The value of the only sample with these labels, among others; `None`: there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.0.get(name)?;
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        let found: Vec<&Sample> = family.samples.iter().filter(has).collect();
        assert!(found.len() <= 1, "{name} {labels:?}: {found:?}");
        found.first().map(|sample| sample.value)
    }

    /// How many durations there are in all samples of a histogram with these labels.
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let family = self.0.get(name).unwrap_or_else(|| panic!("no {name}"));
        let has = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        family.samples.iter().filter(has).filter(|sample| sample.suffix == "_count").map(|sample| sample.value).sum()
    }
}

impl Family {
    fn check(&self, name: &str) {
        assert!(!self.samples.is_empty(), "{name} has no samples");
        let mut seen = BTreeSet::new();
        for Sample { suffix, labels, value } in &self.samples {
            assert!(seen.insert((suffix, labels)), "{name}{suffix} {labels:?} is there twice");
            assert!(self.kind != "counter" || (*value >= 0.0 && value.is_finite()), "{name} {value}");
            let parts: &[&str] = if self.kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
            assert!(parts.contains(&suffix.as_str()), "{name}{suffix}");
            assert_eq!(labels.contains_key("le"), suffix == "_bucket", "{name}{suffix} {labels:?}");
        }
        if self.kind == "histogram" {
            self.check_classes(name);
        }
    }

    /// Classes of a histogram grow, and the last has all.
    fn check_classes(&self, name: &str) {
        let mut classes: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
        for sample in self.samples.iter().filter(|sample| sample.suffix == "_bucket") {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").expect("a bound");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a number") };
            classes.entry(labels).or_default().push((bound, sample.value));
        }
        for (labels, classes) in classes {
            assert!(classes.is_sorted_by(|one, other| one.0 < other.0 && one.1 <= other.1), "{name} {classes:?}");
            let (bound, all) = *classes.last().expect("a class");
            let of = |suffix: &str| {
                self.samples
                    .iter()
                    .find(|sample| sample.suffix == suffix && sample.labels == labels)
                    .expect(suffix)
                    .value
            };
            assert_eq!((bound, all), (f64::INFINITY, of("_count")), "{name} {labels:?}");
            assert!(all > 0.0 || of("_sum") == 0.0, "{name} {labels:?}");
        }
    }
}

impl Sample {
    fn read(line: &str, family: &str) -> Self {
        let rest = line.strip_prefix(family).unwrap_or_else(|| panic!("{line:?} is not of {family}"));
        let end = rest.find(['{', ' ']).expect(line);
        let (suffix, rest) = rest.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest, line),
            None => (BTreeMap::new(), rest),
        };
        let value = match rest.strip_prefix(' ').expect(line) {
            "+Inf" => f64::INFINITY,
            value => {
                assert!(value.bytes().all(|it| it.is_ascii_digit() || b".-e".contains(&it)), "{line}");
                value.parse().expect(line)
            }
        };
        Self { suffix: suffix.to_owned(), labels, value }
    }
}

/// Labels from behind `{`, and what is behind `}`.
fn read_labels<'a>(mut rest: &'a str, line: &str) -> (BTreeMap<String, String>, &'a str) {
    let mut labels = BTreeMap::new();
    loop {
        let (name, behind) = rest.split_once("=\"").expect(line);
        check_name(name);
        let mut value = String::new();
        let mut letters = behind.char_indices();
        let end = loop {
            match letters.next().expect(line) {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().expect(line).1 {
                    'n' => '\n',
                    same @ ('\\' | '"') => same,
                    other => panic!("\\{other} in {line}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "{name} is twice in {line}");
        rest = &behind[end + 1..];
        if let Some(behind) = rest.strip_prefix('}') {
            return (labels, behind);
        }
        rest = rest.strip_prefix(',').expect(line);
    }
}

fn check_name(name: &str) {
    let letters = name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_');
    assert!(letters && name.starts_with(|it: char| it.is_ascii_lowercase()), "{name:?}");
}
