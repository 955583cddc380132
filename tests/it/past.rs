//! What was found to be lost stays found: however the logs have grown since, until somebody says where the link continues.

use std::fs;

use redb::{Database, ReadableDatabase, TableDefinition};
use serde_json::{Value, json};
use tidegate::api::wire::{Checkpoint, LinkStatus, Lost, Relaned, Reset, Trouble};

use crate::harness::{Daemon, LINKS, Site, wait_until};

const CLUSTERS: &str =
    "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 2\n[clusters.west]\nkind = \"embedded\"\n";
const LINK: &str = "[links.copy]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\nlanes = 2\n";

const CHECKPOINTS: TableDefinition<'_, (&str, &str, u32), &[u8]> = TableDefinition::new("checkpoints");
const PLACE: (&str, &str, u32) = ("copy", "orders", 0);

fn site() -> Site {
    Site::new(&format!("{CLUSTERS}{LINK}"))
}

fn produce(site: &Site, cluster: &str, what: &str, count: usize) {
    let records: Vec<Value> =
        (0..count).map(|index| json!({ "partition": 0, "value": format!("{what}-{index}") })).collect();
    site.client.produce(cluster, "orders", &records);
}

fn end(site: &Site, cluster: &str) -> i64 {
    site.client.ends(cluster, "orders")[0]
}

fn await_failure(site: &Site, code: &str) -> Trouble {
    let mut trouble = None;
    wait_until(code, || {
        let link = site.client.link("copy");
        trouble = link.error.filter(|error| error.code == code && link.status == LinkStatus::Failed);
        trouble.is_some()
    });
    trouble.expect("the failure")
}

fn restart(site: &Site, daemon: Daemon) -> Daemon {
    daemon.kill();
    site.start()
}

/// The link stays failed whatever happens to it, and writes nothing.
fn stays_failed(site: &Site, mut daemon: Daemon, code: &str) -> Daemon {
    let ends = end(site, "west");
    produce(site, "east", "grown", 300);
    site.client.post(&format!("{LINKS}/copy/start"), "").expect("an answer");
    await_failure(site, code);
    daemon = restart(site, daemon);
    await_failure(site, code);
    let lanes = site.client.link("copy").lanes.len() + 1;
    let done: Relaned = site.cli_json(&["link", "relane", "copy", &lanes.to_string()]);
    assert!(done.done, "{done:?}");
    await_failure(site, code);
    daemon = restart(site, daemon);
    await_failure(site, code);
    assert_eq!(end(site, "west"), ends, "nothing is copied behind a loss");
    let checkpoints: Vec<Checkpoint> = site.client.read(&format!("{LINKS}/copy/checkpoints"));
    let doubt = checkpoints.into_iter().find(|at| at.partition == 0).and_then(|at| at.doubt);
    assert!(doubt.is_some_and(|doubt| doubt.contains(code)));
    daemon
}

/// Also where the link does not run, so that nothing but the checkpoint knows why.
fn reset(site: &Site, to: &str, code: &str) {
    site.client.post(&format!("{LINKS}/copy/stop"), "").expect("an answer");
    let done: Reset = site.cli_json(&["link", "reset", "copy", "--topic", "orders", "--partition", "0", "--to", to]);
    assert!(done.because.is_some_and(|because| because.contains(code)));
    site.client.post(&format!("{LINKS}/copy/start"), "").expect("an answer");
    site.client.await_caught_up("copy");
    let checkpoints: Vec<Checkpoint> = site.client.read(&format!("{LINKS}/copy/checkpoints"));
    assert!(checkpoints.iter().all(|at| at.doubt.is_none()), "{checkpoints:?}");
}

/// The stored checkpoint of partition 0.
fn checkpoint(site: &Site) -> Value {
    let database = Database::open(site.path("data/west.redb")).expect("the target");
    let read = database.begin_read().expect("a read");
    let table = read.open_table(CHECKPOINTS).expect("the table");
    let bytes = table.get(PLACE).expect("readable").expect("a checkpoint");
    serde_json::from_slice(bytes.value()).expect("JSON")
}

