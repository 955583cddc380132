//! The source of a link gets its place back.
//!
//! Another link, the way back, copies what was written to the target meanwhile. When the source has it all nobody may write to the target any more; what came last is
//! copied too, and if nothing comes after that the source has its place again. How far it is stands in the genesis of the link, so that this
//! daemon goes on with it after a restart, and another one takes it over if this one does not come back (`link/failover/back.rs`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::control::failure_error;
use super::failover::{event, places};
use super::world::{Hosted, ManagedBy};
use super::{Daemon, lock};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::background;
use crate::config::failback_of;
use crate::connector::{Class, Patience};
use crate::link::failover::{FailedOver, Phase, Reason, ReturnError};
use crate::link::supervisor::LinkState;
use crate::link::{Desired, Failure, Link};
use crate::model::{LinkId, TopicPartition};

/// How often is looked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long a request waits before it answers that it is under way.
const ANSWER_AFTER: Duration = Duration::from_secs(20);

/// How soon it is tried again after an error.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How long what was written last may take to go back, before others may write to the target again.
const CLOSING_PATIENCE: Duration = Duration::from_secs(60);

/// How long a daemon that goes the way back may not be heard of until another one goes on: it may be starting, or about to end the way.
const ABSENCE_MAX: Duration = Duration::from_secs(30);

/// How often it is listened for.
const LISTEN_EVERY: Duration = Duration::from_secs(2);

/// The ways back that are gone here, or seen to.
#[derive(Default)]
pub(super) struct Returns(Mutex<BTreeMap<LinkId, Progress>>);

/// How far one is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// The records that have not gone back yet, at most.
    pub(super) left: Option<u64>,
    pub(super) warnings: Vec<String>,
    /// The backlog at the last look.
    backlog: Option<Backlog>,
}

/// The offsets of a way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Backlog {
    /// How many are not copied yet.
    left: u64,
    /// How many are copied.
    done: u64,
}

impl Backlog {
    /// Whether writers may be locked out now. A target that refuses records ends the backlog at once, so a backlog that
    /// one more look copies is short enough: a busy writer would keep it above zero for ever. Other targets have to run
    /// dry first.
    fn is_short(self, before: Option<Self>, target_refuses: bool) -> bool {
        let copied = before.map_or(0, |before| self.done.saturating_sub(before.done));
        self.left == 0 || (target_refuses && self.left <= copied)
    }
}

impl Returns {
    pub(super) fn progress(&self, link: &LinkId) -> Progress {
        lock(&self.0).get(link).cloned().unwrap_or_default()
    }

    fn note(&self, link: &LinkId, change: impl FnOnce(&mut Progress)) {
        change(lock(&self.0).entry(link.clone()).or_default());
    }
}

/// How long nothing may have been written to the target before the source gets its place.
const QUIET: Duration = Duration::from_secs(2);

/// What has become of a look at a way back.
enum Looked {
    /// It goes on.
    GoesOn,
    /// The source has its place again.
    Done,
}

