//! Sheets of letters. A small letter is a record; the large one is the same record with another value.

use super::*;
use crate::link::verify::findings::Findings;
use crate::link::verify::print::Printer;
use crate::model::{BatchBuilder, TopicPartition};

/// Everything below the end stands for something, and nothing may be there twice.
const STRICT: Terms = Terms { head_lost: false, porous: false, floor_end: i64::MAX, exactly_once: true };

fn line(printer: &Printer, letter: char, offset: i64) -> Line {
    let mut builder = BatchBuilder::new();
    let value = letter.to_string();
    builder.push(offset, i64::from(u32::from(letter.to_ascii_lowercase())), None, Some(value.as_bytes()), []);
    printer.line(builder.finish("t", 0).record(0))
}

/// What is expected of a source partition: `-` in front of it says that its first records are gone, `~` that it was compacted, and `!` behind
/// it that its last ones are not known.
fn stream(feed: usize, text: &str) -> (Stream, &str, bool) {
    let letters = text.trim_matches(['-', '~', '!']);
    (Stream::new(feed, text.starts_with('-'), text.starts_with('~')), letters, text.ends_with('!'))
}

/// Compare, with sources and target coming `chunk` records at a time.
fn outcome(streams: &[&str], target: &str, terms: Terms, chunk: usize) -> Outcome {
    let printer = Printer::default();
    let streams: Vec<_> = streams.iter().enumerate().map(|(feed, text)| stream(feed, text)).collect();
    let mut left: Vec<(Vec<char>, bool, i64)> =
        streams.iter().map(|(_, letters, lost)| (letters.chars().collect(), *lost, 0)).collect();
    let mut sheet = Sheet::new(terms, streams.into_iter().map(|(stream, ..)| stream).collect(), 0);
    let target: Vec<char> = target.chars().collect();
    let mut rounds = 0;
    loop {
        rounds += 1;
        assert!(rounds < 100_000, "an endless walk");
        match sheet.step(false) {
            Step::Done => return sheet.into_outcome(),
            Step::Target => {
                let next = sheet.next_offset();
                let rest = target.iter().skip(next as usize).take(chunk);
                let lines: Vec<_> =
                    (next..).zip(rest).map(|(offset, letter)| line(&printer, *letter, offset)).collect();
                match lines.len() {
                    0 => sheet.end_target(),
                    count => sheet.find(lines, next + count as i64),
                }
            }
            Step::Feeds(feeds) => {
                for feed in feeds {
                    let (letters, tail_lost, offset) = &mut left[feed];
                    for letter in letters.drain(..chunk.min(letters.len())) {
                        sheet.expect(feed, line(&printer, letter, *offset));
                        *offset += 1;
                    }
                    if letters.is_empty() {
                        sheet.end_feed(feed, *tail_lost);
                    }
                }
            }
        }
    }
}

fn described(outcome: Outcome) -> Vec<String> {
    let mut findings = Findings::default();
    let feeds: Vec<_> = (0..9).map(|partition| TopicPartition::new("s", partition)).collect();
    findings.add(&TopicPartition::new("t", 0), outcome.lost, outcome.extra);
    let found = findings.resolve(&feeds, &[]).into_iter().map(|found| found.difference);
    found
        .map(|it| {
            let source = it.source.map(|(partition, offset)| format!(" {partition}@{offset}")).unwrap_or_default();
            let target = it.target.1.map(|offset| format!(" at {offset}")).unwrap_or_default();
            let parts = it.parts.iter().map(|part| format!(" {part}")).collect::<String>();
            format!("{}{parts}{source}{target}", it.kind)
        })
        .collect()
}

/// The differences, which must not depend on how much is read at once.
#[track_caller]
fn differences(streams: &[&str], target: &str, terms: Terms) -> Vec<String> {
    let found = described(outcome(streams, target, terms, 1));
    for chunk in [2, 7, 1000] {
        assert_eq!(described(outcome(streams, target, terms, chunk)), found, "{streams:?} {target} {chunk}");
    }
    found
}