fn edit(site: &Site, change: impl FnOnce(&mut serde_json::Map<String, Value>)) {
    let mut checkpoint = checkpoint(site);
    change(checkpoint.as_object_mut().expect("an object"));
    let database = Database::open(site.path("data/west.redb")).expect("the target");
    let write = database.begin_write().expect("a write");
    let bytes = serde_json::to_vec(&checkpoint).expect("JSON");
    write.open_table(CHECKPOINTS).expect("the table").insert(PLACE, bytes.as_slice()).expect("written");
    write.commit().expect("committed");
}

/// 200 records are copied, and the source is taken back to the first 100 while no daemon runs.
fn taken_back(site: &Site) {
    let daemon = site.start();
    produce(site, "east", "first", 100);
    site.client.await_caught_up("copy");
    daemon.terminate();
    let (east, kept) = (site.path("data/east.redb"), site.path("kept"));
    fs::copy(&east, &kept).expect("kept");
    let daemon = site.start();
    produce(site, "east", "second", 100);
    site.client.await_caught_up("copy");
    daemon.terminate();
    fs::copy(&kept, &east).expect("restored");
}

/// Producers go on behind where the checkpoint is, and no link sees it.
fn grows_unseen(site: &Site) {
    site.configure(CLUSTERS);
    let daemon = site.start();
    produce(site, "east", "unseen", 150);
    assert_eq!(end(site, "east"), 250);
    daemon.terminate();
    site.configure(&format!("{CLUSTERS}{LINK}"));
}

#[test]
fn a_source_that_was_taken_back_stays_so_when_it_has_grown() {
    let site = site();
    taken_back(&site);
    let daemon = site.start();
    let trouble = await_failure(&site, "source-truncated");
    assert_eq!(trouble.lost, Some(Lost { from: 100, to: 200 }));
    let daemon = stays_failed(&site, daemon, "source-truncated");
    assert_eq!(await_failure(&site, "source-truncated").lost, Some(Lost { from: 100, to: 200 }));
    reset(&site, "100", "source-truncated");
    assert_eq!(end(&site, "west"), 200 + 300);
    daemon.terminate();
}

#[test]
fn a_source_that_was_taken_back_and_has_grown_unseen_is_another_one() {
    let site = site();
    taken_back(&site);
    grows_unseen(&site);
    // The epoch tells, also where no record is named.
    edit(&site, |checkpoint| drop(checkpoint.remove("last").expect("a record")));
    let daemon = site.start();
    await_failure(&site, "source-truncated");
    let daemon = stays_failed(&site, daemon, "source-truncated");
    reset(&site, "100", "source-truncated");
    assert_eq!(end(&site, "west"), 200 + 150 + 300);
    daemon.terminate();
}

/// A reset leaves no epoch, and a file of an earlier program has none: the record that was copied last tells.
#[test]
fn a_record_that_is_another_one_is_found_without_epochs() {
    let site = site();
    taken_back(&site);
    grows_unseen(&site);
    edit(&site, |checkpoint| {
        checkpoint.remove("source_leader_epoch").expect("an epoch");
        assert_eq!(checkpoint["last"]["offset"], 199);
    });
    let daemon = site.start();
    let trouble = await_failure(&site, "source-truncated");
    assert!(trouble.message.contains("offset 199"), "{trouble:?}");
    let daemon = stays_failed(&site, daemon, "source-truncated");
    reset(&site, "100", "source-truncated");
    assert_eq!(end(&site, "west"), 200 + 150 + 300);
    daemon.terminate();
}

