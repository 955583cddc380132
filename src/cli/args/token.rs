//! `token …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Role;

/// `token …`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a random token: a file with it, and the lines for the daemon's configuration.
    #[command(after_help = "Examples:
  tidegate token create ann --role operate
  tidegate token create prometheus --role read --file /etc/tidegate/prometheus.token >> /etc/tidegate.toml")]
    Create(CreateTokenArgs),
}

/// `token create`.
#[derive(Args, Debug)]
pub struct CreateTokenArgs {
    /// Whose token it is, for histories and the audit log.
    pub name: String,
    /// What they may do: read, operate or admin.
    #[arg(long, value_parser = role)]
    pub role: Role,
    /// Where the token goes; NAME.token in the current directory if nothing is said. A file that is there stays as it is.
    #[arg(long)]
    pub file: Option<PathBuf>,
}

fn role(text: &str) -> Result<Role, &'static str> {
    let found = Role::ALL.into_iter().find(|(word, _)| *word == text);
    found.map(|(_, role)| role).ok_or("write read, operate or admin")
}
