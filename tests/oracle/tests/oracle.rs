//! The oracle on real brokers: it lets a correct copy pass, and finds every kind of mistake.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Deed, Options, Resource, Side};
use kafka_oracle::{
    Codec, Content, Placed, Plan, Record, Watcher, Writer, Written, await_copy, compare, create, delete, read, send,
};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

const PARTITIONS: i32 = 3;
/// The api key of what ends a transaction.
const END_TXN: i16 = 26;
const SEED: u64 = 20_261_121;
/// How long to wait for what must come. Only what is broken takes this long.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait for what is missing on purpose.
const STILL: Duration = Duration::from_secs(1);

/// The cluster of the tests that only need one. The last of them ends it.
fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap();
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(Cluster::start(&Options { proxied: true, ..Options::default() }).expect("a cluster"));
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

fn plan(bootstrap: &str, topic: &str, transactions: bool) -> Plan {
    Plan {
        bootstrap: bootstrap.to_owned(),
        topic: topic.to_owned(),
        partitions: PARTITIONS,
        seed: SEED,
        transactions,
        codecs: Codec::ALL.to_vec(),
        rate: None,
        records_max: Some(4000),
    }
}

fn write(plan: Plan) -> Written {
    create(&plan.bootstrap, &plan.topic, PARTITIONS, &[]).unwrap();
    let written = Writer::start(plan).join().unwrap();
    assert_eq!(written.troubles, Vec::<String>::new());
    written
}

/// All that follows from the seed, aborted or not.
fn generated(records: u64) -> Content {
    let mut content = Content((0..PARTITIONS).map(|partition| (partition, Vec::new())).collect());
    for (partition, record) in (0..records).map(|number| Record::generate(SEED, number, PARTITIONS)) {
        let records = content.0.get_mut(&partition).unwrap();
        let offset = i64::try_from(records.len()).unwrap();
        records.push(Placed { offset, record });
    }
    content
}

/// Write records in one transaction.
fn copy(content: &Content, bootstrap: &str, topic: &str) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("transactional.id", topic);
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    for (partition, records) in &content.0 {
        for placed in records {
            send(&producer, topic, *partition, &placed.record).unwrap();
        }
    }
    producer.commit_transaction(PATIENCE).unwrap();
}

/// What a copy with a mistake in its second partition says.
fn mistake(source: &Content, bootstrap: &str, name: &str, make: impl FnOnce(&mut Vec<Placed>)) -> String {
    create(bootstrap, name, PARTITIONS, &[]).unwrap();
    let mut target = source.clone();
    make(target.0.get_mut(&1).unwrap());
    copy(&target, bootstrap, name);
    let said = await_copy(source, bootstrap, name, STILL).expect_err(name);
    println!("{name}: {said}");
    said
}

#[test]
fn a_correct_copy_passes_and_every_mistake_is_found() {
    let cluster = shared();
    let bootstrap = &*cluster.bootstrap();
    let written = write(plan(bootstrap, "source", true));
    assert!(written.aborted > 500, "{written:?}");
    let source = read(bootstrap, "source").unwrap();
    assert_eq!(source.records() as u64, written.records - written.aborted);

    create(bootstrap, "good", PARTITIONS, &[]).unwrap();
    copy(&source, bootstrap, "good");
    let good = await_copy(&source, bootstrap, "good", PATIENCE).unwrap();
    assert_eq!(good.records(), source.records());

    let says = |name, what: &str, make: fn(&mut Vec<Placed>)| {
        let said = mistake(&source, bootstrap, name, make);
        assert!(said.starts_with(what), "{name}: {said}");
    };
    says("doubled", "partition 1, record 101: one is doubled", |records| records.insert(100, records[100].clone()));
    says("doubled-at-the-end", "partition 1, record ", |records| records.extend_from_within(records.len() - 1..));
    says("lost", "partition 1, record 100: one is lost", |records| _ = records.remove(100));
    says("lost-at-the-end", "partition 1, record ", |records| _ = records.pop());
    says("reordered", "partition 1, record 100: the order differs", |records| records.swap(100, 101));
    says("header", "partition 1, record ", |records| {
        let placed = records.iter_mut().rfind(|placed| placed.record.headers.len() > 1).unwrap();
        placed.record.headers.reverse();
    });
    says("timestamp", "partition 1, record 100", |records| records[100].record.timestamp += 1);
    says("null", "partition 1, record ", |records| {
        let placed = records.iter_mut().find(|placed| placed.record.key.is_none()).unwrap();
        placed.record.key = Some(Vec::new());
    });

    create(bootstrap, "aborted", PARTITIONS, &[]).unwrap();
    copy(&generated(written.records), bootstrap, "aborted");
    let said = await_copy(&source, bootstrap, "aborted", PATIENCE).unwrap_err();
    println!("aborted: {said}");
    assert!(said.contains(": one is there that should not be"), "{said}");
}

