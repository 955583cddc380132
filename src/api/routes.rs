//! All paths, each with the role that it needs: a path without one cannot be written down.
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
use super::error::ApiError;
use super::server::Api;
use super::{daemon, definitions, failover, groups, lanes, links, metrics, records, revisions, topics, verification};
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
struct Route {
    method: Method,
    path: String,
    needs: Needs,
    handler: MethodRouter<Api>,
}

fn get<H: Handler<T, Api>, T: 'static>(needs: Needs, path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::GET, path: path.into(), needs, handler: routing::get(handler) }
}

fn post<H: Handler<T, Api>, T: 'static>(needs: Needs, path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::POST, path: path.into(), needs, handler: routing::post(handler) }
}

fn put<H: Handler<T, Api>, T: 'static>(needs: Needs, path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::PUT, path: path.into(), needs, handler: routing::put(handler) }
}

fn delete<H: Handler<T, Api>, T: 'static>(needs: Needs, path: impl Into<String>, handler: H) -> Route {
    Route { method: Method::DELETE, path: path.into(), needs, handler: routing::delete(handler) }
}

fn routes() -> Vec<Route> {
    let link = |rest: &str| format!("/api/v1/replication/links/{{link}}{rest}");
    let topic = |rest: &str| format!("/api/v1/clusters/{{cluster}}/topics{rest}");
    vec![
        get(READ, "/api/v1/status", daemon::status),
        get(Needs::Nothing, "/api/v1/healthz", daemon::healthz),
        get(Needs::Nothing, "/api/v1/readyz", daemon::readyz),
        // Where orchestrators and Prometheus look if nobody tells them otherwise.
        get(Needs::Nothing, "/healthz", daemon::healthz),
        get(Needs::Nothing, "/readyz", daemon::readyz),
        get(Needs::Metrics, "/metrics", metrics::scrape),
        post(ADMIN, "/api/v1/reload", definitions::reload),
        post(ADMIN, "/api/v1/plugins", definitions::store_plugin),
        get(READ, "/api/v1/replication/links", links::list),
        post(ADMIN, "/api/v1/replication/links", definitions::define),
        get(READ, link(""), links::show),
        put(ADMIN, link(""), definitions::redefine),
        delete(ADMIN, link(""), definitions::delete),
        get(READ, link("/definition"), definitions::show),
        post(OPERATE, link("/throttle"), links::throttle),
        delete(OPERATE, link("/throttle"), links::unthrottle),
        post(OPERATE, link("/start"), links::start),
        post(OPERATE, link("/stop"), links::stop),
        post(OPERATE, link("/pause"), links::pause),
        post(OPERATE, link("/resume"), links::resume),
        get(READ, link("/metrics"), links::metrics),
        get(READ, link("/health"), links::health),
        get(READ, link("/plan"), links::plan),
        get(READ, link("/events"), links::events),
        get(READ, link("/groups"), groups::list),
        post(OPERATE, link("/groups/sync"), groups::sync),
        get(READ, link("/resets"), links::resets),
        post(OPERATE, link("/resets"), links::reset),
        post(OPERATE, link("/failover"), failover::fail_over),
        post(OPERATE, link("/failback"), failover::fail_back),
        delete(OPERATE, link("/failback"), failover::call_off),
        get(READ, link("/failovers"), failover::list),
        get(READ, link("/failovers/{event}"), failover::show),
        post(ADMIN, link("/upgrade"), lanes::upgrade),
        post(OPERATE, link("/relane"), lanes::relane),
        get(OPERATE, link("/verification"), verification::show),
        post(OPERATE, link("/verification"), verification::begin),
        delete(OPERATE, link("/verification"), verification::cancel),
        get(READ, link("/revisions"), revisions::list),
        post(OPERATE, link("/rollback"), revisions::rollback),
        post(ADMIN, link("/stages/{stage}/revisions"), revisions::publish),
        get(READ, topic(""), topics::list),
        post(ADMIN, topic(""), topics::create),
        get(READ, topic("/{topic}"), topics::show),
        get(RECORDS, topic("/{topic}/records"), records::read),
        post(RECORDS, topic("/{topic}/records"), records::produce),
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
        router = router.route(&route.path, route.handler);
        needs.insert((route.method, route.path), route.needs);
    }
    let gate = Gate { access: api.access(), needs: Arc::new(needs) };
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(middleware::from_fn_with_state(gate, guard))
        .with_state(api)
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
