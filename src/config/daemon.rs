//! `[daemon]`: settings of the process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::files::private;
use crate::model::layout::{LAYOUT_NEWEST, LAYOUT_OLDEST};
use crate::model::{ClusterId, Limits};

use super::api::ApiConfig;
use super::check_id;
use super::definition::DefinitionSettings;
use super::limits::read_limits;
use super::link::cluster;
use super::otlp::OtlpConfig;
use super::reader::{Item, Table};
use super::report::Files;

/// Prometheus takes a thousand series of a link without noticing; it does notice a hundred thousand.
const METRICS_PARTITIONS_MAX: u64 = 1000;

/// How many links may be defined by REST. Each has threads, and all are read again with each change.
const DEFINITIONS_MAX: u64 = 1000;

/// How long the daemon takes to end at most, and what can be said of that. The default is what
/// container runtimes wait before they kill.
const SHUTDOWN_MS: u64 = 10_000;
const SHUTDOWNS_MS: std::ops::RangeInclusive<u64> = 1000..=3_600_000;

/// What a compilation may have of memory, in bytes: an interpreter of 12 MiB takes less than 1 GiB, and without some 100 MiB not even a small plugin is compiled.
const COMPILE_MEMORY: u64 = 1 << 30;
const COMPILE_MEMORIES: std::ops::RangeInclusive<u64> = 256 << 20..=64 << 30;

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    /// All there are, by their words.
    pub const ALL: [(&str, Self); 2] = [("text", Self::Text), ("json", Self::Json)];
}

/// Settings of the process.
#[derive(Clone, Debug)]
pub struct DaemonConfig {
    /// The directory of everything that the daemon writes, clusters with a `path` of their own excepted.
    pub data_dir: PathBuf,
    /// What other daemons that run the same links call it; made up and kept in the data directory if it is not said.
    pub name: Option<String>,
    /// The newest layout of links that it takes part in, and makes: older daemons can read what it writes.
    pub layout_max: u32,
    /// The address of the REST API.
    pub listen: SocketAddr,
    /// Who may use it, and how.
    pub api: ApiConfig,
    /// The cluster that keeps the links that are defined by REST; `None`: a store of the daemon's own.
    pub metadata: Option<ClusterId>,
    /// The directory of the files that links may use that are defined by REST: certificates, keys and secrets. `None`: they may use none.
    pub secrets_dir: Option<PathBuf>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// Where spans go; `None`: none are made.
    pub otlp: Option<OtlpConfig>,
    /// Of how many partitions of a link the metrics have numbers of their own.
    pub metrics_partitions_max: usize,
    /// What the plugins of a stage may use unless the stage says otherwise.
    pub limits: Limits,
    /// What the process may have that compiles a component, in bytes.
    pub compile_memory: u64,
    /// How long the daemon may take to end after SIGTERM. Links that have not ended by then are left
    /// to the fence of their targets.
    pub shutdown_timeout: Duration,
    /// Whether links that are defined by REST may send passwords and tokens in the clear to other machines.
    pub definitions_insecure_plaintext: bool,
    /// How many links may be defined by REST.
    pub definitions_max: usize,
}

