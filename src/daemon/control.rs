//! Answers the REST API.

use std::sync::Arc;
use std::time::Duration;

use super::orders::{Done, Order};
use super::view::{self, Said, View};
use super::world::{Hosted, ManagedBy, RunningCluster, Trouble};
use super::{Daemon, verification};
use crate::api::control::{
    About, ControlError, ControlPlane, Definition, ErrorKind, Fault, Happened, Ordered, Publish, Read, ReadAnswer,
    Silent,
};
use crate::api::exposition::Page;
use crate::api::wire;
use crate::config::{self, ClusterKind, Diagnostic, LinkConfig, Severity, THROTTLE_RATES, Writing, may_write};
use crate::connector::{Class, Error, poll_or_fail};
use crate::link::genesis::FAILED_OVER;
use crate::link::sight::Look;
use crate::link::supervisor::{LinkState, NewPlugin, PublishError, VerifyError};
use crate::link::{Failure, Link, Publication};
use crate::model::culprit::Work;
use crate::model::time::now_ms;
use crate::model::{Batch, ClusterId, RevisionNumber, TopicPartition};

/// How long the records before the end of a partition may take to come.
const READ_PATIENCE: Duration = Duration::from_secs(5);

impl Daemon {
    pub(super) fn find_hosted(&self, id: &str) -> Result<Arc<Hosted>, ControlError> {
        let world = self.world();
        if let Some(hosted) = world.links.get(id) {
            return Ok(hosted.clone());
        }
        if !self.has_read_definitions() {
            // It may be one of those.
            return Err(self.not_read(id));
        }
        let known: Vec<&str> = world.links.keys().map(AsRef::as_ref).collect();
        let remedy = format!("there are: {}", if known.is_empty() { "none".to_owned() } else { known.join(", ") });
        let missing =
            ControlError::new(ErrorKind::NotFound, "link-not-found", format!("there is no link {id}"), remedy);
        Err(self.unusable(id).unwrap_or(missing))
    }

    pub(super) fn find_link(&self, id: &str) -> Result<Work<Link>, ControlError> {
        Ok(self.find_hosted(id)?.link())
    }

    fn find_cluster(&self, id: &str) -> Result<Work<RunningCluster>, ControlError> {
        let world = self.world();
        world.clusters.get(id).map(|running| Work::with(running, running.culprit)).ok_or_else(|| {
            let known: Vec<&str> = world.clusters.keys().map(AsRef::as_ref).collect();
            let remedy = format!("there are: {}", known.join(", "));
            ControlError::new(ErrorKind::NotFound, "cluster-not-found", format!("there is no cluster {id}"), remedy)
        })
    }

    /// A link as it is now, and what was said of it.
    pub(super) fn view(&self, hosted: &Hosted) -> wire::Link {
        self.view_of(hosted, &Link::look(&hosted.link()))
    }

    fn view_of(&self, hosted: &Hosted, look: &Look) -> wire::Link {
        let (managed_by, version, created_ms) = match &hosted.managed_by {
            ManagedBy::File(_) => (wire::ManagedBy::File, None, None),
            ManagedBy::Api { stored, .. } => (wire::ManagedBy::Api, Some(stored.version), Some(stored.created_ms)),
            ManagedBy::Failback => (wire::ManagedBy::Failback, None, None),
        };
        let config = hosted.config();
        let said = Said {
            managed_by,
            version,
            created_at: created_ms.map(wire::Time),
            source_cluster: self.place_of(&config.source),
            target_cluster: self.place_of(&config.target),
        };
        let mut link = View::new(look).link(said);
        link.pending = self.orders.pending(&link.id);
        self.add_unusable(&mut link);
        link
    }

