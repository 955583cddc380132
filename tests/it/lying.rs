//! Brokers that lie: whatever one answers, the daemon lives, its other links go on, and the link that names the broker says what is wrong.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::thread;

use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse, TopicName,
};
use kafka_protocol::protocol::{Encodable, StrBytes};
use serde_json::json;
use tidegate::api::wire::{Link, LinkStatus};

use crate::harness::{LINKS, Site, wait_until};

const GOOD: &str = "[clusters.east]\nkind = \"embedded\"\ntopics.orders.partitions = 1\n[clusters.west]\nkind = \"embedded\"\n\
    [links.good]\nsource = \"east\"\ntarget = \"west\"\ntopics = [\"orders\"]\n";

/// Reads a request and answers the body of its answer; `None` ends the connection.
type Script = dyn Fn(ApiKey, i16, &[u8]) -> Option<Vec<u8>> + Send + Sync;

/// A broker that follows a script once it has been greeted, until the process ends. Answers its port.
pub fn broker(script: impl Fn(u16, ApiKey, i16, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let script: Arc<Script> = Arc::new(move |key, version, body| script(port, key, version, body));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.clone();
            thread::spawn(move || serve(stream, &*script));
        }
    });
    port
}

fn serve(mut stream: TcpStream, script: &Script) -> Option<()> {
    loop {
        let mut length = [0; 4];
        stream.read_exact(&mut length).ok()?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).ok()?;
        let number = |at: usize| i16::from_be_bytes([request[at], request[at + 1]]);
        let (key, version) = (ApiKey::try_from(number(0)).ok()?, number(2));
        let body = if key == ApiKey::ApiVersions { greeting() } else { script(key, version, &request[8..])? };
        let tags: &[u8] = if key.response_header_version(version) > 0 { &[0] } else { &[] };
        let length = (4 + tags.len() + body.len()) as i32;
        stream.write_all(&[&length.to_be_bytes()[..], &request[4..8], tags, &body].concat()).ok()?;
    }
}

/// Every request, in every version.
fn greeting() -> Vec<u8> {
    let apis: Vec<u8> =
        (0..80_i16).flat_map(|key| [key.to_be_bytes(), [0, 0], [0, 20]].concat().into_iter().chain([0])).collect();
    [&[0, 0, 81][..], &apis, &[0; 5]].concat()
}

pub fn encoded(answer: &impl Encodable, version: i16) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    answer.encode(&mut body, version).expect("an answer");
    Some(body)
}

pub fn orders() -> TopicName {
    TopicName(StrBytes::from_static_str("orders"))
}

/// One broker, and one topic of one partition.
fn metadata(port: u16, version: i16) -> Option<Vec<u8>> {
    let broker = MetadataResponseBroker::default()
        .with_node_id(0.into())
        .with_host(StrBytes::from_static_str("127.0.0.1"))
        .with_port(port.into());
    let partition = MetadataResponsePartition::default().with_leader_id(0.into()).with_leader_epoch(1);
    let topic = MetadataResponseTopic::default().with_name(Some(orders())).with_partitions(vec![partition]);
    let answer = MetadataResponse::default().with_brokers(vec![broker]).with_topics(vec![topic]);
    encoded(&answer.with_controller_id(0.into()), version)
}

/// No answer of Kafka, and what the library of messages would reserve 412 GB for where a list begins behind four bytes.
fn claims_much() -> Vec<u8> {
    [&[0; 4][..], &[0xfe, 0xff, 0xff, 0xff, 0x0f], &[0; 8]].concat()
}

fn define(site: &Site, id: &str, port: u16) {
    let definition = json!({
        "id": id, "source_cluster": { "cluster_id": id, "brokers": [format!("127.0.0.1:{port}")] },
        "target_cluster": { "cluster_id": "west" }, "topics": ["orders"], "topic_prefix": format!("{id}."),
    });
    let made = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(made.status, 201, "{}", made.body);
    let started = site.client.send("POST", &format!("{LINKS}/{id}/start"), None, "");
    assert_eq!(started.status, 200, "{}", started.body);
}

fn await_complaint(site: &Site, id: &str) -> Link {
    let mut link = None;
    wait_until("the link says that answers are malformed", || {
        let now = site.client.link(id);
        let complains = now.error.as_ref().is_some_and(|error| error.code == "malformed-answer");
        link = Some(now);
        complains
    });
    let link = link.expect("a link");
    let message = link.error.as_ref().map_or("", |error| &error.message);
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert_ne!(link.status, LinkStatus::Failed, "it is tried again: {message}");
    link
}

#[test]
fn an_answer_that_claims_much_does_not_end_the_daemon() {
    let site = Site::new(GOOD);
    let daemon = site.start();
    // The first lies at once, the second when it is asked about more than its topics.
    define(&site, "first", broker(|_, _, _, _| Some(claims_much())));
    let second = |port, key, version, _: &[u8]| {
        if key == ApiKey::Metadata { metadata(port, version) } else { Some(claims_much()) }
    };
    define(&site, "second", broker(second));
    for id in ["first", "second"] {
        await_complaint(&site, id);
    }
    daemon.kill();
    let _daemon = site.start();
    for id in ["first", "second"] {
        await_complaint(&site, id);
    }
    site.client.produce("east", "orders", &[json!({ "partition": 0, "value": "1" })]);
    site.client.await_caught_up("good");
}

#[test]
fn a_partition_that_ends_before_it_begins_is_no_position() {
    let site = Site::new(GOOD);
    let _daemon = site.start();
    let start = Arc::new(AtomicI64::new(1 << 43));
    let said = start.clone();
    let port = broker(move |port, key, version, request| match key {
        ApiKey::Metadata => metadata(port, version),
        ApiKey::ListOffsets => {
            // The timestamp that asks for the earliest offset is -2, for the latest -1.
            let asks_earliest = request.windows(8).any(|part| part == (-2_i64).to_be_bytes());
            let offset = if asks_earliest { said.load(Relaxed) } else { 10 };
            let partition = ListOffsetsPartitionResponse::default().with_offset(offset).with_leader_epoch(1);
            let topic = ListOffsetsTopicResponse::default().with_name(orders()).with_partitions(vec![partition]);
            encoded(&ListOffsetsResponse::default().with_topics(vec![topic]), version)
        }
        ApiKey::Fetch => encoded(&FetchResponse::default(), version),
        ApiKey::DescribeConfigs => encoded(&DescribeConfigsResponse::default(), version),
        _ => None,
    });
    define(&site, "liar", port);
    for lie in [1 << 43, 11, -5] {
        start.store(lie, Relaxed);
        await_complaint(&site, "liar");
    }
    start.store(10, Relaxed);
    wait_until("it runs with what can be", || {
        let link = site.client.link("liar");
        link.status == LinkStatus::Active && link.error.is_none()
    });
}
