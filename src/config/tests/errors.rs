//! Texts that are TOML, and wrong.

use std::path::Path;

use crate::config::{Config, Severity};

use super::{CLUSTERS, base_dir, check, check_with_clusters, parse, show};

/// A link without a fault, of five lines. More of it can follow.
const LINK: &str = "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n\n";

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    check_with_clusters(
        "[deamon]\n[links.l]\nsuorce = 'east'\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\nconfig = { batchsize = 1, x = 2 }\n\
         [daemon]\nport = 1\n[clusters.north]\nkind = 'embedded'\nfile = 'x'\ntopics.t.partition = 1\n",
        &[
            "1:2 error deamon: unknown key \"deamon\" | did you mean \"daemon\"?",
            "3:1 error links.l.suorce: unknown key \"suorce\" | did you mean \"source\"?",
            "7:12 error links.l.config.batchsize: unknown key \"batchsize\" | did you mean \"batch_size\"?",
            "7:27 error links.l.config.x: unknown key \"x\" | known here: enable_idempotence, concurrent_partitions, \
             enable_compression, compression_type, compression_level, batch_size, max_bytes, max_messages, checkpoint_interval_ms, \
             throttle_rate_bytes_per_sec, enable_exactly_once, isolation_level, transaction_timeout_ms",
            "9:1 error daemon.port: unknown key \"port\" | known here: data_dir, name, layout_max, listen, api, metadata, secrets_dir, log_format, metrics_partitions_max, otlp, limits, compile_memory, shutdown_timeout, definitions_insecure_plaintext, definitions_max",
            "12:1 error clusters.north.file: unknown key \"file\" | known here: kind, path, compression, compression_level, topics",
            "13:10 error clusters.north.topics.t.partition: unknown key \"partition\" | did you mean \"partitions\"?",
        ],
    );
}

#[test]
fn unknown_keys_of_a_stage_are_errors() {
    check_with_clusters(
        &format!(
            "{LINK}[[links.l.pipeline]]\nstage = 's'\nplugin = 'plugins/redact.wasm'\nlimit = {{}}\nlimits = {{ mem = 1 }}\n"
        ),
        &[
            "9:1 error links.l.pipeline[0].limit: unknown key \"limit\" | did you mean \"limits\"?",
            "10:12 error links.l.pipeline[0].limits.mem: unknown key \"mem\" | known here: time_ms, record_time_ms, memory, \
             table_elements, instances, handles, output_bytes, records_per_input, host_calls_per_record, log_lines_per_s, metric_names, \
             state_bytes, component_bytes",
        ],
    );
}

#[test]
fn how_a_link_moves_records_is_looked_at() {
    check_with_clusters(
        &format!(
            "{LINK}lanes = 2\n[links.l.config]\nconcurrent_partitions = 10\nenable_compression = true\ncompression_level = 23\n\
             throttle_rate_bytes_per_sec = 1\nenable_idempotence = false\n"
        ),
        &[
            "8:25 error links.l.config.concurrent_partitions: \"lanes\" of the link says the same: write one of the two",
            "10:21 error links.l.config.compression_level: 23 is out of range: write a number from 1 to 22",
            "11:31 error links.l.config.throttle_rate_bytes_per_sec: 1 is out of range: write a size from 1KiB to 1024GiB",
            "12:22 warning links.l.config.enable_idempotence: this changes nothing: records are always written idempotently | remove it",
        ],
    );
}

#[test]
fn values_that_nobody_knows_get_a_suggestion() {
    check_with_clusters(
        &format!(
            "{LINK}type = 'active_passive'\nstart = 'oldest'\nbreaker.then = 'stop'\n[[links.l.pipeline]]\nstage = 's'\n\
             plugin = 'plugins/redact.wasm'\non_error = 'dead-letters'\n[clusters.k]\nkind = 'embeded'\n"
        ),
        &[
            "6:8 error links.l.type: \"active_passive\" is not known here | did you mean \"active-passive\"?",
            "7:9 error links.l.start: \"oldest\" is not known here | known here: earliest, latest",
            "8:16 error links.l.breaker.then: \"stop\" is not known here | known here: pause, rollback",
            "12:12 error links.l.pipeline[0].on_error: \"dead-letters\" is not known here | did you mean \"dead-letter\"?",
            "14:8 error clusters.k.kind: \"embeded\" is not known here | did you mean \"embedded\"?",
        ],
    );
}

