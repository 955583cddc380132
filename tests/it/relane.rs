//! The layout of a link, and the number of its lanes, as a user changes them.

use serde_json::json;
use tidegate::api::wire::{Event, LaneState, Link, LinkStatus, Relaned, Upgrade};

use crate::harness::{LINKS, Site, wait_until};

const REST: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 5\n[clusters.west]\nkind = \"embedded\"\n\
    [links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\nlanes = 2\n";

fn produce(site: &Site) {
    let records = (0..5).map(|partition| json!({ "partition": partition, "value": "v" })).collect::<Vec<_>>();
    site.client.produce("east", "orders", &records);
}

fn lanes(link: &Link) -> Vec<(u32, LaneState)> {
    link.lanes.iter().map(|lane| (lane.partitions.len() as u32, lane.state)).collect()
}

fn codes(link: &Link) -> Vec<&str> {
    link.notices.iter().map(|notice| notice.code.as_str()).collect()
}

/// Whether the link runs, is paused or is stopped; and after a restart with a file that still has the old number.
#[test]
fn a_link_gets_other_lanes_in_any_state() {
    let site = Site::new(REST);
    let daemon = site.start();
    produce(&site);
    site.client.await_caught_up("copy");
    let done: Relaned = site.cli_json(&["link", "relane", "copy", "3"]);
    assert_eq!((done.from, done.to, done.done), (2, 3, true));
    wait_until("they run", || site.client.link("copy").status == LinkStatus::Active);
    let link = site.client.link("copy");
    let counts: Vec<u32> = lanes(&link).iter().map(|(partitions, _)| *partitions).collect();
    assert_eq!((counts.len(), counts.iter().sum::<u32>()), (3, 5));
    assert_eq!(codes(&link), ["lanes-differ"]);
    produce(&site);
    site.client.await_caught_up("copy");

    for (what, number, status) in [("pause", 5, LinkStatus::Paused), ("stop", 1, LinkStatus::Stopped)] {
        assert_eq!(site.client.post(&format!("{LINKS}/copy/{what}"), "").expect("an answer").status, 200);
        let done: Relaned = site.cli_json(&["link", "relane", "copy", &number.to_string()]);
        assert!(done.done, "{done:?}");
        wait_until("it is as it was", || site.client.link("copy").status == status);
    }
    daemon.terminate();
    let _daemon = site.start();
    assert_eq!(site.client.post(&format!("{LINKS}/copy/start"), "").expect("an answer").status, 200);
    produce(&site);
    site.client.await_caught_up("copy");
    assert_eq!(lanes(&site.client.link("copy")), [(5, LaneState::Running)]);
    assert_eq!(site.client.ends("west", "orders"), [3; 5], "each record once");
    let shown = String::from_utf8(site.cli(&["link", "show", "copy"]).stdout).expect("text");
    assert!(shown.contains("tidegate link relane copy 2"), "{shown}");
    for (lanes, status) in [(0, 422), (1025, 422), (1, 200)] {
        let answer = site.client.post(&format!("{LINKS}/copy/relane"), format!("{{\"lanes\":{lanes}}}"));
        assert_eq!(answer.expect("an answer").status, status, "{lanes}");
    }
}

#[test]
fn a_link_of_the_older_layout_is_upgraded_first() {
    let site = Site::new("");
    let listen = |layout: &str| {
        let daemon = format!("[daemon]\ndata_dir = \"data\"\nname = \"me\"\nlisten = \"127.0.0.1:{}\"\n", site.port);
        site.write_config(&(daemon + layout + REST));
    };
    listen("layout_max = 1\n");
    let daemon = site.start();
    produce(&site);
    site.client.await_caught_up("copy");
    assert_eq!(site.client.link("copy").layout, Some(1));
    let refused = |words: &[&str]| {
        let output = site.cli(words);
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(refused(&["link", "relane", "copy", "3"]).contains("tidegate link upgrade copy"));
    let why = refused(&["link", "upgrade", "copy"]);
    assert!(why.contains("me does not know layout 3") && why.contains("layout_max"), "{why}");
    daemon.terminate();

    listen("");
    let daemon = site.start();
    let dry: Upgrade = site.cli_json(&["link", "upgrade", "copy", "--dry-run"]);
    assert_eq!((dry.from, dry.to, site.client.link("copy").layout), (1, 3, Some(1)));
    let done: Upgrade = site.cli_json(&["link", "upgrade", "copy"]);
    assert_eq!((done.from, done.to, site.client.link("copy").layout), (1, 3, Some(3)));
    let done: Relaned = site.cli_json(&["link", "relane", "copy", "3"]);
    assert!(done.done, "{done:?}");
    let events: Vec<Event> = site.client.read(&format!("{LINKS}/copy/events"));
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert!(kinds.ends_with(&["upgraded", "relane-begun", "relaned"]), "{kinds:?}");
    produce(&site);
    site.client.await_caught_up("copy");
    assert_eq!(site.client.ends("west", "orders"), [2; 5]);
    daemon.terminate();

    listen("layout_max = 1\n");
    let _daemon = site.start();
    let link = site.client.link("copy");
    let error = link.error.expect("a reason");
    assert_eq!((link.status, error.code.as_str()), (LinkStatus::Failed, "newer-layout"));
    assert!(error.remedy.contains("layout_max"), "{error:?}");
}
