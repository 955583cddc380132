//! `[links.ID.breaker]`: when so many records are bad that the link must not go on.

use super::reader::Table;

/// When a lane's breaker opens.
///
/// In each lane and stage, records are counted in windows. As soon as more than a share of a window was rejected, or trapped on,
/// the breaker opens. A share of 100 is never exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakerConfig {
    /// The records of a window, as the stage read them.
    pub window_records: u64,
    /// The share of rejected records that a window may have, in percent.
    pub rejected_percent: u32,
    /// The share of records that the plugin trapped on that a window may have, in percent.
    pub trapped_percent: u32,
    /// What happens when it opens.
    pub then: BreakerAction,
}

/// What an open breaker does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BreakerAction {
    /// The link is paused until a person resumes it.
    #[default]
    Pause,
    /// The revision before the present one comes back.
    Rollback,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { window_records: 10_000, rejected_percent: 50, trapped_percent: 5, then: BreakerAction::default() }
    }
}

impl BreakerConfig {
    pub(super) fn read(mut table: Table<'_>) -> Self {
        let default = Self::default();
        let actions = [("pause", BreakerAction::Pause), ("rollback", BreakerAction::Rollback)];
        let breaker = Self {
            // In a shorter window a single bad record is a large share.
            window_records: table.integer("window_records", default.window_records, 100..=10_000_000),
            rejected_percent: table.percent("rejected_percent", default.rejected_percent),
            trapped_percent: table.percent("trapped_percent", default.trapped_percent),
            then: table.item("then").and_then(|item| item.choice(&actions)).unwrap_or_default(),
        };
        table.finish();
        breaker
    }
}
