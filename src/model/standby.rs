//! Whether topics stand by for others.

use std::collections::BTreeMap;
use std::sync::Arc;

/// The topics of a link that stand by, by name, each with the source topic that it is a copy of.
pub type StandbyTopics = BTreeMap<Arc<str>, Arc<str>>;

/// What a link's topics in its target are, if they are to take the place of the source's one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standby {
    /// They stand by: only the link writes to them.
    Guarded,
    /// They have the place of the source's: anybody writes to them.
    Promoted,
}

impl Standby {
    /// As it is stored.
    pub fn number(self) -> u8 {
        match self {
            Self::Guarded => 1,
            Self::Promoted => 2,
        }
    }
}
