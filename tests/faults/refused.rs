//! What a person has got wrong: each link says what it is in a code and a sentence, and the others go on.

use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Resource, free_port};
use kafka_oracle::{Codec, Plan, Writer};
use tidegate::api::wire::{LinkStatus, Notice, Trouble};

use crate::clusters::{Version, options};
use crate::harness::{Site, wait_until};
use crate::scene::PATIENCE;

const PASSWORD: &str = "swordfish";

/// Users of the target, by what they lack.
const EVERYTHING: &str = "everything";
const NO_ID: &str = "no-id";
const NO_TOPIC: &str = "no-topic";
const NO_CREATE: &str = "no-create";
const NO_GROUP: &str = "no-group";

/// A cluster of the configuration, as a user or as nobody.
fn cluster(id: &str, bootstrap: &str, user: Option<&str>) -> String {
    let security = user.map(|user| {
        format!(
            "[clusters.{id}.security.sasl]\nmechanism = \"PLAIN\"\nusername = \"{user}\"\n\
             password = \"${{env:FAULTS_PASSWORD}}\"\n"
        )
    });
    let times = "request_timeout = \"3s\"\nconnection_timeout = \"3s\"\n";
    format!("[clusters.{id}]\nkind = \"kafka\"\nbrokers = [\"{bootstrap}\"]\n{times}{}", security.unwrap_or_default())
}

fn link(id: &str, target: &str) -> String {
    format!(
        "[links.{id}]\nsource = \"east\"\ntarget = \"{target}\"\ntopics = [\"records\"]\ntopic_prefix = \"{id}-\"\n\
         [links.{id}.config]\ntransaction_timeout_ms = 10000\n"
    )
}

/// Who may do what: `no-topic` may not write to the topic that records go to, and `no-create` may not make it.
fn grant_all(target: &Cluster) {
    let any = |user: &'static str| {
        [
            (user, &["Read", "Write", "Create", "Describe", "DescribeConfigs"][..], Resource::Topic("*")),
            (user, &["Write", "Describe"], Resource::TransactionalId("*")),
        ]
    };
    let [everything, id] = any(EVERYTHING);
    let rights = &["Read", "Write", "Create", "Describe", "DescribeConfigs"][..];
    let own = |user: &'static str, topic: &'static str| (user, rights, Resource::Topic(topic));
    let grants = [
        everything,
        id,
        any(NO_ID)[0],
        any(NO_TOPIC)[1],
        own(NO_TOPIC, "__tidegate.meta"),
        own(NO_TOPIC, "__tidegate.no-topic.checkpoints"),
        own(NO_TOPIC, "__tidegate.no-topic.offsets"),
        (NO_TOPIC, &["Describe", "DescribeConfigs"], Resource::Topic("no-topic-records")),
        any(NO_CREATE)[1],
        own(NO_CREATE, "__tidegate.meta"),
        own(NO_CREATE, "__tidegate.no-create.checkpoints"),
        own(NO_CREATE, "__tidegate.no-create.offsets"),
        any(NO_GROUP)[0],
        any(NO_GROUP)[1],
    ];
    let members = [EVERYTHING, NO_ID, NO_TOPIC, NO_CREATE];
    let groups = members.map(|user| (user, &["Read", "Describe"][..], Resource::Group("*")));
    let grants = grants.into_iter().chain(groups);
    thread::scope(|scope| {
        for (user, operations, resource) in grants {
            scope.spawn(move || target.grant(user, operations, resource).expect("granted"));
        }
    });
}

