//! Finds topics while the link runs, and keeps their copies like them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::notices::{About, FoundBy, Notice, source_deleted};
use super::owner::{Claiming, Owners, left};
use super::plan::{Plan, Survey, TopicPlan, plan};
use super::{Chosen, Found, Looked, Names, Selection, select};
use crate::config::{LinkConfig, is_internal};
use crate::connector::{Acl, Cluster, Target, TopicSettings, is_compacted};
use crate::link::events::Event;
use crate::link::failover::standby::{guard, guarded_by_others};
use crate::link::failure::{Attempts, Failure};
use crate::link::genesis::of_lanes;
use crate::link::groups::Selected;
use crate::link::status::lock;
use crate::link::supervisor::{Link, Shared};

/// How soon clusters are asked again that did not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// How soon it is tried again to make topics that could not be made: an ACL that is granted should not have to wait for `topic_refresh`.
const MAKE_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Topics whose copies could not be made, or were not widened to the number of partitions of the source, and why.
type NotMade = Vec<(Chosen, Failure)>;

/// The topics of a cluster, with their numbers of partitions.
type Partitions = BTreeMap<Arc<str>, u32>;

/// What was asked of many topics, and why it is not known of some of them.
type Settings = (BTreeMap<Arc<str>, TopicSettings>, BTreeMap<Arc<str>, Failure>);

/// What a source says of the settings of topics, by its names.
struct SourceSettings {
    /// As far as a copy can have them.
    kept: BTreeMap<Arc<str>, TopicSettings>,
    /// Why it is not known of some of them.
    unknown: BTreeMap<Arc<str>, Failure>,
    /// The topics that are compacted and whose copies cannot be.
    not_compacted: Vec<Arc<str>>,
}

impl Shared {
    /// Find out which topics there are, make those that the target lacks, and let lanes know. What cannot be copied is a notice, whoever
    /// finds it: it keeps no other topic from being copied.
    pub(in crate::link) fn find_topics(&self) -> Result<Looked, Failure> {
        let mut names = lock(&self.topics.names);
        let read = self.topics.found();
        let copied = || copied(&self.config, &*self.target, read.topics.keys());
        let mut selection = select(&self.config, self.source.topics()?, &mut names, &read, copied)?;
        guard(&self.config, &*self.target, selection.chosen.iter().map(|chosen| chosen.topic.name.clone()))?;
        selection.leave_to(&self.config, &guarded_by_others(&*self.target, &self.config.id)?);
        let Selection { mut chosen, refused, left_out } = selection;
        let (not_made, has) = self.make(&chosen)?;
        let mut held: BTreeSet<Arc<str>> = left_out.iter().map(|notice| notice.topic.clone()).collect();
        chosen.retain_mut(|chosen| {
            if not_made.iter().all(|(failed, _)| failed != chosen) {
                return true;
            }
            let Some(has) = has.get(&chosen.target) else {
                held.insert(chosen.topic.name.clone());
                return false;
            };
            // The partitions that the target has are written to.
            chosen.topic.partitions = chosen.topic.partitions.min(*has);
            true
        });
        let topics = chosen.into_iter().map(|chosen| (chosen.topic.name.clone(), chosen)).collect();
        let found = self.topics.publish(Found { topics, held, refused, ..Found::default() });
        let not_made = not_made.into_iter().map(|(chosen, failure)| Notice::of(&chosen.target, failure));
        let not_made: Vec<Notice> = not_made.collect();
        let is_all_made = not_made.is_empty();
        self.topics.notices.replace(About::LeftOut, left_out, &self.events);
        self.topics.notices.replace(About::Targets, not_made, &self.events);
        Ok(Looked { found, is_all_made })
    }

