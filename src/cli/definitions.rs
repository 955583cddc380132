//! Links that are defined through the API, and what they need.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use clap::builder::PossibleValue;

use super::args::definitions::{Awaited, CreateArgs, DeleteArgs, Rate, StoreArgs, ThrottleArgs, UpdateArgs, WaitArgs};
use super::args::{LinkArgs, Remote};
use super::client::Client;
use super::failure::Failure;
use super::links::trouble;
use super::orders::{self, Answered};
use super::plugins::whoami;
use super::print_json;
use super::table::bytes;
use crate::api::wire::{
    Inspection, Link, LinkDefinition, LinkStatus, LinkTransition, Plan, PlannedAction, Reloaded, Throttle,
    ThrottleRequest, Time,
};
use crate::model::Json;

/// How often a link is looked at that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How often it is asked which topics are still to be made: that is more work.
const PLAN_EVERY: Duration = Duration::from_secs(1);

/// The exit status of a wait that was in vain.
const IN_VAIN: u8 = 3;

pub(super) fn create(args: &CreateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let body = read_object(&args.file)?;
    let made: Link = client.post(&["replication", "links"], &[("by", whoami())], "application/json", &body)?;
    let link = if args.start {
        client.post(&["replication", "links", &made.id, LinkTransition::Start.word()], &[], "application/json", b"")?
    } else {
        made
    };
    tell(&link, args.remote.json, out)
}

pub(super) fn update(args: &UpdateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link];
    let link: Link = client.put(&path, &[("by", whoami())], args.if_version, &read_object(&args.file)?)?;
    tell(&link, args.remote.json, out)
}

pub(super) fn delete(args: &DeleteArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let kept = client.delete_version(&["replication", "links", &args.link], &[("by", whoami())], args.if_version)?;
    if let Some(link) = kept {
        return orders::kept(&client, &link, &args.waiting, args.remote.json, out);
    }
    if args.remote.json {
        return print_json(out, &serde_json::json!({ "id": args.link, "deleted": true }));
    }
    Ok(writeln!(out, "{} is deleted; what its target knows of it stays there", args.link)?)
}

pub(super) fn definition(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let found: LinkDefinition = client.get(&["replication", "links", &args.link, "definition"], &[])?;
    // Without --json it is what `link create` and `link update` take.
    if args.remote.json { print_json(out, &found) } else { print_json(out, &found.definition) }
}

/// Look at a link until it is as wished. A link that has failed will not become so by itself.
pub(super) fn wait(args: &WaitArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let until = Instant::now() + args.timeout;
    let mut level = Level::default();
    loop {
        let link: Link = client.get(&["replication", "links", &args.link], &[])?;
        let is_there = match args.status {
            Awaited::Active => link.status == LinkStatus::Active,
            Awaited::Paused => link.status == LinkStatus::Paused,
            Awaited::Stopped => link.status == LinkStatus::Stopped,
            Awaited::CaughtUp => level.is_reached(&client, &link),
        };
        // An order that is kept is still to come.
        if is_there && link.pending.is_empty() {
            return tell(&link, args.remote.json, out);
        }
        let hopeless = link.status == LinkStatus::Failed && args.status != Awaited::Stopped;
        if hopeless || Instant::now() > until {
            tell(&link, args.remote.json, out)?;
            if !hopeless && !args.remote.json {
                let wanted = args.status.to_possible_value();
                let wanted = wanted.as_ref().map_or("so", PossibleValue::get_name);
                writeln!(out, "it was not {wanted} within {:?}", args.timeout)?;
            }
            return Err(Failure::Status(IN_VAIN));
        }
        thread::sleep(LOOK_EVERY);
    }
}

