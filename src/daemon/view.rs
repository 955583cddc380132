//! What links know, as the wire shows it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::api::wire;
use crate::config::TransferConfig;
use crate::connector::RevisionStart;
use crate::link::events::Event;
use crate::link::failure::Place;
use crate::link::health::{Health, Verdict};
use crate::link::heartbeats::Quantiles;
use crate::link::pipeline::Stage;
use crate::link::probe::Silence;
use crate::link::reset::{Moved, ResetRecord};
use crate::link::revision::History;
use crate::link::sight::{AtTarget, Look};
use crate::link::stats::{CALL_TIME_BOUNDS_US, StageStats};
use crate::link::status::{LaneState, LaneStatus, Progress};
use crate::link::supervisor::LinkState;
use crate::link::throttle::ThrottleOrder;
use crate::link::{Failure, Link, Origin, RevisionRecord, StageSpec};
use crate::model::culprit::Work;
use crate::model::partition::lane_of;
use crate::model::{Builtins, Checkpoint, ClusterId, RevisionNumber, TopicPartition};

/// A cluster whose probe waits for so long is said to be silent.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// What was said of a link, and by whom.
pub(super) struct Said {
    pub(super) managed_by: wire::ManagedBy,
    pub(super) version: Option<u64>,
    pub(super) created_at: Option<wire::Time>,
    pub(super) source_cluster: wire::ClusterPlace,
    pub(super) target_cluster: wire::ClusterPlace,
}

/// A link and its lanes, read once and shown in several ways.
pub(super) struct View {
    link: Work<Link>,
    at_target: Arc<AtTarget>,
    state: LinkState,
    failure: Option<Failure>,
    lanes: Vec<LaneStatus>,
    partitions: BTreeMap<TopicPartition, PartitionView>,
    health: Health,
}

/// What is known of a source partition.
struct PartitionView {
    lane: u32,
    /// How far the link has come; `None`: it has not begun, since the partition could not be read
    /// yet.
    progress: Option<Progress>,
    end: Option<i64>,
    lag: Option<u64>,
    lag_ms: Option<u64>,
}

impl View {
    pub(super) fn new(look: &Look) -> Self {
        let link = look.link();
        let (at_target, ends, lags) = (look.at_target(), look.ends(), link.lags());
        let (state, failure) = link.state();
        let lanes = lanes(&link, &at_target);
        let mut partitions = BTreeMap::new();
        for (number, lane) in lanes.iter().enumerate() {
            for (partition, progress) in &lane.committed {
                let lag_ms = lags.as_ref().and_then(|lags| lags.ms_of(partition));
                let end = ends.get(partition).copied();
                partitions.insert(partition.clone(), PartitionView::new(number as u32, *progress, end, lag_ms));
            }
            let not_begun = lane.stalled.keys().filter(|partition| !lane.committed.contains_key(partition));
            partitions.extend(not_begun.map(|it| (it.clone(), PartitionView::not_begun(number as u32))));
        }
        let health = link.health();
        Self { link, at_target, state, failure, lanes, partitions, health }
    }

    pub(super) fn link(&self, said: Said) -> wire::Link {
        let config = self.link.config();
        let counters = self.link.counters();
        let (genesis, revision) = (self.at_target.genesis.as_ref(), self.at_target.history.last());
        wire::Link {
            id: config.id.to_string(),
            name: config.name.clone(),
            kind: config.topology.name().to_owned(),
            status: status(self.state),
            created_at: said.created_at.or(genesis.map(|genesis| wire::Time(genesis.at_ms))),
            started_at: self.link.started_ms().map(wire::Time),
            source: config.source.to_string(),
            target: config.target.to_string(),
            source_cluster: said.source_cluster,
            target_cluster: said.target_cluster,
            config: transfer(&config.config),
            managed_by: said.managed_by,
            version: said.version,
            topics: config.topics.iter().map(ToString::to_string).collect(),
            topic_prefix: config.topic_prefix.clone(),
            dead_letters: config.dead_letters.clone(),
            revision: revision.map(|revision| revision.number.0),
            builtins: revision.map(|revision| builtins(&revision.builtins)).unwrap_or_default(),
            layout: genesis.map(|genesis| genesis.layout),
            daemons: self.daemons(),
            relane: genesis.and_then(super::lanes::progress),
            error: self.failure.as_ref().map(trouble),
            // Who knows adds them.
            pending: Vec::new(),
            notices: self.notices(),
            latency: self.link.latency().map(latency),
            throttle: throttle(&self.link, self.at_target.throttle.as_ref()),
            group_round: self.link.group_round().as_ref().map(super::groups::round),
            metrics: self.summary(),
            health: self.health_summary(),
            counters: wire::LinkCounters {
                records_in: counters.records_in.load(Relaxed),
                records_filtered: counters.records_filtered.load(Relaxed),
                records_transformed: counters.records_transformed.load(Relaxed),
                records_out: counters.records_out.load(Relaxed),
                records_put_aside: counters.records_put_aside.load(Relaxed),
            },
            lanes: self.lanes.iter().enumerate().map(|(number, lane)| self.lane(number as u32, lane)).collect(),
            stages: self.stages(),
        }
    }

