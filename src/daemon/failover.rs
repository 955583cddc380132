//! The target of a link takes its source's place: because a person says so, or by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::control::failure_error;
use super::definitions::wrong_state;
use super::failback::Returns;
use super::world::{Hosted, ManagedBy};
use super::{Daemon, groups, lock, webhook};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::background::{self, UnderWay};
use crate::link::failover::{
    Direction, FailedOver, FailoverError, FailoverRecord, Partitions, Phase, Positions, Preview, Reason, Signs,
    Trigger, Wanted, is_nothing_read,
};
use crate::link::supervisor::LinkState;
use crate::link::{Failure, Link};
use crate::model::LinkId;

/// Who is said to have wanted what happened by itself.
pub(super) const BY_ITSELF: &str = "tidegate";

/// What is remembered of links that change places.
#[derive(Default)]
pub(super) struct Regions {
    triggers: Mutex<BTreeMap<LinkId, Trigger>>,
    /// Links that are just failing over by themselves.
    falling: UnderWay<LinkId>,
    pub(super) returns: Returns,
}

impl Daemon {
    /// A link whose clusters can change places.
    pub(super) fn find_region(&self, id: &str) -> Result<Arc<Hosted>, ControlError> {
        let hosted = self.find_hosted(id)?;
        if hosted.managed_by == ManagedBy::Failback {
            return Err(way_back(id));
        }
        let config = hosted.config();
        if config.goes_both_ways() {
            let message = format!("link {id} goes both ways: none of its clusters takes the other's place");
            let remedy = "write to the cluster that is there: the other one gets it all when it is back";
            return Err(ControlError::new(ErrorKind::Conflict, "active-active", message, remedy));
        }
        Ok(hosted)
    }

