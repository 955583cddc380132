//! `link checkpoints`.

use std::io::Write;

use super::args::LinkArgs;
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::{known, table};
use crate::api::wire::Checkpoint;

pub(super) fn checkpoints(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let checkpoints: Vec<Checkpoint> = client.get(&["replication", "links", &args.link, "checkpoints"], &[])?;
    if args.remote.json {
        return print_json(out, &checkpoints);
    }
    if checkpoints.is_empty() {
        return Ok(writeln!(out, "{} has committed nothing yet", args.link)?);
    }
    let rows: Vec<_> = checkpoints.iter().map(row).collect();
    let head = ["topic", "partition", "next offset", "target end", "revision", "lane", "lane committed", "daemon"];
    Ok(table(out, head, &rows)?)
}

fn row(at: &Checkpoint) -> [String; 8] {
    [
        at.topic.clone(),
        at.partition.to_string(),
        at.next_offset.to_string(),
        at.target_end_offset.to_string(),
        at.revision.to_string(),
        at.lane.to_string(),
        known(at.lane_committed_at),
        known(at.daemon.as_ref()),
    ]
}