    /// What is odd about the link; and which of its clusters what is shown here could not be asked of.
    fn notices(&self) -> Vec<wire::Notice> {
        let unheard = |(cluster, Silence { since_ms, why }): (ClusterId, Silence)| wire::Notice {
            code: "cluster-silent".to_owned(),
            topic: None,
            message: format!(
                "{cluster} has not answered since {}, and what is shown of it is older: {why}",
                wire::Time(since_ms)
            ),
            remedy: "look at its brokers and at the network".to_owned(),
        };
        let silent = self.link.silent_clusters(SILENT_AFTER);
        self.link.notices().iter().map(super::plan::notice).chain(silent.into_iter().map(unheard)).collect()
    }

    fn daemons(&self) -> Vec<wire::KnownLayout> {
        let is_known = self.health.target_reachable != Some(false);
        if is_known { super::lanes::known_layouts(&self.at_target.daemons) } else { Vec::new() }
    }

    fn stages(&self) -> Vec<wire::Stage> {
        let state_bytes = |index: usize| self.lanes.iter().filter_map(|lane| lane.state_bytes.get(index)).sum();
        self.link.stages().iter().enumerate().map(|(index, at)| stage(at, state_bytes(index))).collect()
    }

    pub(super) fn line(&self) -> wire::LinkSummary {
        let config = self.link.config();
        let summary = self.summary();
        wire::LinkSummary {
            id: config.id.to_string(),
            name: config.name.clone(),
            status: status(self.state),
            source: config.source.to_string(),
            target: config.target.to_string(),
            revision: self.at_target.history.last().map(|revision| revision.number.0),
            records_out: summary.total_messages_replicated,
            messages_per_second: summary.messages_per_second,
            replication_lag: summary.replication_lag,
            error: self.failure.as_ref().map(trouble),
        }
    }

    pub(super) fn metrics(&self, now_ms: i64) -> wire::LinkMetrics {
        let counters = self.link.counters();
        let lags: Option<Vec<u64>> = self.partitions.values().map(|partition| partition.lag_ms).collect();
        let lags = lags.filter(|lags| !lags.is_empty());
        let uptime = self.link.started_ms().map_or(0, |started| now_ms.saturating_sub(started).max(0) as u64 / 1000);
        wire::LinkMetrics {
            summary: self.summary(),
            average_replication_lag: lags
                .as_ref()
                .map(|lags| (lags.iter().map(|lag| u128::from(*lag)).sum::<u128>() / lags.len() as u128) as u64),
            max_replication_lag: self.link.lag_ms_max(),
            total_errors: counters.errors.load(Relaxed),
            errors_per_second: self.link.meter().rates().errors,
            consecutive_failures: counters.consecutive_failures.load(Relaxed),
            uptime_seconds: uptime,
            partition_metrics: self
                .partitions
                .iter()
                .map(|(name, view)| (name.to_string(), view.metrics(name)))
                .collect(),
        }
    }

    fn health_summary(&self) -> wire::HealthSummary {
        wire::HealthSummary {
            status: verdict(self.health.verdict()),
            source_cluster_reachable: self.health.source_reachable,
            target_cluster_reachable: self.health.target_reachable,
        }
    }

    fn summary(&self) -> wire::MetricsSummary {
        let counters = self.link.counters();
        let rates = self.link.meter().rates();
        wire::MetricsSummary {
            total_messages_replicated: counters.records_out.load(Relaxed),
            total_bytes_replicated: counters.bytes_out.load(Relaxed),
            messages_per_second: rates.records,
            bytes_per_second: rates.bytes,
            replication_lag: self.lag_ms(),
            lag_measured_at: self.link.lags().map(|lags| wire::Time(lags.at_ms)),
        }
    }

