//! Definitions that end the process: what it died of twice is not run any more, and says so.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tidegate::api::wire::{Link, LinkStatus};

use crate::harness::{Daemon, LINKS, Site, wait_until};

const CLUSTERS: &str =
    "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n";

fn define(site: &Site, id: &str) {
    let definition = json!({
        "id": id, "source_cluster": { "cluster_id": "east" }, "target_cluster": { "cluster_id": "west" },
        "topics": ["orders"], "topic_prefix": format!("{id}."),
    });
    let made = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
}

/// The threads of this name.
fn threads(daemon: &Daemon, name: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("its threads").flatten();
    let is_named =
        |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).is_ok_and(|found| found.trim_end() == name);
    let number = |task: fs::DirEntry| task.file_name().into_string().ok()?.parse().ok();
    threads.filter(is_named).filter_map(number).collect()
}

/// Abort the process on one of its threads, as memory that cannot be had or a stack that is full does.
fn abort_on(daemon: Daemon, name: &str) {
    // A thread gives itself its name once it runs.
    wait_until("there is the thread", || !threads(&daemon, name).is_empty());
    let found = threads(&daemon, name)[0];
    abort_thread(daemon, found);
}

fn abort_thread(mut daemon: Daemon, thread: i32) {
    // The system prefers the thread that is named.
    kill_process(Pid::from_raw(thread).expect("a number"), Signal::ABORT).expect("sent");
    assert_eq!(daemon.await_end().signal(), Some(Signal::ABORT.as_raw()));
}

fn start_and_abort(site: &Site, thread: &str) {
    let daemon = site.start();
    wait_until("the definitions are read", || {
        site.client.send("GET", &format!("{LINKS}/evil"), None, "").status == 200
    });
    abort_on(daemon, thread);
}

#[test]
fn a_definition_that_the_daemon_died_of_twice_is_set_aside() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    define(&site, "evil");
    abort_on(daemon, "warden");
    start_and_abort(&site, "warden");
    let daemon = site.start();
    let listed = || -> Vec<Link> { site.client.read(LINKS) };
    wait_until("it is listed", || !listed().is_empty());
    let link = site.client.link("evil");
    assert_eq!(listed()[0], link);
    let error = link.error.as_ref().expect("a reason");
    assert_eq!((link.status, &*error.code, link.version), (LinkStatus::Failed, "set-aside", Some(1)));
    assert!(error.remedy.contains("tidegate link start evil"), "{}", error.remedy);
    let threads = fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("its threads");
    let names = threads.flatten().map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    assert!(names.into_iter().all(|name| name.trim_end() != "warden"), "nothing of it runs");
    // It gets two more chances, and is set aside again.
    let started = site.client.send("POST", &format!("{LINKS}/evil/start"), None, "");
    assert_eq!(started.status, 200, "{}", started.body);
    abort_on(daemon, "warden");
    start_and_abort(&site, "warden");
    let daemon = site.start();
    wait_until("it is listed", || !listed().is_empty());
    // A definition that was changed is another one.
    let changed = site.client.send("PUT", &format!("{LINKS}/evil"), Some("\"1\""), r#"{"config":{"batch_size":7}}"#);
    assert_eq!(changed.status, 200, "{}", changed.body);
    let link: Link = serde_json::from_str(&changed.body).expect("a link");
    assert_eq!((link.version, link.config.batch_size), (Some(2), 7));
    assert!(link.error.is_none(), "{:?}", link.error);
    abort_on(daemon, "warden");
    start_and_abort(&site, "warden");
    let daemon = site.start();
    wait_until("it is listed", || !listed().is_empty());
    assert_eq!(site.client.send("DELETE", &format!("{LINKS}/evil"), None, "").status, 204);
    assert!(listed().is_empty());
    daemon.terminate();
    let _daemon = site.start();
    define(&site, "evil");
}

/// A link whose target takes connections and says nothing: whatever asks it hangs.
fn define_hanging(site: &Site, silent: &TcpListener) {
    let broker = silent.local_addr().expect("an address").to_string();
    let target = json!({ "cluster_id": "silent", "brokers": [broker], "request_timeout": "60s" });
    let definition = json!({
        "id": "evil", "source_cluster": { "cluster_id": "east" }, "target_cluster": target, "topics": ["orders"],
    });
    let made = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
}

/// Have the daemon die twice on the thread that `request` begins, and say whether the link is set aside then.
fn is_set_aside_after(request: fn(&Site, &Daemon) -> i32) -> bool {
    let (site, silent) = (Site::new(CLUSTERS), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let is_read = || site.client.send("GET", &format!("{LINKS}/evil/events"), None, "").status == 200;
    for round in 0..2 {
        let mut daemon = site.spawn();
        wait_until("it answers", || site.client.get("/healthz").is_ok_and(|answer| answer.status == 200));
        if round == 0 {
            site.await_ready(&mut daemon);
            define_hanging(&site, &silent);
        }
        wait_until("the definition is read", is_read);
        let thread = request(&site, &daemon);
        abort_thread(daemon, thread);
    }
    let _daemon = site.start();
    site.client.link("evil").error.is_some_and(|error| error.code == "set-aside")
}

/// What requests begin is done for the link that they are about.
#[test]
fn a_definition_that_the_daemon_dies_of_when_somebody_looks_is_set_aside() {
    let look = |site: &Site, daemon: &Daemon| {
        site.client.link("evil");
        wait_until("the cluster is asked", || !threads(daemon, "look").is_empty());
        threads(daemon, "look")[0]
    };
    assert!(is_set_aside_after(look));
}

#[test]
fn ends_from_outside_are_held_against_no_link() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    define(&site, "evil");
    daemon.kill();
    for _ in 0..3 {
        site.start().kill();
        // Of no link: the thread that everything began with.
        start_and_abort(&site, "tidegate");
    }
    let _daemon = site.start();
    wait_until("the link is read", || site.client.send("GET", &format!("{LINKS}/evil"), None, "").status == 200);
    let link = site.client.link("evil");
    assert!(link.error.is_none(), "{:?}", link.error);
}
