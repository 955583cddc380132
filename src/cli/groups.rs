//! `groups …`.

use std::io::{self, Write};

use super::args::LinkArgs;
use super::args::groups::{GroupsArgs, GroupsCommand, SyncArgs};
use super::client::Client;
use super::failure::Failure;
use super::links::trouble;
use super::print_json;
use super::table::{known, table};
use crate::api::wire::{ConsumerGroup, GroupFate, GroupPartition, GroupsRequest};

pub(super) fn groups(command: &GroupsCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        GroupsCommand::List(args) => list(args, out),
        GroupsCommand::Translate(args) => translate(args, out),
        GroupsCommand::Sync(args) => sync(args, out),
    }
}

fn list(args: &LinkArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let groups = all(&Client::new(&args.remote.daemon)?, &args.link)?;
    if args.remote.json { print_json(out, &groups) } else { Ok(print(&groups, out)?) }
}

fn translate(args: &GroupsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let groups = match args.groups.is_empty() {
        true => all(&client, &args.link)?,
        false => ask(&client, args, GroupsRequest { dry_run: true, ..GroupsRequest::default() })?,
    };
    if args.remote.json {
        return print_json(out, &groups);
    }
    let rows: Vec<_> =
        groups.iter().flat_map(|group| group.partitions.iter().map(move |partition| row(group, partition))).collect();
    table(out, ["group", "target partition", "offset", "certainty", "at the source", "at the target"], &rows)?;
    Ok(troubles(&groups, out)?)
}

fn sync(args: &SyncArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let SyncArgs { groups: args, rewind } = args;
    let client = Client::new(&args.remote.daemon)?;
    let groups = ask(&client, args, GroupsRequest { rewind: *rewind, ..GroupsRequest::default() })?;
    if args.remote.json {
        print_json(out, &groups)?;
    } else {
        print(&groups, out)?;
    }
    let failed = groups.iter().any(|group| group.fate == GroupFate::Failed);
    if failed { Err(Failure::Said) } else { Ok(()) }
}

fn all(client: &Client, link: &str) -> Result<Vec<ConsumerGroup>, Failure> {
    Ok(client.get(&["replication", "links", link, "groups"], &[])?)
}

fn ask(client: &Client, args: &GroupsArgs, request: GroupsRequest) -> Result<Vec<ConsumerGroup>, Failure> {
    let request = GroupsRequest { groups: args.groups.clone(), ..request };
    Ok(client.post_json(&["replication", "links", &args.link, "groups", "sync"], &[], &request)?)
}

/// A line about each group.
pub(super) fn print(groups: &[ConsumerGroup], out: &mut dyn Write) -> io::Result<()> {
    let row = |group: &ConsumerGroup| {
        let worst = group.partitions.iter().map(|partition| partition.certainty).max();
        [
            group.group.clone(),
            if group.follows { "yes" } else { "no" }.to_owned(),
            group.source_state.clone(),
            known(group.target_state.as_ref()),
            group.partitions.len().to_string(),
            known(worst),
            group.fate.to_string(),
        ]
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    let columns = ["group", "follows", "at the source", "at the target", "partitions", "certainty", "fate"];
    table(out, columns, &rows)?;
    troubles(groups, out)
}

fn troubles(groups: &[ConsumerGroup], out: &mut dyn Write) -> io::Result<()> {
    groups.iter().try_for_each(|group| trouble(out, &format!("group {}", group.group), group.error.as_ref()))
}

fn row(group: &ConsumerGroup, partition: &GroupPartition) -> [String; 6] {
    let from = partition.from.iter().map(|from| format!("{}-{}: {}", from.topic, from.partition, known(from.offset)));
    [
        group.group.clone(),
        format!("{}-{}", partition.topic, partition.partition),
        partition.offset.to_string(),
        partition.certainty.to_string(),
        from.collect::<Vec<_>>().join(", "),
        known(partition.present_offset),
    ]
}