#[test]
fn wrong_types_say_what_was_found_and_what_is_expected() {
    check(
        "[daemon]\ndata_dir = 1\nlisten = 8081\n[links.l]\nname = 1979-05-27\nsource = ['east']\ntarget = true\ntopics = 't'\nlanes = '2'\n\
         autostart = 1\nconfig = []\npipeline = {}\n[links.m]\nsource = 1.5\ntarget = 2\ntopics = ['t', 3]\npipeline = [1]\n\
         config = { max_bytes = true, batch_size = 1.0 }\n[clusters]\neast = 'embedded'\nwest = { kind = 1, topics.t.retention = 7 }\n",
        &[
            "2:12 error daemon.data_dir: expected a string, found a whole number",
            "3:10 error daemon.listen: expected a string, found a whole number",
            "5:8 error links.l.name: expected a string, found a date",
            "6:10 error links.l.source: expected a string, found an array",
            "7:10 error links.l.target: expected a string, found true or false",
            "8:10 error links.l.topics: expected an array of strings, found a string",
            "9:9 error links.l.lanes: expected a whole number, found a string",
            "10:13 error links.l.autostart: expected true or false, found a whole number",
            "11:10 error links.l.config: expected a table, found an array",
            "12:12 error links.l.pipeline: expected an array of tables, each under [[ ]], found a table",
            "14:10 error links.m.source: expected a string, found a number with a fraction",
            "15:10 error links.m.target: expected a string, found a whole number",
            "16:16 error links.m.topics[1]: expected a string, found a whole number",
            "17:13 error links.m.pipeline[0]: expected a table, found a whole number",
            "18:24 error links.m.config.max_bytes: expected a size: a number of bytes, or a string like \"64MiB\", found true or false",
            "18:43 error links.m.config.batch_size: expected a whole number, found a number with a fraction",
            "20:8 error clusters.east: expected a table, found a string",
            "21:17 error clusters.west.kind: expected a string, found a whole number",
            "21:41 error clusters.west.topics.t.retention: expected a duration: a string like \"7d\", found a whole number",
        ],
    );
    check(
        "daemon = 1\nclusters = 2\nlinks = 3\n",
        &[
            "1:10 error daemon: expected a table, found a whole number",
            "2:12 error clusters: expected a table, found a whole number",
            "3:9 error links: expected a table, found a whole number",
        ],
    );
}

#[test]
fn values_out_of_range_say_the_range() {
    check_with_clusters(
        "[daemon]\nlayout_max = 4\n",
        &["2:14 error daemon.layout_max: 4 is out of range: write a number from 1 to 3"],
    );
    check_with_clusters(
        &format!(
            "{LINK}lanes = 0\n[links.l.config]\nbatch_size = 100_001\nmax_bytes = '1023B'\nmax_messages = -1\ncheckpoint_interval_ms = 0x1_0000\n\
             [[links.l.pipeline]]\nstage = 's'\nplugin = 'plugins/redact.wasm'\n\
             limits = {{ memory = 1024, time_ms = 60001, output_bytes = '2GiB', log_lines_per_s = 99999999999999999999999 }}\n\
             [clusters.c]\nkind = 'embedded'\ncompression_level = 23\ntopics.t = {{ partitions = 0, retention = '7w', retention_bytes = '10G' }}\n"
        ),
        &[
            "6:9 error links.l.lanes: 0 is out of range: write a number from 1 to 1024",
            "8:14 error links.l.config.batch_size: 100001 is out of range: write a number from 1 to 100000",
            "9:13 error links.l.config.max_bytes: 1023B is out of range: write a size from 1KiB to 1GiB",
            "10:16 error links.l.config.max_messages: -1 is out of range: write a number from 1 to 4294967295",
            "11:26 error links.l.config.checkpoint_interval_ms: 0x10000 is out of range: write a number from 1 to 60000",
            "15:21 error links.l.pipeline[0].limits.memory: 1024 is out of range: write a size from 1MiB to 4GiB",
            "15:37 error links.l.pipeline[0].limits.time_ms: 60001 is out of range: write a number from 1 to 60000",
            "15:59 error links.l.pipeline[0].limits.output_bytes: 2GiB is out of range: write a size from 1KiB to 1GiB",
            "15:85 error links.l.pipeline[0].limits.log_lines_per_s: 99999999999999999999999 is out of range: write a number from 0 to 100000",
            "18:21 error clusters.c.compression_level: 23 is out of range: write a number from 1 to 22",
            "19:27 error clusters.c.topics.t.partitions: 0 is out of range: write a number from 1 to 10000",
            "19:42 error clusters.c.topics.t.retention: \"7w\" is not a duration: write a whole number and one of ms, s, m, h, d, like \"7d\"",
            "19:66 error clusters.c.topics.t.retention_bytes: \"10G\" is not a size: write a whole number and one of B, KB, MB, GB, KiB, MiB, \
             GiB, TiB, like \"64MiB\"",
        ],
    );
}