    /// Make what is not there, all at once. Answers what could not be made, and the topics that the target had before.
    fn make(&self, chosen: &[Chosen]) -> Result<(NotMade, Partitions), Failure> {
        let mut survey = Survey { targets: targets(&*self.target)?, ..Survey::default() };
        if chosen.iter().any(|chosen| !survey.targets.contains_key(&chosen.target)) {
            // Somebody may just have created it: then its settings are not the link's to change.
            self.target.look(Duration::ZERO)?;
            survey.targets = targets(&*self.target)?;
        }
        let missing = chosen.iter().filter(|chosen| !survey.targets.contains_key(&chosen.target));
        let SourceSettings { kept, unknown, .. } = source_settings(&*self.source, &*self.target, missing)?;
        survey.source_settings = kept;
        let plans = plan(&self.config, chosen, &survey);
        let to_be_made = |plan: &TopicPlan| plan.to_be_made(&self.config.following);
        let made = chosen.iter().zip(&plans).filter_map(|(chosen, plan)| Some((chosen, to_be_made(plan)?)));
        // A copy without the settings of its source might be compacted, or lose records that the source keeps.
        let (mut not_made, mut to_make): (NotMade, Vec<_>) = (Vec::new(), Vec::new());
        for (chosen, made) in made {
            match unknown.get(&chosen.topic.name) {
                Some(failure) => not_made.push((chosen.clone(), failure.clone())),
                None => to_make.push((chosen, made)),
            }
        }
        let (chosen, made): (Vec<&Chosen>, Vec<Target>) = to_make.into_iter().unzip();
        if made.is_empty() {
            return Ok((not_made, survey.targets));
        }
        if self.config.following.settings {
            let new = chosen.iter().copied().filter(|chosen| !survey.targets.contains_key(&chosen.target));
            Owners::find(&self.config, &*self.source, &*self.target, new, |_| false, Claiming::Now)?;
        }
        let results = chosen.into_iter().zip(self.target.make_topics(&made)?);
        not_made.extend(results.filter_map(|(chosen, result)| Some((chosen.clone(), result.err()?.into()))));
        Ok((not_made, survey.targets))
    }
}

impl Link {
    /// Find new topics and keep their copies like them, until [`Link::dismiss`].
    pub fn follow(&self) {
        let refresh = self.config().following.refresh;
        let mut followed: Option<Instant> = None;
        let mut guarded: Option<u64> = None;
        let mut wait = AGAIN_AFTER.min(refresh);
        let mut attempts = Attempts::default();
        while self.topics.alarm.wait(wait) {
            if !self.leads() {
                followed = None;
                self.topics.notices.leave_to_others(FoundBy::Leader);
            }
            let Some(shared) = self.at_work() else {
                self.topics.notices.leave_to_others(FoundBy::Leader);
                self.topics.notices.leave_to_others(FoundBy::Lanes);
                // What stands by does so while nothing is copied, too.
                let version = self.source().topology_version();
                if guarded != Some(version) {
                    guarded = self.guard_source_topics().is_ok().then_some(version);
                }
                followed = None;
                wait = AGAIN_AFTER.min(refresh);
                continue;
            };
            let done = self.look_for_topics(&shared).and_then(|is_all_made| {
                if self.leads() && followed.is_none_or(|at| at.elapsed() >= refresh) {
                    followed = Some(Instant::now());
                    self.follow_topics(&shared)?;
                }
                Ok(is_all_made)
            });
            // A daemon that does not lead yet may do so soon.
            let next = followed.map_or(AGAIN_AFTER.min(refresh), |at| refresh.saturating_sub(at.elapsed()));
            let failure = match done {
                Ok(is_all_made) => {
                    attempts.begin_again();
                    wait = if is_all_made { next } else { next.min(MAKE_AGAIN_AFTER) };
                    continue;
                }
                Err(failure) => failure,
            };
            wait = attempts.failed(failure.class, Instant::now()).max(AGAIN_AFTER).min(refresh);
            if let Some(news) = self.repeats.news(format!("topics: {failure}"), Instant::now()) {
                let (code, repeated) = (failure.code, news.repeated);
                tracing::warn!(link = &*self.config().id, code, repeated, "topics are not followed now: {failure}");
            }
        }
    }

    /// Something has changed that decides which topics the link copies.
    pub fn look_for_topics_soon(&self) {
        self.topics.alarm.ring();
    }

    /// Find out which topics there are, and have lanes read them. Whether all copies are as they should be.
    fn look_for_topics(&self, shared: &Shared) -> Result<bool, Failure> {
        shared.source.look(self.config().following.refresh)?;
        let Looked { is_all_made, .. } = shared.find_topics()?;
        let missing = not_there(self.config(), |topic| lock(&self.topics.names).has(topic));
        self.topics.notices.missing(missing, &self.events);
        Ok(is_all_made)
    }

