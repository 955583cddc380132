//! Names of topics that nobody from outside writes to, by each way in which a name comes in.

use std::process::Command;

use serde_json::json;

use crate::harness::{LINKS, Site, binary, plugin};

const NAMES: [&str; 5] = [
    "__tidegate.meta",
    "__tidegate.other.checkpoints",
    "__consumer_offsets",
    "tidegate.heartbeats.other",
    "mm2-offset-syncs.west.internal",
];

const KEEPS: &str = "a program keeps for itself";

const EAST: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.in.partitions = 1\n";

/// The targets of both kinds: nothing is asked of the brokers.
fn clusters(kind: &str) -> String {
    let west = match kind {
        "kafka" => "[clusters.west]\nkind = \"kafka\"\nbrokers = [\"127.0.0.1:1\"]\n",
        _ => "[clusters.west]\nkind = \"embedded\"\n",
    };
    format!("{EAST}{west}")
}

fn link(id: &str, more: &str) -> String {
    format!("[links.{id}]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\ntopic_prefix = \"{id}.\"\n{more}")
}

fn routes(id: &str, to: &str) -> String {
    let file = plugin("route");
    let file = file.display();
    format!(
        "[[links.{id}.pipeline]]\nstage = \"by\"\nplugin = \"{file}\"\nconfig = {{ pointer = \"/t\", routes = {{ a = \"{to}\" }} }}\n"
    )
}

/// What `tidegate check` says; it must refuse.
fn refused(text: &str) -> String {
    let site = Site::new(text);
    let check = Command::new(binary()).args(["check", "--config"]).arg(site.config()).output().expect("check");
    let out = String::from_utf8_lossy(&check.stdout).into_owned();
    assert_eq!(check.status.code(), Some(1), "{out}");
    out
}

#[test]
fn a_configuration_that_names_what_programs_keep_is_refused() {
    for kind in ["embedded", "kafka"] {
        let mut text = clusters(kind);
        for (number, name) in NAMES.iter().enumerate() {
            text += &link(&format!("letters{number}"), &format!("dead_letters = \"{name}\"\n"));
            let rename = format!("rename = [{{ match = \"in\", to = \"{name}\" }}]\n");
            text += &link(&format!("copies{number}"), &rename).replace(&format!("\"copies{number}.\""), "\"\"");
        }
        text += "[clusters.north]\nkind = \"embedded\"\n[clusters.north.topics]\n";
        NAMES.iter().for_each(|name| text += &format!("\"{name}\" = {{}}\n"));
        let out = refused(&text);
        assert_eq!(out.matches(KEEPS).count(), 3 * NAMES.len(), "{out}");
    }
}

#[test]
fn a_plugin_that_routes_to_what_others_keep_is_refused() {
    for kind in ["embedded", "kafka"] {
        let mut text = clusters(kind);
        for (number, name) in NAMES.iter().enumerate() {
            let id = format!("l{number}");
            text += &(link(&id, "") + &routes(&id, name));
        }
        text += &(link("stands", "failover_config = { enabled = true }\n"));
        text += &(link("intrudes", "") + &routes("intrudes", "stands.in"));
        text += "[links.back]\nsource = \"west\"\ntarget = \"east\"\ntopics = [\"returns\"]\nrename = [{ match = \"returns\", to = \"in\" }]\n";
        text += &(link("circle", "") + &routes("circle", "returns"));
        let out = refused(&text);
        assert_eq!(out.matches(KEEPS).count(), NAMES.len(), "{out}");
        assert!(out.contains("which stands by for links.stands"), "{out}");
        assert!(out.contains("records would go round for ever"), "{out}");
        assert_eq!(out.matches("error: ").count(), NAMES.len() + 2, "{out}");
    }
}

#[test]
fn nothing_that_comes_to_a_daemon_leads_to_what_others_keep() {
    let stands = link("stands", "failover_config = { enabled = true }\n");
    let site = Site::new(&(clusters("embedded") + &stands + &link("flow", "") + &routes("flow", "orders")));
    let _daemon = site.start();
    let file = plugin("route");
    let file = file.to_str().expect("a path");
    let publish = |to: &str| {
        let config = json!({ "pointer": "/t", "routes": { "a": to } }).to_string();
        let out = site.cli(&["plugin", "publish", "flow", "by", file, "--config", &config]);
        (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    for name in NAMES {
        let (published, error) = publish(name);
        assert!(!published && error.contains(KEEPS), "{name}: {error}");
        for (what, path, body) in [
            ("made", "/api/v1/clusters/west/topics".to_owned(), json!({ "name": name })),
            ("written", format!("/api/v1/clusters/west/topics/{name}/records"), json!([{ "value": "x" }])),
        ] {
            let answer = site.client.post(&path, body.to_string()).expect("an answer");
            assert!([404, 422].contains(&answer.status), "{name} was {what}: {}", answer.body);
        }
    }
    let (published, error) = publish("stands.in");
    assert!(!published && error.contains("stands by for links.stands"), "{error}");
    assert_eq!(site.client.revisions("flow").len(), 1, "nothing has changed");
    assert!(publish("elsewhere").0, "others are fine");
}

/// Otherwise the one that was there first would fail, and could not be defined again after a restart.
#[test]
fn a_definition_that_would_keep_another_link_from_writing_is_refused() {
    let site = Site::new(&clusters("embedded"));
    let _daemon = site.start();
    let define = |id: &str, more: serde_json::Value| {
        let mut body =
            json!({"id": id, "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}});
        let (Some(body), Some(more)) = (body.as_object_mut(), more.as_object()) else { unreachable!("objects") };
        body.extend(more.clone());
        site.client.send("POST", LINKS, None, &json!(body).to_string())
    };
    let first = define("first", json!({"topics": ["w"], "topic_prefix": "k."}));
    assert_eq!(first.status, 201, "{}", first.body);
    let guards = define("guards", json!({"topics": ["k.w"], "failover_config": {"enabled": true}}));
    assert!(guards.status == 400 && guards.body.contains("links.first could not write any more"), "{}", guards.body);
    let free = define("guards", json!({"topics": ["other"], "failover_config": {"enabled": true}}));
    assert_eq!(free.status, 201, "{}", free.body);
}
