//! Sends spans to a collector of OpenTelemetry, as OTLP over HTTP in JSON.
//!
//! A thread of the library collects and sends them. What it cannot send soon enough it drops: nothing of the daemon waits for a collector.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use opentelemetry::trace::{Link, SpanKind, TraceId, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SamplingResult, SdkTracer, SdkTracerProvider, ShouldSample};

use super::identity;
use crate::config::OtlpConfig;
use crate::daemon::Error;
use crate::files::outward::{http, why};

/// How long the collector may take to take spans.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long the end of the daemon waits for the last ones to be sent.
const END_PATIENCE: Duration = Duration::from_secs(1);

/// Spans that come once in a while.
const RARE: [&str; 2] = ["publish", "failover"];

/// Sends spans until it is dropped.
pub(super) struct Spans(SdkTracerProvider);

impl Spans {
    pub(super) fn start(config: &OtlpConfig, daemon: Option<&str>) -> Result<Self, Error> {
        let failed = |error: String| Error::new(format!("spans cannot be sent: {error}"), "look at [daemon.otlp]");
        let place = config.endpoint.to_string();
        let client = Client { agent: agent(config)?, place: place.clone(), is_failing: AtomicBool::new(false) };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpJson)
            .with_endpoint(format!("{}/v1/traces", place.trim_end_matches('/')))
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| failed(error.to_string()))?;
        let mut about = vec![KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))];
        about.extend(daemon.map(|name| KeyValue::new("service.instance.id", name.to_owned())));
        let resource = Resource::builder().with_service_name("tidegate").with_attributes(about).build();
        // Whether a transaction is traced goes for all of it.
        let sampler = Sampler::ParentBased(Box::new(Chosen(Sampler::TraceIdRatioBased(1.0 / config.one_in as f64))));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource)
            .build();
        Ok(Self(provider))
    }

    pub(super) fn tracer(&self) -> SdkTracer {
        self.0.tracer("tidegate")
    }
}

/// Traces some of what there is much of, and all that is rare.
#[derive(Clone, Debug)]
struct Chosen(Sampler);

impl ShouldSample for Chosen {
    fn should_sample(
        &self,
        parent_context: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        span_kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = if RARE.contains(&name) { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent_context, trace_id, name, span_kind, attributes, links)
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        let _nobody_to_tell = self.0.shutdown_with_timeout(END_PATIENCE);
    }
}

fn agent(config: &OtlpConfig) -> Result<ureq::Agent, Error> {
    let mut builder = http().timeout_global(Some(PATIENCE));
    if config.endpoint.scheme_str() == Some("https") {
        let tls = identity::of_system().map_err(|_| {
            let message = "the system has no certificate of an authority that it trusts, and [daemon.otlp] is https";
            Error::new(message, "install ca-certificates")
        })?;
        builder = builder.tls_config(tls);
    }
    Ok(builder.build().into())
}

#[derive(Debug)]
struct Client {
    agent: ureq::Agent,
    place: String,
    /// Whether the last spans could not be sent: it is said once.
    is_failing: AtomicBool,
}

impl Client {
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (parts, body) = request.into_parts();
        let (parts, mut body) = self.agent.run(Request::from_parts(parts, &body[..]))?.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }

    fn note(&self, failure: Option<&str>) {
        if self.is_failing.swap(failure.is_some(), Relaxed) == failure.is_some() {
            return;
        }
        let place = &self.place;
        match failure {
            Some(failure) => tracing::warn!(place, "spans are dropped, the collector does not take them: {failure}"),
            None => tracing::info!(place, "the collector takes spans again"),
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    /// It blocks: who calls it is the thread that does nothing else.
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.send(request);
        match &answer {
            Ok(answer) if answer.status().is_success() => self.note(None),
            Ok(answer) => self.note(Some(&format!("it answers {}", answer.status()))),
            Err(error) => self.note(Some(why(error))),
        }
        // The library logs what it gets.
        Ok(answer.map_err(|error| why(&error))?)
    }
}
