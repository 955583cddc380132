//! `link …`.

use clap::{Args, Subcommand};

use super::definitions::{CreateArgs, DeleteArgs, ThrottleArgs, UpdateArgs, WaitArgs};
use super::failover::{FailbackArgs, FailoverArgs, FailoversArgs};
use super::{LinkArgs, Remote, ResetArgs};
use crate::cli::events::EventsArgs;
use crate::cli::lanes::{RelaneArgs, UpgradeArgs};

/// `link …`.
#[derive(Debug, Subcommand)]
pub enum LinkCommand {
    /// Define a link. It outlives the daemon, and all daemons that keep their definitions on the same cluster run it. It waits to be started.
    ///
    /// It knows the keys that a link has in the configuration file. `source_cluster` and `target_cluster` name a cluster by `cluster_id`, or define a Kafka cluster with
    /// `brokers` beside it; a plugin of the pipeline is the digest that `plugin store` answers. Without an `id` the link gets one.
    #[command(after_help = "Examples:
  tidegate link create -f link.json
  tidegate link create -f link.json --start
  echo '{\"id\":\"dr\",\"source_cluster\":{\"cluster_id\":\"east\"},\"target_cluster\":{\"cluster_id\":\"dr\",\"brokers\":[\"dr:9092\"]},\"topics\":[\"orders\"]}' | tidegate link create -f -")]
    Create(CreateArgs),
    /// Change a link that was defined with `link create` and is paused or stopped. What the file does not name stays.
    #[command(after_help = "Examples:
  tidegate link update dr -f changes.json
  echo '{\"config\":{\"batch_size\":500,\"max_messages\":null}}' | tidegate link update dr -f - --if-version 3")]
    Update(UpdateArgs),
    /// Delete a link that was defined with `link create` and is stopped. Its checkpoints stay in the target: one of the same id and clusters goes on there.
    #[command(after_help = "Examples:\n  tidegate link delete dr")]
    Delete(DeleteArgs),
    /// The definition of a link, as `link create` takes it; with --json also its version, when and by whom it was changed.
    #[command(after_help = "Examples:\n  tidegate link definition dr > link.json")]
    Definition(LinkArgs),
    /// Have a link write no faster than so many bytes a second, from now on and after a restart, at all daemons that run it.
    #[command(after_help = "Examples:
  tidegate link throttle dr 10MiB
  tidegate link throttle dr none
  tidegate link throttle dr configured")]
    Throttle(ThrottleArgs),
    /// Wait until a link is as wished. Exit status: 0 it is, 3 it is not, because it took too long or the link has failed.
    #[command(after_help = "Examples:
  tidegate link wait dr --for active --timeout 30s
  tidegate link wait dr --for caught-up --timeout 1h && tidegate link stop dr")]
    Wait(WaitArgs),
    /// A line about each link.
    #[command(after_help = "Examples:\n  tidegate link list\n  tidegate link list --json")]
    List(Remote),
    /// State, lanes, checkpoints, lag, rates and the last error of a link; what each stage did, used and may use.
    #[command(after_help = "Examples:\n  tidegate link show orders\n  tidegate link show orders --json")]
    Show(LinkArgs),
    /// What happened to a link lately, oldest first: revisions, bad records, lanes that failed, and what the daemon did by itself.
    ///
    /// The daemon keeps the last 256 events, until it ends. Bad records of the same stage are one event, with a count; with --follow each time that there are more.
    #[command(after_help = "Examples:
  tidegate link events orders
  tidegate link events orders --follow --json | jq -c 'select(.kind == \"lane-failed\")'
  tidegate link events orders --json | jq 'map(select(.kind == \"record-not-handled\"))'")]
    Events(EventsArgs),
    /// How far a link has come in each source partition, as its target has it: what it would go on with after a crash.
    #[command(after_help = "Examples:\n  tidegate link checkpoints orders\n  tidegate link checkpoints orders --json")]
    Checkpoints(LinkArgs),
    /// Say where partitions go on, and start what has failed: after a loss, which a link never passes over by itself.
    ///
    /// It is written into the link's history, which `--list` prints. Earlier records come once more, later ones are left out.
    #[command(after_help = "Examples:
  tidegate link reset orders --topic payments --to earliest
  tidegate link reset orders --topic payments --partition 3 --to 1200045
  tidegate link reset orders --list")]
    Reset(ResetArgs),
    /// Have the target take the place of the source: wait for what the source still has, fence all lanes, move the consumer groups that go along.
    ///
    /// Write to the target only when it has answered. Whatever dies in between, it is taken up again; `link failovers` says how far it is.
    #[command(after_help = "Examples:
  tidegate link failover orders --dry-run
  tidegate link failover orders
  tidegate link failover orders --drain 2m")]
    Failover(FailoverArgs),
    /// Give the source its place back: copy what was written to the target since the failover, until nothing comes there any more, then let the link go on.
    ///
    /// It answers after 20 s at the latest, and goes on by itself. Records that the source had beside are not lost: they are replicated when the link runs again.
    #[command(after_help = "Examples:
  tidegate link failback orders --dry-run
  tidegate link failback orders
  tidegate link wait orders --for active --timeout 1h
  tidegate link failback orders --call-off")]
    Failback(FailbackArgs),
    /// The failovers and failbacks of a link, oldest first; or one of them, with all partitions.
    #[command(after_help = "Examples:
  tidegate link failovers orders
  tidegate link failovers orders failover-1
  tidegate link failovers orders --json | jq '.[] | select(.success == null)'")]
    Failovers(FailoversArgs),
    /// Change the number of lanes, exactly once, while the link runs or not. They are the most that daemons can share.
    ///
    /// The lanes stand still meanwhile: for some seconds, or longer if stages remember much. Whatever dies in between, it is taken up again. Until it is done, the
    /// present number calls it off. It answers after 20 s at the latest; `link show` says how far it is.
    #[command(after_help = "Examples:
  tidegate link relane orders 12
  tidegate link relane orders 12 --json | jq .done")]
    Relane(RelaneArgs),
    /// Raise the layout of a link to the newest one, when all daemons that run it know that: after an upgrade of all of them, not before.
    ///
    /// There is no way back: older daemons cannot run the link then.
    #[command(after_help = "Examples:
  tidegate link upgrade orders --dry-run
  tidegate link upgrade orders")]
    Upgrade(UpgradeArgs),
    /// What would be made or changed at the target if the link ran now: topics, partitions, settings, ACLs, consumer groups. Nothing is changed.
    ///
    /// It works for a link that is stopped or was never started, too. What a running link finds is done by itself, every `topic_refresh`.
    #[command(after_help = "Examples:
  tidegate link plan orders
  tidegate link plan orders --json | jq '.topics[] | select(.action != \"keep\")'")]
    Plan(LinkArgs),
    /// Start a link that is stopped, paused or failed.
    #[command(after_help = "Examples:\n  tidegate link start orders")]
    Start(SteerArgs),
    /// Finish the open batch, commit, and stop.
    ///
    /// Where the target does not answer, the lanes of this daemon stop all the same; the target is told when it answers.
    #[command(after_help = "Examples:\n  tidegate link stop orders\n  tidegate link stop orders --wait")]
    Stop(SteerArgs),
    /// Finish the open batch, commit, and wait with the lanes open.
    #[command(after_help = "Examples:\n  tidegate link pause orders")]
    Pause(SteerArgs),
    /// Go on after a pause.
    #[command(after_help = "Examples:\n  tidegate link resume orders")]
    Resume(SteerArgs),
}

/// Whether a command waits for an order that is kept.
#[derive(Args, Debug)]
pub struct Waiting {
    /// Wait until the order was carried out. Where a cluster does not answer, the daemon accepts an order and keeps it until it does.
    #[arg(long)]
    pub wait: bool,
}

/// `link start`, `stop`, `pause` and `resume`.
#[derive(Args, Debug)]
pub struct SteerArgs {
    /// The link.
    pub link: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}