#[test]
fn limits_out_of_range_say_the_range() {
    check_with_clusters(
        "[daemon.limits]\ntime_ms = 0\nrecord_time_ms = 60_001\nmemory = '5GiB'\ntable_elements = 0\ninstances = 1001\nhandles = 0\n\
         output_bytes = 1023\nrecords_per_input = 0\nhost_calls_per_record = 0\nlog_lines_per_s = 100_001\nmetric_names = -1\n\
         state_bytes = '1TiB'\ncomponent_bytes = '65MiB'\n",
        &[
            "2:11 error daemon.limits.time_ms: 0 is out of range: write a number from 1 to 60000",
            "3:18 error daemon.limits.record_time_ms: 60001 is out of range: write a number from 1 to 60000",
            "4:10 error daemon.limits.memory: 5GiB is out of range: write a size from 1MiB to 4GiB",
            "5:18 error daemon.limits.table_elements: 0 is out of range: write a number from 1 to 10000000",
            "6:13 error daemon.limits.instances: 1001 is out of range: write a number from 1 to 1000",
            "7:11 error daemon.limits.handles: 0 is out of range: write a number from 1 to 1000000",
            "8:16 error daemon.limits.output_bytes: 1023 is out of range: write a size from 1KiB to 1GiB",
            "9:21 error daemon.limits.records_per_input: 0 is out of range: write a number from 1 to 1000000",
            "10:25 error daemon.limits.host_calls_per_record: 0 is out of range: write a number from 1 to 1000000",
            "11:19 error daemon.limits.log_lines_per_s: 100001 is out of range: write a number from 0 to 100000",
            "12:16 error daemon.limits.metric_names: -1 is out of range: write a number from 0 to 10000",
            "13:15 error daemon.limits.state_bytes: 1TiB is out of range: write a size from 1KiB to 64GiB",
            "14:19 error daemon.limits.component_bytes: 65MiB is out of range: write a size from 1KiB to 64MiB",
        ],
    );
}

#[test]
fn a_record_with_more_time_than_its_batch_is_an_error() {
    let stage = "[[links.l.pipeline]]\nstage = 's'\nplugin = 'plugins/redact.wasm'\n";
    check_with_clusters(
        &format!("{LINK}{stage}limits = {{ time_ms = 10, record_time_ms = 11 }}\n"),
        &[
            "9:43 error links.l.pipeline[0].limits.record_time_ms: a record would have 11 ms, and its whole batch 10 ms | \
           write 10 at most, or raise \"time_ms\"",
        ],
    );
    // The batch's time may be the daemon's, and one that is wrong is not compared with.
    check_with_clusters(
        &format!("daemon.limits.time_ms = 20\n{LINK}{stage}limits.record_time_ms = 21\n"),
        &[
            "10:25 error links.l.pipeline[0].limits.record_time_ms: a record would have 21 ms, and its whole batch 20 ms | \
           write 20 at most, or raise \"time_ms\"",
        ],
    );
    check_with_clusters(
        &format!("{LINK}{stage}limits = {{ time_ms = 0, record_time_ms = 5000 }}\n"),
        &["9:22 error links.l.pipeline[0].limits.time_ms: 0 is out of range: write a number from 1 to 60000"],
    );
}

