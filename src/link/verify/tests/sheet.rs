//! Sheets of letters. A small letter is a record; the large one is the same record with another value.

use proptest::prelude::*;

use super::*;
use crate::link::verify::findings::Findings;
use crate::link::verify::print::Printer;
use crate::link::verify::terms::Others;
use crate::model::{BatchBuilder, TopicPartition};

/// Everything below the end stands for something, and nothing may be there twice.
const STRICT: Terms = Terms {
    head_lost: false,
    porous: false,
    floor_end: i64::MAX,
    scope_end: i64::MAX,
    has_unread: false,
    others: Others::Nobody,
    exactly_once: true,
};

fn line(printer: &Printer, letter: char, offset: i64) -> Line {
    let mut builder = BatchBuilder::new();
    let value = letter.to_string();
    builder.push(offset, i64::from(u32::from(letter.to_ascii_lowercase())), None, Some(value.as_bytes()), []);
    Line { is_foreign: letter.is_ascii_digit(), ..printer.line(builder.finish("t", 0).record(0)) }
}

/// What is expected of a source partition: `-` in front of it says that its first records are gone, `~` that it was compacted, and `!` behind
/// it that its last ones are not known, `+` that the source has more.
fn stream(feed: usize, text: &str) -> (Stream, &str, bool) {
    let letters = text.trim_matches(['-', '~', '!', '+']);
    let stream = Stream::new(feed, text.starts_with('-'), text.starts_with('~'));
    (stream.going_on(text.ends_with('+')), letters, text.ends_with('!'))
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
    let until = |floor_end| Terms { floor_end, scope_end: floor_end, ..STRICT };
    // The link has gone on: d and e came after the checkpoints were read.
    assert_eq!(differences(&["abc+"], "abcde", until(3)), [""; 0]);
    assert_eq!(differences(&["abc+"], "abcde", until(4)), ["unexpected at 3"]);
    // The checkpoints may stand for more than there was when the end was looked at first.
    assert_eq!(differences(&["abcd+"], "abczd", until(2)), ["unexpected at 3"]);
    assert_eq!(differences(&["ab+", "xyz+"], "xabcyz", until(3)), [""; 0]);
    // What came after the verification began is none of its business; what was there is.
    assert_eq!(outcome(&["abc+"], "abcde", until(3), 1).later, None);
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
    let found = outcome(&["abcdef+"], "abcdbcdef", terms, 1);
    assert_eq!((found.matched, found.allowed), (6, 3));
    assert!(found.lost.is_empty() && found.extra.is_empty());
    assert_eq!(differences(&["abcdef+"], "abcdf", terms), ["missing s-0@4"]);
}

#[test]
fn what_may_be_later_is_so_only_for_a_source_that_has_more_and_is_counted() {
    let terms = Terms { exactly_once: false, floor_end: i64::MIN, scope_end: 7, ..STRICT };
    // Both source partitions are at their checkpoints, and have nothing behind them.
    let bound = Terms { floor_end: i64::MAX, scope_end: i64::MAX, ..terms };
    for (target, difference) in
        [("xabycQz", "unexpected at 5"), ("xabyczQ", "unexpected at 6"), ("Qxabycz", "unexpected at 0")]
    {
        assert_eq!(differences(&["abc", "xyz"], target, bound), [difference]);
        assert_eq!(differences(&["abc", "xyz"], target, terms), [difference], "nobody goes on");
    }
    // The first has more behind its checkpoint. What it cannot have written is a difference.
    assert_eq!(differences(&["abc+", "xyz"], "xaQbycz", terms), ["unexpected at 2"]);
    assert_eq!(differences(&["abc", "xyz+"], "abcxQyz", terms), ["unexpected at 4"], "the wrong one goes on");
    for target in ["xabycQz", "xabyczQ"] {
        for chunk in [1, 2, 7] {
            let found = outcome(&["abc+", "xyz"], target, terms, chunk);
            let at = target.find('Q').expect("a stranger") as i64;
            assert_eq!((found.extra.len(), found.lost.len(), found.later), (0, 0, Some((1, at, at))), "{target}");
        }
    }
    // One without a checkpoint may have written anything.
    let unread = Terms { has_unread: true, ..terms };
    assert_eq!(outcome(&["abc"], "Qabc", unread, 1).later, Some((1, 0, 0)));
    assert_eq!(outcome(&[], "QQ", unread, 1).later, Some((2, 0, 1)));
    assert_eq!(differences(&[], "QQ", bound), ["unexpected at 0", "unexpected at 1"]);
}