#[test]
fn each_link_names_its_own_mistake_and_the_others_go_on() {
    let source = Cluster::start(&options(Version::Two, 1)).expect("a source");
    let users = [EVERYTHING, NO_ID, NO_TOPIC, NO_CREATE, NO_GROUP].map(|user| (user.to_owned(), PASSWORD.to_owned()));
    let target = kafka_brokers::Options { users: users.into(), proxied: false, ..options(Version::Two, 1) };
    let target = Cluster::start(&target).expect("a target");
    grant_all(&target);
    kafka_oracle::create(&source.bootstrap(), "records", 4, &[]).expect("a topic");
    // The target's administrators have made these.
    kafka_oracle::create(&target.internal_bootstrap(), "no-topic-records", 4, &[]).expect("a topic");
    kafka_oracle::create(&target.internal_bootstrap(), "narrow-records", 2, &[]).expect("a topic");
    let mut writer = Writer::start(Plan {
        bootstrap: source.bootstrap(),
        topic: "records".to_owned(),
        partitions: 4,
        seed: 9,
        transactions: true,
        codecs: vec![Codec::Lz4],
        rate: None,
        records_max: Some(5_000),
    });
    writer.join().expect("written");

    let west = target.bootstrap();
    let nobody = format!("127.0.0.1:{}", free_port().expect("a port"));
    let clusters = [
        cluster("east", &source.bootstrap(), None),
        cluster("west", &west, Some(EVERYTHING)),
        cluster("nowhere", &nobody, None),
        cluster("stranger", &west, Some("stranger")),
        cluster("west-no-id", &west, Some(NO_ID)),
        cluster("west-no-topic", &west, Some(NO_TOPIC)),
        cluster("west-no-create", &west, Some(NO_CREATE)),
        cluster("west-no-group", &west, Some(NO_GROUP)),
    ];
    let links = [
        link("good", "west"),
        link("nowhere", "nowhere"),
        link("stranger", "stranger"),
        link("narrow", "west"),
        link("no-id", "west-no-id"),
        link("no-topic", "west-no-topic"),
        link("no-create", "west-no-create"),
        link("no-group", "west-no-group"),
    ];
    let site = Site::new(&(clusters.concat() + &links.concat()));
    let mut command = site.command();
    command.env("FAULTS_PASSWORD", PASSWORD);
    let daemon = site.spawn_with(command);
    wait_until("the API answers", || site.client.get("/api/v1/healthz").is_ok());

    for (link, code, words) in [
        ("nowhere", "cannot-connect", &*nobody),
        ("stranger", "authentication-failed", "stranger"),
        ("no-id", "transactional-id-not-authorized", "tidegate.no-id."),
        ("no-topic", "topic-not-authorized", "no-topic-records"),
        ("no-group", "group-not-authorized", "tidegate.no-group"),
    ] {
        let trouble = await_trouble(&site, link, code);
        println!("{link}: {}: {}; {}", trouble.code, trouble.message, trouble.remedy);
        assert!(trouble.message.contains(words), "{link}: {trouble:?}");
        assert!(!trouble.remedy.is_empty(), "{link}: {trouble:?}");
        assert_eq!(site.client.link(link).counters.records_out, 0, "{link}");
    }
    // What is wrong with a topic keeps its link from nothing else.
    for (link, code, is_copied) in [("narrow", "target-partitions", true), ("no-create", "topic-not-authorized", false)]
    {
        let topic = format!("{link}-records");
        let now = || site.client.link(link);
        let is_told = |notice: &Notice| notice.code == code && notice.topic.as_ref() == Some(&topic);
        wait_until("it is named", || now().notices.iter().any(is_told));
        wait_until("it runs", || now().status == LinkStatus::Active && (now().counters.records_out > 0) == is_copied);
    }
    let expected = kafka_oracle::read(&source.bootstrap(), "records").expect("the source");
    kafka_oracle::await_copy(&expected, &target.internal_bootstrap(), "good-records", PATIENCE).expect("a copy");
    let good = site.client.link("good");
    assert_eq!((good.status, good.error), (LinkStatus::Active, None));
    assert!(!daemon.stderr().contains(PASSWORD));

    // What is granted heals a link without anybody starting it.
    target.grant(NO_ID, &["Write", "Describe"], Resource::TransactionalId("*")).expect("granted");
    wait_until("the topic is there", || kafka_oracle::read(&target.internal_bootstrap(), "no-id-records").is_ok());
    kafka_oracle::await_copy(&expected, &target.internal_bootstrap(), "no-id-records", PATIENCE).expect("a copy");
}

fn await_trouble(site: &Site, link: &str, code: &str) -> Trouble {
    let begun = Instant::now();
    loop {
        let error = site.client.link(link).error;
        match error {
            Some(error) if error.code == code => return error,
            other => assert!(begun.elapsed() < PATIENCE, "{link} does not say {code}: {other:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}
