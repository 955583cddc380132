//! Servers that follow a script.

use std::io::{IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    ApiVersionsResponse, MetadataRequest, MetadataResponse, SaslAuthenticateResponse, SaslHandshakeResponse,
};
use kafka_protocol::protocol::Encodable;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::super::{Connection, wait_readable};
use crate::connector::Error;

const PATIENCE: Duration = Duration::from_secs(60);

const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const API_VERSIONS: i16 = 18;
const SASL_AUTHENTICATE: i16 = 36;

/// Something to speak over.
trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

/// The client's side of the conversation, as the server sees it.
struct Server<'a>(&'a mut dyn Wire);

/// A request: which, and its number.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: i16,
    correlation: i32,
}

impl Server<'_> {
    fn next(&mut self) -> Asked {
        let mut bytes = [0; 4];
        self.0.read_exact(&mut bytes).expect("a request");
        let mut frame = vec![0; u32::from_be_bytes(bytes) as usize];
        self.0.read_exact(&mut frame).expect("a request");
        let (key, correlation) =
            (i16::from_be_bytes([frame[0], frame[1]]), i32::from_be_bytes(frame[4..8].try_into().expect("four")));
        Asked { key, correlation }
    }

    fn greet(&mut self) {
        let asked = self.next();
        assert_eq!(asked.key, API_VERSIONS);
        let apis = [METADATA, SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE]
            .map(|key| ApiVersion::default().with_api_key(key).with_max_version(1));
        let answer = frame(asked, &ApiVersionsResponse::default().with_api_keys(apis.to_vec()), 3);
        self.0.write_all(&answer).expect("sent");
    }
}

fn frame(asked: Asked, answer: &impl Encodable, version: i16) -> Vec<u8> {
    let mut body = BytesMut::new();
    answer.encode(&mut body, version).expect("an answer");
    let length = (body.len() as i32 + 4).to_be_bytes();
    [&length[..], &asked.correlation.to_be_bytes(), &body].concat()
}

/// Serve one connection, with the address to connect to.
fn serve<T: Send + 'static>(script: impl FnOnce(TcpStream) -> T + Send + 'static) -> (String, thread::JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (address, thread::spawn(move || script(listener.accept().expect("a connection").0)))
}

#[test]
fn a_connection_that_rested_is_of_use_unless_it_is_closed_or_rested_too_long() {
    let (go_on, told) = channel::<()>();
    let (address, server) = serve(move |mut stream| {
        let mut server = Server(&mut stream);
        server.greet();
        let asked = server.next();
        server.0.write_all(&frame(asked, &MetadataResponse::default(), 1)).expect("sent");
        told.recv().expect("the end");
    });
    let mut connection = super::open(&address, &super::settings("", "".as_ref())).expect("a connection");
    connection.send(1, &MetadataRequest::default()).expect("sent");
    receive(&mut connection);
    let now = Instant::now();
    assert!(connection.outlasted_rest(now));
    assert!(!connection.outlasted_rest(now + Duration::from_secs(180)), "a load balancer may have forgotten it");
    assert!(connection.outlasted_rest(now), "it was looked at, and nothing else");
    go_on.send(()).expect("told");
    server.join().expect("the script");
    assert!(wait_readable([&connection].into_iter(), now + PATIENCE).expect("a wait"));
    assert!(!connection.outlasted_rest(now), "the broker has closed it");
}