    /// Compare settings and ACLs of all topics with those of their copies, and change what differs. Work for the whole link: one daemon does it.
    pub(in crate::link) fn follow_topics(&self, shared: &Shared) -> Result<(), Failure> {
        let chosen: Vec<Chosen> = shared.topics.found().topics.values().cloned().collect();
        let following = &self.config().following;
        let mut survey = Survey { targets: targets(&*shared.target)?, ..Survey::default() };
        let mut unknown = BTreeMap::new();
        let mut not_compacted_here = Vec::new();
        if following.settings {
            let of_source = source_settings(&*shared.source, &*shared.target, chosen.iter())?;
            (survey.source_settings, unknown) = (of_source.kept, of_source.unknown);
            survey.source_knows = shared.source.settings_known();
            not_compacted_here = not_compacted(self.config(), &of_source.not_compacted);
            let (of_target, not_known) = target_settings(&*shared.target, &chosen)?;
            survey.target_settings = of_target;
            unknown.extend(not_known);
            let there = chosen.iter().filter(|chosen| survey.targets.contains_key(&chosen.target));
            let (source, target) = (&*shared.source, &*shared.target);
            survey.owners = Owners::find(self.config(), source, target, there, |_| true, Claiming::Now)?;
        }
        let mut without = None;
        if following.acls {
            (survey.acls, without) = acls(&*shared.source, &*shared.target)?;
        }
        let plans = plan(self.config(), &chosen, &survey);
        self.change_settings(&*shared.target, &plans, &survey.owners, unknown)?;
        self.topics.notices.replace(About::Compaction, not_compacted_here, &self.events);
        let notices = match self.add_acls(&*shared.target, &plans) {
            Ok(()) => without.into_iter().collect(),
            Err(failure) => vec![Notice::of(&"".into(), failure)],
        };
        self.topics.notices.replace(About::Acls, notices, &self.events);
        Ok(())
    }

    /// `unknown`: the topics whose settings could not be read.
    fn change_settings(
        &self,
        target: &dyn Cluster,
        plans: &[TopicPlan],
        owners: &Owners,
        unknown: BTreeMap<Arc<str>, Failure>,
    ) -> Result<(), Failure> {
        let changes: BTreeMap<_, _> =
            plans.iter().filter_map(|plan| Some((plan.target.clone(), plan.to_be_changed()?))).collect();
        let refused = if changes.is_empty() { BTreeMap::new() } else { target.change_settings(&changes)? };
        let mut changed = plans.iter().filter(|plan| changes.contains_key(&plan.target));
        changed.by_ref().filter(|plan| !refused.contains_key(&plan.target)).take(1).for_each(|plan| {
            let count = changes.len() - refused.len();
            let names: Vec<&str> = plan.settings.keys().map(String::as_str).collect();
            let message = format!("{count} topics, among them {}: {}", plan.target, names.join(", "));
            self.events.push(Event::new("topic-settings-changed", message));
        });
        let refused = refused.into_iter().map(|(topic, error)| Notice::of(&topic, error.into()));
        let unknown = unknown.into_iter().map(|(topic, failure)| Notice::of(&topic, failure));
        let notices = refused.chain(unknown).chain(settings_left(self.config(), plans, owners)).collect();
        self.topics.notices.replace(About::Settings, notices, &self.events);
        Ok(())
    }

    fn add_acls(&self, target: &dyn Cluster, plans: &[TopicPlan]) -> Result<(), Failure> {
        let acls: Vec<_> = plans.iter().flat_map(|plan| plan.acls.iter().cloned()).collect();
        if acls.is_empty() {
            return Ok(());
        }
        target.add_acls(&acls)?;
        self.events.push(Event::new("acls-added", format!("{} on topics of the target", acls.len())));
        Ok(())
    }

