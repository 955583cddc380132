//! The router over real HTTP, with a daemon in memory behind it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::fake::{DEAD_LETTERS, Fake};
use super::wire::letter;
use super::wire::{Event, Letter, Link, Place, Problem, Record, Records, Time, Topic};
use crate::config::ApiConfig;

/// What bodies may have unless the configuration says otherwise.
const BODY_BYTES_MAX: usize = 1 << 20;
const PRODUCE_BYTES_MAX: usize = 32 << 20;

/// A served daemon and a client.
struct Scene {
    fake: Arc<Fake>,
    base: String,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    content_type: String,
    allow: String,
    link: String,
    body: Vec<u8>,
}

impl Scene {
    fn new() -> Self {
        let fake = Arc::new(Fake::default());
        let address = fake.clone().serve();
        Self::at(fake, address)
    }

    fn at(fake: Arc<Fake>, address: SocketAddr) -> Self {
        let base = format!("http://{address}/api/v1");
        Self { fake, base, agent: ureq::Agent::config_builder().http_status_as_error(false).build().into() }
    }

    fn get(&self, path: &str) -> Answer {
        Answer::of(self.agent.get(format!("{}{path}", self.base)).call().expect(path))
    }

    /// A path that is not below `/api/v1`.
    fn get_beside(&self, path: &str, accept: &str) -> Answer {
        let root = self.base.trim_end_matches("/api/v1");
        Answer::of(self.agent.get(format!("{root}{path}")).header("accept", accept).call().expect(path))
    }

    fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        Answer::of(self.agent.post(format!("{}{path}", self.base)).send(body.as_ref()).expect(path))
    }
}

impl Answer {
    fn of(mut response: ureq::http::Response<ureq::Body>) -> Self {
        let header = |name| response.headers().get(name).map_or("", |value| value.to_str().expect("text")).to_owned();
        let (content_type, allow, link) = (header("content-type"), header("allow"), header("link"));
        let body = response.body_mut().read_to_vec().expect("a body");
        Self { status: response.status().as_u16(), content_type, allow, link, body }
    }

    #[track_caller]
    fn ok<T: serde::de::DeserializeOwned>(self, status: u16) -> T {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.content_type, "application/json");
        serde_json::from_slice(&self.body).expect("the shape")
    }

    #[track_caller]
    fn problem(self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.content_type, "application/problem+json");
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!((problem.status, problem.code.as_str()), (status, code));
        assert_eq!(problem.kind, format!("urn:tidegate:problem:{code}"));
        assert!(!problem.title.is_empty() && !problem.detail.is_empty());
        problem
    }
}

const RECORDS: &str = "/clusters/east/topics/t/records";

#[test]
fn an_unknown_path_is_a_problem() {
    let scene = Scene::new();
    for path in ["/nonsense", "/replication/links/orders/nonsense", "/replication/links/"] {
        let problem = scene.get(path).problem(404, "path-not-found");
        assert!(problem.detail.ends_with(path), "{}", problem.detail);
    }
    scene.get("/replication/links/%ff").problem(400, "bad-path");
}

#[test]
fn a_wrong_method_is_a_problem_that_says_what_is_right() {
    let scene = Scene::new();
    let answer = scene.post("/replication/links/orders/events", "");
    assert_eq!(answer.allow, "GET,HEAD");
    answer.problem(405, "method-not-allowed");
    let answer = scene.get("/replication/links/orders/start");
    assert_eq!(answer.allow, "POST");
    answer.problem(405, "method-not-allowed");
}

#[test]
fn unknown_names_are_not_found() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    for path in [
        "/replication/links/nope",
        "/replication/links/nope/metrics",
        "/replication/links/nope/health",
        "/replication/links/nope/revisions",
        "/replication/links/nope/events",
        "/clusters/nope/topics",
        "/clusters/east/topics/nope",
        "/clusters/east/topics/t/records?partition=1",
    ] {
        let problem = scene.get(path).problem(404, "not-found");
        assert_eq!(problem.remedy, "look at the list");
    }
    scene.post("/replication/links/nope/start", "").problem(404, "not-found");
    scene.post("/clusters/east/topics/nope/records", "{}").problem(404, "not-found");
    scene.post("/replication/links/orders/stages/nope/revisions", "\0asm").problem(404, "not-found");
}