impl DaemonConfig {
    /// Paths are relative to `base_dir`, not to the current directory: a daemon that is started from elsewhere must
    /// find its data again.
    pub(super) fn read(mut table: Table<'_>, clusters: &[&str], base_dir: &Path) -> Self {
        let data_dir = table.item("data_dir");
        let name = table.item("name").and_then(|item| {
            let name = item.text()?;
            check_id("daemon", name, &item.place, item.report).then(|| name.to_owned())
        });
        let layouts = LAYOUT_OLDEST.into()..=LAYOUT_NEWEST.into();
        let layout_max = table.integer("layout_max", LAYOUT_NEWEST.into(), layouts) as u32;
        let listen = table.item("listen");
        let errors = table.report.error_count();
        let api = ApiConfig::read(table.table("api"), base_dir);
        // Of what could not be read nobody knows whether it would have been enough.
        let api_is_whole = table.report.error_count() == errors;
        let listen = listen.and_then(|item| address(&item, api_is_whole.then_some(&api)));
        let metadata = table.item("metadata").and_then(|item| cluster(&item, clusters));
        let secrets_dir = table.item("secrets_dir").and_then(|item| directory(&item, base_dir));
        let log_format = table.item("log_format").and_then(|item| item.choice(&LogFormat::ALL)).unwrap_or_default();
        let metrics_partitions_max =
            table.integer("metrics_partitions_max", METRICS_PARTITIONS_MAX, 0..=1_000_000) as usize;
        let otlp = OtlpConfig::read(table.table("otlp"));
        let limits = read_limits(table.table("limits"), &Limits::default());
        let compile_memory = table.size("compile_memory", COMPILE_MEMORY, COMPILE_MEMORIES);
        let shutdown_timeout = Duration::from_millis(table.duration_ms("shutdown_timeout", SHUTDOWN_MS, SHUTDOWNS_MS));
        let definitions_insecure_plaintext = table.flag("definitions_insecure_plaintext", false);
        let definitions_max = table.integer("definitions_max", DEFINITIONS_MAX, 0..=100_000) as usize;
        let place = data_dir.as_ref().map_or(&table.place, |item| &item.place).clone();
        let data_dir = base_dir.join(data_dir.and_then(|item| path(&item)).unwrap_or("tidegate-data"));
        if let (Files::Any, Some(how)) = (table.report.files(), private::openness(&data_dir)) {
            let message = format!("{} is not private: {how}", data_dir.display());
            table.report.warning(&place, message, format!("do `chmod 700 {}`", data_dir.display()));
        }
        table.finish();
        Self {
            data_dir,
            name,
            layout_max,
            listen: listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8081))),
            api,
            metadata,
            secrets_dir,
            log_format,
            otlp,
            metrics_partitions_max,
            limits,
            compile_memory,
            shutdown_timeout,
            definitions_insecure_plaintext,
            definitions_max,
        }
    }

    /// What these settings say about links that are defined by REST.
    #[must_use]
    pub fn for_definitions(&self) -> DefinitionSettings {
        DefinitionSettings {
            limits: self.limits.clone(),
            secrets_dir: self.secrets_dir.clone(),
            insecure_plaintext: self.definitions_insecure_plaintext,
        }
    }
}

fn directory(item: &Item<'_>, base_dir: &Path) -> Option<PathBuf> {
    let dir = base_dir.join(path(item)?);
    let is_there = dir.is_dir() || matches!(item.report.files(), Files::Rehearsed);
    item.parsed(if is_there { Ok(dir) } else { Err(format!("{} is not a directory", dir.display())) })
}

/// A path that is not empty.
pub(super) fn path<'a>(item: &Item<'a>) -> Option<&'a str> {
    let path = item.text()?;
    let path = if path.is_empty() || path.contains('\0') { Err("expected a path".to_owned()) } else { Ok(path) };
    item.parsed(path)
}

fn address(item: &Item<'_>, api: Option<&ApiConfig>) -> Option<SocketAddr> {
    let text = item.text()?;
    let wrong =
        |_| format!("{text:?} is not an address and a port: write them like \"127.0.0.1:8081\" or \"[::1]:8081\"");
    let address: SocketAddr = item.parsed(text.parse().map_err(wrong))?;
    let Some(api) = api else { return Some(address) };
    if let Some((message, help)) = api.refuses(address) {
        item.report.error_if_all_was_read(&item.place, message, help);
        return None;
    }
    if api.tls.is_none() && !address.ip().to_canonical().is_loopback() {
        let help = "see to it that something else encrypts, or set tls_cert_file and tls_key_file in [daemon.api]";
        item.report.warning(&item.place, "tokens reach this address in the clear, as insecure_plaintext says", help);
    }
    Some(address)
}
