//! `verify`.

use std::io::{self, IsTerminal as _, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use super::args::VerifyArgs;
use super::client::Client;
use super::failure::Failure;
use super::print_json;
use super::table::{known, line, table};
use crate::api::wire::{Difference, NotCovered, Verdict, Verification, VerificationReport, VerificationState};

/// The exit status where something differs, where nothing does but something was not compared, and where nothing can be said.
const DIFFERENCES: u8 = 1;
const NOT_COVERED: u8 = 3;
pub(super) const NOT_DONE: u8 = 4;

/// How often the daemon is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The longest reason or note in a table; `--json` has all of it.
const TEXT_CHARS_MAX: usize = 160;

pub(super) fn verify(args: &VerifyArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let client = Client::new(&args.remote.daemon)?;
    let path = ["replication", "links", &args.link, "verification"];
    let query = [("differences", args.differences.to_string())];
    let interrupted = watch_for_interrupt();
    let mut now: Verification = client.post(&path, &query, "application/json", b"")?;
    while now.state == VerificationState::Running {
        show_progress(&now);
        if interrupted.swap(false, Relaxed) {
            drop(client.delete::<Verification>(&path)?);
        }
        thread::sleep(LOOK_EVERY);
        now = client.get(&path, &[])?;
    }
    forget_progress();
    let (Some(report), Some(verdict)) = (&now.report, now.verdict) else {
        if args.remote.json {
            print_json(out, &now)?;
            return Err(Failure::Status(NOT_DONE));
        }
        return Err(match now.error {
            Some(error) => Failure::new(error.message, error.remedy),
            None => Failure::new(
                format!("the verification of {} was ended before it was done", args.link),
                "begin it again",
            ),
        });
    };
    if args.remote.json {
        print_json(out, &now)?;
    } else {
        print(&args.link, report, out)?;
    }
    match verdict {
        Verdict::Fine => Ok(()),
        Verdict::Differences => Err(Failure::Status(DIFFERENCES)),
        Verdict::NotCovered => Err(Failure::Status(NOT_COVERED)),
    }
}

/// Whether somebody has pressed Ctrl-C: the daemon would go on.
fn watch_for_interrupt() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        while runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            flag.store(true, Relaxed);
        }
    });
    interrupted
}

fn show_progress(now: &Verification) {
    if io::stderr().is_terminal() {
        let progress = &now.progress;
        let percent = progress.offsets_done.saturating_mul(100).checked_div(progress.offsets_total).unwrap_or(0);
        let found = match progress.suspicious {
            0 => String::new(),
            count => format!(", {count} records are missing or too much"),
        };
        let text = format!("{percent} %, {} records are as they should be{found}", progress.records_matched);
        let _nobody_to_tell = write!(io::stderr().lock(), "\r\x1b[K{text}").and_then(|()| io::stderr().flush());
    }
}

fn forget_progress() {
    if io::stderr().is_terminal() {
        let _nobody_to_tell = write!(io::stderr().lock(), "\r\x1b[K");
    }
}

fn print(link: &str, report: &VerificationReport, out: &mut dyn Write) -> Result<(), Failure> {
    let (replayed, matched) = (report.records_replayed, report.records_matched);
    let what = match (report.differences_total, report.not_covered.is_empty()) {
        (0, true) => "all is as it should be".to_owned(),
        (0, false) => "all that could be compared is as it should be".to_owned(),
        (1, _) => "there is 1 difference".to_owned(),
        (count, _) => format!("there are {count} differences"),
    };
    writeln!(out, "{link}: {replayed} source records were replayed, {matched} target records agree; {what}")?;
    if !report.exactly_once {
        let count = report.duplicates_allowed;
        writeln!(out, "the link does not write exactly once: {count} records that are there twice are no differences")?;
    }
    let sources = report.sources.iter().map(|it| {
        [
            format!("{}-{}", it.topic, it.partition),
            it.from.to_string(),
            it.to.to_string(),
            it.records.to_string(),
            it.revisions.to_string(),
        ]
    });
    writeln!(out)?;
    table(out, ["source", "from", "to", "records", "revisions"], &sources.collect::<Vec<_>>())?;
    let targets = report
        .targets
        .iter()
        .map(|it| [format!("{}-{}", it.topic, it.partition), known(it.from), known(it.to), it.records.to_string()]);
    writeln!(out)?;
    table(out, ["target", "from", "to", "agree"], &targets.collect::<Vec<_>>())?;
    if !report.not_covered.is_empty() {
        writeln!(out)?;
        table(
            out,
            ["not covered", "partition", "from", "to", "records", "why"],
            &report.not_covered.iter().map(not_covered).collect::<Vec<_>>(),
        )?;
    }
    if !report.differences.is_empty() {
        writeln!(out)?;
        table(
            out,
            ["difference", "source", "target", "expected", "found", "note"],
            &report.differences.iter().map(difference).collect::<Vec<_>>(),
        )?;
        let more = report.differences_total.saturating_sub(report.differences.len() as u64);
        if more > 0 {
            writeln!(out, "and {more} more: --differences shows them")?;
        }
    }
    Ok(())
}

fn not_covered(entry: &NotCovered) -> [String; 6] {
    [
        entry.side.clone(),
        format!("{}-{}", entry.topic, entry.partition),
        known(entry.from),
        known(entry.to),
        known(entry.records),
        line(&entry.reason, TEXT_CHARS_MAX),
    ]
}

fn difference(difference: &Difference) -> [String; 6] {
    let parts = difference.parts.join(", ");
    let target = &difference.target;
    let offset = target.offset.map(|offset| format!("@{offset}")).unwrap_or_default();
    let shown = |value: &Option<String>| known(value.as_ref().map(|text| line(text, TEXT_CHARS_MAX)));
    [
        if parts.is_empty() { difference.kind.clone() } else { format!("{}: {parts}", difference.kind) },
        known(difference.source.as_ref().map(|place| format!("{}-{}@{}", place.topic, place.partition, place.offset))),
        format!("{}-{}{offset}", target.topic, target.partition),
        shown(&difference.expected),
        shown(&difference.found),
        known(difference.note.as_ref().map(|note| line(note, TEXT_CHARS_MAX))),
    ]
}