#[test]
fn a_link_has_the_documented_shape() {
    let scene = Scene::new();
    let links: Value = scene.get("/replication/links").ok(200);
    let link = &links[0];
    for field in ["id", "name", "type", "status", "created_at", "started_at", "topic_prefix", "revision", "error"] {
        assert!(link.get(field).is_some(), "{field} in {link}");
    }
    assert_eq!(link["metrics"]["replication_lag"], Value::Null, "unknown is null");
    assert_eq!(link["health"]["source_cluster_reachable"], true);
    assert_eq!(link["records_out"], 6);
    assert_eq!(link["lanes"][0]["partitions"][0]["lag_ms"], Value::Null);
    let one: Value = scene.get("/replication/links/orders").ok(200);
    assert_eq!(&one, link);
    let metrics: Value = scene.get("/replication/links/orders/metrics").ok(200);
    for field in ["total_messages_replicated", "max_replication_lag", "uptime_seconds", "partition_metrics"] {
        assert!(metrics.get(field).is_some(), "{field} in {metrics}");
    }
}

#[test]
fn a_stage_has_what_it_may_use_beside_what_it_has_used() {
    let scene = Scene::new();
    let link: Value = scene.get("/replication/links/orders").ok(200);
    let stage = &link["stages"][0];
    for (pointer, value) in [
        ("/on_error", json!("dead-letter")),
        ("/limits/time_ms", json!(1000)),
        ("/limits/memory_bytes", json!(2 << 20)),
        ("/memory_bytes", json!(1 << 20)),
        ("/state_bytes", json!(1536)),
        ("/not_handled_by_code", json!({"not-json": 2, "plugin-panic": 1})),
        ("/traps_by_kind", json!({"plugin-panic": 4})),
        ("/call_times/2", json!({"up_to_us": null, "calls": 0})),
        ("/log_lines_dropped", json!(5)),
        ("/metrics_dropped", json!(6)),
        ("/metrics", json!({"masked": 7.5})),
    ] {
        assert_eq!(stage.pointer(pointer), Some(&value), "{pointer} in {stage}");
    }
}

#[test]
fn what_happened_to_a_link_is_answered_oldest_first() {
    let scene = Scene::new();
    let path = "/replication/links/orders/events";
    assert_eq!(scene.get(path).ok::<Value>(200), json!([]));
    let place = Some(Place { topic: "orders".into(), partition: 2, offset: 42 });
    let event = |kind: &str, count, message: &str| Event {
        id: String::new(),
        time: Time(count as i64),
        kind: kind.into(),
        code: None,
        count,
        message: message.into(),
        stage: None,
        place: None,
    };
    scene.fake.happened(event("published", 1, "revision 2 by ann"));
    let bad = event("record-not-handled", 7, "not-json: no JSON");
    scene.fake.happened(Event { stage: Some("mask".into()), place, ..bad });
    let expected = json!([
        {"id": "1-1", "time": "1970-01-01T00:00:00.001Z", "kind": "published", "count": 1, "message": "revision 2 by ann"},
        {
            "id": "1-2", "time": "1970-01-01T00:00:00.007Z", "kind": "record-not-handled", "count": 7, "message": "not-json: no JSON",
            "stage": "mask", "place": {"topic": "orders", "partition": 2, "offset": 42},
        },
    ]);
    assert_eq!(scene.get(path).ok::<Value>(200), expected);
}

