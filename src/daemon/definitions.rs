//! Links that are defined through the API. They are kept on a cluster, so that they outlive this process and all daemons that name that cluster run them.
//!
//! What is kept is what was said, not what it was understood as: each daemon reads it like its own file. A change is written first, if nobody else was
//! faster, and then done by whoever finds it written, the daemon that was asked included.

mod aside;
mod stored;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use self::aside::SET_ASIDE;
pub(super) use self::stored::Stored;
use self::stored::{FORM, NAME, decode, read};
use super::check::{CheckedStage, add_new, check_cluster, check_stage};
use super::control::{cluster_error, faults};
use super::failover::way_back;
use super::lifecycle::allowed;
use super::run::{open_cluster, open_own_store};
use super::view::status;
use super::world::{Hosted, ManagedBy, RunningCluster};
use super::{Daemon, lock};
use crate::api::control::{ControlError, ErrorKind, Fault};
use crate::api::wire;
use crate::config::redaction::{redact, restore};
use crate::config::{self, Defined, Diagnostic, LinkConfig, PluginSource, Surroundings};
use crate::connector::Cluster;
use crate::link::Link;
use crate::link::failover::Phase;
use crate::link::relane::RelaneError;
use crate::link::supervisor::LinkState;
use crate::model::time::now_ms;
use crate::model::{ClusterId, Culprit, JsonObject, LinkId, encode, json};

/// How often is looked whether another daemon has changed a definition.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long a link that was just begun may take to find out what it was told before, and how soon that is looked at again. If its target does not answer, the
/// link is shown as starting.
const SETTLE_PATIENCE: Duration = Duration::from_secs(2);
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(2);

/// What is known of definitions.
#[derive(Default)]
pub(super) struct Definitions {
    /// The store that keeps them, if no cluster was named for it.
    own: Mutex<Option<Arc<dyn Cluster>>>,
    /// The version of what was read last; `None`: nothing was.
    read: Mutex<Option<u64>>,
    /// Those that this daemon cannot use, and why.
    unusable: Mutex<BTreeMap<LinkId, ControlError>>,
    /// Those that the process died of too often.
    aside: Mutex<BTreeMap<LinkId, Stored>>,
}

/// A definition that can be used.
struct Examined {
    defined: Defined,
    /// The stages of each way: of the link, and of the one that goes the other way if one does.
    stages: Vec<Vec<CheckedStage>>,
}

impl Daemon {
    /// Define a link.
    pub(super) fn define_link(
        &self,
        id: Option<&str>,
        definition: JsonObject,
        by: &str,
    ) -> Result<wire::Link, ControlError> {
        let id: LinkId = id.map_or_else(config::new_id, LinkId::from);
        self.examine_unlocked(&id, &definition);
        let _changing = lock(&self.changing);
        if self.world().links.contains_key(&id) {
            let message = format!("there is a link {id} already");
            return Err(ControlError::new(ErrorKind::Conflict, "link-exists", message, "choose another id"));
        }
        let examined = self.examine(&id, &definition)?;
        if let Some(taken) = examined.defined.link.other_way_id().filter(|id| self.world().links.contains_key(id)) {
            let message = format!("there is a link {taken} already, which this one needs for its other way");
            return Err(ControlError::new(ErrorKind::Conflict, "link-exists", message, "choose another id"));
        }
        let home = self.home(true)?.ok_or_else(no_home)?;
        let (known, before) = read(&*home, &id)?;
        if before.as_ref().is_some_and(|before| before.definition.is_some()) {
            return Err(overtaken(&id));
        }
        let now = now_ms();
        let version = before.map_or(1, |before| before.version + 1);
        let by = by.to_owned();
        let stored = Stored { v: FORM, version, created_ms: now, changed_ms: now, by, definition: Some(definition) };
        self.write(&*home, &id, known.as_deref(), &stored)?;
        self.shown(&id)
    }