#[test]
fn each_damage_is_one_difference() {
    for (target, difference) in [
        ("abcdefgh", &[][..]),
        ("abdefgh", &["missing s-0@2"]),
        ("bcdefgh", &["missing s-0@0"]),
        ("abcdefg", &["missing s-0@7"]),
        ("abccdefgh", &["doubled at 3"]),
        ("abcdefghh", &["doubled at 8"]),
        ("abcdefgha", &["doubled at 8"]),
        ("abdcefgh", &["out-of-order s-0@2 at 3"]),
        ("bcdefgha", &["out-of-order s-0@0 at 7"]),
        ("abCdefgh", &["different value s-0@2 at 2"]),
        ("Abcdefgh", &["different value s-0@0 at 0"]),
        ("abcdefgH", &["different value s-0@7 at 7"]),
        ("abczdefgh", &["unexpected at 3"]),
        ("zabcdefgh", &["unexpected at 0"]),
        ("abcdefghz", &["unexpected at 8"]),
        ("abCDEfgh", &["different value s-0@2 at 2", "different value s-0@3 at 3", "different value s-0@4 at 4"]),
        (
            "",
            &[
                "missing s-0@0",
                "missing s-0@1",
                "missing s-0@2",
                "missing s-0@3",
                "missing s-0@4",
                "missing s-0@5",
                "missing s-0@6",
                "missing s-0@7",
            ],
        ),
    ] {
        assert_eq!(differences(&["abcdefgh"], target, STRICT), difference, "{target}");
    }
}

#[test]
fn several_damages_are_told_apart() {
    let found = differences(&["abcdefghijklmnop"], "acbdefFhijkkmnopz", STRICT);
    let expected = ["out-of-order s-0@1 at 2", "different value s-0@6 at 6"];
    // The letter that stands for g is f's, so g is missing and something like f is too much.
    assert_eq!(found[..1], expected[..1], "{found:?}");
    assert!(found.contains(&"missing s-0@6".to_owned()) && found.contains(&"missing s-0@11".to_owned()), "{found:?}");
    assert!(found.contains(&"doubled at 11".to_owned()) && found.contains(&"unexpected at 16".to_owned()), "{found:?}");
}

#[test]
fn any_shuffle_that_keeps_the_order_of_each_stream_is_fine() {
    for target in ["abcxyz", "xyzabc", "axbycz", "xaybzc"] {
        assert_eq!(differences(&["abc", "xyz"], target, STRICT), [""; 0], "{target}");
    }
    assert_eq!(differences(&["abc", "xyz"], "axcybz", STRICT), ["out-of-order s-0@1 at 4"]);
    assert_eq!(differences(&["abc", "xyz"], "axBycz", STRICT), ["different value s-0@1 at 2"]);
}

#[test]
fn equal_records_of_several_streams_are_told_apart_by_what_follows() {
    // The first `a` looks like both; only what comes later says which it was.
    assert_eq!(differences(&["ab", "ac"], "acab", STRICT), [""; 0]);
    assert_eq!(differences(&["ab", "ac"], "abac", STRICT), [""; 0]);
    assert_eq!(differences(&["aaaaab", "aaaaac"], "aaaaacaaaaab", STRICT), [""; 0]);
    assert_eq!(differences(&["aab", "aac", "aad"], "aadaacaab", STRICT), [""; 0]);
    assert_eq!(differences(&["ab", "ac"], "acba", STRICT).len(), 1);
    let same = "a".repeat(300);
    assert_eq!(differences(&[&same, &same], &same.repeat(2), STRICT), [""; 0]);
    assert_eq!(outcome(&[&same, &same], &"a".repeat(599), STRICT, 10).lost.len(), 1);
}

