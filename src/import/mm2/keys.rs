//! The properties of a file by whom they are for, and which of them were looked at: the rest is named in the end.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use crate::import::properties::Property;

/// Whom a property is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// `key`
    All,
    /// `alias.key`
    Cluster(String),
    /// `source->target.key`
    Flow(Flow),
}

/// From a cluster to another, by their aliases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) source: String,
    pub(super) target: String,
}

impl Flow {
    fn prefix(&self) -> String {
        format!("{}->{}.", self.source, self.target)
    }
}

/// All properties. Where a key occurs twice the last one counts.
pub(super) struct Keys {
    properties: BTreeMap<String, Property>,
    /// Earlier ones of keys that occur again.
    pub(super) overwritten: Vec<Property>,
    used: RefCell<BTreeSet<String>>,
}

impl Keys {
    pub(super) fn new(found: Vec<Property>) -> Self {
        let (mut properties, mut overwritten) = (BTreeMap::new(), Vec::new());
        for property in found {
            overwritten.extend(properties.insert(property.key.clone(), property));
        }
        Self { properties, overwritten, used: RefCell::default() }
    }

    /// A property by its whole key. It counts as used.
    pub(super) fn whole(&self, key: &str) -> Option<&Property> {
        let property = self.properties.get(key)?;
        self.used.borrow_mut().insert(key.to_owned());
        Some(property)
    }

    /// `alias.key`
    pub(super) fn of_cluster_alone(&self, alias: &str, key: &str) -> Option<&Property> {
        self.whole(&format!("{alias}.{key}"))
    }

    /// `alias.key`, and else `key`, as MirrorMaker 2 does it for what makes a connection.
    pub(super) fn of_cluster(&self, alias: &str, key: &str) -> Option<&Property> {
        let of_all = self.whole(key);
        self.of_cluster_alone(alias, key).or(of_all)
    }

    /// `source->target.key`
    pub(super) fn of_flow_alone(&self, flow: &Flow, key: &str) -> Option<&Property> {
        self.whole(&(flow.prefix() + key))
    }

    /// `source->target.key`, and else `key`, as MirrorMaker 2 does it for what its connectors are to do.
    pub(super) fn of_flow(&self, flow: &Flow, key: &str) -> Option<&Property> {
        let of_all = self.whole(key);
        self.of_flow_alone(flow, key).or(of_all)
    }

    /// What nobody has asked for, in the order of the file.
    pub(super) fn unused(&self) -> Vec<&Property> {
        let used = self.used.borrow();
        let mut unused: Vec<_> = self.properties.values().filter(|property| !used.contains(&property.key)).collect();
        unused.sort_by_key(|property| property.line);
        unused
    }
}

/// Whom a key is for, and what is left of it then. `None`: it names a cluster of a flow that is not there.
pub(super) fn scope<'k>(key: &'k str, aliases: &[String]) -> Option<(Scope, &'k str)> {
    for source in aliases {
        for target in aliases {
            let flow = Flow { source: source.clone(), target: target.clone() };
            if let Some(rest) = key.strip_prefix(&flow.prefix()) {
                return Some((Scope::Flow(flow), rest));
            }
        }
    }
    if key.contains("->") {
        return None;
    }
    // An alias may begin like another one.
    let of_cluster = aliases.iter().filter_map(|alias| Some((alias, key.strip_prefix(&**alias)?.strip_prefix('.')?)));
    let longest = of_cluster.max_by_key(|(alias, _)| alias.len());
    Some(longest.map_or((Scope::All, key), |(alias, rest)| (Scope::Cluster(alias.clone()), rest)))
}

/// A list as Kafka reads it: between commas, without white space.
pub(super) fn list(text: &str) -> Vec<&str> {
    let text = text.trim();
    if text.is_empty() { Vec::new() } else { text.split(',').map(str::trim).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_for_all_for_a_cluster_or_for_a_flow() {
        let aliases = ["us", "us.west", "eu"].map(str::to_owned);
        let of = |key| scope(key, &aliases).map(|(scope, rest)| (scope, rest.to_owned()));
        let flow = |source: &str, target: &str| Scope::Flow(Flow { source: source.into(), target: target.into() });
        assert_eq!(of("topics"), Some((Scope::All, "topics".into())));
        assert_eq!(of("us.x.y"), Some((Scope::Cluster("us".into()), "x.y".into())));
        assert_eq!(of("us.west.x"), Some((Scope::Cluster("us.west".into()), "x".into())));
        assert_eq!(of("use.defaults.from"), Some((Scope::All, "use.defaults.from".into())));
        assert_eq!(of("us.west->eu.topics"), Some((flow("us.west", "eu"), "topics".into())));
        assert_eq!(of("us->asia.topics"), None);
    }
}
