//! `verify` against the real API.

use serde_json::Value;

use super::{Scene, told};
use crate::cli::failure::Failure;
use crate::cli::{dispatch, verify};

/// What is printed, and the exit status.
fn run(words: &[&str]) -> (String, Option<u8>) {
    let scene = Scene::new();
    let mut out = Vec::new();
    let status = match dispatch(scene.command(words), &mut out) {
        Ok(()) => None,
        Err(Failure::Status(status)) => Some(status),
        Err(other) => unreachable!("{other:?}"),
    };
    (String::from_utf8(out).expect("text"), status)
}

#[test]
fn differences_are_shown_and_are_a_status() {
    let (said, status) = run(&["verify", "orders"]);
    assert_eq!(status, Some(1));
    assert!(
        said.starts_with("orders: 5 source records were replayed, 4 target records agree; there are 3 differences\n"),
        "{said}"
    );
    assert!(said.contains("different: value  t-0@7   t-0@5   ab        a\u{fffd}b"), "{said}");
    assert!(said.contains("and 2 more: --differences shows them"), "{said}");
    assert!(
        said.contains("source       t-0        0     3   -        retention has taken these from the source"),
        "{said}"
    );
    let (said, status) = run(&["verify", "orders", "--json"]);
    let json: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (status, &json["verdict"], &json["report"]["differences"][0]["parts"][0]),
        (Some(1), &"differences".into(), &"value".into())
    );
}

#[test]
fn what_is_not_covered_is_another_status() {
    let (said, status) = run(&["verify", "orders", "--differences", "0"]);
    assert_eq!(status, Some(3));
    assert!(said.contains("; all that could be compared is as it should be\n"), "{said}");
}

#[test]
fn a_link_that_is_not_there_is_told() {
    let (message, _) = told(Scene::new().run(&["verify", "nope"]));
    assert!(message.contains("nope"), "{message}");
    assert_eq!(verify::NOT_DONE, 4);
}
