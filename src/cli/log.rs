//! The daemon's log on standard error: lines for people, or a JSON object a line.
//!
//! Topics, plugins, brokers and requests bring text of others into messages and fields. One event
//! is one line, and nothing in it steers a terminal or its reader: both formats escape here, in the
//! one place that every event passes, and no caller has to.

use std::fmt::{self, Debug, Write as _};
use std::io::{self, IsTerminal as _, Write as _};

use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, registry};

use crate::api::wire::Time;
use crate::config::LogFormat;
use crate::daemon::Error;
use crate::model::text::steers;
use crate::{api, daemon};

/// The filter of the daemon's log, for example `debug` or `tidegate::link=debug,info`.
const LOG_VARIABLE: &str = "TIDEGATE_LOG";

/// Whether this is a span that is made for a collector.
fn is_collected(metadata: &Metadata<'_>) -> bool {
    [daemon::SPANS, api::SPANS].contains(&metadata.target())
}

/// Begin to write the log, and to make spans if there is a tracer for them.
///
/// # Errors
/// The filter is none.
pub(super) fn start(format: LogFormat, tracer: Option<SdkTracer>) -> Result<(), Error> {
    let wanted = std::env::var(LOG_VARIABLE).unwrap_or_else(|_| "info".to_owned());
    let filter = EnvFilter::try_new(&wanted).map_err(|error| {
        let help = "write a level (error, warn, info, debug, trace), or module=level, separated by commas";
        Error::new(format!("{LOG_VARIABLE} is not a filter: {error}"), help)
    })?;
    // Each takes what the other leaves: spans that are made for a collector are no part of the log.
    let filter = filter.and(filter_fn(|metadata| !is_collected(metadata)));
    let spans = tracer.map(|tracer| {
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
        let layer = layer.with_target(false).with_level(false).with_tracked_inactivity(false);
        layer.with_context_activation(false).with_filter(filter_fn(is_collected))
    });
    // The message of a panic may quote text from outside, and readers of JSON want nothing else
    // between the lines.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let registry = registry().with(spans);
    let started = match format {
        LogFormat::Text => {
            let lines = tracing_subscriber::fmt::layer().fmt_fields(Escaping).with_writer(io::stderr);
            let lines = lines.with_ansi(io::stderr().is_terminal());
            registry.with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => registry.with(JsonLines.with_filter(filter)).try_init(),
    };
    started.map_err(|error: TryInitError| Error::new(format!("cannot start the log: {error}"), ""))
}

/// Writes the fields of events and spans as `tracing_subscriber` does, with each value escaped.
struct Escaping;

impl<'writer> FormatFields<'writer> for Escaping {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = EscapingVisitor(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }
}

/// Values of all other types come here too, as their `Debug`.
struct EscapingVisitor<'writer>(DefaultVisitor<'writer>);

impl Visit for EscapingVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.record_debug(field, &Escaped(value));
    }
}

/// Shows a value with an escape in place of each character that steers, line ends and tabs
/// included.
struct Escaped<'a>(&'a dyn Debug);

impl Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(EscapingWriter(f), "{:?}", self.0)
    }
}

struct EscapingWriter<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl fmt::Write for EscapingWriter<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for part in text.split_inclusive(steers) {
            match part.chars().next_back().filter(|last| steers(*last)) {
                None => self.0.write_str(part)?,
                Some(last) => write!(self.0, "{}{}", &part[..part.len() - last.len_utf8()], last.escape_default())?,
            }
        }
        Ok(())
    }
}

/// A JSON document with its escape in place of each character that steers. Only its strings can
/// have any, and they say the same afterwards.
fn escaped_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if !steers(c) {
            shown.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            let _never_fails = write!(shown, "\\u{unit:04x}");
        }
    }
    shown
}

/// Writes each event as a JSON object: `time`, `level`, `target` and `message`, and beside them the fields of the event and of the spans around it. Where
/// several have the same name the innermost counts.
struct JsonLines;

/// The fields of a span or of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let mut line = Map::new();
        for span in context.event_scope(event).into_iter().flat_map(|scope| scope.from_root()) {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.extend(fields.0.clone());
            }
        }
        let message = own.0.remove("message").unwrap_or_else(|| "".into());
        line.extend(own.0);
        let metadata = event.metadata();
        line.insert("time".to_owned(), Time::now().to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().to_lowercase().into());
        line.insert("target".to_owned(), metadata.target().into());
        line.insert("message".to_owned(), message);
        // One write a line: other threads write too.
        let mut bytes = escaped_json(&Value::Object(line).to_string());
        bytes.push('\n');
        let _nobody_to_tell = io::stderr().write_all(bytes.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What a name from outside may hold: another line, an escape sequence, C1 controls, turns of
    /// direction and invisible text.
    const EVIL: &str =
        "t\r\n2026-01-01T00:00:00Z ERROR forged\t\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}\u{feff}\u{e0041}\u{0}x";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("a lock").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What the text log has of these events.
    fn logged(with_ansi: bool, events: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let lines = tracing_subscriber::fmt::layer().fmt_fields(Escaping).with_ansi(with_ansi);
        let lines = registry().with(lines.with_writer(move || writer.clone()));
        tracing::subscriber::with_default(lines, events);
        let bytes = kept.0.lock().expect("a lock").clone();
        String::from_utf8(bytes).expect("text")
    }

    /// Every way in which a text gets into an event.
    fn in_every_way() {
        let error = std::fmt::Error;
        let _span = tracing::error_span!("lane", link = EVIL, shown = %EVIL, debug = ?EVIL).entered();
        tracing::error!("{EVIL}");
        tracing::error!(topic = EVIL, "a topic");
        tracing::error!(topic = %EVIL, "a topic");
        tracing::error!(topic = ?EVIL, names = ?[EVIL], "a topic");
        tracing::error!(message = EVIL);
        tracing::error!(error = &error as &dyn std::error::Error, "an error");
        let late = tracing::error_span!("late", link = tracing::field::Empty);
        late.record("link", EVIL);
        late.in_scope(|| tracing::error!(number = 7, is = true, "numbers"));
    }

    #[test]
    fn each_event_is_one_line_of_text_that_steers_nothing() {
        let log = logged(false, in_every_way);
        assert_eq!(log.lines().count(), 7, "{log}");
        assert!(!log.contains(|c| steers(c) && c != '\n'), "{log:?}");
        assert!(
            log.contains("ERROR lane{link=\"t\\r\\n2026-01-01T00:00:00Z ERROR forged\\t\\u{1b}[2J\\u{9b}31m"),
            "{log}"
        );
        assert!(log.contains("number=7 is=true") && log.contains("shown=t\\r\\n2026"), "{log}");
    }

    #[test]
    fn colours_are_those_of_the_log_alone() {
        let log = logged(true, || tracing::error!(topic = %EVIL, "{EVIL}"));
        assert_eq!(log.lines().count(), 1, "{log}");
        assert!(log.contains("\u{1b}[") && !log.contains("\u{1b}[2J"), "{log:?}");
        assert!(!log.contains(|c| steers(c) && !matches!(c, '\n' | '\u{1b}')), "{log:?}");
    }

    #[test]
    fn a_line_of_json_says_the_same_and_steers_nothing() {
        let document = Value::String(format!("{EVIL}日本\"\\")).to_string();
        let shown = escaped_json(&document);
        assert!(!shown.contains(steers), "{shown:?}");
        assert!(shown.contains("\\u202e") && shown.contains("\\udb40\\udc41") && shown.contains("日本"), "{shown}");
        let read: Value = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(read, Value::String(format!("{EVIL}日本\"\\")));
    }
}
