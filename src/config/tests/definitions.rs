//! Definitions in JSON, and what their form cannot say.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CLUSTERS, config};
use crate::config::{
    ClusterKind, Defined, DefinitionSettings, LinkConfig, Peer, Surroundings, json_path, read_definition,
};
use crate::model::json::tests::any_json;
use crate::model::{Digest, Json, JsonObject, Limits};

/// Read a definition whose clusters are there, with `more` in it: the link, or what is wrong, a line each.
fn define(more: &Json) -> Result<LinkConfig, Vec<String>> {
    define_within(None, more)
}

/// The same on a daemon with a directory of secrets.
fn define_within(secrets_dir: Option<&Path>, more: &Json) -> Result<LinkConfig, Vec<String>> {
    read_within(secrets_dir, more).map(|defined| defined.link)
}

fn read_within(secrets_dir: Option<&Path>, more: &Json) -> Result<Defined, Vec<String>> {
    let clusters = config(CLUSTERS).clusters;
    let settings = DefinitionSettings {
        limits: Limits::default(),
        secrets_dir: secrets_dir.map(Path::to_owned),
        insecure_plaintext: false,
    };
    let around = Surroundings { clusters: &clusters, in_place: &BTreeMap::new(), links: &[], settings: &settings };
    let whole: Json =
        json!({"source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "west"}, "topics": ["t"]})
            .into();
    let (Json::Object(mut definition), Json::Object(more)) = (whole, more.clone()) else { panic!("two objects") };
    definition.extend(more);
    let defined = read_definition("l", &definition, &around);
    defined.map_err(|found| found.iter().map(|found| format!("{}: {}", json_path(found), found.message)).collect())
}

#[test]
fn a_webhook_is_signed_for_the_hosts_that_are_listed_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    write("hook", "https://a.example.com/x");
    write("key", "planted");
    let more: Json =
        json!({"failover_config": {"notification_webhook": "${file:hook}", "notification_secret": "${file:key}"}})
            .into();
    let refused = define_within(Some(dir.path()), &more).expect_err("no list");
    assert!(refused[0].contains("may not be sent to a.example.com: "), "{refused:?}");
    write("brokers", "a.example.com:443\n");
    let webhook = define_within(Some(dir.path()), &more).expect("a link").failover.webhook.expect("a webhook");
    let is_signed = || webhook.signing_key(&webhook.address().expect("an address")).map(|key| key.is_some());
    assert_eq!(is_signed(), Ok(true));
    // Its address is in a file, which may be another one when the message is sent.
    write("hook", "https://b.example.com/x");
    let refused = is_signed().expect_err("another host");
    assert!(refused.ends_with("beside the secret has no line for b.example.com:443"), "{refused}");
    write("brokers", "b.example.com\n");
    assert_eq!(is_signed(), Ok(true));
}

/// A definition chooses the brokers and the name that their certificates have to have; it must not choose who gets to see a certificate of the daemon.
#[test]
fn a_certificate_is_shown_to_the_brokers_that_are_listed_now() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
    ["cert.pem", "key.pem"].iter().for_each(|name| write(name, "planted"));
    let tls = json!({
        "enable_tls": true, "tls_cert_file": "cert.pem", "tls_key_file": "key.pem", "tls_server_name": "kafka.internal",
    });
    let cluster = json!({"cluster_id": "k", "brokers": ["broker.example:9092"], "security": tls});
    let more: Json = json!({ "source_cluster": cluster }).into();
    for (list, unlisted) in [
        ("", Some("broker.example")),
        ("kafka.internal", Some("broker.example")),
        ("broker.example", Some("kafka.internal")),
        ("broker.example:9092\nkafka.internal\n", None),
    ] {
        write("brokers", list);
        let refused = read_within(Some(dir.path()), &more).err().unwrap_or_default().join("\n");
        let expected = unlisted.map(|host| {
            format!(
                "$.source_cluster.security.tls_key_file: this certificate may not be shown to {host}: add a line with \
                 that host to the file \"brokers\" in the directory of the secret"
            )
        });
        assert_eq!(refused, expected.unwrap_or_default(), "{list}");
    }
    let defined = read_within(Some(dir.path()), &more).expect("a link");
    let (cluster, _) = &defined.clusters["k"];
    let ClusterKind::Kafka(kafka) = &cluster.kind else { panic!("a Kafka cluster") };
    let identity = kafka.security.tls.as_ref().and_then(|tls| tls.identity.as_ref()).expect("a certificate");
    let admits = |address| {
        let peer = Peer { address, in_clear_text: false };
        identity.bound.as_ref().expect("bound").admit(peer).is_ok()
    };
    assert_eq!([admits("broker.example:9092"), admits("other.example:9092")], [true, false]);
    write("brokers", "other.example\nkafka.internal\n");
    assert_eq!([admits("broker.example:9092"), admits("other.example:9092")], [false, true]);
}

