//! The command line: the daemon itself (`run`, `check`, `import`, `plugin inspect`), and a client of its REST API (all else).
//!
//! Reading order: [`args`] has every command and flag; `client` speaks HTTP, `identity` says who we are; then a file for each family of commands: `local` (with `log`), `import`,
//! `status`, `links` (with `stage`, `events`, `checkpoints`, `failover` and `orders`), `topics`, `produce`, `consume`, `dlq`, `groups`, `plugins`, `verify`, `token`, `top`, `manual`. `failure` says
//! how commands fail, `table` lays out text, `screen` keeps what comes from outside from steering the terminal, `limits` says what a plugin may use.
//!
//! Invariants
//! - Exit status: 0 done, 1 refused or failed, 2 wrong usage; `verify` has more of them. Whoever reads the output may stop reading: that is no failure.
//! - Answers go to standard output, everything else to standard error as `error: …` and `help: …`.
//! - `--json` prints the wire types of the API, and nothing else.

pub mod args;
mod checkpoints;
mod client;
mod consume;
mod definitions;
mod dlq;
pub mod events;
mod failover;
mod failure;
mod groups;
mod identity;
mod import;
pub mod lanes;
mod limits;
mod links;
mod local;
mod log;
mod manual;
mod orders;
mod plan;
mod plugins;
mod produce;
mod reset;
mod screen;
mod spans;
mod stage;
mod status;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod top;
mod topics;
mod verify;

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::Parser as _;
use serde::Serialize;

use args::import::ImportCommand;
use args::{Cli, Command, PluginCommand};
use client::Client;
use failure::Failure;

use crate::api::openapi;

/// Parse the arguments of this process, do what they say, and answer the exit status.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _nobody_to_tell = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // Not the lock: the daemon runs in here, and whatever else prints would wait for ever.
    let is_raw = match &cli.command {
        Command::Consume(args) => args.raw,
        // Its lines are neutralised when they are drawn, and what moves the cursor has to reach the terminal.
        Command::Top(_) => true,
        _ => false,
    };
    let mut out = BufWriter::new(screen::stdout(is_raw));
    let failed = ExitCode::from(if matches!(cli.command, Command::Verify(_)) { verify::NOT_DONE } else { 1 });
    let done = dispatch(cli.command, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) | Err(Failure::BrokenPipe) => ExitCode::SUCCESS,
        Err(Failure::Said) => {
            let _nobody_to_tell = out.flush();
            ExitCode::FAILURE
        }
        Err(Failure::Status(status)) => {
            let _nobody_to_tell = out.flush();
            ExitCode::from(status)
        }
        Err(Failure::Told { message, help }) => {
            let _nobody_to_tell = out.flush().and_then(|()| tell(&message, &help));
            failed
        }
    }
}

fn tell(message: &str, help: &str) -> io::Result<()> {
    let mut err = screen::stderr();
    writeln!(err, "error: {message}")?;
    if !help.is_empty() {
        writeln!(err, "help: {help}")?;
    }
    Ok(())
}

fn dispatch(command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Run(args) => local::run(&args),
        Command::Check(args) => local::check(&args, out),
        Command::Import(ImportCommand::Mm2(args)) => import::mm2(&args, out),
        Command::Reload(remote) => definitions::reload(&remote, out),
        Command::Status(remote) => status::status(&Client::new(&remote.daemon)?, remote.json, out),
        Command::Link(command) => links::link(&command, out),
        Command::Groups(command) => groups::groups(&command, out),
        Command::Topic(command) => topics::topic(&command, out),
        Command::Produce(args) => produce::produce(&Client::new(&args.daemon)?, &args, io::stdin().lock(), out),
        Command::Consume(args) => consume::consume(&Client::new(&args.daemon)?, &args, out),
        Command::Dlq(command) => dlq::dlq(&command, out),
        Command::Verify(args) => verify::verify(&args, out),
        Command::Plugin(PluginCommand::Inspect(args)) => local::inspect(&args, out),
        Command::Plugin(command) => plugins::plugin(&command, out),
        Command::Token(command) => token::token(&command, out),
        Command::Top(args) => top::top(&args, out),
        Command::Openapi => print_json(out, openapi()),
        Command::Completions(args) => manual::completions(&args, out),
        Command::Man(args) => manual::man(&args, out),
    }
}

fn print_json(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(io::Error::from)?;
    Ok(writeln!(out)?)
}