    pub(super) fn fail_link_over(
        &self,
        id: &str,
        drain: Option<Duration>,
        by: &str,
    ) -> Result<wire::FailoverEvent, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        let drain = drain.unwrap_or(link.config().failover.drain_timeout);
        let wanted = Wanted { reason: Reason::Manual, because: None, by: by.to_owned(), drain };
        let record = link.fail_over(&wanted).map_err(|error| refused(link, error))?;
        Ok(event(link, &record))
    }

    pub(super) fn plan_link_failover(
        &self,
        id: &str,
        drain: Option<Duration>,
    ) -> Result<wire::FailoverPlan, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        let preview = link.preview_failover().map_err(|error| refused(link, error))?;
        let drain = drain.unwrap_or(link.config().failover.drain_timeout);
        let steps = failover_steps(link, &preview, drain);
        let Preview { positions, source_answers, groups, warnings, .. } = preview;
        let (partitions, target_partitions) = places(&positions);
        Ok(wire::FailoverPlan {
            link_id: id.to_owned(),
            direction: wire::FailoverType::Failover,
            steps,
            source_reachable: source_answers,
            records_left: positions.left(),
            records_at_source: None,
            partitions,
            target_partitions,
            groups: groups.map(|groups| groups.iter().map(groups::group).collect()),
            warnings,
        })
    }

    /// Failovers and failbacks, oldest first, with the one that is under way.
    pub(super) fn link_failovers(&self, id: &str) -> Result<Vec<wire::FailoverEvent>, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        // From the target: a daemon that has just been started has not looked there yet.
        let (records, over) = Link::failovers_seen(link).map_err(failure_error)?;
        let under_way = over.and_then(|over| self.under_way(link, &over));
        Ok(records.iter().map(|record| event(link, record)).chain(under_way).collect())
    }

    pub(super) fn link_failover(&self, id: &str, event: &str) -> Result<wire::FailoverDetails, ControlError> {
        let found = self.link_failovers(id)?.into_iter().find(|known| known.id == event);
        let event = found.ok_or_else(|| {
            let message = format!("link {id} has no failover or failback {event}");
            let remedy = format!("`tidegate link failovers {id}` lists them");
            ControlError::new(ErrorKind::NotFound, "failover-not-found", message, remedy)
        })?;
        let link = &self.find_hosted(id)?.link();
        let epoch = event.id.rsplit('-').next().and_then(|epoch| epoch.parse().ok()).unwrap_or(0);
        let positions = match event.direction {
            wire::FailoverType::Failover => link.positions(epoch),
            wire::FailoverType::Failback => link.unreplicated(epoch),
        };
        let (partitions, target_partitions) = places(&positions.map_err(failure_error)?.unwrap_or_default());
        Ok(wire::FailoverDetails { event, partitions, target_partitions })
    }

    /// What is to be said of a change of places that is under way.
    pub(super) fn under_way(&self, link: &Link, over: &FailedOver) -> Option<wire::FailoverEvent> {
        let (direction, phase) = match over.phase {
            Phase::Over => return None,
            Phase::Fencing => (Direction::Failover, wire::FailoverPhase::Fencing),
            Phase::Returning => (Direction::Failback, wire::FailoverPhase::Returning),
            Phase::Closing => (Direction::Failback, wire::FailoverPhase::Closing),
        };
        let progress = self.regions.returns.progress(&link.config().id);
        let record = FailoverRecord {
            direction,
            epoch: over.epoch,
            reason: over.reason,
            because: over.because.clone(),
            by: over.by.clone(),
            begun_ms: over.since_ms,
            done_ms: wire::Time::now().0,
            drained: over.drained,
            left: progress.left,
            groups_moved: Vec::new(),
            warnings: progress.warnings,
        };
        let (records_left, event) = (record.left, event(link, &record));
        Some(wire::FailoverEvent { success: None, phase: Some(phase), records_left, records_at_source: None, ..event })
    }

    /// Look after links that fail over or back by themselves, or are about to; and say what has happened. It waits for no cluster.
    pub(super) fn attend_regions(self: &Arc<Self>) {
        for hosted in self.links().into_iter().filter(|hosted| hosted.managed_by != ManagedBy::Failback) {
            match hosted.link().failed_over() {
                None => self.fall_if_due(&hosted),
                Some(FailedOver { phase: Phase::Fencing, .. }) => {}
                Some(over @ FailedOver { phase: Phase::Over, .. }) => self.return_if_due(&hosted, &over),
                Some(FailedOver { phase: Phase::Returning | Phase::Closing, .. }) => self.go_back(&hosted),
            }
            webhook::tell_news(&hosted);
        }
    }

    fn fall_if_due(&self, hosted: &Arc<Hosted>) {
        let link = &hosted.link();
        let config = &link.config().failover;
        let (state, _) = link.state();
        // While the source is gone lanes are opened again and again: that is no reason to begin to count anew.
        let is_to_run = !matches!(state, LinkState::Stopped | LinkState::Paused | LinkState::FailedOver);
        if !config.enabled || !link.leads() || !is_to_run {
            lock(&self.regions.triggers).remove(&link.config().id);
            return;
        }
        let id = link.config().id.clone();
        let due = lock(&self.regions.triggers).entry(id.clone()).or_default().look(signs(link), config, Instant::now());
        // What has failed waits for a person, and may not be the source's fault.
        let Some((reason, because)) = due.filter(|_| state != LinkState::Failed) else { return };
        let wanted = Wanted { reason, because: Some(because), by: BY_ITSELF.to_owned(), drain: config.drain_timeout };
        let hosted = hosted.clone();
        self.regions.falling.begin("failover", &id, move || {
            let link = hosted.link();
            let because = wanted.because.as_deref().unwrap_or_default();
            tracing::error!(link = &*link.config().id, "fails over by itself: {because}");
            if let Err(error) = link.fail_over(&wanted) {
                tracing::error!(link = &*link.config().id, "it could not fail over: {error}");
            }
        });
    }

    fn return_if_due(&self, hosted: &Arc<Hosted>, over: &FailedOver) {
        let link = &hosted.link();
        let config = &link.config().failover;
        // A person who has failed it over, or has called a failback off, decides about the rest, too.
        // And a source that was only too fast is no better for being there: it would go to and fro.
        let is_ours = *over.daemon == *self.name && !matches!(over.reason, Reason::Manual | Reason::Lag);
        if !(config.enabled && config.auto_failback && is_ours) {
            return;
        }
        let id = link.config().id.clone();
        if lock(&self.regions.triggers).entry(id.clone()).or_default().is_back(signs(link), config, Instant::now()) {
            lock(&self.regions.triggers).remove(&id);
            let (hosted, over) = (hosted.clone(), over.clone());
            // The source may hang once more.
            let begin = move || {
                let link = hosted.link();
                if let Err(error) = link.begin_return_of(&over, Reason::SourceBack, BY_ITSELF) {
                    tracing::error!(link = &*link.config().id, "it could not fail back: {error}");
                }
            };
            background::begin("failback", begin, |_| {});
        }
    }
}

/// Nobody has defined it, and it goes with the failback.
pub(super) fn way_back(id: &str) -> ControlError {
    let message = format!("link {id} is the way back of another one");
    let remedy = "fail over or back, or change, the link that it belongs to";
    ControlError::new(ErrorKind::Conflict, "way-back", message, remedy)
}

fn signs(link: &Link) -> Signs {
    let (lags, partitions) = (link.lags(), link.each_lane(|_, lane| Partitions::of(lane)));
    Signs {
        source_answers: link.source_answer().map(|answer| answer.is_reachable()),
        target_answers: link.target_answer().map(|answer| answer.is_reachable()),
        nothing_is_read: is_nothing_read(&partitions, lags.as_ref().is_some_and(|lags| lags.is_silent)),
        lag_records: lags.map(|lags| lags.partitions.values().map(|lag| lag.records).sum()),
        consecutive_failures: link.counters().consecutive_failures.load(std::sync::atomic::Ordering::Relaxed),
    }
}

