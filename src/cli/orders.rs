//! Orders that the daemon has accepted and keeps, because a cluster does not answer.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::args::Waiting;
use super::client::{Client, RequestError};
use super::failure::Failure;
use super::print_json;
use crate::api::wire::{Link, PendingOrder};

/// How often is looked whether an order was carried out.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The answer to an order.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Answered<T> {
    /// What was done. It has fields that a link has not.
    Done(T),
    /// The link, which keeps the order.
    Kept(Box<Link>),
}

/// Say that an order is kept; and wait until it was carried out, if that is asked for.
pub(super) fn kept(
    client: &Client,
    link: &Link,
    waiting: &Waiting,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if !json {
        print(link, out)?;
    }
    if waiting.wait {
        return wait(client, link, json, out);
    }
    if json {
        return print_json(out, link);
    }
    let id = &link.id;
    Ok(writeln!(out, "`tidegate link show {id}` says whether it was done, and `--wait` waits for that")?)
}

/// What a link keeps.
pub(super) fn print(link: &Link, out: &mut dyn Write) -> io::Result<()> {
    link.pending.iter().try_for_each(|pending| writeln!(out, "{}: {}", link.id, line(pending)))
}

/// What is said of an order that is kept.
pub(super) fn line(pending: &PendingOrder) -> String {
    let by = if pending.by.is_empty() { String::new() } else { format!(" by {}", pending.by) };
    let why = pending.reason.as_ref().map(|reason| format!(": {} ({})", reason.message, reason.code));
    let (order, since) = (&pending.order, pending.since);
    format!("{order}{by} was accepted at {since} and waits{}", why.unwrap_or_default())
}

fn wait(client: &Client, link: &Link, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut said: Vec<String> = link.pending.iter().map(line).collect();
    loop {
        let now: Link = match client.get(&["replication", "links", &link.id], &[]) {
            Ok(now) => now,
            Err(RequestError::Refused(problem)) if problem.code == "link-not-found" => {
                let deleted = serde_json::json!({ "id": link.id, "deleted": true });
                return if json { print_json(out, &deleted) } else { Ok(writeln!(out, "{} is deleted", link.id)?) };
            }
            Err(error) => return Err(error.into()),
        };
        if now.pending.is_empty() {
            return if json { print_json(out, &now) } else { Ok(writeln!(out, "{} is {}", now.id, now.status)?) };
        }
        let news: Vec<String> = now.pending.iter().map(line).collect();
        if !json && news != said {
            print(&now, out)?;
        }
        said = news;
        thread::sleep(LOOK_EVERY);
    }
}
