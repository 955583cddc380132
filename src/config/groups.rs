//! `groups` of a link: which consumer groups go along to the target.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::reader::{Item, Table};
use super::selectors::{Room, entries, room};
use super::topics::TopicPattern;
use super::words::words;
use crate::model::TopicPartition;

/// How often groups are moved when nobody says otherwise, in milliseconds.
const INTERVAL_MS: u64 = 60_000;

/// What that may be.
const INTERVALS_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;

/// The most bytes of a group's name. Kafka takes longer ones, and nobody has them.
const GROUP_NAME_BYTES_MAX: usize = 1_024;

/// What the names of our own groups begin with.
const OURS: &str = "tidegate.";

/// Which consumer groups go along to the target, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSync {
    /// The groups.
    pub groups: GroupSelection,
    /// How often.
    pub interval: Duration,
    /// Offsets of the target behind which no group goes on, whoever moves it: nobody has read what is there. Only failback links have any.
    pub unread: BTreeMap<TopicPartition, i64>,
}

/// Groups that are chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSelection {
    /// Those that one of these matches; none at all: none is chosen.
    pub included: Vec<GroupSelector>,
    /// But those that one of these matches.
    pub excluded: Vec<GroupSelector>,
}

impl GroupSelection {
    /// Whether no group is chosen, whatever it is called.
    pub fn is_empty(&self) -> bool {
        self.included.is_empty()
    }

    /// Whether a group is chosen.
    pub fn selects(&self, group: &str) -> bool {
        let is_among = |selectors: &[GroupSelector]| selectors.iter().any(|selector| selector.matches(group));
        is_among(&self.included) && !is_among(&self.excluded)
    }
}

/// A consumer group's name, or a regular expression between slashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupSelector {
    /// The group of this name.
    Name(Arc<str>),
    /// Every group whose whole name matches, but for Tidegate's own.
    Pattern(TopicPattern),
}

impl GroupSelector {
    /// A name, or an expression between slashes.
    ///
    /// # Errors
    /// What is wrong, on one line.
    pub fn parse(text: &str, room: Room) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return match text {
                "" => Err("a group's name is not empty".to_owned()),
                _ => words(text, GROUP_NAME_BYTES_MAX).map(|name| Self::Name(name.into())),
            };
        };
        TopicPattern::before_slash(rest, room).map(Self::Pattern)
    }

    /// Whether the group is meant. Tidegate's own never are.
    pub fn matches(&self, group: &str) -> bool {
        !is_own_group(group)
            && match self {
                Self::Name(name) => **name == *group,
                Self::Pattern(pattern) => pattern.matches(group),
            }
    }
}

/// Whether it is a group of Tidegate's daemons.
pub fn is_own_group(group: &str) -> bool {
    group.starts_with(OURS)
}

/// As it stands in the configuration.
impl fmt::Display for GroupSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

impl Default for GroupSync {
    fn default() -> Self {
        Self {
            groups: GroupSelection::default(),
            interval: Duration::from_millis(INTERVAL_MS),
            unread: BTreeMap::new(),
        }
    }
}

impl GroupSync {
    /// `both_kafka`: source and target; embedded clusters have no groups.
    pub(super) fn read(table: &mut Table<'_>, both_kafka: bool) -> Self {
        let interval = Duration::from_millis(table.duration_ms("group_sync_interval", INTERVAL_MS, INTERVALS_MS));
        let lists = ["groups", "groups_exclude"].map(|key| table.item(key));
        if let Some(item) = lists.iter().flatten().next().filter(|_| !both_kafka) {
            let what = "this changes nothing: only Kafka clusters have consumer groups";
            item.report.warning(&item.place, what, "remove it");
        }
        let [included, excluded] = lists.map(|item| item.map_or_else(Vec::new, |item| selectors(&item)));
        let groups = if both_kafka { GroupSelection { included, excluded } } else { GroupSelection::default() };
        Self { groups, interval, ..Self::default() }
    }
}

fn selectors(item: &Item<'_>) -> Vec<GroupSelector> {
    let items = entries(item, "an array of strings");
    let room = room(&items);
    items.iter().filter_map(|item| selector(item, room)).collect()
}

fn selector(item: &Item<'_>, room: Room) -> Option<GroupSelector> {
    let text = item.text()?;
    item.parsed(GroupSelector::parse(text, room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_selected_by_name_or_expression_and_ours_never() {
        for (text, group, matches) in [
            ("billing", "billing", true),
            ("billing", "billing-2", false),
            ("/billing.*/", "billing-2", true),
            ("/illing/", "billing", false),
            ("/.*/", "tidegate.orders", false),
            ("tidegate.orders", "tidegate.orders", false),
            ("Ärger & Co", "Ärger & Co", true),
        ] {
            let selector = GroupSelector::parse(text, Room::ALONE).expect("a selector");
            assert_eq!((selector.matches(group), selector.to_string()), (matches, text.to_owned()), "{text} {group}");
        }
        let all = |texts: &[&str]| {
            texts.iter().map(|text| GroupSelector::parse(text, Room::ALONE).expect("a selector")).collect()
        };
        let selection = GroupSelection { included: all(&["/a.*/", "b"]), excluded: all(&["ab", "/tidegate.*/"]) };
        let chosen = ["a", "ab", "b", "c", "tidegate.a"].map(|group| selection.selects(group));
        assert_eq!(chosen, [true, false, true, false, false]);
        assert!(!GroupSelection { included: Vec::new(), ..selection }.selects("a"), "none is chosen");
        assert!(["", "/", "//", "/a(/"].iter().all(|text| GroupSelector::parse(text, Room::ALONE).is_err()));
    }
}
