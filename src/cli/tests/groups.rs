//! `groups` against the real API.

use serde_json::Value;

use super::{Scene, told};
use crate::cli::dispatch;
use crate::cli::failure::Failure;

#[test]
fn groups_are_listed_and_translated() {
    let scene = Scene::new();
    let listed = scene.run(&["groups", "list", "orders"]).expect("listed");
    let expected = "\
GROUP    FOLLOWS  AT THE SOURCE  AT THE TARGET  PARTITIONS  CERTAINTY    FATE
billing  yes      Stable         -              1           uncommitted  move
";
    assert_eq!(listed, expected);
    let translated = scene.run(&["groups", "translate", "orders"]).expect("translated");
    let expected = "\
GROUP    TARGET PARTITION  OFFSET  CERTAINTY    AT THE SOURCE             AT THE TARGET
billing  orders-0          7       uncommitted  orders-0: 9, orders-1: -  -
";
    assert_eq!(translated, expected);
    let translated = scene.run(&["groups", "translate", "orders", "billing", "--json"]).expect("translated");
    let translated: Value = serde_json::from_str(&translated).expect("json");
    assert_eq!(translated[0]["partitions"][0]["from"][1]["offset"], Value::Null);
    assert_eq!(told(scene.run(&["groups", "list", "nope"])).0, "there is no link nope");
}

#[test]
fn a_planned_failover_says_where_groups_go_on() {
    let said = Scene::new().run(&["link", "failover", "orders", "--dry-run"]).expect("planned");
    let expected = "
GROUP    FOLLOWS  AT THE SOURCE  AT THE TARGET  PARTITIONS  CERTAINTY    FATE
billing  yes      Stable         -              1           uncommitted  move
warning: group audit has members at the target
";
    assert!(said.ends_with(expected), "{said}");
}

#[test]
fn a_group_that_could_not_be_moved_is_a_failure() {
    let scene = Scene::new();
    let mut out = Vec::new();
    let done = dispatch(scene.command(&["groups", "sync", "orders"]), &mut out);
    assert!(matches!(done, Err(Failure::Said)), "{done:?}");
    let said = String::from_utf8(out).expect("text");
    assert!(said.contains("  failed\ngroup billing: we may not use group billing (group-not-authorized)\n"), "{said}");
}
