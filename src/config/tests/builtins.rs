//! What a link does without plugins.

use std::collections::BTreeMap;

use serde_json::json;

use crate::model::{Builtins, FilterSpec, TransformSpec};

use super::{CLUSTERS, check_with_clusters, config};

const LINK: &str = "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n";

fn builtins(tables: &str) -> Builtins {
    config(&format!("{LINK}{tables}\n{CLUSTERS}")).links["l"].builtins.clone()
}

#[test]
fn what_is_written_is_read() {
    let read = builtins(
        r#"
        [links.l.filter]
        enabled = true
        include_patterns = [".*important.*"]
        exclude_patterns = ".*test.*"
        filter_by_header = { region = "us-west-1", priority = "high" }
        min_timestamp = "2024-01-01T00:00:00Z"
        key_prefix = ["eu-", "uk-"]
        where = { and = [ { key_prefix = "eu-" }, { or = [ { header = "tier", equals = "premium" }, { not = { header = "replicate" } } ] } ] }
        [links.l.transform]
        enabled = true
        add_headers = { replicated_from = "us-west-1", at = "${now}", by = "${link}: ${source.cluster} to ${target.cluster} $${link}" }
        remove_headers = ["internal-id"]
        header_transforms = { region = "us-west-1 -> us-east-1", tier = ["1->2", " -> 1"] }
        "#,
    );
    // What is stored is in the shape of what is written, one or many always as many.
    let filter = json!({
        "include_patterns": [".*important.*"],
        "exclude_patterns": [".*test.*"],
        "filter_by_header": {"priority": "high", "region": "us-west-1"},
        "min_timestamp": 1_704_067_200_000_i64,
        "key_prefix": ["eu-", "uk-"],
        "where": {"and": [
            {"key_prefix": ["eu-"]},
            {"or": [{"header": "tier", "equals": "premium"}, {"not": {"header": "replicate"}}]},
        ]},
    });
    let transform = json!({
        "add_headers": {"at": "${now}", "by": "l: east to west $${link}", "replicated_from": "us-west-1"},
        "remove_headers": ["internal-id"],
        "header_transforms": {"region": ["us-west-1 -> us-east-1"], "tier": ["1 -> 2", " -> 1"]},
    });
    assert_eq!(serde_json::to_value(&read).expect("JSON"), json!({"filter": filter, "transform": transform}));
    assert_eq!(
        serde_json::from_value::<Builtins>(json!({"filter": filter, "transform": transform})).expect("read"),
        read
    );
}

#[test]
fn times_are_written_in_many_ways() {
    for time in ["1704067200000", "'2024-01-01T01:00:00+01:00'", "2024-01-01T00:00:00Z", "2024-01-01 00:00:00.000Z"] {
        let read = builtins(&format!("filter.min_timestamp = {time}"));
        assert_eq!(read.filter.and_then(|filter| filter.min_timestamp), Some(1_704_067_200_000), "{time}");
    }
}

#[test]
fn what_is_turned_off_or_says_nothing_is_not_there() {
    for tables in [
        "",
        "filter = { enabled = false, key_prefix = 'x' }\ntransform = { enabled = false, remove_headers = 'x' }",
        "filter = { enabled = true }\ntransform = {}",
        "filter = { include_patterns = [], key_prefix = [] }\ntransform = { add_headers = {} }",
    ] {
        assert_eq!(builtins(tables), Builtins::default(), "{tables}");
    }
    let one = builtins("filter.key_prefix = 'x'");
    assert_eq!(one.filter, Some(FilterSpec { key_prefix: vec!["x".to_owned()], ..FilterSpec::default() }));
    let add_headers = BTreeMap::from([("a".to_owned(), String::new())]);
    assert_eq!(
        builtins("transform.add_headers.a = ''").transform,
        Some(TransformSpec { add_headers, ..TransformSpec::default() })
    );
}

#[test]
fn every_error_of_a_filter_has_its_place() {
    let kinds = "write { key_prefix = \"eu-\" }, { header = \"tier\", equals = \"premium\" }, { and = [ … ] }, { or = [ … ] } or { not = { … } }";
    check_with_clusters(
        &format!(
            "{LINK}[links.l.filter]\nenabled = 1\ninclude_patterns = ['a', '(', '']\nexclude_patterns = 5\nfilter_by_header = {{ '' = 'x', a = 1 }}\n\
             min_timestamp = 'yesterday'\nkey_prefix = ['']\nheaders = {{}}\n\
             where = {{ and = [{{ or = [] }}, {{ header = '', key_prefix = 'a' }}, {{}}, {{ equals = 'x' }}, 7], nor = 1 }}\n"
        ),
        &[
            "6:11 error links.l.filter.enabled: expected true or false, found a whole number",
            "7:26 error links.l.filter.include_patterns[1]: not a regular expression: unclosed group",
            "7:31 error links.l.filter.include_patterns[2]: it is empty",
            "8:20 error links.l.filter.exclude_patterns: expected a string or an array of strings, found a whole number",
            "9:22 error links.l.filter.filter_by_header.\"\": a header has a name",
            "9:36 error links.l.filter.filter_by_header.a: expected a string, found a whole number",
            "10:17 error links.l.filter.min_timestamp: \"yesterday\" is not a time: write it like \"2024-01-01T00:00:00Z\", or as milliseconds since 1970",
            "11:15 error links.l.filter.key_prefix[0]: it is empty",
            "12:1 error links.l.filter.headers: unknown key \"headers\" | known here: enabled, include_patterns, exclude_patterns, \
             filter_by_header, min_timestamp, key_prefix, where",
            "13:25 error links.l.filter.where.and[0].or: it is empty",
            &format!("13:31 error links.l.filter.where.and[1]: a condition is one thing | {kinds}"),
            "13:42 error links.l.filter.where.and[1].header: it is empty",
            &format!("13:66 error links.l.filter.where.and[2]: there is no condition here | {kinds}"),
            &format!("13:70 error links.l.filter.where.and[3]: there is no condition here | {kinds}"),
            "13:81 error links.l.filter.where.and[3].equals: \"equals\" belongs to a \"header\"",
            "13:88 error links.l.filter.where.and[4]: expected a table, found a whole number",
            "13:92 error links.l.filter.where.nor: unknown key \"nor\" | did you mean \"not\"?",
        ],
    );
}