    fn place_of(&self, cluster: &ClusterId) -> wire::ClusterPlace {
        let brokers = match self.world().clusters.get(cluster).map(|running| &running.config.kind) {
            Some(ClusterKind::Kafka(kafka)) => kafka.brokers.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        wire::ClusterPlace { cluster_id: cluster.to_string(), brokers }
    }

    fn find_topic(
        &self,
        cluster: &str,
        topic: &str,
    ) -> Result<(Work<RunningCluster>, wire::TopicSummary), ControlError> {
        let running = self.find_cluster(cluster)?;
        match running.topic(topic).map_err(cluster_error)? {
            Some(found) => {
                Ok((running, wire::TopicSummary { name: found.name.to_string(), partitions: found.partitions }))
            }
            None => Err(ControlError::new(
                ErrorKind::NotFound,
                "topic-not-found",
                format!("there is no topic {topic} in {cluster}"),
                format!("`tidegate topic create {cluster} {topic}` makes it"),
            )),
        }
    }

    fn find_partition(&self, cluster: &str, partition: &TopicPartition) -> Result<Work<RunningCluster>, ControlError> {
        let (running, topic) = self.find_topic(cluster, &partition.topic)?;
        if partition.partition < topic.partitions {
            return Ok(running);
        }
        let message = format!("topic {} has {} partitions, from 0 on", topic.name, topic.partitions);
        Err(ControlError::new(ErrorKind::NotFound, "partition-not-found", message, ""))
    }
}

impl ControlPlane for Daemon {
    fn silent(&self, about: &About, probe: Option<Duration>) -> Vec<Silent> {
        self.silent_clusters(about, probe)
    }

    fn status(&self) -> Result<wire::Status, ControlError> {
        let unhosted = self.not_hosted(None).into_iter().map(super::definitions::line);
        let looks: Vec<Look> = self.links().iter().map(|hosted| Link::look(&hosted.link())).collect();
        let mut links: Vec<_> = looks.iter().map(|look| View::new(look).line()).chain(unhosted).collect();
        links.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(wire::Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            name: self.name.to_string(),
            data_dir: self.data_dir.clone(),
            clusters: self.clusters().iter().map(|running| cluster_status(running)).collect(),
            links,
        })
    }

    fn ready(&self) -> Result<(), ControlError> {
        // A link that waits for its clusters does not make the others wait.
        let starting = |message: String| {
            Err(ControlError::new(ErrorKind::Unavailable, "starting", message, "try again in a moment"))
        };
        match self.links().iter().find(|hosted| hosted.link().state() == (LinkState::Starting, None)) {
            Some(hosted) => starting(format!("link {} is starting", hosted.config().id)),
            None if !self.has_read_definitions() => starting("the definitions of links are being read".to_owned()),
            None => Ok(()),
        }
    }

    fn links(&self, after: Option<&str>, limit: usize) -> Result<(Vec<wire::Link>, bool), ControlError> {
        let links = Self::links(self);
        let behind = |hosted: &&Arc<Hosted>| after.is_none_or(|after| *hosted.config().id > *after);
        let mut behind = links.iter().filter(behind);
        let looks: Vec<_> = behind.by_ref().take(limit).map(|hosted| (hosted, Link::look(&hosted.link()))).collect();
        let mut page: Vec<_> = looks.iter().map(|(hosted, look)| self.view_of(hosted, look)).collect();
        let mut is_last = behind.next().is_none();
        // Those that do not run are few, if there are any: they are merged in where their ids belong.
        let until = page.last().map(|last| last.id.clone()).filter(|_| !is_last);
        let is_in_page = |link: &wire::Link| until.as_ref().is_none_or(|until| link.id < *until);
        page.extend(self.not_hosted(after).into_iter().filter(is_in_page));
        page.sort_by(|one, other| one.id.cmp(&other.id));
        is_last &= page.len() <= limit;
        page.truncate(limit);
        Ok((page, is_last))
    }

    fn link(&self, link: &str) -> Result<wire::Link, ControlError> {
        if let Some(unhosted) = self.shown_unhosted(link) {
            return Ok(unhosted);
        }
        Ok(self.view(&*self.find_hosted(link)?))
    }

    fn define(&self, id: Option<&str>, definition: Definition, by: &str) -> Result<wire::Link, ControlError> {
        self.define_link(id, definition, by)
    }

    fn redefine(
        &self,
        link: &str,
        patch: &Definition,
        expected: Option<u64>,
        by: &str,
    ) -> Result<wire::Link, ControlError> {
        self.redefine_link(link, patch, expected, by)
    }

    fn delete(&self, link: &str, expected: Option<u64>, by: &str) -> Result<Ordered<()>, ControlError> {
        Ok(self.give_order(link, Order::Delete { expected }, by)?.map(|_| ()))
    }

    fn definition(&self, link: &str) -> Result<wire::LinkDefinition, ControlError> {
        self.link_definition(link)
    }

    fn store_plugin(&self, component: &[u8]) -> Result<wire::Inspection, ControlError> {
        self.store_component(component)
    }