#[test]
fn breaker_and_probation_have_their_ranges() {
    check_with_clusters(
        &format!(
            "{LINK}config.transaction_timeout_ms = 9999\n[links.l.breaker]\nwindow_records = 99\nrejected_percent = 101\ntrapped_percent = -1\n\
             if = 1\n[links.l.probation]\nrecords = 1_000_000_001\ntime = '999ms'\nrejected_percent = 101\ntrapped_percent = 1.5\n\
             slowdown = 1\nfor = 1\n[links.m]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\nprobation.time = '31d'\n\
             config.transaction_timeout_ms = 900_001\n"
        ),
        &[
            "6:33 error links.l.config.transaction_timeout_ms: 9999 is out of range: write a number from 10000 to 900000",
            "8:18 error links.l.breaker.window_records: 99 is out of range: write a number from 100 to 10000000",
            "9:20 error links.l.breaker.rejected_percent: 101 is out of range: write a number from 0 to 100",
            "10:19 error links.l.breaker.trapped_percent: -1 is out of range: write a number from 0 to 100",
            "11:1 error links.l.breaker.if: unknown key \"if\" | known here: window_records, rejected_percent, trapped_percent, then",
            "13:11 error links.l.probation.records: 1000000001 is out of range: write a number from 0 to 1000000000",
            "14:8 error links.l.probation.time: 999ms is out of range: write a duration from 1s to 30d",
            "15:20 error links.l.probation.rejected_percent: 101 is out of range: write a number from 0 to 100",
            "16:19 error links.l.probation.trapped_percent: expected a whole number, found a number with a fraction",
            "17:12 error links.l.probation.slowdown: 1 is out of range: write a number from 2 to 1000",
            "18:1 error links.l.probation.for: unknown key \"for\" | known here: records, time, rejected_percent, trapped_percent, slowdown",
            "23:18 error links.m.probation.time: 31d is out of range: write a duration from 1s to 30d",
            "24:33 error links.m.config.transaction_timeout_ms: 900001 is out of range: write a number from 10000 to 900000",
        ],
    );
}

#[test]
fn dead_letters_go_to_a_topic() {
    check_with_clusters(
        &format!(
            "{LINK}dead_letters = 'a b'\n[links.m]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\ndead_letters = ''\n"
        ),
        &[
            "6:16 error links.l.dead_letters: a topic's name cannot have ' ': letters, digits, dot, underscore and hyphen are allowed",
            "11:16 error links.m.dead_letters: a topic's name has 1 to 249 characters and is neither . nor ..",
        ],
    );
}

#[test]
fn what_is_missing_is_shown_at_its_table() {
    check(
        "# Übersicht\n[clusters.east]\n\n[links.orders]\n[[links.orders.pipeline]]\n",
        &[
            "2:1 error clusters.east: \"kind\" is missing | write kind = \"embedded\" or kind = \"kafka\"",
            "4:1 error links.orders: \"source\" is missing | write source = \"the id of a cluster\"",
            "4:1 error links.orders: \"target\" is missing | write target = \"the id of a cluster\"",
            "4:1 error links.orders: \"topics\" is missing | write topics = [\"a-topic\", \"/a regular expression/\"]",
            "5:1 error links.orders.pipeline[0]: \"stage\" is missing | write stage = \"a-name\"",
            "5:1 error links.orders.pipeline[0]: \"plugin\" is missing | write plugin = \"path/to/plugin.wasm\"",
        ],
    );
}

