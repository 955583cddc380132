//! Retention of batches of which nobody knows when they were written.

use super::*;

const NOW: i64 = 1000;
/// Of a record that was written before, and can be of any time.
const AHEAD: i64 = 5000;

/// A batch of one record for each timestamp, as programs wrote them that did not say when.
fn produce_without_arrival(store: &Store, topic: TopicId, timestamps: impl IntoIterator<Item = i64>) {
    let batches = timestamps.into_iter().flat_map(|timestamp| {
        let mut builder = BatchBuilder::new();
        builder.push(0, timestamp, None, Some(b"value"), []);
        pack(store, &builder.finish("source", 0)).into_iter().map(StoredBatch::without_arrival)
    });
    let append = Append { topic, partition: 0, batches: batches.collect() };
    store.execute(Command::Append(vec![append])).expect("appended");
}

fn after_retention(retention: Retention, timestamps: impl IntoIterator<Item = i64>) -> (u64, i64) {
    let home = Home::new();
    let store = home.open();
    let topic = store.create_topic("old", 1, retention).expect("created").id;
    produce_without_arrival(&store, topic, timestamps);
    let dropped = enforced(&store, NOW);
    (dropped, store.range(topic, 0).expect("there").log_start)
}

#[test]
fn what_is_behind_any_number_of_unknown_batches_is_looked_at() {
    let by_age = Retention { retention_ms: Some(100), retention_bytes: None };
    for unknown in [0, 1, 63, 64, 65, 128, 500] {
        let batches = |behind: [i64; 2]| std::iter::repeat_n(AHEAD, unknown).chain(behind);
        let both = (unknown as u64 + 1, unknown as i64 + 1);
        assert_eq!(after_retention(by_age, batches([1, NOW])), both, "{unknown} go with one too old");
        assert_eq!(after_retention(by_age, batches([NOW, 1])), (0, 0), "{unknown} stay before one that stays");
        assert_eq!(after_retention(by_age, batches([AHEAD, AHEAD])), (0, 0), "nothing is known of {unknown}");
        let by_both = Retention { retention_bytes: Some(0), ..by_age };
        assert_eq!(after_retention(by_both, batches([NOW, 1])).0, unknown as u64 + 2, "{unknown} go by size");
    }
}