    fn throttle(
        &self,
        link: &str,
        rate: Option<Option<u64>>,
        by: &str,
    ) -> Result<Ordered<wire::Throttle>, ControlError> {
        if let Some(rate) = rate.flatten().filter(|rate| !THROTTLE_RATES.contains(rate)) {
            let (low, high) = THROTTLE_RATES.into_inner();
            return Err(ControlError::faults(vec![Fault {
                path: "$.throttle_rate_bytes_per_sec".to_owned(),
                message: format!("{rate} is out of range: write a number from {low} to {high}"),
                help: "null is as fast as it can".to_owned(),
                ..Fault::default()
            }]));
        }
        let (is_configured, rate) = (rate.is_none(), rate.flatten());
        let done = self.give_order(link, Order::Throttle { is_configured, rate }, by)?;
        taken(done, |done| if let Done::Throttled(throttle) = done { Some(throttle) } else { None })
    }

    fn reload(&self) -> Result<wire::Reloaded, ControlError> {
        self.reload_file()
    }

    fn steer(
        &self,
        link: &str,
        transition: wire::LinkTransition,
        by: &str,
    ) -> Result<Ordered<wire::Link>, ControlError> {
        let done = self.give_order(link, Order::Steer { transition }, by)?;
        taken(done, |done| if let Done::Steered(link) = done { Some(*link) } else { None })
    }

    fn reset(&self, link: &str, request: &wire::ResetRequest, by: &str) -> Result<Ordered<wire::Reset>, ControlError> {
        let done = self.give_order(link, Order::Reset { request: request.clone() }, by)?;
        taken(done, |done| if let Done::Reset(reset) = done { Some(reset) } else { None })
    }

    fn resets(&self, link: &str) -> Result<Vec<wire::Reset>, ControlError> {
        let resets = Link::resets_seen(&self.find_link(link)?).map_err(failure_error)?;
        Ok(resets.iter().map(view::reset).collect())
    }

    fn upgrade(&self, link: &str, dry_run: bool, by: &str) -> Result<wire::Upgrade, ControlError> {
        super::lanes::upgrade(&*self.find_link(link)?, dry_run, by)
    }

    fn relane(&self, link: &str, lanes: u32, by: &str) -> Result<Ordered<wire::Relaned>, ControlError> {
        super::lanes::check(lanes)?;
        let done = self.give_order(link, Order::Relane { lanes }, by)?;
        taken(done, |done| if let Done::Relaned(relaned) = done { Some(relaned) } else { None })
    }

    fn fail_over(
        &self,
        link: &str,
        drain: Option<Duration>,
        by: &str,
    ) -> Result<Ordered<wire::FailoverEvent>, ControlError> {
        let drain_ms = drain.map(|drain| drain.as_millis() as u64);
        taken(self.give_order(link, Order::FailOver { drain_ms }, by)?, changed_places)
    }

    fn plan_failover(&self, link: &str, drain: Option<Duration>) -> Result<wire::FailoverPlan, ControlError> {
        self.plan_link_failover(link, drain)
    }

    fn fail_back(&self, link: &str, by: &str) -> Result<Ordered<wire::FailoverEvent>, ControlError> {
        taken(self.give_order(link, Order::FailBack, by)?, changed_places)
    }

    fn plan_failback(&self, link: &str) -> Result<wire::FailoverPlan, ControlError> {
        self.plan_link_failback(link)
    }

    fn call_off_failback(&self, link: &str, by: &str) -> Result<Ordered<wire::FailoverEvent>, ControlError> {
        taken(self.give_order(link, Order::CallOffFailback, by)?, changed_places)
    }

    fn failovers(&self, link: &str) -> Result<Vec<wire::FailoverEvent>, ControlError> {
        self.link_failovers(link)
    }

    fn failover(&self, link: &str, event: &str) -> Result<wire::FailoverDetails, ControlError> {
        self.link_failover(link, event)
    }

    fn link_metrics(&self, link: &str) -> Result<wire::LinkMetrics, ControlError> {
        Ok(View::new(&Link::look(&self.find_link(link)?)).metrics(now_ms()))
    }

    fn link_health(&self, link: &str) -> Result<wire::LinkHealth, ControlError> {
        Ok(view::health(self.find_link(link)?.health()))
    }

    fn metrics(&self) -> Result<Page, ControlError> {
        Ok(super::metrics::page(self.started, &Self::links(self), self.settings().metrics_partitions_max))
    }