    /// What is odd about its topics now.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = self.topics.notices.all();
        notices.extend(self.lanes_differ());
        notices
    }

    /// What would be made or changed if the link ran now. Changes nothing.
    ///
    /// # Errors
    /// A cluster does not answer.
    pub fn plan(&self) -> Result<Plan, Failure> {
        let (config, source, target) = (self.config(), &**self.source(), &**self.target());
        source.look(Duration::ZERO)?;
        target.look(Duration::ZERO)?;
        let topics = source.topics()?;
        let there: BTreeSet<Arc<str>> = topics.iter().map(|topic| topic.name.clone()).collect();
        let read = self.topics.found();
        let copied = || copied(config, target, read.topics.keys());
        let mut selection = select(config, topics, &mut Names::default(), &read, copied)?;
        selection.leave_to(config, &guarded_by_others(target, &config.id)?);
        let Selection { chosen, refused, left_out: not_copied } = selection;
        let targets = targets(target)?;
        let is_there = |chosen: &Chosen| targets.contains_key(&chosen.target);
        let owners = Owners::find(config, source, target, chosen.iter(), is_there, Claiming::Later)?;
        let SourceSettings { kept: source_settings, mut unknown, not_compacted: uncompacted } =
            source_settings(source, target, chosen.iter())?;
        let source_knows = source.settings_known();
        let (target_settings, not_known) = target_settings(target, &chosen)?;
        unknown.extend(not_known);
        let mut survey = Survey { source_settings, source_knows, target_settings, owners, acls: None, targets };
        let mut notices: Vec<Notice> = refused.into_iter().map(|failure| Notice::of(&"".into(), failure)).collect();
        notices.extend(not_copied);
        notices.extend(unknown.into_iter().map(|(topic, failure)| Notice::of(&topic, failure)));
        if config.following.acls {
            let (acls, without) = acls(source, target)?;
            survey.acls = acls;
            notices.extend(without);
        }
        let deleted = self.deleted(&there)?;
        let missing = not_there(config, |topic| there.contains(topic)).into_iter();
        notices.extend(missing.filter(|notice| !deleted.iter().any(|known| known.topic == notice.topic)));
        notices.extend(deleted);
        notices.extend(left_out(config, source, &there)?);
        let groups = &config.groups.groups;
        let groups = match groups.is_empty() {
            true => Vec::new(),
            false => self.plan_groups(Selected { groups: Some(groups), ..Selected::default() })?,
        };
        let topics = plan(config, &chosen, &survey);
        notices.extend(settings_left(config, &topics, &survey.owners));
        notices.extend(not_compacted(config, &uncompacted));
        Ok(Plan { topics, groups, notices })
    }

    /// The topics that the link has read and that are not there any more.
    fn deleted(&self, there: &BTreeSet<Arc<str>>) -> Result<Vec<Notice>, Failure> {
        let read = with_checkpoints(self.config(), &**self.target())?;
        let gone = read.difference(there).filter(|topic| self.config().selects(topic));
        Ok(gone.map(source_deleted).collect())
    }
}

/// What people should know of settings that differ and stay so.
fn settings_left(config: &LinkConfig, plans: &[TopicPlan], owners: &Owners) -> Vec<Notice> {
    let left_in = plans.iter().filter(|plan| !plan.settings_left.is_empty());
    left_in.map(|plan| left(config, plan, owners.of(&plan.target))).collect()
}

/// What people should know of topics that are compacted and whose copies cannot be.
fn not_compacted(config: &LinkConfig, topics: &[Arc<str>]) -> Vec<Notice> {
    let notice = |topic: &Arc<str>| Notice {
        code: "topic-not-compacted",
        topic: topic.clone(),
        message: format!(
            "topic {topic} of {} is compacted, and {} compacts no topics: the copy keeps the earlier records of each key, too",
            config.source, config.target
        ),
        remedy: format!(
            "have enough disk space for it, or declare the copy under [clusters.{}.topics] with a retention of its own",
            config.target
        ),
    };
    topics.iter().map(notice).collect()
}

/// The topics that the link has copied before or copies now: `read`.
fn copied<'a>(
    config: &LinkConfig,
    target: &dyn Cluster,
    read: impl Iterator<Item = &'a Arc<str>>,
) -> Result<BTreeSet<Arc<str>>, Failure> {
    let mut copied = with_checkpoints(config, target)?;
    copied.extend(read.cloned());
    Ok(copied)
}

