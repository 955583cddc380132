//! The log of a real run as programs read it.

use serde_json::{Value, json};
use tidegate::model::text::steers;

use crate::credentials::{Advertised, cluster};
use crate::harness::{LINKS, Site, percent_encoded, plugin_bytes, wait_until};

const CONFIG: &str = r#"
    [clusters.east]
    kind = "embedded"
    [clusters.east.topics.in]
    [clusters.west]
    kind = "embedded"
    [links.flow]
    source = "east"
    target = "west"
    topics = ["in"]
    [[links.flow.pipeline]]
    stage = "obey"
    plugin = "PLUGINS/obey.wasm"
    on_error = "stop"
"#;

/// The lines of a log, each of which must be an object with what every line has.
fn lines(log: &str) -> Vec<Value> {
    let line = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["time", "level", "target", "message"] {
            assert!(object[field].is_string(), "{field} of {line}");
        }
        object
    };
    log.lines().map(line).collect()
}

/// Publish, and have a record stop the lane.
fn go_through_a_run(site: &Site) {
    let config = percent_encoded("{\"reject_after\":1}");
    let path = format!("{LINKS}/flow/stages/obey/revisions?config={config}");
    assert_eq!(site.client.post(&path, plugin_bytes("obey")).expect("an answer").status, 201);
    let record = |what: &str| json!({"partition": 0, "value": json!({"do": what}).to_string()});
    site.client.produce("east", "in", &[record("ok"), record("reject")]);
    wait_until("the lane stops", || site.client.link("flow").lanes[0].error.is_some());
}

#[test]
fn every_line_is_json_and_those_of_a_lane_say_which() {
    let site = Site::new("");
    let daemon = format!("[daemon]\nlisten = \"127.0.0.1:{}\"\nlog_format = \"json\"\n", site.port);
    site.write_config(&(daemon + CONFIG));
    let mut command = site.command();
    command.env("TIDEGATE_LOG", "debug");
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    go_through_a_run(&site);
    daemon.signal(rustix::process::Signal::TERM);
    daemon.await_end();
    let lines = lines(&daemon.stderr());
    let find = |what: &str| {
        let found = lines.iter().find(|line| line["message"].as_str().is_some_and(|message| message.contains(what)));
        found.unwrap_or_else(|| panic!("no {what:?} in {lines:?}"))
    };
    let swapped = find("swapped");
    assert_eq!((&swapped["link"], &swapped["lane"], &swapped["revision"]), (&json!("flow"), &json!(0), &json!(2)));
    assert_eq!((&swapped["level"], &swapped["target"]), (&json!("info"), &json!("tidegate::link::lane")));
    let stopped = find("stage obey and the record of in-0 at offset 1");
    assert_eq!((&stopped["level"], &stopped["code"]), (&json!("error"), &json!("record-rejected")));
    assert_eq!((&stopped["link"], &stopped["lane"], &stopped["revision"]), (&json!("flow"), &json!(0), &json!(2)));
    let of_lanes =
        lines.iter().filter(|line| line["target"].as_str().is_some_and(|it| it.starts_with("tidegate::link::lane")));
    for line in of_lanes {
        assert!(["link", "lane", "revision"].iter().all(|field| !line[field].is_null()), "{line}");
    }
}

#[test]
fn the_flag_counts_more_than_the_file() {
    let site = Site::new(CONFIG);
    let mut command = site.command();
    command.args(["--log-format", "json"]);
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    go_through_a_run(&site);
    assert!(!lines(&daemon.stderr()).is_empty());
    drop(daemon);

    let site = Site::new(CONFIG);
    let mut daemon = site.spawn();
    site.await_ready(&mut daemon);
    go_through_a_run(&site);
    let log = daemon.stderr();
    assert!(log.lines().any(|line| line.contains("lane{link=\"flow\" lane=0 revision=2}")), "{log}");
}

/// What a broker calls itself: another line, an escape sequence, a turn of direction.
const EVIL: &str = "evil\r\n2026-01-01T00:00:00.000000Z ERROR tidegate::link: forged\u{1b}[2J\u{202e}x";

/// The log of a daemon that copies from a broker of that name.
fn log_with_evil_names(format: &str) -> String {
    let advertised = Advertised::default();
    let (port, _logins) = cluster(&advertised, &["orders"]);
    *advertised.lock().expect("a lock") = (EVIL.to_owned(), port.into());
    let site = Site::new("");
    let lines = format!(
        "[daemon]\nlisten = \"127.0.0.1:{}\"\nlog_format = \"{format}\"\n[clusters.evil]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:{port}\"]\n\
         [clusters.west]\nkind = \"embedded\"\n[links.l]\nsource = \"evil\"\ntarget = \"west\"\ntopics = [\"/(?s).*/\"]\n",
        site.port
    );
    site.write_config(&lines);
    let mut command = site.command();
    command.env("TIDEGATE_LOG", "tidegate=debug");
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    wait_until("the broker is named in the log", || daemon.stderr().contains("forged"));
    daemon.signal(rustix::process::Signal::TERM);
    daemon.await_end();
    daemon.stderr()
}

#[test]
fn a_broker_forges_no_line_of_the_log() {
    let log = log_with_evil_names("text");
    assert!(!log.contains(|c| steers(c) && c != '\n'), "{log:?}");
    assert!(log.contains("evil\\r\\n2026"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with("2026-01-01")), "{log}");

    let log = log_with_evil_names("json");
    assert!(!log.contains(|c| steers(c) && c != '\n'), "{log:?}");
    let lines = lines(&log);
    assert!(lines.iter().any(|line| line.to_string().contains("forged")), "{log}");
}