#[test]
fn a_renewal_goes_between_two_requests_and_keeps_the_answers_before_it() {
    let (address, server) = serve(|mut stream| {
        let mut server = Server(&mut stream);
        server.greet();
        let handshake = |asked| frame(asked, &SaslHandshakeResponse::default(), 1);
        let accept = |asked| frame(asked, &SaslAuthenticateResponse::default().with_session_lifetime_ms(1000), 1);
        let metadata = |asked| frame(asked, &MetadataResponse::default(), 1);
        let mut keys = Vec::new();
        let mut next = |server: &mut Server<'_>| {
            let asked = server.next();
            keys.push(asked.key);
            asked
        };
        for answer in [&handshake as &dyn Fn(Asked) -> Vec<u8>, &accept] {
            let asked = next(&mut server);
            server.0.write_all(&answer(asked)).expect("sent");
        }
        let (first, second) = (next(&mut server), next(&mut server));
        // Nothing of the renewal before all that was asked earlier is answered.
        let renewal = next(&mut server);
        server.0.write_all(&[metadata(first), metadata(second), handshake(renewal)].concat()).expect("sent");
        let renewal = next(&mut server);
        server.0.write_all(&accept(renewal)).expect("sent");
        let third = next(&mut server);
        server.0.write_all(&metadata(third)).expect("sent");
        keys
    });
    let lines = "security.sasl = { mechanism = 'PLAIN', username = 'u', password = 'p' }";
    let mut connection = super::open(&address, &super::settings(lines, "".as_ref())).expect("a connection");
    let request = MetadataRequest::default();
    let mut asked = vec![connection.send(1, &request).expect("sent"), connection.send(1, &request).expect("sent")];
    thread::sleep(Duration::from_millis(1100));
    asked.push(connection.send(1, &request).expect("sent"));
    assert_eq!(connection.awaited(), 3);
    // Those that were kept are there although the socket has nothing.
    let long_ago = Instant::now();
    assert!(wait_readable([&connection].into_iter(), long_ago).expect("a wait"));
    let received: Vec<_> = (0..3).map(|_| receive(&mut connection)).collect();
    assert_eq!((received, connection.awaited()), (asked, 0));
    let keys = server.join().expect("the script");
    let (handshake, authenticate) = (SASL_HANDSHAKE, SASL_AUTHENTICATE);
    assert_eq!(keys, [handshake, authenticate, METADATA, METADATA, handshake, authenticate, METADATA]);
}

fn receive(connection: &mut Connection) -> i32 {
    connection.receive(Instant::now() + PATIENCE).expect("an answer").correlation
}

/// What a server needs for TLS, and the file of the certificate that clients have to trust.
fn tls() -> (Arc<rustls::ServerConfig>, tempfile::TempDir) {
    let key = KeyPair::generate().expect("a key");
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name").self_signed(&key).expect("one");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("a file");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a configuration");
    (Arc::new(config), dir)
}

const TLS: &str = "security.enable_tls = true\nsecurity.tls_ca_file = 'ca.pem'";

#[test]
fn an_answer_that_came_with_another_is_not_waited_for() {
    let (config, dir) = tls();
    let (address, server) = serve(move |stream| {
        let session = rustls::ServerConnection::new(config).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, stream);
        let mut server = Server(&mut stream);
        server.greet();
        let answers = [server.next(), server.next()].map(|asked| frame(asked, &MetadataResponse::default(), 1));
        server.0.write_all(&answers.concat()).expect("sent");
        server.0.flush().expect("sent");
        // The connection stays open until the client goes.
        server.0.read(&mut [0]).map_or(0, |bytes| bytes)
    });
    let mut connection = super::open(&address, &super::settings(TLS, dir.path())).expect("a connection");
    for _ in 0..2 {
        connection.send(1, &MetadataRequest::default()).expect("sent");
    }
    let deadline = Instant::now() + PATIENCE;
    while connection.try_receive().expect("an answer").is_none() {
        assert!(wait_readable([&connection].into_iter(), deadline).expect("a wait"), "no answer");
    }
    let long_ago = Instant::now();
    assert!(wait_readable([&connection].into_iter(), long_ago).expect("a wait"));
    assert!(connection.try_receive().expect("an answer").is_some());
    assert!(!wait_readable([&connection].into_iter(), long_ago).expect("a wait"));
    drop(connection);
    server.join().expect("the script");
}

