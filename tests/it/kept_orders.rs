//! Orders to links whose target says nothing: the daemon accepts them at once, keeps them over its
//! own death, and carries them out when it can.

use std::net::TcpListener;

use serde_json::{Value, json};
use tidegate::api::wire::{Link, LinkStatus};

use crate::harness::{Answer, LINKS, Site, wait_until};

/// A link `hung` that is to run, whose target takes connections and says nothing.
struct Scene {
    site: Site,
    _broker: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = broker.local_addr().expect("an address");
        let scene = Self { site: Site::new(""), _broker: broker };
        scene.configure(&format!("kind = 'kafka'\nbrokers = ['{address}']\nrequest_timeout = '5m'"));
        scene
    }

    /// The target is a cluster of this kind from the next start on.
    fn configure(&self, target: &str) {
        self.site.configure(&format!(
            "[clusters.east]\nkind = 'embedded'\ntopics.orders = {{}}\n\
             [clusters.mute]\n{target}\n\
             [links.hung]\nsource = 'east'\ntarget = 'mute'\ntopics = ['orders']\n"
        ));
    }

    /// The target answers from the next start on, and has never heard of the link.
    fn heal(&self) {
        self.configure("kind = 'embedded'");
    }

    fn order(&self, method: &str, path: &str, body: &str) -> Answer {
        self.site.client.send(method, &format!("{LINKS}/hung/{path}"), None, body)
    }

    /// Give an order that is kept.
    fn keep(&self, path: &str, body: &str) -> Link {
        let answer = self.order("POST", path, body);
        assert_eq!(answer.status, 202, "{path}: {}", answer.body);
        let link: Link = serde_json::from_value(answer.json()).expect("a link");
        assert!(!link.pending.is_empty(), "{path}: {}", answer.body);
        link
    }

    fn pending(&self) -> Vec<String> {
        self.site.client.link("hung").pending.into_iter().map(|pending| pending.order).collect()
    }

    fn await_answers(&self) {
        wait_until("the daemon answers", || self.site.client.get("/healthz").is_ok());
    }
}

#[test]
fn an_order_outlives_the_daemon_that_has_accepted_it() {
    let scene = Scene::new();
    let daemon = scene.site.spawn();
    scene.await_answers();
    let link = scene.keep("stop", "");
    assert_eq!(link.status, LinkStatus::Stopped, "nothing of it runs here");
    let reason = link.pending[0].reason.as_ref().expect("a reason");
    assert!(reason.message.starts_with("mute has not answered since 20"), "{reason:?}");
    daemon.kill();

    // The target says nothing still.
    let daemon = scene.site.spawn();
    scene.await_answers();
    let link = scene.site.client.link("hung");
    assert_eq!((link.status, &*link.pending[0].order), (LinkStatus::Stopped, "stop"));
    daemon.kill();

    scene.heal();
    let daemon = scene.site.start();
    wait_until("the order is carried out", || scene.pending().is_empty());
    assert_eq!(scene.site.client.link("hung").status, LinkStatus::Stopped, "it was never started");
    daemon.kill();

    // Now the target knows: without the file it is so, too.
    let _daemon = scene.site.start();
    assert_eq!(scene.site.client.link("hung").status, LinkStatus::Stopped);
}

#[test]
fn a_contrary_order_replaces_the_one_that_waits() {
    let scene = Scene::new();
    let daemon = scene.site.spawn();
    scene.await_answers();
    scene.keep("stop", "");
    scene.keep("throttle", r#"{"throttle_rate_bytes_per_sec":1000000}"#);
    scene.keep("start", "");
    assert_eq!(scene.pending(), ["throttle", "start"]);
    daemon.kill();
    scene.heal();
    let _daemon = scene.site.spawn();
    wait_until("the link runs", || {
        scene.site.client.get("/healthz").is_ok() && scene.site.client.link("hung").status == LinkStatus::Active
    });
    wait_until("all is carried out", || scene.pending().is_empty());
    let throttle = scene.site.client.link("hung").throttle;
    assert_eq!(throttle.throttle_rate_bytes_per_sec, Some(1_000_000));
}

/// Every order that a person can give to a link.
#[test]
fn every_order_is_accepted_at_once() {
    let scene = Scene::new();
    let _daemon = scene.site.spawn();
    scene.await_answers();
    let reset = r#"{"topic":"orders","to":"earliest"}"#;
    for (path, body, word) in [
        ("pause", "", "pause"),
        ("resume", "", "resume"),
        ("start", "", "start"),
        ("throttle", r#"{"throttle_rate_bytes_per_sec":null}"#, "throttle"),
        ("relane", r#"{"lanes":3}"#, "relane"),
        ("resets", reset, "reset"),
        ("failover", "", "failover"),
        ("failback", "", "failback"),
        ("stop", "", "stop"),
    ] {
        let link = scene.keep(path, body);
        assert_eq!(link.pending.last().map(|pending| &*pending.order), Some(word));
        assert!(scene.pending().contains(&word.to_owned()), "it is shown");
    }
    assert_eq!(scene.pending(), ["throttle", "relane", "reset", "failback", "stop"], "the others are replaced");
    assert_eq!(scene.order("DELETE", "throttle", "").status, 202);
    assert_eq!(scene.order("DELETE", "failback", "").status, 202);
    assert_eq!(scene.pending(), ["relane", "reset", "stop", "throttle", "call-off-failback"]);
    // What makes no sense is refused at once, and nothing is kept of it.
    assert_eq!(scene.order("POST", "relane", r#"{"lanes":0}"#).status, 422);
    assert_eq!(scene.pending().len(), 5);
}

/// A link that was defined by the API goes, though what it was to write to says nothing.
#[test]
fn a_link_is_deleted_while_its_target_says_nothing() {
    let scene = Scene::new();
    let daemon = scene.site.spawn();
    scene.await_answers();
    let definition = json!({
        "id": "made", "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "mute"},
        "topics": ["orders"],
    });
    assert_eq!(scene.site.client.send("POST", LINKS, None, &definition.to_string()).status, 201);
    let path = format!("{LINKS}/made");
    assert_eq!(scene.site.client.send("POST", &format!("{path}/stop"), None, "").status, 202);
    let deleted = scene.site.client.send("DELETE", &path, None, "");
    assert!([202, 204].contains(&deleted.status), "{}", deleted.body);
    wait_until("it is gone", || scene.site.client.get(&path).expect("an answer").status == 404);
    let status: Value = scene.site.client.read("/api/v1/status");
    assert_eq!(status["links"].as_array().map(Vec::len), Some(1));
    daemon.kill();
}
