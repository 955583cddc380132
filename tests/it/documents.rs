//! What documents say can be done: commands are parsed, codes are known, links lead somewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use regex::Regex;
use tidegate::api::wire::CODES;
use tidegate::cli::args::Cli;

/// What stands for a number in documents.
const NUMBERS: [&str; 6] = ["PARTITION", "OFFSET", "N", "REVISION", "1", "17"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The documents for operators and developers, by their paths.
fn documents() -> Vec<(PathBuf, String)> {
    let folders = ["", "docs", "wit", "plugins"].map(|folder| root().join(folder)).into_iter();
    let examples =
        fs::read_dir(root().join("examples")).expect("examples").map(|entry| entry.expect("an entry").path());
    let files = folders.chain(examples).filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    let files = files.map(|entry| entry.expect("an entry").path());
    let documents = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut documents: Vec<_> =
        documents.map(|path| (path.clone(), fs::read_to_string(path).expect("a document"))).collect();
    documents.sort();
    assert!(documents.len() > 10, "the documents were not found");
    documents
}

/// The words of a command line as a shell splits it, up to what is no argument any more.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match quote {
            Some(open) if letter == open => quote = None,
            Some(_) => word.get_or_insert_default().push(letter),
            None if letter == '\'' || letter == '"' => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            None if "|<>&;#".contains(letter) => break,
            None if letter.is_whitespace() => words.extend(word.take()),
            None => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// What a document says to type: in a block, and within a sentence between backticks.
fn commands(text: &str) -> Vec<(bool, String)> {
    let mut commands = Vec::new();
    let mut in_block = false;
    let inline = Regex::new("`(tidegate [^`…]+)`").expect("an expression");
    let in_line = Regex::new(r"(?:^|[|;&$] )\s*(tidegate .*)").expect("an expression");
    for line in text.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            let mut rest = line.trim_start();
            while let Some(found) = in_line.captures(rest).and_then(|found| found.get(1)) {
                commands.push((true, found.as_str().to_owned()));
                rest = &rest[found.start() + 1..];
            }
        } else {
            commands.extend(inline.captures_iter(line).map(|found| (false, found[1].to_owned())));
        }
    }
    commands
}

/// Why a command line is wrong, if it is. Within a sentence a command may be named without its arguments.
fn fault(is_whole: bool, line: &str) -> Option<String> {
    let words = words(line).into_iter().map(|word| if NUMBERS.contains(&&*word) { "1".to_owned() } else { word });
    let words: Vec<String> = words.collect();
    let is_named_only = words
        .iter()
        .all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'));
    match Cli::try_parse_from(&words).map_err(|error| (error.kind(), error.to_string())) {
        Ok(_) | Err((ErrorKind::DisplayHelp | ErrorKind::DisplayVersion, _)) => None,
        Err((ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, _))
            if is_named_only && !is_whole =>
        {
            None
        }
        Err((_, message)) => Some(message),
    }
}

#[test]
fn lines_are_found_and_split_as_a_shell_does() {
    let text = "say `tidegate link list`\n```console\n$ tidegate check && tidegate reload\n$ echo '{}' | tidegate link create -f - > x\n# tidegate\n```\n";
    let found: Vec<String> = commands(text).into_iter().map(|(_, line)| words(&line).join("_")).collect();
    assert_eq!(found, ["tidegate_link_list", "tidegate_check", "tidegate_reload", "tidegate_link_create_-f_-"]);
    assert_eq!(words("tidegate produce a b --json < c"), ["tidegate", "produce", "a", "b", "--json"]);
    assert_eq!(words("tidegate groups sync a '/x y/' \"b c\""), ["tidegate", "groups", "sync", "a", "/x y/", "b c"]);
    assert_eq!(fault(true, "tidegate link show LINK"), None);
    assert_eq!(fault(false, "tidegate link create"), None);
    for wrong in [
        "tidegate link sho orders",
        "tidegate link show",
        "tidegate run --conf x",
        "tidegate link reset orders --to now",
    ] {
        assert!(fault(true, wrong).is_some(), "{wrong}");
    }
}

#[test]
fn every_command_in_the_documents_is_one() {
    let mut documents = documents();
    let alerts = root().join("docs/deploy/alerts.yml");
    let text = fs::read_to_string(&alerts).expect("the alerts").replace("{{ $labels.link_id }}", "LINK");
    documents.push((alerts, text));
    let mut wrong = Vec::new();
    let mut seen = 0;
    for (path, text) in documents {
        for (is_whole, line) in commands(&text) {
            seen += 1;
            wrong.extend(fault(is_whole, &line).map(|fault| format!("{}: {line}\n{fault}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 150, "{seen}");
}

#[test]
fn every_command_is_in_the_readme() {
    fn leaves(command: &clap::Command, path: &str, found: &mut Vec<(String, String)>) {
        for part in command.get_subcommands() {
            let longer = format!("{path} {}", part.get_name()).trim_start().to_owned();
            match part.has_subcommands() {
                true => leaves(part, &longer, found),
                false => found.push((longer, part.get_name().to_owned())),
            }
        }
    }
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let table = readme.split("## Commands").nth(1).and_then(|rest| rest.split("\n## ").next()).expect("the commands");
    let mut all = Vec::new();
    leaves(&Cli::command(), "", &mut all);
    for (path, name) in all {
        let begun = |text: &str| table.contains(&format!("`{text}`")) || table.contains(&format!("`{text} "));
        assert!(begun(&path) || begun(&name), "the README does not say what `{path}` does");
    }
}

#[test]
fn every_code_of_a_refusal_is_in_the_readme() {
    let readme = fs::read_to_string(root().join("README.md")).expect("a README");
    let missing: Vec<_> = CODES.iter().filter(|code| !readme.contains(&format!("`{code}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn codes_in_the_guide_are_those_of_the_readme() {
    let read = |name: &str| fs::read_to_string(root().join(name)).expect(name);
    let (guide, readme) = (read("docs/operations.md"), read("README.md"));
    let table = guide.split("| the code is |").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a table");
    let code = Regex::new("`([a-z]+(?:-[a-z]+)+)`").expect("an expression");
    let rows = table.lines().filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
    let codes: BTreeSet<String> =
        rows.flat_map(|cell| code.captures_iter(cell).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect();
    assert!(codes.len() > 20, "{codes:?}");
    let unknown: Vec<&String> = codes.iter().filter(|code| !readme.contains(&format!("`{code}`"))).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// The anchors of a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut in_block = false;
    let mut anchors = BTreeSet::new();
    for line in text.lines() {
        in_block ^= line.starts_with("```");
        let heading = line.trim_start_matches('#');
        if !in_block && line.len() > heading.len() && heading.starts_with(' ') {
            let kept = heading
                .trim()
                .to_lowercase()
                .chars()
                .filter(|it| it.is_alphanumeric() || " -_".contains(*it))
                .collect::<String>();
            anchors.insert(kept.replace(' ', "-"));
        }
    }
    anchors
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]*)\)").expect("an expression");
    let code = Regex::new("`[^`]*`").expect("an expression");
    let mut broken = Vec::new();
    for (path, text) in documents() {
        let prose: Vec<&str> = text.split("```").step_by(2).collect();
        let prose = code.replace_all(&prose.join("\n"), "code").into_owned();
        for target in link.captures_iter(&prose).map(|found| found[1].to_owned()) {
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { path.clone() } else { path.with_file_name(file) };
            let there =
                fs::read_to_string(&file).is_ok_and(|text| anchor.is_empty() || anchors(&text).contains(anchor));
            let is_folder = file.is_dir() && anchor.is_empty();
            if !there && !is_folder {
                broken.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}
