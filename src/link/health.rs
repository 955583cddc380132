//! How a link is, in words: what is wrong, what is odd, and what to do about it.
//!
//! Nothing is asked here: clusters were asked in the background, and lanes have counted. So whoever wants to know never waits.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use super::lag::Lags;
use super::probe::Answer;
use super::supervisor::{Link, LinkState};
use crate::config::{HealthConfig, LinkConfig};
use crate::connector::Class;
use crate::model::TopicPartition;

/// How many partitions that stand still are named.
const PARTITIONS_TOLD: usize = 5;

/// How a link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong or odd.
    Healthy,
    /// Something is odd, and it does what it should.
    Degraded,
    /// Something is wrong.
    Unhealthy,
}

/// What is known of how a link is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// When both clusters had been asked, in milliseconds since 1970-01-01 UTC; `None`: they have not answered yet, nor failed to.
    pub checked_ms: Option<i64>,
    /// Whether the source answers; `None` before it was asked.
    pub source_reachable: Option<bool>,
    /// Whether the target answers; `None` before it was asked.
    pub target_reachable: Option<bool>,
    /// Whether it keeps up; `None`: it is not known.
    pub lag_healthy: Option<bool>,
    /// Whether its lanes work without too many errors.
    pub errors_healthy: bool,
    /// Whether it commits.
    pub checkpoint_healthy: bool,
    /// What is wrong.
    pub issues: Vec<String>,
    /// What is odd.
    pub warnings: Vec<String>,
}

impl Health {
    /// In a word.
    pub fn verdict(&self) -> Verdict {
        match (self.issues.is_empty(), self.warnings.is_empty()) {
            (false, _) => Verdict::Unhealthy,
            (true, false) => Verdict::Degraded,
            (true, true) => Verdict::Healthy,
        }
    }
}

/// What the verdict is about.
#[derive(Clone, Debug)]
struct Facts {
    state: LinkState,
    failure: Option<Failure>,
    source: Option<Answer>,
    target: Option<Answer>,
    lags: Option<Arc<Lags>>,
    errors_per_second: f64,
    consecutive_failures: u64,
    /// The partitions that stand still, and why.
    stalled: Vec<(TopicPartition, Failure)>,
    /// Whether a bound on the rate may keep partitions waiting.
    is_throttled: bool,
    /// Notices, a sentence each.
    notices: Vec<String>,
}

impl Link {
    /// How it is. Asks nobody.
    pub fn health(&self) -> Health {
        let (state, failure) = self.state();
        let notices = self.notices().into_iter();
        let facts = Facts {
            state,
            failure,
            source: self.source_answer(),
            target: self.target_answer(),
            lags: self.lags(),
            errors_per_second: self.meter().rates().errors,
            consecutive_failures: self.counters().consecutive_failures.load(std::sync::atomic::Ordering::Relaxed),
            stalled: self.each_lane(|_, lane| lane.stalled.clone()).into_iter().flatten().collect(),
            is_throttled: self.throttle().rate().is_some(),
            notices: notices
                .map(|it| format!("{} ({}); {}", it.message, it.code, it.remedy))
                .chain(self.not_found_out())
                .collect(),
        };
        judge(self.config(), &facts)
    }
}

/// The rules, as the README has them.
fn judge(config: &LinkConfig, facts: &Facts) -> Health {
    let limits = &config.health;
    let (mut issues, mut warnings) = (Vec::new(), Vec::new());
    for (which, cluster, answer) in
        [("source", &config.source, &facts.source), ("target", &config.target, &facts.target)]
    {
        if let Some(trouble) = answer.as_ref().and_then(|answer| answer.trouble.as_ref()) {
            issues.push(format!("the {which} cluster {cluster} does not answer: {}", trouble.in_full()));
        }
    }
    judge_state(facts, &mut issues, &mut warnings);
    let lag_healthy = judge_lag(limits, facts.lags.as_deref(), &mut warnings);
    let errors_healthy = judge_errors(limits, facts, &mut issues, &mut warnings);
    judge_partitions(limits, facts, &mut issues);
    let wait = facts.lags.as_ref().and_then(|lags| lags.longest_wait());
    let commits = judge_commits(limits, wait, &mut issues);
    warnings.extend_from_slice(&facts.notices);
    let reachable = |answer: &Option<Answer>| answer.as_ref().map(Answer::is_reachable);
    let checked = |answer: &Option<Answer>| answer.as_ref().map(|answer| answer.at_ms);
    Health {
        checked_ms: checked(&facts.source).zip(checked(&facts.target)).map(|(source, target)| source.min(target)),
        source_reachable: reachable(&facts.source),
        target_reachable: reachable(&facts.target),
        lag_healthy,
        errors_healthy,
        checkpoint_healthy: commits && facts.state != LinkState::Failed && reachable(&facts.target) != Some(false),
        issues,
        warnings,
    }
}

