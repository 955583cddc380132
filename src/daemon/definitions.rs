//! Links that are defined through the API. They are kept on a cluster, so that they outlive this process and all daemons that name that cluster run them.
//!
//! What is kept is what was said, not what it was understood as: each daemon reads it like its own file. A change is written first, if nobody else was
//! faster, and then done by whoever finds it written, the daemon that was asked included.

mod managed;
mod stored;
mod unusable;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

pub(super) use self::stored::Stored;
use self::stored::{NAME, decode, read};
pub use self::unusable::Holds;
pub(super) use self::unusable::line;
use self::unusable::{AllUnusable, Unusable, reason};
use super::check::{CheckedStage, add_new, check_cluster, check_stage};
use super::control::{cluster_error, faults};
use super::lifecycle::allowed;
use super::run::{open_cluster, open_own_store};
use super::world::{Hosted, ManagedBy, RunningCluster};
use super::{Daemon, lock};
use crate::api::control::{ControlError, ErrorKind};
use crate::api::wire;
use crate::config::{
    self, Defined, DefinitionSettings, Diagnostic, Kept, LinkConfig, Neighbours, PluginSource, Surroundings,
};
use crate::connector::{self, Cluster};
use crate::link::Link;
use crate::link::supervisor::{Around, LinkState};
use crate::model::{ClusterId, Culprit, JsonObject, LinkId, encode};

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
    /// Why they could not be read when that was tried last.
    trouble: Mutex<Option<ControlError>>,
    /// Those that are not run here, and why.
    unusable: Mutex<AllUnusable>,
    /// Those that the operator does not want to be run.
    holds: Mutex<Holds>,
}

impl Definitions {
    /// None is known yet.
    pub(super) fn new(holds: Holds) -> Self {
        Self { holds: Mutex::new(holds), ..Self::default() }
    }
}

