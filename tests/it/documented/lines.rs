//! Every line that an operator may type who knows the interface alone, in the order of a day's work, and every field of what is answered: its type, and what it means.
//!
//! The same lines are played with embedded clusters and with Kafka's. What they say of the clusters is all that differs.

use serde_json::{Value, json};
use tidegate::api::wire;

use crate::harness::{Answer, LINKS, Site, wait_until};

/// What two clusters are called here, and how a link is told where they are.
pub struct Ground<'s> {
    pub site: &'s Site,
    pub source: Value,
    pub target: Value,
    /// The topics of the source: `NAME` stands for what differs from run to run.
    pub run: String,
}

/// The type of a field.
#[derive(Clone, Copy, Debug)]
pub enum Is {
    Text,
    /// RFC 3339, in UTC.
    Time,
    Flag,
    /// A whole number that is known.
    Count,
    /// A number with or without a fraction.
    Rate,
    List,
    /// Of this type, or null while it is not known.
    Unknown(&'static Is),
    /// One of these words.
    Word(&'static [&'static str]),
}

impl Is {
    fn holds(self, value: &Value) -> bool {
        match self {
            Self::Text => value.as_str().is_some_and(|text| !text.is_empty()),
            Self::Time => value.as_str().is_some_and(|text| text.ends_with('Z') && text.parse::<wire::Time>().is_ok()),
            Self::Flag => value.is_boolean(),
            Self::Count => value.is_u64(),
            Self::Rate => value.is_number(),
            Self::List => value.is_array(),
            Self::Unknown(kind) => value.is_null() || kind.holds(value),
            Self::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
        }
    }
}

const STATUSES: Is = Is::Word(&["stopped", "starting", "active", "paused", "degraded", "failed", "failed_over"]);
const VERDICTS: Is = Is::Word(&["healthy", "degraded", "unhealthy"]);
const KNOWN_LATER: Is = Is::Unknown(&Is::Count);
const ASKED_LATER: Is = Is::Unknown(&Is::Flag);

pub const LINK: [(&str, Is); 14] = [
    ("/id", Is::Text),
    ("/name", Is::Text),
    ("/type", Is::Word(&["active-passive", "active-active"])),
    ("/status", STATUSES),
    ("/created_at", Is::Time),
    ("/started_at", Is::Unknown(&Is::Time)),
    ("/metrics/total_messages_replicated", Is::Count),
    ("/metrics/total_bytes_replicated", Is::Count),
    ("/metrics/messages_per_second", Is::Rate),
    ("/metrics/bytes_per_second", Is::Rate),
    ("/metrics/replication_lag", KNOWN_LATER),
    ("/health/status", VERDICTS),
    ("/health/source_cluster_reachable", ASKED_LATER),
    ("/health/target_cluster_reachable", ASKED_LATER),
];

pub const METRICS: [(&str, Is); 11] = [
    ("/total_messages_replicated", Is::Count),
    ("/total_bytes_replicated", Is::Count),
    ("/messages_per_second", Is::Rate),
    ("/bytes_per_second", Is::Rate),
    ("/replication_lag", KNOWN_LATER),
    ("/average_replication_lag", KNOWN_LATER),
    ("/max_replication_lag", KNOWN_LATER),
    ("/total_errors", Is::Count),
    ("/errors_per_second", Is::Rate),
    ("/consecutive_failures", Is::Count),
    ("/uptime_seconds", Is::Count),
];

pub const PARTITION: [(&str, Is); 7] = [
    ("/topic", Is::Text),
    ("/partition", Is::Count),
    ("/source_offset", KNOWN_LATER),
    ("/target_offset", KNOWN_LATER),
    ("/lag", KNOWN_LATER),
    ("/messages_replicated", Is::Count),
    ("/bytes_replicated", Is::Count),
];

