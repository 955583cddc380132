//! `completions` and `man`: what shells and `man` want to know of the commands.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::Man;

use super::args::Cli;
use super::args::manual::{CompletionsArgs, ManArgs};
use super::failure::Failure;

const PROGRAM: &str = "tidegate";

/// What the library calls the part of a page that has our examples, and what it is called everywhere else.
const EXTRA: &str = ".SH EXTRA\nExamples:\n";
const EXAMPLES: &str = ".SH EXAMPLES\n.nf\n";

pub(super) fn completions(args: &CompletionsArgs, out: &mut dyn Write) -> Result<(), Failure> {
    // Not to `out`: the library panics when it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), PROGRAM, &mut script);
    Ok(out.write_all(&script)?)
}

pub(super) fn man(args: &ManArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let cannot = |what: &Path, error: io::Error| {
        Failure::new(format!("cannot write {}: {error}", what.display()), "name a directory that you may write to")
    };
    fs::create_dir_all(&args.dir).map_err(|error| cannot(&args.dir, error))?;
    let pages = pages()?;
    for (name, text) in &pages {
        let file = args.dir.join(name);
        fs::write(&file, text).map_err(|error| cannot(&file, error))?;
    }
    Ok(writeln!(out, "{} pages are in {}", pages.len(), args.dir.display())?)
}

/// A page for each command, by the name of its file.
fn pages() -> io::Result<Vec<(String, String)>> {
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    let mut waiting = vec![program];
    while let Some(command) = waiting.pop() {
        waiting.extend(command.get_subcommands().cloned());
        let source = format!("{PROGRAM} {}", env!("CARGO_PKG_VERSION"));
        let man = Man::new(command).source(source).manual("Tidegate");
        pages.push((man.get_filename(), page(&man)?));
    }
    Ok(pages)
}

fn page(man: &Man) -> io::Result<String> {
    let mut text = Vec::new();
    man.render(&mut text)?;
    // Examples are lines: they must not be filled up like a paragraph.
    let text = String::from_utf8_lossy(&text).replacen(EXTRA, EXAMPLES, 1);
    Ok(match text.split_once(".SH VERSION") {
        Some((before, version)) => format!("{before}.fi\n.SH VERSION{version}"),
        None => text + ".fi\n",
    })
}

#[cfg(test)]
mod tests {
    use clap_complete::Shell;

    use super::*;

    fn names(command: &clap::Command, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for part in command.get_subcommands() {
            names(part, &format!("{path}-{}", part.get_name()), found);
        }
    }

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let mut commands = Vec::new();
        names(&Cli::command(), PROGRAM, &mut commands);
        let mut expected: Vec<String> = commands.iter().map(|name| format!("{name}.1")).collect();
        expected.sort();
        let mut pages = pages().expect("pages");
        pages.sort();
        assert_eq!(pages.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
        for (name, text) in pages {
            assert!(text.contains(EXAMPLES) && text.contains(".SH SYNOPSIS"), "{name}: {text}");
            let examples = text.split(EXAMPLES).nth(1).and_then(|rest| rest.split(".fi\n").next()).unwrap_or_default();
            assert!(examples.contains(" tidegate "), "{name}: {text}");
        }
    }

    #[test]
    fn pages_are_written_where_they_are_wanted_and_errors_say_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("share/man1");
        let mut out = Vec::new();
        man(&ManArgs { dir: dir.clone() }, &mut out).expect("pages");
        assert!(fs::read_to_string(dir.join("tidegate-link-show.1")).expect("a page").starts_with(".ie"));
        let file = folder.path().join("file");
        fs::write(&file, "").expect("a file");
        let Err(Failure::Told { message, .. }) = man(&ManArgs { dir: file.clone() }, &mut out) else {
            panic!("a file is no directory");
        };
        assert!(message.contains(&file.display().to_string()), "{message}");
    }

    #[test]
    fn shells_are_told_every_command() {
        let mut commands = Vec::new();
        names(&Cli::command(), PROGRAM, &mut commands);
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            completions(&CompletionsArgs { shell }, &mut script).expect("a script");
            let script = String::from_utf8(script).expect("text");
            for command in &commands {
                let last = command.rsplit('-').next().unwrap_or_default();
                assert!(script.contains(last), "{shell}: {command}");
            }
        }
    }
}