#[test]
fn all_of_a_request_has_left_when_it_is_sent() {
    let (config, dir) = tls();
    let (sent, to_read) = channel::<usize>();
    let (address, server) = serve(move |stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let session = rustls::ServerConnection::new(config).expect("a session");
        let mut stream = rustls::StreamOwned::new(session, stream);
        let mut server = Server(&mut stream);
        server.greet();
        (0..to_read.recv().expect("a number")).for_each(|_| {
            server.next();
        });
    });
    let lines = format!("request_timeout = '100ms'\n{TLS}");
    let mut connection = super::open(&address, &super::settings(&lines, dir.path())).expect("a connection");
    // Until nothing more goes, because the server does not read.
    let body = vec![0; 32 << 10];
    let mut send = || connection.send_parts::<MetadataRequest>(1, &[IoSlice::new(&body)]);
    let requests = (0..100_000).take_while(|_| send().is_ok()).count();
    sent.send(requests).expect("the script goes on");
    server.join().expect("all that was sent");
    drop(connection);
}

/// Open a connection to a server that sends this, whatever it is asked, and then ends.
fn open_to(bytes: Vec<u8>, lines: &str, dir: &std::path::Path) -> Result<Connection, Error> {
    let (address, server) = serve(move |mut stream| {
        let sent = stream.write_all(&bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write));
        // Without this the client may see a reset, and not what was sent.
        sent.and_then(|()| stream.read_to_end(&mut Vec::new())).unwrap_or_default()
    });
    let opened = super::open(&address, &super::settings(lines, dir));
    let opened = opened.map(|connection| (connection.awaited() == 0).then_some(connection).expect("nothing awaited"));
    server.join().expect("the script");
    opened
}

#[test]
fn what_is_no_answer_has_a_name() {
    let dir = tempfile::tempdir().expect("a directory");
    for (bytes, code) in [
        (&b""[..], "broker-hung-up"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "malformed-answer"),
        (b"\x15\x03\x03\x00\x02\x02\x50", "tls-required"),
        (b"\xff\xff\xff\xff", "malformed-answer"),
        (b"\0\0\0\x03abc", "malformed-answer"),
        (b"\0\0\0\x04\0\0\0\x02", "malformed-answer"),
        (b"\0\0\0\x08\0\0\0\x01\0\0\xff\xff", "malformed-answer"),
        (b"\0\0\0\x06\0\0\0\x01\0\x23", "broker-unsupported"),
        (b"\0\0\0\x0c\0\0\0\x01\0\0", "broker-hung-up"),
    ] {
        let error = open_to(bytes.to_vec(), "", dir.path()).err().map(|error| error.code);
        assert_eq!(error, Some(code), "{bytes:?}");
    }
}

/// Frames that answer requests 1, 2 and 3, with any bodies, so that more than the first is looked at.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let asked = |correlation| Asked { key: 0, correlation };
    let apis =
        [SASL_HANDSHAKE, SASL_AUTHENTICATE].map(|key| ApiVersion::default().with_api_key(key).with_max_version(2));
    let greeting = frame(asked(1), &ApiVersionsResponse::default().with_api_keys(apis.to_vec()), 3);
    let handshake = frame(asked(2), &SaslHandshakeResponse::default(), 1);
    let body = || prop::collection::vec(any::<u8>(), 0..60);
    let any_frame = move |correlation: i32, body: Vec<u8>| {
        [&(body.len() as i32 + 4).to_be_bytes()[..], &correlation.to_be_bytes(), &body].concat()
    };
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        body().prop_map(move |body| any_frame(1, body)),
        {
            let greeting = greeting.clone();
            body().prop_map(move |body| [greeting.clone(), any_frame(2, body)].concat())
        },
        body().prop_map(move |body| [greeting.clone(), handshake.clone(), any_frame(3, body)].concat()),
    ]
}

proptest! {
    #[test]
    fn nothing_that_a_server_sends_first_is_a_panic(bytes in frames()) {
        let lines = "security.sasl = { mechanism = 'SCRAM-SHA-256', username = 'u', password = 'p' }";
        // No server is believed that does not know the password.
        prop_assert!(open_to(bytes, lines, "".as_ref()).is_err());
    }

    #[test]
    fn nothing_that_a_server_sends_instead_of_tls_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, dir) = tls();
        prop_assert!(open_to(bytes, TLS, dir.path()).is_err());
    }
}
