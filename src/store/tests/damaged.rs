//! Retention beside batches that are damaged.

use super::*;

#[test]
fn a_damaged_partition_keeps_no_other_one_from_its_retention() {
    let home = Home::new();
    let store = home.open();
    let retention = Retention { retention_ms: Some(100), retention_bytes: None };
    let names = ["a", "b", "c"];
    let topics = names.map(|name| store.create_topic(name, 1, retention).expect("created").id);
    for topic in topics {
        produce(&store, topic, 0..10);
        produce(&store, topic, 10..20);
    }
    drop(store);
    damage(&home.path(), topics[0], 10, |bytes| bytes.truncate(3));
    damage(&home.path(), topics[1], 0, |bytes| bytes.truncate(3));
    let store = home.open();
    let Enforced { dropped, failed } = store.enforce_retention(i64::MAX);
    let named: Vec<_> = failed.iter().map(|it| (&*it.topic, it.partition, it.error.code())).collect();
    assert_eq!(named, [("a", 0, "corrupt-batch"), ("b", 0, "corrupt-batch")]);
    let starts = topics.map(|topic| store.range(topic, 0).expect("there").log_start);
    assert_eq!((dropped, starts), (20, [0, 0, 20]));
}
