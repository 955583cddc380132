//! Clusters that accept connections and never answer: the daemon stays in command of everything else.

use std::net::TcpListener;

use rustix::process::Signal;
use serde_json::json;
use tidegate::api::wire::LinkStatus;

use crate::harness::{LINKS, Site, free_port, wait_until};

/// A daemon with a link that is well, and one whose target says nothing.
struct Scene {
    site: Site,
    /// Takes connections, as long as it lives.
    _broker: TcpListener,
}

impl Scene {
    fn new() -> Self {
        let broker = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = broker.local_addr().expect("an address");
        let site = Site::new("");
        site.write_config(&format!(
            "[daemon]\ndata_dir = 'data'\nlisten = '127.0.0.1:{}'\nshutdown_timeout = '1s'\n\
             [clusters.east]\nkind = 'embedded'\ntopics.orders = {{}}\n\
             [clusters.west]\nkind = 'embedded'\n\
             [clusters.mute]\nkind = 'kafka'\nbrokers = ['{address}']\nrequest_timeout = '5m'\n\
             [links.well]\nsource = 'east'\ntarget = 'west'\ntopics = ['orders']\n\
             [links.hung]\nsource = 'east'\ntarget = 'mute'\ntopics = ['orders']\n\
             config.transaction_timeout_ms = 900000\n",
            site.port
        ));
        Self { site, _broker: broker }
    }
}

/// Each request waits for five minutes, one after the other.
#[test]
fn the_daemon_ends_while_a_target_hangs() {
    let scene = Scene::new();
    let site = &scene.site;
    for round in 1..=2_usize {
        let mut daemon = site.spawn();
        wait_until("the link that is well is active", || {
            site.client.get("/healthz").is_ok() && site.client.link("well").status == LinkStatus::Active
        });
        site.client.produce("east", "orders", &[json!({ "value": format!("record {round}") })]);
        site.client.await_caught_up("well");
        let log_before = daemon.stderr().len();
        daemon.signal(Signal::TERM);
        let status = daemon.await_end();
        let log = daemon.stderr().split_off(log_before);
        assert!(status.success(), "{status}: {log}");
        let left: Vec<&str> = log.lines().filter(|line| line.contains("shutdown-timed-out")).collect();
        assert!(matches!(&left[..], [line] if line.contains("hung")), "{log}");
    }
    site.configure("[clusters.west]\nkind = 'embedded'\n");
    let _daemon = site.start();
    assert_eq!(site.client.records("west", "orders", 0).len(), 2, "each record once");
}

/// A target that is not there is tried again and again, and the log says so once a minute.
#[test]
fn what_lasts_is_logged_once_and_not_at_each_attempt() {
    let site = Site::new("");
    site.configure(&format!(
        "[clusters.east]\nkind = 'embedded'\ntopics.orders = {{}}\n\
         [clusters.gone]\nkind = 'kafka'\nbrokers = ['127.0.0.1:{}']\n\
         [links.lost]\nsource = 'east'\ntarget = 'gone'\ntopics = ['orders']\n",
        free_port()
    ));
    let daemon = site.spawn();
    let attempts = || {
        let metrics = site.client.get(&format!("{LINKS}/lost/metrics")).ok().filter(|answer| answer.status == 200);
        metrics.map_or(0, |answer| answer.json()["total_errors"].as_u64().expect("a number"))
    };
    wait_until("the target was tried often", || attempts() >= 5);
    let log = daemon.stderr();
    let said = |line: &&str| line.contains("cannot connect") && line.contains("tidegate::link::supervisor");
    let new = log.lines().filter(said).filter(|line| !line.contains("repeated")).count();
    assert_eq!(new, 1, "{log}");
}
