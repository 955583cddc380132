//! What is known of a target partition before it is read.

use super::print::Line;

/// Who else writes to the target partition, as far as the target tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Others {
    /// Nobody.
    #[default]
    Nobody,
    /// Those whose records say so: such a record is none of the link's.
    Named,
    /// As `Named`, but some records of the link look like those of others, which they only are if
    /// no source record becomes them.
    MaybeNamed,
    /// Another link, whose records look like those of this one.
    Unnamed,
    /// Those whose records say so, and another link whose records look like those of this one.
    NamedAndUnnamed,
}

impl Others {
    /// Whether a record that says that it is of others is none of the link's.
    pub(super) fn has(self, line: &Line) -> bool {
        line.is_foreign && matches!(self, Self::Named | Self::NamedAndUnnamed)
    }

    /// Whether a record that fits nowhere is taken for one of others.
    pub(super) fn may_have(self, line: &Line) -> bool {
        match self {
            Self::Nobody => false,
            Self::Named | Self::MaybeNamed => line.is_foreign,
            Self::Unnamed | Self::NamedAndUnnamed => true,
        }
    }
}

/// Records of the target that were not compared: how many, and the first and last offset.
pub(super) type Passed = Option<(u64, i64, i64)>;

/// What is known of the target partition before it is read.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Terms {
    /// The first records are gone from the target.
    pub(super) head_lost: bool,
    /// Compaction may have taken any record from the target.
    pub(super) porous: bool,
    /// Every record below this offset stands for something below the checkpoints. From here on it
    /// may not.
    pub(super) floor_end: i64,
    /// What was there when the verification began is below this offset, and accounted for. It is
    /// not below `floor_end`.
    pub(super) scope_end: i64,
    /// Source partitions without a checkpoint may have records here.
    pub(super) has_unread: bool,
    /// Whose records that no source record becomes may be.
    pub(super) others: Others,
    /// Whether a record may not be there twice.
    pub(super) exactly_once: bool,
}
