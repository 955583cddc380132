//! Links that are defined by REST, and kept on a Kafka cluster: daemons that name it run the same links.

use kafka_oracle::{Codec, Plan, Writer};
use serde_json::json;
use tidegate::api::wire::{Link, LinkStatus};

use crate::clusters::{Pair, Version};
use crate::harness::{Answer, LINKS, Site, wait_until};
use crate::scene::PATIENCE;

for_version_2_first! {
    daemons_run_what_was_defined_at_one_of_them,
}

fn daemons_run_what_was_defined_at_one_of_them(version: Version) {
    let pair = Pair::shared(version);
    let (source, target) = (pair.source.bootstrap(), pair.target.bootstrap());
    let id = format!("defined-{}", version.name());
    // Neither knows any cluster but the one that keeps definitions.
    let config = |name: &str, site: &Site| {
        let daemon = format!(
            "[daemon]\ndata_dir = \"data\"\nname = \"{id}-{name}\"\nmetadata = \"home\"\nlisten = \"127.0.0.1:{}\"\n",
            site.port
        );
        site.write_config(&format!("{daemon}[clusters.home]\nkind = \"kafka\"\nbrokers = [\"{target}\"]\n"));
    };
    let (one, two) = (Site::new(""), Site::new(""));
    config("one", &one);
    config("two", &two);
    let (_first, second) = (one.start(), two.start());
    kafka_oracle::create(&source, &id, 4, &[]).expect("a topic");
    let writer = Writer::start(Plan {
        bootstrap: source.clone(),
        topic: id.clone(),
        partitions: 4,
        seed: 7,
        transactions: true,
        codecs: vec![Codec::Lz4],
        rate: Some(1_000),
        records_max: None,
    });
    let cluster = |name: &str, brokers: &str| json!({ "cluster_id": format!("{id}-{name}"), "brokers": [brokers], "connection_timeout": "30s", "request_timeout": "3s", "max_retries": 3 });
    let definition = json!({
        "id": id, "name": "US-West to US-East", "type": "active-passive", "lanes": 4,
        "source_cluster": cluster("west", &source), "target_cluster": cluster("east", &target), "topics": [id],
        "config": { "max_bytes": 10_485_760, "max_messages": 10_000, "batch_size": 1000, "checkpoint_interval_ms": 100, "enable_exactly_once": true },
    });
    let done = |answer: &Answer| assert!((200..300).contains(&answer.status), "{}", answer.body);
    done(&one.client.send("POST", LINKS, None, &definition.to_string()));
    let place = format!("{LINKS}/{id}");
    wait_until("the other daemon hears of it", || two.client.get(&place).is_ok_and(|answer| answer.status == 200));
    done(&two.client.send("POST", &format!("{place}/start"), None, ""));
    let lanes_here = |site: &Site, name: &str| {
        let mine = format!("{id}-{name}");
        site.client.link(&id).lanes.iter().filter(|lane| lane.daemon.as_deref() == Some(&*mine)).count()
    };
    wait_until("they share its lanes", || lanes_here(&one, "one") == 2 && lanes_here(&two, "two") == 2);

    // Changed at one and resumed at the other, which may not have heard of the change.
    done(&one.client.send("POST", &format!("{place}/pause"), None, ""));
    wait_until("the other pauses too", || two.client.link(&id).status == LinkStatus::Paused);
    done(&one.client.send("PUT", &place, Some("\"1\""), r#"{"config":{"batch_size":50}}"#));
    done(&two.client.send("POST", &format!("{place}/resume"), None, ""));
    let changed = |link: &Link| (link.version, link.config.batch_size) == (Some(2), 50);
    wait_until("both run what was changed", || {
        [&one, &two].iter().all(|site| {
            let link = site.client.link(&id);
            changed(&link) && link.status == LinkStatus::Active
        })
    });
    second.kill();
    wait_until("the other takes over", || lanes_here(&one, "one") == 4);
    let _again = two.start();
    assert!(changed(&two.client.link(&id)), "a daemon that starts fresh knows it");
    writer.stop().expect("the writer");
    let expected = kafka_oracle::read(&source, &id).expect("the source");
    kafka_oracle::await_copy(&expected, &target, &id, PATIENCE).expect("an exact copy");

    done(&two.client.send("POST", &format!("{place}/stop"), None, ""));
    wait_until("the first stops too", || one.client.link(&id).status == LinkStatus::Stopped);
    done(&one.client.send("DELETE", &place, Some("\"2\""), ""));
    wait_until("it is gone at the other", || two.client.get(&place).is_ok_and(|answer| answer.status == 404));
}
