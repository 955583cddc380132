//! Lets every plugin of the table do its worst in a real daemon, and compares what its operator sees with what the table says.

use tidegate::api::wire::{Link, Record};

use crate::house::{FILTERS, House, News, TRANSFORMS};
use crate::table::{Row, Seen, rows};
use crate::template::Template;

/// No message about a plugin is longer than this, whatever the plugin says.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What of the memory that plugins took may still be there when they are gone: the allocator keeps some for the next, and what the
/// daemon has stored since is in its caches.
const RESIDENT_BYTES_MARGIN: i64 = 24 << 20;

/// After so many rows the daemon has what it keeps for the next: arenas of its threads, and room for instances.
const WARM_UP_ROWS: usize = 15;

type Found = Result<(), String>;

/// Whether a text does something else to a terminal than show itself.
fn steers(text: &str) -> bool {
    text.contains(|c: char| c.is_control() || c == '\u{202e}')
}

fn wants(holds: bool, what: impl FnOnce() -> String) -> Found {
    if holds { Ok(()) } else { Err(what()) }
}

/// Publish a row to the link whose stage has its world; that link, and what was said.
fn publish(house: &House, component: &[u8]) -> (&'static str, Result<String, String>) {
    match house.publish(FILTERS, component) {
        Err(error) if error.contains("wrong world") => (TRANSFORMS, house.publish(TRANSFORMS, component)),
        answer => (FILTERS, answer),
    }
}

/// An error that an operator can read, with these words.
fn is_refused(answer: Result<String, String>, words: &str) -> Found {
    let Err(error) = answer else { return Err("it was published".to_owned()) };
    let lines = error.trim_end();
    wants(error.starts_with("error: ") && error.contains(words), || format!("refused with {error:?}"))?;
    wants(error.len() < MESSAGE_BYTES_MAX, || format!("an error of {} bytes", error.len()))?;
    wants(!steers(&lines.replace('\n', "")), || format!("an error that steers: {error:?}"))
}

fn header(record: &Record, name: &str) -> String {
    let name = format!("tidegate.dlq.{name}");
    let value =
        record.headers.iter().find(|header| header.name == name.as_bytes()).and_then(|header| header.value.clone());
    String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()
}

/// The records as they were produced, by their keys and the lengths of their values.
fn are_whole(records: &[Record], name: &str) -> bool {
    let expected = [200, 5, 0].into_iter().enumerate().map(|(index, bytes)| (format!("{name}, {index}"), bytes));
    let found = records.iter().map(|record| {
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default()).into_owned();
        (key, record.value.as_ref().map_or(usize::MAX, Vec::len))
    });
    found.eq(expected)
}

/// All three records are dead letters with this reason, each once.
fn are_put_aside(house: &House, link: &str, news: &News, name: &str, code: &str, words: &str) -> Found {
    wants(news.copies.is_empty(), || format!("{} records were copied", news.copies.len()))?;
    wants(are_whole(&news.letters, name), || format!("the dead letters are not the records: {:?}", news.letters))?;
    let end = house.end(link);
    for (letter, offset) in news.letters.iter().zip(end - 3..) {
        let (found, message) = (header(letter, "code"), header(letter, "message"));
        wants(found == code && message.contains(words), || format!("put aside with {found}: {message}"))?;
        wants(message.len() < MESSAGE_BYTES_MAX, || format!("a message of {} bytes", message.len()))?;
        wants(!steers(&message) && !steers(&found), || format!("a message that steers: {message:?}"))?;
        wants(header(letter, "offset") == offset.to_string(), || format!("another offset: {letter:?}"))?;
    }
    Ok(())
}

/// All three records were copied as they are. A transform may drop some.
fn are_copied(news: &News, link: &str, name: &str) -> Found {
    wants(news.letters.is_empty(), || format!("dead letters: {:?}", news.letters))?;
    wants(link == TRANSFORMS || are_whole(&news.copies, name), || format!("copied: {:?}", news.copies))
}

/// The log lines, and the changes of metrics, that a link's stage had too many.
fn dropped(link: &Link) -> (u64, u64) {
    let stage = &link.stages[0];
    (stage.log_lines_dropped, stage.metrics_dropped)
}

