//! Links, their lanes and stages.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ClusterPlace, GroupRound, KnownLayout, ManagedBy, Notice, RelaneProgress, RevisionBuiltins, Throttle, Time,
    Transfer, word,
};
use crate::model::{Digest, Limits, OnError};

/// A link, as of now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Its id in the configuration.
    pub id: String,
    /// Its name in the configuration.
    pub name: String,
    /// `active-passive`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its state.
    pub status: LinkStatus,
    /// When the target first heard of it, if that is known.
    pub created_at: Option<Time>,
    /// When it was last started in this process; null while it does not run.
    pub started_at: Option<Time>,
    /// The source cluster.
    pub source: String,
    /// The target cluster.
    pub target: String,
    /// The same, and where it is.
    pub source_cluster: ClusterPlace,
    /// The same, and where it is.
    pub target_cluster: ClusterPlace,
    /// How it moves records.
    pub config: Transfer,
    /// Who says what it is.
    pub managed_by: ManagedBy,
    /// The version of its definition; null for one of the configuration file.
    pub version: Option<u64>,
    /// The topics as configured: names and `/regular expressions/`.
    pub topics: Vec<String>,
    /// What stands before a topic's name in the target.
    pub topic_prefix: String,
    /// The topic of the target for records that a stage could not handle. It need not exist before the first.
    pub dead_letters: String,
    /// The newest revision, if one was ever made.
    pub revision: Option<u64>,
    /// The filter and the transform of that revision.
    #[serde(flatten)]
    pub builtins: RevisionBuiltins,
    /// Its layout: the form of what the target keeps of it. Null before it was first started.
    #[serde(default)]
    pub layout: Option<u32>,
    /// The daemons that run it, as far as that is known, and the layouts that they know.
    #[serde(default)]
    pub daemons: Vec<KnownLayout>,
    /// What its lanes are about to become, if they are.
    #[serde(default)]
    pub relane: Option<RelaneProgress>,
    /// Why it failed, or what it is retrying.
    pub error: Option<Trouble>,
    /// What it was told to do and is not done, because a cluster does not answer; oldest first.
    #[serde(default)]
    pub pending: Vec<PendingOrder>,
    /// What is odd about it; it goes on.
    #[serde(default)]
    pub notices: Vec<Notice>,
    /// How long heartbeats took lately through the lanes of this daemon; null without heartbeats.
    #[serde(default)]
    pub latency: Option<Latency>,
    /// How fast it may write, and how fast it does.
    #[serde(default)]
    pub throttle: Throttle,
    /// The last round of moving consumer groups, at this daemon since it started.
    #[serde(default)]
    pub group_round: Option<GroupRound>,
    /// What it has done, in short.
    pub metrics: MetricsSummary,
    /// How it is, in short.
    pub health: HealthSummary,
    /// Where the records went.
    #[serde(flatten)]
    pub counters: LinkCounters,
    /// Its lanes, by number.
    pub lanes: Vec<Lane>,
    /// Its stages, in the order of the pipeline.
    pub stages: Vec<Stage>,
}

/// An order that was accepted, and is carried out when it can be: also after a restart of the daemon, unless a later one replaces it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PendingOrder {
    /// `start`, `stop`, `pause`, `resume`, `throttle`, `reset`, `relane`, `failover`, `failback`, `call-off-failback` or `delete`.
    pub order: String,
    /// Who gave it; empty if that is not known.
    pub by: String,
    /// When.
    pub since: Time,
    /// Why it is not done.
    pub reason: Option<Trouble>,
}

/// The state of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkStatus {
    /// Nothing of it runs.
    Stopped,
    /// Its plugins are compiled and its lanes opened.
    Starting,
    /// Records flow as they come.
    Active,
    /// It is to move records, and lanes of it fail again and again: `error` says why.
    Degraded,
    /// Its lanes are open and wait.
    Paused,
    /// It stopped by itself; `error` says why.
    Failed,
    /// Its target has the source's place, or is about to.
    #[serde(rename = "failed_over")]
    FailedOver,
}

word!(LinkStatus {
    Stopped = "stopped",
    Starting = "starting",
    Active = "active",
    Degraded = "degraded",
    Paused = "paused",
    Failed = "failed",
    FailedOver = "failed_over",
});

/// What a person can make a link do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkTransition {
    /// From stopped, paused or failed to active.
    Start,
    /// To stopped: finish the open batch, commit, let go of the lanes.
    Stop,
    /// From active to paused: finish the open batch, commit, keep the lanes.
    Pause,
    /// From paused to active.
    Resume,
}

word!(LinkTransition { Start = "start", Stop = "stop", Pause = "pause", Resume = "resume" });

/// Why something does not work, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Trouble {
    /// A stable word, for example `plugin-trap`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What the operator can do about it.
    pub remedy: String,
    /// The stage that it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The record that it happened at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// What was lost of the partition, if something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Lost>,
}

