//! `link create`, `update`, `delete`, `definition` and `wait`; `plugin store`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Remote, Waiting};
use crate::config::{parse_duration, parse_size};

/// `link create`.
#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The definition: a JSON object in a file, or `-` for standard input.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Start the link, too.
    #[arg(long)]
    pub start: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `link update`.
#[derive(Args, Debug)]
pub struct UpdateArgs {
    /// The link.
    pub link: String,
    /// What is to be changed: a JSON object in a file, or `-` for standard input. What is null is taken out.
    #[arg(short, long, value_name = "FILE")]
    pub file: PathBuf,
    /// Only if the definition has this version.
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `link delete`.
#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// The link.
    pub link: String,
    /// Only if the definition has this version.
    #[arg(long, value_name = "N")]
    pub if_version: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// `link wait`.
#[derive(Args, Debug)]
pub struct WaitArgs {
    /// The link.
    pub link: String,
    /// What it is to be.
    #[arg(long = "for", value_name = "STATUS")]
    pub status: Awaited,
    /// How long is waited at most: a number and ms, s, m or h.
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// What can be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "these are the states of a link")]
pub enum Awaited {
    Active,
    Paused,
    Stopped,
    /// All records that are at the source are over.
    CaughtUp,
}

/// `link throttle`.
#[derive(Args, Debug)]
pub struct ThrottleArgs {
    /// The link.
    pub link: String,
    /// Bytes a second, like 10MiB; `none` is as fast as it can, `configured` what its definition says.
    #[arg(value_parser = rate)]
    pub rate: Rate,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub waiting: Waiting,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}

/// How fast a link may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As its definition says.
    Configured,
    /// As fast as it can.
    None,
    /// Bytes a second.
    Bytes(u64),
}

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "none" => Ok(Rate::None),
        "configured" => Ok(Rate::Configured),
        text => text.parse().or_else(|_| parse_size(text)).map(Rate::Bytes),
    }
}

/// `plugin store`.
#[derive(Args, Debug)]
pub struct StoreArgs {
    /// The component: a file that ends in .wasm.
    pub file: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub remote: Remote,
}
