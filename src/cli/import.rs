//! `import`: configurations of other programs.

use std::fs::{self, File};
use std::io::{self, Read as _, Write};
use std::path::Path;

use super::args::import::Mm2Args;
use super::failure::Failure;
use super::{print_json, screen};
use crate::api::wire;
use crate::import::{Finding, Import, mm2};

/// The most bytes of a file: a data file that was named by mistake is not read into memory.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) fn mm2(args: &Mm2Args, out: &mut dyn Write) -> Result<(), Failure> {
    let name = args.file.display().to_string();
    let bytes = read(&args.file).map_err(|error| {
        let help = "name the properties file that connect-mirror-maker.sh is given";
        Failure::new(format!("cannot read {name}: {error}"), help)
    })?;
    let file = args.file.file_name().map_or_else(|| name.clone(), |file| file.to_string_lossy().into_owned());
    let import =
        mm2::import(&bytes, &file).map_err(|error| Failure::new(format!("{name}: {}", error.message), error.remedy))?;
    if let Some(to) = &args.out {
        write(to, &import.configuration)?;
    }
    match (&args.out, args.json) {
        (_, true) => print_json(out, &wire(import)),
        (Some(to), false) => {
            tell(&import.findings, out)?;
            Ok(writeln!(
                out,
                "{} is written; `tidegate check --config {}` says whether all that it names is there",
                to.display(),
                to.display()
            )?)
        }
        (None, false) => {
            out.write_all(import.configuration.as_bytes())?;
            Ok(tell(&import.findings, &mut screen::stderr())?)
        }
    }
}

fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}

/// Write a file that is not there: somebody's configuration is not overwritten.
fn write(to: &Path, text: &str) -> Result<(), Failure> {
    let cannot = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::AlreadyExists => "remove it, or name another file",
            _ => "name a file in a directory that you may write to",
        };
        Failure::new(format!("cannot write {}: {error}", to.display()), help)
    };
    let mut file = fs::File::create_new(to).map_err(cannot)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(cannot)
}

fn tell(findings: &[Finding], to: &mut dyn Write) -> io::Result<()> {
    for Finding { key, line, what, why, remedy } in findings {
        let line = line.map(|line| format!(" (line {line})")).unwrap_or_default();
        writeln!(to, "{}: {key}{line}: {why}", what.heading())?;
        if !remedy.is_empty() {
            writeln!(to, "  help: {remedy}")?;
        }
    }
    Ok(())
}

fn wire(import: Import) -> wire::Import {
    let finding = |Finding { key, line, what, why, remedy }: Finding| wire::ImportFinding {
        key,
        line,
        what: what.word().to_owned(),
        why,
        remedy: Some(remedy).filter(|remedy| !remedy.is_empty()),
    };
    wire::Import { configuration: import.configuration, findings: import.findings.into_iter().map(finding).collect() }
}
