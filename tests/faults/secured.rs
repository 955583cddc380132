//! Clusters that let nobody in without a password, over TLS: all that a link does goes that way, and sessions end and are renewed meanwhile.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kafka_brokers::{Cluster, Options};
use kafka_oracle::{Codec, Plan, Writer};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tidegate::api::wire::{ConsumerGroup, GroupCertainty, GroupFate, Link};

use crate::clusters::{Pair, Version, options};
use crate::groups::{check, places};
use crate::harness::{Dice, Site, wait_until};
use crate::scene::PATIENCE;

const PASSWORD: &str = "correct-horse";
const PARTITIONS: i32 = 4;

/// Records in a second.
const RATE: u64 = 1_000;

/// How long brokers let somebody in, in milliseconds.
const SESSION_MS: &str = "3000";

#[test]
fn a_link_goes_on_over_tls_and_scram() {
    let dir = tempfile::tempdir().expect("a directory");
    let keystore = certificates(dir.path());
    let pair = std::thread::scope(|scope| {
        let [source, target] = ["SCRAM-SHA-512", "SCRAM-SHA-256"].map(|mechanism| {
            let options = secured(mechanism, &keystore);
            scope.spawn(move || Cluster::start(&options).expect("a cluster"))
        });
        Pair::of(source.join().expect("a source"), target.join().expect("a target"))
    });
    // The oracle goes in by another door.
    let (source, target) = (pair.source.internal_bootstrap(), pair.target.internal_bootstrap());
    let ca = dir.path().join("ca.pem");
    let cluster = |id: &str, cluster: &Cluster, mechanism: &str| {
        format!(
            "[clusters.{id}]\nkind = \"kafka\"\nbrokers = [\"{}\"]\n[clusters.{id}.security]\nenable_tls = true\ntls_ca_file = {ca:?}\n\
             [clusters.{id}.security.sasl]\nmechanism = \"{mechanism}\"\nusername = \"tide\"\npassword = \"${{file:{}}}\"\n",
            cluster.bootstrap(),
            dir.path().join("password").display(),
        )
    };
    let config = cluster("east", &pair.source, "SCRAM-SHA-512")
        + &cluster("west", &pair.target, "SCRAM-SHA-256")
        + "[links.secured]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"/secured.*/\"]\nlanes = 4\ntopic_refresh = \"200ms\"\n\
           groups = [\"billing\"]\ngroup_sync_interval = \"1s\"\nheartbeat_interval = \"100ms\"\n\
           [links.secured.config]\ntransaction_timeout_ms = 10000\n";
    let write = |topic: &str, partitions: i32, seed: u64| {
        kafka_oracle::create(&source, topic, partitions, &[("retention.bytes", "-1")]).expect("a topic");
        Writer::start(Plan {
            bootstrap: source.clone(),
            topic: topic.to_owned(),
            partitions,
            seed,
            transactions: true,
            codecs: Codec::ALL.into(),
            rate: Some(RATE),
            records_max: None,
        })
    };
    let writer = write("secured", PARTITIONS, 1);
    let (site, other) = (Site::new(&config), Site::new(&config));
    let (first, second) = (site.start(), other.start());
    let daemons = || {
        let lanes = other.client.link("secured").lanes;
        lanes.iter().map(|lane| lane.daemon.clone()).collect::<BTreeSet<_>>()
    };
    wait_until("both have lanes", || daemons().len() == 2 && daemons().iter().all(Option::is_some));
    // Sessions end several times while this comes.
    let comes = |more: usize| {
        let count = || kafka_oracle::count(&target, "secured").unwrap_or(0) as usize;
        let before = count();
        wait_until("records come", || count() >= before + more);
    };
    comes(5_000);
    first.kill();
    comes(1_000);
    // Whoever is left has all of it in the end; a topic comes meanwhile.
    let late = write("secured-late", 2, 2);
    let first = site.start();
    comes(5_000);
    let copied = |writer: Writer, topic: &str| {
        writer.stop().expect("the writer");
        let expected = kafka_oracle::read(&source, topic).expect("the source");
        wait_until("the copy is made", || kafka_oracle::read(&target, topic).is_ok());
        let copy = kafka_oracle::await_copy(&expected, &target, topic, PATIENCE);
        let copy = copy.unwrap_or_else(|difference| panic!("{topic}: {difference}\n{}", second.stderr()));
        println!("{topic}: {} records are the same", copy.records());
        (expected, copy)
    };
    copied(late, "secured-late");
    let (expected, copy) = copied(writer, "secured");

    let from = places(&mut Dice::new(4), &expected);
    kafka_oracle::commit(&source, "billing", "secured", &from).expect("committed");
    let at_target = || kafka_oracle::committed(&target, "billing", "secured", PARTITIONS).expect("offsets");
    wait_until("the group has followed", || at_target().len() == PARTITIONS as usize);
    check("billing", &expected, &copy, &from, &at_target(), |record| vec![record.clone()]);
    let groups: Vec<ConsumerGroup> = site.cli_json(&["groups", "list", "secured"]);
    let billing = groups.iter().find(|group| group.group == "billing").expect("listed");
    assert_eq!(billing.fate, GroupFate::Stays);
    assert!(billing.partitions.iter().all(|place| place.certainty == GroupCertainty::Exact), "{billing:?}");
    let beats = |link: Link| link.latency.is_some();
    wait_until("heartbeats are through", || beats(site.client.link("secured")) || beats(other.client.link("secured")));
    for (daemon, name) in [(first, "first"), (second, "second")] {
        let log = daemon.stderr();
        assert!(!log.contains(PASSWORD) && !log.contains("authentication-failed"), "{name}: {log}");
        daemon.terminate();
    }
}

/// Write an authority, and a certificate of it for the brokers with its key: where that is. And the password.
fn certificates(dir: &Path) -> String {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &ca).expect("a certificate");
    let keystore = dir.join("broker.pem");
    fs::write(&keystore, key.serialize_pem() + &certificate.pem()).expect("the keystore");
    fs::write(dir.join("ca.pem"), ca.pem()).expect("the authority");
    fs::write(dir.join("password"), format!("{PASSWORD}\n")).expect("the password");
    keystore.display().to_string()
}

fn secured(mechanism: &str, keystore: &str) -> Options {
    let of_listener = format!("listener.name.client.{}", mechanism.to_lowercase());
    let settings = [
        ("listener.security.protocol.map", "CLIENT:SASL_SSL,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", keystore),
        ("listener.name.client.sasl.enabled.mechanisms", mechanism),
        (
            &format!("{of_listener}.sasl.jaas.config"),
            "org.apache.kafka.common.security.scram.ScramLoginModule required ;",
        ),
        (&format!("{of_listener}.connections.max.reauth.ms"), SESSION_MS),
    ];
    let mut options = Options { proxied: false, ..options(Version::Two, 1) };
    options.settings.extend(settings.map(|(name, value)| (name.to_owned(), value.to_owned())));
    options.scram = vec![format!("{mechanism}=[name=tide,password={PASSWORD}]")];
    options
}
