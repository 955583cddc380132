//! `dlq …`.

use serde_json::{Value, json};

use super::{Scene, told};
use crate::api::fake::DEAD_LETTERS;
use crate::api::wire::letter as letters;
use crate::api::wire::{Header, Record};

/// A topic of dead letters with two partitions.
fn with_letters(letters: impl IntoIterator<Item = (usize, Record)>) -> Scene {
    let scene = Scene::new();
    scene.fake.topic_with(DEAD_LETTERS, 2);
    letters.into_iter().for_each(|(partition, record)| scene.fake.put(DEAD_LETTERS, partition, record));
    scene
}

fn letter(time: i64, offset: i64, message: &str) -> Record {
    let headers = letters::tests::headers(offset, message);
    Record { timestamp: Some(time), value: Some(b"v".to_vec()), headers, ..Record::default() }
}

#[test]
fn a_link_without_dead_letters_says_so() {
    let nothing = "orders has no dead letters; they would be in orders.dead-letters on west\n";
    for scene in [Scene::new(), with_letters([])] {
        assert_eq!(scene.run(&["dlq", "list", "orders"]).expect("listed"), nothing);
        assert_eq!(scene.run(&["dlq", "list", "orders", "--json"]).expect("listed"), "[]\n");
        let (message, help) = told(scene.run(&["dlq", "show", "orders", "0", "0"]));
        assert_eq!(message, "there is no letter 0 0 in orders.dead-letters on west");
        assert_eq!(help, "`tidegate dlq list orders` shows which there are");
    }
    assert_eq!(told(Scene::new().run(&["dlq", "list", "nope"])).0, "there is no link nope");
}

#[test]
fn the_newest_dead_letters_of_all_partitions_are_listed_by_time() {
    let letters = [(0, 1_000, 10), (0, 4_000, 11), (1, 2_000, 20), (1, 3_000, 21)];
    let scene = with_letters(letters.map(|(partition, time, offset)| (partition, letter(time, offset, "no JSON"))));
    let listed = scene.run(&["dlq", "list", "orders", "--max", "3"]).expect("listed");
    let expected = "\
LETTER  FROM         STAGE  CODE      MESSAGE  TIME
1 0     orders-2@20  mask   not-json  no JSON  1970-01-01T00:00:02.000Z
1 1     orders-2@21  mask   not-json  no JSON  1970-01-01T00:00:03.000Z
0 1     orders-2@11  mask   not-json  no JSON  1970-01-01T00:00:04.000Z
the newest 3 of 4: --max shows more
";
    assert_eq!(listed, expected);
    let listed = scene.run(&["dlq", "list", "orders", "--json"]).expect("listed");
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("json");
    let offsets: Vec<_> = listed.iter().map(|letter| letter["record"]["offset"].clone()).collect();
    assert_eq!(offsets, [10, 20, 21, 11]);
    assert!(scene.run(&["dlq", "list", "orders"]).expect("listed").ends_with("04.000Z\n"));
}

#[test]
fn more_dead_letters_than_a_page_are_listed() {
    let scene = with_letters((0..2_500).map(|number| (0, letter(number, number, "x"))));
    let listed = scene.run(&["dlq", "list", "orders", "--max", "2400"]).expect("listed");
    let lines: Vec<_> = listed.lines().collect();
    assert_eq!(lines.len(), 2_402);
    assert!(lines[1].starts_with("0 100 ") && lines[2_400].starts_with("0 2499 "), "{} {}", lines[1], lines[2_400]);
}

/// A letter of another link.
fn of_another(time: i64, offset: i64) -> Record {
    let mut letter = letter(time, offset, "not ours");
    let link = letter.headers.iter_mut().find(|header| header.name == b"tidegate.dlq.link").expect("a link");
    link.value = Some(b"payments".to_vec());
    letter
}

#[test]
fn the_letters_of_other_links_in_the_same_topic_are_theirs() {
    let ours = [(0, letter(1_000, 10, "a")), (0, letter(2_000, 11, "b"))];
    let theirs = (0..1_500).map(|number| (0, of_another(3_000 + number, number)));
    let scene = with_letters(ours.into_iter().chain(theirs).chain([(0, letter(9_000, 12, "c"))]));
    let listed = scene.run(&["dlq", "list", "orders", "--max", "2"]).expect("listed");
    let expected = "\
LETTER  FROM         STAGE  CODE      MESSAGE  TIME
0 1     orders-2@11  mask   not-json  b        1970-01-01T00:00:02.000Z
0 1502  orders-2@12  mask   not-json  c        1970-01-01T00:00:09.000Z
the newest 2 of at most 3: --max shows more
1500 dead letters of other links in orders.dead-letters on west are left out
";
    assert_eq!(listed, expected);
    let (message, help) = told(scene.run(&["dlq", "show", "orders", "0", "2"]));
    assert_eq!(message, "letter 0 2 in orders.dead-letters on west is a dead letter of link payments");
    assert_eq!(help, "`tidegate dlq show payments 0 2` shows it");
}

