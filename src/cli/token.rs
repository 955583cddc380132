//! `token`.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::ring;
use serde_json::Value;

use super::args::token::{CreateTokenArgs, TokenCommand};
use super::failure::Failure;
use crate::config::is_id;
use crate::files::private;

/// Random bytes of a token: nobody guesses 256 bits.
const RANDOM_BYTES: usize = 32;

/// What tokens begin with, so that who finds one knows what it is.
const PREFIX: &str = "tidegate_";

pub(super) fn token(command: &TokenCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let TokenCommand::Create(args) = command;
    create(args, out)
}

fn create(args: &CreateTokenArgs, out: &mut dyn Write) -> Result<(), Failure> {
    if !is_id(&args.name) {
        let help = "use 1 to 63 letters, digits, dots, underscores and hyphens";
        return Err(Failure::new(format!("{:?} is no name of a token", args.name), help));
    }
    let file = args.file.clone().unwrap_or_else(|| PathBuf::from(format!("{}.token", args.name)));
    let failed = |error: &dyn std::fmt::Display| {
        let help = "name another file with --file; one that is there is not overwritten";
        Failure::new(format!("cannot make {}: {error}", file.display()), help)
    };
    // The path in the configuration is relative to that, and not to where we are.
    let place = std::path::absolute(&file).map_err(|error| failed(&error))?;
    write(&place, &random()?).map_err(|error| failed(&error))?;
    let reference = Value::from(format!("${{file:{}}}", place.display()));
    writeln!(
        out,
        "# The token is in that file, which only its owner can read. Put these lines into the daemon's configuration."
    )?;
    writeln!(out, "[[daemon.api.tokens]]\nname = \"{}\"\nrole = \"{}\"\nsecret = {reference}", args.name, args.role)?;
    Ok(())
}

fn random() -> Result<String, Failure> {
    let mut bytes = [0; RANDOM_BYTES];
    ring::default_provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| Failure::new("the system gives no random numbers", "try again"))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn write(file: &Path, token: &str) -> std::io::Result<()> {
    let mut file = private::create_new(file)?;
    writeln!(file, "{token}")?;
    file.sync_all()
}
