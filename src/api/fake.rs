//! A daemon in memory, for tests of the API and of the command line.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::control::{ControlError, ControlPlane, ErrorKind, Publish, Read, ReadAnswer};
use super::wire::*;
use crate::model::{Batch, BatchBuilder, Digest, Limits, OnError, RevisionNumber, TopicPartition};

/// The topic of the link's dead letters.
pub(crate) const DEAD_LETTERS: &str = "orders.dead-letters";

/// One link `orders` with one stage `mask`, one cluster `east`, and in `west` nothing but the link's dead letters.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    reads: AtomicUsize,
    looks: AtomicUsize,
}

#[derive(Default)]
struct State {
    active: bool,
    revisions: Vec<Revision>,
    topics: BTreeMap<String, Vec<Vec<Record>>>,
    broken_partition: Option<u32>,
    events: Vec<Event>,
    verification: Option<usize>,
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with the lock held")
    }

    /// From now on, nothing can be appended to this partition.
    pub(crate) fn break_partition(&self, partition: u32) {
        self.state().broken_partition = Some(partition);
    }

    /// This has happened to the link.
    pub(crate) fn happened(&self, event: Event) {
        self.state().events.push(event);
    }

    /// Bring revision 1 back, as a daemon does by itself.
    pub(crate) fn go_back(&self, reason: &str) {
        self.rollback("orders", Some(RevisionNumber(1)), "tidegate").expect("a revision 1");
        let mut state = self.state();
        let last = state.revisions.last_mut().expect("the revision just made");
        (last.origin, last.reason) = (RevisionOrigin::Automatic, Some(reason.into()));
    }

    /// Wait until reads were begun this often.
    pub(crate) fn wait_for_reads(&self, count: usize) {
        while self.reads.load(Ordering::Relaxed) < count {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }

    /// What is in a partition.
    pub(crate) fn records(&self, topic: &str, partition: usize) -> Vec<Record> {
        self.state().topics[topic][partition].clone()
    }

    /// Make a topic, as by the API.
    pub(crate) fn topic_with(&self, topic: &str, partitions: usize) {
        self.state().topics.insert(topic.into(), vec![Vec::new(); partitions]);
    }

    /// Append to a partition, as somebody else would.
    pub(crate) fn put(&self, topic: &str, partition: usize, record: Record) {
        self.state().topics.get_mut(topic).expect("a topic")[partition].push(record);
    }

    /// Serve on a free port of the loopback for the rest of the process.
    pub(crate) fn serve(self: Arc<Self>) -> SocketAddr {
        self.serve_until(std::future::pending()).0
    }

    /// The same until `shutdown` is there.
    pub(crate) fn serve_until(
        self: Arc<Self>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                super::serve(listener, self, shutdown).await.expect("served");
            });
        });
        (address, server)
    }
}

pub(crate) fn not_found(what: &str, name: &str) -> ControlError {
    ControlError::new(ErrorKind::NotFound, "not-found", format!("there is no {what} {name}"), "look at the list")
}

fn known(what: &str, name: &str, only: &str) -> Result<(), ControlError> {
    if name == only { Ok(()) } else { Err(not_found(what, name)) }
}

/// Whether a topic of this name would be in this cluster.
fn known_place(cluster: &str, topic: &str) -> Result<(), ControlError> {
    let only = if topic == DEAD_LETTERS { "west" } else { "east" };
    match cluster {
        "east" | "west" if cluster != only => Err(not_found("topic", topic)),
        _ => known("cluster", cluster, only),
    }
}

fn link(state: &State) -> Link {
    Link {
        id: "orders".into(),
        name: "East to West".into(),
        kind: "active-passive".into(),
        status: if state.active { LinkStatus::Active } else { LinkStatus::Stopped },
        created_at: None,
        layout: Some(2),
        daemons: Vec::new(),
        relane: None,
        started_at: state.active.then_some(Time(0)),
        source: "east".into(),
        target: "west".into(),
        topics: vec!["orders".into()],
        topic_prefix: String::new(),
        dead_letters: DEAD_LETTERS.into(),
        revision: Some(1),
        error: None,
        notices: vec![notice()],
        latency: Some(Latency { p50_ms: 61, p99_ms: 124, heartbeats: 9 }),
        group_round: None,
        metrics: MetricsSummary::default(),
        health: HealthSummary {
            status: HealthStatus::Healthy,
            source_cluster_reachable: true,
            target_cluster_reachable: true,
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
            }],
            last_commit_at: None,
            last_swap_pause_us: None,
            error: None,
        }],
        stages: vec![stage()],
    }
}

