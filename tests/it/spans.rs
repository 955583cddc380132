//! Spans for a collector of OpenTelemetry.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::failover::request;
use crate::harness::{Site, wait_until};

/// A span as it was sent.
struct Span {
    name: String,
    trace: String,
    id: String,
    parent: String,
    attributes: BTreeMap<String, String>,
}

/// A collector that answers with `status`, and what it is sent.
fn collector(status: &'static str) -> (String, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let (tell, told) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (head, body) = request(&mut stream);
            let _test_has_ended = tell.send((head, serde_json::from_slice(&body).expect("JSON")));
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}")
                .expect("answered");
        }
    });
    (endpoint, told)
}

fn site(endpoint: &str) -> Site {
    let clusters = ["east", "west"].map(|id| format!("[clusters.{id}]\nkind = \"embedded\"\ntopics.orders = {{}}\n"));
    Site::new(&format!(
        "[daemon.otlp]\nendpoint = \"{endpoint}\"\none_in = 1\n{}\
         [links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n\
         [[links.copy.pipeline]]\nstage = \"only-paid\"\nplugin = \"PLUGINS/json-filter.wasm\"\n\
         config = {{ pointer = \"/status\", equals = \"paid\" }}\n",
        clusters.concat(),
    ))
}

fn write(site: &Site) {
    let records: Vec<Value> = (0..10).map(|_| json!({ "value": r#"{"status":"paid"}"# })).collect();
    site.client.produce("east", "orders", &records);
}

fn spans(body: &Value) -> Vec<Span> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let scopes = list(body, "resourceSpans").iter().flat_map(|it| list(it, "scopeSpans")).collect::<Vec<_>>();
    let attribute = |it: &Value| {
        let value = it["value"].as_object().and_then(|value| value.values().next()).map(ToString::to_string);
        (text(&it["key"]), value.unwrap_or_default().replace('"', ""))
    };
    let span = |it: Value| Span {
        name: text(&it["name"]),
        trace: text(&it["traceId"]),
        id: text(&it["spanId"]),
        parent: text(&it["parentSpanId"]),
        attributes: list(&it, "attributes").iter().map(attribute).collect(),
    };
    scopes.iter().flat_map(|scope| list(scope, "spans")).map(span).collect()
}

#[test]
fn a_transaction_is_told_with_what_was_done_in_it() {
    let (endpoint, told) = collector("200 OK");
    let site = site(&endpoint);
    let daemon = site.start();
    write(&site);
    site.client.await_caught_up("copy");
    assert!(!daemon.stderr().contains("batch{"), "the log has something of it: {}", daemon.stderr());
    daemon.terminate();
    let sent: Vec<(String, Value)> = told.try_iter().collect();
    assert!(sent.iter().all(|(head, _)| head.starts_with("post /v1/traces http/1.1\r\n")), "{:?}", sent[0].0);
    assert!(sent[0].1["resourceSpans"][0]["resource"].to_string().contains("tidegate"), "{}", sent[0].1);
    let spans: Vec<Span> = sent.iter().flat_map(|(_, body)| spans(body)).collect();
    let stage = spans.iter().find(|span| span.name == "stage").expect("a stage");
    assert_eq!(stage.attributes["stage"], "only-paid");
    let of = |id: &str| spans.iter().find(|span| span.id == id).expect("its parent");
    let batch = of(&stage.parent);
    assert_eq!((&*batch.name, &*batch.attributes["topic"]), ("batch", "orders"));
    let transaction = of(&batch.parent);
    assert_eq!((&*transaction.name, &*transaction.parent), ("transaction", ""));
    for (key, value) in [("link", "copy"), ("source", "east"), ("target", "west"), ("lane", "0"), ("revision", "1")] {
        assert_eq!(transaction.attributes[key], value);
    }
    let commits: Vec<&Span> = spans.iter().filter(|span| span.name == "commit").collect();
    assert!(commits.iter().any(|span| span.parent == transaction.id && span.trace == stage.trace));
    let out = |span: &Span| span.attributes.get("records_out").and_then(|count| count.parse::<u64>().ok());
    assert_eq!(spans.iter().filter_map(out).sum::<u64>(), 10, "all transactions together");
    // And who has asked for what.
    let posted = spans.iter().find(|span| span.name == "request" && span.attributes["method"] == "POST");
    let posted = &posted.expect("a request").attributes;
    assert_eq!((&*posted["route"], &*posted["status"]), ("/api/v1/clusters/{cluster}/topics/{topic}/records", "200"));
}

/// One that refuses, one that is not there, and one that takes them and never answers.
#[test]
fn nothing_waits_for_a_collector() {
    let (refusing, _told) = collector("500 Internal Server Error");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let kept = silent.try_clone().expect("the same port");
    thread::spawn(move || kept.incoming().collect::<Result<Vec<TcpStream>, _>>());
    let silent = format!("http://{}", silent.local_addr().expect("an address"));
    for endpoint in [&*refusing, "http://127.0.0.1:1", &*silent] {
        let site = site(endpoint);
        let daemon = site.start();
        for round in 1..=3 {
            write(&site);
            wait_until("all is copied", || site.client.ends("west", "orders")[0] == 10 * round);
        }
        daemon.terminate();
    }
}

/// What the environment of the daemon says of proxies is about the web, and not about collectors.
#[test]
fn spans_go_through_no_proxy() {
    let (endpoint, told) = collector("200 OK");
    let (proxy, proxied) = collector("502 Bad Gateway");
    let site = site(&endpoint);
    let mut command = site.command();
    for name in ["ALL_PROXY", "HTTP_PROXY", "all_proxy", "http_proxy"] {
        command.env(name, &proxy);
    }
    command.env_remove("NO_PROXY").env_remove("no_proxy");
    let mut daemon = site.spawn_with(command);
    site.await_ready(&mut daemon);
    write(&site);
    site.client.await_caught_up("copy");
    daemon.terminate();
    assert!(told.try_iter().count() > 0, "nothing came to the collector");
    assert_eq!(proxied.try_iter().count(), 0, "the proxy has got some");
}
