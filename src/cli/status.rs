//! `status`.

use std::io::Write;

use super::client::Client;
use super::failure::Failure;
use super::links::trouble;
use super::print_json;
use super::table::{known, milliseconds, table};
use crate::api::wire::{LinkSummary, Status};

pub(super) fn status(client: &Client, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let status: Status = client.get(&["status"], &[])?;
    if json {
        return print_json(out, &status);
    }
    let uptime = milliseconds(status.uptime_seconds.saturating_mul(1_000));
    writeln!(out, "tidegate {}, {}, process {}, up for {uptime}", status.version, status.name, status.pid)?;
    writeln!(out, "data in {}", status.data_dir.display())?;
    writeln!(out)?;
    let clusters: Vec<_> = status
        .clusters
        .iter()
        .map(|cluster| {
            let path = cluster.path.as_ref().map(|path| path.display().to_string());
            let place = known(path.or_else(|| Some(cluster.brokers.as_ref()?.join(","))));
            [cluster.id.clone(), cluster.kind.clone(), cluster.state.clone(), place]
        })
        .collect();
    table(out, ["cluster", "kind", "state", "place"], &clusters)?;
    writeln!(out)?;
    let links: Vec<_> = status.links.iter().map(line).collect();
    table(out, ["link", "status", "from", "to", "revision", "out", "rate", "lag"], &links)?;
    for cluster in &status.clusters {
        trouble(out, &format!("cluster {}", cluster.id), cluster.error.as_ref())?;
    }
    for link in &status.links {
        trouble(out, &format!("link {}", link.id), link.error.as_ref())?;
    }
    Ok(())
}

fn line(link: &LinkSummary) -> [String; 8] {
    [
        link.id.clone(),
        link.status.to_string(),
        link.source.clone(),
        link.target.clone(),
        known(link.revision),
        link.records_out.to_string(),
        format!("{:.0}/s", link.messages_per_second),
        known(link.replication_lag.map(milliseconds)),
    ]
}