#[test]
fn every_error_of_a_transform_has_its_place() {
    let variables = "there are ${now}, ${link}, ${source.cluster}, ${target.cluster}, ${topic}, ${partition}, ${offset}, ${timestamp}; $${ stands for ${";
    check_with_clusters(
        &format!(
            "{LINK}[links.l.transform]\nadd_headers = {{ a = '${{nwo}}', b = '${{now', c = 1, '' = 'x' }}\nremove_headers = ['r', 1]\n\
             header_transforms = {{ r = 'a -> b', s = ['a', 'a -> b -> c', 'x -> y', 'x->z'], t = {{}} }}\n"
        ),
        &[
            &format!("6:21 error links.l.transform.add_headers.a: there is no variable ${{nwo}}: {variables}"),
            "6:35 error links.l.transform.add_headers.b: behind ${ stands the name of a variable, and }",
            "6:48 error links.l.transform.add_headers.c: expected a string, found a whole number",
            "6:51 error links.l.transform.add_headers.\"\": a header has a name",
            "7:24 error links.l.transform.remove_headers[1]: expected a string, found a whole number",
            "8:21 error links.l.transform.header_transforms: header \"r\" is removed before its values could become others | take it out of one of them",
            "8:42 error links.l.transform.header_transforms.s[0]: \"a\" is not a mapping: write \"old -> new\", with one arrow",
            "8:47 error links.l.transform.header_transforms.s[1]: \"a -> b -> c\" is not a mapping: write \"old -> new\", with one arrow",
            "8:72 error links.l.transform.header_transforms.s[3]: \"x\" becomes something else already",
            "8:85 error links.l.transform.header_transforms.t: expected a string or an array of strings, found a table",
        ],
    );
}

/// Links rely on what these headers say, so no configuration touches them.
#[test]
fn reserved_headers_are_nobodys_to_remove_to_change_or_to_add() {
    let error = |at: &str, path: &str, name: &str| {
        format!(
            "{at} error links.l.transform.{path}: header {name:?} is reserved: only Tidegate writes names that begin with \"tidegate.\" \
             | choose a header with another name"
        )
    };
    check_with_clusters(
        &format!(
            "{LINK}[links.l.transform]\nremove_headers = ['tidegate', 'tidegate.via']\n\
             add_headers = {{ 'tidegate.dlq.link' = 'x', 'Tidegate.via' = 'x' }}\nheader_transforms = {{ 'tidegate.new' = 'a -> b' }}\n"
        ),
        &[
            &error("6:31", "remove_headers[1]", "tidegate.via"),
            &error("7:17", "add_headers.\"tidegate.dlq.link\"", "tidegate.dlq.link"),
            &error("8:23", "header_transforms.\"tidegate.new\"", "tidegate.new"),
        ],
    );
}

#[test]
fn nothing_grows_without_bounds() {
    let large = "(\\w{99}){99}";
    let message = "the regular expression is too large: write a simpler one";
    check_with_clusters(
        &format!("{LINK}filter.include_patterns = ['{large}']\n"),
        &[&format!("5:28 error links.l.filter.include_patterns[0]: {message}")],
    );
    let many = vec!["'\\w{10}'"; 40].join(", ");
    check_with_clusters(
        &format!("{LINK}filter.exclude_patterns = [{many}]\n"),
        &[
            "5:27 error links.l.filter.exclude_patterns: the regular expressions are too large together: write simpler ones",
        ],
    );
    let nested =
        |depth: usize| format!("filter.where = {}{{ header = 'a' }}{}", "{ not = ".repeat(depth), " }".repeat(depth));
    assert!(builtins(&nested(15)).filter.is_some());
    check_with_clusters(
        &format!("{LINK}{}\n", nested(16)),
        &[&format!(
            "5:144 error links.l.filter.where{}: nested too deeply: 16 levels are the limit",
            ".not".repeat(16)
        )],
    );
    let value = |bytes: usize| format!("transform.add_headers = {{ name = '${{topic}}{}' }}", "x".repeat(bytes));
    let most = (16 << 10) - "name".len() - 249;
    assert!(builtins(&value(most)).transform.is_some());
    check_with_clusters(
        &format!("{LINK}{}\n", value(most + 1)),
        &["5:25 error links.l.transform.add_headers: the headers are too large: 16384 bytes together are the limit"],
    );
}