    fn plan(&self, link: &str) -> Result<wire::Plan, ControlError> {
        let found = self.find_link(link)?;
        let plan = found.plan().map_err(failure_error)?;
        Ok(super::plan::plan(&found.config().id, &plan))
    }

    fn groups(&self, link: &str) -> Result<Vec<wire::ConsumerGroup>, ControlError> {
        super::groups::groups(&*self.find_link(link)?)
    }

    fn sync_groups(&self, link: &str, request: &wire::GroupsRequest) -> Result<Vec<wire::ConsumerGroup>, ControlError> {
        super::groups::sync(&*self.find_link(link)?, request)
    }

    fn publish(&self, link: &str, publish: Publish) -> Result<wire::Swap, ControlError> {
        let found = self.find_link(link)?;
        let hosted = Self::links(self);
        let others: Vec<&LinkConfig> = hosted.iter().map(|hosted| hosted.config()).collect();
        let published = found.publish(NewPlugin {
            stage: &publish.stage,
            component: &publish.component,
            config: publish.config.as_ref(),
            by: &publish.by,
            others: &others,
            is_wanted: &|| publish.wait.goes_on(),
        });
        published.map(|done| swap(&done, Some(publish.stage))).map_err(publish_error)
    }

    fn rollback(&self, link: &str, to: Option<RevisionNumber>, by: &str) -> Result<wire::Swap, ControlError> {
        self.find_link(link)?.rollback(to, by).map(|done| swap(&done, None)).map_err(publish_error)
    }

    fn verify(&self, link: &str, differences: usize) -> Result<wire::Verification, ControlError> {
        match self.find_link(link)?.verify(differences) {
            Ok(begun) => Ok(verification::view(link, &begun)),
            Err(VerifyError::UnderWay) => {
                let message = format!("a verification of {link} is under way");
                let remedy = "wait until it is done, or interrupt the command that has begun it";
                Err(ControlError::new(ErrorKind::Conflict, "verification-under-way", message, remedy))
            }
            Err(VerifyError::Failed(failure)) => Err(failure_error(failure)),
        }
    }

    fn verification(&self, link: &str) -> Result<wire::Verification, ControlError> {
        let last = self.find_link(link)?.verification();
        last.map(|last| verification::view(link, &last)).ok_or_else(|| {
            let message = format!("{link} was not verified since the daemon started");
            let remedy = format!("`tidegate verify {link}` does it");
            ControlError::new(ErrorKind::NotFound, "verification-not-found", message, remedy)
        })
    }

    fn cancel_verification(&self, link: &str) -> Result<wire::Verification, ControlError> {
        if let Some(last) = self.find_link(link)?.verification() {
            last.cancel();
        }
        self.verification(link)
    }

    fn events(&self, link: &str, after: Option<&str>) -> Result<Happened, ControlError> {
        let found = self.find_link(link)?;
        let events = found.events();
        // What is heard of before it is looked for cannot be missed.
        let news = events.news();
        let after = after.and_then(|name| name.parse().ok()).unwrap_or_default();
        Ok(Happened { events: events.after(after).iter().map(view::event).collect(), news })
    }

    fn checkpoints(&self, link: &str) -> Result<Vec<wire::Checkpoint>, ControlError> {
        let found = self.find_link(link)?;
        let look = Link::look(&found);
        let checkpoints = Link::checkpoints_seen(&found).map_err(failure_error)?;
        Ok(view::checkpoints(&look, &checkpoints))
    }

    fn revisions(&self, link: &str) -> Result<Vec<wire::Revision>, ControlError> {
        let found = self.find_link(link)?;
        let (history, starts) = Link::revisions_seen(&found).map_err(failure_error)?;
        Ok(view::revisions(&found, &history, &starts))
    }

    fn topics(&self, cluster: &str) -> Result<Vec<wire::TopicSummary>, ControlError> {
        let topics = self.find_cluster(cluster)?.cluster.topics().map_err(cluster_error)?;
        let summary = |topic: crate::connector::Topic| wire::TopicSummary {
            name: topic.name.to_string(),
            partitions: topic.partitions,
        };
        Ok(topics.into_iter().map(summary).collect())
    }