/// Try a row on records of its own.
fn try_on_records(house: &mut House, row: &Row, link: &'static str, before: &Link) -> Found {
    house.produce(link, row.name);
    house.settle(link)?;
    let news = house.news(link);
    let after = house.show(link)?;
    let (lines, changes) = (dropped(&after).0 - dropped(before).0, dropped(&after).1 - dropped(before).1);
    let names = after.stages[0].metrics.keys();
    wants(!names.clone().any(|name| steers(name)), || format!("metrics that steer: {names:?}"))?;
    match &row.seen {
        Seen::Poison(code, words) => are_put_aside(house, link, &news, row.name, code, words),
        Seen::Dropped { log_lines, metrics } => {
            are_copied(&news, link, row.name)?;
            wants(lines >= *log_lines && changes >= *metrics, || format!("dropped {lines} lines, {changes} changes"))
        }
        _ => {
            are_copied(&news, link, row.name)?;
            wants((lines, changes) == (0, 0), || format!("dropped {lines} lines, {changes} changes"))
        }
    }
}

/// Publish a plugin that cannot take over what the one before it remembers. The link stops before the first record, and goes on when
/// what ran before is back.
fn try_migration(house: &mut House, row: &Row, words: &str) -> Found {
    house.publish(FILTERS, &Template::stateful().bytes())?;
    house.produce(FILTERS, "before");
    house.settle(FILTERS)?;
    let answer = house.publish(FILTERS, &row.component())?;
    wants(answer.contains("not every lane runs it yet"), || answer.clone())?;
    let why = house.await_failure(FILTERS);
    wants(why.starts_with("state-not-migrated") && why.contains(words), || format!("the link stopped with {why:?}"))?;
    house.news(FILTERS);
    house.produce(FILTERS, row.name);
    house.publish(FILTERS, &Template::stateful().bytes())?;
    house.start(FILTERS)?;
    house.settle(FILTERS)?;
    are_copied(&house.news(FILTERS), FILTERS, row.name)
}

/// What is wrong with what was seen of a row.
fn try_row(house: &mut House, row: &Row) -> Found {
    if let Seen::Unmigratable(words) = row.seen {
        return try_migration(house, row, words);
    }
    let (filters, transforms) = (house.show(FILTERS)?, house.show(TRANSFORMS)?);
    let (link, answer) = publish(house, &row.component());
    let before = if link == FILTERS { filters } else { transforms };
    if let Seen::Refused(words) | Seen::Unconfigurable(words) = row.seen {
        is_refused(answer, words)?;
        return wants(house.show(link)?.revision == before.revision, || "there is a new revision".to_owned());
    }
    answer?;
    try_on_records(house, row, link, &before)
}

/// Put plugins back that behave, so that no row sees what another has left; then all records are copied.
fn recover(house: &mut House) -> Found {
    for (link, template) in [(FILTERS, Template::filter()), (TRANSFORMS, Template::transform())] {
        house.publish(link, &template.bytes())?;
        house.start(link)?;
        house.settle(link)?;
        house.news(link);
        house.produce(link, "well");
        house.settle(link)?;
        let news = house.news(link);
        wants(are_whole(&news.copies, "well"), || format!("after all, {link} copied {:?}", news.copies))?;
    }
    Ok(())
}

#[test]
fn every_plugin_is_seen_as_the_table_says_and_leaves_nothing_behind() {
    let mut house = House::open();
    recover(&mut house).expect("all is well");
    let topics = house.topics();
    let mut before = 0;
    let mut faults = Vec::new();
    for (index, row) in rows().into_iter().enumerate() {
        if index == WARM_UP_ROWS {
            before = house.resident_bytes();
        }
        if let Err(fault) = try_row(&mut house, &row) {
            faults.push(format!("{}: wanted {:?}: {fault}", row.name, row.seen));
            recover(&mut house).unwrap_or_else(|error| panic!("{}: {error}\n{faults:#?}", row.name));
        }
    }
    recover(&mut house).unwrap_or_else(|error| panic!("{error}\n{faults:#?}"));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(house.fault_of_neighbour(), None);
    let letters = [FILTERS, TRANSFORMS].map(|link| format!("{link}.dead-letters"));
    assert!(
        house.topics().iter().all(|topic| topics.contains(topic) || letters.contains(topic)),
        "{:?}",
        house.topics()
    );
    let kept = house.resident_bytes() - before;
    eprintln!("{} rows; {kept} bytes of memory more than before", rows().len());
    assert!(kept < RESIDENT_BYTES_MARGIN, "{kept} bytes of memory are kept");
    house.close();
}
