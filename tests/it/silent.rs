//! Clusters that accept connections and never answer: the daemon stays in command of everything else.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tidegate::api::{endpoints, openapi, wire::LinkStatus};

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

/// How a path is asked for, with these names in it.
fn filled(path: &str, link: &str, cluster: &str) -> String {
    let path = path.replace("{link}", link).replace("{cluster}", cluster);
    let path = path.replace("{topic}", "orders").replace("{stage}", "mask").replace("{event}", "failover-1");
    if path.ends_with("/records") { format!("{path}?partition=0") } else { path }
}

/// Whether a read needs a cluster to answer, as the description says.
fn asks_clusters(path: &str) -> bool {
    let parameters = openapi()["paths"][path]["get"]["parameters"].as_array();
    parameters.is_some_and(|all| all.iter().any(|parameter| parameter["name"] == "wait_ms"))
}

/// A daemon with links from and to clusters that say nothing, each of whose requests waits for five minutes.
fn between_mute_clusters() -> Scene {
    let scene = Scene::new();
    let address = scene._broker.local_addr().expect("an address");
    let config = std::fs::read_to_string(scene.site.config()).expect("the configuration");
    scene.site.write_config(&format!(
        "{config}[clusters.deaf]\nkind = 'kafka'\nbrokers = ['{address}']\nrequest_timeout = '5m'\n\
         [links.unheard]\nsource = 'deaf'\ntarget = 'west'\ntopics = ['letters']\n\
         [links.lost]\nsource = 'deaf'\ntarget = 'mute'\ntopics = ['letters']\n\
         config.transaction_timeout_ms = 900000\n"
    ));
    scene
}

/// Every read that there is, whatever hangs: the test gives up on one long before the cluster would.
#[test]
fn no_read_waits_for_a_cluster_that_says_nothing() {
    let scene = between_mute_clusters();
    let client = &scene.site.client;
    let _daemon = scene.site.spawn();
    wait_until("the link that is well is active", || {
        client.get("/healthz").is_ok() && client.link("well").status == LinkStatus::Active
    });
    let mut took = Vec::new();
    for endpoint in endpoints().iter().filter(|endpoint| endpoint.method.as_str() == "GET") {
        for (link, cluster) in [("hung", "mute"), ("unheard", "deaf"), ("lost", "mute"), ("well", "east")] {
            let (path, begun) = (filled(&endpoint.path, link, cluster), Instant::now());
            let answer = client.get(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            took.push((begun.elapsed(), path.clone()));
            let silent = answer.headers.get("tidegate-silent").map(|value| value.to_str().expect("text").to_owned());
            match answer.status {
                // A link that is starting says so.
                503 if endpoint.path.ends_with("/readyz") => {}
                503 => {
                    let problem = answer.json();
                    assert!(link != "well", "{path}: {problem}");
                    assert_ne!(problem["remedy"], "", "{path}: {problem}");
                    let is_silent = problem["code"] == "cluster-silent";
                    assert!(is_silent || problem["code"] == "no-answer", "{path}: {problem}");
                    if is_silent {
                        assert!(asks_clusters(&endpoint.path), "{path} shows what is known: {problem}");
                        let since = problem["detail"].as_str().expect("a text");
                        assert!(since.contains("has not answered since 20"), "{path}: {problem}");
                    }
                    assert!(silent.is_some_and(|silent| silent.contains("since=")), "{path}: it is not named");
                }
                status => assert!([200, 404, 409].contains(&status), "{path}: {}", answer.body),
            }
        }
    }
    took.sort();
    let slowest: Vec<_> = took.iter().rev().take(8).collect();
    println!("{} reads; the slowest: {slowest:#?}", took.len());
}

/// What is shown of a link says which cluster it could not be asked of, and since when.
#[test]
fn what_is_shown_names_the_cluster_that_says_nothing() {
    let scene = between_mute_clusters();
    let client = &scene.site.client;
    let _daemon = scene.site.spawn();
    wait_until("the silence is noticed", || {
        client.get("/healthz").is_ok()
            && client.link("hung").notices.iter().any(|notice| {
                notice.code == "cluster-silent" && notice.message.starts_with("mute has not answered since 20")
            })
    });
    let named = |path: &str| {
        let answer = client.get(path).expect("an answer");
        answer.headers.get("tidegate-silent").map(|value| value.to_str().expect("text").to_owned()).unwrap_or_default()
    };
    assert!(named(&format!("{LINKS}/hung/lanes")).starts_with("mute; since=\"20"));
    assert_eq!(named(&format!("{LINKS}/well/lanes")), "", "its clusters answer");
    wait_until("all are named", || {
        let all = named(LINKS);
        all.contains("deaf; since=") && all.contains("mute; since=")
    });
}

/// A caller may wait longer, and threads that hang leave others to read what is known.
#[test]
fn reads_that_hang_leave_room_for_others() {
    let scene = between_mute_clusters();
    let client = &scene.site.client;
    let _daemon = scene.site.spawn();
    wait_until("the daemon answers", || client.get("/healthz").is_ok());
    let topics = "/api/v1/clusters/mute/topics";
    let begun = Instant::now();
    assert_eq!(client.get(&format!("{topics}?wait_ms=2000")).expect("an answer").status, 503);
    assert!(begun.elapsed() >= Duration::from_secs(2), "it was to wait");
    assert_eq!(client.get(&format!("{topics}?wait_ms=soon")).expect("an answer").status, 400);
    // More than the daemon has threads for.
    thread::scope(|scope| {
        for _ in 0..60 {
            scope.spawn(|| {
                for _ in 0..10 {
                    assert_eq!(client.get(topics).expect("an answer").status, 503);
                }
            });
        }
    });
    let status: Value = client.read("/api/v1/status");
    assert_eq!(status["links"].as_array().map(Vec::len), Some(4));
}
