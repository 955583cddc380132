//! Texts that are not TOML.

use super::{SAMPLE, check, parse, show};

const HELP: &str = "what stands behind this was not checked; is a bracket before it not closed?";

#[test]
fn syntax_errors_come_with_the_others() {
    check(
        "# ä\n[daemon]\nlisten = localhost\nport = 1\n[clusters.east]\nkind = \n[links.ä]\nlanes = 1\n[links.l]\nlanes = 0\nname = 'ü\ntopics = 1\n",
        &[
            "3:10 error : string values must be quoted, expected literal string",
            "4:1 error daemon.port: unknown key \"port\" | known here: data_dir, name, layout_max, listen, api, metadata, secrets_dir, log_format, metrics_partitions_max, otlp, limits, compile_memory, shutdown_timeout, definitions_insecure_plaintext, definitions_max",
            "6:8 error : string values must be quoted, expected literal string",
            &format!("7:8 error : invalid unquoted key, expected letters, numbers, `-`, `_` | {HELP}"),
        ],
    );
    check(
        "[links.l]\nlanes = 0\nname = 'ü\ntopics = 1\nsource = 'nowhere'\n",
        &[
            "2:9 error links.l.lanes: 0 is out of range: write a number from 1 to 1024",
            "3:10 error : invalid literal string, expected `'`",
            "4:10 error links.l.topics: expected an array of strings, found a whole number",
        ],
    );
}

#[test]
fn duplicates_are_errors_and_the_rest_is_read() {
    check(
        "[daemon]\nlisten = '127.0.0.1:1'\nlisten = '127.0.0.1:2'\n[clusters.east]\nkind = 'embedded'\n[clusters.east]\nkind = 'kafka'\n\
         [links.l]\nlanes = 0\n",
        &[
            "3:1 error : duplicate key listen",
            "6:11 error : duplicate key east",
            "7:1 error : duplicate key kind",
            "9:9 error links.l.lanes: 0 is out of range: write a number from 1 to 1024",
        ],
    );
}

#[test]
fn an_open_bracket_is_one_error() {
    check(
        &SAMPLE.replace("/audit\\\\..*/\"]", "/audit\\\\..*/\""),
        &[&format!("18:1 error : missing comma between array elements, expected `,` | {HELP}")],
    );
    check(
        &SAMPLE.replace("at_least = 100 }", "at_least = 100"),
        &[&format!("45:1 error : missing comma between key-value pairs, expected `,` | {HELP}")],
    );
    check(
        &SAMPLE.replace("[[links.orders.pipeline]]", "[[links.orders.pipeline]"),
        &[&format!("39:25 error : unclosed array table, expected `]` | {HELP}")],
    );
}

#[test]
fn a_character_that_is_missing_is_reported_where_it_is_missing() {
    let mut start = 0;
    for (number, line) in SAMPLE.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        for (at, _) in line.match_indices(['[', ']', '{', '}', '=', '"', ',']) {
            let mut text = SAMPLE.to_owned();
            text.remove(start + at);
            let Err(found) = parse(&text) else { continue };
            // An open bracket or string can be seen on the next line only.
            assert!((number..=number + 1).contains(&found[0].line), "{text}\n{}", show(&found));
            assert!(found.len() <= 2 && found.iter().all(|it| it.line <= number + 1), "{text}\n{}", show(&found));
        }
        start += line.len() + 1;
    }
}
