//! Clients of the API that are slow, many, or talk nonsense: none of them keeps others from being answered.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{Client, Dice, LINKS, Site, wait_until};
use crate::secured::{ANN, Authority, RON, configure, tokens, without_ron};

/// How long a daemon may take to give up a client whose time is a second: only what is broken takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

const QUICK: &str = "header_timeout = \"1s\"\nbody_timeout = \"1s\"\n";

fn connect(site: &Site) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", site.port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
    stream
}

/// Everything that still comes, to the end of the connection.
#[track_caller]
fn rest(mut stream: TcpStream) -> String {
    let mut all = Vec::new();
    let begun = Instant::now();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => {
            panic!("after {:?}: {error}, and before it {}", begun.elapsed(), String::from_utf8_lossy(&all))
        }
        _ => String::from_utf8_lossy(&all).into_owned(),
    }
}

#[test]
fn whoever_begins_a_request_and_does_not_go_on_is_given_up() {
    let site = Site::new("");
    configure(&site, "127.0.0.1", QUICK);
    let _daemon = site.start();
    // Nothing at all, half a header, and a request whose successor never comes.
    for text in
        ["", "GET /api/v1/status HTTP/1.1\r\nhost: localhost\r\nx-slow: ", "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"]
    {
        let mut stream = connect(&site);
        stream.write_all(text.as_bytes()).expect("sent");
        rest(stream);
    }
    let records = "/api/v1/clusters/east/topics/orders/records";
    let mut stream = connect(&site);
    let head = format!("POST {records} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{{");
    stream.write_all(head.as_bytes()).expect("sent");
    let answer = rest(stream);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("body-too-slow"), "{answer}");
    // A byte now and then is not enough.
    let mut stream = connect(&site);
    stream.write_all(head.as_bytes()).expect("sent");
    stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket");
    let begun = Instant::now();
    let mut answer = [0; 12];
    while !matches!(stream.read(&mut answer), Ok(read) if read > 0) {
        assert!(begun.elapsed() < PATIENCE, "it is never given up");
        if stream.write_all(b" ").is_err() {
            break;
        }
    }
}

#[test]
fn clients_that_wait_give_way_to_those_that_ask() {
    let site = Site::new("");
    configure(&site, "127.0.0.1", &format!("connections_max = 8\n{}", tokens(&site)));
    let _daemon = site.start();
    let mut idle: Vec<TcpStream> = (0..40).map(|_| connect(&site)).collect();
    for (number, stream) in idle.iter_mut().enumerate() {
        // Those that have gone already are no matter.
        let _it_may_have_gone = match number % 3 {
            0 => stream.write_all(b"GET /api/v1/status HTTP/1.1\r\nauthorization: "),
            1 => stream.write_all(b"POST /api/v1/reload HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n"),
            _ => Ok(()),
        };
    }
    for _ in 0..20 {
        let ann = Client::known(site.port, Some(ANN), None);
        assert_eq!(ann.get("/api/v1/status").expect("an answer").status, 200);
    }
    drop(idle);
}

#[test]
fn whoever_does_not_take_the_answer_is_given_up() {
    let site = Site::new("");
    configure(&site, "127.0.0.1", QUICK);
    let _daemon = site.start();
    let value = "x".repeat(64 << 10);
    let records: Vec<serde_json::Value> = (0..64).map(|_| serde_json::json!({ "value": value })).collect();
    site.client.produce("east", "orders", &records);
    let path = "/api/v1/clusters/east/topics/orders/records?partition=0&max_bytes=8388608";
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    let mut stream = connect(&site);
    // More than buffers hold.
    (0..8).for_each(|_| stream.write_all(request.as_bytes()).expect("sent"));
    // The connection is over when nothing more can be sent on it.
    wait_until("it is given up", || stream.write_all(b"GET").is_err());
    assert!(site.client.is_ready());
}

/// A stream of the link's events, of which only the beginning was read.
fn follow(site: &Site) -> TcpStream {
    let mut stream = connect(site);
    let head = format!(
        "GET {LINKS}/flow/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {RON}\r\naccept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent");
    let mut status = [0; 12];
    stream.read_exact(&mut status).expect("an answer");
    assert_eq!(&status, b"HTTP/1.1 200");
    stream
}

#[test]
fn whoever_follows_events_gives_way_to_those_that_ask() {
    let site = Site::new("");
    configure(&site, "127.0.0.1", &format!("connections_max = 8\n{}", tokens(&site)));
    let _daemon = site.start();
    let streams: Vec<TcpStream> = (0..8).map(|_| follow(&site)).collect();
    for _ in 0..3 {
        let ann = Client::known(site.port, Some(ANN), None);
        assert_eq!(ann.get("/api/v1/status").expect("an answer").status, 200);
    }
    drop(streams);
}