/// What is beside a file that may not be used is not read: who defines links must learn nothing of it.
#[test]
fn nothing_is_read_beside_a_file_that_is_not_allowed() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let file = dir.path().join(name);
        std::fs::create_dir_all(file.parent().expect("a directory")).expect("made");
        std::fs::write(file, text).expect("a file");
    };
    ["secrets/cert.pem", "secrets/key.pem", "outside/key.pem"].iter().for_each(|name| write(name, "planted"));
    let secrets = dir.path().join("secrets");
    let outside = dir.path().join("outside/key.pem");
    let refused = |key: &str| {
        let tls = json!({ "enable_tls": true, "tls_cert_file": "cert.pem", "tls_key_file": key });
        let cluster = json!({"cluster_id": "k", "brokers": ["broker.example:9092"], "security": tls});
        read_within(Some(&secrets), &json!({ "source_cluster": cluster }).into()).err().unwrap_or_default()
    };
    for key in ["../outside/key.pem", outside.to_str().expect("a path"), "../nowhere/key.pem"] {
        let said = ["broker.example", "other.example"].map(|list| {
            write("outside/brokers", list);
            refused(key)
        });
        let expected = format!(
            "$.source_cluster.security.tls_key_file: there is no such file in the secrets_dir of the daemon: {key:?}"
        );
        assert_eq!(said, [[expected.clone()], [expected]]);
    }
    write("secrets/brokers", "broker.example");
    assert_eq!(refused("key.pem"), Vec::<String>::new());
}

fn with_config(config: Json) -> Json {
    let plugin = Digest::of(b"plugin").to_string();
    let stage = [("stage", Json::String("s".to_owned())), ("plugin", Json::String(plugin)), ("config", config)];
    let stage: JsonObject = stage.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Json::Object([("pipeline".to_owned(), Json::Array(vec![Json::Object(stage)]))].into())
}

/// What the plugin gets.
fn given(config: Json) -> Result<Json, Vec<String>> {
    define(&with_config(config)).map(|link| link.pipeline[0].config.value.clone())
}

#[track_caller]
fn check(more: Value, expected: &[&str]) {
    assert_eq!(define(&more.clone().into()).err().unwrap_or_default(), expected, "{more}");
}

#[test]
fn a_plugin_gets_its_configuration_as_it_was_defined() {
    let text = r#"{"a":18446744073709551617,"b":null,"c":{"d":[null,1e400,-0.0,1.0,1]},"e":"'\"\\\n\u0000\u2028'''","f":170141183460469231731687303715884105729,"g":0.1000000000000000055511151231257827}"#;
    let config = Json::parse(text).expect("JSON");
    assert_eq!(given(config.clone()), Ok(config));
    assert_eq!(given(json!({}).into()), Ok(json!({}).into()));
    assert_eq!(given(Json::Null), Ok(json!({}).into()), "nothing is set");
}

#[test]
fn what_a_plugin_says_is_wrong_finds_its_path() {
    let config = json!({"list": [1, {"a b": 2}], "n": 1});
    let link = define(&with_config(config.into())).expect("a link");
    let at = |pointer: &str| link.pipeline[0].config.place(pointer).key.clone();
    assert_eq!(at("/list/1/a b"), "pipeline[0].config.list[1].\"a b\"");
    assert_eq!(at("/n/x"), "pipeline[0].config.n");
    assert_eq!(at(""), "pipeline[0].config");
}

#[test]
fn a_configuration_that_is_no_object_is_refused() {
    for (config, found) in [
        (json!("{\"a\":1}"), "a string"),
        (json!([1]), "an array"),
        (json!(1), "a number"),
        (json!(true), "true or false"),
    ] {
        let expected = format!("$.pipeline[0].config: expected an object, found {found}");
        assert_eq!(given(config.into()), Err(vec![expected]));
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100), "]".repeat(100));
    let found = given(Json::parse(&deep).expect("JSON")).expect_err("too deep");
    assert_eq!(found, ["$.pipeline[0].config: nested too deeply: 64 levels are the limit"]);
}

