//! What stands before every handler: who is it, may they do it, do they ask too often. And behind it: what became of it is written down.

use std::borrow::Cow;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, HttpBody as _};
use axum::extract::{MatchedPath, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio::time::timeout_at;
use tracing::{Instrument as _, field, info_span};

use super::audit::Entry;
use super::credentials::Identity;
use super::rates::Asker;
use super::{Access, Caller, Claimed, Peer, Prepared};
use crate::api::error::ApiError;
use crate::api::routes::Needs;
use crate::api::wire::Time;
use crate::config::Role;

/// How much of the body of a refused request is read: to a client that is still sending, an early answer looks like a broken connection.
const REFUSED_BYTES_MAX: usize = 64 << 20;

/// What the guard knows.
#[derive(Clone)]
pub(in crate::api) struct Gate {
    pub(in crate::api) access: Arc<Access>,
    /// What each method of each path needs.
    pub(in crate::api) needs: Arc<HashMap<(Method, String), Needs>>,
}

/// Why somebody is refused.
struct Refusal {
    error: ApiError,
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self { error, headers: Vec::new() }
    }
}

/// The target of spans of requests, which are made to be collected and are no part of the log.
pub const SPANS: &str = "tidegate::api::trace";

/// Refuse a request, or let it go on with its [`Caller`]; and have a collector know how long it took.
pub(in crate::api) async fn guard(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let (method, status) = (request.method().as_str(), field::Empty);
    let span = info_span!(target: SPANS, parent: None, "request", method, route, status);
    let answer = admit(gate, request, next).instrument(span.clone()).await;
    span.record("status", answer.status().as_u16());
    answer
}

async fn admit(gate: Gate, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return ApiError::internal().into_response();
    };
    let matched = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let known = gate.needs_of(request.method(), matched.as_deref());
    // Strangers do not hear what there is and what not.
    let needs = known.unwrap_or(Needs::Role(Role::Read));
    let current = gate.access.current.load_full();
    let identity = current.credentials.identify(request.headers(), &peer);
    let entry = begin_entry(&request, &peer, &identity, matched.as_deref());
    let decided = check_host(&request)
        .map_err(Refusal::from)
        .and_then(|()| gate.decide(&current, request.headers(), &peer, needs, identity));
    match decided {
        Ok(caller) => {
            let is_told = is_changing(request.method()) && known.is_some_and(Needs::is_audited);
            request.extensions_mut().insert(caller);
            // Nobody reads the body of a request that only looks. A client that is still sending would not hear a long answer.
            if !is_changing(request.method()) {
                throw_away(std::mem::take(request.body_mut()), current.config.limits.body_timeout).await;
            }
            peer.set_busy(true);
            let answer =
                if is_told { gate.run_to_the_end(entry, request, next).await } else { next.run(request).await };
            // What is still to be sent has its own limit of time.
            peer.set_busy(false);
            answer
        }
        Err(refusal) => {
            let mut answer = refusal.error.into_response();
            answer.headers_mut().extend(refusal.headers.into_iter().map(|(name, value)| (Some(name), value)));
            let is_about_rights = [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&answer.status());
            if is_about_rights
                && let Some(left_out) = gate.access.audit.admit_refusal(entry.name.is_some(), Instant::now())
            {
                gate.tell(concluded(Entry { left_out, ..entry }, &answer)).await;
            }
            throw_away(request.into_body(), current.config.limits.body_timeout).await;
            answer
        }
    }
}

