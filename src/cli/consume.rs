//! `consume`: print the records of a topic.

use std::io::{self, Write};

use super::args::ConsumeArgs;
use super::client::Client;
use super::failure::Failure;
use crate::api::wire::{PartitionStatus, ReadFrom, Record, Records, Topic};

/// A page: large enough for a good rate, small enough that partitions take turns and little is read in vain.
const PAGE_RECORDS_MAX: u64 = 1_000;

/// How long to wait for a record of the only partition.
const WAIT_MS: u64 = 10_000;

/// The same when other partitions may have some: none waits longer than this times one for its turn.
const WAIT_SHARED_MS: u64 = 250;

pub(super) fn consume(client: &Client, args: &ConsumeArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let mut consumer = Consumer { client, args, cursors: Vec::new(), left: args.max.unwrap_or(u64::MAX) };
    consumer.find_partitions()?;
    consumer.run(out)
}

/// Reads pages from all partitions in turn.
struct Consumer<'a> {
    client: &'a Client,
    args: &'a ConsumeArgs,
    cursors: Vec<Cursor>,
    /// How many records may still be printed.
    left: u64,
}

/// How far a partition has been printed.
#[derive(Debug, PartialEq, Eq)]
struct Cursor {
    partition: u32,
    next: i64,
    /// Where to end; `None` when following.
    end: Option<i64>,
}

impl Cursor {
    fn new(args: &ConsumeArgs, range: &PartitionStatus) -> Result<Self, Failure> {
        let PartitionStatus { partition, log_start, end, .. } = *range;
        let default = if args.follow && !args.from_beginning { ReadFrom::Latest } else { ReadFrom::Earliest };
        let next = match args.offset.unwrap_or(default) {
            ReadFrom::Earliest => log_start,
            ReadFrom::Latest => end,
            ReadFrom::Offset(offset) if (log_start..=end).contains(&offset) => offset,
            ReadFrom::Offset(offset) => {
                let message =
                    format!("offset {offset} is not in partition {partition}, which has {log_start} to {end}");
                return Err(Failure::new(message, "start at one of these, at earliest or at latest"));
            }
        };
        Ok(Self { partition, next, end: (!args.follow).then_some(end) })
    }

    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

impl Consumer<'_> {
    fn run(&mut self, out: &mut dyn Write) -> Result<(), Failure> {
        let mut waiting = 0;
        loop {
            let mut printed = false;
            for index in 0..self.cursors.len() {
                printed |= self.turn(index, 0, out)?;
            }
            self.cursors.retain(|cursor| !cursor.is_done());
            if self.left == 0 || self.cursors.is_empty() {
                return Ok(());
            }
            if !printed && self.args.follow {
                waiting = (waiting + 1) % self.cursors.len();
                let wait_ms = if self.cursors.len() == 1 { WAIT_MS } else { WAIT_SHARED_MS };
                if !self.turn(waiting, wait_ms, out)? {
                    self.find_partitions()?;
                }
            }
        }
    }

    /// Print a page of a partition. Answers whether there was anything.
    fn turn(&mut self, index: usize, wait_ms: u64, out: &mut dyn Write) -> Result<bool, Failure> {
        let Some(cursor) = self.cursors.get_mut(index).filter(|cursor| !cursor.is_done()) else { return Ok(false) };
        if self.left == 0 {
            return Ok(false);
        }
        let query = [
            ("partition", cursor.partition.to_string()),
            ("offset", cursor.next.to_string()),
            ("max_records", self.left.min(PAGE_RECORDS_MAX).to_string()),
            ("wait_ms", wait_ms.to_string()),
        ];
        let path = ["clusters", &self.args.cluster, "topics", &self.args.topic, "records"];
        let page: Records = self.client.get(&path, &query)?;
        let before_end =
            |record: &&Record| cursor.end.is_none_or(|end| record.offset.is_some_and(|offset| offset < end));
        for record in page.records.iter().filter(before_end) {
            print(record, self.args.json, out)?;
            self.left -= 1;
        }
        out.flush()?;
        let moved = page.next_offset > cursor.next;
        // A page without progress before the end means that the end is not there any more.
        cursor.next = if moved || self.args.follow { page.next_offset } else { i64::MAX };
        Ok(moved)
    }

    /// Add the partitions that are not known yet. A topic may get more while it is followed; those are printed from
    /// their beginning, because all of it is new.
    fn find_partitions(&mut self) -> Result<(), Failure> {
        let path = ["clusters", &self.args.cluster, "topics", &self.args.topic];
        let topic: Topic = self.client.get(&path, &[])?;
        let first = self.cursors.is_empty();
        let wanted = |range: &&PartitionStatus| self.args.partition.is_none_or(|wanted| wanted == range.partition);
        let ranges: Vec<&PartitionStatus> = topic.partitions.iter().filter(wanted).collect();
        if ranges.is_empty() {
            let message = format!("{} has {} partitions, numbered from 0", self.args.topic, topic.partitions.len());
            return Err(Failure::new(message, "name one of them, or none for all"));
        }
        for range in ranges {
            if self.cursors.iter().all(|cursor| cursor.partition != range.partition) {
                let cursor = Cursor::new(self.args, range)?;
                self.cursors.push(if first { cursor } else { Cursor { next: range.log_start, ..cursor } });
            }
        }
        Ok(())
    }
}

fn print(record: &Record, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        serde_json::to_writer(&mut *out, record).map_err(io::Error::from)?;
    } else {
        out.write_all(record.value.as_deref().unwrap_or(b"null"))?;
    }
    Ok(out.write_all(b"\n")?)
}
