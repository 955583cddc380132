//! How deep something is nested is chosen by whoever writes it: no way in goes down with it. Each is tried on a thread with a small stack.

use std::path::Path;
use std::thread;

use serde_json::json;
use tidegate::config::Config;
use tidegate::link::revision::History;
use tidegate::model::{Checkpoint, StateHead};

use crate::harness::{LINKS, Site, percent_encoded};

/// Less than any thread of the daemon has.
const STACK_BYTES: usize = 768 << 10;

const DEPTHS: [usize; 5] = [30, 79, 130, 3_000, 200_000];

fn nested(depth: usize, open: &str, within: &str, close: &str) -> String {
    [&open.repeat(depth), within, &close.repeat(depth)].concat()
}

fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(STACK_BYTES).spawn(body).expect("a thread");
    thread.join().expect("it ends well");
}

const HEAD: &str = "[clusters.east]\nkind = 'embedded'\n[clusters.west]\nkind = 'embedded'\n\
    [links.l]\nsource = 'east'\ntarget = 'west'\n";

/// What of a configuration file can be nested.
fn files(depth: usize) -> Vec<String> {
    let stage = "topics = ['t']\n[[links.l.pipeline]]\nstage = 's'\nplugin = 'p.wasm'\nconfig.a = ";
    let dotted = vec!["a"; depth].join(".");
    vec![
        format!("x = {}", nested(depth, "[", "", "]")),
        format!("x = {}", nested(depth, "{ a = ", "1", " }")),
        format!("x = {}", nested(depth, "[{ a = ", "1", " }]")),
        format!("{dotted} = 1"),
        format!("[{dotted}]\n{dotted} = {}", nested(depth.min(70), "{ a = ", "1", " }")),
        format!("[[{dotted}]]"),
        nested(depth, "[a]\n", "", ""),
        format!("{HEAD}topics = ['/{}/']", nested(depth, "(", "a", ")")),
        format!("{HEAD}topics = ['/{}/']", nested(depth, "(?:", "a", ")*")),
        format!("{HEAD}topics = ['/{}/']", nested(depth, "[", "a", "]")),
        format!("{HEAD}topics = ['t']\nfilter.where = {}", nested(depth, "{ not = ", "{ header = 'a' }", " }")),
        format!("{HEAD}topics = ['t']\nfilter.where = {}", nested(depth, "{ and = [", "{ header = 'a' }", "] }")),
        format!("{HEAD}topics = ['t']\nfilter.include_patterns = ['{}']", nested(depth, "(", "a", ")")),
        format!("{HEAD}{stage}{}", nested(depth, "[", "1", "]")),
        format!("{HEAD}{stage}{}", nested(depth, "{ a = ", "1", " }")),
    ]
}

#[test]
fn no_configuration_file_is_too_deep() {
    for depth in DEPTHS {
        on_a_small_stack(move || {
            for text in files(depth) {
                // Whether it is refused does not matter here, only that there is an answer.
                let _answer = Config::parse(&text, "tidegate.toml", Path::new("."));
            }
        });
    }
}

#[test]
fn nothing_that_is_stored_is_too_deep() {
    for depth in DEPTHS {
        on_a_small_stack(move || {
            for within in [nested(depth, "[", "", "]"), nested(depth, "{\"a\":", "1", "}")] {
                let text =
                    format!("{{\"v\":1,\"revisions\":[{{\"stages\":[{{\"config\":{within}}}],\"x\":{within}}}]}}");
                let _answer = History::decode(text.as_bytes());
                let text = format!("{{\"x\":{within},\"v\":1}}");
                let _answer = (Checkpoint::decode(text.as_bytes()), StateHead::decode(text.as_bytes()));
            }
        });
    }
}

/// The same over the network, to a daemon: it must be there afterwards.
#[test]
fn no_request_is_too_deep() {
    let site = Site::new(
        "[clusters.east]\nkind = 'embedded'\ntopics.in = {}\n[clusters.west]\nkind = 'embedded'\n\
         [links.flow]\nsource = 'east'\ntarget = 'west'\ntopics = ['in']\n\
         [[links.flow.pipeline]]\nstage = 'keep'\nplugin = 'PLUGINS/json-filter.wasm'\n\
         config = { pointer = '/a', at_least = 0 }\n",
    );
    let daemon = site.start();
    for depth in DEPTHS {
        for within in [nested(depth, "[", "", "]"), nested(depth, "{\"a\":", "1", "}")] {
            let definition = format!(
                "{{\"id\":\"deep\",\"source\":\"east\",\"target\":\"west\",\"topics\":[\"in\"],\"filter\":{within},\
                 \"pipeline\":[{{\"stage\":\"s\",\"config\":{within}}}]}}"
            );
            let records = "/api/v1/clusters/east/topics/in/records";
            for (path, body) in [(LINKS, &definition), (LINKS, &within), (records, &within)] {
                let answer = site.client.send("POST", path, None, body);
                assert!(answer.status < 500, "{path}: {}", answer.body);
            }
            if depth < 3_000 {
                let path = format!("{LINKS}/flow/stages/keep/revisions?config={}", percent_encoded(&within));
                assert!(site.client.send("POST", &path, None, "").status >= 400);
            }
            // A record may hold anything, and a plugin looks into it.
            if depth <= 3_000 {
                site.client.produce("east", "in", &[json!({"value": within})]);
            }
        }
    }
    site.client.await_caught_up("flow");
    daemon.terminate();
}
