//! A plugin is given what was defined, by every way in: each digit, each null.

use serde_json::json;

use crate::harness::{LINKS, Site, percent_encoded, plugin, plugin_bytes};

const CLUSTERS: &str = "[clusters.east]\nkind = \"embedded\"\n[clusters.west]\nkind = \"embedded\"\n";

/// What JSON can say, in the one form in which it is kept.
const EXACT: &str = r#"{"a":18446744073709551615,"b":18446744073709551616,"c":18446744073709551617,"d":170141183460469231731687303715884105727,"e":170141183460469231731687303715884105729,"f":-170141183460469231731687303715884105729,"g":0.1000000000000000055511151231257827021181583404541015625,"i":-0.0,"j":1,"k":1.0,"l":[null,{"n":null}],"m":null,"o":"'''\"\"\"\\ \n\t\u0000 é 日本 {} #","p":9007199254740993}"#;

/// The same as a person may write it.
const WRITTEN: &str = r#" { "p" : 9007199254740993 , "m" : null , "o" : "'''\u0022\"\"\\ \n\t\u0000 \u00e9 日本 {} #" , "l" : [ null , { "n" : null } ] , "k" : 1.00 , "j" : 1 , "i" : -0 , "g" : 0.1000000000000000055511151231257827021181583404541015625 , "f" : -170141183460469231731687303715884105729 , "e" : 170141183460469231731687303715884105729 , "d" : 170141183460469231731687303715884105727 , "c" : 18446744073709551617 , "b" : 18446744073709551616 , "a" : 18446744073709551615 } "#;

fn shown(text: &str) -> String {
    format!("{{\"shown\":{text}}}")
}

/// What the plugin of a link has been given.
fn given(site: &Site, link: &str) -> String {
    site.client.produce("east", "in", &[json!({"value": "{\"do\":\"show\"}"})]);
    site.client.await_caught_up(link);
    let records = site.client.records("west", &format!("{link}.in"), 0);
    let value = records.last().and_then(|record| record.value.clone()).expect("a value");
    String::from_utf8(value).expect("text")
}

fn printed(site: &Site, words: &[&str]) -> String {
    let output = site.cli(words);
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    // As it was before it was made readable.
    let mut is_quoted = false;
    let mut escaped = false;
    text.chars()
        .filter(|char| {
            let keeps = is_quoted || !char.is_whitespace();
            (is_quoted, escaped) = match char {
                '"' if !escaped => (!is_quoted, false),
                '\\' if !escaped => (is_quoted, true),
                _ => (is_quoted, false),
            };
            keeps
        })
        .collect()
}

fn define(site: &Site, link: &str, config: &str) -> crate::harness::Answer {
    let digest = tidegate::model::Digest::of(&plugin_bytes("obey"));
    let body = format!(
        r#"{{"id":"{link}","autostart":true,"source_cluster":{{"cluster_id":"east"}},"target_cluster":{{"cluster_id":"west"}},"topics":["in"],
            "topic_prefix":"{link}.","pipeline":[{{"stage":"obey","plugin":"{digest}","config":{config}}}]}}"#
    );
    site.client.send("POST", LINKS, None, &body)
}

#[test]
fn what_was_defined_is_what_the_plugin_is_given() {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    printed(&site, &["topic", "create", "east", "in"]);
    printed(&site, &["plugin", "store", &plugin("obey").display().to_string()]);

    let made = define(&site, "rest", &shown(WRITTEN));
    assert_eq!(made.status, 201, "{}", made.body);
    printed(&site, &["link", "start", "rest"]);
    assert_eq!(given(&site, "rest"), EXACT, "by a definition");
    let defined = printed(&site, &["link", "definition", "rest"]);
    assert!(defined.contains(&shown(EXACT)), "{defined}");
    let has_all = |revisions: usize| {
        let history = printed(&site, &["plugin", "history", "rest", "--json"]);
        assert_eq!(history.matches(&shown(EXACT)).count(), revisions, "{history}");
        let stage = site.client.get(&format!("{LINKS}/rest/stages/obey/revisions")).expect("an answer").body;
        assert_eq!(stage.matches(&shown(EXACT)).count(), revisions, "{stage}");
    };
    has_all(1);

    let publish = |config: &str| {
        let file = plugin("obey").display().to_string();
        printed(&site, &["plugin", "publish", "rest", "obey", &file, "--config", config])
    };
    publish("{}");
    assert_eq!(given(&site, "rest"), "");
    publish(&shown(WRITTEN));
    assert_eq!(given(&site, "rest"), EXACT, "by the command line");
    has_all(2);
    publish("{}");
    let path = format!("{LINKS}/rest/stages/obey/revisions?config={}", percent_encoded(&shown(WRITTEN)));
    assert_eq!(site.client.post(&path, plugin_bytes("obey")).expect("an answer").status, 201);
    assert_eq!(given(&site, "rest"), EXACT, "by a request");
    has_all(3);
    publish("{}");
    printed(&site, &["plugin", "rollback", "rest"]);
    assert_eq!(given(&site, "rest"), EXACT, "by a rollback");
    has_all(4);

    daemon.terminate();
    let _daemon = site.start();
    assert_eq!(given(&site, "rest"), EXACT, "after a restart");
    has_all(4);
}

