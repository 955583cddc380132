//! The interface as it is documented for operators, with embedded clusters; and everything that is sent by mistake.

pub mod lines;

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tidegate::api::wire::Problem;

use crate::harness::{LINKS, Site};
use lines::Ground;

const CLUSTERS: &str = "[clusters.us-west-1]\nkind = \"embedded\"\n[clusters.us-east-1]\nkind = \"embedded\"\n";

#[test]
fn every_documented_line_does_what_it_says_with_embedded_clusters() {
    let site = Site::new(CLUSTERS);
    let _daemon = site.start();
    lines::play(&Ground {
        site: &site,
        source: json!({ "cluster_id": "us-west-1" }),
        target: json!({ "cluster_id": "us-east-1" }),
        run: "1".to_owned(),
    });
}

fn definition() -> Value {
    json!({
        "id": "flow", "source_cluster": { "cluster_id": "us-west-1" }, "target_cluster": { "cluster_id": "us-east-1" },
        "topics": ["orders"],
    })
}

/// A site with a link that is stopped.
fn site_with_link() -> (Site, crate::harness::Daemon) {
    let site = Site::new(CLUSTERS);
    let daemon = site.start();
    assert_eq!(site.client.send("POST", LINKS, None, &definition().to_string()).status, 201);
    (site, daemon)
}

/// A request as it goes over the wire, whatever is in it: the status, and the problem document.
fn raw(site: &Site, head: &str, body: &[u8]) -> (u16, Problem) {
    let mut stream = TcpStream::connect(("127.0.0.1", site.port)).expect("the daemon listens");
    let head = format!(
        "{head}\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        site.port,
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
    assert!(answer.to_lowercase().contains("content-type: application/problem+json"), "{answer}");
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).expect("a body");
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}")))
}

/// All errors of a body, each with its path: none hides another one.
#[test]
fn a_body_with_many_mistakes_hears_of_all_of_them() {
    let (site, _daemon) = site_with_link();
    let wrong = json!({
        "id": "other", "name": 7, "type": "ring", "topics": "orders", "topic_prefix": "a b", "colour": "red",
        "source_cluster": { "cluster_id": "us-west-2" },
        "target_cluster": { "cluster_id": "dr", "brokers": ["nowhere", "a:99999"], "connection_timeout": "30", "request_timeout": 10,
            "max_retries": -1, "security": { "enable_tls": "yes", "tls_file": "x" } },
        "config": { "max_bytes": "ten", "max_messages": 0, "batch_size": 1e300, "concurrent_partitions": "10", "compression_type": "brotli",
            "throttle_rate_bytes_per_sec": -5, "checkpoint_interval_ms": 18_446_744_073_709_551_615_u64, "enable_exactly_once": "no" },
        "failover_config": { "enabled": 1, "failover_threshold": 0, "failover_timeout_ms": "60s", "max_consecutive_failures": 0.5,
            "notification_webhook": "ftp://x" },
        "filter": { "enabled": null, "include_patterns": ["("], "filter_by_header": { "region": 1 }, "min_timestamp": "yesterday" },
        "transform": { "add_headers": { "x": "${nonsense}" }, "header_transforms": { "region": "a b" }, "remove_headers": [1] },
    });
    let answer = site.client.send("POST", LINKS, None, &wrong.to_string());
    assert_eq!(answer.status, 400, "{}", answer.body);
    let problem: Problem = serde_json::from_str(&answer.body).expect("a problem");
    let paths: Vec<&str> = problem.errors.iter().map(|fault| &*fault.path).collect();
    for path in [
        "$.name",
        "$.type",
        "$.topics",
        "$.topic_prefix",
        "$.colour",
        "$.source_cluster.cluster_id",
        "$.target_cluster.brokers[0]",
        "$.target_cluster.brokers[1]",
        "$.target_cluster.connection_timeout",
        "$.target_cluster.request_timeout",
        "$.target_cluster.max_retries",
        "$.target_cluster.security.enable_tls",
        "$.target_cluster.security.tls_file",
        "$.config.max_bytes",
        "$.config.max_messages",
        "$.config.batch_size",
        "$.config.concurrent_partitions",
        "$.config.compression_type",
        "$.config.throttle_rate_bytes_per_sec",
        "$.config.checkpoint_interval_ms",
        "$.config.enable_exactly_once",
        "$.failover_config.enabled",
        "$.failover_config.failover_threshold",
        "$.failover_config.failover_timeout_ms",
        "$.failover_config.max_consecutive_failures",
        "$.failover_config.notification_webhook",
        "$.filter.include_patterns[0]",
        "$.filter.filter_by_header.region",
        "$.filter.min_timestamp",
        "$.transform.add_headers.x",
        "$.transform.header_transforms.region",
        "$.transform.remove_headers[0]",
    ] {
        assert!(paths.contains(&path), "{path} is not in {paths:?}");
    }
    assert!(problem.errors.iter().all(|fault| !fault.message.is_empty()));
    assert_eq!(site.client.send("GET", &format!("{LINKS}/other"), None, "").status, 404, "nothing was made");
}

