//! `link …`.

use std::io::{self, Write};

use super::args::link::LinkCommand;
use super::args::{LinkArgs, Remote, SteerArgs};
use super::client::{Client, RequestError};
use super::failure::Failure;
use super::plugins::whoami;
use super::table::{bytes, field, known, line, milliseconds, table};
use super::{checkpoints, definitions, events, failover, lanes, orders, plan, print_json, reset, stage};
use crate::api::wire::{GroupRound, Lane, Latency, Link, LinkStatus, LinkTransition, RevisionBuiltins, Stage, Trouble};

/// The longest filter or transform that is shown; `--json` has all of it.
const BUILTIN_CHARS_MAX: usize = 400;

/// The longest name that is shown.
const NAME_CHARS_MAX: usize = 80;

/// How many links are asked for at once: as many as the API gives.
const PAGE: usize = 1000;

pub(super) fn link(command: &LinkCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        LinkCommand::List(remote) => list(remote, out),
        LinkCommand::Show(args) => show(args, out),
        LinkCommand::Create(args) => definitions::create(args, out),
        LinkCommand::Update(args) => definitions::update(args, out),
        LinkCommand::Delete(args) => definitions::delete(args, out),
        LinkCommand::Definition(args) => definitions::definition(args, out),
        LinkCommand::Throttle(args) => definitions::throttle(args, out),
        LinkCommand::Wait(args) => definitions::wait(args, out),
        LinkCommand::Events(args) => events::events(args, out),
        LinkCommand::Checkpoints(args) => checkpoints::checkpoints(args, out),
        LinkCommand::Reset(args) => reset::reset(args, out),
        LinkCommand::Failover(args) => failover::fail_over(args, out),
        LinkCommand::Failback(args) => failover::fail_back(args, out),
        LinkCommand::Failovers(args) => failover::list(args, out),
        LinkCommand::Relane(args) => lanes::relane(args, out),
        LinkCommand::Upgrade(args) => lanes::upgrade(args, out),
        LinkCommand::Plan(args) => plan::plan(args, out),
        LinkCommand::Start(args) => steer(args, LinkTransition::Start, out),
        LinkCommand::Stop(args) => steer(args, LinkTransition::Stop, out),
        LinkCommand::Pause(args) => steer(args, LinkTransition::Pause, out),
        LinkCommand::Resume(args) => steer(args, LinkTransition::Resume, out),
    }
}

fn list(remote: &Remote, out: &mut dyn Write) -> Result<(), Failure> {
    let links = all(&Client::new(&remote.daemon)?)?;
    if remote.json {
        return print_json(out, &links);
    }
    let rows: Vec<_> = links
        .iter()
        .map(|link| {
            [
                link.id.clone(),
                line(&link.name, NAME_CHARS_MAX),
                link.status.to_string(),
                link.health.status.to_string(),
                link.source.clone(),
                link.target.clone(),
                known(link.revision),
                link.counters.records_out.to_string(),
                rate(link),
                known(link.metrics.replication_lag.map(milliseconds)),
            ]
        })
        .collect();
    table(out, ["link", "name", "status", "health", "from", "to", "revision", "out", "rate", "lag"], &rows)?;
    links.iter().try_for_each(|link| trouble(out, &format!("link {}", link.id), link.error.as_ref()))?;
    Ok(())
}

/// All links: an answer has as many as it may.
pub(super) fn all(client: &Client) -> Result<Vec<Link>, RequestError> {
    let mut links: Vec<Link> = Vec::new();
    loop {
        let last = links.last().map_or("", |link| &link.id).to_owned();
        let page: Vec<Link> = client.get(&["replication", "links"], &[("after", last), ("limit", PAGE.to_string())])?;
        let is_last = page.len() < PAGE;
        links.extend(page);
        if is_last {
            return Ok(links);
        }
    }
}

fn show(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let link: Link = client.get(&["replication", "links", &args.link], &[])?;
    if args.remote.json {
        return print_json(out, &link);
    }
    Ok(print(&link, out)?)
}

fn steer(args: &SteerArgs, transition: LinkTransition, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, transition.word()];
    let link: Link = client.post(&path, &[("by", whoami())], "application/json", b"")?;
    if !link.pending.is_empty() {
        return orders::kept(&client, &link, &args.waiting, args.remote.json, out);
    }
    let wants_to_run = matches!(transition, LinkTransition::Start | LinkTransition::Resume);
    let failed = link.error.as_ref().filter(|_| wants_to_run && link.status == LinkStatus::Failed);
    if args.remote.json {
        print_json(out, &link)?;
    } else {
        writeln!(out, "{} is {}", link.id, link.status)?;
        trouble(out, &format!("link {}", link.id), link.error.as_ref().filter(|_| failed.is_none()))?;
    }
    failed.map_or(Ok(()), |error| {
        Err(Failure::new(format!("link {}: {} ({})", link.id, error.message, error.code), error.remedy.clone()))
    })
}

fn rate(link: &Link) -> String {
    format!("{:.0}/s", link.metrics.messages_per_second)
}

