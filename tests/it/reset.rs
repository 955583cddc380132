//! A person says where a link goes on.

use serde_json::json;
use tidegate::api::wire::Reset;

use crate::harness::{LINKS, Site, wait_until};

const CONFIG: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n\
    [links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\nlanes = 2\n";

/// The lanes are idle: nothing but the reset tells them.
#[test]
fn an_idle_link_goes_on_where_it_is_told_to() {
    let site = Site::new(CONFIG);
    let _daemon = site.start();
    let records = ["a", "b", "c"].map(|value| json!({ "partition": 0, "value": value }));
    site.client.produce("east", "orders", &records);
    site.client.await_caught_up("copy");
    let path = format!("{LINKS}/copy/resets");
    let refused = site.client.post(&path, r#"{"topic":"orders","partition":0,"to":9}"#).expect("an answer");
    assert_eq!((refused.status, refused.body.contains("0 to 3")), (422, true), "{}", refused.body);
    let done = site.client.post(&path, r#"{"topic":"orders","partition":0,"to":1}"#).expect("an answer");
    assert_eq!(done.status, 200, "{}", done.body);
    wait_until("two records come again", || site.client.ends("west", "orders") == [5, 0]);
    site.client.await_caught_up("copy");

    site.client.post(&path, r#"{"topic":"orders","to":"earliest"}"#).expect("an answer");
    wait_until("three come again", || site.client.ends("west", "orders") == [8, 0]);
    let resets: Vec<Reset> = site.client.read(&path);
    let places: Vec<_> =
        resets.iter().flat_map(|reset| &reset.partitions).map(|moved| (moved.from, moved.to)).collect();
    assert_eq!(places, [(Some(3), 1), (Some(3), 0), (Some(0), 0)]);
}
