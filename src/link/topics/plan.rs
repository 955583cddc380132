//! What has to be made or changed in a target, so that its topics are like those of the source. Pure: clusters are asked elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Chosen;
use super::notices::Notice;
use super::owner::{Owner, Owners};
use crate::config::{Following, LinkConfig};
use crate::connector::{Acl, AclTopics, Operation, SettingChanges, Target, TopicSettings, differing};
use crate::link::groups::GroupPlan;

/// What would be made or changed for a link.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// Each topic that the link reads, by name, with what is to be done for it.
    pub topics: Vec<TopicPlan>,
    /// What is to be done for the consumer groups that go along.
    pub groups: Vec<GroupPlan>,
    /// What people should know before.
    pub notices: Vec<Notice>,
}

/// What is to be done for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// The topic of the source.
    pub source: Arc<str>,
    /// Its name in the target.
    pub target: Arc<str>,
    /// Whether it is there.
    pub action: Action,
    /// The settings that are set, changed or set back, by their names in Kafka.
    pub settings: BTreeMap<String, SettingChange>,
    /// The settings that differ from the source's and stay so, because another link or nobody keeps them.
    pub settings_left: BTreeSet<String>,
    /// The ACLs that are added.
    pub acls: Vec<Acl>,
}

/// What is to be done about the topic itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is made.
    Make {
        /// With so many partitions.
        partitions: u32,
    },
    /// It gets more partitions.
    AddPartitions {
        /// So many it has.
        from: u32,
        /// So many it gets.
        to: u32,
    },
    /// It is there.
    Keep {
        /// With so many partitions.
        partitions: u32,
    },
}

/// What becomes of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingChange {
    /// What it is; `None`: the cluster's default.
    pub from: Option<String>,
    /// What it will be; `None`: the cluster's default.
    pub to: Option<String>,
}

/// What is known of both clusters. What was not asked is empty, and nothing is planned about it.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    /// How many partitions the topics of the target have.
    pub(super) targets: BTreeMap<Arc<str>, u32>,
    /// The settings of topics of the source, as far as the target can have them, by the source's names.
    pub(super) source_settings: BTreeMap<Arc<str>, TopicSettings>,
    /// The settings that topics of the source have. What it says nothing of is the target's own.
    pub(super) source_knows: &'static [&'static str],
    /// The settings of topics of the target.
    pub(super) target_settings: BTreeMap<Arc<str>, TopicSettings>,
    /// Who keeps the settings of topics of the target.
    pub(super) owners: Owners,
    /// The ACLs of both, if both have some to compare.
    pub(super) acls: Option<(BTreeSet<Acl>, BTreeSet<Acl>)>,
}

impl TopicPlan {
    /// Whether there is nothing to do.
    pub fn is_done(&self) -> bool {
        matches!(self.action, Action::Keep { .. }) && self.settings.is_empty() && self.acls.is_empty()
    }

    /// The topic as it has to be made or widened, if it has to.
    pub(super) fn to_be_made(&self, following: &Following) -> Option<Target> {
        let (partitions, settings) = match self.action {
            Action::Make { partitions } => (partitions, self.values()),
            Action::AddPartitions { to, .. } => (to, TopicSettings::new()),
            Action::Keep { .. } => return None,
        };
        let replication_factor = following.replication_factor;
        Some(Target { topic: self.target.clone(), partitions, settings, replication_factor })
    }

    fn values(&self) -> TopicSettings {
        let values = self.settings.iter();
        values.filter_map(|(name, change)| Some((name.clone(), change.to.clone()?))).collect()
    }

    /// What has to be changed in the settings of a topic that is there.
    pub(super) fn to_be_changed(&self) -> Option<SettingChanges> {
        let changes: SettingChanges =
            self.settings.iter().map(|(name, change)| (name.clone(), change.to.clone())).collect();
        let there = !matches!(self.action, Action::Make { .. });
        Some(changes).filter(|changes| there && !changes.is_empty())
    }
}

/// What has to be done, topic by topic.
pub(super) fn plan(config: &LinkConfig, chosen: &[Chosen], survey: &Survey) -> Vec<TopicPlan> {
    let topic = |chosen: &Chosen| {
        let partitions = chosen.topic.partitions;
        let action = match survey.targets.get(&chosen.target) {
            None => Action::Make { partitions },
            Some(has) if *has < partitions => Action::AddPartitions { from: *has, to: partitions },
            Some(has) => Action::Keep { partitions: *has },
        };
        let differences = differences(config, chosen, action, survey);
        let is_left = !matches!(action, Action::Make { .. }) && *survey.owners.of(&chosen.target) != Owner::Us;
        let (settings, settings_left) =
            if is_left { (BTreeMap::new(), differences.into_keys().collect()) } else { (differences, BTreeSet::new()) };
        TopicPlan {
            source: chosen.topic.name.clone(),
            target: chosen.target.clone(),
            action,
            settings,
            settings_left,
            acls: acls(chosen, survey),
        }
    };
    chosen.iter().map(topic).collect()
}

/// The settings in which the copy of a topic differs from it, if the link is to keep them in step.
fn differences(
    config: &LinkConfig,
    chosen: &Chosen,
    action: Action,
    survey: &Survey,
) -> BTreeMap<String, SettingChange> {
    let nothing = TopicSettings::new();
    let Some(wanted) = survey.source_settings.get(&chosen.topic.name) else { return BTreeMap::new() };
    let has = match action {
        Action::Make { .. } => &nothing,
        _ if !config.following.settings || config.following.declared.contains(&chosen.target) => {
            return BTreeMap::new();
        }
        _ => match survey.target_settings.get(&chosen.target) {
            Some(has) => has,
            None => return BTreeMap::new(),
        },
    };
    let change = |name: &String| SettingChange { from: has.get(name).cloned(), to: wanted.get(name).cloned() };
    let names = differing(wanted, has, survey.source_knows).into_iter();
    names.map(|name| (name.clone(), change(name))).collect()
}

/// The ACLs of a topic's copy that are not there. Only the link writes to a copy: nobody is allowed to who may write to the source.
fn acls(chosen: &Chosen, survey: &Survey) -> Vec<Acl> {
    let Some((source, target)) = &survey.acls else { return Vec::new() };
    let concerned = source.iter().filter(|acl| acl.topics.include(&chosen.topic.name));
    let wanted: BTreeSet<Acl> = concerned.filter_map(|acl| copy(acl, &chosen.target)).collect();
    wanted.difference(target).cloned().collect()
}

fn copy(acl: &Acl, target: &Arc<str>) -> Option<Acl> {
    let operation = match (acl.allow, acl.operation) {
        (true, Operation::Write) => return None,
        (true, Operation::All) => Operation::Read,
        (_, operation) => operation,
    };
    Some(Acl { topics: AclTopics::Literal(target.clone()), operation, ..acl.clone() })
}