fn groups(fate: GroupFate) -> Vec<ConsumerGroup> {
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

fn notice() -> Notice {
    Notice {
        code: "source-topic-deleted".into(),
        topic: Some("old".into()),
        message: "topic old was deleted at the source".into(),
        remedy: "delete the copy by hand".into(),
    }
}

fn plan() -> Plan {
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

fn stage() -> Stage {
    let counted = |counts: &[(&str, u64)]| counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    Stage {
        stage: "mask".into(),
        plugin: "redact".into(),
        version: "1.0.0".into(),
        world: "stateful-transform".into(),
        digest: Digest::of(b"redact"),
        on_error: OnError::DeadLetter,
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

fn swap(state: &mut State, stage: Option<String>, content: RevisionStage, by: &str, origin: RevisionOrigin) -> Swap {
    let number = state.revisions.len() as u64 + 1;
    // As in a daemon, the same content has the same digest.
    let digest = Digest::of(format!("{} {}", content.digest, content.config).as_bytes());
    state.revisions.push(Revision {
        number,
        digest,
        time: Time(0),
        by: by.into(),
        reason: None,
        origin,
        stages: vec![content.clone()],
        first_offsets: Vec::new(),
        state: RevisionState::Complete,
    });
    Swap {
        revision: number,
        digest,
        stage,
        stages: vec![content],
        state: RevisionState::Complete,
        swap_pause_us_max: None,
    }
}

impl ControlPlane for Fake {
    fn status(&self) -> Result<Status, ControlError> {
        Ok(Status {
            version: "0.0.0".into(),
            uptime_seconds: 3700,
            pid: 1,
            name: "east-1".into(),
            data_dir: "data".into(),
            clusters: Vec::new(),
            links: Vec::new(),
        })
    }

    fn ready(&self) -> Result<(), ControlError> {
        Err(ControlError::new(ErrorKind::Unavailable, "starting", "the daemon is starting", "wait a moment"))
    }

    fn links(&self) -> Result<Vec<Link>, ControlError> {
        Ok(vec![link(&self.state())])
    }

    fn link(&self, id: &str) -> Result<Link, ControlError> {
        known("link", id, "orders").map(|()| link(&self.state()))
    }

    fn steer(&self, id: &str, transition: LinkTransition) -> Result<Link, ControlError> {
        known("link", id, "orders")?;
        let mut state = self.state();
        if transition == LinkTransition::Resume && !state.active {
            return Err(ControlError::new(ErrorKind::Conflict, "not-paused", "the link is stopped", "start it"));
        }
        state.active = matches!(transition, LinkTransition::Start | LinkTransition::Resume);
        Ok(link(&state))
    }

    fn upgrade(&self, link: &str, dry_run: bool, _by: &str) -> Result<Upgrade, ControlError> {
        self.link(link)?;
        let daemons = vec![KnownLayout { daemon: "a".to_owned(), layout: Some(2) }];
        Ok(Upgrade { link: link.to_owned(), from: 1, to: 2, dry_run, daemons })
    }

    fn relane(&self, link: &str, lanes: u32, _by: &str) -> Result<Relaned, ControlError> {
        self.link(link)?;
        Ok(Relaned { link: link.to_owned(), from: 4, to: lanes, done: lanes < 100 })
    }

    fn reset(&self, link: &str, request: &ResetRequest, by: &str) -> Result<Reset, ControlError> {
        self.link(link)?;
        let to = match request.to {
            ResetPlace::Offset(offset) => offset,
            ResetPlace::End(_) => 0,
        };
        let partition = request.partition.unwrap_or(0);
        let moved = MovedPartition { topic: request.topic.clone(), partition, from: Some(7), to };
        Ok(Reset {
            time: Time(0),
            by: by.to_owned(),
            because: Some("records were lost (data-lost)".to_owned()),
            state_forgotten: request.forget_state,
            partitions: vec![moved],
        })
    }

    fn resets(&self, link: &str) -> Result<Vec<Reset>, ControlError> {
        let request = ResetRequest {
            topic: "orders".to_owned(),
            partition: Some(3),
            to: ResetPlace::Offset(9),
            forget_state: false,
        };
        Ok(vec![self.reset(link, &request, "ann")?])
    }

    fn link_metrics(&self, id: &str) -> Result<LinkMetrics, ControlError> {
        known("link", id, "orders").map(|()| LinkMetrics::default())
    }

    fn link_health(&self, id: &str) -> Result<LinkHealth, ControlError> {
        known("link", id, "orders").map(|()| LinkHealth {
            status: HealthStatus::Healthy,
            last_health_check: Time(0),
            source_cluster_reachable: true,
            target_cluster_reachable: true,
            replication_lag_healthy: None,
            error_rate_healthy: true,
            checkpoint_healthy: true,
            issues: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn plan(&self, id: &str) -> Result<Plan, ControlError> {
        known("link", id, "orders").map(|()| plan())
    }

    fn groups(&self, id: &str) -> Result<Vec<ConsumerGroup>, ControlError> {
        known("link", id, "orders").map(|()| groups(GroupFate::Move))
    }

    fn sync_groups(&self, id: &str, request: &GroupsRequest) -> Result<Vec<ConsumerGroup>, ControlError> {
        known("link", id, "orders")?;
        Ok(groups(if request.dry_run { GroupFate::Move } else { GroupFate::Failed }))
    }

    fn publish(&self, id: &str, publish: Publish) -> Result<Swap, ControlError> {
        known("link", id, "orders")?;
        known("stage", &publish.stage, "mask")?;
        if !publish.component.starts_with(b"\0asm") {
            let message = "the file is not a WebAssembly component";
            return Err(ControlError::new(ErrorKind::Invalid, "not-a-component", message, "build one"));
        }
        let stage = RevisionStage {
            stage: publish.stage.clone(),
            plugin: "redact".into(),
            version: "1.0.0".into(),
            digest: Digest::of(&publish.component),
            config: publish.config.unwrap_or_default(),
        };
        Ok(swap(&mut self.state(), Some(publish.stage), stage, &publish.by, RevisionOrigin::Publish))
    }

    fn rollback(&self, id: &str, to: Option<RevisionNumber>, by: &str) -> Result<Swap, ControlError> {
        known("link", id, "orders")?;
        let mut state = self.state();
        let to = to.map_or(state.revisions.len().saturating_sub(1) as u64, |to| to.0);
        let Some(earlier) = state.revisions.iter().find(|revision| revision.number == to) else {
            return Err(not_found("revision", &to.to_string()));
        };
        let stage = earlier.stages[0].clone();
        Ok(swap(&mut state, None, stage, by, RevisionOrigin::Rollback))
    }

    fn verify(&self, id: &str, differences: usize) -> Result<Verification, ControlError> {
        known("link", id, "orders")?;
        self.state().verification = Some(differences);
        self.verification(id)
    }

    /// It is under way when it is looked at first, and ends with the second look; with a difference if one may be shown.
    fn verification(&self, id: &str) -> Result<Verification, ControlError> {
        known("link", id, "orders")?;
        let looks = self.looks.fetch_add(1, Ordering::Relaxed);
        let differences = self.state().verification.ok_or_else(|| not_found("verification", id))?;
        Ok(verification(looks == 0, differences))
    }

    fn cancel_verification(&self, id: &str) -> Result<Verification, ControlError> {
        self.verification(id)
    }

    fn events(&self, id: &str) -> Result<Vec<Event>, ControlError> {
        known("link", id, "orders")?;
        Ok(self.state().events.clone())
    }

    fn revisions(&self, id: &str) -> Result<Vec<Revision>, ControlError> {
        known("link", id, "orders").map(|()| self.state().revisions.clone())
    }

    fn topics(&self, cluster: &str) -> Result<Vec<TopicSummary>, ControlError> {
        known("cluster", cluster, "east")?;
        let state = self.state();
        let summary = |(name, partitions): (&String, &Vec<_>)| TopicSummary {
            name: name.clone(),
            partitions: partitions.len() as u32,
        };
        Ok(state.topics.iter().map(summary).collect())
    }

    fn topic(&self, cluster: &str, topic: &str) -> Result<Topic, ControlError> {
        known_place(cluster, topic)?;
        let state = self.state();
        let partitions = state.topics.get(topic).ok_or_else(|| not_found("topic", topic))?;
        let status = |(partition, records): (usize, &Vec<Record>)| PartitionStatus {
            partition: partition as u32,
            log_start: 0,
            end: records.len() as i64,
            records: records.len() as u64,
        };
        Ok(Topic {
            name: topic.into(),
            partitions: partitions.iter().enumerate().map(status).collect(),
            retention: Some(Retention::default()),
        })
    }

    fn create_topic(&self, cluster: &str, topic: &CreateTopic) -> Result<Topic, ControlError> {
        known("cluster", cluster, "east")?;
        if self.state().topics.contains_key(&topic.name) {
            return Err(ControlError::new(
                ErrorKind::Conflict,
                "topic-exists",
                "the topic exists",
                "take another name",
            ));
        }
        self.topic_with(&topic.name, topic.partitions as usize);
        self.topic(cluster, &topic.name)
    }

    fn partition_count(&self, cluster: &str, topic: &str) -> Result<u32, ControlError> {
        Ok(self.topic(cluster, topic)?.partitions.len() as u32)
    }

    fn append(&self, cluster: &str, partition: &TopicPartition, batch: &Batch) -> Result<i64, ControlError> {
        known("cluster", cluster, "east")?;
        let mut state = self.state();
        if state.broken_partition == Some(partition.partition) {
            return Err(ControlError::new(ErrorKind::Unavailable, "disk-full", "the disk is full", "make room"));
        }
        let records = state.topics.get_mut(&*partition.topic).ok_or_else(|| not_found("topic", &partition.topic))?;
        let records = &mut records[partition.partition as usize];
        let first = records.len() as i64;
        records.extend(batch.records().map(|record| {
            Record {
                timestamp: Some(record.timestamp()),
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers: record
                    .headers()
                    .map(|header| Header { name: header.name.to_vec(), value: header.value.map(<[u8]>::to_vec) })
                    .collect(),
                ..Record::default()
            }
        }));
        Ok(first)
    }

    fn read(&self, cluster: &str, partition: &TopicPartition, read: Read) -> Result<ReadAnswer, ControlError> {
        if partition.partition >= self.partition_count(cluster, &partition.topic)? {
            return Err(not_found("partition", &partition.to_string()));
        }
        // What comes during the wait is seen by the next read only: the API must not miss it between two.
        let records = self.records(&partition.topic, partition.partition as usize);
        self.reads.fetch_add(1, Ordering::Relaxed);
        let end = records.len() as i64;
        let start = match read.from {
            ReadFrom::Earliest => 0,
            ReadFrom::Latest => end,
            ReadFrom::Offset(offset) => offset,
        };
        if start > end {
            let message = format!("offset {start} is after the end, {end}");
            return Err(ControlError::new(ErrorKind::Invalid, "offset-out-of-range", message, "read from earliest"));
        }
        if start == end {
            std::thread::sleep(read.wait);
        }
        let mut builder = BatchBuilder::new();
        for (offset, record) in records.iter().enumerate().skip(start as usize).take(read.records_max) {
            let headers = record.headers.iter().map(Header::view);
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push(offset as i64, record.timestamp.unwrap_or_default(), key, value, headers);
        }
        let next_offset = start + builder.len() as i64;
        let batch = (!builder.is_empty()).then(|| builder.finish(partition.topic.clone(), partition.partition));
        Ok(ReadAnswer { batch, next_offset, log_start: 0, end })
    }
}

fn verification(running: bool, differences: usize) -> Verification {
    let difference = Difference {
        kind: "different".into(),
        parts: vec!["value".into()],
        source: Some(Place { topic: "t".into(), partition: 0, offset: 7 }),
        target: TargetPlace { topic: "t".into(), partition: 0, offset: Some(5) },
        expected: Some("ab".into()),
        found: Some("a\u{1b}b".into()),
        note: None,
    };
    let not_covered = NotCovered {
        side: "source".into(),
        topic: "t".into(),
        partition: 0,
        from: Some(0),
        to: Some(3),
        records: None,
        reason: "retention has taken these from the source".into(),
    };
    let report = VerificationReport {
        records_replayed: 5,
        records_matched: 4,
        differences_total: 3 * differences.min(1) as u64,
        differences: vec![difference; differences.min(1)],
        not_covered: vec![not_covered],
        exactly_once: true,
        ..VerificationReport::default()
    };
    let verdict = if differences > 0 { Verdict::Differences } else { Verdict::NotCovered };
    Verification {
        link: "orders".into(),
        state: if running { VerificationState::Running } else { VerificationState::Done },
        started_at: Time(0),
        ended_at: (!running).then_some(Time(1)),
        progress: VerificationProgress::default(),
        verdict: (!running).then_some(verdict),
        error: None,
        report: (!running).then_some(report),
    }
}