    /// The worst of all partitions; unknown if it is of one, or if there is none.
    fn lag_ms(&self) -> Option<u64> {
        let lags: Option<Vec<u64>> = self.partitions.values().map(|partition| partition.lag_ms).collect();
        let worst = lags?.into_iter().max()?;
        self.link.note_lag_ms(worst);
        Some(worst)
    }

    fn lane(&self, number: u32, lane: &LaneStatus) -> wire::Lane {
        let mine = self.partitions.iter().filter(|(_, view)| view.lane == number);
        wire::Lane {
            lane: number,
            daemon: daemon_of(&self.link, lane),
            state: lane_state(lane.state),
            revision: lane.revision.map(|revision| revision.0),
            epoch: None,
            partitions: mine.map(|(name, view)| view.of_lane(name, lane.stalled.get(name))).collect(),
            last_commit_at: lane.last_commit_ms.map(wire::Time),
            last_swap_pause_us: lane.last_swap_pause.map(|pause| pause.as_micros() as u64),
            error: lane.failure.as_ref().map(trouble),
        }
    }
}

impl PartitionView {
    /// `end` may be as old as the answer of a slow source: what was committed since then lies beyond it.
    fn new(lane: u32, progress: Progress, end: Option<i64>, lag_ms: Option<u64>) -> Self {
        let end = end.map(|end| end.max(progress.next_offset));
        let lag = end.map(|end| end.saturating_sub(progress.next_offset).unsigned_abs());
        let lag_ms = if lag == Some(0) { Some(0) } else { lag_ms.filter(|_| lag.is_some()) };
        Self { lane, progress: Some(progress), end, lag, lag_ms }
    }

    fn not_begun(lane: u32) -> Self {
        Self { lane, progress: None, end: None, lag: None, lag_ms: None }
    }

    fn target_offset(&self) -> Option<i64> {
        self.progress.map(|progress| progress.next_offset)
    }

    fn metrics(&self, name: &TopicPartition) -> wire::PartitionMetrics {
        wire::PartitionMetrics {
            topic: name.topic.to_string(),
            partition: name.partition,
            source_offset: self.end,
            target_offset: self.target_offset(),
            lag: self.lag,
            lag_ms: self.lag_ms,
            messages_replicated: self.progress.map_or(0, |progress| progress.records_out),
            bytes_replicated: self.progress.map_or(0, |progress| progress.bytes_out),
        }
    }

    fn of_lane(&self, name: &TopicPartition, stalled: Option<&Failure>) -> wire::LanePartition {
        wire::LanePartition {
            topic: name.topic.to_string(),
            partition: name.partition,
            source_offset: self.end,
            target_offset: self.target_offset(),
            lag: self.lag,
            lag_ms: self.lag_ms,
            error: stalled.map(trouble),
        }
    }
}

/// The lanes as they run; of a link that was not started yet, what the target knows of them.
fn lanes(link: &Link, at_target: &AtTarget) -> Vec<LaneStatus> {
    match (link.lanes(), &at_target.lanes) {
        (lanes, _) if !lanes.is_empty() => lanes,
        (_, lanes) if !lanes.is_empty() => lanes.clone(),
        _ => vec![LaneStatus::default(); link.config().lanes as usize],
    }
}

fn verdict(verdict: Verdict) -> wire::HealthStatus {
    match verdict {
        Verdict::Healthy => wire::HealthStatus::Healthy,
        Verdict::Degraded => wire::HealthStatus::Degraded,
        Verdict::Unhealthy => wire::HealthStatus::Unhealthy,
    }
}

/// How a link is.
pub(super) fn health(health: Health) -> wire::LinkHealth {
    wire::LinkHealth {
        status: verdict(health.verdict()),
        last_health_check: health.checked_ms.map(wire::Time),
        source_cluster_reachable: health.source_reachable,
        target_cluster_reachable: health.target_reachable,
        replication_lag_healthy: health.lag_healthy,
        error_rate_healthy: health.errors_healthy,
        checkpoint_healthy: health.checkpoint_healthy,
        issues: health.issues,
        warnings: health.warnings,
    }
}

pub(super) fn throttle(link: &Link, order: Option<&ThrottleOrder>) -> wire::Throttle {
    wire::Throttle {
        throttle_rate_bytes_per_sec: link.throttle().rate(),
        set_by: order.map(|order| order.by.clone()),
        set_at: order.map(|order| wire::Time(order.at_ms)),
        current_rate: link.meter().rates().bytes,
        peak_rate: link.meter().peak_bytes(),
    }
}

