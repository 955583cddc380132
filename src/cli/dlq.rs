//! `dlq …`: the records that a link has put aside.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::args::{DlqCommand, DlqListArgs, DlqShowArgs};
use super::client::{Client, RequestError};
use super::failure::Failure;
use super::print_json;
use super::table::{NOTHING, field, known, line, table};
use crate::api::wire::{Letter, LetterReason, Link, PartitionStatus, Record, Records, Time, Topic};

/// A page: large enough for a good rate, small enough for an answer.
const PAGE_RECORDS_MAX: u64 = 1_000;

/// The longest message in a table: with the other columns a line fits a wide terminal. `show` has all of it.
const MESSAGE_CHARS_MAX: usize = 60;

pub(super) fn dlq(command: &DlqCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        DlqCommand::List(args) => list(args, out),
        DlqCommand::Show(args) => show(args, out),
    }
}

fn list(args: &DlqListArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let mailbox = Mailbox::open(&client, &args.link)?;
    let Newest { letters, left_out } = mailbox.newest(args.max)?;
    if args.remote.json {
        return print_json(out, &letters);
    }
    if letters.is_empty() {
        return Ok(writeln!(out, "{} has no dead letters; they would be in {}", args.link, mailbox.name())?);
    }
    let rows: Vec<_> = letters.iter().map(row).collect();
    table(out, ["letter", "from", "stage", "code", "message", "time"], &rows)?;
    let records: u64 = mailbox.partitions.iter().map(|range| range.records).sum();
    let all = records.saturating_sub(left_out);
    if all > letters.len() as u64 {
        // What is older than these may be of other links too.
        let of = if left_out == 0 { "of" } else { "of at most" };
        writeln!(out, "the newest {} {of} {all}: --max shows more", letters.len())?;
    }
    if left_out > 0 {
        writeln!(out, "{left_out} dead letters of other links in {} are left out", mailbox.name())?;
    }
    Ok(())
}

fn row(letter: &Letter) -> [String; 6] {
    let place = format!("{} {}", letter.partition, letter.offset);
    let time = time(letter);
    let cells = match &letter.reason {
        Some(reason) => {
            [place, source(&letter.record), reason.stage.clone(), reason.code.clone(), reason.message.clone(), time]
        }
        None => {
            let nothing = || NOTHING.to_owned();
            [place, nothing(), nothing(), nothing(), letter.problem.clone().unwrap_or_default(), time]
        }
    };
    cells.map(|cell| line(&cell, MESSAGE_CHARS_MAX))
}

fn time(letter: &Letter) -> String {
    letter.time.map_or_else(|| NOTHING.to_owned(), |time| time.to_string())
}

fn show(args: &DlqShowArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let mailbox = Mailbox::open(&client, &args.link)?;
    let letter = mailbox.letter(args.partition, args.offset)?;
    if args.remote.json {
        return print_json(out, &letter);
    }
    writeln!(out, "letter {} {} in {}", letter.partition, letter.offset, mailbox.name())?;
    field(out, "time", &time(&letter))?;
    match &letter.reason {
        Some(reason) => print_reason(reason, &letter.record, out)?,
        None => field(out, "problem", letter.problem.as_deref().unwrap_or_default())?,
    }
    print_record(&letter.record, out)
}

fn print_reason(reason: &LetterReason, record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    let written = known(record.timestamp.map(Time));
    field(
        out,
        "from",
        &format!("{} on {}, ordinal {}, written {written}", source(record), reason.cluster, reason.ordinal),
    )?;
    field(out, "link", &format!("{}, revision {}", reason.link, reason.revision))?;
    field(out, "stage", &reason.stage)?;
    field(out, "plugin", &reason.plugin)?;
    field(out, "digest", &reason.digest)?;
    field(out, "code", &reason.code)?;
    field(out, "message", &reason.message)?;
    field(out, "tries", &reason.tries.to_string())?;
    Ok(reason.cut.iter().try_for_each(|cut| field(out, "cut", cut))?)
}

fn print_record(record: &Record, out: &mut dyn Write) -> Result<(), Failure> {
    field(out, "key", &content(record.key.as_deref(), NOTHING))?;
    field(out, "value", &content(record.value.as_deref(), "- (a tombstone)"))?;
    for header in &record.headers {
        let (name, value) = (content(Some(&header.name), NOTHING), content(header.value.as_deref(), NOTHING));
        field(out, "header", &format!("{name}: {value}"))?;
    }
    Ok(())
}

/// The newest letters of a link.
#[derive(Default)]
struct Newest {
    letters: Vec<Letter>,
    /// How many of other links were passed by.
    left_out: u64,
}

