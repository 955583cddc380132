//! Leaders move while they are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Options};

use super::stage::*;
use crate::connector::kafka::client::Client;
use crate::connector::kafka::records::Stamp;
use crate::connector::kafka::source::KafkaSource;
use crate::model::Codec;
use crate::model::TopicPartition;

const PARTITIONS: u32 = 6;

/// How long a cluster is given to take records again. One that has not by then has lost its controller: that is its own matter, and no reader can mend it.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(60);

/// What is written to a partition while it is read.
#[derive(Debug)]
struct Written {
    place: TopicPartition,
    /// The offset behind the last record that was acknowledged.
    end: AtomicI64,
}

/// Append a record to each partition over and over, and answer how many were acknowledged. One without an acknowledgement may be there too.
fn produce(client: &Client, written: &[Written], stop: &AtomicBool) -> Vec<usize> {
    let mut acknowledged = vec![0; written.len()];
    while !stop.load(Relaxed) {
        for (Written { place, end }, count) in written.iter().zip(&mut acknowledged) {
            let bytes = encoded(Codec::None, Stamp::NONE, &[Plain::new(None, Some(&format!("{place} {count}")))]);
            match send(client, place, None, bytes) {
                Ok(offset) => {
                    end.store(offset + 1, Relaxed);
                    *count += 1;
                }
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }
    acknowledged
}

/// Ends the producer, whatever becomes of the test.
struct Stopping<'s>(&'s AtomicBool);

impl Drop for Stopping<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Read until every partition had news; or, where the cluster takes no records, everything that it has taken.
fn read_news(source: &mut KafkaSource, seen: &mut Seen, written: &[Written]) {
    let next = |seen: &Seen, place: &TopicPartition| seen.next.get(place).copied().unwrap_or(0);
    let goals: Vec<_> = written.iter().map(|Written { place, .. }| next(seen, place) + 3).collect();
    let begun = Instant::now();
    let are_behind = |seen: &Seen| written.iter().zip(&goals).any(|(at, goal)| next(seen, &at.place) < *goal);
    while are_behind(seen) {
        seen.poll(source, 1000, Duration::from_millis(100));
        let acknowledged = |at: &Written| at.end.load(Relaxed) <= next(seen, &at.place);
        if begun.elapsed() > CLUSTER_PATIENCE && written.iter().all(acknowledged) {
            println!("the cluster has taken nothing for a while that was not read");
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{goals:?} were not reached, of {written:?}: {:?}", seen.next);
    }
}

#[test]
fn reading_goes_on_while_leaders_are_stopped_killed_and_paused() {
    let settings = vec![("broker.session.timeout.ms".to_owned(), "3000".to_owned())];
    let mut cluster = Cluster::start(&Options { brokers: 3, settings, ..Options::default() }).expect("a cluster");
    let client = client(&cluster);
    create(&client, "moving", PARTITIONS, &[]);
    let places: Vec<_> = (0..PARTITIONS).map(|partition| TopicPartition::new("moving", partition)).collect();
    let written: Vec<_> = places.iter().map(|place| Written { place: place.clone(), end: AtomicI64::new(0) }).collect();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let producer = super::stage::client(&cluster);
        let (places, written, stop) = (&places[..], &written[..], &stop);
        let produced = scope.spawn(move || produce(&producer, written, stop));
        let stopping = Stopping(stop);
        let mut source = source_of(&client, places);
        let mut seen = Seen::default();
        read_news(&mut source, &mut seen, written);
        assert_eq!(source.brokers.len(), 3, "leaders are spread");

        cluster.brokers_mut()[0].stop().expect("stopped");
        read_news(&mut source, &mut seen, written);
        assert!(!source.brokers.contains_key(&1));
        cluster.brokers_mut()[0].start().expect("started");
        read_news(&mut source, &mut seen, written);

        cluster.brokers_mut()[1].kill().expect("killed");
        read_news(&mut source, &mut seen, written);
        cluster.brokers_mut()[1].start().expect("started");
        read_news(&mut source, &mut seen, written);

        cluster.brokers()[2].pause().expect("paused");
        read_news(&mut source, &mut seen, written);
        cluster.brokers()[2].resume().expect("resumed");
        read_news(&mut source, &mut seen, written);

        drop(stopping);
        let acknowledged = produced.join().expect("the producer");
        let ends: Vec<_> = places.iter().cloned().zip(ends(&client, places)).collect();
        seen.read_to(&mut source, 1000, &ends);
        let mut again = Seen::default();
        again.read_to(&mut source_of(&client, places), 1000, &ends);
        assert_eq!(seen.records, again.records);
        for (place, count) in places.iter().zip(acknowledged) {
            let values: std::collections::HashSet<_> = seen.records[place].iter().map(|record| &record.value).collect();
            let all = (0..count).map(|number| Some(format!("{place} {number}").into_bytes()));
            assert!(all.into_iter().all(|value| values.contains(&value)), "{place}: an acknowledged record is missing");
        }
    });
}

/// The leader and another replica, whichever is in the rack.
#[test]
fn records_come_from_the_replica_in_the_same_rack_and_from_the_leader_without_it() {
    let settings = [
        ("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector"),
        ("default.replication.factor", "2"),
        ("broker.session.timeout.ms", "3000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let mut cluster = Cluster::start(&Options { brokers: 3, settings, ..Options::default() }).expect("a cluster");
    let writer = client(&cluster);
    create(&writer, "racks", 3, &[]);
    let places: Vec<_> = (0..3).map(|partition| TopicPartition::new("racks", partition)).collect();
    let append_all = |count: usize| {
        let records: Vec<_> = (0..count).map(|number| Plain::new(None, Some(&number.to_string()))).collect();
        places.iter().for_each(|place| drop(append(&writer, place, Codec::None, &records)));
    };
    append_all(10);
    let client = client_in(Some("rack-2"), &cluster);
    let mut source = source_of(&client, &places);
    let mut seen = Seen::default();
    let to = |end| places.iter().cloned().map(|place| (place, end)).collect::<Vec<_>>();
    seen.read_to(&mut source, 1000, &to(10));
    let leader =
        |place: &TopicPartition| client.metadata().and_then(|it| it.leader(place).map(|it| it.0)).expect("one");
    // Three partitions of two replicas on three brokers: broker 2 has two of them, and leads one.
    let from_two = |source: &KafkaSource| source.brokers.get(&2).map_or(0, |broker| broker.session.members().len());
    let led = places.iter().filter(|place| leader(place) == 2).count();
    let begun = Instant::now();
    while from_two(&source) == led {
        assert!(begun.elapsed() < PATIENCE, "no partition is read from broker 2 that it does not lead: {source:?}");
        append_all(1);
        seen.poll(&mut source, 1000, Duration::from_millis(100));
    }
    println!("broker 2 leads {led} and is read from for {}", from_two(&source));
    cluster.brokers_mut()[1].kill().expect("killed");
    append_all(1);
    let ends: Vec<_> = places.iter().cloned().zip(ends(&client, &places)).collect();
    seen.read_to(&mut source, 1000, &ends);
    assert!(!source.brokers.contains_key(&2));
}

fn ends(client: &Arc<Client>, places: &[TopicPartition]) -> Vec<i64> {
    use crate::connector::kafka::client::{Isolation, LATEST};
    let found = eventually("ends", || client.offsets(places, LATEST, Isolation::ReadCommitted));
    places.iter().map(|place| found[place]).collect()
}