    /// Change the definition of a link that does not move records: what is null in `patch` is taken out, the rest replaces what was there (RFC 7396).
    pub(super) fn redefine_link(
        &self,
        id: &str,
        patch: &JsonObject,
        expected: Option<u64>,
        by: &str,
    ) -> Result<wire::Link, ControlError> {
        if self.replace_aside(id, Some(patch), expected, by)? {
            return self.shown(id);
        }
        let lanes = self.change_definition(id, patch, expected, by)?;
        if let Some(lanes) = lanes {
            self.have_lanes(id, lanes, by);
        }
        self.shown(id)
    }

    /// The number of lanes, if it is another one now.
    fn change_definition(
        &self,
        id: &str,
        patch: &JsonObject,
        expected: Option<u64>,
        by: &str,
    ) -> Result<Option<u32>, ControlError> {
        if let Ok(hosted) = self.find_hosted(id)
            && let ManagedBy::Api(known) = &hosted.managed_by
        {
            let mut definition = known.definition.clone().unwrap_or_default();
            let patch = restore(patch.clone(), &definition);
            json::merge(&mut definition, &patch);
            self.examine_unlocked(&hosted.link.config().id, &definition);
        }
        let _changing = lock(&self.changing);
        let (hosted, before) = self.defined(id, expected)?;
        let state = self.state_of_both(&hosted);
        if !matches!(state, LinkState::Paused | LinkState::Stopped | LinkState::Failed)
            && !is_settled_elsewhere(&hosted)
            && !is_out_of_reach(&hosted)
        {
            let message = format!("link {id} is {}: it can be changed while it is paused or stopped", status(state));
            return Err(wrong_state(message, format!("`tidegate link pause {id}` pauses it"), state));
        }
        let mut definition = before.definition.clone().unwrap_or_default();
        let patch = restore(patch.clone(), &definition);
        json::merge(&mut definition, &patch);
        let id = hosted.link.config().id.clone();
        let examined = self.examine(&id, &definition)?;
        refuse_other_clusters(hosted.link.config(), &examined.defined.link)?;
        let home = self.home(false)?.ok_or_else(no_home)?;
        let (known, now) = read(&*home, &id)?;
        if now.as_ref() != Some(&before) {
            return Err(overtaken(&id));
        }
        let stored = Stored {
            version: before.version + 1,
            changed_ms: now_ms(),
            by: by.to_owned(),
            definition: Some(definition),
            ..before
        };
        self.write(&*home, &id, known.as_deref(), &stored)?;
        let lanes = examined.defined.link.lanes;
        Ok((lanes != hosted.link.config().lanes).then_some(lanes))
    }

    /// Have a link run with as many lanes as its definition says now. What it says of them counts by itself only for a link that is new.
    fn have_lanes(&self, id: &str, lanes: u32, by: &str) {
        let Ok(hosted) = self.find_hosted(id) else { return };
        for hosted in self.other_way(&hosted).into_iter().chain([hosted]) {
            match hosted.link.relane(lanes, by) {
                Ok(_) | Err(RelaneError::NotStarted) => {}
                // The link shows a notice that says what to do.
                Err(error) => tracing::warn!(link = &*hosted.link.config().id, "the lanes stay as they are: {error}"),
            }
        }
    }

    /// Forget a link that is stopped. What its target knows of it stays.
    pub(super) fn delete_link(&self, id: &str, expected: Option<u64>, by: &str) -> Result<(), ControlError> {
        if self.replace_aside(id, None, expected, by)? {
            return Ok(());
        }
        let _changing = lock(&self.changing);
        let (hosted, before) = self.defined(id, expected)?;
        let state = self.state_of_both(&hosted);
        if state != LinkState::Stopped && !is_settled_elsewhere(&hosted) && !is_out_of_reach(&hosted) {
            let message = format!("link {id} is {}: only one that is stopped can be deleted", status(state));
            return Err(wrong_state(message, format!("`tidegate link stop {id}` stops it"), state));
        }
        let id = hosted.link.config().id.clone();
        let home = self.home(false)?.ok_or_else(no_home)?;
        let (known, now) = read(&*home, &id)?;
        if now.as_ref() != Some(&before) {
            return Err(overtaken(&id));
        }
        let (version, by) = (before.version + 1, by.to_owned());
        let stored = Stored { version, changed_ms: now_ms(), by, definition: None, ..before };
        self.write(&*home, &id, known.as_deref(), &stored)
    }

