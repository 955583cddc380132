//! All paths, each with the role that it needs and a line that says what it is for: a path without them cannot be written down. What else there is to say
//! (parameters, bodies, answers, most failures) is read from the signatures of the handlers; `or` adds how the daemon may refuse what makes sense in itself.
//!
//! What a role may do:
//! - `read` looks at everything but records. What links are, do and say is for everybody who is on watch; what is in the records may be for nobody.
//! - `operate` has links do what an admin has defined: starts, stops, slows, resets, goes back to a plugin that an admin has published, moves consumer groups.
//!   It also reads and writes records, dead letters among them, because that is how a person mends what a link could not handle; and verifies, which shows the beginnings of values
//!   and makes work for the clusters.
//! - `admin` says which code runs and what there is: links, plugins, topics, layouts, the configuration file.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{self, MethodRouter};

use super::access::{Gate, guard};
use super::control::ErrorKind::{self, Conflict, Invalid, Malformed};
use super::describe::{Described, Operation};
use super::error::ApiError;
use super::in_time::{Edge, in_time};
use super::server::Api;
use super::{
    daemon, definitions, events, failover, groups, lanes, letters, links, metrics, records, revisions, stages, topics,
    verification,
};
use crate::config::Role;

/// What somebody needs for a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing: who asks whether the daemon lives has no token.
    Nothing,
    /// What the configuration says of metrics.
    Metrics,
    /// A role.
    Role(Role),
    /// A role, to move records: there are too many for the audit log, and they are no change of what the daemon does.
    RoleForRecords(Role),
}

impl Needs {
    /// Whether the audit log has what was changed here.
    pub(super) fn is_audited(self) -> bool {
        !matches!(self, Self::RoleForRecords(_))
    }
}

const READ: Needs = Needs::Role(Role::Read);
const OPERATE: Needs = Needs::Role(Role::Operate);
const ADMIN: Needs = Needs::Role(Role::Admin);
const RECORDS: Needs = Needs::RoleForRecords(Role::Operate);

/// A method of a path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) needs: Needs,
    /// What it is for, in a line.
    pub(super) says: &'static str,
    /// How it may fail beside what its handler takes.
    pub(super) fails: &'static [ErrorKind],
    /// What its handler takes and answers.
    pub(super) describe: fn(&mut Operation<'_>),
    /// Whether it needs a cluster to answer. Others show what is known.
    pub(super) asks: bool,
    /// The path of the handler in the program.
    name: &'static str,
    handler: MethodRouter<Api>,
}

impl Route {
    /// Say how it may fail beside what its handler takes.
    fn or(self, fails: &'static [ErrorKind]) -> Self {
        Self { fails, ..self }
    }

    /// Say that it needs a cluster to answer.
    fn asks(self) -> Self {
        Self { asks: true, ..self }
    }

    /// The family of paths that it belongs to.
    pub(super) fn family(&self) -> &'static str {
        self.name.rsplit("::").nth(1).unwrap_or_default()
    }

    /// Its name in generated clients; `None` for those beside `/api/v1`, which are there a second time.
    pub(super) fn id(&self) -> Option<String> {
        let handler = self.name.rsplit("::").next().unwrap_or_default();
        self.path.starts_with("/api/").then(|| format!("{}_{handler}", self.family()))
    }
}

fn route<H: Described<D>, D>(
    method: Method,
    needs: Needs,
    path: impl Into<String>,
    says: &'static str,
    handler: MethodRouter<Api>,
) -> Route {
    let name = std::any::type_name::<H>();
    Route { method, path: path.into(), needs, says, fails: &[], describe: H::describe, asks: false, name, handler }
}

