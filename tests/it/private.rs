//! What the daemon writes is its owner's alone, whatever the umask, and it follows no links there.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::harness::{LINKS, Site, binary, plugin_bytes, wait_until};

const CONFIG: &str = "[daemon.api]\naudit_file = true\naudit_file_bytes_max = \"64KiB\"\n[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n\
    [clusters.west]\nkind = \"embedded\"\n[clusters.far]\nkind = \"embedded\"\npath = \"elsewhere/far.redb\"\n\
    [links.flow]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n[[links.flow.pipeline]]\nstage = \"obey\"\nplugin = \"PLUGINS/obey.wasm\"\n";

/// The daemon's command, with the most generous umask there is.
fn generous(site: &Site) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "umask 000; exec \"$0\" run --config \"$1\""]).arg(binary()).arg(site.config());
    command
}

/// Everything in a directory, and the directory.
fn everything(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.to_owned()];
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(everything(&path)) } else { found.push(path) }
    }
    found
}

fn assert_private(dir: &Path) {
    for path in everything(dir) {
        let mode = fs::symlink_metadata(&path).expect("something").mode() & 0o7777;
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
}

/// Have the daemon write all kinds of files.
fn use_everything(site: &Site) {
    site.client.produce("east", "orders", &[json!({"value": "1"})]);
    site.client.await_caught_up("flow");
    let link = json!({"id": "mine", "source_cluster": {"cluster_id": "east"}, "target_cluster": {"cluster_id": "far"}, "topics": ["orders"]});
    let _again = site.client.send("POST", LINKS, None, &link.to_string());
    let published =
        site.client.post(&format!("{LINKS}/flow/stages/obey/revisions"), plugin_bytes("route")).expect("an answer");
    assert!(published.status < 500, "{}", published.body);
    // Until the audit file was put aside once.
    let aside = site.path("data/audit.jsonl.1");
    wait_until("the audit file was put aside", || {
        for _ in 0..50 {
            let _refused = site.client.send("POST", &format!("{LINKS}/none/start"), None, "");
        }
        aside.exists()
    });
}

#[test]
fn all_that_the_daemon_writes_is_private_whatever_the_umask() {
    let site = Site::new(CONFIG);
    let mut daemon = site.spawn_with(generous(&site));
    site.await_ready(&mut daemon);
    use_everything(&site);
    let names = ["east.redb", "west.redb", "links.redb", "name", "lock", "audit.jsonl", "audit.jsonl.1", "cache/key"];
    names.iter().for_each(|name| assert!(site.path("data").join(name).exists(), "{name}"));
    assert!(everything(&site.path("data/cache")).len() > 2, "compiled code");
    assert_private(&site.path("data"));
    assert_private(&site.path("elsewhere"));
    daemon.terminate();

    // A directory that an older version has made.
    for path in [everything(&site.path("data")), everything(&site.path("elsewhere"))].concat() {
        fs::set_permissions(&path, Permissions::from_mode(if path.is_dir() { 0o755 } else { 0o644 })).expect("opened");
    }
    let checked = said(&["check", "--config", &site.config().display().to_string()]);
    assert!(checked.contains("data is not private: other users may enter it"), "{checked}");
    let mut daemon = site.spawn_with(generous(&site));
    site.await_ready(&mut daemon);
    use_everything(&site);
    assert!(daemon.stderr().contains("data is not private"), "{}", daemon.stderr());
    let open = |path: &PathBuf| fs::metadata(path).expect("something").mode() & 0o077 != 0;
    let left: Vec<_> = everything(&site.path("data")).into_iter().filter(open).collect();
    assert_eq!(left, [site.path("data")], "whether others may enter the directory is for its owner to say");
    assert!(!open(&site.path("elsewhere/far.redb")));
    daemon.terminate();

    let token = site.path("data/ann.token").display().to_string();
    let made = Command::new("sh");
    let mut made = made;
    made.args(["-c", "umask 000; exec \"$0\" token create ann --role read --file \"$1\""]).arg(binary()).arg(&token);
    assert!(made.output().expect("the command runs").status.success());
    assert!(!open(&PathBuf::from(token)));
}

fn said(words: &[&str]) -> String {
    let output = Command::new(binary()).args(words).output().expect("the command runs");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn links_that_others_have_put_into_the_data_directory_are_not_followed() {
    for name in ["audit.jsonl", "name", "lock", "cache/key"] {
        let site = Site::new(CONFIG);
        let victim = site.path("victim");
        fs::write(&victim, "theirs\n").expect("a file");
        fs::create_dir_all(site.path("data/cache")).expect("a directory");
        symlink(&victim, site.path("data").join(name)).expect("a link");
        let (status, log) = site.run_to_end();
        assert!(!status.success() && log.contains("symbolic link"), "{name}: {log}");
        assert_eq!(fs::read_to_string(&victim).expect("text"), "theirs\n", "{name}");
    }
}
