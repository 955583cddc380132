//! Reads never wait for a cluster that does not answer.
//!
//! This stands before every handler that only looks, so none has a bound of its own. Most of them
//! show what the daemon knows. Those that need a cluster ([`Route::asks`](super::routes::Route)) are
//! given up when their cluster is silent: at once, or after as long as the caller says with
//! `wait_ms`. A cluster that answers, and is only slow, is waited for.
//!
//! What is given up may hang on a thread for much longer. So a link or cluster has a few seats, and
//! who finds none free waits for one.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::HeaderValue;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task_local;
use tokio::time::timeout;

use super::control::{About, ControlError, ErrorKind, Silent};
use super::error::ApiError;
use super::server::Api;

/// How soon a read is answered while a cluster that it is about is silent.
const AT_ONCE: Duration = Duration::from_millis(500);

/// The same of a read that shows what is known. It asks clusters for less than half a second: only a
/// busy machine, or a mistake of ours, takes longer.
const SHOWN_WITHIN: Duration = Duration::from_secs(2);

/// How often is looked whether they are. One that has not answered for so long is.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The longest wait that a caller may choose, in milliseconds.
pub(super) const WAIT_MS_MAX: u64 = 600_000;

/// How many reads may wait at once for the clusters of a link, or for a cluster.
const SEATS: usize = 8;

/// The same of all: half of the threads for blocking work, so that reads of what is known find one.
const SEATS_OF_ALL: usize = 256;

/// The header that names what does not answer.
pub(super) const SILENT: &str = "tidegate-silent";

task_local! {
    /// Where a read that asks clusters finds its seat.
    static TURN: Turn;
}

/// What a read that asks clusters holds for as long as its thread works.
pub(super) type Seat = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// The seats of a link or cluster, and those of all.
#[derive(Clone)]
struct Turn {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// All seats.
pub(super) struct Seats {
    /// By what is asked about. What nobody asks about has no entry for long.
    each: Mutex<HashMap<About, Weak<Semaphore>>>,
    all: Arc<Semaphore>,
}

impl Default for Seats {
    fn default() -> Self {
        Self { each: Mutex::default(), all: Arc::new(Semaphore::new(SEATS_OF_ALL)) }
    }
}

impl Seats {
    fn of(&self, about: &About) -> Turn {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let known = each.get(about).and_then(Weak::upgrade);
        let own = known.unwrap_or_else(|| {
            each.retain(|_, seats| seats.strong_count() > 0);
            let own = Arc::new(Semaphore::new(SEATS));
            each.insert(about.clone(), Arc::downgrade(&own));
            own
        });
        Turn { own, all: self.all.clone() }
    }
}

/// A seat for what is about to be asked, once one is free; `None` for what asks no cluster.
pub(super) async fn seat() -> Option<Seat> {
    let turn = TURN.try_with(Clone::clone).ok()?;
    // Nobody closes them.
    Some((turn.own.acquire_owned().await.ok()?, turn.all.acquire_owned().await.ok()?))
}

/// What stands before a handler.
#[derive(Clone)]
pub(super) struct Edge {
    pub(super) api: Api,
    /// Whether the handler needs a cluster to answer.
    pub(super) asks: bool,
}

/// Answer a read in time.
pub(super) async fn in_time(State(Edge { api, asks }): State<Edge>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let about = about(&mut parts).await;
    let wait = match chosen_wait(&parts) {
        Ok(wait) if asks => wait.max(AT_ONCE),
        Err(error) if asks => return error.into_response(),
        _ => SHOWN_WITHIN,
    };
    let begun = Instant::now();
    if asks {
        // What is asked from here on tells by the time of the answer whether they are silent.
        api.silent(&about, Some(LOOK_EVERY));
    }
    let turn = asks.then(|| api.seats().of(&about));
    let mut answer = pin!(in_turn(turn, next.run(Request::from_parts(parts, body))));
    loop {
        if let Ok(answer) = timeout(LOOK_EVERY, &mut answer).await {
            return marked(answer, &api.silent(&about, None));
        }
        let silent = api.silent(&about, Some(LOOK_EVERY));
        if begun.elapsed() >= wait && !silent.is_empty() {
            return marked(given_up(&silent).into_response(), &silent);
        }
    }
}

async fn in_turn(turn: Option<Turn>, answer: impl Future<Output = Response>) -> Response {
    match turn {
        Some(turn) => TURN.scope(turn, answer).await,
        None => answer.await,
    }
}

/// What a path is about.
async fn about(parts: &mut Parts) -> About {
    let segments = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
    let mut segments = segments.map(|Path(segments)| segments).unwrap_or_default();
    match (segments.remove("link"), segments.remove("cluster")) {
        (Some(link), _) => About::Link(link),
        (_, Some(cluster)) => About::Cluster(cluster),
        _ => About::All,
    }
}

/// How long the caller waits for clusters.
fn chosen_wait(parts: &Parts) -> Result<Duration, ApiError> {
    #[derive(Deserialize)]
    struct Wait {
        wait_ms: Option<u64>,
    }
    let Query(Wait { wait_ms }) = Query::try_from_uri(&parts.uri)?;
    match wait_ms.unwrap_or(0) {
        wait if wait <= WAIT_MS_MAX => Ok(Duration::from_millis(wait)),
        wait => {
            let detail = format!("wait_ms is {wait}, and must be from 0 to {WAIT_MS_MAX}");
            Err(ApiError::malformed("bad-query", detail, "ask several times for more"))
        }
    }
}

/// The answer to a read that nobody can answer now.
fn given_up(silent: &[Silent]) -> ApiError {
    let of = |Silent { cluster, since, why }: &Silent| format!("{cluster} has not answered since {since}: {why}");
    let detail = silent.iter().map(of).collect::<Vec<_>>().join("; ");
    let remedy = "look at its brokers and at the network; a longer wait is `wait_ms=30000` behind the path";
    ControlError::new(ErrorKind::Unavailable, "cluster-silent", detail, remedy).into()
}

/// The answer, with the names of what it could not be asked of.
fn marked(mut answer: Response, silent: &[Silent]) -> Response {
    let of = |silent: &Silent| format!("{}; since=\"{}\"", silent.cluster, silent.since);
    let names = silent.iter().map(of).collect::<Vec<_>>().join(", ");
    if let Some(value) = HeaderValue::from_str(&names).ok().filter(|_| !names.is_empty()) {
        answer.headers_mut().insert(SILENT, value);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_hangs_takes_the_seats_of_its_own_cluster_only() {
        let seats = Seats::default();
        let sit = |about: About| TURN.scope(seats.of(&about), seat());
        let mut taken = Vec::new();
        for _ in 0..SEATS {
            taken.push(sit(About::Cluster("mute".into())).await.expect("a seat"));
        }
        let mut waits = Box::pin(sit(About::Cluster("mute".into())));
        assert!(timeout(Duration::ZERO, &mut waits).await.is_err(), "there is one more");
        assert!(sit(About::Link("mute".into())).await.is_some(), "a link is no cluster");
        taken.pop();
        assert!(waits.await.is_some());
        assert!(seat().await.is_none(), "who asks no cluster needs none");
        drop(taken);
        seats.of(&About::All);
        assert!(seats.each.lock().expect("the lock").len() <= 2, "what nobody asks about is forgotten");
    }
}
