//! The daemon's log on standard error: lines for people, or a JSON object a line.

use std::fmt::Debug;
use std::io::{self, IsTerminal as _, Write as _};

use opentelemetry_sdk::trace::SdkTracer;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{FilterExt as _, filter_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, fmt, registry};

use crate::api::wire::Time;
use crate::config::LogFormat;
use crate::daemon::Error;
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
    let registry = registry().with(spans);
    let started = match format {
        LogFormat::Text => {
            let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
            registry.with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            // Who reads lines of JSON does not want others between them.
            std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
            registry.with(JsonLines.with_filter(filter)).try_init()
        }
    };
    started.map_err(|error: TryInitError| Error::new(format!("cannot start the log: {error}"), ""))
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
        let mut bytes = Value::Object(line).to_string();
        bytes.push('\n');
        let _nobody_to_tell = io::stderr().write_all(bytes.as_bytes());
    }
}
