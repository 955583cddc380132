//! The built-ins of a link: a filter and a transform that its configuration says itself, without a plugin, and where records come from.
//!
//! These are plain values, in the shape of the configuration: as such they are part of a revision, and stored. What is not known is refused,
//! because to read a filter without a part of it would let records pass.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What happens to records before the first stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builtins {
    /// Which records go on; `None`: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSpec>,
    /// What happens to their headers; `None`: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformSpec>,
    /// What becomes of records that have come from the target; `None`: nobody looks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provenance: Option<Provenance>,
}

/// The headers that name the clusters that a record has come through: the first one is where it was written.
pub const VIA_HEADER: &str = "tidegate.via";

/// The headers that name the failovers whose failbacks have brought a record to where it is.
pub const RETURNED_HEADER: &str = "tidegate.returned";

/// The prefix of header names that only Tidegate writes: a record could otherwise claim to come
/// from a cluster that it never was in, or to be a dead letter.
pub const RESERVED_PREFIX: &str = "tidegate.";

/// The headers that say why a record is a dead letter.
pub const LETTER_PREFIX: &str = "tidegate.dlq.";

/// Whether only Tidegate writes headers of this name.
pub fn is_reserved_header(name: &[u8]) -> bool {
    name.starts_with(RESERVED_PREFIX.as_bytes())
}

/// How a link between clusters that both are written to keeps records from going in a circle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Records that have come through this cluster are left out: they are there.
    pub leave_out: String,
    /// The others have come through this one, from now on; `None`: nothing is said of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// For a failback link, its failover: records say from now on that this has brought them back, and those that say so already are left out; `None`:
    /// it is no failback link, or that of a failover that an older tidegate began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<String>,
}

impl Builtins {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.filter.is_none() && self.transform.is_none() && self.provenance.is_none()
    }
}

/// Which records go on: those for which everything holds that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FilterSpec {
    /// Regular expressions, one of which matches in key or value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub include_patterns: Vec<String>,
    /// Regular expressions, none of which matches in key or value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exclude_patterns: Vec<String>,
    /// The last header of each name has this value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub filter_by_header: BTreeMap<String, String>,
    /// The timestamp is this or later, in milliseconds since 1970-01-01 UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_timestamp: Option<i64>,
    /// The key begins with one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_prefix: Vec<String>,
    /// This holds.
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    pub condition: Option<Condition>,
}

/// Something about a record that holds or does not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Condition {
    /// All of them hold.
    And {
        /// At least one.
        and: Vec<Condition>,
    },
    /// One of them holds.
    Or {
        /// At least one.
        or: Vec<Condition>,
    },
    /// It does not hold.
    Not {
        /// What.
        not: Box<Condition>,
    },
    /// The key begins with one of them.
    KeyPrefix {
        /// At least one.
        key_prefix: Vec<String>,
    },
    /// There is a header of this name.
    Header {
        /// Its name.
        header: String,
        /// The value that the last one has; `None`: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        equals: Option<String>,
    },
}

/// What happens to the headers of records, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransformSpec {
    /// The names of headers that are taken out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_headers: Vec<String>,
    /// By the name of headers, the values that become others: `old -> new`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header_transforms: BTreeMap<String, Vec<String>>,
    /// Headers that are put behind the others, by name, with values in which variables may stand.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add_headers: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_known_is_not_read_over() {
        for (value, is_known) in [
            (json!({"header": "a", "equals": "b"}), true),
            (json!({"header": "a"}), true),
            (json!({"header": "a", "begins": "b"}), false),
            (json!({"and": [{"key_prefix": ["a"]}], "header": "a"}), false),
            (json!({"not": {"or": [{"header": "a"}]}}), true),
            (json!({"nor": []}), false),
        ] {
            let read = serde_json::from_value::<Condition>(value.clone());
            assert_eq!(read.is_ok(), is_known, "{value}");
            assert!(read.is_err() || serde_json::to_value(read.expect("read")).expect("written") == value, "{value}");
        }
        assert!(serde_json::from_value::<FilterSpec>(json!({"max_timestamp": 1})).is_err());
        assert!(serde_json::from_value::<TransformSpec>(json!({"set_key": "k"})).is_err());
    }
}
