//! The guard over real HTTP, with a daemon in memory behind it.

use std::sync::Arc;

use serde_json::Value;
use ureq::http::{HeaderMap, Method, Request};

use crate::api::fake::Fake;
use crate::api::routes::endpoints;
use crate::api::wire::Problem;
use crate::config::{ApiConfig, ApiLimits, Role, Secret, TokenConfig};

const READ: &str = "a-token-that-only-reads";
const OPERATE: &str = "a-token-that-operates";
const ADMIN: &str = "a-token-that-does-everything";

fn with_tokens() -> ApiConfig {
    let token = |(name, role, secret): (&str, Role, &str)| TokenConfig {
        name: name.into(),
        role,
        secret: Secret::from(secret),
    };
    let all = [("ron", Role::Read, READ), ("olga", Role::Operate, OPERATE), ("ann", Role::Admin, ADMIN)];
    ApiConfig { tokens: all.map(token).into(), ..ApiConfig::open() }
}

struct Scene {
    fake: Arc<Fake>,
    base: String,
    agent: ureq::Agent,
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    fn problem(&self, status: u16, code: &str) -> Problem {
        let body = String::from_utf8_lossy(&self.body);
        assert_eq!(self.status, status, "{body}");
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!(problem.code, code, "{body}");
        problem
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Scene {
    fn new(config: &ApiConfig) -> Self {
        let fake = Arc::new(Fake::default());
        let (address, _) = fake.clone().serve_with(config, std::future::pending());
        let agent = ureq::Agent::config_builder().http_status_as_error(false).allow_non_standard_methods(true).build();
        Self { fake, base: format!("http://{address}"), agent: agent.into() }
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(body.as_ref().to_vec()).expect("a request");
        let mut answer = self.agent.run(request).unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        let body = answer.body_mut().read_to_vec().expect("a body");
        Answer { status: answer.status().as_u16(), headers: answer.headers().clone(), body }
    }

    fn as_owner_of(&self, token: &str, method: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(method, path, &[("authorization", &format!("Bearer {token}"))], body)
    }
}

/// A path with something in its variable parts.
fn example(path: &str) -> String {
    [("{link}", "orders"), ("{stage}", "mask"), ("{cluster}", "east"), ("{topic}", "t")]
        .iter()
        .fold(path.to_owned(), |path, (part, value)| path.replace(part, value))
}

#[test]
fn every_path_wants_its_role_and_no_higher_one() {
    let scene = Scene::new(&with_tokens());
    scene.fake.topic_with("t", 1);
    let all = endpoints();
    assert!(all.len() > 35, "{}", all.len());
    for endpoint in all {
        let (method, path) = (endpoint.method.as_str(), example(&endpoint.path));
        let Some(needed) = endpoint.role else {
            assert!([200, 503].contains(&scene.send(method, &path, &[], "").status), "{method} {path}");
            continue;
        };
        let stranger = scene.send(method, &path, &[], "");
        stranger.problem(401, "not-authenticated");
        assert_eq!(stranger.header("www-authenticate"), "Bearer realm=\"tidegate\"");
        for (token, role) in [(READ, Role::Read), (OPERATE, Role::Operate), (ADMIN, Role::Admin)] {
            let answer = scene.as_owner_of(token, method, &path, "");
            if role < needed {
                let problem = answer.problem(403, "role-missing");
                assert!(problem.detail.contains(&format!("the role {needed}")), "{}", problem.detail);
            } else {
                assert!(![401, 403, 405].contains(&answer.status), "{method} {path} as {role}: {}", answer.status);
            }
        }
    }
}

/// So that a role is not given by an oversight.
#[test]
fn whatever_changes_something_wants_more_than_read() {
    for endpoint in endpoints() {
        let is_changing = endpoint.method != Method::GET;
        let shows_records = endpoint.path.ends_with("/records") || endpoint.path.ends_with("/verification");
        if is_changing || shows_records {
            assert!(endpoint.role >= Some(Role::Operate), "{} {}", endpoint.method, endpoint.path);
        }
    }
    let with = |role: Option<Role>| -> Vec<String> {
        let found = endpoints().into_iter().filter(|endpoint| endpoint.role == role);
        found.map(|endpoint| format!("{} {}", endpoint.method, endpoint.path)).collect()
    };
    assert_eq!(with(None), ["GET /api/v1/healthz", "GET /api/v1/readyz", "GET /healthz", "GET /readyz"]);
    let admin = with(Some(Role::Admin));
    for path in [
        "POST /api/v1/reload",
        "POST /api/v1/plugins",
        "POST /api/v1/replication/links",
        "PUT /api/v1/replication/links/{link}",
        "DELETE /api/v1/replication/links/{link}",
        "POST /api/v1/replication/links/{link}/upgrade",
        "POST /api/v1/replication/links/{link}/stages/{stage}/revisions",
        "POST /api/v1/clusters/{cluster}/topics",
    ] {
        assert!(admin.iter().any(|found| found == path), "{path}");
    }
}

#[test]
fn strangers_do_not_hear_what_there_is() {
    let scene = Scene::new(&with_tokens());
    for (method, path) in [("GET", "/nonsense"), ("GET", "/api/v1/replication/links/nope"), ("DELETE", "/metrics")] {
        scene.send(method, path, &[], "").problem(401, "not-authenticated");
    }
    scene.as_owner_of(READ, "GET", "/nonsense", "").problem(404, "path-not-found");
    scene.as_owner_of(READ, "DELETE", "/metrics", "").problem(405, "method-not-allowed");
    scene.as_owner_of(ADMIN, "BREW", "/api/v1/reload", "").problem(405, "method-not-allowed");
    assert_eq!(scene.send("HEAD", "/api/v1/status", &[], "").status, 401);
    assert_eq!(scene.as_owner_of(READ, "HEAD", "/api/v1/status", "").status, 200);
    assert_eq!(scene.as_owner_of(READ, "HEAD", "/api/v1/clusters/east/topics/t/records", "").status, 403);
}

#[test]
fn what_is_no_token_is_refused() {
    let scene = Scene::new(&with_tokens());
    for wrong in [
        "",
        "Bearer",
        "Bearer ",
        "Bearer x",
        &format!("Bearer {}", &ADMIN[1..]),
        &format!("Bearer {ADMIN}x"),
        &format!("Bearer {} {ADMIN}", READ),
        &format!("Basic {ADMIN}"),
        ADMIN,
        &format!("Bearer{ADMIN}"),
        &"x".repeat(50_000),
    ] {
        let answer = scene.send("GET", "/api/v1/status", &[("authorization", wrong)], "");
        answer.problem(401, "not-authenticated");
        assert!(answer.header("www-authenticate").ends_with("error=\"invalid_token\""));
    }
    let twice = [("authorization", &*format!("Bearer {ADMIN}")), ("authorization", &*format!("Bearer {ADMIN}"))];
    scene.send("GET", "/api/v1/status", &twice, "").problem(401, "not-authenticated");
    for good in [format!("Bearer {READ}"), format!("bearer {READ}"), format!("BEARER   {READ}  ")] {
        assert_eq!(scene.send("GET", "/api/v1/status", &[("authorization", &good)], "").status, 200, "{good}");
    }
    let in_vain = [("authorization", "Bearer x")];
    assert_eq!(scene.send("GET", "/healthz", &in_vain, "").status, 200, "a probe is answered whatever it says");
}

#[test]
fn a_scraper_needs_a_token_unless_it_is_said() {
    let scene = Scene::new(&with_tokens());
    scene.send("GET", "/metrics", &[], "").problem(401, "not-authenticated");
    assert_eq!(scene.as_owner_of(READ, "GET", "/metrics", "").status, 200);
    let scene = Scene::new(&ApiConfig { metrics_without_token: true, ..with_tokens() });
    assert_eq!(scene.send("GET", "/metrics", &[], "").status, 200);
    scene.send("GET", "/api/v1/status", &[], "").problem(401, "not-authenticated");
}

#[test]
fn the_name_of_the_token_stands_in_the_history_whatever_its_owner_claims() {
    let scene = Scene::new(&with_tokens());
    let publish = "/api/v1/replication/links/orders/stages/mask/revisions?by=somebody-else";
    assert_eq!(scene.as_owner_of(ADMIN, "POST", publish, "\0asm").status, 201);
    assert_eq!(scene.as_owner_of(ADMIN, "POST", publish, "\0asm").status, 201);
    let rollback = "/api/v1/replication/links/orders/rollback?by=somebody-else";
    assert_eq!(scene.as_owner_of(OPERATE, "POST", rollback, "").status, 201);
    let history = scene.as_owner_of(READ, "GET", "/api/v1/replication/links/orders/revisions", "");
    let history: Value = serde_json::from_slice(&history.body).expect("JSON");
    let by: Vec<&Value> = history.as_array().expect("a list").iter().map(|revision| &revision["by"]).collect();
    assert_eq!(by, ["ann", "ann", "olga"]);
}

#[test]
fn whoever_asks_too_often_is_told_when_to_come_back_and_others_are_not() {
    let limits = ApiLimits { requests_per_second: 1, ..ApiLimits::default() };
    let scene = Scene::new(&ApiConfig { limits, ..with_tokens() });
    let answers: Vec<Answer> = (0..10).map(|_| scene.as_owner_of(READ, "GET", "/api/v1/status", "")).collect();
    let refused = answers.iter().find(|answer| answer.status == 429).expect("a refusal");
    refused.problem(429, "too-many-requests");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(answers[0].status, 200);
    assert_eq!(scene.as_owner_of(ADMIN, "GET", "/api/v1/status", "").status, 200);
    let guesses: Vec<u16> = (0..10)
        .map(|number| scene.as_owner_of(&format!("guess-{number}"), "GET", "/api/v1/status", "").status)
        .collect();
    assert!(guesses.contains(&429), "who guesses tokens is one asker, however many they try: {guesses:?}");
}

#[test]
fn a_client_that_is_refused_hears_why_even_if_it_sends_much() {
    let scene = Scene::new(&with_tokens());
    let publish = "/api/v1/replication/links/orders/stages/mask/revisions";
    scene.send("POST", publish, &[], vec![0; 8 << 20]).problem(401, "not-authenticated");
    scene.as_owner_of(OPERATE, "POST", publish, vec![0; 8 << 20]).problem(403, "role-missing");
}

#[test]
fn without_tokens_a_page_cannot_have_its_own_name_lead_here() {
    let scene = Scene::new(&ApiConfig::open());
    let port = scene.base.rsplit_once(':').expect("a port").1.to_owned();
    for host in ["evil.example", &format!("evil.example:{port}"), "127.0.0.1.evil.example", "localhost.evil.example"] {
        let headers = [("host", host), ("origin", &format!("http://{host}"))];
        scene.send("POST", "/api/v1/replication/links/orders/stop", &headers, "").problem(403, "foreign-host");
        scene.send("GET", "/api/v1/status", &[("host", host)], "").problem(403, "foreign-host");
    }
    for host in ["localhost", "LocalHost:80", "127.0.0.1", "[::1]:8081", "[::1]", "10.0.0.7:1"] {
        assert_eq!(scene.send("GET", "/api/v1/status", &[("host", host)], "").status, 200, "{host}");
    }
    let scene = Scene::new(&with_tokens());
    let headers = [("host", "tidegate.example"), ("authorization", &*format!("Bearer {READ}"))];
    assert_eq!(scene.send("GET", "/api/v1/status", &headers, "").status, 200, "with tokens any name is good");
}