impl Daemon {
    pub(super) fn fail_link_back(&self, id: &str, by: &str) -> Result<wire::FailoverEvent, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        let over = link.begin_return(Reason::Manual, by).map_err(|error| refused(id, error))?;
        // The thread that looks after links goes on with it.
        let begun = Instant::now();
        loop {
            match link.failed_over() {
                None => {
                    let (records, _) = link.failovers().map_err(failure_error)?;
                    let name = format!("failback-{}", over.epoch);
                    if let Some(record) = records.iter().rev().find(|record| record.id() == name) {
                        return Ok(event(link, record));
                    }
                }
                Some(now) if now.phase == Phase::Over => {
                    let message = format!("link {id}: the failback was called off");
                    return Err(ControlError::new(ErrorKind::Conflict, "failback-called-off", message, ""));
                }
                Some(now) if begun.elapsed() > ANSWER_AFTER || link.is_dismissed() => {
                    if let Some(under_way) = self.under_way(link, &now) {
                        return Ok(under_way);
                    }
                }
                Some(_) => {}
            }
            if begun.elapsed() > 2 * ANSWER_AFTER {
                return Err(refused(id, ReturnError::NotOver));
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    pub(super) fn plan_link_failback(&self, id: &str) -> Result<wire::FailoverPlan, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        let plan = link.preview_return().map_err(|error| refused(id, error))?;
        let (partitions, target_partitions) = places(&plan.at_source);
        let (source, target) = (&link.config().source, &link.config().target);
        let back = plan.to_return;
        let mut warnings = Vec::new();
        match plan.at_source.left() {
            Some(0) => {}
            Some(left) => warnings.push(format!(
                "{source} has up to {left} records that were never replicated: they stay, and go to {target} when the link runs again"
            )),
            None => warnings.push(format!("it is not known what {source} has beside")),
        }
        Ok(wire::FailoverPlan {
            link_id: id.to_owned(),
            direction: wire::FailoverType::Failback,
            steps: vec![
                format!("copy up to {back} records from {target} back to {source}"),
                format!("wait until nobody writes to {target} any more"),
                "move the consumer groups that go along".to_owned(),
                format!("{source} has its place again, and the link goes on where it was"),
            ],
            source_reachable: true,
            records_left: Some(back),
            records_at_source: plan.at_source.left(),
            partitions,
            target_partitions,
            groups: None,
            warnings,
        })
    }

    pub(super) fn call_off_link_failback(&self, id: &str) -> Result<wire::FailoverEvent, ControlError> {
        let hosted = self.find_region(id)?;
        let link = &hosted.link();
        let called_off = link.call_off_return().map_err(failure_error)?.and_then(|over| self.under_way(link, &over));
        called_off.map(|event| wire::FailoverEvent { success: Some(false), ..event }).ok_or_else(|| {
            let message = format!("link {id} is not failing back");
            ControlError::new(ErrorKind::Conflict, "not-failing-back", message, "")
        })
    }

    /// Go the way back of a link, or see to it that the daemon does that goes it.
    pub(super) fn go_back(self: &Arc<Self>, hosted: &Arc<Hosted>) {
        let id = hosted.config().id.clone();
        if lock(&self.regions.returns.0).contains_key(&id) {
            return;
        }
        self.regions.returns.note(&id, |_| {});
        let (me, hosted, name) = (self.clone(), hosted.clone(), id.clone());
        let it = self.clone();
        let go = move || {
            if it.is_for_us(&hosted.link()) {
                it.return_to_source(&hosted);
            }
        };
        // The next look begins again what has not come to its end.
        background::begin("failback", go, move |_| drop(lock(&me.regions.returns.0).remove(&name)));
    }

    /// Wait until it is for this daemon to go the way back of a link: when it is told to, or when the one is gone that was. Not if it is over before.
    fn is_for_us(&self, link: &Link) -> bool {
        let mut heard = Instant::now();
        loop {
            let Some(over) = link.failed_over().filter(FailedOver::is_returning) else { return false };
            if *over.daemon == *self.name {
                return true;
            }
            if is_heard_of(link, &over) {
                heard = Instant::now();
            }
            if heard.elapsed() > ABSENCE_MAX {
                tracing::warn!(
                    link = &*link.config().id,
                    daemon = over.daemon,
                    "goes on with a failback whose daemon is gone"
                );
                if let Err(error) = link.begin_return_of(&over, over.reason, &over.by) {
                    tracing::warn!(link = &*link.config().id, "failing back: {error}");
                }
                heard = Instant::now();
            } else if link.is_dismissed() {
                return false;
            } else {
                thread::sleep(LISTEN_EVERY);
            }
        }
    }

    fn return_to_source(&self, hosted: &Hosted) {
        let link = &hosted.link();
        let id = &link.config().id;
        let mut is_done = false;
        while !link.is_dismissed() {
            let looked = self.way_back_of(link).and_then(|back| self.look_at(link, &back.link()));
            match looked {
                Ok(Looked::GoesOn) => thread::sleep(LOOK_EVERY),
                Ok(Looked::Done) => {
                    is_done = true;
                    break;
                }
                Err(failure) => {
                    // Called off, done, or taken over by another daemon.
                    if link.failed_over().is_none_or(|over| over.phase == Phase::Over || *over.daemon != *self.name) {
                        break;
                    }
                    // Others may write to the target until it can be closed, be it that one of them has to be stopped first or that the source is gone again.
                    if let Err(failure) = link.turn_return(Phase::Returning) {
                        tracing::debug!(link = &**id, code = failure.code, "{failure}");
                    }
                    if let Some(news) = self.repeats.news(format!("failback of {id}: {failure}"), Instant::now()) {
                        let (code, repeated) = (failure.code, news.repeated);
                        tracing::warn!(link = &**id, code, repeated, "failing back: {failure}");
                    }
                    self.regions.returns.note(id, |progress| progress.warnings = vec![failure.to_string()]);
                    thread::sleep(AGAIN_AFTER);
                }
            }
        }
        self.remove_way_back(id, is_done);
    }

    /// The link that goes the way back; it is made if it is not there.
    fn way_back_of(&self, link: &Link) -> Result<Arc<Hosted>, Failure> {
        let over = link.failed_over().ok_or_else(gone)?;
        let id = over.way_back_id(&link.config().id);
        let is_there = || {
            let there = self.world().links.get(&*id).cloned()?;
            Some(if there.managed_by == ManagedBy::Failback { Ok(there) } else { Err(taken(&id)) })
        };
        if let Some(there) = is_there() {
            return there;
        }
        let config = link.way_back(&over)?;
        let _changing = lock(&self.changing);
        // Somebody may just have defined one.
        if let Some(there) = is_there() {
            return there;
        }
        let id = config.id.clone();
        let back = self.link_of(config, Vec::new(), link.culprit()).map_err(|error| Failure {
            class: Class::Reopen,
            ..Failure::fatal("not-opened", error.message, error.remedy)
        })?;
        let hosted = Hosted::begin(back, ManagedBy::Failback);
        self.world_to_change().links.insert(id, hosted.clone());
        Ok(hosted)
    }

    /// `is_done`: nobody goes on with it.
    fn remove_way_back(&self, link: &LinkId, is_done: bool) {
        let is_its = |hosted: &&Arc<Hosted>| {
            let of = failback_of(&hosted.config().id).map(|(of, _)| of);
            hosted.managed_by == ManagedBy::Failback && of == Some(&**link)
        };
        for back in self.links().iter().filter(is_its) {
            self.world_to_change().links.remove(&back.config().id);
            // A failback that goes on later goes on with its claims.
            back.give_way_to(Some(back.config()).filter(|_| !is_done));
        }
    }

    /// Come a step further.
    fn look_at(&self, link: &Link, back: &Link) -> Result<Looked, Failure> {
        let id = &link.config().id;
        let over = link.failed_over().ok_or_else(gone)?;
        // It was shut out by whoever died before the source had its place.
        back.let_in(link)?;
        if let (LinkState::Failed, Some(failure)) = back.state() {
            return Err(failure);
        }
        if back.state().0 == LinkState::Stopped && over.phase == Phase::Returning {
            back.order(Desired::Running)?;
        }
        let (backlog, before) = (backlog_of(back)?, self.regions.returns.progress(id).backlog);
        self.regions.returns.note(id, |progress| {
            (progress.left, progress.backlog) = (Some(backlog.left), Some(backlog));
        });
        let target_refuses = link.refuses_others(back.config().named_topics().map(|name| &**name))?;
        if over.phase == Phase::Returning && !backlog.is_short(before, target_refuses) {
            return Ok(Looked::GoesOn);
        }
        link.turn_return(Phase::Closing)?;
        self.close(link, back)?;
        Ok(Looked::Done)
    }

    /// Nobody may write to the target now. Let what came last go back, and give the source its place.
    fn close(&self, link: &Link, back: &Link) -> Result<(), Failure> {
        let ends = ends_now(back)?;
        let begun = Instant::now();
        while backlog_of(back)?.left > 0 {
            if begun.elapsed() > CLOSING_PATIENCE || link.is_dismissed() {
                return Err(still_written(link));
            }
            thread::sleep(LOOK_EVERY);
        }
        thread::sleep(QUIET);
        if ends_now(back)? != ends {
            return Err(still_written(link));
        }
        back.order(Desired::Stopped)?;
        let over = link.failed_over().ok_or_else(gone)?;
        let (groups_moved, warnings) = back.move_groups();
        let shut_out = back.shut_out(&over)?;
        if ends_now(back)? != ends {
            return Err(still_written(link));
        }
        link.end_return(shut_out, groups_moved, warnings)?;
        Ok(())
    }
}

/// Whether the daemon that goes a way back runs lanes there. A source that cannot be asked says nothing against it.
fn is_heard_of(link: &Link, over: &FailedOver) -> bool {
    let back = over.way_back_id(&link.config().id);
    link.source().daemons(&back.into()).map_or(true, |daemons| daemons.contains_key(&*over.daemon))
}

/// The ends of all partitions that the way back reads, with what open transactions have written: that has to go back, too.
fn ends_of(back: &Link) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    let topics = back.source().topics()?;
    let partitions: Vec<TopicPartition> = topics
        .iter()
        .filter(|topic| back.config().selects(&topic.name))
        .flat_map(|topic| (0..topic.partitions).map(|number| TopicPartition::new(topic.name.clone(), number)))
        .collect();
    let ends = back.source().log_ends(&partitions, Patience::Long);
    partitions.into_iter().zip(ends).map(|(partition, end)| Ok((partition, end?))).collect()
}