    /// The definition of a link, as it was said.
    pub(super) fn link_definition(&self, id: &str) -> Result<wire::LinkDefinition, ControlError> {
        let stored = match self.aside(id) {
            Some((_, stored)) => stored,
            None => self.defined(id, None)?.1,
        };
        Ok(wire::LinkDefinition {
            id: id.to_owned(),
            version: stored.version,
            created_at: wire::Time(stored.created_ms),
            changed_at: wire::Time(stored.changed_ms),
            changed_by: stored.by,
            definition: redact(stored.definition.unwrap_or_default()),
        })
    }

    /// Keep a component for links that are defined through the API.
    pub(super) fn store_component(&self, bytes: &[u8]) -> Result<wire::Inspection, ControlError> {
        let inspected = super::check::inspect_bytes(&self.engine, bytes).map_err(|refusal| {
            let remedy = "`tidegate plugin inspect` says what a component is; wit/README.md says what a plugin is";
            ControlError::new(ErrorKind::Invalid, "plugin-refused", refusal, remedy)
        })?;
        let home = self.home(true)?.ok_or_else(no_home)?;
        home.put_artifact(&inspected.digest, bytes).map_err(cluster_error)?;
        Ok(inspected)
    }

    /// Have a link be as it is defined now, before it is told to move records: another daemon may just have changed it.
    pub(super) fn catch_up(&self, hosted: Arc<Hosted>) -> Result<Arc<Hosted>, ControlError> {
        let ManagedBy::Api(known) = &hosted.managed_by else { return Ok(hosted) };
        let home = self.home(false)?.ok_or_else(no_home)?;
        let id = &hosted.link.config().id;
        if read(&*home, id)?.1.as_ref() == Some(known) {
            return Ok(hosted);
        }
        let _changing = lock(&self.changing);
        self.take_over(&*home)?;
        self.find_hosted(id)
    }

    /// Whether what was defined is known here.
    pub(super) fn has_read_definitions(&self) -> bool {
        lock(&self.definitions.read).is_some()
    }

    /// Why a link that was defined does not run here, if it is one of those.
    pub(super) fn unusable(&self, id: &str) -> Option<ControlError> {
        lock(&self.definitions.unusable).get(id).cloned()
    }

    /// Do what other daemons have written, and try again what could not be done.
    pub(super) fn follow_definitions(&self) {
        let home = match self.home(false) {
            Ok(Some(home)) => home,
            Ok(None) if self.has_read_definitions() => return,
            Ok(None) => {
                let _changing = lock(&self.changing);
                *lock(&self.definitions.read) = Some(0);
                return self.release_standbys();
            }
            Err(error) => return tracing::warn!(code = error.code, "{error}"),
        };
        let version = home.metadata_version();
        let is_known = version.is_ok_and(|version| *lock(&self.definitions.read) == Some(version));
        if is_known && lock(&self.definitions.unusable).is_empty() {
            return;
        }
        let _changing = lock(&self.changing);
        if let Err(error) = self.take_over(&*home) {
            tracing::warn!(code = error.code, "the definitions of links: {error}");
        }
    }

    /// Write a definition, if `known` is what is there, and do what it says.
    fn write(
        &self,
        home: &dyn Cluster,
        id: &LinkId,
        known: Option<&[u8]>,
        stored: &Stored,
    ) -> Result<(), ControlError> {
        let text = encode("a definition", stored).map_err(|error| cluster_error(error.into()))?;
        if !home.replace_metadata(id, NAME, known, &text).map_err(cluster_error)? {
            return Err(overtaken(id));
        }
        tracing::info!(
            link = &**id,
            version = stored.version,
            by = stored.by,
            deleted = stored.definition.is_none(),
            "defined"
        );
        self.take_over(home)?;
        self.unusable(id).map_or(Ok(()), Err)
    }