pub const HEALTH: [(&str, Is); 9] = [
    ("/status", VERDICTS),
    ("/last_health_check", Is::Unknown(&Is::Time)),
    ("/source_cluster_reachable", ASKED_LATER),
    ("/target_cluster_reachable", ASKED_LATER),
    ("/replication_lag_healthy", ASKED_LATER),
    ("/error_rate_healthy", Is::Flag),
    ("/checkpoint_healthy", Is::Flag),
    ("/issues", Is::List),
    ("/warnings", Is::List),
];

pub const FAILOVER: [(&str, Is); 9] = [
    ("/id", Is::Text),
    ("/link_id", Is::Text),
    ("/type", Is::Word(&["failover", "failback"])),
    ("/reason", Is::Word(&["manual"])),
    ("/source_cluster_id", Is::Text),
    ("/target_cluster_id", Is::Text),
    ("/timestamp", Is::Time),
    ("/success", ASKED_LATER),
    ("/duration", Is::Text),
];

/// Whether an answer has every field, each of its type.
#[track_caller]
pub fn has_shape(value: &Value, shape: &[(&str, Is)]) {
    for (pointer, kind) in shape {
        let field = value.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not in {value}"));
        assert!(kind.holds(field), "{pointer} is to be {kind:?}, and is {field}");
    }
}

