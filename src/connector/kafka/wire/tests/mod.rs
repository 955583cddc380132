//! Connections to a real broker, and to servers that do what none does.

mod broker;
mod script;

use std::sync::Arc;

use super::{Connection, Settings};
use crate::config::{ClusterKind, Config};
use crate::connector::Error;

/// What a cluster's configuration makes of these lines of its table. Paths are relative to `dir`.
fn settings(lines: &str, dir: &std::path::Path) -> Settings {
    let text = format!("[clusters.k]\nkind = 'kafka'\nbrokers = ['localhost:1']\n{lines}\n");
    let (config, _) = Config::parse(&text, "test.toml", dir).expect("a configuration");
    match &config.clusters["k"].kind {
        ClusterKind::Kafka(kafka) => Settings::new(kafka).expect("settings"),
        ClusterKind::Embedded(_) => panic!("an embedded cluster"),
    }
}

fn open(address: &str, settings: &Settings) -> Result<Connection, Error> {
    Connection::open(&Arc::from(address), settings).map_err(Error::from)
}
