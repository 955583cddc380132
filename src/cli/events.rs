//! `link events`.

use std::io::Write;

use super::args::LinkArgs;
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::{known, line, table};
use crate::api::wire::{Event, Place};

/// The longest message in the table. A panic's may have thousands of characters; `--json` has all of them.
const MESSAGE_CHARS_MAX: usize = 240;

pub(super) fn events(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let mut events: Vec<Event> = client.get(&["replication", "links", &args.link, "events"], &[])?;
    // One that happens again keeps its place in the daemon's list, and has the time of the last.
    events.sort_by_key(|event| event.time);
    if args.remote.json {
        return print_json(out, &events);
    }
    if events.is_empty() {
        return Ok(writeln!(out, "nothing has happened to {} since the daemon started", args.link)?);
    }
    let rows: Vec<_> = events.iter().map(row).collect();
    Ok(table(out, ["time", "kind", "count", "stage", "place", "message"], &rows)?)
}

fn row(event: &Event) -> [String; 6] {
    [
        event.time.to_string(),
        event.kind.clone(),
        event.count.to_string(),
        known(event.stage.as_ref()),
        known(event.place.as_ref().map(place)),
        line(&message(event), MESSAGE_CHARS_MAX),
    ]
}

fn message(event: &Event) -> String {
    event.code.as_ref().map_or_else(|| event.message.clone(), |code| format!("{code}: {}", event.message))
}

fn place(place: &Place) -> String {
    format!("{}-{}@{}", place.topic, place.partition, place.offset)
}
