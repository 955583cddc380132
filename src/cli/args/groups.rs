//! `groups …`.

use clap::{Args, Subcommand};

use super::{LinkArgs, Remote};

/// `groups …`.
#[derive(Debug, Subcommand)]
pub enum GroupsCommand {
    /// The consumer groups of the source that have committed offsets of the link's topics, and how they are at the target.
    #[command(after_help = "Examples:
  tidegate groups list orders
  tidegate groups list orders --json | jq '.[] | select(.fate == \"move\") | .group'")]
    List(LinkArgs),
    /// Where in the target groups would go on, partition by partition. Nothing is changed.
    ///
    /// `exact`: a group misses nothing and reads nothing again. `shared`: several source partitions go to this one, so some records may be read again. `ahead`: the group is
    /// ahead of the link, and reads again what is copied later. `nearest`: it was too long ago to know exactly, so it goes on at the nearest earlier place that was noted.
    /// `uncommitted`: it has no offset in a source partition that goes here. `forgotten`: no earlier place was noted, so it reads all that is there.
    #[command(after_help = "Examples:
  tidegate groups translate orders
  tidegate groups translate orders billing '/audit-.*/'")]
    Translate(GroupsArgs),
    /// Move groups to where they are at the source, now. A group with members at the target is left alone, and none is moved back unless --rewind says so.
    ///
    /// Exit status: 0 all are where they should be, 1 some could not be moved.
    #[command(after_help = "Examples:
  tidegate groups sync orders                   those that the link's `groups` name
  tidegate groups sync orders billing
  tidegate groups sync orders '/.*/' --rewind")]
    Sync(SyncArgs),
}

/// Groups of a link.
#[derive(Args, Debug)]
pub struct GroupsArgs {
    /// The link.
    pub link: String,
    /// Names of groups, or regular expressions between slashes.
    #[arg(value_name = "GROUP")]
    pub groups: Vec<String>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `groups sync`.
#[derive(Args, Debug)]
pub struct SyncArgs {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub groups: GroupsArgs,
    /// Move groups back, too: they read again what lies between.
    #[arg(long)]
    pub rewind: bool,
}