/// What it does, and what keeps it from that.
fn judge_state(facts: &Facts, issues: &mut Vec<String>, warnings: &mut Vec<String>) {
    let because = facts.failure.as_ref().map(|failure| format!("{failure} ({}); {}", failure.code, failure.remedy));
    match (facts.state, because) {
        (LinkState::Failed, because) => {
            let because = because.unwrap_or_else(|| "see the daemon's log".to_owned());
            issues.push(format!("the link has stopped by itself: {because}"));
        }
        (LinkState::Paused, Some(because)) => issues.push(format!("the link was paused by the daemon: {because}")),
        (LinkState::Paused, None) => {
            warnings.push("the link is paused; `tidegate link resume` lets it go on".to_owned());
        }
        (LinkState::Stopped, _) => {
            warnings.push("the link is stopped; `tidegate link start` starts it".to_owned());
        }
        (LinkState::FailedOver, because) => {
            let because = because.unwrap_or_else(|| "the target has the source's place".to_owned());
            warnings.push(format!("the link has failed over: {because}"));
        }
        (LinkState::Starting, None) => warnings.push("the link is starting; wait a moment".to_owned()),
        // A partition that stands still has an issue of its own.
        (LinkState::Degraded, Some(_)) if facts.failure.as_ref() == facts.stalled.first().map(|(_, why)| why) => {}
        // What is tried again by itself is wrong only if that goes on.
        (LinkState::Starting | LinkState::Active | LinkState::Degraded, Some(because)) => {
            let again = facts.failure.as_ref().is_some_and(|failure| failure.class != Class::Fatal);
            let what = if again { "it is tried again" } else { "a lane does not run" };
            warnings.push(format!("{because}; {what}"));
        }
        (LinkState::Active | LinkState::Degraded, None) => {}
    }
}

fn judge_lag(limits: &HealthConfig, lags: Option<&Lags>, warnings: &mut Vec<String>) -> Option<bool> {
    let (lags, most) = (lags?, limits.lag_ms_max);
    if let Some(worst) = lags.worst_ms().filter(|worst| *worst > most) {
        warnings.push(format!(
            "the link is {} s behind its source, and may be {} s (lag_ms_max); `tidegate link show` has the partitions; \
             more lanes or a cheaper pipeline help",
            worst / 1000,
            most / 1000
        ));
        return Some(false);
    }
    lags.are_all_known().then_some(true)
}

/// Partitions that stand still: those of which lanes say why, and those that do not move although they have records.
fn judge_partitions(limits: &HealthConfig, facts: &Facts, issues: &mut Vec<String>) {
    let most = limits.checkpoint_age_max;
    let is_told = |partition: &TopicPartition| facts.stalled.iter().any(|(told, _)| told == partition);
    let stalled = facts.stalled.iter().map(|(partition, why)| format!("{partition} stands still: {}", why.in_full()));
    let lags = facts.lags.as_deref().filter(|_| !facts.is_throttled);
    let unmoved = lags.into_iter().flat_map(|lags| lags.standing(most)).filter(|(partition, _)| !is_told(partition));
    let unmoved = unmoved.map(|(partition, stood)| {
        format!(
            "{partition} has records and has not moved for {} s, and may take {} s (checkpoint_age_max); \
             `tidegate link show` has the lanes, the daemon's log may say more",
            stood.as_secs(),
            most.as_secs()
        )
    });
    let mut all = stalled.chain(unmoved);
    issues.extend(all.by_ref().take(PARTITIONS_TOLD));
    let more = all.count();
    if more > 0 {
        issues.push(format!("{more} more partitions stand still; `tidegate link show` has them"));
    }
}

fn judge_errors(limits: &HealthConfig, facts: &Facts, issues: &mut Vec<String>, warnings: &mut Vec<String>) -> bool {
    if matches!(facts.state, LinkState::Stopped | LinkState::Paused) {
        return true;
    }
    let (rate, rate_max) = (facts.errors_per_second, limits.errors_per_second_max);
    let many = rate > rate_max as f64;
    if many {
        warnings.push(format!(
            "lanes fail {rate:.1} times a second, and may {rate_max} times (errors_per_second_max); `tidegate link events` says why"
        ));
    }
    let (failures, failures_max) = (facts.consecutive_failures, limits.consecutive_failures_max);
    let on_end = failures > failures_max;
    if on_end {
        issues.push(format!(
            "lanes have failed {failures} times without a commit between, and may {failures_max} times \
             (consecutive_failures_max); `tidegate link events` says why"
        ));
    }
    !many && !on_end
}

fn judge_commits(limits: &HealthConfig, wait: Option<Duration>, issues: &mut Vec<String>) -> bool {
    let most = limits.checkpoint_age_max;
    let Some(wait) = wait.filter(|wait| *wait > most) else { return true };
    issues.push(format!(
        "a lane has had something to commit for {} s and has not committed, and may take {} s (checkpoint_age_max); \
         `tidegate link show` has the lanes, the daemon's log may say more",
        wait.as_secs(),
        most.as_secs()
    ));
    false
}

#[cfg(test)]
mod tests;