#[test]
fn null_says_that_a_setting_is_not_set_and_nothing_else() {
    for more in [
        json!({"name": null, "lanes": null, "config": {"max_messages": null}, "filter": null, "health": {"interval": null}}),
        json!({"filter": {"where": null, "filter_by_header": null}, "transform": {"add_headers": null}}),
    ] {
        check(more, &[]);
    }
    let found = "expected a value, found null";
    for (more, path) in [
        (json!({"filter": {"where": {"header": "h", "equals": null}}}), "$.filter.where.equals"),
        (json!({"filter": {"where": {"not": {"header": "h", "equals": null}}}}), "$.filter.where.not.equals"),
        (json!({"filter": {"where": {"and": [{"header": "h", "equals": null}]}}}), "$.filter.where.and[0].equals"),
        (json!({"filter": {"filter_by_header": {"h": null}}}), "$.filter.filter_by_header.h"),
        (json!({"transform": {"add_headers": {"a b": null}}}), "$.transform.add_headers.\"a b\""),
        (json!({"transform": {"header_transforms": {"h": null}}}), "$.transform.header_transforms.h"),
        (json!({"topics": ["t", null]}), "$.topics[1]"),
        (json!({"topics_exclude": [null]}), "$.topics_exclude[0]"),
        (json!({"pipeline": [null]}), "$.pipeline[0]"),
    ] {
        check(more, &[&format!("{path}: {found}")]);
    }
    check(json!({"lanse": null}), &["$.lanse: unknown key \"lanse\""]);
    check(json!({"topics": null}), &["$: \"topics\" is missing"]);
}

#[test]
fn a_number_that_no_setting_can_have_is_refused_with_its_path() {
    for number in ["9223372036854775808", "18446744073709551617", "1e400", "-9223372036854775809"] {
        let more = Json::parse(&format!("{{\"config\":{{\"max_messages\":{number}}}}}")).expect("JSON");
        let found = define(&more).expect_err("an error").join("\n");
        assert!(found.starts_with("$.config.max_messages: "), "{found}");
        assert!(found.contains("out of range"), "{found}");
    }
}

/// As TOML writes it, if it can.
fn toml_of(value: &Json) -> Option<String> {
    // TOML takes every escape that JSON needs, and wants one more.
    let quoted = |text: &str| Json::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f");
    Some(match value {
        Json::Null => return None,
        Json::Bool(flag) => flag.to_string(),
        Json::String(text) => quoted(text),
        Json::Number(number) => {
            let text = number.as_str();
            let is_integer = !text.contains(['.', 'e', 'E']);
            let fits = if is_integer { text.parse::<i64>().is_ok() } else { text.parse().is_ok_and(f64::is_finite) };
            fits.then(|| text.to_owned())?
        }
        Json::Array(values) => {
            format!("[{}]", values.iter().map(toml_of).collect::<Option<Vec<_>>>()?.join(", "))
        }
        Json::Object(members) => {
            let member = |(name, value): (&String, &Json)| Some(format!("{} = {}", quoted(name), toml_of(value)?));
            format!("{{ {} }}", members.iter().map(member).collect::<Option<Vec<_>>>()?.join(", "))
        }
    })
}

proptest! {
    #[test]
    fn what_is_defined_is_what_the_plugin_is_given(members in prop::collection::btree_map(any::<String>(), any_json(), 0..6)) {
        let config = Json::Object(members);
        prop_assert_eq!(given(config.clone()), Ok(config));
    }

    #[test]
    fn what_the_file_says_is_what_the_plugin_is_given(members in prop::collection::btree_map("[a-zé\" ]{1,4}", any_json(), 0..6)) {
        let members: JsonObject = members.into_iter().filter(|(_, value)| toml_of(value).is_some()).collect();
        let value = Json::Object(members);
        let written = toml_of(&value).expect("TOML");
        let text = format!(
            "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[[links.l.pipeline]]\nstage = 's'\n\
             plugin = 'plugins/redact.wasm'\nconfig = {written}\n{CLUSTERS}"
        );
        prop_assert_eq!(&config(&text).links["l"].pipeline[0].config.value, &value);
    }
}