#[test]
fn every_kind_of_record_comes_back_as_it_was_written_with_every_codec() {
    let cluster = shared();
    let bootstrap = &*cluster.bootstrap();
    for codec in Codec::ALL {
        let topic = format!("plain-{}", codec.name());
        let written = write(Plan { codecs: vec![codec], records_max: Some(2000), ..plan(bootstrap, &topic, false) });
        assert_eq!((written.records, written.aborted), (2000, 0));
        assert_eq!(compare(&generated(2000), &read(bootstrap, &topic).unwrap()), Ok(()), "{codec:?}");
    }
    let missing = read(bootstrap, "no-such-topic").unwrap_err();
    assert!(missing.contains("there is no topic no-such-topic"), "{missing}");
}

#[test]
fn who_watches_all_the_time_survives_restarts_and_finds_what_changed() {
    let mut cluster = Cluster::start(&Options::default()).expect("a cluster");
    let bootstrap = &*cluster.bootstrap();
    let watcher = Watcher::start(bootstrap, "source");
    create(bootstrap, "source", PARTITIONS, &[]).unwrap();
    let writer = Writer::start(Plan { rate: Some(2000), records_max: None, ..plan(bootstrap, "source", true) });
    await_records(&watcher, 1000);
    cluster.brokers_mut()[0].stop().unwrap();
    cluster.brokers_mut()[0].start().unwrap();
    let after_stop = writer.records();
    await_records(&watcher, 3000);
    cluster.brokers_mut()[0].kill().unwrap();
    cluster.brokers_mut()[0].start().unwrap();
    await_records(&watcher, 5000);
    let written = writer.stop().unwrap();
    assert!(written.records > after_stop, "{written:?}");
    let source = read(bootstrap, "source").unwrap();
    watcher.finish(&source, PATIENCE).unwrap();

    // Whatever differs from what is there in the end is found, the number of records too.
    let other = |change: fn(&mut BTreeMap<i32, Vec<Placed>>)| {
        let mut content = source.clone();
        change(&mut content.0);
        Watcher::start(bootstrap, "source").finish(&content, STILL).unwrap_err()
    };
    let said = other(|partitions| _ = partitions.get_mut(&2).unwrap().pop());
    assert!(said.contains("partition 2") && said.contains("nothing more"), "{said}");
    let said = other(|partitions| partitions.get_mut(&1).unwrap()[7].record.timestamp += 1);
    assert!(said.contains("partition 1") && said.contains("record 7"), "{said}");

    let watcher = Watcher::start(bootstrap, "source");
    await_records(&watcher, source.records());
    delete(bootstrap, "source").unwrap();
    create_again(bootstrap, "source");
    copy(&generated(10), bootstrap, "source");
    let last = read(bootstrap, "source").unwrap();
    let said = watcher.finish(&last, STILL).expect_err("the topic was made again");
    println!("{said}");
}

/// Deleting goes on behind the answer.
fn create_again(bootstrap: &str, topic: &str) {
    let tries = std::iter::repeat_with(|| {
        thread::sleep(Duration::from_millis(50));
        create(bootstrap, topic, PARTITIONS, &[])
    });
    assert!(tries.take(200).any(|made| made.is_ok()), "{topic} cannot be made again");
}

