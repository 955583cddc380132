//! `link reset`.

use std::io::{self, Write};

use super::args::ResetArgs;
use super::client::Client;
use super::failure::Failure;
use super::orders::{self, Answered};
use super::plugins::whoami;
use super::print_json;
use super::table::{known, table};
use crate::api::wire::{Reset, ResetRequest};

pub(super) fn reset(args: &ResetArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "resets"];
    let (Some(topic), Some(to)) = (&args.topic, args.to) else {
        let resets: Vec<Reset> = client.get(&path, &[])?;
        return if args.remote.json { print_json(out, &resets) } else { Ok(print_all(&resets, out)?) };
    };
    let request = ResetRequest { topic: topic.clone(), partition: args.partition, to, forget_state: args.forget_state };
    let done = match client.post_json(&path, &[("by", whoami())], &request)? {
        Answered::<Reset>::Done(done) => done,
        Answered::Kept(link) => return orders::kept(&client, &link, &args.waiting, args.remote.json, out),
    };
    if args.remote.json { print_json(out, &done) } else { Ok(print_all(&[done], out)?) }
}

fn print_all(resets: &[Reset], out: &mut dyn Write) -> io::Result<()> {
    let rows: Vec<_> = resets
        .iter()
        .flat_map(|reset| reset.partitions.iter().map(move |moved| (reset, moved)))
        .map(|(reset, moved)| {
            let place = format!("{}-{}", moved.topic, moved.partition);
            let state = if reset.state_forgotten { "forgotten" } else { "kept" };
            [reset.time.to_string(), reset.by.clone(), place, known(moved.from), moved.to.to_string(), state.to_owned()]
        })
        .collect();
    table(out, ["time", "by", "partition", "from", "to", "state"], &rows)?;
    let because = resets.iter().filter_map(|reset| Some((reset.time, reset.because.as_ref()?)));
    because.into_iter().try_for_each(|(time, because)| writeln!(out, "{time}: {because}"))
}