pub(super) fn transfer(config: &TransferConfig) -> wire::Transfer {
    wire::Transfer {
        max_bytes: config.max_bytes,
        max_messages: config.max_messages,
        batch_size: config.batch_size,
        checkpoint_interval_ms: config.checkpoint_interval_ms,
        compression_type: config.compression.map(|compression| compression.codec().name().to_owned()),
        throttle_rate_bytes_per_sec: config.throttle_rate,
        enable_exactly_once: config.enable_exactly_once,
        transaction_timeout_ms: config.transaction_timeout_ms,
    }
}

/// The state, in the words of the wire.
pub(super) fn status(state: LinkState) -> wire::LinkStatus {
    match state {
        LinkState::Stopped => wire::LinkStatus::Stopped,
        LinkState::Starting => wire::LinkStatus::Starting,
        LinkState::Active => wire::LinkStatus::Active,
        LinkState::Degraded => wire::LinkStatus::Degraded,
        LinkState::Paused => wire::LinkStatus::Paused,
        LinkState::Failed => wire::LinkStatus::Failed,
        LinkState::FailedOver => wire::LinkStatus::FailedOver,
    }
}

fn lane_state(state: LaneState) -> wire::LaneState {
    match state {
        LaneState::Stopped => wire::LaneState::Stopped,
        LaneState::Opening => wire::LaneState::Opening,
        LaneState::Running => wire::LaneState::Running,
        LaneState::Paused => wire::LaneState::Paused,
        LaneState::Retrying => wire::LaneState::Retrying,
        LaneState::Failed => wire::LaneState::Failed,
        LaneState::Elsewhere => wire::LaneState::Elsewhere,
    }
}

pub(super) fn trouble(failure: &Failure) -> wire::Trouble {
    wire::Trouble {
        code: failure.code.to_owned(),
        message: failure.message.clone(),
        remedy: failure.remedy.clone(),
        stage: failure.stage.clone(),
        place: failure.place.as_ref().map(place),
        lost: failure.lost.as_ref().map(|lost| wire::Lost { from: lost.from, to: lost.to }),
    }
}

fn place(place: &Place) -> wire::Place {
    wire::Place { topic: place.topic.clone(), partition: place.partition, offset: place.offset }
}

pub(super) fn event(event: &Event) -> wire::Event {
    wire::Event {
        id: event.id.to_string(),
        time: wire::Time(event.at_ms),
        kind: event.kind.to_owned(),
        code: event.code.clone(),
        count: event.count,
        message: event.message.clone(),
        stage: event.stage.clone(),
        place: event.place.as_ref().map(place),
    }
}

fn call_times(stats: &StageStats) -> Vec<wire::CallTimes> {
    let bounds = CALL_TIME_BOUNDS_US.into_iter().map(Some).chain([None]);
    bounds.zip(stats.call_times()).map(|(up_to_us, calls)| wire::CallTimes { up_to_us, calls }).collect()
}

fn stage(stage: &Stage, state_bytes: u64) -> wire::Stage {
    let (spec, stats) = (&stage.spec, &stage.stats);
    let dropped = stats.metrics.dropped();
    let count = |counter: &AtomicU64| counter.load(Relaxed);
    wire::Stage {
        stage: spec.name.clone(),
        plugin: spec.plugin_name.clone(),
        version: spec.plugin_version.clone(),
        world: stage.plugin.world().to_string(),
        digest: spec.plugin_digest,
        on_error: spec.on_error,
        time_ahead_max_ms: spec.time_ahead_max_ms,
        limits: spec.limits.clone(),
        records_in: count(&stats.records_in),
        records_out: count(&stats.records_out),
        dropped: count(&stats.dropped),
        rejected: count(&stats.rejected),
        trapped: count(&stats.trapped),
        not_handled_by_code: stats.codes(),
        traps_by_kind: stats.traps().into_iter().map(|(kind, count)| (kind.to_owned(), count)).collect(),
        cpu_time_ns: count(&stats.cpu_time_ns),
        call_times: call_times(stats),
        memory_bytes: count(&stats.memory_bytes),
        state_bytes: stage.plugin.state_version().map(|_| state_bytes),
        log_lines_dropped: dropped.log_lines,
        metrics_dropped: dropped.metrics,
        metrics: stats.metrics.values(),
    }
}

