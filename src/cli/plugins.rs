//! `plugin …`, except `inspect`.

use std::io::Write;

use super::args::{LinkArgs, PluginCommand, PublishArgs, RollbackArgs};
use super::client::Client;
use super::failure::Failure;
use super::links::short;
use super::print_json;
use super::table::{NOTHING, line, table};
use crate::api::wire::{
    Revision, RevisionBuiltins, RevisionOrigin, RevisionStage, RevisionState, RollbackRequest, Swap,
};

/// The longest line about a revision. It may hold a panic's message; `--json` has all of that.
const STORY_CHARS_MAX: usize = 400;

pub(super) fn plugin(command: &PluginCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        PluginCommand::Inspect(args) => super::local::inspect(args, out),
        PluginCommand::Store(args) => super::definitions::store(args, out),
        PluginCommand::Publish(args) => publish(args, out),
        PluginCommand::Rollback(args) => rollback(args, out),
        PluginCommand::History(args) => history(args, out),
    }
}

fn publish(args: &PublishArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let component = std::fs::read(&args.file).map_err(|error| {
        Failure::new(format!("cannot read {}: {error}", args.file.display()), "name the file of a built plugin")
    })?;
    let mut query = vec![("by", whoami())];
    query.extend(args.config.as_ref().map(|config| ("config", config.to_string())));
    let path = ["replication", "links", &args.link, "stages", &args.stage, "revisions"];
    let client = Client::new(&args.remote.daemon)?;
    let swap: Swap = client.post(&path, &query, "application/wasm", &component)?;
    print_swap(&args.link, &swap, args.remote.json, out)
}

fn rollback(args: &RollbackArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "rollback"];
    let swap: Swap = client.post_json(&path, &[("by", whoami())], &RollbackRequest { to: args.to })?;
    print_swap(&args.link, &swap, args.remote.json, out)
}

/// Who the history will name.
pub(super) fn whoami() -> String {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_else(|| "cli".to_owned())
}

fn print_swap(link: &str, swap: &Swap, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        return print_json(out, swap);
    }
    if swap.state == RevisionState::Pending {
        let watch = format!("`tidegate link show {link}` says what each lane does; one that failed needs `link start`");
        return Ok(writeln!(
            out,
            "revision {} of {link} is durable; not every lane runs it yet: {watch}",
            swap.revision
        )?);
    }
    let pause = swap.swap_pause_us_max.map(|pause| format!("; the longest pause was {pause} µs")).unwrap_or_default();
    Ok(writeln!(out, "revision {} of {link} runs on every lane{pause}", swap.revision)?)
}

fn history(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let revisions: Vec<Revision> = client.get(&["replication", "links", &args.link, "revisions"], &[])?;
    if args.remote.json {
        return print_json(out, &revisions);
    }
    let rows: Vec<_> = revisions
        .iter()
        .map(|revision| {
            [
                revision.number.to_string(),
                revision.state.to_string(),
                revision.origin.to_string(),
                revision.by.clone(),
                revision.time.to_string(),
                joined(builtins(revision).chain(revision.stages.iter().map(stage))),
                joined(revision.first_offsets.iter().map(|at| format!("{}-{}@{}", at.topic, at.partition, at.offset))),
            ]
        })
        .collect();
    table(out, ["revision", "state", "origin", "by", "time", "stages", "first offsets"], &rows)?;
    Ok(revisions.iter().filter_map(story).try_for_each(|line| writeln!(out, "{line}"))?)
}

/// What a table cannot say of a revision: what came back with it, and why.
fn story(revision: &Revision) -> Option<String> {
    let by = match revision.origin {
        RevisionOrigin::Automatic => "the daemon",
        RevisionOrigin::Rollback => &revision.by,
        RevisionOrigin::Toml | RevisionOrigin::Publish => return None,
    };
    let number = revision.number;
    let content =
        revision.restores.map_or_else(|| "an earlier revision".to_owned(), |before| format!("revision {before}"));
    let because = revision.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let state = revision.undoes.map(|trial| format!(", and the state of before revision {trial}")).unwrap_or_default();
    Some(line(&format!("revision {number}: {by} brought {content} back{state}{because}"), STORY_CHARS_MAX))
}

/// What a revision does before its first stage, by name.
fn builtins(revision: &Revision) -> impl Iterator<Item = String> {
    let RevisionBuiltins { filter, transform } = &revision.builtins;
    let found = [("filter", filter.is_some()), ("transform", transform.is_some())].into_iter();
    found.filter(|(_, is_there)| *is_there).map(|(name, _)| name.to_owned())
}

fn stage(stage: &RevisionStage) -> String {
    format!("{}={} {} ({})", stage.stage, stage.plugin, stage.version, short(&stage.digest.hex()))
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<String> = parts.collect();
    if parts.is_empty() { NOTHING.to_owned() } else { parts.join(", ") }
}
