//! `import …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `import …`.
#[derive(Debug, Subcommand)]
pub enum ImportCommand {
    /// The properties file of MirrorMaker 2: each enabled flow becomes a link that goes on where MirrorMaker 2 stopped.
    ///
    /// What cannot be carried over, and what is to be added by hand, is said on standard error and in the comments of the configuration; with --out or
    /// --json on standard output. Passwords are never copied: it says which file to put them into. Nothing is connected to.
    #[command(after_help = "Examples:
  tidegate import mm2 mm2.properties
  tidegate import mm2 mm2.properties --out tidegate.toml
  tidegate import mm2 mm2.properties --json | jq '.findings[] | select(.what == \"to-do\")'")]
    Mm2(Mm2Args),
}

/// `import mm2`.
#[derive(Args, Debug)]
pub struct Mm2Args {
    /// What connect-mirror-maker.sh is given.
    pub file: PathBuf,
    /// Write the configuration to this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print configuration and findings as JSON.
    #[arg(long)]
    pub json: bool,
}