/// The same of a change, which leaves the link as it is.
#[test]
fn a_change_with_mistakes_changes_nothing() {
    let (site, _daemon) = site_with_link();
    let place = format!("{LINKS}/flow");
    for (body, path) in [
        (r#"{"config":{"batch_size":"x"}}"#, "$.config.batch_size"),
        (r#"{"config":null,"config":{"batch_size":5}}"#, "$.config"),
        (r#"{"config":{"batch_size":5,"batch_size":6}}"#, "$.config.batch_size"),
        (r#"{"id":"other"}"#, "$.id"),
        (
            r#"{"source_cluster":{"cluster_id":"us-east-1"},"target_cluster":{"cluster_id":"us-west-1"}}"#,
            "$.source_cluster.cluster_id",
        ),
        (r#"{"topics":null}"#, "$"),
        (r#"{"config":{"odd key":1}}"#, "$.config.\"odd key\""),
    ] {
        let answer = site.client.send("PUT", &place, None, body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        let problem: Problem = serde_json::from_str(&answer.body).expect("a problem");
        assert!(problem.errors.iter().any(|fault| fault.path == path), "{path}: {}", answer.body);
    }
    let link = site.client.link("flow");
    assert_eq!((link.version, link.config.batch_size), (Some(1), 1000));
}

/// Requests that are about one thing only hear of all their mistakes, too.
#[test]
fn every_small_request_hears_of_all_its_mistakes() {
    let (site, _daemon) = site_with_link();
    let cases: [(&str, &str, &[&str]); 7] = [
        (
            "links/flow/throttle",
            r#"{"throttle_rate_bytes_per_sec":"fast","x":1}"#,
            &["$.throttle_rate_bytes_per_sec", "$.x"],
        ),
        ("links/flow/relane", r#"{"lanes":-1,"y":2}"#, &["$.lanes", "$.y"]),
        ("links/flow/relane", "{}", &["$"]),
        ("links/flow/resets", r#"{"topic":1,"to":"now","partition":"0"}"#, &["$.partition", "$.to", "$.topic"]),
        ("links/flow/rollback", r#"{"to":"one","by":1}"#, &["$.by", "$.to"]),
        ("links/flow/groups/sync", r#"{"groups":"all","dry_run":1}"#, &["$.dry_run", "$.groups"]),
        ("links/flow/relane", r#"{"lanes":2,"lanes":3}"#, &["$.lanes"]),
    ];
    for (path, body, faults) in cases {
        let answer = site.client.send("POST", &format!("/api/v1/replication/{path}"), None, body);
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        let problem: Problem = serde_json::from_str(&answer.body).expect("a problem");
        let mut paths: Vec<&str> = problem.errors.iter().map(|fault| &*fault.path).collect();
        paths.sort_unstable();
        assert_eq!((&*problem.code, paths), ("invalid-document", faults.to_vec()), "{path}: {}", answer.body);
    }
    let topic = site.client.send("POST", "/api/v1/clusters/us-west-1/topics", None, r#"{"partitions":"2","foo":1}"#);
    let problem: Problem = serde_json::from_str(&topic.body).expect("a problem");
    assert_eq!((topic.status, problem.errors.len()), (400, 3), "{}", topic.body);
}

/// What is no JSON object, is packed, or says that it is something else.
#[test]
fn a_body_that_is_no_document_is_refused() {
    let (site, _daemon) = site_with_link();
    let post = format!("POST {LINKS} HTTP/1.1");
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let utf_16: Vec<u8> = "{\"id\":\"x\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [
        &b""[..],
        b"null",
        b"[]",
        b"7",
        b"{",
        b"{}{}",
        b"{\"a\":\"\xff\"}",
        b"\xef\xbb\xbf{}",
        &utf_16,
        deep.as_bytes(),
        b"id=x&name=y",
    ] {
        let (status, problem) = raw(&site, &post, body);
        assert_eq!((status, &*problem.code), (400, "bad-json"), "{:?}", body.escape_ascii().to_string());
    }
    for said in [
        "Content-Type: application/xml",
        "Content-Type: multipart/form-data; boundary=x",
        "Content-Type: application/json; charset=utf-16",
        "Content-Encoding: gzip",
    ] {
        let (status, problem) = raw(&site, &format!("{post}\r\n{said}"), definition().to_string().as_bytes());
        assert_eq!((status, &*problem.code), (415, "unsupported-body"), "{said}");
    }
    let many = json!({ "topics": vec![Value::Null; 100_000] }).to_string();
    let (status, problem) = raw(&site, &post, many.as_bytes());
    assert_eq!((status, problem.errors.len()), (400, 1000), "the beginning is enough");
    assert_eq!(site.client.read::<Vec<Value>>(LINKS).len(), 1);
}

/// Every path of a link, with ids that nobody has, and every method that it does not take.
#[test]
fn unknown_ids_and_wrong_methods_are_refused_everywhere() {
    let (site, _daemon) = site_with_link();
    let long = "a".repeat(4_000);
    for endpoint in tidegate::api::endpoints().into_iter().filter(|it| it.path.contains("{link}")) {
        let named =
            |id: &str| endpoint.path.replace("{link}", id).replace("{event}", "failover-1").replace("{stage}", "s");
        for id in ["nobody", "%00", "..%2f..%2fetc", "a%20b", "%F0%9F%98%80", "%22%3E", "flow%0d%0aX:%201", &long] {
            let path = named(id);
            let body = match (&*endpoint.path, endpoint.method.as_str()) {
                (path, _) if path.ends_with("/throttle") => r#"{"throttle_rate_bytes_per_sec":null}"#,
                (path, _) if path.ends_with("/relane") => r#"{"lanes":1}"#,
                (path, _) if path.ends_with("/resets") => r#"{"topic":"orders","to":"latest"}"#,
                (path, _) if path.ends_with("/groups/sync") => r#"{"groups":["x"]}"#,
                (_, "PUT") => "{}",
                _ => "",
            };
            let answer = site.client.send(endpoint.method.as_str(), &path, None, body);
            assert_eq!(answer.status, 404, "{} {path}: {}", endpoint.method, answer.body);
            let problem: Problem = serde_json::from_str(&answer.body).expect("a problem");
            assert_eq!(problem.code, "link-not-found", "{}", answer.body);
        }
        let (status, problem) = raw(&site, &format!("PATCH {} HTTP/1.1", named("flow")), b"{}");
        assert_eq!((status, &*problem.code), (405, "method-not-allowed"), "{}", endpoint.path);
    }
}

/// Words behind the question mark that mean nothing are not passed over: `?dryrun=true` must not fail anything over.
#[test]
fn a_parameter_that_means_nothing_is_refused() {
    let (site, _daemon) = site_with_link();
    for (method, path) in [
        ("POST", "/flow/start?force=true"),
        ("POST", "/flow/stop?dry_run=true"),
        ("POST", "/flow/pause?x"),
        ("POST", "/flow/resume?drain=1"),
        ("POST", "/flow/failover?dryrun=true"),
        ("POST", "/flow/failover?dry_run=maybe"),
        ("POST", "/flow/failover?drain_timeout=5"),
        ("POST", "/flow/failback?dry=true"),
        ("DELETE", "/flow/failback?x=1"),
        ("DELETE", "/flow?force=true"),
        ("GET", "?limit=none"),
        ("GET", "?limit=0"),
        ("GET", "?offset=3"),
    ] {
        let answer = site.client.send(method, &format!("{LINKS}{path}"), None, "");
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("bad-query")),
            "{method} {path}: {}",
            answer.body
        );
    }
    assert_eq!(site.client.link("flow").status.word(), "stopped");
}