/// The same, of topics and partitions as they are at this moment: what nobody may write to any more is decided with it.
fn ends_now(back: &Link) -> Result<BTreeMap<TopicPartition, i64>, Failure> {
    back.source().look(Duration::ZERO)?;
    ends_of(back)
}

/// How far the way back is. A record counts as not copied until its checkpoint is committed.
fn backlog_of(back: &Link) -> Result<Backlog, Failure> {
    let ends = ends_of(back)?;
    let committed = back.committed()?;
    let mut backlog = Backlog { left: 0, done: 0 };
    for (partition, end) in ends {
        let begin = begins_at(back, &partition);
        let next = committed.get(&partition).copied().unwrap_or(begin);
        backlog.left += (end - next).max(0) as u64;
        backlog.done += (next - begin).max(0) as u64;
    }
    Ok(backlog)
}

fn begins_at(back: &Link, partition: &TopicPartition) -> i64 {
    match &back.config().start {
        crate::config::Start::Offsets(offsets) => offsets.get(partition).copied().unwrap_or(0),
        _ => 0,
    }
}

fn still_written(link: &Link) -> Failure {
    let target = &link.config().target;
    let message = format!("records still come to {target}");
    let remedy = "stop those who write there: the source has its place again as soon as nothing comes any more";
    Failure { class: Class::Reopen, ..Failure::fatal("still-written", message, remedy) }
}