#[test]
fn what_the_checkpoints_do_not_stand_for_is_not_looked_at() {
    let until = |floor_end| Terms { floor_end, ..STRICT };
    // The link has gone on: d and e came after the checkpoints were read.
    assert_eq!(differences(&["abc"], "abcde", until(3)), [""; 0]);
    assert_eq!(differences(&["abc"], "abcde", until(4)), ["unexpected at 3"]);
    // The checkpoints may stand for more than there was when the end was looked at first.
    assert_eq!(differences(&["abcd"], "abczd", until(2)), ["unexpected at 3"]);
    assert_eq!(differences(&["ab", "xyz"], "xabcyz", until(3)), [""; 0]);
}

#[test]
fn what_is_gone_from_the_source_is_not_a_difference() {
    let first = "abcdefghijklmnopqrstuvwxyz";
    let kept = format!("-{}", &first[6..]);
    let whole = outcome(&[&kept], first, STRICT, 5);
    assert_eq!((whole.matched, whole.uncovered), (20, Some((6, 0, 5))));
    assert!(whole.lost.is_empty() && whole.extra.is_empty());
    // Damage behind the beginning is found, and damage of the beginning too.
    assert_eq!(differences(&[&kept], &first.replace('q', "Q"), STRICT), ["different value s-0@10 at 16"]);
    assert_eq!(differences(&[&kept], &first.replace('z', ""), STRICT), ["missing s-0@19"]);
    assert_eq!(differences(&[&kept], &first.replace('g', ""), STRICT), ["missing s-0@0"]);
    // A record that looks like the first one is not taken for it.
    let lure = format!("g{first}");
    assert_eq!(outcome(&[&kept], &lure, STRICT, 5).uncovered, Some((7, 0, 6)));
    assert_eq!(differences(&[&kept], &lure, STRICT), [""; 0]);
}

#[test]
fn what_is_gone_from_the_target_is_not_a_difference() {
    let first = "abcdefghijklmnopqrstuvwxyz";
    let terms = Terms { head_lost: true, ..STRICT };
    let rest = outcome(&[first], &first[6..], terms, 5);
    assert_eq!((rest.matched, rest.gone), (20, 6));
    assert!(rest.lost.is_empty() && rest.extra.is_empty());
    assert_eq!(differences(&[first], &first[6..].replace('q', "Q"), terms), ["different value s-0@16 at 10"]);
    assert_eq!(outcome(&[first], "", terms, 5).gone, 26);
}

#[test]
fn compaction_explains_what_it_can_explain() {
    let found = outcome(&["~acd"], "abcd", STRICT, 1);
    assert_eq!((found.matched, found.uncovered, found.lost.len()), (3, Some((1, 1, 1)), 0));
    assert_eq!(differences(&["~acd"], "abd", STRICT), ["missing s-0@1"]);
    let terms = Terms { porous: true, ..STRICT };
    let found = outcome(&["abcd"], "acd", terms, 1);
    assert_eq!((found.matched, found.gone), (3, 1));
    assert_eq!(differences(&["abcd"], "aczd", terms), ["unexpected at 2"]);
}

#[test]
fn what_follows_an_end_that_is_not_known_is_not_a_difference() {
    let found = outcome(&["ab!"], "abcd", STRICT, 1);
    assert_eq!((found.matched, found.uncovered), (2, Some((2, 2, 3))));
}

#[test]
fn without_exactly_once_records_may_be_there_twice() {
    let terms = Terms { exactly_once: false, floor_end: i64::MIN, ..STRICT };
    let found = outcome(&["abcdef"], "abcdbcdef", terms, 1);
    assert_eq!((found.matched, found.allowed), (6, 3));
    assert!(found.lost.is_empty() && found.extra.is_empty());
    assert_eq!(differences(&["abcdef"], "abcdf", terms), ["missing s-0@4"]);
}

#[test]
fn a_long_hole_is_found_and_the_rest_is_compared() {
    // Each record is another one.
    let letters: String = (0..5000).filter_map(|n| char::from_u32(0x4e00 + n)).collect();
    let holed: String = letters.chars().take(100).chain(letters.chars().skip(2100)).collect();
    let found = outcome(&[&letters], &holed, STRICT, 1000);
    assert_eq!((found.matched, found.lost.len(), found.extra.len()), (3000, 2000, 0));
}
