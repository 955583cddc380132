//! Definitions that are stored and not run here, each with the reason: they are listed as failed,
//! shown, replaced and deleted like others, because managing a link must not need it to work.
//!
//! One of them is examined again when it or anything that runs here has changed, and otherwise
//! after waits that double: files come and go without telling anybody. The log says why it is not
//! run once for each reason.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Stored, lock};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::config::{Topology, TransferConfig};
use crate::daemon::world::ManagedBy;
use crate::daemon::{Daemon, view};
use crate::model::{Culprit, Json, JsonObject, LinkId};

/// The code of a definition that the daemon aborted under too often.
const SET_ASIDE: &str = "set-aside";

/// The code of a definition that the operator holds.
const HELD: &str = "held";

/// What can be done about any of them.
pub(super) fn manage(id: &str) -> String {
    format!("change it with `tidegate link update {id}`, or delete it with `tidegate link delete {id}`")
}

/// The first and the longest wait until a definition is examined again though nothing has changed.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(60);

/// A definition that is not run, and why.
#[derive(Clone, Debug)]
pub(super) struct Unusable {
    /// The definition, as far as it can be read.
    pub(super) stored: Stored,
    pub(super) reason: ControlError,
    again: Again,
}

/// When a definition is examined again.
#[derive(Clone, Copy, Debug)]
struct Again {
    /// What had changed here when it was examined: see [`World::changes`](crate::daemon::World).
    changes: u64,
    wait: Duration,
    at: Instant,
}

impl Again {
    fn after(before: Option<Self>, changes: u64, now: Instant) -> Self {
        let wait = before.map_or(AGAIN_AFTER, |before| (before.wait * 2).min(AGAIN_AFTER_MAX));
        Self { changes, wait, at: now + wait }
    }

    fn is_due(self, changes: u64, now: Instant) -> bool {
        self.changes != changes || now >= self.at
    }
}

/// Definitions that the operator has said not to run, when the daemon was started.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// Whether that goes for all definitions.
    all: bool,
    /// Those that it goes for.
    links: Vec<String>,
    /// Those that were started or changed since.
    released: Vec<LinkId>,
}

impl Holds {
    /// Hold the definitions of these links, or of all.
    pub fn new(all: bool, links: Vec<String>) -> Self {
        Self { all, links, released: Vec::new() }
    }

    fn hold(&self, id: &LinkId) -> bool {
        (self.all || self.links.iter().any(|held| **held == **id)) && !self.released.contains(id)
    }
}

impl Daemon {
    /// Why a definition must not be tried, if so.
    pub(super) fn forbidden(&self, id: &LinkId, stored: &Stored) -> Option<ControlError> {
        let (code, message, remedy) = if lock(&self.definitions.holds).hold(id) {
            let message = format!("the daemon was started with a hold on link {id}, so it does not run the link");
            (HELD, message, format!("{}; `tidegate link start {id}` tries it", manage(id)))
        } else if self.crashes.forbid(Culprit::of(id, stored.version)) {
            let message = format!("the daemon aborted twice while it ran link {id}, so the link is not run any more");
            let remedy = format!(
                "look for the cause in the log, and report it; {}; `tidegate link start {id}` tries it again",
                manage(id)
            );
            (SET_ASIDE, message, remedy)
        } else {
            return None;
        };
        Some(ControlError::new(ErrorKind::Conflict, code, message, remedy))
    }

    /// What was known of a definition that could not be used, if it is not worth another try yet.
    pub(super) fn still_unusable(&self, id: &LinkId, stored: &Stored) -> Option<Unusable> {
        let known = lock(&self.definitions.unusable).get(id).cloned()?;
        let changes = self.world().changes;
        (known.stored == *stored && !known.again.is_due(changes, Instant::now())).then_some(known)
    }

    /// A definition that was just found not to be usable. What is new about that is logged.
    pub(super) fn unusable_now(&self, id: &LinkId, stored: Stored, reason: ControlError) -> Unusable {
        let known = lock(&self.definitions.unusable).get(id).cloned().filter(|known| known.stored == stored);
        if known.as_ref().is_none_or(|known| known.reason != reason) {
            tracing::error!(link = &**id, version = stored.version, code = reason.code, "{reason}");
        }
        let again = Again::after(known.map(|known| known.again), self.world().changes, Instant::now());
        Unusable { stored, reason, again }
    }