fn taken(id: &str) -> Failure {
    let message = format!("there is another link {id}, which the way back needs as its id");
    Failure {
        class: Class::Reopen,
        ..Failure::fatal("link-exists", message, "delete that link, or give it another id")
    }
}

fn gone() -> Failure {
    Failure { class: Class::Reopen, ..Failure::fatal("not-failing-back", "the link is not failing back", "") }
}

fn refused(id: &str, error: ReturnError) -> ControlError {
    let message = format!("link {id}: {error}");
    match error {
        ReturnError::NotOver => {
            let remedy = format!("`tidegate link failovers {id}` says what has happened");
            ControlError::new(ErrorKind::Conflict, "not-failed-over", message, remedy)
        }
        ReturnError::Fencing => {
            let remedy = "wait until that is done, then fail back";
            ControlError::new(ErrorKind::Conflict, "failover-under-way", message, remedy)
        }
        ReturnError::Failed(failure) => failure_error(Failure { message, ..failure }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_locked_out_when_the_rest_is_copied_within_a_look() {
        let backlog = |left, done| Backlog { left, done };
        let at = |now: Backlog, before, refuses| now.is_short(before, refuses);
        assert!(at(backlog(0, 0), None, false) && at(backlog(0, 0), None, true), "nothing is left");
        assert!(at(backlog(50, 150), Some(backlog(70, 100)), true), "as much as was copied since");
        assert!(!at(backlog(51, 150), Some(backlog(70, 100)), true), "more than was copied since");
        assert!(!at(backlog(50, 150), None, true), "it is not known how fast it goes");
        assert!(!at(backlog(1, 150), Some(backlog(1, 100)), false), "writers cannot be locked out");
        assert!(!at(backlog(1, 100), Some(backlog(1, 150)), true), "another way back has begun");
    }
}