#[test]
fn events_end_for_those_who_may_not_see_them_any_more() {
    let mut site = Site::new("");
    let all = tokens(&site);
    configure(&site, "127.0.0.1", &all);
    site.client = Client::known(site.port, Some(ANN), None);
    let daemon = site.start();
    let stream = follow(&site);
    let without_ron = without_ron(&all);
    configure(&site, "127.0.0.1", without_ron);
    daemon.signal(Signal::HUP);
    let events = rest(stream);
    assert!(events.contains("text/event-stream"), "{events}");
    daemon.terminate();
}

#[test]
fn whoever_came_just_before_tokens_changed_is_answered() {
    let mut site = Site::new("");
    let all = tokens(&site);
    configure(&site, "127.0.0.1", &all);
    site.client = Client::known(site.port, Some(ANN), None);
    let _daemon = site.start();
    let without_ron = without_ron(&all);
    // Its time is short, and this machine may be slow: one of some is answered.
    let is_answered = |attempt: u32| {
        let mut stream = connect(&site);
        // Connections are taken in their order.
        assert!(Client::known(site.port, Some(ANN), None).is_ready());
        configure(&site, "127.0.0.1", if attempt.is_multiple_of(2) { without_ron } else { &all });
        assert_eq!(site.client.send("POST", "/api/v1/reload", None, "").status, 200);
        let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).is_ok() && rest(stream).starts_with("HTTP/1.1 200")
    };
    assert!((0..5).any(is_answered));
}

#[test]
fn headers_have_a_limit() {
    let site = Site::new("");
    configure(&site, "127.0.0.1", "header_bytes_max = \"8KiB\"\n");
    let _daemon = site.start();
    let large = "x".repeat(100 << 10);
    let many = (0..500).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    for header in [format!("x-large: {large}\r\n"), many, format!("{large}: y\r\n")] {
        let mut stream = connect(&site);
        let _it_may_be_refused_earlier =
            stream.write_all(format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{header}\r\n").as_bytes());
        let answer = rest(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    assert!(site.client.is_ready());
}

#[test]
fn nonsense_instead_of_http_or_tls_is_no_matter() {
    let mut dice = Dice::new(7);
    let mut noise = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| dice.below(256) as u8).collect() };
    let ours = Authority::new("ours");
    for is_encrypted in [false, true] {
        let mut site = Site::new("");
        ours.issue_to(&site);
        let tls = if is_encrypted { "tls_cert_file = \"tls.crt\"\ntls_key_file = \"tls.key\"\n" } else { "" };
        configure(&site, "127.0.0.1", &format!("{QUICK}{tls}{}", tokens(&site)));
        site.client = Client::known(site.port, Some(ANN), is_encrypted.then(|| ours.trusted(None)));
        let daemon = site.start();
        // Some say nothing, and stay; their handshakes are waited for by nobody else.
        let silent: Vec<TcpStream> = (0..20).map(|_| connect(&site)).collect();
        for number in 0..50 {
            let mut stream = connect(&site);
            let mut bytes = noise(1 + number * 37);
            if number % 2 == 0 {
                // As TLS would begin: a handshake record of some length.
                bytes.splice(..0, [0x16, 3, 1, 0x02, 0x00]);
            }
            let _it_may_hang_up = stream.write_all(&bytes);
            drop(stream.shutdown(std::net::Shutdown::Write));
            rest(stream);
        }
        assert_eq!(site.client.get("/api/v1/status").expect("an answer").status, 200);
        silent.into_iter().for_each(|stream| drop(rest(stream)));
        assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
        daemon.terminate();
    }
}

#[test]
fn plain_http_where_tls_is_spoken_is_told_so() {
    let (mut site, ours) = (Site::new(""), Authority::new("ours"));
    ours.issue_to(&site);
    let tls = "tls_cert_file = \"tls.crt\"\ntls_key_file = \"tls.key\"\n";
    configure(&site, "127.0.0.1", &format!("{tls}{}", tokens(&site)));
    let plain = Client::known(site.port, Some(ANN), None);
    site.client = Client::known(site.port, Some(ANN), Some(ours.trusted(None)));
    let _daemon = site.start();
    let answer = plain.send("POST", "/api/v1/reload", None, &"x".repeat(10_000));
    assert!(answer.status == 400 && answer.body.contains("tls-required"), "{answer:?}");
}
