//! What needs no running daemon: `run`, `check`, `plugin inspect`.

use std::io::Write;

use super::args::run::RunArgs;
use super::args::{CheckArgs, InspectArgs};
use super::failure::Failure;
use super::limits::limits;
use super::spans::Spans;
use super::table::{bytes, field};
use super::{log, print_json, screen};
use crate::api::wire::Inspection;
use crate::config::DaemonConfig;
use crate::daemon::{self, Holds};

pub(super) fn run(args: &RunArgs) -> Result<(), Failure> {
    let mut spans = None;
    let start_log = |config: &DaemonConfig| {
        spans = config.otlp.as_ref().map(|otlp| Spans::start(otlp, config.name.as_deref())).transpose()?;
        log::start(args.log_format.unwrap_or(config.log_format), spans.as_ref().map(Spans::tracer))
    };
    let holds = Holds::new(args.hold_all, args.hold.clone());
    daemon::run(&args.config, holds, start_log).map_err(|error| {
        let mut err = screen::stderr();
        let _nobody_to_tell = error.diagnostics.iter().try_for_each(|diagnostic| writeln!(err, "{diagnostic}"));
        Failure::new(error.message, error.remedy)
    })
}

pub(super) fn check(args: &CheckArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let checked = daemon::check(&args.config);
    if args.json {
        print_json(out, &checked.diagnostics)?;
    } else {
        checked.diagnostics.iter().try_for_each(|it| writeln!(out, "{}", it.with_line()))?;
        if checked.passed {
            writeln!(out, "{} is good", args.config.display())?;
        }
    }
    if checked.passed { Ok(()) } else { Err(Failure::Said) }
}

pub(super) fn inspect(args: &InspectArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let plugin = daemon::inspect(&args.file).map_err(|error| Failure::new(error.message, error.remedy))?;
    if args.json {
        return print_json(out, &plugin);
    }
    print_plugin(&plugin, out)
}

pub(super) fn print_plugin(plugin: &Inspection, out: &mut dyn Write) -> Result<(), Failure> {
    let list = |names: &[String]| if names.is_empty() { "nothing".to_owned() } else { names.join(", ") };
    writeln!(out, "{} {}", plugin.name, plugin.version)?;
    field(out, "world", &plugin.world)?;
    if let Some(version) = plugin.state_version {
        field(out, "state", &format!("version {version}"))?;
    }
    field(out, "reads", &list(&plugin.needs))?;
    field(out, "imports", &list(&plugin.imports))?;
    field(out, "exports", &list(&plugin.exports))?;
    field(out, "size", &bytes(plugin.size_bytes as f64))?;
    field(out, "digest", &plugin.digest.to_string())?;
    field(out, "limits", &format!("{}\nunless the configuration says otherwise", limits(&plugin.limits)))?;
    writeln!(out, "  configuration schema:")?;
    print_json(out, &plugin.config_schema)
}