    /// Whether one of them is to be examined again.
    pub(super) fn is_any_due(&self) -> bool {
        let (changes, now) = (self.world().changes, Instant::now());
        lock(&self.definitions.unusable).values().any(|unusable| unusable.again.is_due(changes, now))
    }

    /// Why the definition of a link does not run here, if it is one of those.
    pub(in crate::daemon) fn unusable(&self, id: &str) -> Option<ControlError> {
        lock(&self.definitions.unusable).get(id).map(|unusable| unusable.reason.clone())
    }

    /// A definition that is stored and does not run here. A link of the file with its id is another
    /// one.
    pub(super) fn find_unusable(&self, id: &str) -> Option<(LinkId, Unusable)> {
        let hosted = self.world().links.get(id).cloned();
        if hosted.is_some_and(|hosted| !matches!(hosted.managed_by, ManagedBy::Api { .. })) {
            return None;
        }
        lock(&self.definitions.unusable).get_key_value(id).map(|(id, unusable)| (id.clone(), unusable.clone()))
    }

    /// Try to run a definition that is not run, because a person says so: also one that is held or
    /// set aside.
    pub(in crate::daemon) fn try_again(&self, id: &str) -> Result<(), ControlError> {
        let _changing = lock(&self.changing);
        let Some((id, unusable)) = self.find_unusable(id) else { return Ok(()) };
        let home = self.needed_home()?;
        self.release(&id);
        if unusable.reason.code == SET_ASIDE {
            self.crashes.forgive(Culprit::of(&id, unusable.stored.version)).map_err(|error| {
                let message = format!("the record of crashes cannot be written: {error}");
                ControlError::new(ErrorKind::Unavailable, "not-opened", message, "make the data directory writable")
            })?;
        }
        tracing::warn!(link = &*id, "a definition that was not run is tried again");
        if let Some(unusable) = lock(&self.definitions.unusable).get_mut(&id) {
            unusable.again.at = Instant::now();
        }
        self.take_over(&*home)?;
        self.unusable(&id).map_or(Ok(()), Err)
    }

    /// Let go of a hold, because a person has decided about the link.
    pub(super) fn release(&self, id: &LinkId) {
        lock(&self.definitions.holds).released.push(id.clone());
    }

    /// What is shown of the links that are defined and not hosted, behind the id `after`, by id.
    pub(in crate::daemon) fn not_hosted(&self, after: Option<&str>) -> Vec<wire::Link> {
        let unusable = lock(&self.definitions.unusable).clone();
        let world = self.world();
        let is_behind = |id: &LinkId| after.is_none_or(|after| **id > *after) && !world.links.contains_key(id);
        unusable.iter().filter(|(id, _)| is_behind(id)).map(|(id, unusable)| shown(id, unusable)).collect()
    }

    /// What is shown of a link that is defined and not hosted.
    pub(in crate::daemon) fn shown_unhosted(&self, id: &str) -> Option<wire::Link> {
        if self.world().links.contains_key(id) {
            return None;
        }
        lock(&self.definitions.unusable).get(id).map(|unusable| shown(id, unusable))
    }

    /// What a link that runs shows of a newer definition that cannot be used.
    pub(in crate::daemon) fn add_unusable(&self, link: &mut wire::Link) {
        let Some(Unusable { stored, reason, .. }) = lock(&self.definitions.unusable).get(&*link.id).cloned() else {
            return;
        };
        let message = match link.version {
            Some(runs) => {
                // Changes are made to what is stored.
                link.version = Some(stored.version);
                format!("the link runs version {runs} of its definition: {}", reason.message)
            }
            None => reason.message,
        };
        link.notices.push(wire::Notice { code: reason.code.to_owned(), topic: None, message, remedy: reason.remedy });
    }
}

/// Why a definition is not run, as it is said to whoever asks for the link.
pub(super) fn reason(id: &str, error: ControlError) -> ControlError {
    let first = match &*error.faults {
        [] if error.code != "not-opened" => return error,
        [] => error.message,
        [one] => format!("{}: {}", one.path, one.message),
        [one, rest @ ..] => format!("{}: {} (and {} more)", one.path, one.message, rest.len()),
    };
    let remedy = match error.faults.first().map(|fault| &*fault.help) {
        None => format!("{}; or {}", error.remedy, manage(id)),
        Some("") => format!("correct what it needs; or {}", manage(id)),
        Some(help) => format!("{help}; or {}", manage(id)),
    };
    let message = format!("the definition of link {id} cannot be used: {first}");
    let unusable = ControlError::new(ErrorKind::Conflict, "definition-unusable", message, remedy);
    ControlError { faults: error.faults, ..unusable }
}

