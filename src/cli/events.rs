//! `link events`.

use std::io::{self, BufRead as _, BufReader, Write};
use std::thread;
use std::time::Duration;

use clap::Args;

use super::args::Remote;
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::{known, line, table};
use crate::api::wire::{Event, Place};

/// The longest message in the table. A panic's may have thousands of characters; `--json` has all of them.
const MESSAGE_CHARS_MAX: usize = 240;

/// How long to wait before a stream that has ended is asked for again: the daemon may have changed its certificates, or given the connection to somebody else.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// `link events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// The link.
    pub link: String,
    /// Go on with what happens, until the daemon ends. With --json each event is a line.
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

pub(super) fn events(args: &EventsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    if args.follow {
        return follow(&client, args, out);
    }
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

/// Print events as they come. A stream that ends is taken up where it was, as long as there is a daemon.
fn follow(client: &Client, args: &EventsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let stream = client.stream(&["replication", "links", &args.link, "events"], last.as_deref())?;
        for line in BufReader::new(stream).lines() {
            // Whatever ends the stream, the next attempt says whether there is still a daemon.
            let Ok(line) = line else { break };
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Event = serde_json::from_str(data).map_err(io::Error::from)?;
            print(&event, args.remote.json, out)?;
            out.flush()?;
            last = Some(event.id);
        }
        thread::sleep(AGAIN_AFTER);
    }
}

fn print(event: &Event, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        serde_json::to_writer(&mut *out, event).map_err(io::Error::from)?;
        return Ok(writeln!(out)?);
    }
    let [time, kind, count, stage, place, message] = row(event);
    Ok(writeln!(out, "{time}  {kind}  {count}  {stage}  {place}  {message}")?)
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