#[test]
fn records_of_others_are_counted_and_never_hide_damage() {
    let of = |others| Terms { others, ..STRICT };
    let strange: String = (0..40_000).filter_map(|n| char::from_u32(0x1_0000 + n)).collect();
    for (others, foreign, own) in [
        // Digits say that others have written them.
        (Others::Named, "ab12c3", "abc"),
        (Others::MaybeNamed, "ab12c3", "abc"),
        (Others::Unnamed, "abXYcZ", "abc"),
    ] {
        let terms = of(others);
        assert_eq!(differences(&[own], foreign, terms), [""; 0], "{others:?}");
        assert_eq!(outcome(&[own], foreign, terms, 1).of_others, Some((3, 2, 5)), "{others:?}");
        for (damaged, difference) in [
            (foreign.replace('b', ""), "missing s-0@1"),
            (foreign.replace('c', ""), "missing s-0@2"),
            (foreign.replacen('a', "aa", 1), "doubled at 1"),
            (format!("{foreign}b"), "doubled at 6"),
        ] {
            assert_eq!(differences(&[own], &damaged, terms), [difference], "{others:?} {damaged}");
        }
    }
    // Others have written far more in between than is held.
    let far = outcome(&["ab"], &format!("a{strange}b"), of(Others::Unnamed), 1000);
    assert_eq!((far.matched, far.lost.len(), far.of_others), (2, 0, Some((40_000, 1, 40_000))));
    // A record of a revision that did not mark looks like one of others, until it is the one that is expected.
    assert_eq!(differences(&["12ab"], "1x2ab", of(Others::MaybeNamed)), ["unexpected at 1"]);
    assert_eq!(differences(&["12ab"], "132ab", of(Others::MaybeNamed)), [""; 0]);
    assert_eq!(differences(&["12ab"], "1ab", of(Others::MaybeNamed)), ["missing s-0@1"]);
    assert_eq!(differences(&["12ab"], "12a2b", of(Others::MaybeNamed)), ["doubled at 3"]);
    // Where everybody leaves a name, what leaves none is nobody else's.
    assert_eq!(differences(&["ab"], "axb", of(Others::Named)), ["unexpected at 1"]);
}

#[test]
fn a_long_hole_is_found_and_the_rest_is_compared() {
    // Each record is another one.
    let letters: String = (0..5000).filter_map(|n| char::from_u32(0x4e00 + n)).collect();
    let holed: String = letters.chars().take(100).chain(letters.chars().skip(2100)).collect();
    let found = outcome(&[&letters], &holed, STRICT, 1000);
    assert_eq!((found.matched, found.lost.len(), found.extra.len()), (3000, 2000, 0));
}

/// What a link has written, with what stands beside it.
#[derive(Clone, Debug)]
struct Written {
    /// What is expected, and whether each source partition has more behind its checkpoint.
    streams: Vec<String>,
    target: Vec<char>,
    terms: Terms,
}

/// A letter of a source partition: each record is another one.
fn letter(stream: usize, index: usize) -> char {
    char::from_u32(0x4e00 + (stream * 100 + index) as u32).expect("a letter")
}