#[test]
fn source_and_target_are_clusters() {
    check_with_clusters(
        "[links.l]\nsource = 'eats'\ntarget = 'Frankfurt'\ntopics = ['t']\n",
        &[
            "2:10 error links.l.source: there is no cluster \"eats\" | did you mean \"east\"?",
            "3:10 error links.l.target: there is no cluster \"Frankfurt\" | known here: east, west",
        ],
    );
    check(
        "[links.l]\nsource = 'a'\ntarget = 'b'\ntopics = ['t']\n",
        &[
            "2:10 error links.l.source: there is no cluster \"a\" | write a table [clusters.a]",
            "3:10 error links.l.target: there is no cluster \"b\" | write a table [clusters.b]",
        ],
    );
}

#[test]
fn a_link_to_a_cluster_with_an_error_says_nothing_of_its_own() {
    check(
        "[clusters.east]\nkind = 'x'\n[clusters.west]\nkind = 'embedded'\n[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']",
        &["2:8 error clusters.east.kind: \"x\" is not known here | known here: embedded, kafka"],
    );
}

#[test]
fn topics_are_names_or_expressions() {
    check_with_clusters(
        "[links.l]\nsource = 'east'\ntarget = 'west'\ntopic_prefix = 'ä'\ntopics = ['ö', '/(/', 'orders.*', 't', 't', '/x', '/ü+/', '/ü+/']\n\
         [links.m]\nsource = 'east'\ntarget = 'west'\ntopics = []\n",
        &[
            "4:16 error links.l.topic_prefix: a topic's name cannot have 'ä': letters, digits, dot, underscore and hyphen are allowed",
            "5:11 error links.l.topics[0]: a topic's name cannot have 'ö': letters, digits, dot, underscore and hyphen are allowed",
            "5:16 error links.l.topics[1]: not a regular expression: unclosed group",
            "5:23 error links.l.topics[2]: a topic's name cannot have '*': letters, digits, dot, underscore and hyphen are allowed | \
             a regular expression stands between two slashes",
            "5:40 error links.l.topics[4]: \"t\" occurs twice",
            "5:45 error links.l.topics[5]: a regular expression stands between two slashes, like \"/audit\\\\..*/\"",
            "5:59 error links.l.topics[7]: \"/ü+/\" occurs twice",
            "9:10 error links.m.topics: the link reads nothing: write one topic at least",
        ],
    );
}

#[test]
fn a_prefix_that_makes_a_name_too_long_is_an_error() {
    let text = |prefix: usize| {
        format!(
            "[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['0123456789']\ntopic_prefix = '{}'\n",
            "p".repeat(prefix)
        )
    };
    check_with_clusters(&text(239), &[]);
    let message = "4:11 error links.l.topics[0]: in the target the name is longer than 249 characters";
    check_with_clusters(&text(240), &[message]);
}

#[test]
fn ids_and_names_have_their_letters() {
    let long = "x".repeat(64);
    check_with_clusters(
        &format!(
            "[links.\"ein link\"]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[links.{long}]\nsource = 'east'\ntarget = 'west'\n\
             topics = ['t']\n[links.l]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n[[links.l.pipeline]]\nstage = 'Mask'\n\
             plugin = 'plugins/redact.wasm'\n[clusters.\"..\"]\nkind = 'embedded'\n[clusters.n]\nkind = 'embedded'\ntopics.\"a b\" = {{}}\n"
        ),
        &[
            "1:8 error links.\"ein link\": \"ein link\" is not an id of a link: use 1 to 63 letters, digits, dots, underscores and hyphens",
            &format!(
                "5:8 error links.{long}: \"{long}\" is not an id of a link: use 1 to 63 letters, digits, dots, underscores and hyphens"
            ),
            "14:9 error links.l.pipeline[0].stage: \"Mask\" is not a name of a stage: use 1 to 63 lower-case letters, digits and hyphens",
            "16:11 error clusters.\"..\": \"..\" is not an id of a cluster: use 1 to 63 letters, digits, dots, underscores and hyphens",
            "20:8 error clusters.n.topics.\"a b\": a topic's name cannot have ' ': letters, digits, dot, underscore and hyphen are allowed",
        ],
    );
}

