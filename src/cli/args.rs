//! Every command and flag.

pub mod address;
pub mod definitions;
pub mod failover;
pub mod groups;
pub mod import;
pub mod link;
pub mod manual;
pub mod run;
pub mod token;
pub mod top;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use self::address::Address;
use self::definitions::StoreArgs;
use self::groups::GroupsCommand;
use self::import::ImportCommand;
use self::link::LinkCommand;
pub use self::link::{SteerArgs, Waiting};
use self::manual::{CompletionsArgs, ManArgs};
use self::run::RunArgs;
use self::token::TokenCommand;
use self::top::TopArgs;

use crate::api::wire::{ReadFrom, ResetEnd, ResetPlace};
use crate::model::Json;

/// Replicate streams of records between clusters, exactly once, with WebAssembly plugins in the middle.
#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    after_help = "Examples:
  tidegate run --config tidegate.toml    the daemon, in the foreground
  tidegate status                        what it does
  tidegate <command> --help              examples of each command"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground. SIGTERM finishes the open batch, commits, and ends.
    #[command(after_help = "Examples:
  tidegate run
  tidegate run --config /etc/tidegate.toml
  TIDEGATE_LOG=debug tidegate run --log-format json")]
    Run(RunArgs),
    /// Validate a configuration and every plugin that it names, without starting anything.
    #[command(after_help = "Examples:
  tidegate check
  tidegate check --config /etc/tidegate.toml --json")]
    Check(CheckArgs),
    /// Turn the configuration of another program into one for the daemon.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate import mm2 mm2.properties --out tidegate.toml"
    )]
    Import(ImportCommand),
    /// Show the daemon, its clusters and its links.
    #[command(after_help = "Examples:
  tidegate status
  tidegate status --json
  tidegate status --url http://10.0.0.7:8081")]
    Status(Remote),
    /// Have the daemon read its configuration file anew. What has changed is done; a file with an error changes nothing. SIGHUP does the same.
    #[command(after_help = "Examples:\n  tidegate check --config /etc/tidegate.toml && tidegate reload")]
    Reload(Remote),
    /// Look at links, make and change them, start and stop them.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate link list
  tidegate link pause orders"
    )]
    Link(LinkCommand),
    /// Look at the consumer groups of a link's source, and have them go on at the target.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate groups list orders
  tidegate groups sync orders billing"
    )]
    Groups(GroupsCommand),
    /// Look at topics and make them.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate topic list east
  tidegate topic create east orders --partitions 4"
    )]
    Topic(TopicCommand),
    /// Append records from standard input to a topic, one a line.
    ///
    /// Records go out in requests of up to 1,000 records or 1 MiB. If it fails halfway, it says how many records are durable.
    #[command(after_help = "Examples:
  echo hello | tidegate produce east greetings
  echo 'k:hello' | tidegate produce east greetings --key-separator : --header source=shell
  echo '{\"key\":\"k\",\"value\":\"v\",\"headers\":[[\"a\",\"1\"]]}' | tidegate produce east greetings --json")]
    Produce(ProduceArgs),
    /// Print the records of a topic, one a line.
    ///
    /// Without --follow it ends at the end as it was when it began. It starts at the beginning without --follow, and at the end with
    /// it, unless told otherwise. Without --json a line is a record's value, and `null` for a tombstone.
    #[command(after_help = "Examples:
  tidegate consume west orders --max 10
  tidegate consume west orders --follow --json
  tidegate consume west orders --partition 2 --offset 4711 --json
  tidegate consume west orders --json | tidegate produce east copy --json")]
    Consume(ConsumeArgs),
    /// Look at dead letters: records that a link has put aside, because a plugin could not handle them.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate dlq list orders
  tidegate dlq show orders 0 17"
    )]
    Dlq(DlqCommand),
    /// Read source and target of a link again, and prove that the target holds what the pipeline makes of the source.
    ///
    /// Each record is compared that the link's checkpoints stand for, under the revision that the history names for it; the link may run meanwhile.
    /// Exit status: 0 everything is as it should be; 1 there are differences; 3 there is none, but something could not be compared; 4 it was not carried out.
    #[command(after_help = "Examples:
  tidegate verify orders
  tidegate verify orders --differences 100
  tidegate verify orders --json | jq .report.not_covered")]
    Verify(VerifyArgs),
    /// Look at plugins, publish them to a running link, roll back.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate plugin inspect plugins/redact.wasm
  tidegate plugin publish orders mask-cards plugins/redact.wasm
  tidegate plugin rollback orders"
    )]
    Plugin(PluginCommand),
    /// Make tokens, which say who may use the API.
    #[command(
        subcommand,
        after_help = "Examples:
  tidegate token create ann --role operate"
    )]
    Token(TokenCommand),
    /// Watch links, lanes, lags, rates and plugins at the terminal, as they change.
    ///
    /// Keys: up and down (or k and j) choose a link, enter opens it and esc goes back, tab shows its next page, p pauses or resumes it after a question,
    /// r looks again at once, q ends. A daemon that does not answer is asked again until it does.
    #[command(after_help = "Examples:
  tidegate top
  tidegate top orders --interval 5s
  tidegate top --ascii --url http://10.0.0.7:8081
  tidegate top --once | head -20")]
    Top(TopArgs),
    /// Print the description of the REST API, an OpenAPI 3.1 document. The daemon has it at `/api/v1/openapi.json`.
    #[command(after_help = "Examples:\n  tidegate openapi > tidegate.json")]
    Openapi,
    /// Print what a shell needs to complete commands and flags.
    #[command(after_help = "Examples:
  tidegate completions bash > /usr/share/bash-completion/completions/tidegate
  tidegate completions zsh > /usr/local/share/zsh/site-functions/_tidegate
  tidegate completions fish > ~/.config/fish/completions/tidegate.fish")]
    Completions(CompletionsArgs),
    /// Write a manual page for each command into a directory.
    #[command(after_help = "Examples:
  tidegate man /usr/local/share/man/man1
  tidegate man ./man && man -l ./man/tidegate-link-show.1")]
    Man(ManArgs),
}

