//! A daemon in memory, for tests of the API and of the command line.

mod shapes;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::control::{
    About, ControlError, ControlPlane, Definition, ErrorKind, Happened, Ordered, Publish, Read, ReadAnswer, Silent,
};
use super::exposition::Page;
use super::wire::*;
use crate::config::ApiConfig;
use crate::model::{Batch, BatchBuilder, Digest, RevisionNumber, TopicPartition};
use shapes::{groups, link, plan};
use tokio::sync::watch;

/// How long requests under way may take after a shutdown.
const GRACE: Duration = Duration::from_secs(5);

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
    news: watch::Sender<u64>,
    verification: Option<usize>,
    defined: BTreeMap<String, LinkDefinition>,
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
        let state = &mut *self.state();
        let number = state.events.len() as u64 + 1;
        state.events.push(Event { id: format!("1-{number}"), ..event });
        state.news.send_replace(number);
    }

    /// How many streams wait for the next event.
    pub(crate) fn listeners(&self) -> usize {
        self.state().news.receiver_count()
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
        self.serve_with(&ApiConfig::open(), shutdown)
    }

    /// The same to whom the configuration lets in.
    pub(crate) fn serve_with(
        self: Arc<Self>,
        config: &ApiConfig,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> (SocketAddr, std::thread::JoinHandle<()>) {
        let prepared = super::Prepared::new(config).expect("settings");
        let access = super::Access::new(prepared, std::path::Path::new("/nowhere")).expect("no file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket");
        let address = listener.local_addr().expect("an address");
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
                let shutdown = async {
                    shutdown.await;
                    GRACE
                };
                super::serve(listener, Arc::new(access), self, shutdown).await;
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

fn swap(state: &mut State, stage: Option<String>, content: RevisionStage, by: &str, restores: Option<u64>) -> Swap {
    let origin = if restores.is_some() { RevisionOrigin::Rollback } else { RevisionOrigin::Publish };
    let number = state.revisions.len() as u64 + 1;
    // As in a daemon, the same content has the same digest.
    let digest = Digest::of(format!("{} {}", content.digest, content.config).as_bytes());
    state.revisions.push(Revision {
        number,
        digest,
        time: Time(0),
        by: by.into(),
        reason: None,
        undoes: None,
        restores,
        origin,
        builtins: RevisionBuiltins::default(),
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
    fn silent(&self, _: &About, _: Option<Duration>) -> Vec<Silent> {
        Vec::new()
    }

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

    fn links(&self, after: Option<&str>, limit: usize) -> Result<(Vec<Link>, bool), ControlError> {
        let defined: Vec<String> = self.state().defined.keys().cloned().collect();
        let ids = defined.into_iter().chain(["orders".to_owned()]).collect::<BTreeSet<_>>();
        let mut behind = ids.iter().filter(|id| after.is_none_or(|after| ***id > *after));
        let page = behind.by_ref().take(limit).map(|id| self.link(id)).collect::<Result<_, _>>()?;
        Ok((page, behind.next().is_none()))
    }

    fn define(&self, id: Option<&str>, definition: Definition, by: &str) -> Result<Link, ControlError> {
        let id = id.unwrap_or("link-1");
        if !definition.contains_key("topics") {
            let help = "write \"topics\": [\"a-topic\"]".to_owned();
            let fault = Fault { path: "$".into(), message: "\"topics\" is missing".into(), help, ..Fault::default() };
            return Err(ControlError::faults(vec![fault]));
        }
        let stored = LinkDefinition {
            id: id.into(),
            version: 1,
            created_at: Time(0),
            changed_at: Time(0),
            changed_by: by.into(),
            definition,
        };
        self.state().defined.insert(id.into(), stored);
        self.link(id)
    }

    fn redefine(&self, id: &str, patch: &Definition, expected: Option<u64>, _: &str) -> Result<Link, ControlError> {
        let mut state = self.state();
        let stored = state.defined.get_mut(id).ok_or_else(|| not_found("link", id))?;
        if expected.is_some_and(|expected| expected != stored.version) {
            return Err(ControlError::new(ErrorKind::Outdated, "version-outdated", "it has another version", "look"));
        }
        stored.definition.extend(patch.clone());
        stored.version += 1;
        drop(state);
        self.link(id)
    }

    fn delete(&self, id: &str, _: Option<u64>, _: &str) -> Result<Ordered<()>, ControlError> {
        self.state().defined.remove(id).map(|_| Ordered::Done(())).ok_or_else(|| not_found("link", id))
    }

    fn definition(&self, id: &str) -> Result<LinkDefinition, ControlError> {
        self.state().defined.get(id).cloned().ok_or_else(|| not_found("link", id))
    }

    fn store_plugin(&self, _: &[u8]) -> Result<Inspection, ControlError> {
        Err(ControlError::new(ErrorKind::Invalid, "plugin-refused", "not a component", "build one"))
    }

    fn throttle(&self, id: &str, rate: Option<Option<u64>>, by: &str) -> Result<Ordered<Throttle>, ControlError> {
        known("link", id, "orders")?;
        let (throttle_rate_bytes_per_sec, set_by) = (rate.flatten(), rate.map(|_| by.to_owned()));
        Ok(Ordered::Done(Throttle { throttle_rate_bytes_per_sec, set_by, ..Throttle::default() }))
    }

    fn reload(&self) -> Result<Reloaded, ControlError> {
        Ok(Reloaded { added: vec!["dr".into()], needs_restart: vec!["daemon.listen".into()], ..Reloaded::default() })
    }

    fn link(&self, id: &str) -> Result<Link, ControlError> {
        let state = self.state();
        if let Some(stored) = state.defined.get(id) {
            let (managed_by, version) = (ManagedBy::Api, Some(stored.version));
            return Ok(Link { id: id.into(), managed_by, version, ..link(state.active) });
        }
        known("link", id, "orders").map(|()| link(state.active))
    }

    fn steer(&self, id: &str, transition: LinkTransition, _: &str) -> Result<Ordered<Link>, ControlError> {
        known("link", id, "orders")?;
        let mut state = self.state();
        if transition == LinkTransition::Resume && !state.active {
            return Err(ControlError::new(ErrorKind::Conflict, "not-paused", "the link is stopped", "start it"));
        }
        state.active = matches!(transition, LinkTransition::Start | LinkTransition::Resume);
        Ok(Ordered::Done(link(state.active)))
    }

    fn upgrade(&self, link: &str, dry_run: bool, _by: &str) -> Result<Upgrade, ControlError> {
        self.link(link)?;
        let daemons = vec![KnownLayout { daemon: "a".to_owned(), layout: Some(2) }];
        Ok(Upgrade { link: link.to_owned(), from: 1, to: 2, dry_run, daemons })
    }

    fn relane(&self, link: &str, lanes: u32, _by: &str) -> Result<Ordered<Relaned>, ControlError> {
        self.link(link)?;
        Ok(Ordered::Done(Relaned { link: link.to_owned(), from: 4, to: lanes, done: lanes < 100 }))
    }

    fn reset(&self, link: &str, request: &ResetRequest, by: &str) -> Result<Ordered<Reset>, ControlError> {
        self.link(link)?;
        Ok(Ordered::Done(shapes::reset(request, by)))
    }

    fn resets(&self, link: &str) -> Result<Vec<Reset>, ControlError> {
        let request = ResetRequest {
            topic: "orders".to_owned(),
            partition: Some(3),
            to: ResetPlace::Offset(9),
            forget_state: false,
        };
        self.link(link)?;
        Ok(vec![shapes::reset(&request, "ann")])
    }

    fn fail_over(&self, link: &str, drain: Option<Duration>, by: &str) -> Result<Ordered<FailoverEvent>, ControlError> {
        self.link(link)?;
        let warnings = drain.map(|drain| format!("waited for {} s", drain.as_secs())).into_iter().collect();
        Ok(Ordered::Done(FailoverEvent { by: by.to_owned(), warnings, ..shapes::failover(FailoverType::Failover) }))
    }

    fn plan_failover(&self, link: &str, _: Option<Duration>) -> Result<FailoverPlan, ControlError> {
        self.link(link).map(|_| shapes::failover_plan(FailoverType::Failover))
    }

    fn fail_back(&self, link: &str, by: &str) -> Result<Ordered<FailoverEvent>, ControlError> {
        self.link(link)?;
        let under_way = shapes::failover(FailoverType::Failback);
        let phase = Some(FailoverPhase::Returning);
        Ok(Ordered::Done(FailoverEvent { by: by.to_owned(), success: None, phase, ..under_way }))
    }

    fn plan_failback(&self, link: &str) -> Result<FailoverPlan, ControlError> {
        self.link(link).map(|_| shapes::failover_plan(FailoverType::Failback))
    }

    fn call_off_failback(&self, link: &str, _: &str) -> Result<Ordered<FailoverEvent>, ControlError> {
        self.link(link)?;
        Err(ControlError::new(ErrorKind::Conflict, "not-failing-back", "it is not failing back", ""))
    }

    fn failovers(&self, link: &str) -> Result<Vec<FailoverEvent>, ControlError> {
        self.link(link)?;
        Ok([FailoverType::Failover, FailoverType::Failback].map(shapes::failover).into())
    }

    fn failover(&self, link: &str, event: &str) -> Result<FailoverDetails, ControlError> {
        self.link(link)?;
        known("event", event, "failover-1")?;
        let FailoverPlan { partitions, target_partitions, .. } = shapes::failover_plan(FailoverType::Failover);
        Ok(FailoverDetails { event: shapes::failover(FailoverType::Failover), partitions, target_partitions })
    }

    fn link_metrics(&self, id: &str) -> Result<LinkMetrics, ControlError> {
        known("link", id, "orders").map(|()| LinkMetrics::default())
    }

    fn link_health(&self, id: &str) -> Result<LinkHealth, ControlError> {
        known("link", id, "orders").map(|()| LinkHealth {
            status: HealthStatus::Healthy,
            last_health_check: Some(Time(0)),
            source_cluster_reachable: Some(true),
            target_cluster_reachable: Some(true),
            replication_lag_healthy: None,
            error_rate_healthy: true,
            checkpoint_healthy: true,
            issues: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn metrics(&self) -> Result<Page, ControlError> {
        Ok(super::exposition::tests::page())
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
        Ok(swap(&mut self.state(), Some(publish.stage), stage, &publish.by, None))
    }

    fn rollback(&self, id: &str, to: Option<RevisionNumber>, by: &str) -> Result<Swap, ControlError> {
        known("link", id, "orders")?;
        let mut state = self.state();
        let to = to.map_or(state.revisions.len().saturating_sub(1) as u64, |to| to.0);
        let Some(earlier) = state.revisions.iter().find(|revision| revision.number == to) else {
            return Err(not_found("revision", &to.to_string()));
        };
        let stage = earlier.stages[0].clone();
        Ok(swap(&mut state, None, stage, by, Some(to)))
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

    fn events(&self, id: &str, after: Option<&str>) -> Result<Happened, ControlError> {
        known("link", id, "orders")?;
        let state = self.state();
        let seen = after.and_then(|after| state.events.iter().position(|event| event.id == after));
        let first = seen.map_or(0, |seen| seen + 1);
        Ok(Happened { events: state.events[first..].to_vec(), news: state.news.subscribe() })
    }

    fn checkpoints(&self, id: &str) -> Result<Vec<Checkpoint>, ControlError> {
        known("link", id, "orders")?;
        Ok(vec![shapes::checkpoint()])
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