#[test]
fn two_clusters_do_not_share_a_file() {
    check(
        "[daemon]\ndata_dir = 'd'\n[clusters.west]\nkind = 'embedded'\n[clusters.east]\nkind = 'embedded'\npath = 'x/../d/west.redb'\n",
        &[
            "7:8 error clusters.east.path: cluster \"west\" has the same file BASE/x/../d/west.redb | give each cluster a path of its own",
        ],
    );
}

#[test]
fn a_retention_is_written_once() {
    check(
        "[clusters.c]\nkind = 'embedded'\ntopics.t = { retention = '7d', retention_ms = 1 }\n",
        &["3:26 error clusters.c.topics.t.retention: \"retention_ms\" says the same: write one of the two"],
    );
}

#[test]
fn stages_of_a_link_have_different_names() {
    let stage = "[[links.l.pipeline]]\nstage = 's'\nplugin = 'plugins/redact.wasm'\n";
    check_with_clusters(
        &format!("{LINK}{stage}{stage}"),
        &[
            "10:9 error links.l.pipeline[1].stage: stage \"s\" occurs twice | give each stage of the link a name of its own",
        ],
    );
}

#[test]
fn plugins_are_files_that_can_be_read() {
    let help = "the path is relative to the configuration file; build the plugin, or correct the path";
    check_with_clusters(
        &format!(
            "{LINK}[[links.l.pipeline]]\nstage = 'a'\nplugin = 'plugins/none.wasm'\n[[links.l.pipeline]]\nstage = 'b'\nplugin = 'plugins'\n\
             [[links.l.pipeline]]\nstage = 'c'\nplugin = ''\n"
        ),
        &[
            &format!(
                "8:10 error links.l.pipeline[0].plugin: cannot read BASE/plugins/none.wasm: No such file or directory (os error 2) | {help}"
            ),
            &format!(
                "11:10 error links.l.pipeline[1].plugin: cannot read BASE/plugins: it is a directory, not a regular file | {help}"
            ),
            "14:10 error links.l.pipeline[2].plugin: expected a path",
        ],
    );
}

#[test]
fn a_pinned_plugin_has_its_digest() {
    let wrong = format!("sha256:{}", "0".repeat(64));
    check_with_clusters(
        &format!(
            "{LINK}[[links.l.pipeline]]\nstage = 'a'\nplugin = 'plugins/redact.wasm'\ndigest = '{wrong}'\n\
             [[links.l.pipeline]]\nstage = 'b'\nplugin = 'plugins/redact.wasm'\ndigest = 'md5:0'\n"
        ),
        &[
            "9:10 error links.l.pipeline[0].digest: BASE/plugins/redact.wasm has another digest | if the new file is the one you want, \
             write digest = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
            "13:10 error links.l.pipeline[1].digest: not a digest: write sha256: and 64 hexadecimal digits",
        ],
    );
}

#[test]
fn a_plugins_configuration_holds_what_json_can_hold() {
    check_with_clusters(
        &format!(
            "{LINK}[[links.l.pipeline]]\nstage = 'a'\nplugin = 'plugins/redact.wasm'\nconfig = {{ a = [nan, inf], b = 9223372036854775808 }}\n\
             [[links.l.pipeline]]\nstage = 'b'\nplugin = 'plugins/redact.wasm'\nconfig = 1\n\
             [[links.l.pipeline]]\nstage = 'c'\nplugin = 'plugins/redact.wasm'\nconfig.a = {}1{}\n",
            "[".repeat(64),
            "]".repeat(64)
        ),
        &[
            "9:17 error links.l.pipeline[0].config.a[0]: JSON has no number for nan",
            "9:22 error links.l.pipeline[0].config.a[1]: JSON has no number for inf",
            "9:32 error links.l.pipeline[0].config.b: 9223372036854775808 does not fit a 64-bit integer",
            "13:10 error links.l.pipeline[1].config: expected a table, found a whole number",
            &format!(
                "17:76 error links.l.pipeline[2].config.a{}: nested too deeply: 64 levels are the limit",
                "[0]".repeat(64)
            ),
        ],
    );
}

