//! A login goes only to the brokers that its keeper lists, whatever the cluster says of itself.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, DescribeConfigsResponse, FetchResponse, ListOffsetsResponse, MetadataResponse, SaslAuthenticateResponse,
    SaslHandshakeResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use serde_json::json;
use tidegate::api::wire::{LinkStatus, Trouble};

use crate::harness::{LINKS, Site, wait_until};
use crate::lying::{broker, encoded, orders};

const CLUSTERS: &str = "secrets_dir = \"secrets\"\n[clusters.west]\nkind = \"embedded\"\n";

/// The shortest that brokers have: each connection says who it is about once a second.
const SESSION_MS: i64 = 1000;

/// Where a broker says that all partitions and all else are.
pub type Advertised = Arc<Mutex<(String, i32)>>;

/// What a broker has got of a login: what it was sent in SaslAuthenticate.
pub type Logins = Receiver<Vec<u8>>;

/// A broker that takes every login and has an empty topic, which is led by what is advertised.
pub fn cluster(advertised: &Advertised, topics: &[&'static str]) -> (u16, Logins) {
    let (tell, told): (Sender<Vec<u8>>, Logins) = mpsc::channel();
    let tell = Mutex::new(tell);
    let (advertised, topics) = (advertised.clone(), topics.to_vec());
    let port = broker(move |_, key, version, body| match key {
        ApiKey::SaslHandshake => encoded(&SaslHandshakeResponse::default(), version),
        ApiKey::SaslAuthenticate => {
            let _nobody_looks = tell.lock().expect("a lock").send(body.to_vec());
            encoded(&SaslAuthenticateResponse::default().with_session_lifetime_ms(SESSION_MS), version)
        }
        ApiKey::Metadata => {
            let (host, port) = advertised.lock().expect("a lock").clone();
            metadata(&host, port, &topics, version)
        }
        ApiKey::ListOffsets => {
            let partition = ListOffsetsPartitionResponse::default().with_offset(0).with_leader_epoch(1);
            let topic = ListOffsetsTopicResponse::default().with_name(orders()).with_partitions(vec![partition]);
            encoded(&ListOffsetsResponse::default().with_topics(vec![topic]), version)
        }
        ApiKey::Fetch => encoded(&FetchResponse::default(), version),
        ApiKey::DescribeConfigs => encoded(&DescribeConfigsResponse::default(), version),
        _ => None,
    });
    (port, told)
}

fn metadata(host: &str, port: i32, topics: &[&'static str], version: i16) -> Option<Vec<u8>> {
    let broker = MetadataResponseBroker::default()
        .with_node_id(0.into())
        .with_host(StrBytes::from_string(host.to_owned()))
        .with_port(port);
    let partition = MetadataResponsePartition::default().with_leader_id(0.into()).with_leader_epoch(1);
    let topics = topics.iter().map(|name| {
        let name = TopicName(StrBytes::from_static_str(name));
        MetadataResponseTopic::default().with_name(Some(name)).with_partitions(vec![partition.clone()])
    });
    let answer = MetadataResponse::default().with_brokers(vec![broker]).with_topics(topics.collect());
    encoded(&answer.with_controller_id(0.into()), version)
}

/// A site whose password has this list beside it.
fn site(list: &str) -> Site {
    let site = Site::new("");
    fs::create_dir_all(site.path("secrets")).expect("a directory");
    fs::write(site.path("secrets/password"), "planted").expect("a file");
    fs::write(site.path("secrets/brokers"), list).expect("a file");
    site.configure(CLUSTERS);
    site
}

fn define(site: &Site, bootstrap: u16, mechanism: &str) {
    let login = match mechanism {
        "OAUTHBEARER" => json!({"mechanism": mechanism, "token": "${file:password}"}),
        _ => json!({"mechanism": mechanism, "username": "u", "password": "${file:password}"}),
    };
    define_with(site, bootstrap, &login);
}

fn definition(bootstrap: u16, login: &serde_json::Value) -> String {
    let definition = json!({
        "id": "l", "topics": ["orders"], "target_cluster": {"cluster_id": "west"},
        "source_cluster": {"cluster_id": "k", "brokers": [format!("127.0.0.1:{bootstrap}")], "security": {"sasl": login}},
    });
    definition.to_string()
}

fn define_with(site: &Site, bootstrap: u16, login: &serde_json::Value) {
    let made = site.client.send("POST", LINKS, None, &definition(bootstrap, login));
    assert_eq!(made.status, 201, "{}", made.body);
    let started = site.client.send("POST", &format!("{LINKS}/l/start"), None, "");
    assert!(started.status < 300, "{}", started.body);
}

/// What the link shows when it shows this code.
fn await_trouble(site: &Site, code: &str) -> Trouble {
    let mut shown = None;
    wait_until(code, || {
        let link = site.client.link("l");
        shown = link.error.filter(|error| error.code == code);
        assert_ne!(link.status, LinkStatus::Failed, "it is tried again");
        shown.is_some()
    });
    shown.expect("it is shown")
}

fn await_well(site: &Site) {
    wait_until("the link reads", || {
        let link = site.client.link("l");
        link.status == LinkStatus::Active && link.error.is_none()
    });
}

fn has_secret(login: &[u8]) -> bool {
    login.windows(7).any(|part| part == b"planted")
}

#[test]
fn a_login_goes_to_no_broker_that_a_listed_one_advertises() {
    let advertised = Advertised::default();
    let (listed, of_listed) = cluster(&advertised, &["orders"]);
    let (other, of_other) = cluster(&advertised, &["orders"]);
    *advertised.lock().expect("a lock") = ("127.0.0.1".to_owned(), other.into());
    let site = site(&format!("127.0.0.1:{listed}\n"));
    let daemon = site.start();
    define(&site, listed, "PLAIN");
    let trouble = await_trouble(&site, "broker-not-listed");
    let message = format!(
        "the login was not sent to 127.0.0.1:{other}: the file \"brokers\" beside the secret has no line for 127.0.0.1:{other}"
    );
    assert!(trouble.message.contains(&message), "{trouble:?}");
    assert!(trouble.remedy.contains("lists all brokers"), "{trouble:?}");
    assert!(has_secret(&of_listed.recv().expect("a login")), "the bootstrap broker gets it");
    assert!(of_other.try_recv().is_err(), "the other one gets nothing");

    // The list is read again, and says yes.
    fs::write(site.path("secrets/brokers"), format!("127.0.0.1:{listed}\n127.0.0.1:{other}\n")).expect("a file");
    await_well(&site);
    assert!(has_secret(&of_other.recv().expect("a login")));
    // It says no again: sessions that are under way are not renewed.
    fs::write(site.path("secrets/brokers"), format!("127.0.0.1:{listed}\n")).expect("a file");
    await_trouble(&site, "broker-not-listed");
    daemon.terminate();
}

#[test]
fn a_login_in_clear_text_goes_to_no_other_machine_that_a_broker_advertises() {
    for mechanism in ["PLAIN", "OAUTHBEARER"] {
        let advertised: Advertised = Arc::new(Mutex::new(("far.example.com".to_owned(), 9092)));
        let (listed, _logins) = cluster(&advertised, &["orders"]);
        let site = site("127.0.0.1\n*.example.com\n");
        let daemon = site.start();
        define(&site, listed, mechanism);
        let trouble = await_trouble(&site, "clear-text-login");
        assert!(trouble.message.contains("not sent to far.example.com:9092: without TLS"), "{trouble:?}");
        assert!(trouble.remedy.contains("enable_tls"), "{trouble:?}");
        // It is no other machine any more.
        *advertised.lock().expect("a lock") = ("127.0.0.1".to_owned(), listed.into());
        await_well(&site);
        daemon.terminate();
    }
}

/// A token endpoint that takes every client: its port, and the headers of what it was asked.
pub fn endpoint(token: &'static str) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let _nobody_looks = tell.send(head);
            let body = format!("{{\"access_token\":\"{token}\",\"expires_in\":3600}}");
            let length = body.len();
            let _gone = write!(
                stream.get_mut(),
                "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    (port, told)
}

#[test]
fn a_client_secret_goes_to_the_endpoint_alone_and_only_if_that_is_listed() {
    let advertised = Advertised::default();
    let (listed, of_listed) = cluster(&advertised, &["orders"]);
    let (other, of_other) = cluster(&advertised, &["orders"]);
    *advertised.lock().expect("a lock") = ("127.0.0.1".to_owned(), other.into());
    let (port, asked) = endpoint("issued-token");
    let site = site(&format!("127.0.0.1:{listed}\n"));
    let daemon = site.start();
    let login = json!({
        "mechanism": "OAUTHBEARER", "token_endpoint": format!("http://127.0.0.1:{port}/token"), "client_id": "tide",
        "client_secret": "${file:password}",
    });
    let refused = site.client.send("POST", LINKS, None, &definition(listed, &login));
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("this secret may not be sent to 127.0.0.1"), "{}", refused.body);

    fs::write(site.path("secrets/brokers"), format!("127.0.0.1:{listed}\n127.0.0.1:{port}\n")).expect("a file");
    define_with(&site, listed, &login);
    // Of tokens the same is true as of passwords.
    await_trouble(&site, "broker-not-listed");
    let first = of_listed.recv().expect("a login");
    let token = b"auth=Bearer issued-token\x01\x01";
    assert!(!has_secret(&first) && first.windows(token.len()).any(|part| part == token), "{first:?}");
    assert!(of_other.try_recv().is_err(), "the other one gets nothing");
    assert!(asked.recv().expect("a request").contains("authorization: Basic dGlkZTpwbGFudGVk\r\n"));

    // Another secret wants another token, and its keeper does not list the endpoint any more.
    fs::write(site.path("secrets/brokers"), format!("127.0.0.1:{listed}\n127.0.0.1:{other}\n")).expect("a file");
    fs::write(site.path("secrets/password"), "planted anew").expect("a file");
    let trouble = await_trouble(&site, "token-not-issued");
    assert!(trouble.message.contains(&format!("has no line for 127.0.0.1:{port}")), "{trouble:?}");
    assert!(asked.try_recv().is_err(), "the endpoint gets nothing");
    daemon.terminate();
}

#[test]
fn a_token_of_aws_is_signed_for_listed_brokers_with_keys_of_the_definition() {
    let advertised = Advertised::default();
    let (listed, of_listed) = cluster(&advertised, &["orders"]);
    let (other, of_other) = cluster(&advertised, &["orders"]);
    *advertised.lock().expect("a lock") = ("127.0.0.1".to_owned(), other.into());
    let site = site(&format!("127.0.0.1:{listed}\n"));
    let daemon = site.start();
    let login = |more: serde_json::Value| {
        let mut login = json!({"mechanism": "AWS_MSK_IAM", "region": "eu-central-1"});
        login.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        login
    };
    for of_the_daemon in [json!({}), json!({"profile": "default"})] {
        let refused = site.client.send("POST", LINKS, None, &definition(listed, &login(of_the_daemon)));
        assert_eq!(refused.status, 400, "{}", refused.body);
        assert!(refused.body.contains("a definition uses no identity of this daemon"), "{}", refused.body);
    }
    define_with(&site, listed, &login(json!({"access_key_id": "AKIA", "secret_access_key": "${file:password}"})));
    await_trouble(&site, "broker-not-listed");
    let sent = of_listed.recv().expect("a login");
    let text = String::from_utf8_lossy(&sent);
    let token = text.split_once("auth=Bearer ").and_then(|(_, rest)| rest.split_once('\u{1}')).expect("a token").0;
    let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token).expect("base64")).expect("a text");
    let begin = "https://kafka.eu-central-1.amazonaws.com/?Action=kafka-cluster%3AConnect&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F";
    assert!(url.starts_with(begin) && url.contains("&X-Amz-Signature=") && !url.contains("planted"), "{url}");
    assert!(!has_secret(&sent) && of_other.try_recv().is_err(), "the other one gets nothing");
    daemon.terminate();
}

/// It would lead the daemon's connections wherever the definition says.
#[test]
fn a_definition_goes_through_no_proxy() {
    let site = site("127.0.0.1\n");
    let daemon = site.start();
    let definition = json!({
        "id": "l", "topics": ["orders"], "target_cluster": {"cluster_id": "west"},
        "source_cluster": {"cluster_id": "k", "brokers": ["127.0.0.1:1"], "proxy": "socks5://127.0.0.1:1"},
    });
    let refused = site.client.send("POST", LINKS, None, &definition.to_string());
    assert_eq!(refused.status, 400, "{}", refused.body);
    assert!(refused.body.contains("a definition uses no proxy"), "{}", refused.body);
    daemon.terminate();
}
