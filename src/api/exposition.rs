//! Numbers as Prometheus reads them: its text format 0.0.4, and OpenMetrics 1.0.
//!
//! Written by hand: libraries for this count themselves, and ours are counted where the work is done; and each of them knows one of the
//! formats only. Both differ in the heads of families and nowhere else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What the numbers of a family are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until the daemon ends. Its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Durations in seconds, by class.
    Histogram,
    /// Nobody knows: plugins say what their numbers are to people, and not to us.
    Unknown,
}

impl Kind {
    /// The word that documents have for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Unknown => "unknown",
        }
    }
}

/// A family of numbers.
#[derive(Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What its numbers are.
    pub kind: Kind,
    /// The labels that each of its numbers has.
    pub labels: &'static [&'static str],
    /// What it is about, in one sentence.
    pub help: &'static str,
}

/// A way to write a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4.
    Text,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// What a client would like best, by its header `Accept`. Who does not say gets text.
    pub fn accepted(accept: &str) -> Self {
        let quality = |wanted: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                let is_it = parts.next()?.eq_ignore_ascii_case(wanted);
                let quality =
                    parts.find_map(|part| part.strip_prefix("q=")).map_or(Some(1.0), |text| text.parse().ok());
                quality.filter(|_| is_it)
            });
            ranges.fold(0.0_f64, f64::max)
        };
        if quality("application/openmetrics-text") > quality("text/plain") { Self::OpenMetrics } else { Self::Text }
    }

    /// What a page that is written so says of itself.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Numbers, in families.
#[derive(Debug, Default)]
pub struct Page {
    /// The lines of each family, by its name: what belongs together has to stand together, in whatever order it comes.
    families: BTreeMap<&'static str, (&'static Metric, String)>,
}

impl Page {
    /// Add a number. `labels` are the values of the metric's labels, in their order.
    pub fn put(&mut self, metric: &'static Metric, labels: &[&str], value: f64) {
        let lines = self.lines(metric);
        write_line(lines, metric, "", labels, None, value);
    }

    /// Add durations: how many there are of each class and of no class before it, the last of which has no bound, and their sum in seconds.
    pub fn put_durations(
        &mut self,
        metric: &'static Metric,
        labels: &[&str],
        bounds: &[f64],
        classes: &[u64],
        sum: f64,
    ) {
        let lines = self.lines(metric);
        let mut count = 0;
        for (index, class) in classes.iter().enumerate() {
            count += class;
            let bound = bounds.get(index).copied().unwrap_or(f64::INFINITY);
            write_line(lines, metric, "_bucket", labels, Some(bound), count as f64);
        }
        write_line(lines, metric, "_sum", labels, None, sum);
        write_line(lines, metric, "_count", labels, None, count as f64);
    }

    fn lines(&mut self, metric: &'static Metric) -> &mut String {
        &mut self.families.entry(metric.name).or_insert_with(|| (metric, String::new())).1
    }

    /// The whole page.
    pub fn render(&self, format: Format) -> String {
        let mut page = String::new();
        for (metric, lines) in self.families.values() {
            let (name, kind) = match (format, metric.kind) {
                (Format::OpenMetrics, Kind::Counter) => (metric.name.trim_end_matches("_total"), "counter"),
                (Format::Text, Kind::Unknown) => (metric.name, "untyped"),
                (_, kind) => (metric.name, kind.word()),
            };
            let _infallible = writeln!(page, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
            page.push_str(lines);
        }
        if format == Format::OpenMetrics {
            page.push_str("# EOF\n");
        }
        page
    }
}

fn write_line(lines: &mut String, metric: &Metric, suffix: &str, labels: &[&str], bound: Option<f64>, value: f64) {
    debug_assert_eq!(metric.labels.len(), labels.len(), "{}", metric.name);
    lines.push_str(metric.name);
    lines.push_str(suffix);
    let mut opening = '{';
    for (name, value) in metric.labels.iter().zip(labels) {
        lines.push(opening);
        opening = ',';
        lines.push_str(name);
        lines.push_str("=\"");
        escape(lines, value);
        lines.push('"');
    }
    if let Some(bound) = bound {
        // With a fraction, as OpenMetrics wants them.
        let _infallible = match bound.is_finite() {
            true => write!(lines, "{opening}le=\"{bound:?}\""),
            false => write!(lines, "{opening}le=\"+Inf\""),
        };
        opening = ',';
    }
    if opening == ',' {
        lines.push('}');
    }
    let _infallible = match value {
        f64::INFINITY => writeln!(lines, " +Inf"),
        f64::NEG_INFINITY => writeln!(lines, " -Inf"),
        value => writeln!(lines, " {value}"),
    };
}

fn escape(lines: &mut String, value: &str) {
    for letter in value.chars() {
        match letter {
            '\\' => lines.push_str("\\\\"),
            '"' => lines.push_str("\\\""),
            '\n' => lines.push_str("\\n"),
            letter => lines.push(letter),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const RECORDS: Metric =
        Metric { name: "t_records_total", kind: Kind::Counter, labels: &["link", "name"], help: "Records." };
    const TIMES: Metric = Metric { name: "t_seconds", kind: Kind::Histogram, labels: &["link"], help: "Times." };
    const UP: Metric = Metric { name: "t_up", kind: Kind::Gauge, labels: &[], help: "Whether it is up." };
    const OTHER: Metric = Metric { name: "t_other", kind: Kind::Unknown, labels: &[], help: "Something." };

    /// Something of each kind.
    pub(in crate::api) fn page() -> Page {
        let mut page = Page::default();
        page.put(&RECORDS, &["a", "x"], 3.0);
        page.put(&UP, &[], 1.0);
        page.put(&RECORDS, &["b", "q\"\\\n"], 0.5);
        page.put_durations(&TIMES, &["a"], &[0.001, 1.0], &[2, 1, 4], 30.25);
        page.put(&OTHER, &[], -1.0);
        page
    }

    #[test]
    fn families_stand_together_in_the_text_format() {
        let expected = "\
# HELP t_other Something.
# TYPE t_other untyped
t_other -1
# HELP t_records_total Records.
# TYPE t_records_total counter
t_records_total{link=\"a\",name=\"x\"} 3
t_records_total{link=\"b\",name=\"q\\\"\\\\\\n\"} 0.5
# HELP t_seconds Times.
# TYPE t_seconds histogram
t_seconds_bucket{link=\"a\",le=\"0.001\"} 2
t_seconds_bucket{link=\"a\",le=\"1.0\"} 3
t_seconds_bucket{link=\"a\",le=\"+Inf\"} 7
t_seconds_sum{link=\"a\"} 30.25
t_seconds_count{link=\"a\"} 7
# HELP t_up Whether it is up.
# TYPE t_up gauge
t_up 1
";
        assert_eq!(page().render(Format::Text), expected);
    }

    #[test]
    fn open_metrics_has_an_end_and_counters_without_their_suffix() {
        let page = page().render(Format::OpenMetrics);
        assert!(page.ends_with("t_up 1\n# EOF\n"), "{page}");
        assert!(page.contains("# TYPE t_records counter\nt_records_total{"), "{page}");
        assert!(page.contains("# TYPE t_other unknown\n"), "{page}");
    }

    #[test]
    fn a_client_gets_what_it_would_like_best() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                          application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("text/plain; version=0.0.4, application/openmetrics-text; q=0.9", Format::Text),
            ("application/openmetrics-text; q=0", Format::Text),
            ("application/openmetrics-text; q=nonsense", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
