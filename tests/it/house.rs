//! The rules of the house: which room may use which, and how large a file may grow.

use std::fs;
use std::path::{Path, PathBuf};

/// What each room may name of the others.
const TABLE: [(&str, &[&str]); 12] = [
    ("background", &["model"]),
    ("model", &[]),
    ("files", &[]),
    ("config", &["files", "model"]),
    ("import", &["config", "model"]),
    ("plugin", &["files", "model"]),
    ("store", &["files", "model"]),
    ("connector", &["background", "files", "model", "config", "store"]),
    ("link", &["background", "model", "config", "plugin", "connector"]),
    ("api", &["files", "model", "config"]),
    ("cli", &["api", "config", "files", "import", "model", "daemon"]),
    ("daemon", &["api", "background", "cli", "config", "connector", "files", "link", "model", "plugin", "store"]),
];

/// The only rooms that name these crates.
const CRATES: [(&str, &str); 2] = [("redb", "store"), ("wasmtime", "plugin")];

const LINES_MAX: usize = 600;

/// A source file: its path below `src`, and its code without comments.
struct SourceFile {
    name: String,
    room: String,
    lines: usize,
    code: String,
}

fn source_files() -> Vec<SourceFile> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut waiting = vec![root.clone()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(entries(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let name = path.strip_prefix(&root).expect("below src").display().to_string();
            let room = name.split(['/', '.']).next().unwrap_or_default().to_owned();
            let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
            files.push(SourceFile { name, room, lines: text.lines().count(), code: code.join("\n") });
        }
    }
    assert!(files.len() > 50, "the source files were not found");
    files
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

/// The rooms that a text names with `crate::`, in `use` or elsewhere: `crate::a::b` and `crate::{a::b, c}`.
fn rooms_named(code: &str) -> Vec<String> {
    let first_word = |text: &str| -> String {
        text.trim_start().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect()
    };
    let mut rooms = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            rooms.push(first_word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (at, letter) in list.char_indices() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    rooms.push(first_word(&list[start..at]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    rooms.push(first_word(&list[start..at]));
                    start = at + 1;
                }
                _ => {}
            }
        }
    }
    rooms.retain(|room| TABLE.iter().any(|(known, _)| known == room));
    rooms
}

#[test]
fn rooms_are_found_in_every_form_of_use() {
    assert_eq!(rooms_named("use crate::model::Batch; let x = crate::store::y();"), ["model", "store"]);
    assert_eq!(rooms_named("use crate::{api::{wire, x}, link,\n plugin::Y};"), ["api", "link", "plugin"]);
    assert_eq!(rooms_named("use super::model; use crate::unknown;"), Vec::<String>::new());
}