    /// Have links be as they are defined.
    fn take_over(&self, home: &dyn Cluster) -> Result<(), ControlError> {
        let version = home.metadata_version().map_err(cluster_error)?;
        let found = home.metadata_of_all(NAME).map_err(cluster_error)?;
        let mut unusable = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for (id, bytes) in found {
            match decode(&id, &bytes) {
                Ok(Stored { definition: None, .. }) => continue,
                Ok(stored) => {
                    if let Err(error) = self.have(&id, stored) {
                        if error.code != SET_ASIDE {
                            tracing::error!(link = &*id, code = error.code, "the definition cannot be used: {error}");
                        }
                        unusable.insert(id.clone(), error);
                    }
                    let present = self.world().links.get(&id).cloned();
                    wanted.extend(present.and_then(|present| present.link.config().other_way_id()));
                }
                Err(error) => drop(unusable.insert(id.clone(), error)),
            }
            wanted.insert(id);
        }
        let gone = |hosted: &Arc<Hosted>| {
            matches!(hosted.managed_by, ManagedBy::Api(_)) && !wanted.contains(&hosted.link.config().id)
        };
        for hosted in self.links().into_iter().filter(gone) {
            hosted.end();
            hosted.release_topics();
            let mut world = self.world_to_change();
            world.links.remove(&hosted.link.config().id);
            world.tidy();
        }
        lock(&self.definitions.aside).retain(|id, _| unusable.contains_key(id));
        *lock(&self.definitions.unusable) = unusable;
        *lock(&self.definitions.read) = Some(version);
        self.release_standbys();
        Ok(())
    }

    /// Have a link be as `stored` says.
    fn have(&self, id: &LinkId, stored: Stored) -> Result<(), ControlError> {
        let present = self.world().links.get(id).cloned();
        match present.as_deref().map(|hosted| &hosted.managed_by) {
            Some(ManagedBy::File(_)) => return Err(in_file(id, ErrorKind::Conflict)),
            Some(ManagedBy::Api(before)) if *before == stored => return Ok(()),
            _ => {}
        }
        let culprit = Culprit::of(id, stored.version);
        if self.crashes.forbid(culprit) {
            return Err(self.set_aside(id, stored));
        }
        culprit.blamed_for(|| self.have_instead(id, stored, present))
    }

    fn have_instead(&self, id: &LinkId, stored: Stored, present: Option<Arc<Hosted>>) -> Result<(), ControlError> {
        let examined = self.examine(id, stored.definition.as_ref().unwrap_or(&JsonObject::new()))?;
        for warning in &examined.defined.warnings {
            tracing::warn!(link = &**id, path = config::json_path(warning), "{}", warning.message);
        }
        if let Some(present) = present {
            let reverse = self.other_way(&present);
            present.end();
            if let Some(reverse) = reverse {
                reverse.end();
                self.world_to_change().links.remove(&reverse.link.config().id);
            }
        }
        self.host(examined, stored)
    }

    fn host(&self, examined: Examined, stored: Stored) -> Result<(), ControlError> {
        let Defined { link, reverse, clusters, .. } = examined.defined;
        for (id, (config, written)) in clusters {
            let is_there =
                self.world().clusters.get(&id).is_some_and(|there| there.in_place.as_ref() == Some(&written));
            if !is_there {
                let opened = open_cluster(config).map_err(unavailable)?;
                let running = RunningCluster { in_place: Some(written), ..opened };
                self.world_to_change().clusters.insert(id, Arc::new(running));
            }
        }
        for (config, stages) in std::iter::once(link).chain(reverse).zip(examined.stages) {
            let id = config.id.clone();
            let link = self.link_of(config, stages).map_err(unavailable)?.with_definition(stored.version);
            let hosted = Hosted::begin(link, ManagedBy::Api(stored.clone()));
            self.world_to_change().links.insert(id, hosted);
        }
        self.world_to_change().tidy();
        Ok(())
    }