#[test]
fn what_the_file_says_is_what_the_plugin_is_given_and_no_reason_for_a_revision() {
    let config = "{ a = 9223372036854775807, b = -32768, c = 1e2, d = 0.1000000000000000055511151231257827, e = 1_000.5, f = 1979-05-27 }";
    let link = |config: &str| {
        format!(
            "{CLUSTERS}[links.file]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\ntopic_prefix = \"file.\"\n\
             [[links.file.pipeline]]\nstage = \"obey\"\nplugin = \"PLUGINS/obey.wasm\"\nconfig = {{ shown = {config} }}\n"
        )
    };
    let site = Site::new(&link(config));
    let daemon = site.start();
    printed(&site, &["topic", "create", "east", "in"]);
    let expected = r#"{"a":9223372036854775807,"b":-32768,"c":100.0,"d":0.1000000000000000055511151231257827,"e":1000.5,"f":"1979-05-27"}"#;
    assert_eq!(given(&site, "file"), expected);
    daemon.terminate();
    // Written otherwise, and nothing else said.
    site.configure(&link(&config.replace("1e2", "100.00").replace("1_000.5", "10005e-1")));
    let daemon = site.start();
    assert_eq!(given(&site, "file"), expected);
    assert_eq!(site.client.revisions("file").len(), 1);
    daemon.terminate();
    for (number, why) in [
        ("18446744073709551617", "does not fit a 64-bit integer"),
        ("1e400", "does not fit a 64-bit float"),
        ("nan", "JSON has no number for nan"),
    ] {
        site.configure(&link(&config.replace("1e2", number)));
        let (status, said) = site.run_to_end();
        assert!(
            !status.success() && said.contains("links.file.pipeline[0].config.shown.c") && said.contains(why),
            "{said}"
        );
    }
}

#[test]
fn what_a_form_cannot_say_is_an_error_with_its_path() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    printed(&site, &["plugin", "store", &plugin("obey").display().to_string()]);
    let twice = define(&site, "twice", r#"{"shown":{"a":1,"a":2}}"#);
    assert!(twice.status == 422 || twice.status == 400, "{}", twice.body);
    assert!(twice.body.contains("$.pipeline[0].config.shown.a"), "{}", twice.body);
    let nothing = define(&site, "nothing", "[1]");
    assert!(nothing.body.contains("$.pipeline[0].config"), "{}", nothing.body);
    let output = site.cli(&["plugin", "publish", "x", "y", "z.wasm", "--config", r#"{"a":[{"b":1,"b":2}]}"#]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("$.a[0].b"), "{said}");
    let body = r#"{"id":"w","source_cluster":{"cluster_id":"east"},"target_cluster":{"cluster_id":"west"},"topics":["in"],"topic_prefix":"w.",
        "filter":{"where":{"header":"h","equals":null}}}"#;
    let refused = site.client.send("POST", LINKS, None, body);
    assert!(refused.status >= 400 && refused.body.contains("$.filter.where.equals"), "{}", refused.body);
}

/// The filter that was found to drop what it should keep.
#[test]
fn a_filter_tells_large_numbers_and_nulls_apart() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    printed(&site, &["topic", "create", "east", "in"]);
    let digest = tidegate::model::Digest::of(&plugin_bytes("json-filter"));
    printed(&site, &["plugin", "store", &plugin("json-filter").display().to_string()]);
    let records = [
        r#"{"d":18446744073709551616}"#,
        r#"{"d":18446744073709551617}"#,
        r#"{"d":[18446744073709551616]}"#,
        r#"{"d":[18446744073709551617]}"#,
        r#"{"d":{"x":null,"y":1}}"#,
        r#"{"d":{"y":1}}"#,
        r#"{"d":null}"#,
    ];
    site.client.produce("east", "in", &records.map(|value| json!({ "value": value })));
    for (link, equals, kept) in [
        ("large", "18446744073709551617", 1),
        ("list", "[18446744073709551617]", 3),
        ("object", r#"{"x":null,"y":1}"#, 4),
        ("null", "null", 6),
    ] {
        let body = format!(
            r#"{{"id":"{link}","source_cluster":{{"cluster_id":"east"}},"target_cluster":{{"cluster_id":"west"}},"topics":["in"],
                "topic_prefix":"{link}.","pipeline":[{{"stage":"s","plugin":"{digest}","config":{{"pointer":"/d","equals":{equals}}}}}]}}"#
        );
        let made = site.client.send("POST", LINKS, None, &body);
        assert_eq!(made.status, 201, "{}", made.body);
        printed(&site, &["link", "start", link]);
        site.client.await_caught_up(link);
        let copied = site.client.records("west", &format!("{link}.in"), 0);
        let copied: Vec<_> = copied.into_iter().map(|record| record.value.expect("a value")).collect();
        assert_eq!(copied, [records[kept].as_bytes()], "{link}");
    }
}

#[test]
fn a_time_is_checked_to_its_end() {
    for (time, is_fine) in [
        ("2024-01-15T10:00:00.123Z", true),
        ("2024-01-15t10:00:00.123456z", true),
        ("2024-01-15T10:00:00.123abcZ", false),
        ("2024-01-15T10:00:00.Z", false),
    ] {
        let link = "[links.l]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"in\"]\ntopic_prefix = \"l.\"\n";
        let site = Site::new(&format!("{CLUSTERS}{link}filter.min_timestamp = \"{time}\"\n"));
        let output = site.cli(&["check", "--config", &site.config().display().to_string()]);
        assert_eq!(output.status.success(), is_fine, "{time}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