/// Records that are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// The first offset.
    pub from: i64,
    /// The offset behind the last one.
    pub to: i64,
}

/// A record of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset.
    pub offset: i64,
}

/// Records since the link was started in this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkCounters {
    /// Read from the source.
    pub records_in: u64,
    /// Dropped by the link's filter or by a stage, or left out because they had come from the target.
    pub records_filtered: u64,
    /// Changed by the link's transform, or changed or made by a stage; each time it was.
    pub records_transformed: u64,
    /// Written to the target and committed.
    pub records_out: u64,
    /// Rejected by a plugin or trapped on, or not taken by the target.
    #[serde(default)]
    pub records_put_aside: u64,
}

/// What a link has done, in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricsSummary {
    /// Records written to the target.
    pub total_messages_replicated: u64,
    /// Bytes of their keys, values and headers.
    pub total_bytes_replicated: u64,
    /// Records a second, now.
    pub messages_per_second: f64,
    /// Bytes a second, now.
    pub bytes_per_second: f64,
    /// Milliseconds behind the source: the worst of all partitions. Null if it is not known of one.
    pub replication_lag: Option<u64>,
    /// When lags were measured last, in records and in time. Null if that was too long ago.
    pub lag_measured_at: Option<Time>,
}

/// How long heartbeats took from the source to where a reader of the target sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Latency {
    /// Half of them took no longer, in milliseconds.
    pub p50_ms: u64,
    /// 99 of 100 took no longer, in milliseconds.
    pub p99_ms: u64,
    /// Of so many: the last ones.
    pub heartbeats: u64,
}

/// What a link has done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkMetrics {
    /// The same as in the link.
    #[serde(flatten)]
    pub summary: MetricsSummary,
    /// Milliseconds behind the source, the mean of the partitions.
    pub average_replication_lag: Option<u64>,
    /// The largest lag seen since the link was started, in milliseconds.
    pub max_replication_lag: Option<u64>,
    /// Errors since the link was started.
    pub total_errors: u64,
    /// Errors a second, now.
    pub errors_per_second: f64,
    /// Attempts that failed since the last commit.
    pub consecutive_failures: u64,
    /// Seconds since the link was started; 0 while it does not run.
    pub uptime_seconds: u64,
    /// Every source partition, by `<topic>-<partition>`.
    pub partition_metrics: BTreeMap<String, PartitionMetrics>,
}

/// What a link has done in a source partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PartitionMetrics {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The end of the source partition.
    pub source_offset: Option<i64>,
    /// The next source offset that is to be replicated.
    pub target_offset: Option<i64>,
    /// Records behind the source.
    pub lag: Option<u64>,
    /// Milliseconds behind the source.
    pub lag_ms: Option<u64>,
    /// Records of this partition written to the target since the link was started.
    pub messages_replicated: u64,
    /// Bytes of their keys, values and headers.
    pub bytes_replicated: u64,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    /// Nothing is wrong or odd.
    Healthy,
    /// Something is odd, and nothing wrong.
    Degraded,
    /// Something is wrong.
    Unhealthy,
}

word!(HealthStatus { Healthy = "healthy", Degraded = "degraded", Unhealthy = "unhealthy" });

/// How a link is, in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HealthSummary {
    /// The verdict.
    pub status: HealthStatus,
    /// Whether the source answers; null before it was asked.
    pub source_cluster_reachable: Option<bool>,
    /// Whether the target answers; null before it was asked.
    pub target_cluster_reachable: Option<bool>,
}

/// How a link is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LinkHealth {
    /// The verdict.
    pub status: HealthStatus,
    /// When both clusters had been asked; null before that.
    pub last_health_check: Option<Time>,
    /// Whether the source answers; null before it was asked.
    pub source_cluster_reachable: Option<bool>,
    /// Whether the target answers; null before it was asked.
    pub target_cluster_reachable: Option<bool>,
    /// Whether the link keeps up; null while the lag is not known.
    pub replication_lag_healthy: Option<bool>,
    /// Whether the lanes work without too many errors.
    pub error_rate_healthy: bool,
    /// Whether checkpoints are committed as they should be.
    pub checkpoint_healthy: bool,
    /// What is wrong and what to do about it, a text each.
    pub issues: Vec<String>,
    /// What is odd and what to do about it, a text each.
    pub warnings: Vec<String>,
}

/// A lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lane {
    /// Its number, from 0.
    pub lane: u32,
    /// The daemon that has it, if that is known.
    pub daemon: Option<String>,
    /// What it does.
    pub state: LaneState,
    /// The revision that it last committed under.
    pub revision: Option<u64>,
    /// The epoch that its sink was opened with, where the cluster has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The source partitions that it owns.
    pub partitions: Vec<LanePartition>,
    /// When it last committed.
    pub last_commit_at: Option<Time>,
    /// How long its last swap of revisions took, in microseconds: from the last batch of the old one to the first of the new one.
    pub last_swap_pause_us: Option<u64>,
    /// Why it failed, or what it is retrying.
    pub error: Option<Trouble>,
}