fn get<H, T, D>(needs: Needs, path: impl Into<String>, handler: H, says: &'static str) -> Route
where
    H: Handler<T, Api> + Described<D>,
    T: 'static,
{
    route::<H, D>(Method::GET, needs, path, says, routing::get(handler))
}

fn post<H, T, D>(needs: Needs, path: impl Into<String>, handler: H, says: &'static str) -> Route
where
    H: Handler<T, Api> + Described<D>,
    T: 'static,
{
    route::<H, D>(Method::POST, needs, path, says, routing::post(handler))
}

fn put<H, T, D>(needs: Needs, path: impl Into<String>, handler: H, says: &'static str) -> Route
where
    H: Handler<T, Api> + Described<D>,
    T: 'static,
{
    route::<H, D>(Method::PUT, needs, path, says, routing::put(handler))
}

fn delete<H, T, D>(needs: Needs, path: impl Into<String>, handler: H, says: &'static str) -> Route
where
    H: Handler<T, Api> + Described<D>,
    T: 'static,
{
    route::<H, D>(Method::DELETE, needs, path, says, routing::delete(handler))
}

pub(super) fn routes() -> Vec<Route> {
    let link = |rest: &str| format!("/api/v1/replication/links/{{link}}{rest}");
    let topic = |rest: &str| format!("/api/v1/clusters/{{cluster}}/topics{rest}");
    vec![
        get(READ, "/api/v1/status", daemon::status, "The daemon, its clusters, and a line about each link"),
        get(Needs::Nothing, "/api/v1/healthz", daemon::healthz, "Whether the process answers"),
        get(Needs::Nothing, "/api/v1/readyz", daemon::readyz, "Whether it has decided about every link"),
        // Where orchestrators and Prometheus look if nobody tells them otherwise.
        get(Needs::Nothing, "/healthz", daemon::healthz, "Whether the process answers"),
        get(Needs::Nothing, "/readyz", daemon::readyz, "Whether it has decided about every link"),
        get(Needs::Metrics, "/metrics", metrics::scrape, "All numbers, for Prometheus"),
        get(READ, "/api/v1/openapi.json", daemon::description, "This description"),
        post(ADMIN, "/api/v1/reload", definitions::reload, "Read the configuration file anew")
            .or(&[Malformed, Conflict]),
        post(ADMIN, "/api/v1/plugins", definitions::store_plugin, "Keep a component for links that are defined here")
            .or(&[Invalid]),
        get(READ, "/api/v1/replication/links", links::list, "All links, by id"),
        post(ADMIN, "/api/v1/replication/links", definitions::define, "Define a link").or(&[Conflict, Invalid]),
        get(READ, link(""), links::show, "A link"),
        put(ADMIN, link(""), definitions::redefine, "Change the definition of a link that is paused or stopped")
            .or(&[Conflict, Invalid]),
        delete(ADMIN, link(""), definitions::delete, "Delete the definition of a link that is stopped").or(&[Conflict]),
        get(READ, link("/definition"), definitions::show, "The definition of a link, as it was said").or(&[Conflict]),
        post(OPERATE, link("/throttle"), links::throttle, "Have a link write no faster than so, from now on"),
        delete(OPERATE, link("/throttle"), links::unthrottle, "Have a link write as fast as it is configured"),
        post(OPERATE, link("/start"), links::start, "Start a link").or(&[Conflict]),
        post(OPERATE, link("/stop"), links::stop, "Stop a link").or(&[Conflict]),
        post(OPERATE, link("/pause"), links::pause, "Pause a link").or(&[Conflict]),
        post(OPERATE, link("/resume"), links::resume, "Resume a link that is paused").or(&[Conflict]),
        get(READ, link("/metrics"), links::metrics, "What a link has done and how fast, with all partitions"),
        get(READ, link("/health"), links::health, "How a link is"),
        get(READ, link("/plan"), links::plan, "What would be made or changed at the target if the link ran now").asks(),
        get(READ, link("/events"), events::list, "What happened to a link lately, or as it happens"),
        get(READ, link("/lanes"), links::lanes, "The lanes of a link"),
        get(READ, link("/checkpoints"), links::checkpoints, "How far a link has come, by source partition"),
        get(RECORDS, link("/dead-letters"), letters::list, "The records that a link has put aside, and why").asks(),
        get(READ, link("/groups"), groups::list, "The consumer groups that go along with a link")
            .or(&[Conflict])
            .asks(),
        post(OPERATE, link("/groups/sync"), groups::sync, "Move consumer groups").or(&[Conflict, Invalid]),
        get(READ, link("/resets"), links::resets, "Where people have said that a link goes on"),
        post(OPERATE, link("/resets"), links::reset, "Say where partitions of a link go on").or(&[Conflict, Invalid]),
        post(OPERATE, link("/failover"), failover::fail_over, "Have the target take the source's place")
            .or(&[Conflict]),
        post(OPERATE, link("/failback"), failover::fail_back, "Give the source its place back").or(&[Conflict]),
        delete(OPERATE, link("/failback"), failover::call_off, "Leave the target in the source's place after all")
            .or(&[Conflict]),
        get(READ, link("/failovers"), failover::list, "The failovers and failbacks of a link"),
        get(READ, link("/failovers/{event}"), failover::show, "One of them, with all partitions").asks(),
        post(ADMIN, link("/upgrade"), lanes::upgrade, "Raise the layout of a link to the newest one").or(&[Conflict]),
        post(OPERATE, link("/relane"), lanes::relane, "Have a link run with so many lanes").or(&[Conflict, Invalid]),
        get(OPERATE, link("/verification"), verification::show, "The last verification of a link"),
        post(OPERATE, link("/verification"), verification::begin, "Begin to verify a link").or(&[Conflict]),
        delete(OPERATE, link("/verification"), verification::cancel, "End a verification that is under way"),
        get(READ, link("/stages"), stages::list, "The stages of a link, and what they have done"),
        get(READ, link("/stages/{stage}"), stages::show, "A stage"),
        get(READ, link("/stages/{stage}/revisions"), stages::revisions, "The plugins that a stage had, by revision"),
        get(READ, link("/revisions"), revisions::list, "The revisions of a link"),
        post(OPERATE, link("/rollback"), revisions::rollback, "Go back to an earlier revision")
            .or(&[Conflict, Invalid]),
        post(ADMIN, link("/stages/{stage}/revisions"), revisions::publish, "Replace the plugin of a stage")
            .or(&[Conflict, Invalid]),
        get(READ, topic(""), topics::list, "The topics of a cluster").asks(),
        post(ADMIN, topic(""), topics::create, "Make a topic").or(&[Conflict, Invalid]),
        get(READ, topic("/{topic}"), topics::show, "A topic with its partitions").or(&[Invalid]).asks(),
        get(RECORDS, topic("/{topic}/records"), records::read, "Read a partition").or(&[Invalid]).asks(),
        post(RECORDS, topic("/{topic}/records"), records::produce, "Append records to a topic")
            .or(&[Conflict, Invalid]),
    ]
}

/// A method of a path, and the role that it needs: `None` where nobody is asked who they are. `/metrics` may be such a one, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, with `{names}` for its variable parts.
    pub path: String,
    /// The role.
    pub role: Option<Role>,
}

/// Everything that there is.
pub fn endpoints() -> Vec<Endpoint> {
    let role = |needs| match needs {
        Needs::Nothing => None,
        Needs::Metrics => Some(Role::Read),
        Needs::Role(role) | Needs::RoleForRecords(role) => Some(role),
    };
    let endpoint = |Route { method, path, needs, .. }| Endpoint { method, path, role: role(needs) };
    routes().into_iter().map(endpoint).collect()
}

/// All of it, with the guard before it.
pub(super) fn router(api: Api) -> Router {
    let mut needs = HashMap::new();
    let mut router = Router::new();
    for route in routes() {
        router = router.route(&route.path, bounded(&api, &route));
        needs.insert((route.method, route.path), route.needs);
    }
    let gate = Gate { access: api.access(), needs: Arc::new(needs) };
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(gate, guard))
        .with_state(api)
}

/// The handler of a route. None that only looks waits for clusters.
fn bounded(api: &Api, route: &Route) -> MethodRouter<Api> {
    let handler = route.handler.clone();
    // Who asks whether the process lives is to hear that whatever else is wrong.
    if route.method != Method::GET || route.needs == Needs::Nothing {
        return handler;
    }
    handler.route_layer(middleware::from_fn_with_state(Edge { api: api.clone(), asks: route.asks }, in_time))
}

async fn no_such_path(uri: Uri) -> ApiError {
    let detail = format!("there is nothing at {}", uri.path());
    ApiError::new(
        StatusCode::NOT_FOUND,
        "path-not-found",
        detail,
        "paths begin with /api/v1; /metrics, /healthz and /readyz are beside it",
    )
}

async fn no_such_method(method: Method, uri: Uri) -> ApiError {
    let detail = format!("{} does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail, "the header Allow says what it takes")
}
