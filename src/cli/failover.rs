//! `link failover`, `link failback`, `link failovers`.

use std::io::{self, Write};

use super::args::Waiting;
use super::args::failover::{FailbackArgs, FailoverArgs, FailoversArgs};
use super::client::Client;
use super::failure::Failure;
use super::groups;
use super::orders::{self, Answered};
use super::plugins::whoami;
use super::print_json;
use super::table::{known, table};
use crate::api::wire::{FailoverDetails, FailoverEvent, FailoverPartition, FailoverPlan, FailoverTarget};

pub(super) fn fail_over(args: &FailoverArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "failover"];
    let mut query = vec![("by", whoami())];
    query.extend(args.drain.iter().map(|drain| ("drain_timeout", drain.clone())));
    if args.dry_run {
        return plan(&client, &path, query, args.remote.json, out);
    }
    let answered: Answered<FailoverEvent> = client.post(&path, &query, "application/json", &[])?;
    tell(&client, answered, &args.waiting, args.remote.json, out)
}

/// What was done, is under way, or is kept.
fn tell(
    client: &Client,
    answered: Answered<FailoverEvent>,
    waiting: &Waiting,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    match answered {
        Answered::Done(event) if json => print_json(out, &event),
        Answered::Done(event) => Ok(print_event(&event, out)?),
        Answered::Kept(link) => orders::kept(client, &link, waiting, json, out),
    }
}

pub(super) fn fail_back(args: &FailbackArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "failback"];
    if args.dry_run {
        return plan(&client, &path, vec![("by", whoami())], args.remote.json, out);
    }
    let answered: Answered<FailoverEvent> = if args.call_off {
        client.delete(&path)?
    } else {
        client.post(&path, &[("by", whoami())], "application/json", &[])?
    };
    tell(&client, answered, &args.waiting, args.remote.json, out)
}

pub(super) fn list(args: &FailoversArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let Some(event) = &args.event else {
        let events: Vec<FailoverEvent> = client.get(&["replication", "links", &args.link, "failovers"], &[])?;
        return if args.remote.json { print_json(out, &events) } else { Ok(print_events(&events, out)?) };
    };
    let details: FailoverDetails = client.get(&["replication", "links", &args.link, "failovers", event], &[])?;
    if args.remote.json {
        return print_json(out, &details);
    }
    print_event(&details.event, out)?;
    Ok(print_places(&details.partitions, &details.target_partitions, out)?)
}

fn plan(
    client: &Client,
    path: &[&str],
    mut query: Vec<(&str, String)>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    query.push(("dry_run", "true".to_owned()));
    let plan: FailoverPlan = client.post(path, &query, "application/json", &[])?;
    if json { print_json(out, &plan) } else { Ok(print_plan(&plan, out)?) }
}

fn print_plan(plan: &FailoverPlan, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "Nothing has changed. A {} of {} would", plan.direction, plan.link_id)?;
    for (number, step) in (1..).zip(&plan.steps) {
        writeln!(out, "  {number}. {step}")?;
    }
    writeln!(out)?;
    print_places(&plan.partitions, &plan.target_partitions, out)?;
    if let Some(moved) = plan.groups.as_deref().filter(|moved| !moved.is_empty()) {
        writeln!(out)?;
        groups::print(moved, out)?;
    }
    plan.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn print_places(partitions: &[FailoverPartition], targets: &[FailoverTarget], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = partitions
        .iter()
        .map(|at| {
            let left = at.source_end.map(|end| (end - at.next_offset).max(0));
            let place = format!("{}-{}", at.topic, at.partition);
            [place, at.next_offset.to_string(), known(at.source_end), known(left)]
        })
        .collect();
    table(out, ["source", "next offset", "end", "left"], &rows)?;
    let rows: Vec<_> =
        targets.iter().map(|at| [format!("{}-{}", at.topic, at.partition), at.end.to_string()]).collect();
    writeln!(out)?;
    table(out, ["target", "end"], &rows)
}

fn print_event(event: &FailoverEvent, out: &mut dyn Write) -> io::Result<()> {
    let FailoverEvent { direction, link_id, source_cluster_id: source, target_cluster_id: target, .. } = event;
    match (event.success, event.phase) {
        (None, phase) => {
            let phase = phase.map_or("under way", |phase| phase.word());
            writeln!(out, "{direction} of {link_id} is under way: {phase}, after {}", event.duration)?;
        }
        (Some(false), _) => {
            writeln!(out, "{direction} of {link_id} was called off: {target} keeps the place of {source}")?
        }
        (Some(true), _) => writeln!(out, "{} done in {}: {direction} of {link_id}", event.id, event.duration)?,
    }
    match event.records_left {
        Some(0) => {}
        Some(left) => writeln!(out, "records left: at most {left}")?,
        None => writeln!(out, "records left: not known")?,
    }
    if let Some(beside) = event.records_at_source.filter(|beside| *beside > 0) {
        writeln!(out, "{source} had at most {beside} records beside: they are replicated now")?;
    }
    if !event.groups_moved.is_empty() {
        writeln!(out, "groups moved: {}", event.groups_moved.join(", "))?;
    }
    event.warnings.iter().try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

fn print_events(events: &[FailoverEvent], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = events
        .iter()
        .map(|event| {
            let state = match (event.success, event.phase) {
                (None, Some(phase)) => phase.word(),
                (None, None) => "under way",
                (Some(_), _) => "done",
            };
            let because = event.because.clone().unwrap_or_default();
            [
                event.timestamp.to_string(),
                event.id.clone(),
                state.to_owned(),
                event.duration.clone(),
                event.by.clone(),
                event.reason.to_string(),
                known(event.records_left),
                because,
            ]
        })
        .collect();
    table(out, ["time", "id", "state", "took", "by", "reason", "left", "because"], &rows)
}