    fn topic(&self, cluster: &str, topic: &str) -> Result<wire::Topic, ControlError> {
        let (running, summary) = self.find_topic(cluster, topic)?;
        let ranges = running.cluster.ranges(topic).map_err(cluster_error)?;
        let partitions = (0..).zip(ranges).map(|(partition, range)| {
            let records = (range.end - range.log_start).max(0) as u64;
            wire::PartitionStatus { partition, log_start: range.log_start, end: range.end, records }
        });
        let retention = running.store.as_ref().and_then(|store| store.topic(topic)).map(|topic| topic.retention);
        Ok(wire::Topic {
            name: summary.name,
            partitions: partitions.collect(),
            retention: retention
                .map(|it| wire::Retention { age_ms_max: it.retention_ms, bytes_max: it.retention_bytes }),
        })
    }

    fn create_topic(&self, cluster: &str, topic: &wire::CreateTopic) -> Result<wire::Topic, ControlError> {
        check_name(&topic.name)?;
        let running = self.find_cluster(cluster)?;
        if running.topic(&topic.name).map_err(cluster_error)?.is_some() {
            let message = format!("topic {} exists in {cluster}", topic.name);
            return Err(ControlError::new(ErrorKind::Conflict, "topic-exists", message, ""));
        }
        match &running.store {
            // Of two who do this at once, one is told that it exists.
            Some(store) => {
                store.create_new_topic(&topic.name, topic.partitions).map_err(|error| cluster_error(error.into()))
            }
            None => running.cluster.create_topic(&topic.name, topic.partitions).map(drop).map_err(cluster_error),
        }?;
        self.topic(cluster, &topic.name)
    }

    fn partition_count(&self, cluster: &str, topic: &str) -> Result<u32, ControlError> {
        Ok(self.find_topic(cluster, topic)?.1.partitions)
    }

    fn append(&self, cluster: &str, partition: &TopicPartition, batch: &Batch) -> Result<i64, ControlError> {
        let running = self.find_partition(cluster, partition)?;
        check_name(&partition.topic)?;
        running.cluster.produce(partition, batch).map_err(cluster_error)
    }

    fn read(&self, cluster: &str, partition: &TopicPartition, read: Read) -> Result<ReadAnswer, ControlError> {
        let running = self.find_partition(cluster, partition)?;
        let cluster = &running.cluster;
        let range = cluster.range(partition).map_err(cluster_error)?;
        let from = match read.from {
            wire::ReadFrom::Earliest => range.log_start,
            wire::ReadFrom::Latest => range.end,
            wire::ReadFrom::Offset(offset) => offset,
        };
        if from < range.log_start || from > range.end {
            let message = format!("{partition} holds offsets {} to {}, not {from}", range.log_start, range.end);
            return Err(ControlError::new(ErrorKind::Invalid, "offset-out-of-range", message, "read from earliest"));
        }
        let mut source = cluster.source().map_err(cluster_error)?;
        source.seek(partition, from).map_err(cluster_error)?;
        // What is there is waited for: a cluster elsewhere needs a moment.
        let wait = if from < range.end { read.wait.max(READ_PATIENCE) } else { read.wait };
        let batch = poll_or_fail(&mut *source, read.records_max, read.bytes_max, wait).map_err(cluster_error)?;
        let range = cluster.range(partition).map_err(cluster_error)?;
        let next_offset = batch.as_ref().map_or(from, |batch| batch.next_offset);
        Ok(ReadAnswer { batch, next_offset, log_start: range.log_start, end: range.end })
    }
}

/// What comes of an order is of the order's kind.
fn taken<T>(done: Ordered<Done>, of_kind: impl FnOnce(Done) -> Option<T>) -> Result<Ordered<T>, ControlError> {
    let other = || ControlError::new(ErrorKind::Internal, "internal", "an order was taken for another", "report this");
    match done.map(of_kind) {
        Ordered::Done(done) => done.map(Ordered::Done).ok_or_else(other),
        Ordered::Pending(link) => Ok(Ordered::Pending(link)),
    }
}

fn changed_places(done: Done) -> Option<wire::FailoverEvent> {
    if let Done::ChangesPlaces(event) = done { Some(event) } else { None }
}

/// Refuse a topic that clients do not write to.
fn check_name(topic: &str) -> Result<(), ControlError> {
    let refused = |refused: config::Refused| {
        ControlError::new(ErrorKind::Invalid, refused.code(), refused.to_string(), Writing::Client.remedy())
    };
    may_write(Writing::Client, topic, &[]).map_err(refused)
}