pub(super) fn event(link: &Link, record: &FailoverRecord) -> wire::FailoverEvent {
    let config = link.config();
    let is_back = record.direction == Direction::Failback;
    wire::FailoverEvent {
        id: record.id(),
        link_id: config.id.to_string(),
        direction: match record.direction {
            Direction::Failover => wire::FailoverType::Failover,
            Direction::Failback => wire::FailoverType::Failback,
        },
        reason: match record.reason {
            Reason::Manual => wire::FailoverReason::Manual,
            Reason::Lag => wire::FailoverReason::Lag,
            Reason::ConsecutiveFailures => wire::FailoverReason::ConsecutiveFailures,
            Reason::SourceUnreachable => wire::FailoverReason::SourceUnreachable,
            Reason::SourceBack => wire::FailoverReason::SourceBack,
        },
        because: record.because.clone(),
        by: record.by.clone(),
        source_cluster_id: config.source.to_string(),
        target_cluster_id: config.target.to_string(),
        timestamp: wire::Time(record.begun_ms),
        success: Some(true),
        duration: seconds(record.done_ms - record.begun_ms),
        phase: None,
        drained: record.drained,
        records_left: if is_back { Some(0) } else { record.left },
        records_at_source: record.left.filter(|_| is_back),
        groups_moved: record.groups_moved.clone(),
        warnings: record.warnings.clone(),
    }
}

/// `5s`, `0.25s`.
fn seconds(ms: i64) -> String {
    let (whole, rest) = (ms.max(0) / 1000, ms.max(0) % 1000);
    let rest = format!("{rest:03}");
    match rest.trim_end_matches('0') {
        "" => format!("{whole}s"),
        rest => format!("{whole}.{rest}s"),
    }
}

pub(super) fn places(positions: &Positions) -> (Vec<wire::FailoverPartition>, Vec<wire::FailoverTarget>) {
    let (mut partitions, mut targets) = (Vec::new(), Vec::new());
    for (name, topic) in &positions.topics {
        partitions.extend(topic.next.iter().map(|(partition, next)| wire::FailoverPartition {
            topic: name.clone(),
            partition: *partition,
            next_offset: *next,
            source_end: topic.source_ends.get(partition).copied(),
        }));
        targets.extend((0..).zip(&topic.target_ends).map(|(partition, end)| wire::FailoverTarget {
            topic: topic.target.clone(),
            partition,
            end: *end,
        }));
    }
    (partitions, targets)
}

fn failover_steps(link: &Link, preview: &Preview, drain: Duration) -> Vec<String> {
    let config = link.config();
    let drain = match (preview.source_answers, preview.positions.left()) {
        (false, _) => "skip waiting for records: the source does not answer".to_owned(),
        (true, left) if !preview.runs && left != Some(0) => {
            "skip waiting for records: the link does not run, so none would come".to_owned()
        }
        (true, Some(0)) => "wait for nothing: everything is over".to_owned(),
        (true, Some(left)) => format!("wait for at most {left} records, up to {} ms", drain.as_millis()),
        (true, None) => format!("wait for what the source still has, up to {} ms", drain.as_millis()),
    };
    let groups = match &preview.groups {
        None => "move no consumer groups".to_owned(),
        Some(groups) => {
            let moved = groups.iter().filter(|plan| plan.fate == crate::link::groups::Fate::Move).count();
            format!("move {moved} of {} consumer groups", groups.len())
        }
    };
    let webhook = config.failover.webhook.as_ref().map(|webhook| format!("tell {}", webhook.place()));
    let mut steps = vec![
        drain,
        "fence all lanes: none of them can write to the target any more".to_owned(),
        format!(
            "write down where {} partitions are",
            preview.positions.topics.values().map(|it| it.next.len()).sum::<usize>()
        ),
        groups,
        format!("{} has the place of {}", config.target, config.source),
    ];
    steps.extend(webhook);
    steps
}

fn refused(link: &Link, error: FailoverError) -> ControlError {
    let id = &link.config().id;
    let message = format!("link {id}: {error}");
    match error {
        FailoverError::NotStarted => ControlError::new(
            ErrorKind::Conflict,
            "not-started",
            message,
            format!("`tidegate link start {id}` starts it"),
        ),
        FailoverError::Already(over) => {
            let remedy = match over.phase {
                Phase::Fencing => format!("`tidegate link failovers {id}` says how far it is"),
                _ => format!("`tidegate link failback {id}` gives the source its place back"),
            };
            wrong_state(message, remedy, LinkState::FailedOver)
        }
        FailoverError::Relaning => {
            let remedy = "wait until that is done, or call it off";
            ControlError::new(ErrorKind::Conflict, "relane-under-way", message, remedy)
        }
        FailoverError::LayoutTooOld(_) => {
            let remedy = "remove `layout_max` under [daemon], and restart the daemon";
            ControlError::new(ErrorKind::Conflict, "layout-too-old", message, remedy)
        }
        FailoverError::Failed(failure) => failure_error(Failure { message, ..failure }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_written_in_seconds() {
        for (ms, text) in [(0, "0s"), (5000, "5s"), (250, "0.25s"), (61_007, "61.007s"), (-5, "0s")] {
            assert_eq!(seconds(ms), text);
        }
    }
}
