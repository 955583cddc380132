//! Who may do what with a topic, in Kafka's words.

use std::fmt;
use std::sync::Arc;

/// What is allowed or denied. The number is that of Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "Kafka's words")]
pub enum Operation {
    All = 2,
    Read = 3,
    Write = 4,
    Create = 5,
    Delete = 6,
    Alter = 7,
    Describe = 8,
    ClusterAction = 9,
    DescribeConfigs = 10,
    AlterConfigs = 11,
    IdempotentWrite = 12,
}

impl Operation {
    const EVERY: [Self; 11] = [
        Self::All,
        Self::Read,
        Self::Write,
        Self::Create,
        Self::Delete,
        Self::Alter,
        Self::Describe,
        Self::ClusterAction,
        Self::DescribeConfigs,
        Self::AlterConfigs,
        Self::IdempotentWrite,
    ];

    /// The one with this number; `None`: a newer Kafka has more.
    pub(super) fn of_code(code: i8) -> Option<Self> {
        Self::EVERY.into_iter().find(|operation| *operation as i8 == code)
    }
}

/// Which topics an ACL is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AclTopics {
    /// The topic of this name.
    Literal(Arc<str>),
    /// All whose names begin so.
    Prefixed(Arc<str>),
    /// All.
    Every,
}

impl AclTopics {
    /// Whether a topic is one of them.
    pub fn include(&self, topic: &str) -> bool {
        match self {
            Self::Literal(name) => **name == *topic,
            Self::Prefixed(prefix) => topic.starts_with(&**prefix),
            Self::Every => true,
        }
    }
}

/// A rule of an authorizer about topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Acl {
    /// Which.
    pub topics: AclTopics,
    /// Who, for example `User:alice`.
    pub principal: Arc<str>,
    /// From where; `*` is anywhere.
    pub host: Arc<str>,
    /// What.
    pub operation: Operation,
    /// Whether it is allowed or denied.
    pub allow: bool,
}

/// As it is told to people, without the topic.
impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, host, operation, allow, .. } = self;
        let what = if *allow { "allow" } else { "deny" };
        write!(f, "{what} {operation:?} to {principal} from {host}")
    }
}