/// A shuffle of source partitions, some of which have more than their checkpoints say, and of what others have written in between.
fn written() -> impl Strategy<Value = Written> {
    let stream = (1..8_usize, prop::option::of(0..4_usize));
    let others =
        prop_oneof![Just(Others::Nobody), Just(Others::Named), Just(Others::MaybeNamed), Just(Others::Unnamed)];
    (prop::collection::vec(stream, 1..4), others, any::<[bool; 2]>(), prop::collection::vec(any::<u8>(), 60)).prop_map(
        |(streams, others, [is_atomic, exactly_once], order)| {
            let goes_on = |more: &Option<usize>| if more.is_some() { "+" } else { "" };
            let expected = streams.iter().enumerate().map(|(stream, (count, more))| {
                (0..*count).map(|index| letter(stream, index)).chain(goes_on(more).chars()).collect()
            });
            let mut order = order.into_iter();
            // What is still to come of each, and what comes behind the checkpoints: of a target that commits both together, when all else is there.
            let mut left: Vec<_> = streams.iter().map(|(count, more)| 0..count + more.unwrap_or(0)).collect();
            let is_later = |stream: usize, index: usize| index >= streams[stream].0;
            let (mut target, mut later) = (Vec::new(), Vec::new());
            while left.iter().any(|left| !left.is_empty()) {
                let pick = usize::from(order.next().unwrap_or(0));
                let stream = pick % left.len();
                if others != Others::Nobody && pick > 180 {
                    let foreign = if others == Others::Unnamed { 0x1_0000 } else { u32::from('0') };
                    target.extend(char::from_u32(foreign + (target.len() as u32) % 10));
                }
                let stream = (stream..left.len()).chain(0..stream).find(|stream| !left[*stream].is_empty());
                let Some((stream, index)) = stream.and_then(|stream| Some((stream, left[stream].next()?))) else {
                    break;
                };
                if is_atomic && is_later(stream, index) { &mut later } else { &mut target }.push(letter(stream, index));
            }
            let began = target.len() as i64;
            target.append(&mut later);
            let goes_on = streams.iter().any(|(_, more)| more.is_some());
            let floor_end = if is_atomic || !goes_on { began } else { i64::MIN };
            let terms =
                Terms { floor_end, scope_end: began, others, exactly_once: is_atomic || exactly_once, ..STRICT };
            Written { streams: expected.collect(), target, terms }
        },
    )
}

/// How much was not compared, and how much differs.
fn judged(written: &Written, chunk: usize) -> (u64, usize) {
    let streams: Vec<&str> = written.streams.iter().map(String::as_str).collect();
    let found = outcome(&streams, &written.target.iter().collect::<String>(), written.terms, chunk);
    let passed = [found.uncovered, found.later, found.of_others].into_iter().flatten().map(|(count, ..)| count);
    (passed.sum::<u64>() + found.allowed, found.lost.len() + found.extra.len())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is whole has no difference, and what is damaged differs, or has more that was not compared.
    #[test]
    fn no_damage_is_fine_and_nothing_else_is_a_difference(
        whole in written(),
        (kind, at) in (0..5_usize, any::<prop::sample::Index>()),
        chunk in 1..9_usize,
    ) {
        let (passed, differences) = judged(&whole, chunk);
        prop_assert_eq!(differences, 0, "{:?}", whole);
        let mut damaged = whole.clone();
        let began = whole.terms.scope_end as usize;
        let expected: Vec<usize> = (0..began)
            .filter(|index| whole.streams.iter().any(|stream| stream.contains(whole.target[*index])))
            .collect();
        let pick = expected[at.index(expected.len())];
        let of = |index: usize| whole.streams.iter().position(|stream| stream.contains(whole.target[index]));
        let mut grown = 0;
        match kind {
            0 => { damaged.target.remove(pick); grown = -1; }
            1 => { damaged.target.insert(pick + 1, whole.target[pick]); grown = 1; }
            2 => { damaged.target.insert(pick, 'x'); grown = 1; }
            3 => { damaged.target.insert(pick + 1, 'x'); grown = 1; }
            4 => {
                let Some(other) = expected.iter().find(|other| **other > pick && of(**other) == of(pick)) else { return Ok(()) };
                damaged.target.swap(pick, *other);
            }
            _ => unreachable!(),
        }
        let terms = &mut damaged.terms;
        terms.scope_end += grown;
        terms.floor_end = terms.floor_end.saturating_add(if terms.floor_end == i64::MIN { 0 } else { grown });
        let (now_passed, differences) = judged(&damaged, chunk);
        prop_assert!(differences > 0 || now_passed > passed, "{:?}", damaged);
    }
}