/// Whatever the checkpoint says is true again later: the loss was found, and is not looked for again.
#[test]
fn every_loss_is_stored_with_the_checkpoint() {
    let losses = [
        ("source_topic_id", 99, "source-recreated"),
        ("next_offset", 1_000, "source-truncated"),
        ("target_topic_id", 99, "target-recreated"),
        ("target_end_offset", 1_000, "target-truncated"),
    ];
    for (field, value, code) in losses {
        let site = site();
        let daemon = site.start();
        produce(&site, "east", "first", 10);
        site.client.await_caught_up("copy");
        daemon.terminate();
        let before = checkpoint(&site)[field].clone();
        edit(&site, |checkpoint| {
            checkpoint.insert(field.to_owned(), value.into());
        });
        let daemon = site.start();
        await_failure(&site, code);
        produce(&site, "west", "beside", 20);
        daemon.terminate();
        assert_eq!((&checkpoint(&site)["v"], &checkpoint(&site)["doubt"]["code"]), (&json!(2), &json!(code)));
        edit(&site, |checkpoint| {
            checkpoint.insert(field.to_owned(), before);
        });
        let daemon = site.start();
        await_failure(&site, code);
        let daemon = stays_failed(&site, daemon, code);
        reset(&site, "10", code);
        assert_eq!(end(&site, "west"), 10 + 20 + 300, "{code}");
        daemon.terminate();
        assert_eq!((&checkpoint(&site)["v"], checkpoint(&site).get("doubt")), (&json!(1), None));
    }
}

/// A lane that was killed may leave a checkpoint that names a record far behind its offset: opened again, it names the newest, though nothing comes.
#[test]
fn a_checkpoint_that_names_an_old_record_gets_the_newest_though_nothing_comes() {
    let site = Site::new(&format!("{CLUSTERS}{}", LINK.replace("lanes = 2", "lanes = 1")));
    let daemon = site.start();
    produce(&site, "east", "first", 10);
    site.client.await_caught_up("copy");
    daemon.terminate();
    let old = checkpoint(&site)["last"].clone();
    assert_eq!(old["offset"], 9);
    let daemon = site.start();
    (0..20).for_each(|_| produce(&site, "east", "more", 10));
    site.client.await_caught_up("copy");
    daemon.terminate();
    edit(&site, |checkpoint| {
        assert_eq!(checkpoint.insert("last".to_owned(), old).expect("a record")["offset"], 209);
    });
    let daemon = site.start();
    // Partitions take turns: when the second of these is copied, the other partition has had two.
    for _ in 0..2 {
        site.client.produce("east", "orders", &[json!({ "partition": 1, "value": "beside" })]);
        site.client.await_caught_up("copy");
    }
    assert_eq!(end(&site, "west"), 210, "nothing comes twice");
    daemon.terminate();
    assert_eq!(checkpoint(&site)["last"]["offset"], 209);
}

/// Nothing is said where nothing is known, nothing comes twice, and from then on it is known.
#[test]
fn a_checkpoint_that_names_no_record_gets_one_though_nothing_comes() {
    let site = site();
    let daemon = site.start();
    produce(&site, "east", "first", 10);
    site.client.await_caught_up("copy");
    daemon.terminate();
    let last = checkpoint(&site)["last"].clone();
    assert_eq!(last["offset"], 9);
    edit(&site, |checkpoint| {
        checkpoint.remove("last").and(checkpoint.remove("source_leader_epoch")).expect("what is new");
    });
    let daemon = site.start();
    site.client.await_caught_up("copy");
    produce(&site, "east", "second", 1);
    site.client.await_caught_up("copy");
    assert_eq!(end(&site, "west"), 11);
    site.cli_json::<Reset>(&["link", "reset", "copy", "--topic", "orders", "--partition", "0", "--to", "10"]);
    wait_until("the last comes once more", || end(&site, "west") == 12);
    site.cli_json::<Reset>(&["link", "reset", "copy", "--topic", "orders", "--partition", "0", "--to", "latest"]);
    site.client.await_caught_up("copy");
    daemon.terminate();
    assert_eq!(checkpoint(&site)["last"]["offset"], 10, "nothing has come since the reset");
    let daemon = site.start();
    site.client.await_caught_up("copy");
    assert_eq!(end(&site, "west"), 12);
    daemon.terminate();
}
