//! A cluster: its brokers, and how they are spoken to.

use super::keys::{Keys, Scope, list};
use super::notes::Notes;
use super::secrets::Secrets;
use super::security::Security;
use super::text::{Entry, Line, list as toml_list, quoted};
use crate::import::properties::Property;
use crate::import::{ImportError, What};

/// A request that takes longer is a slip of the hand: the same limits as in our configuration, in milliseconds.
const REQUEST_TIMEOUTS_MS: std::ops::RangeInclusive<u64> = 100..=600_000;

/// The tables of a cluster.
pub(super) struct Cluster {
    pub(super) lines: Vec<Line>,
    pub(super) security: Security,
}

/// Read what the file says of the cluster `alias`, which is called `id` from now on.
///
/// # Errors
/// Nobody knows where its brokers are.
pub(super) fn read(
    alias: &str,
    id: &str,
    keys: &Keys,
    notes: &Notes,
    secrets: &Secrets,
) -> Result<Cluster, ImportError> {
    let mut lines = vec![Line::Key("kind", quoted("kafka")), Line::Key("brokers", brokers(alias, keys)?)];
    let scope = Scope::Cluster(alias.to_owned());
    if let Some(client_id) = keys.of_cluster_alone(alias, "client.id") {
        lines.push(Line::Key("client_id", quoted(&client_id.value)));
    }
    if let Some(timeout) = keys.of_cluster_alone(alias, "request.timeout.ms") {
        match timeout.value.parse::<u64>().ok().filter(|timeout| REQUEST_TIMEOUTS_MS.contains(timeout)) {
            Some(timeout) => lines.push(Line::Key("request_timeout", quoted(&format!("{timeout}ms")))),
            None => notes.about(&scope, timeout, What::NotCarriedOver, "it is no time from 100 ms to 10 min", ""),
        }
    }
    lines.extend(compression(alias, keys, notes));
    exactly_once(&scope, keys.of_cluster_alone(alias, "exactly.once.source.support"), notes);
    let security = Security::read(alias, id, keys, notes, secrets);
    Ok(Cluster { lines, security })
}

fn brokers(alias: &str, keys: &Keys) -> Result<String, ImportError> {
    let key = format!("{alias}.bootstrap.servers");
    let Some(brokers) = keys.of_cluster(alias, "bootstrap.servers").filter(|property| !property.value.is_empty())
    else {
        return Err(ImportError::new(format!("{key} is missing"), format!("write {key} = host:9092 into the file")));
    };
    if brokers.value.contains("${") {
        let message =
            format!("line {}: {} is {}, which comes from elsewhere", brokers.line, brokers.key, brokers.value);
        return Err(ImportError::new(
            message,
            "write the addresses themselves into the file: only secrets can come from elsewhere",
        ));
    }
    // A scheme before the address is passed over by Kafka, too.
    let address = |broker: &&str| Entry::new(broker.rsplit_once("://").map_or(*broker, |(_, address)| address));
    Ok(toml_list(&list(&brokers.value).iter().map(address).collect::<Vec<_>>()))
}

/// What the records of a target are compressed with: the setting of the producer that writes them.
fn compression(alias: &str, keys: &Keys, notes: &Notes) -> Vec<Line> {
    let Some(codec) = keys.of_cluster_alone(alias, "producer.compression.type") else { return Vec::new() };
    if !["none", "gzip", "snappy", "lz4", "zstd"].contains(&&*codec.value) {
        let scope = Scope::Cluster(alias.to_owned());
        notes.about(&scope, codec, What::NotCarriedOver, "there is no such codec", "set compression of the cluster");
        return Vec::new();
    }
    let mut lines = vec![Line::Key("compression", quoted(&codec.value))];
    if ["gzip", "zstd"].contains(&&*codec.value) {
        let level = keys.of_cluster_alone(alias, &format!("producer.compression.{}.level", codec.value));
        let most = if codec.value == "gzip" { 9 } else { 22 };
        match level.map(|level| (level, level.value.parse::<u32>())) {
            Some((_, Ok(level))) if (1..=most).contains(&level) => {
                lines.push(Line::Key("compression_level", level.to_string()));
            }
            Some((level, _)) => {
                let scope = Scope::Cluster(alias.to_owned());
                let why = format!("levels are 1 to {most}, and the codec's own where none is set");
                notes.about(&scope, level, What::NotCarriedOver, &why, "");
            }
            None => {}
        }
    }
    lines
}

/// A link is exactly once unless it says otherwise.
fn exactly_once(scope: &Scope, support: Option<&Property>, notes: &Notes) {
    if let Some(support) = support.filter(|support| !support.value.eq_ignore_ascii_case("enabled")) {
        let remedy = "nothing, or enable_exactly_once = false under the link's config";
        notes.about(scope, support, What::Differs, "links to this cluster are exactly once", remedy);
    }
}
