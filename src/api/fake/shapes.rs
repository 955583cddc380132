//! What the daemon in memory shows.

use std::collections::BTreeMap;

use super::DEAD_LETTERS;
use crate::api::wire::*;
use crate::model::{Digest, Limits, OnError};

/// The link, running or not.
pub(super) fn link(active: bool) -> Link {
    Link {
        id: "orders".into(),
        name: "East to West".into(),
        kind: "active-passive".into(),
        status: if active { LinkStatus::Active } else { LinkStatus::Stopped },
        created_at: None,
        layout: Some(2),
        daemons: Vec::new(),
        relane: None,
        started_at: active.then_some(Time(0)),
        source: "east".into(),
        target: "west".into(),
        source_cluster: ClusterPlace { cluster_id: "east".into(), brokers: Vec::new() },
        target_cluster: ClusterPlace { cluster_id: "west".into(), brokers: Vec::new() },
        config: Transfer {
            max_bytes: 10 << 20,
            max_messages: None,
            batch_size: 1000,
            checkpoint_interval_ms: 100,
            compression_type: None,
            throttle_rate_bytes_per_sec: None,
            enable_exactly_once: true,
            transaction_timeout_ms: 60_000,
        },
        managed_by: ManagedBy::File,
        version: None,
        topics: vec!["orders".into()],
        topic_prefix: String::new(),
        dead_letters: DEAD_LETTERS.into(),
        revision: Some(1),
        builtins: RevisionBuiltins::default(),
        error: None,
        pending: Vec::new(),
        notices: vec![notice()],
        latency: Some(Latency { p50_ms: 61, p99_ms: 124, heartbeats: 9 }),
        group_round: None,
        throttle: Throttle::default(),
        metrics: MetricsSummary::default(),
        health: HealthSummary {
            status: HealthStatus::Healthy,
            source_cluster_reachable: Some(true),
            target_cluster_reachable: Some(true),
        },
        counters: LinkCounters { records_in: 10, records_out: 6, records_put_aside: 3, ..LinkCounters::default() },
        lanes: vec![Lane {
            lane: 0,
            daemon: Some("east-1".into()),
            state: LaneState::Running,
            revision: Some(1),
            epoch: None,
            partitions: vec![LanePartition {
                topic: "orders".into(),
                partition: 0,
                source_offset: Some(10),
                target_offset: Some(7),
                lag: Some(3),
                lag_ms: None,
                error: None,
            }],
            last_commit_at: None,
            last_swap_pause_us: None,
            error: None,
        }],
        stages: vec![stage()],
    }
}

pub(super) fn groups(fate: GroupFate) -> Vec<ConsumerGroup> {
    let place = |partition, offset| GroupPlace { topic: "orders".into(), partition, offset };
    vec![ConsumerGroup {
        group: "billing".into(),
        follows: true,
        source_state: "Stable".into(),
        target_state: None,
        fate,
        partitions: vec![GroupPartition {
            topic: "orders".into(),
            partition: 0,
            offset: 7,
            present_offset: None,
            moves: true,
            certainty: GroupCertainty::Uncommitted,
            from: vec![place(0, Some(9)), place(1, None)],
        }],
        error: (fate == GroupFate::Failed).then(|| Trouble {
            code: "group-not-authorized".into(),
            message: "we may not use group billing".into(),
            remedy: "grant the ACL that is named".into(),
            stage: None,
            place: None,
            lost: None,
        }),
    }]
}

pub(super) fn notice() -> Notice {
    Notice {
        code: "source-topic-deleted".into(),
        topic: Some("old".into()),
        message: "topic old was deleted at the source".into(),
        remedy: "delete the copy by hand".into(),
    }
}