    /// A link between clusters that are open.
    pub(super) fn link_of(&self, config: LinkConfig, stages: Vec<CheckedStage>) -> Result<Link, super::Error> {
        let cluster = |id: &ClusterId| -> Result<Arc<dyn Cluster>, super::Error> {
            let found = self.world().clusters.get(id).map(|running| running.cluster.clone());
            found.ok_or_else(|| super::Error::new(format!("no cluster {id}"), "define it under [clusters]"))
        };
        let (source, target) = (cluster(&config.source)?, cluster(&config.target)?);
        let link = Link::new(config, self.name.clone(), source, target, self.engine.clone(), stages);
        Ok(link.with_layout_max(self.settings().layout_max))
    }

    /// Read a definition before anybody has to wait for it: files that do not answer keep this request alone, and plugins are compiled when it is this one's turn. What is
    /// found is said when it is read again.
    fn examine_unlocked(&self, id: &LinkId, definition: &JsonObject) {
        let _said_later = self.examine(id, definition);
    }

    /// Read a definition as if it were to be used now.
    fn examine(&self, id: &LinkId, definition: &JsonObject) -> Result<Examined, ControlError> {
        let settings = self.settings();
        let (clusters, in_place, links) = {
            let world = self.world();
            let is_own =
                |link: &LinkConfig| link.id == *id || link.is_reverse && link.other_way_id().as_ref() == Some(id);
            // A way back marks what it copies, and its link leaves that out: nothing goes round.
            let stays = |hosted: &&Arc<Hosted>| hosted.managed_by != ManagedBy::Failback;
            let others = world.links.values().filter(stays).map(|hosted| hosted.link.config());
            let links: Vec<LinkConfig> = others.filter(|link| !is_own(link)).cloned().collect();
            // What this link alone has brought may be brought otherwise.
            let is_used = |id: &ClusterId| links.iter().any(|link| link.source == *id || link.target == *id);
            let counts = |running: &&Arc<RunningCluster>| running.in_place.is_none() || is_used(&running.config.id);
            let present: Vec<_> = world.clusters.values().filter(counts).cloned().collect();
            let configs = present.iter().map(|it| (it.config.id.clone(), it.config.clone()));
            let brought = present.iter().filter_map(|it| Some((it.config.id.clone(), it.in_place.clone()?)));
            (configs.collect(), brought.collect(), links)
        };
        let around = Surroundings {
            clusters: &clusters,
            in_place: &in_place,
            links: &links,
            limits: &settings.limits,
            secrets_dir: settings.secrets_dir.as_deref(),
            insecure_plaintext: settings.definitions_insecure_plaintext,
        };
        let defined = config::read_definition(id, definition, &around).map_err(|found| faults(&found))?;
        let brought = defined.clusters.values().filter_map(|(cluster, _)| check_cluster(&defined.source, cluster));
        let mut errors: Vec<Diagnostic> = brought.collect();
        let ways: Vec<&LinkConfig> = std::iter::once(&defined.link).chain(&defined.reverse).collect();
        let all: Vec<&LinkConfig> = links.iter().chain(ways.iter().copied()).collect();
        let component = |source: &PluginSource| self.component(source);
        let mut stages = Vec::new();
        for way in &ways {
            let check = |stage| {
                let checked = check_stage(&defined.source, (way, &all), stage, &self.engine, &component);
                checked.map_err(|found| add_new(&mut errors, found)).ok()
            };
            stages.push(way.pipeline.iter().filter_map(check).collect());
        }
        if !errors.is_empty() {
            return Err(faults(&errors));
        }
        Ok(Examined { defined, stages })
    }

    fn component(&self, source: &PluginSource) -> Result<Vec<u8>, String> {
        let PluginSource::Stored(digest) = source else { return super::check::read_component(source) };
        let home = self.home(false).map_err(|error| error.message)?;
        let found = home.map_or(Ok(None), |home| home.artifact(digest)).map_err(|error| error.message)?;
        found.ok_or_else(|| "it is not stored here: `tidegate plugin store FILE` does that".to_owned())
    }

