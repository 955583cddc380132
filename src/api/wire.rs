//! The shapes that cross the wire, in both directions. The daemon writes them, the command line reads them.
//!
//! Times are RFC 3339 in UTC ([`Time`]), durations and sizes carry their unit in the name. What is not known is null.

mod daemon;
mod definition;
mod failover;
mod group;
mod import;
mod lanes;
pub(crate) mod letter;
mod link;
mod plan;
mod problem;
mod record;
mod reset;
mod revision;
mod time;
mod topic;
mod verification;

pub use daemon::{ClusterStatus, Inspection, LinkSummary, Probe, Reloaded, Status};
pub use definition::{ClusterPlace, DefinedLink, LinkDefinition, ManagedBy, Throttle, ThrottleRequest, Transfer};
pub use failover::{
    FailoverDetails, FailoverEvent, FailoverPartition, FailoverPhase, FailoverPlan, FailoverReason, FailoverTarget,
    FailoverType,
};
pub use group::{ConsumerGroup, GroupCertainty, GroupFate, GroupPartition, GroupPlace, GroupRound, GroupsRequest};
pub use import::{Import, ImportFinding};
pub use lanes::{KnownLayout, RelaneProgress, RelaneRequest, Relaned, Upgrade};
pub use letter::{Letter, LetterReason};
pub use link::{
    CallTimes, Checkpoint, Event, HealthStatus, HealthSummary, Lane, LanePartition, LaneState, Latency, Link,
    LinkCounters, LinkHealth, LinkMetrics, LinkStatus, LinkTransition, Lost, MetricsSummary, PartitionMetrics,
    PendingOrder, Place, Stage, Trouble,
};
pub use plan::{Notice, Plan, PlannedAcl, PlannedAction, PlannedSetting, PlannedTopic};
pub use problem::{CODES, Fault, Problem};
pub(in crate::api) use record::NewRecord;
pub use record::{Header, Record, RecordView, Records};
pub use reset::{MovedPartition, Reset, ResetEnd, ResetPlace, ResetRequest};
pub use revision::{
    FirstOffset, Revision, RevisionBuiltins, RevisionOrigin, RevisionStage, RevisionState, RollbackRequest,
    StageRevision, Swap,
};
pub use time::Time;
pub use topic::{Appended, CreateTopic, PartitionStatus, ProduceAnswer, ReadFrom, Retention, Topic, TopicSummary};
pub use verification::{
    Difference, NotCovered, SourceCovered, TargetCovered, TargetPlace, Verdict, Verification, VerificationProgress,
    VerificationReport, VerificationState,
};

/// Write and read an enum as the one word that serde has for it, also in texts, tables and paths.
macro_rules! word {
    ($type:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word on the wire.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}
use word;