#[test]
fn every_room_uses_only_what_the_table_allows() {
    let mut broken = Vec::new();
    for file in source_files() {
        let Some((_, allowed)) = TABLE.iter().find(|(room, _)| *room == file.room) else {
            assert!(["main", "lib"].contains(&&*file.room), "src/{} belongs to no room of the table", file.name);
            continue;
        };
        for room in rooms_named(&file.code) {
            if room != file.room && !allowed.contains(&&*room) {
                broken.push(format!("src/{}: {} may not use {room}", file.name, file.room));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn one_room_alone_names_the_store_and_the_engine_of_webassembly() {
    let names = |code: &str, name: &str| {
        code.match_indices(name).any(|(at, _)| {
            let before = code[..at].chars().next_back().is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
            let rest = code[at + name.len()..].trim_start();
            !before && (rest.starts_with("::") || (code[..at].trim_end().ends_with("use") && rest.starts_with(';')))
        })
    };
    for (name, room) in CRATES {
        let found = source_files().into_iter().filter(|file| names(&file.code, name));
        let strangers: Vec<String> = found.filter(|file| file.room != room).map(|file| file.name).collect();
        assert!(strangers.is_empty(), "{name} belongs to src/{room}, and these name it too: {strangers:?}");
        assert!(source_files().iter().any(|file| file.room == room && names(&file.code, name)), "{name} is not found");
    }
}

/// An HTTP client that is made elsewhere goes through whatever proxy the environment names.
#[test]
fn one_function_makes_the_clients_of_http() {
    let makes = |code: &str| {
        ["Agent::config_builder", "new_with_defaults", "Agent::new", "ureq::agent(", "ureq::get(", "ureq::post("]
            .iter()
            .any(|way| code.contains(way))
    };
    let found = source_files().into_iter().filter(|file| !file.name.ends_with("tests.rs") && makes(&file.code));
    assert_eq!(found.map(|file| file.name).collect::<Vec<_>>(), ["files/outward.rs"]);
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = source_files()
        .into_iter()
        .filter(|file| file.lines > LINES_MAX)
        .map(|file| format!("src/{}: {} lines", file.name, file.lines))
        .collect();
    assert!(long.is_empty(), "more than {LINES_MAX} lines: {}", long.join(", "));
}

/// What only some files may say: elsewhere it would open a pipe, make a file that others can read, or quote a file in an error.
const WORDS: [(&[&str], &[&str]); 3] = [
    // The command line writes where its user says.
    (
        &["File::create", "OpenOptions", "fs::write(", "fs::create_dir"],
        &["files/private.rs", "files/given.rs", "cli/manual.rs", "cli/import.rs"],
    ),
    // It reads what its user names, too; the others read what the system makes.
    (
        &["fs::read(", "fs::read_to_string(", "File::open("],
        &[
            "files/private.rs",
            "cli/",
            "daemon/metrics/process.rs",
            "daemon/name.rs",
            "plugin/cache.rs",
            "store/open.rs",
            "api/access/audit.rs",
        ],
    ),
    (&["pki_types::pem", "parse_pem", "from_pem"], &["files/pem.rs", "cli/identity.rs"]),
];

#[test]
fn files_are_opened_and_parsed_in_one_place() {
    let mut found = Vec::new();
    for file in source_files().into_iter().filter(|file| !file.name.contains("tests")) {
        let code = file.code.split("#[cfg(test)]").next().unwrap_or_default();
        for (words, places) in WORDS {
            let is_allowed = places.iter().any(|place| file.name.starts_with(place));
            found.extend(
                words
                    .iter()
                    .filter(|word| !is_allowed && code.contains(**word))
                    .map(|word| format!("src/{}: {word}", file.name)),
            );
        }
    }
    assert!(found.is_empty(), "use src/files: {found:?}");
}

/// What was built for a version of the contract must run for ever: a change, even of a comment, is a new folder.
#[test]
fn the_frozen_contract_is_what_it_was() {
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit/0.1.0");
    let files: Vec<_> =
        fs::read_dir(&wit).expect("the contract").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(files, ["plugin.wit"]);
    let text = fs::read(wit.join("plugin.wit")).expect("the contract");
    let frozen = "sha256:4c5d58ae3f0a050d5e64d86c2de4f65a95fa78ce6d79bf5583f3b2d1434b40f4";
    assert_eq!(tidegate::model::Digest::of(&text).to_string(), frozen);
}

/// What cannot be encoded must be an error before anything is stored or sent, and what cannot be
/// decoded must not be taken for what is not there.
#[test]
fn nothing_is_stored_in_place_of_what_cannot_be_encoded() {
    let found: Vec<String> = source_files()
        .iter()
        .flat_map(|file| swallowed(&file.code).into_iter().map(|call| format!("src/{}: {call}", file.name)))
        .collect();
    assert!(found.is_empty(), "use model::encode, and hand its error on:\n{}", found.join("\n"));
}

/// The calls that encode or decode something and go on without it if that fails.
fn swallowed(code: &str) -> Vec<String> {
    const CALLS: [&str; 8] = [
        "serde_json::to_vec",
        "serde_json::to_string",
        "toml::to_string",
        "encode(",
        "assignment(",
        "subscription(",
        "serde_json::from_slice",
        "new_from_slice",
    ];
    const SWALLOWS: [&str; 6] =
        [".unwrap_or_default()", ".unwrap_or(", ".unwrap_or_else(|_| Vec::new())", ".ok()", ".map_or(", ".is_ok_and("];
    let text: String = code.split_whitespace().collect::<Vec<_>>().join(" ");
    // Tests may do what they like: they are the last thing in a file.
    let text = text.split("#[cfg(test)] mod tests").next().unwrap_or_default();
    let mut found = Vec::new();
    for call in CALLS {
        for (at, _) in text.match_indices(call) {
            let rest = &text[at..];
            let Some(after) = behind_call(rest) else { continue };
            let after = after.trim_start();
            if SWALLOWS.iter().any(|swallow| after.replace(" .", ".").starts_with(swallow)) {
                found.push(rest.chars().take(80).collect());
            }
        }
    }
    found
}

/// What stands behind the parentheses of a call.
fn behind_call(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ';' | '{' if depth == 0 => return None,
            _ => continue,
        }
        if depth == 0 {
            return text.get(at + 1..);
        }
    }
    None
}

#[test]
fn what_swallows_an_error_is_found_in_every_form() {
    for bad in [
        "let text = serde_json::to_vec(&genesis).unwrap_or_default();",
        "self.store(&key(epoch), &serde_json::to_vec(positions).unwrap_or_default())",
        "serde_json::to_vec(&Records { v: VERSION, records })\n    .unwrap_or_default()",
        "serde_json::to_vec::<T>(self).ok().map(Bytes::from)",
        "rows.insert(key, checkpoint.encode().unwrap_or_default());",
        "encode(\"it\", &(1, f(2))).unwrap_or(vec![])",
        "known.and_then(|bytes| serde_json::from_slice(&bytes).ok())",
    ] {
        assert_eq!(swallowed(bad).len(), 1, "{bad}");
    }
    for good in
        ["encode(\"it\", &x)?", "serde_json::to_vec(body).map_err(|error| error.to_string())?", "x.unwrap_or_default()"]
    {
        assert_eq!(swallowed(good), Vec::<String>::new(), "{good}");
    }
}
