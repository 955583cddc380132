//! `link upgrade`, `link relane`, and what `link show` says about both.

use super::super::lanes::print;
use super::Scene;
use crate::api::wire::{KnownLayout, Link, RelaneProgress, Relaned, Time, Upgrade};

#[test]
fn layouts_and_lanes_are_changed_and_it_is_said_what_comes_next() {
    let scene = Scene::new();
    let run = |words: &[&str]| scene.run(words).expect("done");
    let dry = "orders has layout 1, and would have layout 2: a knows 2\n";
    assert_eq!(run(&["link", "upgrade", "orders", "--dry-run"]), dry);
    assert_eq!(run(&["link", "upgrade", "orders"]), "orders has layout 2 now, and had 1\n");
    let done = "orders has 12 lanes now, and had 4: write `lanes = 12` into its files\n";
    assert_eq!(run(&["link", "relane", "orders", "12"]), done);
    assert_eq!(run(&["link", "relane", "orders", "4"]), "orders has 4 lanes\n");
    let late = run(&["link", "relane", "orders", "100"]);
    assert!(late.starts_with("orders is about to have 100 lanes instead of 4: "), "{late}");
    let json: Upgrade =
        serde_json::from_str(&run(&["link", "upgrade", "orders", "--dry-run", "--json"])).expect("json");
    assert!(json.dry_run);
    let json: Relaned = serde_json::from_str(&run(&["link", "relane", "orders", "100", "--json"])).expect("json");
    assert!(!json.done);
}

#[test]
fn a_link_is_shown_with_what_its_daemons_know_and_what_its_lanes_become() {
    let scene = Scene::new();
    let json = scene.run(&["link", "show", "orders", "--json"]).expect("shown");
    let mut link: Link = serde_json::from_str(&json).expect("json");
    let shown = |link: &Link| {
        let mut out = Vec::new();
        print(link, &mut out).expect("memory");
        String::from_utf8(out).expect("text")
    };
    assert_eq!(shown(&link), "  layout    2; no daemon runs it\n");
    let known = |daemon: &str, layout| KnownLayout { daemon: daemon.to_owned(), layout };
    link.daemons = vec![known("a", Some(2)), known("b", None)];
    link.relane = Some(RelaneProgress { from: 4, to: 12, daemon: "a".to_owned(), since: Time(0), copied: 3 });
    let expected = "  layout    2; a knows 2, b is not known yet
  lanes     4 become 12: a has copied 3 of 4 since 1970-01-01T00:00:00.000Z\n";
    assert_eq!(shown(&link), expected);
}
