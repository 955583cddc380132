//! `link failover`, `link failback`, `link failovers`.

use clap::Args;

use super::{Remote, Waiting};

/// `link failover`.
#[derive(Debug, Args)]
pub struct FailoverArgs {
    /// The link.
    pub link: String,
    /// Say what would be done, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Wait at most so long for what the source still has, instead of as long as it is configured.
    #[arg(long, value_name = "DURATION")]
    pub drain: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    /// The daemon.
    #[command(flatten)]
    pub remote: Remote,
}

/// `link failback`.
#[derive(Debug, Args)]
pub struct FailbackArgs {
    /// The link.
    pub link: String,
    /// Say what would be done, and change nothing.
    #[arg(long, conflicts_with = "call_off")]
    pub dry_run: bool,
    /// Leave the target in the source's place after all, while a failback is under way.
    #[arg(long)]
    pub call_off: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    /// The daemon.
    #[command(flatten)]
    pub remote: Remote,
}

/// `link failovers`.
#[derive(Debug, Args)]
pub struct FailoversArgs {
    /// The link.
    pub link: String,
    /// One of them, with all partitions.
    pub event: Option<String>,
    /// The daemon.
    #[command(flatten)]
    pub remote: Remote,
}
