//! `topic …`.

use std::io::Write;

use super::args::{ClusterArgs, CreateArgs, TopicArgs, TopicCommand};
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::{bytes, milliseconds, table};
use crate::api::wire::{CreateTopic, Retention, Topic, TopicSummary};

pub(super) fn topic(command: &TopicCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        TopicCommand::List(args) => list(args, out),
        TopicCommand::Create(args) => create(args, out),
        TopicCommand::Describe(args) => describe(args, out),
    }
}

fn list(args: &ClusterArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let topics: Vec<TopicSummary> = client.get(&["clusters", &args.cluster, "topics"], &[])?;
    if args.remote.json {
        return print_json(out, &topics);
    }
    let rows: Vec<_> = topics.iter().map(|topic| [topic.name.clone(), topic.partitions.to_string()]).collect();
    Ok(table(out, ["topic", "partitions"], &rows)?)
}

fn create(args: &CreateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let topic = CreateTopic { name: args.topic.clone(), partitions: args.partitions };
    let topic: Topic = client.post_json(&["clusters", &args.cluster, "topics"], &[], &topic)?;
    if args.remote.json {
        return print_json(out, &topic);
    }
    Ok(writeln!(out, "{} has {} partitions", topic.name, topic.partitions.len())?)
}

fn describe(args: &TopicArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let topic: Topic = client.get(&["clusters", &args.cluster, "topics", &args.topic], &[])?;
    if args.remote.json {
        return print_json(out, &topic);
    }
    match &topic.retention {
        Some(retention) => writeln!(out, "{}: records stay {}", topic.name, shown(retention))?,
        None => writeln!(out, "{}", topic.name)?,
    }
    let rows: Vec<_> = topic
        .partitions
        .iter()
        .map(|partition| {
            [
                partition.partition.to_string(),
                partition.log_start.to_string(),
                partition.end.to_string(),
                partition.records.to_string(),
            ]
        })
        .collect();
    Ok(table(out, ["partition", "start", "end", "records"], &rows)?)
}

fn shown(retention: &Retention) -> String {
    let age = retention.age_ms_max.map(|age| format!("for {}", milliseconds(age)));
    let size = retention.bytes_max.map(|size| format!("up to {} a partition", bytes(size as f64)));
    let limits: Vec<String> = age.into_iter().chain(size).collect();
    if limits.is_empty() { "for ever".to_owned() } else { limits.join(", ") }
}