fn await_records(watcher: &Watcher, records: usize) {
    let begun = Instant::now();
    while watcher.records() < records {
        assert!(begun.elapsed() < PATIENCE, "{} of {records} records seen", watcher.records());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Here, because only a whole client has transactions.
#[test]
fn an_end_of_a_transaction_is_late_and_its_answer_is_lost() {
    let cluster = shared();
    let (bootstrap, proxy) = (&*cluster.bootstrap(), cluster.brokers()[0].proxy().unwrap());
    create(bootstrap, "late", PARTITIONS, &[]).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.proxied_bootstrap().unwrap()).set("transactional.id", "late");
    let producer: BaseProducer = config.create().unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    let begin = |number| {
        producer.begin_transaction().unwrap();
        send(&producer, "late", 0, &Record::generate(SEED, number, 1).1).unwrap();
        producer.flush(PATIENCE).unwrap();
    };
    let records = || read(bootstrap, "late").unwrap().records();
    // A commit is seen a little after its answer.
    let comes_to = |wanted| {
        let begun = Instant::now();
        while records() != wanted {
            assert!(begun.elapsed() < PATIENCE, "{} and not {wanted}", records());
        }
    };

    begin(1);
    let catch = proxy.catch(Side::Request, END_TXN, Deed::Hold);
    thread::scope(|scope| {
        let commit = scope.spawn(|| producer.commit_transaction(PATIENCE));
        assert!(catch.await_caught(PATIENCE));
        assert_eq!(records(), 0);
        catch.release();
        commit.join().unwrap().unwrap();
    });
    comes_to(1);

    begin(2);
    let catch = proxy.catch(Side::Answer, END_TXN, Deed::Drop);
    thread::scope(|scope| {
        let commit = scope.spawn(|| producer.commit_transaction(PATIENCE));
        assert!(catch.await_caught(PATIENCE));
        // The client does not know; the brokers do.
        comes_to(2);
        proxy.cut();
        commit.join().unwrap().unwrap();
    });
    assert_eq!(records(), 2);
}

/// Here, because only a whole client can say who it is.
#[test]
fn a_user_may_do_only_what_was_granted() {
    let users = vec![("alice".to_owned(), "secret".to_owned())];
    let cluster = Cluster::start(&Options { users, ..Options::default() }).expect("a cluster");
    create(&cluster.internal_bootstrap(), "topic", PARTITIONS, &[]).unwrap();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap()).set("security.protocol", "sasl_plaintext");
    config.set("sasl.mechanism", "PLAIN").set("sasl.username", "alice").set("sasl.password", "secret");
    let in_transaction = || {
        let producer: BaseProducer = config.clone().set("transactional.id", "link").create().unwrap();
        producer.init_transactions(PATIENCE)?;
        producer.begin_transaction()?;
        send(&producer, "topic", 0, &Record::generate(SEED, 1, 1).1)?;
        producer.commit_transaction(PATIENCE)
    };
    // What is granted is in force a little after the answer.
    let comes_to = |says: &str| {
        let begun = Instant::now();
        loop {
            let outcome = in_transaction().map_or_else(|error| error.to_string(), |()| "committed".to_owned());
            if outcome.contains(says) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{outcome} and not {says}");
        }
    };
    comes_to("Transactional Id authorization failed");
    cluster.grant("alice", &["Write", "Describe"], Resource::TransactionalId("link")).unwrap();
    cluster.grant("alice", &["Describe"], Resource::Topic("topic")).unwrap();
    comes_to("Topic authorization failed");
    cluster.grant("alice", &["Write"], Resource::Topic("topic")).unwrap();
    comes_to("committed");
    cluster.revoke("alice", &["Write"], Resource::Topic("topic")).unwrap();
    comes_to("Topic authorization failed");
    assert_eq!(read(&cluster.internal_bootstrap(), "topic").unwrap().records(), 1);
}