/// Where the daemon is, and how to print its answer.
#[derive(Args, Clone, Debug)]
pub struct Remote {
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub daemon: Address,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
    /// Print what was found as a JSON array.
    #[arg(long)]
    pub json: bool,
}

/// A link.
#[derive(Args, Debug)]
pub struct LinkArgs {
    /// The link.
    pub link: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `link reset`.
#[derive(Args, Debug)]
pub struct ResetArgs {
    /// The link.
    pub link: String,
    /// Print the resets that were made, and make none.
    #[arg(long, conflicts_with_all = ["topic", "partition", "to", "forget_state"])]
    pub list: bool,
    /// The source topic.
    #[arg(long, required_unless_present = "list")]
    pub topic: Option<String>,
    /// One of its partitions, instead of all.
    #[arg(long)]
    pub partition: Option<u32>,
    /// `earliest`, `latest`, or an offset that is there.
    #[arg(long, required_unless_present = "list", value_parser = reset_place)]
    pub to: Option<ResetPlace>,
    /// Have stages forget what they remember of these partitions: a plugin that has seen a record may drop it the second time.
    #[arg(long)]
    pub forget_state: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

fn reset_place(text: &str) -> Result<ResetPlace, String> {
    match text {
        "earliest" => Ok(ResetPlace::End(ResetEnd::Earliest)),
        "latest" => Ok(ResetPlace::End(ResetEnd::Latest)),
        offset => {
            let offset = offset.parse().ok().filter(|offset| *offset >= 0);
            offset.map(ResetPlace::Offset).ok_or_else(|| "say earliest, latest, or an offset".to_owned())
        }
    }
}

/// `topic …`.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// The topics of a cluster.
    #[command(after_help = "Examples:\n  tidegate topic list east\n  tidegate topic list east --json")]
    List(ClusterArgs),
    /// Make a topic.
    #[command(after_help = "Examples:\n  tidegate topic create east orders --partitions 4")]
    Create(CreateArgs),
    /// The partitions of a topic: where they begin and end.
    #[command(after_help = "Examples:\n  tidegate topic describe east orders")]
    Describe(TopicArgs),
}

/// A cluster.
#[derive(Args, Debug)]
pub struct ClusterArgs {
    /// The cluster.
    pub cluster: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// A topic.
#[derive(Args, Debug)]
pub struct TopicArgs {
    /// The cluster.
    pub cluster: String,
    /// The topic.
    pub topic: String,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `topic create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The cluster.
    pub cluster: String,
    /// The topic.
    pub topic: String,
    /// How many partitions it gets.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: u32,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `produce`.
#[derive(Args, Debug)]
pub struct ProduceArgs {
    /// The cluster.
    pub cluster: String,
    /// The topic.
    pub topic: String,
    /// What stands between key and value in each line. Without it, records have no key.
    #[arg(long, value_name = "TEXT", conflicts_with = "json", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub key_separator: Option<String>,
    /// A header for every record, after those that it has. May be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// The partition for every record. Without it the key decides, and records without a key take turns by request.
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Each line is a record as JSON, and so is the answer.
    #[arg(
        long,
        help = "Each line is a JSON object: {\"key\",\"value\",\"headers\":[[name,value],…],\"timestamp\",\"partition\"}, each missing \
                or null where absent; key_base64 and value_base64 for what is not UTF-8. The answer is JSON too"
    )]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub daemon: Address,
}

/// `consume`.
#[derive(Args, Debug)]
pub struct ConsumeArgs {
    /// The cluster.
    pub cluster: String,
    /// The topic.
    pub topic: String,
    /// Start at the first record that is still there.
    #[arg(long, conflicts_with = "offset")]
    pub from_beginning: bool,
    /// Start at this offset: a number, earliest or latest.
    #[arg(long, value_name = "OFFSET", requires = "partition")]
    pub offset: Option<ReadFrom>,
    /// Only this partition.
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// End after this many records.
    #[arg(long, value_name = "N")]
    pub max: Option<u64>,
    /// Wait for more records at the end.
    #[arg(long)]
    pub follow: bool,
    /// Print each record as a JSON object, as `produce --json` takes it, with topic, partition and offset.
    #[arg(long, conflicts_with = "raw")]
    pub json: bool,
    /// Write the bytes of values to a terminal as they are, escape sequences included. Elsewhere they always are.
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub daemon: Address,
}

/// `dlq …`.
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// The newest dead letters of a link, oldest first: where each is, where its record came from, and what was wrong.
    ///
    /// With --json, `record` is the record as the stage was given it, in the form that `produce --json` takes.
    #[command(after_help = "Examples:
  tidegate dlq list orders
  tidegate dlq list orders --max 1000 --json
  tidegate dlq list orders --json | jq -c '.[] | select(.reason.code == \"not-json\") | .record' | tidegate produce east orders --json")]
    List(DlqListArgs),
    /// All that is known of a dead letter: where its record came from, what could not handle it and why, and the record.
    #[command(after_help = "Examples:
  tidegate dlq show orders 0 17
  tidegate dlq show orders 0 17 --json | jq -c .record | tidegate produce east orders --json")]
    Show(DlqShowArgs),
}

/// `dlq list`.
#[derive(Args, Debug)]
pub struct DlqListArgs {
    /// The link.
    pub link: String,
    /// At most this many letters.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..))]
    pub max: u64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `dlq show`.
#[derive(Args, Debug)]
pub struct DlqShowArgs {
    /// The link.
    pub link: String,
    /// The partition of the letter, as `dlq list` shows it.
    pub partition: u32,
    /// The offset of the letter, as `dlq list` shows it.
    pub offset: i64,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// The link.
    pub link: String,
    /// Describe at most this many differences.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(..=10_000))]
    pub differences: u16,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `plugin …`.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// World, name, version, columns, version of state, configuration schema, imports, size, digest and limits of a plugin's file.
    #[command(after_help = "Examples:\n  tidegate plugin inspect plugins/redact.wasm")]
    Inspect(InspectArgs),
    /// Keep a plugin for links that are defined with `link create`, which name it by the digest that this answers.
    #[command(after_help = "Examples:\n  tidegate plugin store plugins/redact.wasm")]
    Store(StoreArgs),
    /// Replace the plugin of a stage in a running link. No record is lost, doubled or handled by both.
    #[command(after_help = "Examples:
  tidegate plugin publish orders mask-cards plugins/redact.wasm
  tidegate plugin publish orders mask-cards plugins/redact.wasm --config '{\"pointers\":[\"/card\"],\"keep_last\":2}'")]
    Publish(PublishArgs),
    /// Publish the revision before the present one again.
    #[command(after_help = "Examples:\n  tidegate plugin rollback orders\n  tidegate plugin rollback orders --to 3")]
    Rollback(RollbackArgs),
    /// The revisions of a link: what, when, by whom, from which offsets on, and why an earlier one came back.
    #[command(after_help = "Examples:\n  tidegate plugin history orders\n  tidegate plugin history orders --json")]
    History(LinkArgs),
}

/// `plugin inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// The plugin: a WebAssembly component.
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `plugin publish`.
#[derive(Args, Debug)]
pub struct PublishArgs {
    /// The link.
    pub link: String,
    /// The stage.
    pub stage: String,
    /// The plugin: a WebAssembly component.
    pub file: PathBuf,
    /// The plugin's configuration. Without it the stage keeps the one it has.
    #[arg(long, value_name = "JSON", value_parser = json)]
    pub config: Option<Json>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `plugin rollback`.
#[derive(Args, Debug)]
pub struct RollbackArgs {
    /// The link.
    pub link: String,
    /// The revision whose content comes back. Without it, the one before the present one.
    #[arg(long, value_name = "REVISION")]
    pub to: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

fn header(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn json(text: &str) -> Result<Json, String> {
    Json::parse(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(line: &str) -> Result<Command, clap::error::ErrorKind> {
        let words = std::iter::once("tidegate").chain(line.split_whitespace());
        Cli::try_parse_from(words).map(|cli| cli.command).map_err(|error| error.kind())
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_examples() {
        fn visit(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("  tidegate ") || help.contains("| tidegate "), "{}", command.get_name());
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn every_flag_is_understood() {
        for line in [
            "run",
            "run --config x.toml",
            "check --config x.toml --json",
            "status --url http://h:1 --json",
            "link list --json",
            "link show orders",
            "link events orders --json",
            "link events orders --follow",
            "link checkpoints orders",
            "link start orders",
            "link stop orders",
            "link pause orders",
            "link resume orders --json",
            "topic list east",
            "topic create east orders --partitions 4",
            "topic describe east orders",
            "produce east orders --key-separator : --header a=b --header a=c=d --partition 1",
            "produce east orders --json",
            "consume east orders --from-beginning --max 5 --follow --json",
            "consume east orders --partition 1 --offset 7",
            "consume east orders --partition 1 --offset latest",
            "dlq list orders --max 7 --json",
            "dlq show orders 0 17 --json",
            "plugin inspect x.wasm --json",
            "plugin publish orders mask x.wasm --config {}",
            "plugin rollback orders --to 3",
            "link reset orders --topic t --partition 3 --to 12 --forget-state",
            "link reset orders --list",
            "plugin history orders",
            "token create ann --role operate --file ann.token",
            "status --url https://h:1 --token-file t --ca-file c --cert-file d --key-file k",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        use clap::error::ErrorKind::{ArgumentConflict, InvalidSubcommand, MissingRequiredArgument, ValueValidation};
        for (line, kind) in [
            ("nonsense", InvalidSubcommand),
            ("link show", MissingRequiredArgument),
            ("status --cert-file c", MissingRequiredArgument),
            ("token create ann", MissingRequiredArgument),
            ("token create ann --role root", ValueValidation),
            ("consume east orders --offset 7", MissingRequiredArgument),
            ("consume east orders --partition 0 --offset -7", clap::error::ErrorKind::UnknownArgument),
            ("consume east orders --partition 0 --offset soon", ValueValidation),
            ("consume east orders --partition 0 --offset 7 --from-beginning", ArgumentConflict),
            ("produce east orders --json --key-separator :", ArgumentConflict),
            ("produce east orders --header nonsense", ValueValidation),
            ("topic create east orders --partitions 0", ValueValidation),
            ("dlq list orders --max 0", ValueValidation),
            ("link reset orders --topic t", MissingRequiredArgument),
            ("link reset orders --topic t --to=-1", ValueValidation),
            ("link reset orders --topic t --to first", ValueValidation),
            ("link reset orders --list --to latest", ArgumentConflict),
            ("dlq show orders 0", MissingRequiredArgument),
            ("dlq show orders 0 x", ValueValidation),
            ("plugin publish orders mask x.wasm --config {", ValueValidation),
        ] {
            assert_eq!(parse(line).map(|_| ()), Err(kind), "{line}");
        }
    }
}