/// A reset that was made.
pub(super) fn reset(record: &ResetRecord) -> wire::Reset {
    let moved = |moved: &Moved| wire::MovedPartition {
        topic: moved.topic.clone(),
        partition: moved.partition,
        from: moved.from,
        to: moved.to,
    };
    wire::Reset {
        time: wire::Time(record.at_ms),
        by: record.by.clone(),
        because: record.because.clone(),
        state_forgotten: record.state_forgotten,
        partitions: record.partitions.iter().map(moved).collect(),
    }
}

/// The checkpoints of a link, with what is known of the lanes that commit them.
pub(super) fn checkpoints(look: &Look, all: &BTreeMap<TopicPartition, Checkpoint>) -> Vec<wire::Checkpoint> {
    let link = look.link();
    let lanes = lanes(&link, &look.at_target());
    let view = |(place, at): (&TopicPartition, &Checkpoint)| {
        let number = lane_of(place, lanes.len() as u32);
        let lane = lanes.get(number as usize);
        wire::Checkpoint {
            topic: place.topic.to_string(),
            partition: place.partition,
            lane: number,
            next_offset: at.next_offset,
            source_log_start: at.source_log_start,
            target_end_offset: at.target_end_offset,
            revision: at.revision.0,
            link_epoch: at.link_epoch,
            doubt: at.doubt.as_ref().map(ToString::to_string),
            lane_committed_at: lane.and_then(|lane| lane.last_commit_ms).map(wire::Time),
            daemon: lane.and_then(|lane| daemon_of(&link, lane)),
        }
    };
    all.iter().map(view).collect()
}

/// The daemon that has a lane, if that is known.
fn daemon_of(link: &Link, lane: &LaneStatus) -> Option<String> {
    match lane.state {
        LaneState::Elsewhere => lane.daemon.as_ref().map(ToString::to_string),
        LaneState::Stopped => None,
        _ => Some(link.daemon().to_string()),
    }
}

/// All revisions of a link, with where each began.
pub(super) fn revisions(link: &Link, history: &History, starts: &[RevisionStart]) -> Vec<wire::Revision> {
    let last = history.last().map(|revision| revision.number);
    let state = |number: RevisionNumber| match () {
        () if Some(number) != last => wire::RevisionState::Superseded,
        () if link.is_complete(number) => wire::RevisionState::Complete,
        () => wire::RevisionState::Pending,
    };
    let first_offsets = |number: RevisionNumber| {
        let mine = starts.iter().filter(|start| start.revision == number);
        let first = |start: &RevisionStart| wire::FirstOffset {
            topic: start.partition.topic.to_string(),
            partition: start.partition.partition,
            offset: start.offset,
        };
        mine.map(first).collect()
    };
    let revision = |record: &RevisionRecord| wire::Revision {
        number: record.number.0,
        digest: record.digest,
        time: wire::Time(record.at_ms),
        by: record.by.clone(),
        reason: record.reason.clone(),
        undoes: record.undoes.map(|trial| trial.0),
        restores: history.restored_by(record).map(|restored| restored.number.0),
        origin: match record.origin {
            Origin::Toml => wire::RevisionOrigin::Toml,
            Origin::Publish => wire::RevisionOrigin::Publish,
            Origin::Rollback => wire::RevisionOrigin::Rollback,
            Origin::Automatic => wire::RevisionOrigin::Automatic,
        },
        builtins: builtins(&record.builtins),
        stages: stages(&record.stages),
        first_offsets: first_offsets(record.number),
        state: state(record.number),
    };
    history.revisions().iter().map(revision).collect()
}

fn latency(latency: Quantiles) -> wire::Latency {
    let Quantiles { p50, p99, heartbeats } = latency;
    wire::Latency { p50_ms: p50.as_millis() as u64, p99_ms: p99.as_millis() as u64, heartbeats: heartbeats as u64 }
}

/// What a revision does without plugins.
fn builtins(builtins: &Builtins) -> wire::RevisionBuiltins {
    wire::RevisionBuiltins {
        filter: builtins.filter.as_ref().map(shown),
        transform: builtins.transform.as_ref().map(shown),
    }
}

/// What cannot be shown is not shown as if it were not there.
fn shown(builtin: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(builtin).unwrap_or_else(|error| format!("it cannot be shown: {error}").into())
}

/// The stages of a revision.
pub(super) fn stages(specs: &[StageSpec]) -> Vec<wire::RevisionStage> {
    let stage = |spec: &StageSpec| wire::RevisionStage {
        stage: spec.name.clone(),
        plugin: spec.plugin_name.clone(),
        version: spec.plugin_version.clone(),
        digest: spec.plugin_digest,
        config: spec.config.clone(),
    };
    specs.iter().map(stage).collect()
}