fn print(link: &Link, out: &mut dyn Write) -> io::Result<()> {
    let counters = link.counters;
    let runs = matches!(link.status, LinkStatus::Active | LinkStatus::Degraded);
    let word = if runs { " since" } else { ", started" };
    let since = link.started_at.map(|time| format!("{word} {time}")).unwrap_or_default();
    let prefix = if link.topic_prefix.is_empty() { String::new() } else { format!(", as {}…", link.topic_prefix) };
    let up = |reachable: Option<bool>| match reachable {
        Some(true) => "reachable",
        Some(false) => "not reachable",
        None => "not asked yet",
    };
    writeln!(out, "{}: {}", link.id, line(&link.name, NAME_CHARS_MAX))?;
    writeln!(out, "  status    {}{since}", link.status)?;
    writeln!(
        out,
        "  from      {} ({}): {}",
        link.source,
        up(link.health.source_cluster_reachable),
        link.topics.join(", ")
    )?;
    writeln!(out, "  to        {} ({}){prefix}", link.target, up(link.health.target_cluster_reachable))?;
    writeln!(out, "  health    {}", link.health.status)?;
    link.pending.iter().try_for_each(|pending| writeln!(out, "  pending   {}", orders::line(pending)))?;
    writeln!(out, "  revision  {}", known(link.revision))?;
    let RevisionBuiltins { filter, transform } = &link.builtins;
    for (title, value) in [("filter", filter), ("transform", transform)] {
        value.as_ref().map_or(Ok(()), |value| field(out, title, &line(&value.to_string(), BUILTIN_CHARS_MAX)))?;
    }
    lanes::print(link, out)?;
    let lags: Vec<Option<u64>> =
        link.lanes.iter().flat_map(|lane| &lane.partitions).map(|partition| partition.lag).collect();
    // Of no partition the sum would be 0, and nothing is known.
    let records: Option<u64> = if lags.is_empty() { None } else { lags.into_iter().sum() };
    let lag = known(link.metrics.replication_lag.map(milliseconds));
    writeln!(out, "  lag       {lag}, {} records", known(records))?;
    if let Some(Latency { p50_ms, p99_ms, heartbeats }) = link.latency {
        let (p50, p99) = (milliseconds(p50_ms), milliseconds(p99_ms));
        writeln!(out, "  latency   p50 {p50}, p99 {p99}, of the last {heartbeats} heartbeats")?;
    }
    let most = link.throttle.throttle_rate_bytes_per_sec.map(|most| format!(" of {}/s", bytes(most as f64)));
    let most = most.unwrap_or_default();
    writeln!(out, "  rate      {}, {}/s{most}", rate(link), bytes(link.metrics.bytes_per_second))?;
    writeln!(
        out,
        "  records   {} in, {} filtered, {} transformed, {} out, {} put aside",
        counters.records_in,
        counters.records_filtered,
        counters.records_transformed,
        counters.records_out,
        counters.records_put_aside
    )?;
    writeln!(out, "  letters   {} on {}", link.dead_letters, link.target)?;
    if let Some(round) = &link.group_round {
        let GroupRound { time, took_ms, groups, moved, active, failed } = round;
        let took = milliseconds(*took_ms);
        writeln!(out, "  groups    {groups}: {moved} moved, {active} active, {failed} failed at {time}, in {took}")?;
    }
    trouble(out, "  link", link.error.as_ref())?;
    link.notices.iter().try_for_each(|it| plan::notice(out, "  ", it))?;
    print_lanes(&link.lanes, out)?;
    print_partitions(&link.lanes, out)?;
    print_stages(&link.stages, out)
}

fn print_lanes(lanes: &[Lane], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    let rows: Vec<_> = lanes
        .iter()
        .map(|lane| {
            let pause = known(lane.last_swap_pause_us.map(|pause| format!("{pause} µs")));
            let (state, revision) = (lane.state.to_string(), known(lane.revision));
            let daemon = known(lane.daemon.as_ref());
            [lane.lane.to_string(), daemon, state, revision, known(lane.last_commit_at), pause]
        })
        .collect();
    table(out, ["lane", "daemon", "state", "revision", "last commit", "last swap"], &rows)?;
    lanes.iter().try_for_each(|lane| trouble(out, &format!("  lane {}", lane.lane), lane.error.as_ref()))
}

fn print_partitions(lanes: &[Lane], out: &mut dyn Write) -> io::Result<()> {
    let mut partitions: Vec<_> =
        lanes.iter().flat_map(|lane| lane.partitions.iter().map(move |partition| (lane, partition))).collect();
    partitions.sort_by(|(_, a), (_, b)| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
    writeln!(out)?;
    let rows: Vec<_> = partitions
        .iter()
        .map(|(lane, partition)| {
            [
                partition.topic.clone(),
                partition.partition.to_string(),
                lane.lane.to_string(),
                known(partition.target_offset),
                known(partition.source_offset),
                known(partition.lag),
                known(partition.lag_ms.map(milliseconds)),
            ]
        })
        .collect();
    table(out, ["topic", "partition", "lane", "checkpoint", "end", "lag", "lag time"], &rows)?;
    partitions.iter().try_for_each(|(_, partition)| {
        trouble(out, &format!("  {}-{}", partition.topic, partition.partition), partition.error.as_ref())
    })
}

fn print_stages(stages: &[Stage], out: &mut dyn Write) -> io::Result<()> {
    stages.iter().try_for_each(|stage| {
        writeln!(out)?;
        stage::print(stage, out)
    })
}

/// The first digits of a digest: enough to tell plugins apart.
pub(super) fn short(hex: &str) -> String {
    hex.chars().take(12).collect()
}

/// Say what is wrong with `whom`, if something is.
pub(super) fn trouble(out: &mut dyn Write, whom: &str, trouble: Option<&Trouble>) -> io::Result<()> {
    let Some(trouble) = trouble else { return Ok(()) };
    let stage = trouble.stage.as_ref().map(|stage| format!(" in stage {stage}")).unwrap_or_default();
    let place = trouble.place.as_ref();
    let place = place.map(|at| format!(" at {}-{} offset {}", at.topic, at.partition, at.offset)).unwrap_or_default();
    writeln!(out, "{whom}: {} ({}{stage}{place})", trouble.message, trouble.code)?;
    if !trouble.remedy.is_empty() {
        writeln!(out, "  help: {}", trouble.remedy)?;
    }
    Ok(())
}