    /// A link that was defined through the API, if it is the version that is expected.
    fn defined(&self, id: &str, expected: Option<u64>) -> Result<(Arc<Hosted>, Stored), ControlError> {
        let hosted = self.find_hosted(id)?;
        settle(&hosted);
        let stored = match &hosted.managed_by {
            ManagedBy::Api(stored) => stored,
            ManagedBy::File(_) => return Err(in_file(id, ErrorKind::Conflict)),
            ManagedBy::Failback => return Err(way_back(id)),
        };
        if hosted.link.config().is_reverse {
            let message = format!("link {id} is the other way of one that goes both ways");
            let remedy = "change or delete that one: its id has no `.reverse` at the end";
            return Err(ControlError::new(ErrorKind::Conflict, "other-way", message, remedy));
        }
        stored.check_version(id, expected)?;
        let stored = stored.clone();
        Ok((hosted, stored))
    }

    /// Where definitions are kept. `None`: nowhere yet, and it is not to be made.
    fn home(&self, make: bool) -> Result<Option<Arc<dyn Cluster>>, ControlError> {
        if let Some(id) = &self.settings().metadata {
            return Ok(self.world().clusters.get(id).map(|running| running.cluster.clone()));
        }
        let mut own = lock(&self.definitions.own);
        if own.is_none() {
            *own = open_own_store(&self.data_dir, make).map_err(unavailable)?;
        }
        Ok(own.clone())
    }

    fn shown(&self, id: &str) -> Result<wire::Link, ControlError> {
        let hosted = self.find_hosted(id)?;
        settle(&hosted);
        Ok(self.view(&hosted))
    }
}

/// Wait until a link that was just begun has found out what it was told before, and whether its target has the source's place.
pub(super) fn settle(hosted: &Hosted) {
    let begun = Instant::now();
    while hosted.link.state() == (LinkState::Starting, None) && begun.elapsed() < SETTLE_PATIENCE {
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Its checkpoints say how far it is in one source, and are kept in one target.
fn refuse_other_clusters(before: &LinkConfig, after: &LinkConfig) -> Result<(), ControlError> {
    let fault = |key: &str, before: &ClusterId| Fault {
        path: format!("$.{key}.cluster_id"),
        message: format!("a link keeps its clusters, and this is {before}"),
        help: "define another link".to_owned(),
    };
    let [source, target] = [(&before.source, &after.source), (&before.target, &after.target)];
    let source = (source.0 != source.1).then(|| fault("source_cluster", source.0));
    let target = (target.0 != target.1).then(|| fault("target_cluster", target.0));
    let faults: Vec<Fault> = source.into_iter().chain(target).collect();
    if faults.is_empty() { Ok(()) } else { Err(ControlError::faults(faults)) }
}

/// A link that cannot do what was asked in its state.
pub(super) fn wrong_state(message: String, remedy: String, state: LinkState) -> ControlError {
    ControlError { allowed: allowed(state), ..ControlError::new(ErrorKind::Conflict, "wrong-state", message, remedy) }
}

fn in_file(id: &str, kind: ErrorKind) -> ControlError {
    let message = format!("link {id} is defined in the configuration file of the daemon");
    ControlError::new(kind, "link-in-file", message, "change the file, then `tidegate reload`")
}

fn overtaken(id: &str) -> ControlError {
    let message = format!("link {id} was changed by somebody else at the same time");
    ControlError::new(ErrorKind::Conflict, "overtaken", message, "look at it again, then change it")
}

fn no_home() -> ControlError {
    let message = "the cluster that keeps the definitions of links is not there";
    ControlError::new(ErrorKind::Unavailable, "metadata-cluster-missing", message, "see `metadata` in [daemon]")
}

/// Whether the target has the source's place, and nothing is under way about that.
fn is_settled_elsewhere(hosted: &Hosted) -> bool {
    hosted.link.failed_over().is_some_and(|over| over.phase == Phase::Over)
}

/// Whether it can be told nothing, as its target does not answer, and moves nothing here. Its definition may be what is wrong.
fn is_out_of_reach(hosted: &Hosted) -> bool {
    hosted.link.target_answer().is_some_and(|answer| !answer.is_reachable()) && !hosted.link.has_lanes()
}

fn unavailable(error: super::Error) -> ControlError {
    ControlError::new(ErrorKind::Unavailable, "not-opened", error.message, error.remedy)
}