#[test]
fn an_address_has_a_port() {
    check(
        &format!("[daemon]\nlisten = 'localhost'{CLUSTERS}"),
        &[
            "2:10 error daemon.listen: \"localhost\" is not an address and a port: write them like \"127.0.0.1:8081\" or \"[::1]:8081\"",
        ],
    );
}

#[test]
fn what_can_be_used_with_care_is_a_warning() {
    let text = format!("\n{LINK}config.enable_exactly_once = false\n{CLUSTERS}");
    let (config, warnings) = parse(&text).expect("settings");
    assert!(!config.links["l"].config.enable_exactly_once);
    assert!(warnings.iter().all(|it| it.severity == Severity::Warning));
    let expected = "7:30 warning links.l.config.enable_exactly_once: this changes nothing: an embedded cluster commits output and checkpoint \
         together anyway | remove it";
    assert_eq!(show(&warnings), expected);
    let empty = "1:1 warning : there is no cluster, so the daemon has nothing to do | write a table [clusters.east] with kind = \"embedded\"";
    check("", &[empty]);
}

#[test]
fn warnings_come_with_the_errors_in_the_order_of_the_file() {
    let found = parse("[daemon]\nx = 1\n[links.l.config]\nenable_idempotence = false\n[y]").expect_err("errors");
    let places: Vec<_> = found.iter().map(|it| (it.line, it.severity)).collect();
    assert!(places.is_sorted_by_key(|(line, _)| line), "{places:?}");
    assert!(places.contains(&(2, Severity::Error)) && places.contains(&(4, Severity::Warning)), "{places:?}");
}

#[test]
fn a_data_file_is_not_answered_line_by_line() {
    assert_eq!(parse(&"2024-01-01 12:00 GET /\n".repeat(20_000)).expect_err("errors").len(), 1000);
    std::fs::write(base_dir().join("large.toml"), "#".repeat(1 << 20) + "#").expect("file");
    let found = Config::load(&base_dir().join("large.toml")).expect_err("an error");
    assert!(found[0].message.contains("it has more than 1024 KiB"), "{}", found[0]);
}

#[test]
fn files_that_cannot_be_read_say_what_to_do() {
    let load = |name: &str| Config::load(&base_dir().join(name)).expect_err("an error")[0].to_string();
    let base = base_dir().display().to_string();
    let missing = format!(
        "{base}/none.toml: error: cannot read the configuration: No such file or directory (os error 2)\n  \
         = help: write tidegate.toml in the current directory, or name another file with --config"
    );
    assert_eq!(load("none.toml"), missing);
    assert!(load("plugins").contains("is a directory"));
    assert_eq!(Config::load(Path::new("")).expect_err("an error")[0].line, 0);

    std::fs::write(base_dir().join("latin1.toml"), b"a = 1\nb = '\xc3\xbc\xfc'\n").expect("file");
    let latin1 = format!("{base}/latin1.toml:2:7: error: not UTF-8 from here on\n  = help: save the file as UTF-8");
    assert_eq!(load("latin1.toml"), latin1);
}

/// A failback would wait for ever for an id that somebody else has, and so would a reverse way.
#[test]
fn ids_of_links_that_the_daemon_makes_are_not_for_others() {
    let help =
        "the daemon makes such links itself: choose an id that ends neither with .reverse nor with .back and a number";
    for (id, said) in [
        ("l.back1", Some("is the id of a link on which \"l\" fails back")),
        ("l.back17", Some("is the id of a link on which \"l\" fails back")),
        ("l.back1.back2", Some("is the id of a link on which \"l.back1\" fails back")),
        ("l.reverse", Some("is the id of the reverse way of \"l\"")),
        ("l.back", None),
        ("l.back1x", None),
        ("l.back01", None),
        ("lback1", None),
        ("reverse", None),
    ] {
        let text = format!("[links.\"{id}\"]\nsource = 'east'\ntarget = 'west'\ntopics = ['t']\n");
        let expected = said.map(|said| format!("1:8 error links.\"{id}\": \"{id}\" {said} | {help}"));
        check_with_clusters(&text, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