impl Ground<'_> {
    /// A name that no other run has.
    pub fn named(&self, name: &str) -> String {
        name.replace("RUN", &self.run)
    }

    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.site.client.send(method, path, None, body)
    }

    #[track_caller]
    pub fn asked(&self, method: &str, path: &str, body: &str, statuses: &[u16]) -> Value {
        let answer = self.ask(method, path, body);
        assert!(statuses.contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn link(&self, rest: &str) -> String {
        self.named(&format!("{LINKS}/link-RUN{rest}"))
    }

    fn await_status(&self, status: &str) {
        wait_until(status, || self.asked("GET", &self.link(""), "", &[200])["status"] == status);
    }

    /// Append records to a partition of the source's topic.
    fn produce(&self, topic: &str, records: &[Value]) {
        let cluster = self.source["cluster_id"].as_str().expect("an id");
        self.site.client.produce(cluster, &self.named(topic), records);
    }

    fn target_records(&self, topic: &str) -> Vec<wire::Record> {
        let cluster = self.target["cluster_id"].as_str().expect("an id");
        let topic = self.named(topic);
        let partitions = self.site.client.ends(cluster, &topic).len() as u32;
        (0..partitions).flat_map(|partition| self.site.client.records(cluster, &topic, partition)).collect()
    }

    fn metrics(&self) -> Value {
        self.asked("GET", &self.link("/metrics"), "", &[200])
    }

    fn partition(&self, name: &str) -> Value {
        self.metrics()["partition_metrics"][self.named(name)].clone()
    }

    /// Everything that can be said of a link, in one body.
    fn definition(&self) -> Value {
        json!({
            "id": self.named("link-RUN"),
            "name": "West to East",
            "type": "active-passive",
            "source_cluster": self.source,
            "target_cluster": self.target,
            "topics": [self.named("orders-RUN"), self.named("users-RUN"), self.named("inventory-RUN")],
            "topic_prefix": "",
            "config": {
                "max_bytes": 10_485_760, "max_messages": 10_000, "batch_size": 1_000, "concurrent_partitions": 3,
                "enable_compression": true, "compression_type": "snappy", "throttle_rate_bytes_per_sec": 104_857_600,
                "checkpoint_interval_ms": 200, "enable_exactly_once": true, "enable_idempotence": true,
            },
            "failover_config": {
                "enabled": true, "failover_threshold": 100_000, "failover_timeout_ms": 60_000, "max_consecutive_failures": 30,
                "auto_failback": false, "notification_webhook": "https://alerts.example.com/failover",
            },
        })
    }
}

/// A day with a link: all lines, one after the other.
pub fn play(ground: &Ground<'_>) {
    create(ground);
    start_and_look(ground);
    fall_behind(ground);
    change(ground);
    fail_over_and_back(ground);
    filter_and_transform(ground);
    end(ground);
}

fn create(ground: &Ground<'_>) {
    let answer = ground.ask("POST", LINKS, &ground.definition().to_string());
    assert_eq!(answer.status, 201, "{}", answer.body);
    assert_eq!(answer.headers["location"], *ground.link(""));
    assert_eq!(answer.headers["etag"], "\"1\"");
    let made = answer.json();
    has_shape(&made, &LINK);
    assert_eq!((&made["id"], &made["status"]), (&json!(ground.named("link-RUN")), &json!("stopped")));
    assert_eq!(
        (&made["name"], &made["source_cluster"]["cluster_id"]),
        (&json!("West to East"), &ground.source["cluster_id"])
    );
    for (key, value) in [
        ("max_bytes", json!(10_485_760)),
        ("max_messages", json!(10_000)),
        ("batch_size", json!(1_000)),
        ("throttle_rate_bytes_per_sec", json!(104_857_600)),
        ("checkpoint_interval_ms", json!(200)),
        ("enable_exactly_once", json!(true)),
        ("compression_type", json!("snappy")),
    ] {
        assert_eq!(made["config"][key], value, "{key}");
    }
    assert_eq!(made["lanes"].as_array().map(Vec::len), Some(3), "as many as concurrent_partitions");
    assert_eq!(ground.ask("POST", LINKS, &ground.definition().to_string()).status, 409, "its id is taken");

    // Without an id it gets one, and it can do without everything that has a default.
    let least = json!({
        "name": "DR", "type": "active-passive", "source_cluster": ground.source, "target_cluster": ground.target,
        "topics": [ground.named("least-RUN")],
    });
    let least = ground.asked("POST", LINKS, &least.to_string(), &[201]);
    has_shape(&least, &LINK);
    let place = format!("{LINKS}/{}", least["id"].as_str().expect("an id"));
    assert_eq!(ground.asked("GET", &place, "", &[200])["name"], "DR");
    ground.asked("DELETE", &place, "", &[204]);
}

fn start_and_look(ground: &Ground<'_>) {
    let cluster = ground.source["cluster_id"].as_str().expect("an id");
    for (topic, partitions) in [("orders-RUN", 2), ("users-RUN", 1), ("inventory-RUN", 1)] {
        let body = json!({ "name": ground.named(topic), "partitions": partitions }).to_string();
        ground.asked("POST", &format!("/api/v1/clusters/{cluster}/topics"), &body, &[201]);
    }
    let records: Vec<Value> = (0..10).map(|number| json!({ "partition": number % 2, "value": "12345" })).collect();
    ground.produce("orders-RUN", &records);
    let started = ground.asked("POST", &ground.link("/start"), "", &[200, 202]);
    has_shape(&started, &LINK);
    ground.await_status("active");
    ground.asked("POST", &ground.link("/start"), "", &[200]);
    ground.site.client.await_caught_up(&ground.named("link-RUN"));

    let links = ground.asked("GET", LINKS, "", &[200]);
    let [link] = &links.as_array().expect("a list")[..] else { panic!("one link is there: {links}") };
    has_shape(link, &LINK);
    assert!(Is::Time.holds(&link["started_at"]), "{link}");
    wait_until("both clusters were asked", || {
        let health = ground.asked("GET", &ground.link("/health"), "", &[200]);
        has_shape(&health, &HEALTH);
        (&health["source_cluster_reachable"], &health["target_cluster_reachable"]) == (&json!(true), &json!(true))
            && health["status"] == "healthy"
            && health["replication_lag_healthy"] == true
            && Is::Time.holds(&health["last_health_check"])
    });

    wait_until("all of it is counted", || ground.metrics()["total_messages_replicated"] == 10);
    let metrics = ground.metrics();
    has_shape(&metrics, &METRICS);
    assert_eq!((&metrics["total_bytes_replicated"], &metrics["replication_lag"]), (&json!(50), &json!(0)), "{metrics}");
    let partitions = metrics["partition_metrics"].as_object().expect("an object");
    assert_eq!(partitions.len(), 4, "{metrics}");
    partitions.values().for_each(|partition| has_shape(partition, &PARTITION));
    let first = ground.partition("orders-RUN-0");
    assert_eq!((&first["topic"], &first["partition"]), (&json!(ground.named("orders-RUN")), &json!(0)));
    for (key, value) in [("messages_replicated", 5), ("bytes_replicated", 25), ("lag", 0)] {
        assert_eq!(first[key], value, "{key}: {first}");
    }
    assert_eq!(first["target_offset"], first["source_offset"], "the next one to be replicated is the source's next");
    exposition(ground);
}

/// What Prometheus is told: help, type and labels of what is named.
fn exposition(ground: &Ground<'_>) {
    let (id, topic) = (ground.named("link-RUN"), ground.named("orders-RUN"));
    let mut page = String::new();
    let lag = format!("tidegate_replication_lag_ms{{link_id=\"{id}\",topic=\"{topic}\",partition=\"0\"}} 0");
    // Nobody who scrapes waits for a cluster: it is known once it was measured, and the last time it was behind.
    wait_until("its lag was measured anew", || {
        page = ground.ask("GET", "/metrics", "").body;
        page.lines().any(|found| found == lag)
    });
    for (name, kind) in [
        ("tidegate_replication_lag_ms", "gauge"),
        ("tidegate_replication_messages_total", "counter"),
        ("tidegate_replication_bytes_total", "counter"),
    ] {
        assert!(
            page.contains(&format!("# HELP {name} ")) && page.contains(&format!("# TYPE {name} {kind}\n")),
            "{page}"
        );
    }
    for line in [
        format!("tidegate_replication_messages_total{{link_id=\"{id}\"}} 10"),
        format!("tidegate_replication_bytes_total{{link_id=\"{id}\"}} 50"),
        format!("tidegate_source_cluster_reachable{{link_id=\"{id}\",cluster_id={}}} 1", ground.source["cluster_id"]),
        format!("tidegate_target_cluster_reachable{{link_id=\"{id}\",cluster_id={}}} 1", ground.target["cluster_id"]),
        format!("tidegate_replication_consecutive_failures{{link_id=\"{id}\"}} 0"),
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in {page}");
    }
}

/// The units of what a link is behind: records, and milliseconds since the first of them was written.
fn fall_behind(ground: &Ground<'_>) {
    let paused = ground.asked("POST", &ground.link("/pause"), "", &[200, 202]);
    has_shape(&paused, &LINK);
    ground.await_status("paused");
    let before = ground.partition("orders-RUN-1")["target_offset"].clone();
    let an_hour_ago = wire::Time::now().0 - 3_600_000;
    let late = |_| json!({ "partition": 1, "value": "late", "timestamp": an_hour_ago });
    ground.produce("orders-RUN", &(0..7).map(late).collect::<Vec<_>>());
    wait_until("it is known how far it is behind", || {
        let partition = ground.partition("orders-RUN-1");
        partition["lag"] == 7 && partition["lag_ms"].as_u64().is_some_and(|lag| (3_600_000..7_200_000).contains(&lag))
    });
    let metrics = ground.metrics();
    assert_eq!(ground.partition("orders-RUN-1")["target_offset"], before, "nothing was replicated meanwhile");
    let lag = |key: &str| metrics[key].as_u64().unwrap_or_else(|| panic!("{key}: {metrics}"));
    assert!((3_600_000..7_200_000).contains(&lag("replication_lag")), "the worst: {metrics}");
    assert!((900_000..1_800_000).contains(&lag("average_replication_lag")), "the mean of four: {metrics}");
    let resumed = ground.asked("POST", &ground.link("/resume"), "", &[200, 202]);
    has_shape(&resumed, &LINK);
    ground.site.client.await_caught_up(&ground.named("link-RUN"));
    let max = ground.metrics()["max_replication_lag"].as_u64();
    assert!(max.is_some_and(|max| max >= 3_600_000), "the worst that was seen is remembered: {max:?}");
}

fn change(ground: &Ground<'_>) {
    let slower = json!({ "config": { "throttle_rate_bytes_per_sec": 52_428_800 } }).to_string();
    let refused = ground.asked("PUT", &ground.link(""), &slower, &[409]);
    assert_eq!((&refused["code"], &refused["allowed"]), (&json!("wrong-state"), &json!(["pause", "stop", "failover"])));
    ground.asked("POST", &ground.link("/pause"), "", &[200, 202]);
    ground.await_status("paused");
    let changed = ground.asked("PUT", &ground.link(""), &slower, &[200]);
    assert_eq!(changed["config"]["throttle_rate_bytes_per_sec"], 52_428_800);
    assert_eq!((&changed["config"]["batch_size"], &changed["version"]), (&json!(1_000), &json!(2)), "the rest stays");

    // What helps against a lag, as it is said: more partitions at once, larger batches.
    let faster =
        json!({ "config": { "concurrent_partitions": 4, "batch_size": 5_000, "max_bytes": "16MiB" } }).to_string();
    let changed = ground.asked("PUT", &ground.link(""), &faster, &[200]);
    assert_eq!((&changed["config"]["batch_size"], &changed["config"]["max_bytes"]), (&json!(5_000), &json!(16 << 20)));
    wait_until("it has another number of lanes", || {
        ground.asked("GET", &ground.link(""), "", &[200])["lanes"].as_array().map(Vec::len) == Some(4)
    });
    ground.await_status("paused");
    assert_eq!(ground.asked("GET", &ground.link(""), "", &[200])["notices"], json!([]));
    ground.asked("POST", &ground.link("/resume"), "", &[200, 202]);
    ground.await_status("active");
    ground.produce("users-RUN", &[json!({ "value": "more" })]);
    ground.site.client.await_caught_up(&ground.named("link-RUN"));
}

fn fail_over_and_back(ground: &Ground<'_>) {
    let event = ground.asked("POST", &ground.link("/failover"), "", &[200]);
    has_shape(&event, &FAILOVER);
    assert_eq!((&event["type"], &event["success"]), (&json!("failover"), &json!(true)));
    assert_eq!(event["link_id"], ground.named("link-RUN"));
    assert_eq!(
        (&event["source_cluster_id"], &event["target_cluster_id"]),
        (&ground.source["cluster_id"], &ground.target["cluster_id"])
    );
    assert!(event["duration"].as_str().is_some_and(|text| text.ends_with('s')), "{event}");
    ground.await_status("failed_over");
    let again = ground.asked("POST", &ground.link("/failover"), "", &[409]);
    assert_eq!((&again["code"], &again["allowed"]), (&json!("wrong-state"), &json!(["failback"])));
    let health = ground.asked("GET", &ground.link("/health"), "", &[200]);
    has_shape(&health, &HEALTH);

    let target = ground.target["cluster_id"].as_str().expect("an id");
    ground.site.client.produce(target, &ground.named("users-RUN"), &[json!({ "value": "written there" })]);
    let event = ground.asked("POST", &ground.link("/failback"), "", &[200, 202]);
    has_shape(&event, &FAILOVER);
    assert_eq!(event["type"], "failback");
    wait_until("the source has its place again", || {
        let events = ground.asked("GET", &ground.link("/failovers"), "", &[200]);
        events.as_array().is_some_and(|events| events.len() == 2 && events[1]["success"] == true)
    });
    ground.await_status("active");
    ground.site.client.await_caught_up(&ground.named("link-RUN"));
    let values = |cluster: &str| -> Vec<_> {
        let records = ground.site.client.records(cluster, &ground.named("users-RUN"), 0).into_iter();
        records.map(|record| String::from_utf8(record.value.expect("a value")).expect("text")).collect()
    };
    let source = ground.source["cluster_id"].as_str().expect("an id");
    assert_eq!(
        (values(source), values(target)),
        (vec!["more".into(), "written there".into()], vec!["more".into(), "written there".into()])
    );
    assert_eq!(ground.asked("POST", &ground.link("/failback"), "", &[409])["code"], "not-failed-over");
}

fn filter_and_transform(ground: &Ground<'_>) {
    ground.asked("POST", &ground.link("/pause"), "", &[200, 202]);
    ground.await_status("paused");
    let change = json!({
        "filter": {
            "enabled": true,
            "include_patterns": [".*important.*", ".*priority:high.*"],
            "exclude_patterns": [".*test.*", ".*debug.*"],
            "filter_by_header": { "region": "us-west-1", "priority": "high" },
            "min_timestamp": "2024-01-01T00:00:00Z",
        },
        "transform": {
            "enabled": true,
            "add_headers": { "replicated_from": "us-west-1", "replication_timestamp": "${now}" },
            "remove_headers": ["internal-id", "debug-info"],
            "header_transforms": { "region": "us-west-1 -> us-east-1" },
        },
    });
    ground.asked("PUT", &ground.link(""), &change.to_string(), &[200]);
    ground.asked("POST", &ground.link("/resume"), "", &[200, 202]);
    let record = |value: &str, priority: &str, timestamp: i64| {
        let headers = json!([
            { "name": "region", "value": "us-west-1" }, { "name": "priority", "value": priority },
            { "name": "internal-id", "value": "7" }, { "name": "kept", "value": "as it is" },
        ]);
        json!({ "partition": 0, "value": value, "headers": headers, "timestamp": timestamp })
    };
    let now = wire::Time::now().0;
    ground.produce(
        "inventory-RUN",
        &[
            record("an important one", "high", now),
            record("priority:high says the value", "high", now),
            record("of no interest", "high", now),
            record("an important test", "high", now),
            record("important, says nobody", "low", now),
            record("important, once", "high", 1_600_000_000_000),
        ],
    );
    ground.site.client.await_caught_up(&ground.named("link-RUN"));
    let found = ground.target_records("inventory-RUN");
    let values: Vec<String> =
        found.iter().map(|it| String::from_utf8_lossy(it.value.as_deref().expect("a value")).into_owned()).collect();
    assert_eq!(values, ["an important one", "priority:high says the value"]);
    for record in &found {
        let header = |name: &str| {
            let mut named = record.headers.iter().filter(|header| header.name == name.as_bytes());
            named.next().and_then(|header| String::from_utf8(header.value.clone()?).ok())
        };
        assert_eq!(header("region").as_deref(), Some("us-east-1"));
        assert_eq!(header("replicated_from").as_deref(), Some("us-west-1"));
        assert_eq!((header("internal-id"), header("kept").as_deref()), (None, Some("as it is")));
        let when = header("replication_timestamp").expect("a time");
        assert!(when.parse::<wire::Time>().is_ok(), "{when}");
    }
    let link = ground.asked("GET", &ground.link(""), "", &[200]);
    assert_eq!(link["records_filtered"], 4, "{link}");
}

fn end(ground: &Ground<'_>) {
    let refused = ground.asked("DELETE", &ground.link(""), "", &[409]);
    assert_eq!((&refused["code"], &refused["allowed"]), (&json!("wrong-state"), &json!(["pause", "stop", "failover"])));
    let stopped = ground.asked("POST", &ground.link("/stop"), "", &[200, 202]);
    has_shape(&stopped, &LINK);
    ground.await_status("stopped");
    ground.asked("DELETE", &ground.link(""), "", &[204]);
    for line in ["", "/metrics", "/health"] {
        assert_eq!(ground.asked("GET", &ground.link(line), "", &[404])["code"], "link-not-found");
    }
}
