//! `top`.

use std::time::Duration;

use clap::Args;

use super::address::Address;
use crate::config::parse_duration;

/// `top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// The link to begin with, opened.
    pub link: Option<String>,
    /// How often the daemon is asked: a number and ms, s or m.
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = interval)]
    pub interval: Duration,
    /// Draw with ASCII alone.
    #[arg(long)]
    pub ascii: bool,
    /// Print one picture as text, and end.
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    #[allow(missing_docs, reason = "a text here would stand for the help of the whole command")]
    pub daemon: Address,
}

/// More often would be work for the daemon that nobody can read.
const INTERVAL_MIN: Duration = Duration::from_millis(200);

fn interval(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time < INTERVAL_MIN { Err("200ms is the shortest".to_owned()) } else { Ok(time) }
}