impl Gate {
    /// `None` if there is no such path, or not with this method.
    fn needs_of(&self, method: &Method, matched: Option<&str>) -> Option<Needs> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        self.needs.get(&(method.clone(), matched?.to_owned())).copied()
    }

    fn decide(
        &self,
        current: &Prepared,
        headers: &HeaderMap,
        peer: &Peer,
        needs: Needs,
        identity: Identity,
    ) -> Result<Caller, Refusal> {
        let is_open = current.config.is_open();
        refuse_foreign_pages(headers, peer, is_open)?;
        let asker = match &identity {
            Identity::Known(Caller { name: Some(name), .. }) => Asker::Named(name.clone()),
            _ => Asker::at(peer.address),
        };
        // Where nobody is asked who they are everybody is at home: a program that reads records as fast as it can does no harm.
        if !is_open {
            let rate = current.config.limits.requests_per_second;
            self.access.rates.take(asker, rate, Instant::now()).map_err(|wait| too_often(rate, wait))?;
        }
        let needed = match needs {
            Needs::Nothing => None,
            Needs::Metrics if current.config.metrics_without_token => None,
            Needs::Metrics => Some(Role::Read),
            Needs::Role(role) | Needs::RoleForRecords(role) => Some(role),
        };
        match (identity, needed) {
            (Identity::Known(caller), needed) if needed.is_none_or(|needed| caller.role >= needed) => Ok(caller),
            (Identity::Known(caller), Some(needed)) => Err(not_allowed(&caller, needed).into()),
            // Nobody asks who they are.
            (_, None) => Ok(Caller { name: None, role: Role::Read }),
            (Identity::Nobody, _) => Err(not_known("this needs a token", "")),
            (Identity::Wrong(why), _) => Err(not_known(why, ", error=\"invalid_token\"")),
        }
    }

    /// Have a request answered and write down what became of it, also if its client hangs up meanwhile: what has begun is done all the same.
    async fn run_to_the_end(&self, entry: Entry, request: Request, next: Next) -> Response {
        let gate = self.clone();
        let running = tokio::spawn(async move {
            let answer = next.run(request).await;
            gate.tell(concluded(entry, &answer)).await;
            answer
        });
        running.await.unwrap_or_else(|_panic| ApiError::internal().into_response())
    }

    /// Write down what became of a request, before its answer goes out.
    async fn tell(&self, entry: Entry) {
        let access = self.access.clone();
        drop(tokio::task::spawn_blocking(move || access.audit.write(entry)).await);
    }
}