/// What a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LaneState {
    /// It fences its predecessor and reads the checkpoints.
    Opening,
    /// It moves records, or waits for some.
    Running,
    /// It is open and waits for `resume`.
    Paused,
    /// It waits before it opens again after an error.
    Retrying,
    /// It was stopped.
    Stopped,
    /// It stopped by itself.
    Failed,
    /// Another daemon has it. What is said of it here is what it has committed.
    Elsewhere,
}

word!(LaneState {
    Opening = "opening",
    Running = "running",
    Paused = "paused",
    Retrying = "retrying",
    Stopped = "stopped",
    Failed = "failed",
    Elsewhere = "elsewhere",
});

/// A source partition of a lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LanePartition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The end of the source partition.
    pub source_offset: Option<i64>,
    /// The next source offset that is to be replicated: what the checkpoint says.
    pub target_offset: Option<i64>,
    /// Records behind the source.
    pub lag: Option<u64>,
    /// Milliseconds behind the source.
    pub lag_ms: Option<u64>,
    /// Why it stands still, if it does while the lane goes on with others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
}

/// How far a link has come in a source partition, as its target has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// The source topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The lane that owns it.
    pub lane: u32,
    /// The next source offset to read. Everything before it is done: written, filtered, or a hole.
    pub next_offset: i64,
    /// The first offset that the source partition still had then.
    pub source_log_start: i64,
    /// Where the target partition of the same number ended after the commit, at least.
    pub target_end_offset: i64,
    /// The revision that handled the last record before `next_offset`.
    pub revision: u64,
    /// It grows with each failover or reset of the link.
    pub link_epoch: u64,
    /// The loss that was found here, with its code; null if there is none. The partition is not replicated before a reset.
    pub doubt: Option<String>,
    /// When the lane committed last; null if no lane of this daemon has it, or it has not committed since the daemon started.
    pub lane_committed_at: Option<Time>,
    /// The daemon that has the lane, if that is known.
    pub daemon: Option<String>,
}

/// Calls of a stage that took about the same CPU time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CallTimes {
    /// The longest, in microseconds; null for all that took longer than the class before.
    pub up_to_us: Option<u64>,
    /// How many there were, without those that trapped.
    pub calls: u64,
}

/// Something that happened to a link, once or again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// What it is called in a stream of events, where `Last-Event-ID` says which was the last that came. It is another one when the same happens again.
    pub id: String,
    /// When it happened last.
    pub time: Time,
    /// A stable word, for example `record-not-handled`.
    pub kind: String,
    /// What exactly, where there is more than one of a kind: the code of a bad record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// How often it has happened.
    pub count: u64,
    /// What happened, the last time.
    pub message: String,
    /// The stage that it happened in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// The record that it happened at, the last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
}

/// A stage of a link's pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Stage {
    /// Its name, unique in the link.
    pub stage: String,
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's own version.
    pub version: String,
    /// `filter`, `transform`, `stateful-filter` or `stateful-transform`.
    pub world: String,
    /// The digest of the component.
    pub digest: Digest,
    /// What becomes of a record that it cannot handle.
    pub on_error: OnError,
    /// How far the timestamp of a record may be ahead, in milliseconds, where the plugin has state; null for a revision of before there was a bound.
    pub time_ahead_max_ms: Option<u64>,
    /// What it may use.
    pub limits: Limits,
    /// Records handed to it.
    pub records_in: u64,
    /// Records that came out.
    pub records_out: u64,
    /// Records that it dropped.
    pub dropped: u64,
    /// Records that it rejected.
    pub rejected: u64,
    /// Records that it trapped on.
    pub trapped: u64,
    /// The records that it rejected or trapped on, by code.
    pub not_handled_by_code: BTreeMap<String, u64>,
    /// Calls that trapped, by kind. A record that is put aside takes several.
    pub traps_by_kind: BTreeMap<String, u64>,
    /// CPU time of its calls, in nanoseconds. Those that are measured, one of eight, stand for the others.
    pub cpu_time_ns: u64,
    /// Its calls by CPU time. One of eight is measured.
    pub call_times: Vec<CallTimes>,
    /// Linear memory of the instance that was called last.
    pub memory_bytes: u64,
    /// What it remembers, all partitions together; null for a plugin without state.
    pub state_bytes: Option<u64>,
    /// Log lines that were over the limit.
    pub log_lines_dropped: u64,
    /// Changes of counters and gauges that were over the limit.
    pub metrics_dropped: u64,
    /// The plugin's own counters and gauges.
    pub metrics: BTreeMap<String, f64>,
}