fn cluster_status(running: &RunningCluster) -> wire::ClusterStatus {
    let (kind, path, brokers) = match &running.config.kind {
        ClusterKind::Embedded(embedded) => ("embedded", Some(embedded.path.clone()), None),
        ClusterKind::Kafka(kafka) => ("kafka", None, Some(kafka.brokers.iter().map(ToString::to_string).collect())),
    };
    let (state, failure) = match running.trouble() {
        None => ("open", None),
        Some(Trouble::Damaged(failure)) => ("open", Some(failure)),
        Some(Trouble::Failed(failure)) => ("failed", Some(failure)),
        Some(Trouble::Unreachable(failure)) => ("unreachable", Some(failure)),
    };
    wire::ClusterStatus {
        id: running.config.id.to_string(),
        kind: kind.to_owned(),
        path,
        brokers,
        state: state.to_owned(),
        error: failure.as_ref().map(view::trouble),
    }
}

fn swap(done: &Publication, stage: Option<String>) -> wire::Swap {
    wire::Swap {
        revision: done.record.number.0,
        digest: done.record.digest,
        stage,
        stages: view::stages(&done.record.stages),
        state: if done.complete { wire::RevisionState::Complete } else { wire::RevisionState::Pending },
        swap_pause_us_max: done.pause_max.map(|pause| pause.as_micros() as u64),
    }
}

fn publish_error(error: PublishError) -> ControlError {
    match error {
        PublishError::NoStage(_) => {
            let remedy = "`tidegate link show` lists the stages";
            ControlError::new(ErrorKind::NotFound, "stage-not-found", error.to_string(), remedy)
        }
        PublishError::NoRevision => {
            let remedy = "`tidegate plugin history` lists the revisions";
            ControlError::new(ErrorKind::Conflict, "no-revision", error.to_string(), remedy)
        }
        PublishError::Refused(message) => {
            let remedy = "nothing has changed; `tidegate plugin inspect` shows what a component is";
            ControlError::new(ErrorKind::Invalid, "plugin-refused", message, remedy)
        }
        PublishError::Overtaken
        | PublishError::Superseded { .. }
        | PublishError::Left { .. }
        | PublishError::Withdrawn => {
            let remedy = "look at `tidegate plugin history`, then publish again";
            ControlError::new(ErrorKind::Conflict, "overtaken", error.to_string(), remedy)
        }
        PublishError::Failed(failure) => failure_error(failure),
    }
}

/// What a link cannot do. As long as it is failed over, the same request does not work later either.
pub(super) fn failure_error(failure: Failure) -> ControlError {
    let kind = if failure.code == FAILED_OVER { ErrorKind::Conflict } else { ErrorKind::Unavailable };
    let is_unheard = failure.class == Class::Reopen && kind == ErrorKind::Unavailable;
    ControlError { is_unheard, ..ControlError::new(kind, failure.code, failure.message, failure.remedy) }
}

pub(super) fn cluster_error(error: Error) -> ControlError {
    let kind = match error.code {
        "invalid-topic-name" | "invalid-partitions" | "record-too-large" => ErrorKind::Invalid,
        "standing-by" | "topic-exists" => ErrorKind::Conflict,
        _ => ErrorKind::Unavailable,
    };
    let is_unheard = error.class == Class::Reopen && kind == ErrorKind::Unavailable;
    ControlError { is_unheard, ..ControlError::new(kind, error.code, error.message, error.remedy) }
}

/// A document that cannot be used.
pub(super) fn faults(found: &[Diagnostic]) -> ControlError {
    faults_at(found, |_| String::new())
}

/// The same of the daemon's own file, with the places in it.
pub(super) fn faults_of_file(found: &[Diagnostic]) -> ControlError {
    faults_at(found, |it| match it.line {
        0 => it.file.clone(),
        line => format!("{}:{line}:{}", it.file, it.column),
    })
}

fn faults_at(found: &[Diagnostic], place: impl Fn(&Diagnostic) -> String) -> ControlError {
    let fault = |it: &Diagnostic| Fault {
        place: place(it),
        path: config::json_path(it),
        message: it.message.clone(),
        help: it.help.clone().unwrap_or_default(),
    };
    let errors = found.iter().filter(|it| it.severity == Severity::Error);
    ControlError::faults(errors.map(fault).collect())
}