pub(super) fn plan() -> Plan {
    let setting = |from: Option<&str>, to: Option<&str>| PlannedSetting {
        name: "retention.ms".into(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let topic = |name: &str, action, partitions_from, settings| PlannedTopic {
        source: name.into(),
        target: name.into(),
        action,
        partitions_from,
        partitions_to: 4,
        settings,
        acls: Vec::new(),
    };
    let acl = PlannedAcl {
        principal: "User:ann".into(),
        host: "*".into(),
        operation: "Read".into(),
        permission: "Allow".into(),
    };
    let made = topic("orders", PlannedAction::Make, None, vec![setting(None, Some("60000"))]);
    Plan {
        link: "orders".into(),
        topics: vec![
            PlannedTopic { target: "dr.orders".into(), acls: vec![acl], ..made },
            topic("audit", PlannedAction::AddPartitions, Some(2), vec![setting(Some("7"), None)]),
            topic("done", PlannedAction::Keep, Some(4), Vec::new()),
        ],
        groups: groups(GroupFate::Move),
        notices: vec![notice()],
    }
}

pub(super) fn stage() -> Stage {
    let counted = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Stage {
        stage: "mask".into(),
        plugin: "redact".into(),
        version: "1.0.0".into(),
        world: "stateful-transform".into(),
        digest: Digest::of(b"redact"),
        on_error: OnError::DeadLetter,
        time_ahead_max_ms: Some(3_600_000),
        limits: Limits { memory_bytes: 2 << 20, ..Limits::default() },
        records_in: 10,
        records_out: 6,
        dropped: 1,
        rejected: 2,
        trapped: 1,
        not_handled_by_code: counted(&[("not-json", 2), ("plugin-panic", 1)]),
        traps_by_kind: counted(&[("plugin-panic", 4)]),
        cpu_time_ns: 8_000,
        call_times: [(Some(30), 98), (Some(100), 2), (None, 0)]
            .map(|(up_to_us, calls)| CallTimes { up_to_us, calls })
            .into(),
        memory_bytes: 1 << 20,
        state_bytes: Some(1536),
        log_lines_dropped: 5,
        metrics_dropped: 6,
        metrics: BTreeMap::from([("masked".to_owned(), 7.5)]),
    }
}

pub(super) fn failover(direction: FailoverType) -> FailoverEvent {
    FailoverEvent {
        id: format!("{direction}-1"),
        link_id: "orders".into(),
        direction,
        reason: FailoverReason::Manual,
        because: None,
        by: "ann".into(),
        source_cluster_id: "east".into(),
        target_cluster_id: "west".into(),
        timestamp: Time(0),
        success: Some(true),
        duration: "5s".into(),
        phase: None,
        drained: Some(true),
        records_left: Some(0),
        records_at_source: None,
        groups_moved: vec!["billing".into()],
        warnings: Vec::new(),
    }
}

pub(super) fn failover_plan(direction: FailoverType) -> FailoverPlan {
    FailoverPlan {
        link_id: "orders".into(),
        direction,
        steps: vec!["fence all lanes".into()],
        source_reachable: true,
        records_left: Some(3),
        records_at_source: None,
        partitions: vec![FailoverPartition {
            topic: "orders".into(),
            partition: 0,
            next_offset: 7,
            source_end: Some(10),
        }],
        target_partitions: vec![FailoverTarget { topic: "dr.orders".into(), partition: 0, end: 9 }],
        groups: Some(groups(GroupFate::Move)),
        warnings: vec!["group audit has members at the target".into()],
    }
}

pub(super) fn checkpoint() -> Checkpoint {
    Checkpoint {
        topic: "orders".into(),
        partition: 0,
        lane: 0,
        next_offset: 7,
        source_log_start: 0,
        target_end_offset: 6,
        revision: 1,
        link_epoch: 0,
        doubt: Some("records were lost (data-lost)".into()),
        lane_committed_at: Some(Time(1_000)),
        daemon: Some("here".into()),
    }
}

/// A reset of one partition.
pub(super) fn reset(request: &ResetRequest, by: &str) -> Reset {
    let to = match request.to {
        ResetPlace::Offset(offset) => offset,
        ResetPlace::End(_) => 0,
    };
    let partition = request.partition.unwrap_or(0);
    let moved = MovedPartition { topic: request.topic.clone(), partition, from: Some(7), to };
    Reset {
        time: Time(0),
        by: by.to_owned(),
        because: Some("records were lost (data-lost)".to_owned()),
        state_forgotten: request.forget_state,
        partitions: vec![moved],
    }
}