/// The id of a cluster of a definition.
pub(super) fn cluster_of(definition: Option<&JsonObject>, key: &str) -> String {
    text(definition.and_then(|definition| definition.get(key)?.get("cluster_id")))
}

fn text(value: Option<&Json>) -> String {
    value.and_then(Json::as_str).unwrap_or_default().to_owned()
}

fn shown(id: &str, unusable: &Unusable) -> wire::Link {
    let Unusable { stored, reason, .. } = unusable;
    let definition = stored.definition.as_ref();
    let of = |key: &str| definition.and_then(|definition| definition.get(key));
    let (source, target) = (cluster_of(definition, "source_cluster"), cluster_of(definition, "target_cluster"));
    let place = |cluster_id: &str| wire::ClusterPlace { cluster_id: cluster_id.to_owned(), brokers: Vec::new() };
    let topics = of("topics").and_then(Json::as_array).into_iter().flatten();
    wire::Link {
        id: id.to_owned(),
        name: of("name").and_then(Json::as_str).unwrap_or(id).to_owned(),
        kind: of("type").and_then(Json::as_str).unwrap_or(Topology::ActivePassive.name()).to_owned(),
        status: wire::LinkStatus::Failed,
        created_at: Some(wire::Time(stored.created_ms)),
        started_at: None,
        source_cluster: place(&source),
        target_cluster: place(&target),
        source,
        target,
        config: view::transfer(&TransferConfig::default()),
        managed_by: wire::ManagedBy::Api,
        version: Some(stored.version),
        topics: topics.map(|topic| text(Some(topic))).collect(),
        topic_prefix: text(of("topic_prefix")),
        dead_letters: String::new(),
        revision: None,
        builtins: wire::RevisionBuiltins::default(),
        layout: None,
        daemons: Vec::new(),
        relane: None,
        error: Some(wire::Trouble {
            code: reason.code.to_owned(),
            message: reason.message.clone(),
            remedy: reason.remedy.clone(),
            stage: None,
            place: None,
            lost: None,
        }),
        pending: Vec::new(),
        notices: Vec::new(),
        latency: None,
        throttle: wire::Throttle::default(),
        group_round: None,
        metrics: wire::MetricsSummary::default(),
        health: wire::HealthSummary {
            status: wire::HealthStatus::Unhealthy,
            source_cluster_reachable: None,
            target_cluster_reachable: None,
        },
        counters: wire::LinkCounters::default(),
        lanes: Vec::new(),
        stages: Vec::new(),
    }
}

/// The line of such a link among all links of the daemon.
pub(in crate::daemon) fn line(link: wire::Link) -> wire::LinkSummary {
    wire::LinkSummary {
        id: link.id,
        name: link.name,
        status: link.status,
        source: link.source,
        target: link.target,
        revision: None,
        records_out: 0,
        messages_per_second: link.metrics.messages_per_second,
        replication_lag: None,
        error: link.error,
    }
}

/// Those that are not run, by link.
pub(super) type AllUnusable = BTreeMap<LinkId, Unusable>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_examined_less_and_less_often_and_when_something_has_changed() {
        let now = Instant::now();
        let second = |count: u64| now + Duration::from_secs(count);
        let mut again = Again::after(None, 7, now);
        assert!(!again.is_due(7, now) && again.is_due(7, second(1)));
        assert!(again.is_due(8, now), "something has changed");
        let waits: Vec<u64> = std::iter::repeat_with(|| {
            again = Again::after(Some(again), 7, now);
            again.wait.as_secs()
        })
        .take(8)
        .collect();
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert!(!again.is_due(7, second(59)) && again.is_due(7, second(60)));
    }

    #[test]
    fn a_hold_ends_for_a_link_that_somebody_has_decided_about() {
        let one = Holds::new(false, vec!["a".into()]);
        assert!(one.hold(&"a".into()) && !one.hold(&"b".into()));
        let mut all = Holds::new(true, Vec::new());
        all.released.push("a".into());
        assert!(!all.hold(&"a".into()) && all.hold(&"b".into()));
    }
}