#[test]
fn a_dead_letter_says_what_was_wrong_and_lists_of_them_page() {
    let scene = Scene::new();
    let path = "/replication/links/orders/dead-letters";
    assert_eq!(scene.get(path).ok::<Value>(200), json!([]), "there need not be a topic");
    scene.fake.topic_with(DEAD_LETTERS, 3);
    let put = |partition, offset, link: &str| {
        let mut headers = letter::tests::headers(offset, "no JSON");
        headers[0].value = Some(link.into());
        scene.fake.put(DEAD_LETTERS, partition, Record { headers, ..Record::default() });
    };
    [(0, 7), (0, 8), (2, 9)].into_iter().for_each(|(partition, offset)| put(partition, offset, "orders"));
    // Another link has its letters in the same topic.
    (0..3).for_each(|partition| put(partition, 1, "payments"));
    let all: Vec<Letter> = scene.get(path).ok(200);
    let places = |letters: &[Letter]| -> Vec<(u32, i64, Option<i64>)> {
        letters.iter().map(|letter| (letter.partition, letter.offset, letter.record.offset)).collect()
    };
    assert_eq!(places(&all), [(0, 0, Some(7)), (0, 1, Some(8)), (2, 0, Some(9))]);
    let reason = all[0].reason.as_ref().expect("a reason");
    assert_eq!((&*reason.code, &*reason.message, &*reason.stage), ("not-json", "no JSON", "mask"));
    let (mut pages, mut next) = (Vec::new(), Some(format!("{path}?limit=1")));
    while let Some(place) = next.take() {
        let answer = scene.get(&place);
        let link = answer.link.strip_prefix("</api/v1").and_then(|link| link.strip_suffix(">; rel=\"next\""));
        next = link.map(str::to_owned);
        pages.push(places(&answer.ok::<Vec<Letter>>(200)));
    }
    assert_eq!(pages.concat(), places(&all));
    assert_eq!(pages[..3].iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    assert_eq!(places(&scene.get(&format!("{path}?partition=2&offset=1")).ok::<Vec<Letter>>(200)), []);
    for query in ["limit=0", "limit=1001", "offset=-1", "partition=-1", "max=1"] {
        scene.get(&format!("{path}?{query}")).problem(400, "bad-query");
    }
}

#[test]
fn a_stage_is_shown_with_the_plugins_that_it_had() {
    let scene = Scene::new();
    let stages: Value = scene.get("/replication/links/orders/stages").ok(200);
    let stage: Value = scene.get("/replication/links/orders/stages/mask").ok(200);
    assert_eq!((&stages[0], &stage["stage"]), (&stage, &json!("mask")));
    let revisions = "/replication/links/orders/stages/mask/revisions";
    scene.get(revisions).problem(404, "stage-not-found");
    scene.post(&format!("{revisions}?by=ann"), "\0asm1").ok::<Value>(201);
    scene.post(&format!("{revisions}?by=bob"), "\0asm2").ok::<Value>(201);
    let had: Value = scene.get(revisions).ok(200);
    assert_eq!((&had[0]["by"], &had[1]["by"], &had[1]["number"]), (&json!("ann"), &json!("bob"), &json!(2)));
    assert_ne!(had[0]["digest"], had[1]["digest"]);
    for path in ["/replication/links/orders/stages/nope", "/replication/links/orders/stages/nope/revisions"] {
        scene.get(path).problem(404, "stage-not-found");
    }
}

/// An open stream of events.
struct Stream(BufReader<ureq::BodyReader<'static>>);

impl Stream {
    fn open(scene: &Scene, last: Option<&str>) -> Self {
        let request = scene.agent.get(format!("{}/replication/links/orders/events", scene.base));
        let request = request.header("accept", "text/event-stream, */*;q=0.1");
        let request = last.into_iter().fold(request, |request, last| request.header("last-event-id", last));
        let response = request.call().expect("a stream");
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self(BufReader::new(response.into_body().into_reader()))
    }

    /// The message of the next event, and its name; `None` at the end.
    fn next(&mut self) -> Option<(String, String)> {
        let mut id = None;
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).is_ok_and(|bytes| bytes == 0) {
                return None;
            }
            if let Some(name) = line.trim_end().strip_prefix("id: ") {
                id = Some(name.to_owned());
            }
            if let Some(data) = line.strip_prefix("data: ") {
                let event: Event = serde_json::from_str(data).expect("an event");
                assert_eq!(Some(&event.id), id.as_ref());
                return Some((event.message, event.id));
            }
        }
    }

    fn messages(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().expect("an event").0).collect()
    }
}

fn happened(message: &str) -> Event {
    let (id, kind, message) = (String::new(), "published".into(), message.into());
    Event { id, time: Time(1), kind, code: None, count: 1, message, stage: None, place: None }
}