pub(super) fn throttle(args: &ThrottleArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let (path, query) = (["replication", "links", &args.link, "throttle"], [("by", whoami())]);
    let set = |rate| ThrottleRequest { throttle_rate_bytes_per_sec: rate };
    let answered: Answered<Throttle> = match args.rate {
        Rate::Configured => client.delete(&path)?,
        Rate::None => client.post_json(&path, &query, &set(None))?,
        Rate::Bytes(rate) => client.post_json(&path, &query, &set(Some(rate)))?,
    };
    let now = match answered {
        Answered::Done(now) => now,
        Answered::Kept(link) => return orders::kept(&client, &link, &args.waiting, args.remote.json, out),
    };
    if args.remote.json {
        return print_json(out, &now);
    }
    match now.throttle_rate_bytes_per_sec {
        Some(rate) => writeln!(out, "{} writes {}/s at most", args.link, bytes(rate as f64))?,
        None => writeln!(out, "{} writes as fast as it can", args.link)?,
    }
    Ok(())
}

/// Whether a link has copied all that its source had when that was asked first.
#[derive(Default)]
struct Level {
    /// Whether the link reads all topics that it should.
    has_all_topics: bool,
    /// When lags were measured, since then.
    measured: BTreeSet<Time>,
}

impl Level {
    fn is_reached(&mut self, client: &Client, link: &Link) -> bool {
        if link.status != LinkStatus::Active {
            return false;
        }
        if !self.has_all_topics {
            // A topic that was just made is in no lane yet, so it has no lag either.
            let plan = client.get(&["replication", "links", &link.id, "plan"], &[]);
            let has_all = |plan: Plan| plan.topics.iter().all(|topic| topic.action == PlannedAction::Keep);
            self.has_all_topics = plan.is_ok_and(has_all);
            if !self.has_all_topics {
                thread::sleep(PLAN_EVERY);
            }
            return false;
        }
        self.measured.extend(link.metrics.lag_measured_at);
        let mut partitions = link.lanes.iter().flat_map(|lane| &lane.partitions);
        // What was measured first may be older than the question, and what was measured next may have been begun before it.
        self.measured.len() > 2 && partitions.all(|partition| partition.lag == Some(0))
    }
}

pub(super) fn store(args: &StoreArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let component = std::fs::read(&args.file).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", args.file.display()), "name the file of a built plugin")
    })?;
    let client = Client::new(&args.remote.daemon)?;
    let stored: Inspection = client.post(&["plugins"], &[], "application/wasm", &component)?;
    if args.remote.json {
        return print_json(out, &stored);
    }
    writeln!(out, "{} {} is stored as", stored.name, stored.version)?;
    Ok(writeln!(out, "{}", stored.digest)?)
}

pub(super) fn reload(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let done: Reloaded = Client::new(&remote.daemon)?.post(&["reload"], &[], "application/json", b"")?;
    if remote.json {
        return print_json(out, &done);
    }
    let Reloaded { added, changed, removed, needs_restart, failed } = &done;
    for (what, links) in [("added", added), ("changed", changed), ("removed", removed)] {
        links.iter().try_for_each(|link| writeln!(out, "link {link} {what}"))?;
    }
    needs_restart.iter().try_for_each(|key| writeln!(out, "{key} needs a restart"))?;
    failed.iter().try_for_each(|what| writeln!(out, "not done: {what}"))?;
    if done == Reloaded::default() {
        writeln!(out, "nothing has changed")?;
    }
    Ok(())
}

fn tell(link: &Link, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        return print_json(out, link);
    }
    writeln!(out, "{} is {}", link.id, link.status)?;
    orders::print(link, out)?;
    Ok(trouble(out, &format!("link {}", link.id), link.error.as_ref())?)
}

/// The bytes of a JSON object, which is looked at here so that a slip is told with its line.
fn read_object(file: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let from = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
    let read = match file.to_str() {
        Some("-") => io::stdin().lock().read_to_end(&mut bytes),
        _ => std::fs::File::open(file).and_then(|mut opened| opened.read_to_end(&mut bytes)),
    };
    read.map_err(|error| Failure::new(format!("cannot read {from}: {error}"), "name a file with a JSON object"))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| error.to_string());
    match text.and_then(|text| Json::parse(text).map_err(|error| error.to_string())) {
        Ok(Json::Object(_)) => Ok(bytes),
        Ok(_) => Err(Failure::new(format!("{from}: expected a JSON object"), "see `tidegate link create --help`")),
        Err(error) => Err(Failure::new(format!("{from}: {error}"), "it has to be a JSON object")),
    }
}
