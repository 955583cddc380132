//! `run`.

use std::path::PathBuf;

use clap::Args;

use crate::config::LogFormat;

/// `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = "tidegate.toml")]
    pub config: PathBuf,
    /// How the log is written, text or json, whatever the configuration says.
    #[arg(long, value_name = "FORMAT", value_parser = log_format)]
    pub log_format: Option<LogFormat>,
    /// Hold this link that is defined by REST: do not run it until it is started or changed. Repeat
    /// it for several.
    #[arg(long, value_name = "LINK")]
    pub hold: Vec<String>,
    /// Hold all links that are defined by REST.
    #[arg(long)]
    pub hold_all: bool,
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    let found = LogFormat::ALL.into_iter().find(|(word, _)| *word == text);
    found.map(|(_, format)| format).ok_or_else(|| "write text or json".to_owned())
}