/// The topic that a link puts records aside in.
struct Mailbox<'a> {
    client: &'a Client,
    link: Link,
    /// Its partitions; empty while the topic is not there.
    partitions: Vec<PartitionStatus>,
}

impl<'a> Mailbox<'a> {
    fn open(client: &'a Client, link: &str) -> Result<Self, Failure> {
        let link: Link = client.get(&["replication", "links", link], &[])?;
        let topic: Result<Topic, _> = client.get(&["clusters", &link.target, "topics", &link.dead_letters], &[]);
        let partitions = match topic {
            Ok(topic) => topic.partitions,
            // As long as nothing was put aside, the topic need not be there.
            Err(RequestError::Refused(problem)) if problem.status == 404 => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { client, link, partitions })
    }

    fn name(&self) -> String {
        format!("{} on {}", self.link.dead_letters, self.link.target)
    }

    /// The newest letters, oldest first.
    fn newest(&self, max: u64) -> Result<Newest, Failure> {
        let keep = usize::try_from(max).unwrap_or(usize::MAX);
        let mut newest = Newest::default();
        for range in &self.partitions {
            self.tail(range, keep, &mut newest)?;
            let letters = &mut newest.letters;
            letters.sort_by_key(|letter| (letter.time, letter.partition, letter.offset));
            letters.drain(..letters.len().saturating_sub(keep));
        }
        Ok(newest)
    }

    /// The last letters of a partition. Other links may have theirs in between, so it is read
    /// backwards until there are enough.
    fn tail(&self, range: &PartitionStatus, max: usize, newest: &mut Newest) -> Result<(), Failure> {
        let (mut found, mut end, mut width) = (0, range.end, max as u64);
        while found < max && end > range.log_start {
            let from = end.saturating_sub_unsigned(width).max(range.log_start);
            for letter in self.between(range.partition, from, end)? {
                if letter.may_be_of(&self.link.id) {
                    found += 1;
                    newest.letters.push(letter);
                } else {
                    newest.left_out += 1;
                }
            }
            end = from;
            width = width.saturating_mul(2).max(PAGE_RECORDS_MAX);
        }
        Ok(())
    }

    /// The letters between two offsets.
    fn between(&self, partition: u32, from: i64, end: i64) -> Result<Vec<Letter>, Failure> {
        let mut letters = Vec::new();
        let mut next = from;
        while next < end {
            let page = self.page(partition, next, PAGE_RECORDS_MAX)?;
            let before_end = |record: &Record| record.offset.is_some_and(|offset| offset < end);
            letters.extend(page.records.into_iter().filter(before_end).map(Letter::new));
            // A page without progress before the end means that the end is not there any more.
            next = if page.next_offset > next { page.next_offset } else { end };
        }
        Ok(letters)
    }

    fn letter(&self, partition: u32, offset: i64) -> Result<Letter, Failure> {
        let range = self.partitions.iter().find(|range| range.partition == partition);
        let is_there = range.is_some_and(|range| (range.log_start..range.end).contains(&offset));
        let page = if is_there { Some(self.page(partition, offset, 1)?) } else { None };
        let record = page.and_then(|page| page.records.into_iter().find(|record| record.offset == Some(offset)));
        let letter = record.map(Letter::new).ok_or_else(|| {
            let help = format!("`tidegate dlq list {}` shows which there are", self.link.id);
            Failure::new(format!("there is no letter {partition} {offset} in {}", self.name()), help)
        })?;
        match &letter.reason {
            // Its record belongs into another topic than those of this link.
            Some(reason) if reason.link != self.link.id => Err(Failure::new(
                format!("letter {partition} {offset} in {} is a dead letter of link {}", self.name(), reason.link),
                format!("`tidegate dlq show {} {partition} {offset}` shows it", reason.link),
            )),
            _ => Ok(letter),
        }
    }

    fn page(&self, partition: u32, offset: i64, records_max: u64) -> Result<Records, Failure> {
        let path = ["clusters", &self.link.target, "topics", &self.link.dead_letters, "records"];
        let query = [
            ("partition", partition.to_string()),
            ("offset", offset.to_string()),
            ("max_records", records_max.to_string()),
        ];
        Ok(self.client.get(&path, &query)?)
    }
}

/// Where a record was read.
fn source(record: &Record) -> String {
    let topic = record.topic.as_deref().unwrap_or(NOTHING);
    format!("{topic}-{}@{}", known(record.partition), known(record.offset))
}

/// Bytes as text, or in base64 where they are none.
fn content(bytes: Option<&[u8]>, null: &str) -> String {
    let Some(bytes) = bytes else { return null.to_owned() };
    str::from_utf8(bytes).map_or_else(|_| format!("{} (base64)", BASE64.encode(bytes)), str::to_owned)
}