#[test]
fn what_strangers_write_stays_on_its_line() {
    let steering = format!("panicked\nat \u{1b}[2Jsrc/lib.rs{}", "x".repeat(60));
    let scene = with_letters([(0, letter(0, 1, &steering))]);
    let listed = scene.run(&["dlq", "list", "orders"]).expect("listed");
    assert_eq!(listed.lines().count(), 2);
    let message = format!("  panicked at \u{fffd}[2Jsrc/lib.rs{}…  1970", "x".repeat(33));
    assert!(listed.contains(&message), "{listed}");
    let shown = scene.run(&["dlq", "show", "orders", "0", "0"]).expect("shown");
    assert!(shown.contains("\n  message   panicked\n            at \u{fffd}[2Jsrc/lib.rsxxx"), "{shown}");
}

#[test]
fn all_of_a_dead_letter_is_shown() {
    let mut bad = letter(5_000, 42, "no JSON");
    let mut headers = vec![
        Header { name: b"trace".to_vec(), value: Some(b"1".to_vec()) },
        Header { name: b"raw".to_vec(), value: Some(b"\xff".to_vec()) },
        Header { name: b"null".to_vec(), value: None },
    ];
    headers.append(&mut bad.headers);
    let cut = Header { name: b"tidegate.dlq.cut".to_vec(), value: Some(b"the value had 9 bytes".to_vec()) };
    headers.push(cut);
    let bad = Record { key: Some(b"\xff".to_vec()), value: Some(b"{\n}".to_vec()), headers, ..bad };
    let scene = with_letters([(1, bad)]);
    let shown = scene.run(&["dlq", "show", "orders", "1", "0"]).expect("shown");
    let expected = "\
letter 1 0 in orders.dead-letters on west
  time      1970-01-01T00:00:05.000Z
  from      orders-2@42 on east, ordinal 1, written 2024-01-15T10:00:00.000Z
  link      orders, revision 3
  stage     mask
  plugin    redact 1.0.0
  digest    sha256:00
  code      not-json
  message   no JSON
  tries     2
  cut       the value had 9 bytes
  key       /w== (base64)
  value     {
            }
  header    trace: 1
  header    raw: /w== (base64)
  header    null: -
";
    assert_eq!(shown, expected);
    let shown = scene.run(&["dlq", "show", "orders", "1", "0", "--json"]).expect("shown");
    let shown: Value = serde_json::from_str(&shown).expect("json");
    let expected = json!({
        "partition": 1, "offset": 0, "time": "1970-01-01T00:00:05.000Z",
        "reason": {
            "link": "orders", "cluster": "east", "ordinal": 1, "stage": "mask", "plugin": "redact 1.0.0", "digest": "sha256:00",
            "revision": 3, "code": "not-json", "message": "no JSON", "tries": 2, "cut": "the value had 9 bytes",
        },
        "record": {
            "topic": "orders", "partition": 2, "offset": 42, "timestamp": 1_705_312_800_000_i64, "key_base64": "/w==", "value": "{\n}",
            "headers": [["trace", "1"], {"name": "raw", "value_base64": "/w=="}, ["null", null]],
        },
    });
    assert_eq!(shown, expected);
    for (partition, offset) in [("1", "1"), ("2", "0"), ("0", "0")] {
        let (message, _) = told(scene.run(&["dlq", "show", "orders", partition, offset]));
        assert_eq!(message, format!("there is no letter {partition} {offset} in orders.dead-letters on west"));
    }
}

#[test]
fn a_record_that_is_no_dead_letter_is_shown_as_such() {
    let scene = with_letters([(0, Record { key: Some(b"k".to_vec()), ..Record::default() })]);
    let expected = "\
LETTER  FROM  STAGE  CODE  MESSAGE                                                TIME
0 0     -     -      -     not a dead letter: it has no header tidegate.dlq.link  1970-01-01T00:00:00.000Z
";
    assert_eq!(scene.run(&["dlq", "list", "orders"]).expect("listed"), expected);
    let shown = scene.run(&["dlq", "show", "orders", "0", "0"]).expect("shown");
    let expected = "\
letter 0 0 in orders.dead-letters on west
  time      1970-01-01T00:00:00.000Z
  problem   not a dead letter: it has no header tidegate.dlq.link
  key       k
  value     - (a tombstone)
";
    assert_eq!(shown, expected);
    let json = scene.run(&["dlq", "show", "orders", "0", "0", "--json"]).expect("shown");
    let json: Value = serde_json::from_str(&json).expect("json");
    assert_eq!((&json["reason"], &json["record"]["key"]), (&Value::Null, &json!("k")));
}
