//! `[daemon.otlp]`: spans for a collector of OpenTelemetry.

use ureq::http::Uri;

use super::failover::web_address;
use super::reader::Table;

/// Where spans go, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The collector, without `/v1/traces`; it is `http` or `https`.
    pub endpoint: Uri,
    /// One transaction of so many is traced.
    pub one_in: u64,
}

impl OtlpConfig {
    /// `None`: no spans are made.
    pub(super) fn read(mut table: Table<'_>) -> Option<Self> {
        let endpoint = table.item("endpoint");
        let one_in = table.item("one_in");
        if let (None, Some(one_in)) = (&endpoint, &one_in) {
            let help = "write endpoint = \"http://127.0.0.1:4318\"";
            one_in.report.warning(&one_in.place, "there is nobody who collects spans", help);
        }
        let one_in = one_in.map_or(Some(100), |item| item.integer(1..=1_000_000));
        table.finish();
        let help = "headers for the collector are taken from OTEL_EXPORTER_OTLP_HEADERS";
        Some(Self { endpoint: web_address(&endpoint?, "http://HOST:4318", help)?, one_in: one_in? })
    }
}