/// A definition that can be used.
struct Examined {
    defined: Defined,
    /// The stages of each way: of the link, and of the one that goes the other way if one does.
    stages: Vec<Vec<CheckedStage>>,
    /// The settings that it was read with.
    settings: DefinitionSettings,
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
        if self.find_unusable(&id).is_some() {
            return Err(self.defined_before(&id));
        }
        self.examine(&id, &definition)?;
        let home = self.home(true)?.ok_or_else(no_home)?;
        let (known, before) = read(&*home, &id).map_err(|error| self.home_error(error))?;
        if before.as_ref().is_some_and(Stored::is_link) {
            return Err(self.defined_before(&id));
        }
        self.check_room(&*home)?;
        let stored = match before {
            Some(deleted) => deleted.followed_by(Some(definition), by),
            None => Stored::first(definition, by),
        };
        self.write(&*home, &id, known.as_deref(), &stored)?;
        self.shown(&id)
    }

    /// Whether one more link may be defined.
    fn check_room(&self, home: &dyn Cluster) -> Result<(), ControlError> {
        let most = self.settings().definitions_max;
        let stored = home.metadata_of_all(NAME).map_err(|error| self.home_error(error))?;
        // One that cannot be read is there all the same.
        let is_link = |(id, bytes): &(&LinkId, &Vec<u8>)| decode(id, bytes).map_or(true, |stored| stored.is_link());
        if stored.iter().filter(is_link).count() < most {
            return Ok(());
        }
        let message = format!("{most} links are defined, and no more may be (definitions_max)");
        let remedy = "delete links that nobody needs, or raise definitions_max in [daemon]";
        Err(ControlError::new(ErrorKind::Conflict, "too-many-definitions", message, remedy))
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
        let ManagedBy::Api { stored: known, .. } = &hosted.managed_by else { return Ok(hosted) };
        let home = self.needed_home()?;
        let id = &hosted.config().id;
        if read(&*home, id).map_err(|error| self.home_error(error))?.1.as_ref() == Some(known) {
            return Ok(hosted);
        }
        let _changing = lock(&self.changing);
        self.take_over(&*home)?;
        // What it runs is not what it is to run.
        self.unusable(id).map_or_else(|| self.find_hosted(id), Err)
    }

    /// Whether what was defined is known here.
    pub(super) fn has_read_definitions(&self) -> bool {
        lock(&self.definitions.read).is_some()
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
            Err(error) => return self.note_trouble(Some(error)),
        };
        let version = home.metadata_version();
        let is_known = version.is_ok_and(|version| *lock(&self.definitions.read) == Some(version));
        if is_known && !self.is_any_due() {
            return self.note_trouble(None);
        }
        let _changing = lock(&self.changing);
        let trouble = self.take_over(&*home).err();
        self.note_trouble(trouble);
    }

    /// Remember why definitions cannot be read, and log it when it is news.
    fn note_trouble(&self, now: Option<ControlError>) {
        if let Some(error) = &now
            && let Some(news) = self.repeats.news(format!("definitions: {error}"), Instant::now())
        {
            tracing::warn!(code = error.code, repeated = news.repeated, "{error}");
        }
        *lock(&self.definitions.trouble) = now;
    }

    /// Why it is not known which links are defined, while that is so.
    pub(super) fn not_read(&self, id: &str) -> ControlError {
        let trouble = lock(&self.definitions.trouble).clone();
        trouble.unwrap_or_else(|| {
            let message = format!("it is not known yet whether there is a link {id}: the definitions are being read");
            ControlError::new(ErrorKind::Unavailable, "starting", message, "try again in a moment")
        })
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
        if !home.replace_metadata(id, NAME, known, &text).map_err(|error| self.home_error(error))? {
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
        let version = home.metadata_version().map_err(|error| self.home_error(error))?;
        let found = home.metadata_of_all(NAME).map_err(|error| self.home_error(error))?;
        let mut unusable = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        for (id, bytes) in found {
            let found = match decode(&id, &bytes) {
                Ok(Stored { definition: None, .. }) => continue,
                Ok(stored) => self.have_if_due(&id, stored),
                Err(error) => Some(self.unusable_now(&id, Stored::salvaged(&bytes), error)),
            };
            unusable.extend(found.map(|found| (id.clone(), found)));
            let present = self.world().links.get(&id).cloned();
            wanted.extend(present.and_then(|present| present.config().other_way_id()));
            wanted.insert(id);
        }
        let gone = |hosted: &Arc<Hosted>| {
            matches!(hosted.managed_by, ManagedBy::Api { .. }) && !wanted.contains(&hosted.config().id)
        };
        for hosted in self.links().into_iter().filter(gone) {
            hosted.give_way_to(None);
            let mut world = self.world_to_change();
            world.links.remove(&hosted.config().id);
            world.tidy();
        }
        *lock(&self.definitions.unusable) = unusable;
        *lock(&self.definitions.read) = Some(version);
        self.introduce_links();
        self.release_standbys();
        Ok(())
    }

    /// Whether a link of a definition runs on the clusters that are open now, and with the settings
    /// of now. Links of the file are compared with the file: see [`reload`](super::reload).
    pub(super) fn is_current(&self, hosted: &Hosted) -> bool {
        let ManagedBy::Api { settings, .. } = &hosted.managed_by else { return true };
        let (link, world) = (hosted.link(), self.world());
        let config = hosted.config();
        let (source, target) = (world.clusters.get(&config.source), world.clusters.get(&config.target));
        let reads =
            |running: &Arc<RunningCluster>| Arc::ptr_eq(running.as_source(config.config.isolation), link.source());
        *settings == self.settings().for_definitions()
            && source.is_some_and(reads)
            && target.is_some_and(|running| Arc::ptr_eq(&running.cluster, link.target()))
    }

    /// Begin a link again whose clusters or settings have changed around its definition. If it
    /// cannot, it goes on as before, is shown with the reason, and is tried again.
    ///
    /// # Errors
    /// Why it goes on as before.
    pub(super) fn renew(&self, id: &LinkId, stored: &Stored) -> Result<(), ControlError> {
        self.have(id, stored.clone()).map_err(|error| {
            let unusable = self.unusable_now(id, stored.clone(), reason(id, error));
            let reason = unusable.reason.clone();
            // A newer version that cannot be used either is what has to be changed.
            lock(&self.definitions.unusable).entry(id.clone()).or_insert(unusable);
            reason
        })
    }

    /// Read again what is stored: it is kept in a cluster that was opened anew.
    pub(super) fn forget_version(&self) {
        *lock(&self.definitions.read) = None;
    }

    /// Have a link be as `stored` says, unless that has failed and nothing has changed since. What keeps it from being used.
    fn have_if_due(&self, id: &LinkId, stored: Stored) -> Option<Unusable> {
        if let Some(known) = self.still_unusable(id, &stored) {
            return Some(known);
        }
        let error = self.have(id, stored.clone()).err()?;
        Some(self.unusable_now(id, stored, reason(id, error)))
    }

    /// Have a link be as `stored` says.
    fn have(&self, id: &LinkId, stored: Stored) -> Result<(), ControlError> {
        let present = self.world().links.get(id).cloned();
        match present.as_deref().map(|hosted| &hosted.managed_by) {
            Some(ManagedBy::File(_)) => return Err(in_file(id, ErrorKind::Conflict)),
            Some(ManagedBy::Api { stored: before, .. })
                if *before == stored && present.as_deref().is_some_and(|present| self.is_current(present)) =>
            {
                return Ok(());
            }
            _ => {}
        }
        if let Some(forbidden) = self.forbidden(id, &stored) {
            return Err(forbidden);
        }
        Culprit::of(id, stored.version).blamed_for(|| self.have_instead(id, stored, present))
    }

    fn have_instead(&self, id: &LinkId, stored: Stored, present: Option<Arc<Hosted>>) -> Result<(), ControlError> {
        let examined = self.examine(id, stored.definition.as_ref().unwrap_or(&JsonObject::new()))?;
        for warning in &examined.defined.warnings {
            tracing::warn!(link = &**id, path = config::json_path(warning), "{}", warning.message);
        }
        if let Some(present) = present {
            let reverse = self.other_way(&present);
            present.give_way_to(Some(&examined.defined.link));
            if let Some(reverse) = reverse {
                reverse.give_way_to(examined.defined.reverse.as_ref());
                self.world_to_change().links.remove(&reverse.config().id);
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
                let running = RunningCluster { in_place: Some(written), culprit: Culprit::now(), ..opened };
                self.world_to_change().clusters.insert(id, Arc::new(running));
            }
        }
        for (config, stages) in std::iter::once(link).chain(reverse).zip(examined.stages) {
            let id = config.id.clone();
            let link = self.link_of(config, stages, Culprit::now()).map_err(unavailable)?;
            let link = link.with_definition(stored.version);
            let settings = examined.settings.clone();
            let hosted = Hosted::begin(link, ManagedBy::Api { stored: stored.clone(), settings });
            self.world_to_change().links.insert(id, hosted);
        }
        self.world_to_change().tidy();
        Ok(())
    }

    /// A link between clusters that are open. What it does is done for the definition `culprit`, if one has brought it.
    pub(super) fn link_of(
        &self,
        config: LinkConfig,
        stages: Vec<CheckedStage>,
        culprit: Option<Culprit>,
    ) -> Result<Link, super::Error> {
        let cluster = |id: &ClusterId| -> Result<Arc<RunningCluster>, super::Error> {
            let found = self.world().clusters.get(id).cloned();
            found.ok_or_else(|| super::Error::new(format!("no cluster {id}"), "define it under [clusters]"))
        };
        let (source, target) = (cluster(&config.source)?, cluster(&config.target)?.cluster.clone());
        let source = source.as_source(config.config.isolation).clone();
        let around = self.around(&config.neighbours);
        let link = Link::new(config, self.name.clone(), source, target, self.engine.clone(), stages);
        // What was said of one way was said of both.
        let said = |id: Option<LinkId>| self.orders.desired(&id?);
        let ahead = said(Some(link.config().id.clone())).or_else(|| said(link.config().other_way_id()));
        let link = link.with_around(around).with_ahead(ahead);
        Ok(link.with_layout_max(self.settings().layout_max).with_culprit(culprit))
    }

    /// What a link knows of its neighbours.
    fn around(&self, neighbours: &Arc<Neighbours>) -> Around {
        let world = self.world();
        let cluster = |id: &ClusterId| Some((id.clone(), world.clusters.get(id)?.cluster.clone()));
        Around {
            neighbours: neighbours.clone(),
            clusters: neighbours.clusters().into_iter().filter_map(cluster).collect(),
        }
    }

    /// Have all links know who their neighbours are now, and what others keep for themselves.
    pub(super) fn introduce_links(&self) {
        let all = self.links();
        let kept: Arc<Vec<Kept>> = Arc::new(all.iter().map(|hosted| Kept::of(hosted.config())).collect());
        let is_news = all.iter().any(|hosted| hosted.config().kept.now() != kept);
        for hosted in &all {
            hosted.config().kept.replace(kept.clone());
            if is_news {
                hosted.link().look_for_topics_soon();
            }
        }
        let stays = |hosted: &Arc<Hosted>| hosted.managed_by != ManagedBy::Failback;
        let links: Vec<Arc<Hosted>> = all.into_iter().filter(stays).collect();
        let configs: Vec<&LinkConfig> = links.iter().map(|hosted| hosted.config()).collect();
        for (hosted, neighbours) in links.iter().zip(config::neighbours_of(&configs)) {
            hosted.link().introduce(self.around(&neighbours));
        }
    }

    /// Read a definition before anybody has to wait for it: files that do not answer keep this request alone, and plugins are compiled when it is this one's turn. What is
    /// found is said when it is read again.
    fn examine_unlocked(&self, id: &LinkId, definition: &JsonObject) {
        let _said_later = self.examine(id, definition);
    }

    /// Read a definition as if it were to be used now.
    fn examine(&self, id: &LinkId, definition: &JsonObject) -> Result<Examined, ControlError> {
        let settings = self.settings().for_definitions();
        let (clusters, in_place, links) = {
            let world = self.world();
            let is_own =
                |link: &LinkConfig| link.id == *id || link.is_reverse && link.other_way_id().as_ref() == Some(id);
            // A way back marks what it copies, and its link leaves that out: nothing goes round.
            let stays = |hosted: &&Arc<Hosted>| hosted.managed_by != ManagedBy::Failback;
            let others = world.links.values().filter(stays).map(|hosted| hosted.config());
            let links: Vec<LinkConfig> = others.filter(|link| !is_own(link)).cloned().collect();
            // What this link alone has brought may be brought otherwise.
            let is_used = |id: &ClusterId| links.iter().any(|link| link.source == *id || link.target == *id);
            let counts = |running: &&Arc<RunningCluster>| running.in_place.is_none() || is_used(&running.config.id);
            let present: Vec<_> = world.clusters.values().filter(counts).cloned().collect();
            let configs = present.iter().map(|it| (it.config.id.clone(), it.config.clone()));
            let brought = present.iter().filter_map(|it| Some((it.config.id.clone(), it.in_place.clone()?)));
            (configs.collect(), brought.collect(), links)
        };
        let around = Surroundings { clusters: &clusters, in_place: &in_place, links: &links, settings: &settings };
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
        Ok(Examined { defined, stages, settings })
    }

    fn component(&self, source: &PluginSource) -> Result<Vec<u8>, String> {
        let PluginSource::Stored(digest) = source else { return super::check::read_component(source) };
        let home = self.home(false).map_err(|error| error.message)?;
        let found = home.map_or(Ok(None), |home| home.artifact(digest)).map_err(|error| error.message)?;
        found.ok_or_else(|| "it is not stored here: `tidegate plugin store FILE` does that".to_owned())
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

    /// The same, to change or read what is there.
    fn needed_home(&self) -> Result<Arc<dyn Cluster>, ControlError> {
        self.home(false)?.ok_or_else(no_home)
    }

    /// Why definitions can neither be read nor written.
    fn home_error(&self, error: connector::Error) -> ControlError {
        let error = cluster_error(error);
        let Some(home) = &self.settings().metadata else { return error };
        let message = format!("the definitions of links are kept in cluster {home}, which cannot be used: {error}");
        let remedy =
            format!("{}; a definition can be read, changed and deleted only while that cluster answers", error.remedy);
        ControlError { message, remedy, ..error }
    }

    /// A link has its id already.
    fn defined_before(&self, id: &LinkId) -> ControlError {
        // Another daemon may just have defined it.
        let why = self.unusable(id).map(|why| format!(", which is not run here: {why}")).unwrap_or_default();
        let message = format!("there is a link {id} already{why}");
        let remedy = format!("choose another id; or {}", unusable::manage(id));
        ControlError::new(ErrorKind::Conflict, "link-exists", message, remedy)
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
    while hosted.link().state() == (LinkState::Starting, None) && begun.elapsed() < SETTLE_PATIENCE {
        thread::sleep(LOOK_AGAIN_AFTER);
    }
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

fn unavailable(error: super::Error) -> ControlError {
    ControlError::new(ErrorKind::Unavailable, "not-opened", error.message, error.remedy)
}
