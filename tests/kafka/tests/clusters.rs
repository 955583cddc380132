//! Clusters of real brokers come up, take faults, and leave nothing behind.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use kafka_brokers::{Broker, Cluster, Options, Release, ask};

const API_VERSIONS: i16 = 18;
const PRODUCE: i16 = 0;

/// The highest version of Produce that a broker says it speaks.
fn produce_version(broker: SocketAddr) -> i16 {
    let answer = ask(broker, API_VERSIONS, 0, &[]).unwrap_or_else(|error| panic!("{broker}: {error}"));
    assert_eq!(answer[..2], [0, 0], "the error code");
    // After the error code and the count, six bytes each: API key, lowest and highest version.
    let apis = answer[6..].chunks_exact(6).map(|api| api.chunks_exact(2).map(|n| i16::from_be_bytes([n[0], n[1]])));
    let mut apis = apis.map(Iterator::collect::<Vec<_>>);
    apis.find(|api| api[0] == PRODUCE).expect("Produce")[2]
}

/// Whether the storage of the first broker was formatted with transactions of version 2, which the log then says.
fn has_new_transactions(cluster: &Cluster) -> bool {
    let log = fs::read_to_string(cluster.dir().join("1/log")).expect("the log");
    assert!(log.contains("name='metadata.version'"), "{log}");
    log.contains("name='transaction.version', featureLevel=2")
}

fn addresses(cluster: &Cluster) -> Vec<SocketAddr> {
    cluster.brokers().iter().map(Broker::address).collect()
}

/// What must be gone after a cluster: its directory, its processes, and whoever listens.
fn traces(cluster: &Cluster) -> (Vec<String>, Vec<SocketAddr>) {
    let processes = cluster.brokers().iter().filter_map(Broker::pid).map(|pid| format!("/proc/{pid}"));
    let paths = processes.chain([cluster.dir().display().to_string()]).collect();
    (paths, addresses(cluster))
}

fn assert_gone((paths, listeners): (Vec<String>, Vec<SocketAddr>)) {
    for path in paths {
        assert!(!Path::new(&path).exists(), "{path} is left");
    }
    for listener in listeners {
        assert!(ask(listener, API_VERSIONS, 0, &[]).is_err(), "{listener} answers");
    }
}

#[test]
fn one_broker_answers_and_leaves_nothing_behind() {
    let cluster = Cluster::start(&Options::default()).expect("a cluster");
    let address = cluster.brokers()[0].address();
    assert_eq!(cluster.bootstrap(), address.to_string());
    assert!(produce_version(address) >= 12);
    assert!(has_new_transactions(&cluster));
    let traces = traces(&cluster);
    assert_eq!(traces.0.len(), 2, "a process and a directory: {traces:?}");
    assert!(traces.0.iter().all(|path| Path::new(path).exists()), "{traces:?}");
    drop(cluster);
    assert_gone(traces);
}

#[test]
fn an_older_release_runs_and_knows_less() {
    let options = Options { release: Release::V3_5_2, ..Options::default() };
    let cluster = Cluster::start(&options).expect("a cluster");
    let address = cluster.brokers()[0].address();
    assert_eq!(produce_version(address), 9, "verification came with version 11");
    let traces = traces(&cluster);
    drop(cluster);
    assert_gone(traces);
    let newer = Options { transaction_version: Some(0), ..options };
    assert!(Cluster::start(&newer).is_err_and(|error| error.contains("3.5.2 has no feature")));
}

#[test]
fn a_broker_of_three_is_killed_and_comes_back_where_it_was() {
    // A broker that was killed is let in again once its session has ended, which takes 9 s otherwise.
    let settings = vec![("broker.session.timeout.ms".to_owned(), "2000".to_owned())];
    let options = Options { brokers: 3, settings, transaction_version: Some(0), ..Options::default() };
    let mut cluster = Cluster::start(&options).expect("a cluster");
    let all = addresses(&cluster);
    assert_eq!(all.len(), 3);
    assert!(all.iter().all(|address| produce_version(*address) >= 12));
    assert!(!has_new_transactions(&cluster), "older ones were asked for");

    cluster.brokers_mut()[1].kill().expect("killed");
    assert!(ask(all[1], API_VERSIONS, 0, &[]).is_err(), "it was killed");
    cluster.brokers_mut()[1].start().expect("started again");
    assert_eq!(addresses(&cluster), all);
    assert!(produce_version(all[1]) >= 12);

    let traces = traces(&cluster);
    assert_eq!(traces.0.len(), 4, "three processes and a directory: {traces:?}");
    drop(cluster);
    assert_gone(traces);
}