#[test]
fn a_stream_has_what_happened_and_goes_on_with_what_happens() {
    let scene = Scene::new();
    ["a", "b"].into_iter().for_each(|message| scene.fake.happened(happened(message)));
    let mut stream = Stream::open(&scene, None);
    assert_eq!(stream.messages(1), ["a"]);
    let (message, id) = stream.next().expect("an event");
    assert_eq!(message, "b");
    scene.fake.happened(happened("c"));
    assert_eq!(stream.messages(1), ["c"]);
    drop(stream);
    scene.fake.happened(happened("d"));
    assert_eq!(Stream::open(&scene, Some(&id)).messages(2), ["c", "d"], "after the last that it had");
    assert_eq!(Stream::open(&scene, Some("of another daemon")).messages(1), ["a"], "all that is kept");
    scene.get("/replication/links/nope/events").problem(404, "not-found");
}

/// Neither keeps anything for itself: what waits for a client is asked for when it is taken.
#[test]
fn a_client_that_is_gone_is_not_waited_for() {
    let scene = Scene::new();
    let streams = [(); 3].map(|()| Stream::open(&scene, None));
    while scene.fake.listeners() < 3 {
        std::thread::yield_now();
    }
    drop(streams);
    while scene.fake.listeners() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_shutdown_ends_streams() {
    let fake = Arc::new(Fake::default());
    let (shut_down, shutdown) = tokio::sync::oneshot::channel::<()>();
    let (address, server) = fake.clone().serve_until(async { drop(shutdown.await) });
    let scene = Scene::at(fake, address);
    scene.fake.happened(happened("a"));
    let mut stream = Stream::open(&scene, None);
    assert_eq!(stream.messages(1), ["a"]);
    shut_down.send(()).expect("the server listens");
    assert_eq!(stream.next(), None);
    server.join().expect("served to the end");
}

#[test]
fn streams_give_way_when_there_are_too_many_connections() {
    let mut config = ApiConfig::open();
    config.limits.connections_max = 2;
    let fake = Arc::new(Fake::default());
    let (address, _) = fake.clone().serve_with(&config, std::future::pending());
    let scene = Scene::at(fake, address);
    let mut first = Stream::open(&scene, None);
    while scene.fake.listeners() < 1 {
        std::thread::yield_now();
    }
    let _second = Stream::open(&scene, None);
    scene.get("/status").ok::<Value>(200);
    assert_eq!(first.next(), None, "it was the oldest that waited");
}

#[test]
fn a_link_is_steered_and_answers_what_it_became() {
    let scene = Scene::new();
    for (transition, status) in [("start", "active"), ("start", "active"), ("stop", "stopped"), ("stop", "stopped")] {
        let link: Link = scene.post(&format!("/replication/links/orders/{transition}"), "").ok(200);
        assert_eq!(link.status.word(), status, "{transition}");
    }
    scene.post("/replication/links/orders/resume", "").problem(409, "not-paused");
}

#[test]
fn a_plugin_is_published_and_rolled_back() {
    let scene = Scene::new();
    let publish = "/replication/links/orders/stages/mask/revisions";
    let swap: Value = scene.post(&format!("{publish}?by=ann&config=%7B%22a%22%3A1%7D"), "\0asm1").ok(201);
    assert_eq!((&swap["revision"], &swap["stage"], &swap["state"]), (&json!(1), &json!("mask"), &json!("complete")));
    scene.post(publish, "\0asm2").ok::<Value>(201);
    let swap: Value = scene.post("/replication/links/orders/rollback?by=bob", "").ok(201);
    assert_eq!((&swap["revision"], swap.get("stage")), (&json!(3), None));
    scene.post("/replication/links/orders/rollback", r#"{"to":2}"#).ok::<Value>(201);
    let history: Value = scene.get("/replication/links/orders/revisions").ok(200);
    let by: Vec<&Value> = history.as_array().expect("a list").iter().map(|revision| &revision["by"]).collect();
    assert_eq!(by, ["ann", "api", "bob", "api"]);
    assert_eq!(history[2]["stages"], history[0]["stages"]);
    assert_eq!(history[0]["stages"][0]["config"], json!({"a": 1}));
    assert_eq!(history[0]["time"], "1970-01-01T00:00:00.000Z");
}

#[test]
fn a_publish_that_is_refused_says_why() {
    let scene = Scene::new();
    let publish = "/replication/links/orders/stages/mask/revisions";
    scene.post(publish, "ELF").problem(422, "not-a-component");
    scene.post(&format!("{publish}?config=nonsense"), "\0asm").problem(400, "bad-json");
    scene.post(&format!("{publish}?confg=1"), "\0asm").problem(400, "bad-query");
    scene.post("/replication/links/orders/rollback", r#"{"too":1}"#).problem(400, "invalid-document");
    scene.post("/replication/links/orders/rollback", r#"{"to":9}"#).problem(404, "not-found");
    assert_eq!(scene.get("/replication/links/orders/revisions").ok::<Value>(200), json!([]));
}

#[test]
fn a_topic_is_made_once() {
    let scene = Scene::new();
    let made: Topic = scene.post("/clusters/east/topics", r#"{"name":"a/b ü","partitions":2}"#).ok(201);
    let shown: Topic = scene.get("/clusters/east/topics/a%2Fb%20%C3%BC").ok(200);
    assert_eq!((shown.name.as_str(), shown.partitions.len()), ("a/b ü", 2));
    assert_eq!(made, shown);
    scene.post("/clusters/east/topics", r#"{"name":"a/b ü"}"#).problem(409, "topic-exists");
    scene.post("/clusters/east/topics", r#"{"name":"#).problem(400, "bad-json");
    scene.post("/clusters/east/topics", r#"{"name":"x","partition":1}"#).problem(400, "invalid-document");
}

#[test]
fn what_was_produced_is_read() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 2);
    let body = r#"[{"value":"a","partition":1,"timestamp":5},{"value_base64":"/w==","partition":1,"timestamp":6}]"#;
    let answer: Value = scene.post(RECORDS, body).ok(200);
    assert_eq!(answer, json!({"records": 2, "partitions": [{"partition": 1, "first_offset": 0, "records": 2}]}));
    let page: Value = scene.get(&format!("{RECORDS}?partition=1&max_records=1")).ok(200);
    assert_eq!(
        page,
        json!({
            "records": [
                {"topic": "t", "partition": 1, "offset": 0, "timestamp": 5, "key": null, "value": "a", "headers": []}
            ],
            "next_offset": 1, "log_start": 0, "end": 2,
        })
    );
    let page: Records = scene.get(&format!("{RECORDS}?partition=1&offset=1")).ok(200);
    assert_eq!(page.records[0].value, Some(vec![0xff]));
    let page: Records = scene.get(&format!("{RECORDS}?partition=1&offset=latest")).ok(200);
    assert_eq!((page.records.len(), page.next_offset), (0, 2));
}

#[test]
fn a_wrong_record_writes_nothing() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let problem = scene.post(RECORDS, "{}\n{\"value\":5}\n").problem(400, "bad-record");
    assert!(problem.detail.starts_with("line 2: "), "{}", problem.detail);
    assert!(scene.fake.records("t", 0).is_empty());
}

#[test]
fn a_produce_that_fails_halfway_says_what_is_durable() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 2);
    scene.fake.break_partition(1);
    let body = "{\"partition\":0}\n{\"partition\":1}\n{\"partition\":0}";
    let problem = scene.post(RECORDS, body).problem(503, "disk-full");
    assert_eq!(problem.appended.len(), 1);
    assert_eq!((problem.appended[0].partition, problem.appended[0].records), (0, 2));
}

#[test]
fn a_read_out_of_bounds_is_refused() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    for query in [
        "",
        "partition=x",
        "partition=0&offset=-1",
        "partition=0&offset=soon",
        "partition=0&max_records=0",
        "partition=0&max_records=10001",
        "partition=0&wait_ms=30001",
        "partition=0&max_record=1",
    ] {
        scene.get(&format!("{RECORDS}?{query}")).problem(400, "bad-query");
    }
    scene.get(&format!("{RECORDS}?partition=0&offset=1")).problem(422, "offset-out-of-range");
}

#[test]
fn a_record_that_comes_during_a_long_poll_is_answered() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let fake = scene.fake.clone();
    let writer = std::thread::spawn(move || {
        fake.wait_for_reads(2);
        fake.put("t", 0, Record { value: Some(b"late".to_vec()), ..Record::default() });
    });
    let page: Records = scene.get(&format!("{RECORDS}?partition=0&offset=latest&wait_ms=30000")).ok(200);
    assert_eq!(page.records[0].value.as_deref(), Some(b"late".as_slice()));
    writer.join().expect("written");
}

#[test]
fn a_shutdown_answers_those_who_wait() {
    let fake = Arc::new(Fake::default());
    fake.topic_with("t", 1);
    let (shut_down, shutdown) = tokio::sync::oneshot::channel::<()>();
    let (address, server) = fake.clone().serve_until(async { drop(shutdown.await) });
    let scene = Scene::at(fake.clone(), address);
    let ender = std::thread::spawn(move || {
        fake.wait_for_reads(1);
        shut_down.send(()).expect("the server listens");
    });
    let page: Records = scene.get(&format!("{RECORDS}?partition=0&wait_ms=30000")).ok(200);
    assert!(page.records.is_empty());
    ender.join().expect("ended");
    server.join().expect("served to the end");
    assert!(scene.agent.get(format!("{}/healthz", scene.base)).call().is_err());
}

#[test]
fn each_path_has_its_own_limit() {
    let scene = Scene::new();
    scene.fake.topic_with("t", 1);
    let over = |limit: usize| vec![b' '; limit + 1];
    scene.post("/clusters/east/topics", over(BODY_BYTES_MAX)).problem(413, "body-too-large");
    scene.post("/clusters/east/topics", &over(BODY_BYTES_MAX)[1..]).problem(400, "bad-json");
    scene.post(RECORDS, &over(PRODUCE_BYTES_MAX)[1..]).ok::<Value>(200);
    scene.post(RECORDS, over(PRODUCE_BYTES_MAX)).problem(413, "body-too-large");
    let mut component = over(BODY_BYTES_MAX);
    component[..4].copy_from_slice(b"\0asm");
    scene.post("/replication/links/orders/stages/mask/revisions", component).ok::<Value>(201);
}

#[test]
fn a_client_that_sends_far_too_much_still_hears_why() {
    let scene = Scene::new();
    scene.post("/clusters/east/topics", vec![b' '; 48 * BODY_BYTES_MAX]).problem(413, "body-too-large");
}

#[test]
fn a_page_of_another_origin_is_refused() {
    let scene = Scene::new();
    let stop = format!("{}/replication/links/orders/stop", scene.base);
    let with_origin =
        |origin: &str| Answer::of(scene.agent.post(&stop).header("origin", origin).send_empty().expect("an answer"));
    with_origin("https://example.com").problem(403, "foreign-origin");
    with_origin("null").problem(403, "foreign-origin");
    with_origin(scene.base.strip_suffix("/api/v1").expect("the base")).ok::<Link>(200);
}

#[test]
fn alive_is_not_ready() {
    let scene = Scene::new();
    assert_eq!(scene.get("/healthz").ok::<Value>(200), json!({"status": "ok"}));
    scene.get("/readyz").problem(503, "starting");
    assert_eq!(scene.get("/status").ok::<Value>(200)["uptime_seconds"], 3700);
}

#[test]
fn metrics_are_written_as_the_client_wants_them() {
    let scene = Scene::new();
    let text = scene.get_beside("/metrics", "*/*");
    assert_eq!((text.status, &*text.content_type), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(String::from_utf8_lossy(&text.body).contains("# TYPE t_records_total counter\nt_records_total{"));
    let open = scene.get_beside("/metrics", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    assert_eq!(open.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(open.body.ends_with(b"# EOF\n"));
}

#[test]
fn probes_find_the_daemon_where_they_look_for_it() {
    let scene = Scene::new();
    assert_eq!(scene.get_beside("/healthz", "*/*").ok::<Value>(200), json!({"status": "ok"}));
    scene.get_beside("/readyz", "*/*").problem(503, "starting");
}
