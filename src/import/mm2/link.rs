//! A flow that is enabled becomes a link.

use super::consumers::{groups, heartbeats};
use super::keys::{Flow, Keys, Scope};
use super::notes::Notes;
use super::text::{Entry, Line, list, quoted, seconds};
use super::topics::{EXCLUDED_BY_DEFAULT, Naming, left_out, names_internal, selectors};
use crate::config::{TopicSelector, check_topic_name};
use crate::import::properties::Property;
use crate::import::{ImportError, What};

/// The most lanes of a link.
const LANES_MAX: u64 = 1024;

/// The longest that topics may be looked for, in seconds.
const REFRESH_MAX: u64 = 86_400;

/// How many replicas MirrorMaker 2 gives its topics where nobody says otherwise.
const REPLICAS: &str = "2";

/// A flow that is read.
pub(super) struct Reader<'a> {
    pub(super) flow: &'a Flow,
    /// The ids of the clusters.
    pub(super) source: &'a str,
    pub(super) target: &'a str,
    pub(super) keys: &'a Keys,
    pub(super) notes: &'a Notes,
    /// Whether what it copies could come back by way of other flows.
    pub(super) comes_back: bool,
}

impl Reader<'_> {
    /// The table of the link.
    ///
    /// # Errors
    /// Nothing is left that it could read.
    pub(super) fn read(&self) -> Result<Vec<Line>, ImportError> {
        let Flow { source, target } = self.flow;
        let naming = self.naming();
        let mut lines = vec![
            Line::Key("name", quoted(&format!("{source}->{target}"))),
            Line::Key("source", quoted(self.source)),
            Line::Key("target", quoted(self.target)),
        ];
        lines.extend(self.topics(&naming)?);
        lines.extend(self.names(&naming));
        lines.extend(self.following());
        lines.extend(groups(self.flow, self.keys, self.notes));
        lines.extend(heartbeats(self.flow, self.keys, self.notes));
        if self.comes_back && !naming.prefixes {
            self.notes.hold(&self.scope());
            let why = "topics keep their names on the way there and back: with MirrorMaker 2 records go round for ever; here they have marks, and a link leaves out what has come from its target";
            lines.push(Line::Comment(why.to_owned()));
            lines.push(Line::Key("provenance", "true".to_owned()));
        }
        lines.extend(self.lanes());
        lines.push(Line::Comment(
            "MirrorMaker 2 has to be stopped before the link is started: it counts what it has written down by then"
                .to_owned(),
        ));
        lines.push(Line::Key("start", self.start()));
        Ok(lines)
    }

    fn get(&self, key: &str) -> Option<&Property> {
        self.keys.of_flow(self.flow, key)
    }

    fn scope(&self) -> Scope {
        Scope::Flow(self.flow.clone())
    }

    fn about(&self, property: &Property, what: What, why: &str, remedy: &str) {
        self.notes.about(&self.scope(), property, what, why, remedy);
    }

    /// It may copy the wrong thing: a person has to look.
    fn hold(&self, property: &Property, why: &str, remedy: &str) {
        self.about(property, What::NotCarriedOver, why, &format!("{remedy}, then set autostart = true"));
        self.notes.hold(&self.scope());
    }

    fn flag(&self, key: &str, default: bool) -> bool {
        let Some(property) = self.get(key) else { return default };
        match &*property.value.to_ascii_lowercase() {
            "true" => true,
            "false" => false,
            _ => {
                self.about(property, What::NotCarriedOver, "it is neither true nor false", "");
                default
            }
        }
    }

    fn naming(&self) -> Naming {
        let class = self.get("replication.policy.class");
        let separator = self.get("replication.policy.separator").map_or(".", |separator| &separator.value).to_owned();
        let own = "replication.policy.internal.topic.separator.enabled";
        let internal_separator = if self.flag(own, true) { separator.clone() } else { ".".to_owned() };
        let name = class.map_or("", |class| class.value.rsplit('.').next().unwrap_or_default());
        match (class, name) {
            (None, _) | (_, "DefaultReplicationPolicy" | "IdentityReplicationPolicy") => {}
            (Some(class), _) => {
                let why = "a class of its own names the topics of the target, and nobody can tell how: here they keep their names";
                self.hold(class, why, "write rename or topic_prefix of the link");
            }
        }
        let prefixes = matches!(name, "" | "DefaultReplicationPolicy");
        Naming { prefixes, separator, internal_separator }
    }

    fn topics(&self, naming: &Naming) -> Result<Vec<Line>, ImportError> {
        let excluded = self.excluded(naming);
        let is_excluded = |name: &str| {
            let mut selectors = excluded.iter().filter_map(|entry| TopicSelector::parse(&entry.text).ok());
            selectors.any(|selector| selector.would_match(name))
        };
        let property = self.get("topics");
        let (mut topics, bad) = selectors(property.map_or(".*", |property| &property.value));
        if let Some(property) = property {
            for expression in bad {
                let why = format!("{expression} cannot be said in our expressions, which look neither ahead nor back");
                self.hold(property, &why, "write topics and topics_exclude of the link so that they mean the same");
            }
            topics.retain(|topic| {
                let is_left_out = names_internal(topic) || !topic.starts_with('/') && is_excluded(topic);
                if is_left_out {
                    let why = format!("{topic} is named, and left out by MirrorMaker 2 and by a link");
                    self.about(property, What::NotCarriedOver, &why, "");
                }
                !is_left_out
            });
        }
        if topics.is_empty() {
            let Flow { source, target } = self.flow;
            let place = property.map_or_else(String::new, |property| format!("line {}: ", property.line));
            let message = format!("{place}{source}->{target} has no topics that a link could read");
            return Err(ImportError::new(message, "write other topics, or set enabled of the flow to false"));
        }
        let topics: Vec<Entry> = topics.into_iter().map(Entry::new).collect();
        Ok(vec![Line::Key("topics", list(&topics)), Line::Key("topics_exclude", list(&excluded))])
    }

    fn excluded(&self, naming: &Naming) -> Vec<Entry> {
        let old = self.get("topics.blacklist");
        let property = self.get("topics.exclude").or(old);
        if let Some(old) = old {
            self.about(old, What::Differs, "since Kafka 4.0 it is called topics.exclude, and was taken for that", "");
        }
        let (good, bad) = selectors(property.map_or(EXCLUDED_BY_DEFAULT, |property| &property.value));
        if let Some(property) = property {
            for expression in bad {
                let why = format!("{expression} cannot be said in our expressions, which look neither ahead nor back");
                self.hold(property, &why, "write topics_exclude of the link so that it means the same");
            }
        }
        let mut entries: Vec<Entry> = good.into_iter().map(Entry::new).collect();
        for entry in left_out(self.flow, naming) {
            if !entries.iter().any(|other| other.text == entry.text) {
                entries.push(entry);
            }
        }
        entries
    }

    fn names(&self, naming: &Naming) -> Option<Line> {
        let source = &self.flow.source;
        if naming.prefixes {
            return Some(Line::Key("topic_prefix", quoted(&format!("{source}{}", naming.separator))));
        }
        // The one kind of topic that gets a prefix all the same, if there can be such a topic.
        let prefix = format!("{source}{}", naming.separator);
        let to = check_topic_name(&prefix).ok().map(|()| format!("{prefix}$0"))?;
        Some(Line::Key("rename", format!("[{{ match = \".*heartbeats\", to = {} }}]", quoted(&to))))
    }

    fn following(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        if let Some(refresh) = self.get("refresh.topics.interval.seconds") {
            match seconds(&refresh.value, REFRESH_MAX) {
                Some(seconds) => lines.push(Line::Key("topic_refresh", seconds)),
                None => self.about(
                    refresh,
                    What::NotCarriedOver,
                    "topics are looked for every second at most, and every day at least",
                    "set topic_refresh of the link",
                ),
            }
        }
        if let Some(enabled) = self.get("refresh.topics.enabled").filter(|_| !self.flag("refresh.topics.enabled", true))
        {
            self.about(
                enabled,
                What::Differs,
                "a link always finds new topics and partitions",
                "name the topics one by one if it must not",
            );
        }
        lines.push(Line::Key("sync_topic_configs", self.flag("sync.topic.configs.enabled", true).to_string()));
        lines.push(Line::Key("sync_topic_acls", self.flag("sync.topic.acls.enabled", true).to_string()));
        let replicas = self.get("replication.factor");
        let number = replicas.map_or(REPLICAS, |replicas| &replicas.value);
        match (number.parse::<i16>(), replicas) {
            (Ok(1..), _) => lines.push(Line::Key("replication_factor", number.to_owned())),
            // The brokers' own.
            (Ok(-1), _) | (_, None) => {}
            (_, Some(replicas)) => {
                self.about(
                    replicas,
                    What::NotCarriedOver,
                    "it is no number of replicas",
                    "set replication_factor of the link",
                );
            }
        }
        lines
    }

    fn lanes(&self) -> Option<Line> {
        let tasks = self.get("tasks.max")?;
        let number = tasks.value.parse::<u64>().ok().filter(|number| *number > 0);
        let lanes = number.unwrap_or(1).min(LANES_MAX);
        if number != Some(lanes) {
            self.about(tasks, What::Differs, &format!("a link has 1 to {LANES_MAX} lanes"), "");
        }
        Some(Line::Key("lanes", lanes.to_string()))
    }

    /// Where the workers of this flow have written down how far they have come.
    fn start(&self) -> String {
        let Flow { source, target } = self.flow;
        let of_connector = self.keys.of_flow_alone(self.flow, "offsets.storage.topic");
        let of_worker = self.keys.of_cluster_alone(target, "offset.storage.topic");
        // For a worker, what is said for all goes before what is said for its cluster.
        let of_worker = self.keys.whole("offset.storage.topic").or(of_worker);
        let topic = of_connector.or(of_worker).map(|topic| topic.value.clone());
        let topic = topic.unwrap_or_else(|| format!("mm2-offsets.{source}.internal"));
        format!("{{ mirrormaker = {}, source = {} }}", quoted(&topic), quoted(source))
    }
}
