//! Tokens of a service on loopback, which a real broker verifies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, SigningKey as _};

use super::broker::{TLS, World, ask, sasl, world};

const SECRET: &str = "correct-horse";

/// A request as the service gets it: its header and its body.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Something on loopback that answers requests over HTTP, until the process ends.
pub(crate) struct Service {
    pub(crate) url: String,
    asked: Arc<AtomicUsize>,
}

impl Service {
    pub(crate) fn start(answer: impl Fn(&Asked) -> (u16, String) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(AtomicUsize::new(0));
        let (counted, answer) = (asked.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (counted, answer) = (counted.clone(), answer.clone());
                thread::spawn(move || serve(stream, &counted, &*answer));
            }
        });
        Self { url, asked }
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

fn serve(stream: TcpStream, counted: &AtomicUsize, answer: &dyn Fn(&Asked) -> (u16, String)) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    counted.fetch_add(1, Relaxed);
    let (status, text) = answer(&Asked { head, body: String::from_utf8_lossy(&body).into_owned() });
    let length = text.len();
    write!(
        reader.get_mut(),
        "HTTP/1.1 {status} Said\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}"
    )
    .ok()
}

/// Signs tokens, as an authorization server does. A broker knows it by its public key.
#[derive(Clone)]
pub(super) struct Authority(Arc<KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        Self(Arc::new(KeyPair::generate().expect("a key")))
    }

    /// The set of public keys that a broker reads (RFC 7517).
    pub(super) fn jwks(&self) -> String {
        // The point of the curve: 4, and two numbers of 32 bytes.
        let point = &self.0.public_key_raw()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|number| BASE64_URL_SAFE_NO_PAD.encode(number));
        format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"one","x":"{x}","y":"{y}"}}]}}"#
        )
    }

    fn token(&self, audience: &str, seconds: u64) -> String {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("a time").as_secs();
        let claims = format!(r#"{{"sub":"alice","aud":"{audience}","iat":{now},"exp":{}}}"#, now + seconds);
        let head = BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"one"}"#);
        let signed = format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let signature = raw(&self.0.sign(signed.as_bytes()).expect("a signature"));
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A signature of ASN.1 (a sequence of two integers) as two numbers of 32 bytes.
fn raw(der: &[u8]) -> Vec<u8> {
    let (mut rest, mut both) = (&der[2..], Vec::new());
    for _ in 0..2 {
        let (number, behind) = rest[2..].split_at(rest[1].into());
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        both.extend(std::iter::repeat_n(0, 32 - number.len()).chain(number.iter().copied()));
        rest = behind;
    }
    both
}

/// An authorization server that knows one client.
fn service(world: &World, audience: &'static str, seconds: u64) -> Service {
    let tokens = world.tokens.clone();
    let expected = format!("authorization: Basic {}", BASE64_STANDARD.encode(format!("tide:{SECRET}")));
    Service::start(move |asked| {
        let is_known = asked.head.lines().any(|line| line == expected);
        match &*asked.body {
            _ if !is_known => (401, r#"{"error":"invalid_client","error_description":"hunter2"}"#.to_owned()),
            "grant_type=client_credentials&scope=kafka" => {
                let token = tokens.token(audience, seconds);
                (200, format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{seconds}}}"#))
            }
            _ => (400, r#"{"error":"invalid_request"}"#.to_owned()),
        }
    })
}

fn lines(service: &Service, secret: &str) -> String {
    let rest = format!(
        "token_endpoint = '{}/token', client_id = 'tide', client_secret = '{secret}', scope = 'kafka', extensions = {{ traceId = '123' }}",
        service.url
    );
    format!("{TLS}{}", sasl("OAUTHBEARER", &rest))
}

#[test]
fn a_token_of_an_endpoint_is_taken_by_a_broker_that_verifies_it() {
    let world = world();
    let service = service(&world, "kafka", 3600);
    let files = world.files();
    let settings = super::settings(&lines(&service, SECRET), files.path());
    for _connection in 0..3 {
        let mut connection = super::open(&world.address("JWT"), &settings).expect("a connection");
        assert_eq!(ask(&mut connection).expect("an answer"), 1);
    }
    assert_eq!(service.asked(), 1, "connections share a token");
}

#[test]
fn a_connection_outlives_its_token() {
    const SECONDS: u64 = 30;
    let world = world();
    let service = service(&world, "kafka", SECONDS);
    let mut connection = world.open("JWT", &lines(&service, SECRET)).expect("a connection");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(SECONDS * 6 / 5) {
        assert_eq!(ask(&mut connection).expect("an answer"), 1);
        thread::sleep(Duration::from_millis(20));
    }
    assert!((2..5).contains(&service.asked()), "{}", service.asked());
}

#[test]
fn a_client_that_the_endpoint_does_not_know_is_told_so_without_its_secret() {
    let world = world();
    let service = service(&world, "kafka", 3600);
    let files = world.files();
    let settings = super::settings(&lines(&service, "hunter2"), files.path());
    for _connection in 0..5 {
        let error = super::open(&world.address("JWT"), &settings).expect_err("no token");
        let said = "no token from http://127.0.0.1: it answers 401 (invalid_client) (failure 1 in a row; the next try is 1 s later)";
        assert_eq!(
            (error.code, error.message),
            ("token-not-issued", format!("cannot authenticate to {}: {said}", world.address("JWT")))
        );
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    assert_eq!(service.asked(), 1, "the next request waits");
}

#[test]
fn a_token_that_a_broker_refuses_is_not_used_again() {
    let world = world();
    let service = service(&world, "another service", 3600);
    let files = world.files();
    let settings = super::settings(&lines(&service, SECRET), files.path());
    let refused = super::open(&world.address("JWT"), &settings).expect_err("refused");
    assert_eq!(refused.code, "authentication-failed", "{refused:?}");
    assert!(refused.message.contains("does not take a token of client \"tide\" by OAUTHBEARER: "), "{refused:?}");
    let waits = super::open(&world.address("JWT"), &settings).expect_err("it waits");
    assert!(waits.message.contains("in a row"), "{waits:?}");
    thread::sleep(Duration::from_millis(1_100));
    let again = super::open(&world.address("JWT"), &settings).expect_err("refused again");
    assert_eq!((again.code, service.asked()), ("authentication-failed", 2));
}

#[test]
fn an_endpoint_that_does_not_answer_is_waited_for_no_longer_than_a_broker() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let silent = Service { url, asked: Arc::default() };
    let lines = format!("connection_timeout = '500ms'\n{}", lines(&silent, SECRET));
    let error = world().open("JWT", &lines).expect_err("no token");
    assert_eq!(error.code, "token-not-issued", "{error:?}");
    assert!(error.message.contains("in time"), "{error:?}");
}