fn is_changing(method: &Method) -> bool {
    ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

fn begin_entry(request: &Request, peer: &Peer, identity: &Identity, matched: Option<&str>) -> Entry {
    let caller = if let Identity::Known(caller) = identity { Some(caller) } else { None };
    let name = caller.and_then(|caller| caller.name.as_ref()).map(ToString::to_string);
    let path = request.uri().path();
    Entry {
        time: Time::now(),
        claimed: if name.is_none() && caller.is_some() { claimed(request) } else { None },
        role: caller.map(|caller| caller.role.word()),
        name,
        address: peer.address.to_string(),
        method: request.method().to_string(),
        link: matched.and_then(|matched| link_of(matched, path)),
        path: path.to_owned(),
        status: 0,
        left_out: 0,
    }
}

/// What somebody says that they are called.
fn claimed(request: &Request) -> Option<String> {
    #[derive(Deserialize)]
    struct By {
        by: Option<Claimed>,
    }
    let Query(By { by }) = Query::try_from_uri(request.uri()).ok()?;
    by.map(|by| by.to_string())
}

/// The link that a path names, as it stands there.
fn link_of(matched: &str, path: &str) -> Option<String> {
    let mut both = matched.split('/').zip(path.split('/'));
    both.find(|(name, _)| *name == "{link}").map(|(_, link)| link.to_owned())
}

/// An entry with what became of its request.
fn concluded(entry: Entry, answer: &Response) -> Entry {
    let link = entry.link.or_else(|| made_link(answer));
    Entry { link, status: answer.status().as_u16(), ..entry }
}

/// The link that an answer says was made.
fn made_link(answer: &Response) -> Option<String> {
    let place = answer.headers().get(header::LOCATION)?.to_str().ok()?;
    place.strip_prefix("/api/v1/replication/links/").map(str::to_owned)
}

fn not_known(why: &str, hint: &'static str) -> Refusal {
    let remedy = "send the header `Authorization: Bearer TOKEN`; the command line takes the token from --token-file or TIDEGATE_TOKEN";
    let error = ApiError::new(StatusCode::UNAUTHORIZED, "not-authenticated", why, remedy);
    let challenge = HeaderValue::from_str(&format!("Bearer realm=\"tidegate\"{hint}"));
    Refusal { error, headers: challenge.map(|value| (header::WWW_AUTHENTICATE, value)).into_iter().collect() }
}

fn not_allowed(caller: &Caller, needed: Role) -> ApiError {
    let name = caller.name.as_deref().unwrap_or("the caller");
    let detail = format!("this needs the role {needed}, and {name} has the role {}", caller.role);
    let remedy = format!("use a token with the role {needed}");
    ApiError::new(StatusCode::FORBIDDEN, "role-missing", detail, remedy)
}

fn too_often(rate: u32, wait: Duration) -> Refusal {
    let detail = format!("there are more than {rate} requests a second");
    let remedy = "ask less often, or raise requests_per_second in [daemon.api]";
    let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too-many-requests", detail, remedy);
    let seconds = wait.as_secs_f64().ceil().max(1.0) as u64;
    Refusal { error, headers: vec![(header::RETRY_AFTER, HeaderValue::from(seconds))] }
}

/// A page that somebody visits can make the browser send requests to a daemon that the browser reaches, with its client certificate. Browsers name
/// the page's origin in every request that changes something; a page of our own has our own address. And where nobody has to say who they are, the name that the
/// browser knows us by must be ours: a page can have its own name lead here.
fn refuse_foreign_pages(headers: &HeaderMap, peer: &Peer, is_open: bool) -> Result<(), ApiError> {
    let text = |name| headers.get(name).map(HeaderValue::as_bytes);
    let host = text(header::HOST).unwrap_or_default();
    let scheme: &[u8] = if peer.is_encrypted { b"https://" } else { b"http://" };
    if text(header::ORIGIN).is_some_and(|origin| origin.strip_prefix(scheme) != Some(host)) {
        let detail = "the request comes from a web page of another origin";
        let remedy = "call the API from a program, or from a page that the daemon serves";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-origin", detail, remedy));
    }
    if is_open && !is_own_host(&String::from_utf8_lossy(host)) {
        let detail = "the request is for a host of another name";
        let remedy = "call the daemon by its IP address or as localhost, or set tokens: then any name is good";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign-host", detail, remedy));
    }
    Ok(())
}

/// Whether a request says once and clearly whom it is for (RFC 9112, 3.2): two answers to that are how requests are smuggled past what stands in between.
fn check_host(request: &Request) -> Result<(), ApiError> {
    let wrong = |detail: &str| {
        Err(ApiError::malformed("bad-host", detail, "send one header Host, with the host and port of the address"))
    };
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    match (host, request.uri().authority()) {
        _ if hosts.next().is_some() => wrong("the request has more than one header Host"),
        (None, _) if request.version() > Version::HTTP_10 => wrong("the request has no header Host"),
        (Some(host), Some(target)) if !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()) => {
            wrong("the request is for one host, and its header Host names another one")
        }
        _ => Ok(()),
    }
}

/// Whether nobody else can have this name lead here: it is an address, or `localhost`, or there is none.
fn is_own_host(host: &str) -> bool {
    let has_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let name: Cow<'_, str> = match host.rsplit_once(':') {
        Some((name, port)) if has_port(port) => name.into(),
        _ => host.into(),
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    let is_local = |name: &str| name.eq_ignore_ascii_case("localhost");
    address.is_empty() || address.parse::<std::net::IpAddr>().is_ok() || is_local(address)
}

/// Read a body and keep nothing of it, for so long.
async fn throw_away(mut body: Body, time: Duration) {
    let deadline = tokio::time::Instant::now() + time;
    let mut bytes = 0;
    while let Ok(Some(Ok(frame))) =
        timeout_at(deadline, poll_fn(|context| Pin::new(&mut body).poll_frame(context))).await
    {
        bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
        if bytes > REFUSED_BYTES_MAX {
            return;
        }
    }
}