/// The topics of the source that the link has a checkpoint of.
fn with_checkpoints(config: &LinkConfig, target: &dyn Cluster) -> Result<BTreeSet<Arc<str>>, Failure> {
    let checkpoints = of_lanes(target, &config.id, |generation| Ok(target.checkpoints(&config.id, generation)?))?;
    Ok(checkpoints.into_keys().map(|partition| partition.topic).collect())
}

/// How many partitions the topics of a target have.
fn targets(target: &dyn Cluster) -> Result<Partitions, Failure> {
    Ok(target.topics()?.into_iter().map(|topic| (topic.name, topic.partitions)).collect())
}

fn source_settings<'a>(
    source: &dyn Cluster,
    target: &dyn Cluster,
    chosen: impl Iterator<Item = &'a Chosen>,
) -> Result<SourceSettings, Failure> {
    let names: Vec<Arc<str>> = chosen.map(|chosen| chosen.topic.name.clone()).collect();
    let (settings, unknown) = topic_settings(source, &names)?;
    let all = settings.into_iter().map(|(name, settings)| (name, (target.settings_kept(&settings), settings)));
    let all: BTreeMap<_, _> = all.collect();
    let is_lost = |(kept, settings): &(TopicSettings, TopicSettings)| is_compacted(settings) && !is_compacted(kept);
    let not_compacted = all.iter().filter(|(_, both)| is_lost(both)).map(|(name, _)| name.clone()).collect();
    let kept = all.into_iter().map(|(name, (kept, _))| (name, kept)).collect();
    Ok(SourceSettings { kept, unknown, not_compacted })
}

fn target_settings(target: &dyn Cluster, chosen: &[Chosen]) -> Result<Settings, Failure> {
    let names: Vec<Arc<str>> = chosen.iter().map(|chosen| chosen.target.clone()).collect();
    topic_settings(target, &names)
}

fn topic_settings(cluster: &dyn Cluster, names: &[Arc<str>]) -> Result<Settings, Failure> {
    let (mut settings, mut unknown) = Settings::default();
    for (name, found) in cluster.topic_settings(names)? {
        match found {
            Ok(found) => drop(settings.insert(name, found)),
            Err(error) => drop(unknown.insert(name, error.into())),
        }
    }
    Ok((settings, unknown))
}

type BothAcls = Option<(BTreeSet<Acl>, BTreeSet<Acl>)>;

/// The ACLs of both clusters; or which of them has none to compare.
fn acls(source: &dyn Cluster, target: &dyn Cluster) -> Result<(BothAcls, Option<Notice>), Failure> {
    let (of_source, of_target) = (source.topic_acls()?, target.topic_acls()?);
    let lacking = match (&of_source, &of_target) {
        (None, _) => "source",
        (_, None) => "target",
        _ => return Ok((of_source.zip(of_target), None)),
    };
    let failure = Failure::fatal(
        "no-authorizer",
        format!("the {lacking} cluster has no authorizer, so no ACLs are copied"),
        "set authorizer.class.name on its brokers, or remove sync_topic_acls",
    );
    Ok((None, Some(Notice::of(&"".into(), failure))))
}

/// The internal topics that an expression of the link matches.
fn left_out(config: &LinkConfig, source: &dyn Cluster, there: &BTreeSet<Arc<str>>) -> Result<Vec<Notice>, Failure> {
    let mut internal = source.internal_topics()?;
    internal.extend(there.iter().filter(|topic| is_internal(topic)).cloned());
    internal.retain(|topic| config.is_meant(topic) && !config.excludes(topic));
    let notice = |topic: Arc<str>| Notice {
        code: "internal-topic",
        message: format!("topic {topic} is internal and left out"),
        remedy: String::new(),
        topic,
    };
    Ok(internal.into_iter().map(notice).collect())
}

/// The topics that the link names and that are not there.
fn not_there(config: &LinkConfig, is_there: impl Fn(&Arc<str>) -> bool) -> Vec<Notice> {
    let missing = config.named_topics().filter(|name| !is_there(name));
    let notice = |topic: &Arc<str>| Notice {
        code: "source-topic-missing",
        message: format!("there is no topic {topic} at the source"),
        remedy: "make it, or mend the link's topics: it is replicated as soon as it is there".to_owned(),
        topic: topic.clone(),
    };
    missing.map(notice).collect()
}
