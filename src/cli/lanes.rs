//! `link upgrade` and `link relane`.

use std::io::{self, Write};

use clap::Args;

use super::args::{Remote, Waiting};
use super::client::Client;
use super::failure::Failure;
use super::orders::{self, Answered};
use super::plugins::whoami;
use super::print_json;
use super::table::known;
use crate::api::wire::{KnownLayout, Link, RelaneRequest, Relaned, Upgrade};

/// `link upgrade`.
#[derive(Args, Debug)]
pub struct UpgradeArgs {
    /// The link.
    pub link: String,
    /// Only say what it would do.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `link relane`.
#[derive(Args, Debug)]
pub struct RelaneArgs {
    /// The link.
    pub link: String,
    /// How many lanes it is to have.
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub lanes: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

pub(super) fn upgrade(args: &UpgradeArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "upgrade"];
    let query = [("by", whoami()), ("dry_run", args.dry_run.to_string())];
    let done: Upgrade = client.post(&path, &query, "application/json", b"")?;
    if args.remote.json {
        return print_json(out, &done);
    }
    let Upgrade { link, from, to, dry_run, daemons } = &done;
    match (from == to, dry_run) {
        (true, _) => writeln!(out, "{link} has layout {to}, and there is no newer one")?,
        (false, true) => writeln!(out, "{link} has layout {from}, and would have layout {to}: {}", layouts(daemons))?,
        (false, false) => writeln!(out, "{link} has layout {to} now, and had {from}")?,
    }
    Ok(())
}

pub(super) fn relane(args: &RelaneArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "relane"];
    let done = match client.post_json(&path, &[("by", whoami())], &RelaneRequest { lanes: args.lanes })? {
        Answered::<Relaned>::Done(done) => done,
        Answered::Kept(link) => return orders::kept(&client, &link, &args.waiting, args.remote.json, out),
    };
    if args.remote.json {
        return print_json(out, &done);
    }
    let Relaned { link, from, to, done } = &done;
    match (from == to, done) {
        (true, true) => writeln!(out, "{link} has {to} lanes")?,
        (false, true) => {
            writeln!(out, "{link} has {to} lanes now, and had {from}: write `lanes = {to}` into its files")?
        }
        (_, false) => {
            writeln!(
                out,
                "{link} is about to have {to} lanes instead of {from}: `tidegate link show {link}` says how far it is"
            )?;
        }
    }
    Ok(())
}

/// The lines of `link show` about layout and lanes.
pub(super) fn print(link: &Link, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  layout    {}; {}", known(link.layout), layouts(&link.daemons))?;
    let Some(relane) = &link.relane else { return Ok(()) };
    let (from, to, daemon, since, copied) = (relane.from, relane.to, &relane.daemon, relane.since, relane.copied);
    writeln!(out, "  lanes     {from} become {to}: {daemon} has copied {copied} of {from} since {since}")
}

/// What each daemon knows.
fn layouts(daemons: &[KnownLayout]) -> String {
    let texts = daemons.iter().map(|known| match known.layout {
        Some(layout) => format!("{} knows {layout}", known.daemon),
        None => format!("{} is not known yet", known.daemon),
    });
    let texts: Vec<String> = texts.collect();
    if texts.is_empty() { "no daemon runs it".to_owned() } else { texts.join(", ") }
}
