//! A client of the daemon's REST API.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use ureq::http::{HeaderValue, Uri, header};

use super::args::address::Address;
use super::failure::Failure;
use super::identity;
use crate::api::wire::{Link, Problem};
use crate::config::is_near;
use crate::files::outward::http;

/// A daemon that does not take a connection in this time is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The daemon answers a publish in half a minute at most, compiling included, and everything else sooner.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// The largest answer is a page of records. JSON may be six times as large as the 8 MiB in it.
const ANSWER_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// A client of one daemon.
pub(super) struct Client {
    agent: ureq::Agent,
    base: String,
    /// The token, if there is one.
    authorization: Option<HeaderValue>,
}

/// Why a request has no good answer.
#[derive(Debug)]
pub(super) enum RequestError {
    /// The daemon said no.
    Refused(Box<Problem>),
    /// The request did not reach a daemon.
    Unreachable(Failure),
    /// The request may have been carried out or not.
    Lost(Failure),
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Refused(problem) => {
                let faults = problem.errors.iter().map(|fault| {
                    let help = if fault.help.is_empty() { String::new() } else { format!(" ({})", fault.help) };
                    let place = if fault.place.is_empty() { String::new() } else { format!("{}: ", fault.place) };
                    format!("\n  {place}{}: {}{help}", fault.path, fault.message)
                });
                let message = if problem.errors.len() == 1 { "it has an error".to_owned() } else { problem.detail };
                match faults.collect::<String>() {
                    faults if faults.is_empty() => Self::new(message, problem.remedy),
                    faults => Self::new(format!("{message}:{faults}"), problem.remedy),
                }
            }
            RequestError::Unreachable(failure) | RequestError::Lost(failure) => failure,
        }
    }
}

/// The parameters behind the question mark.
pub(super) type Query<'a> = &'a [(&'a str, String)];

impl Client {
    /// A client of the daemon at `address`. Connects when it is used.
    pub(super) fn new(address: &Address) -> Result<Self, Failure> {
        let base = address.url.trim_end_matches('/');
        let is_encrypted = way(base).ok_or_else(|| no_daemon(&address.url))?;
        let host = host(base).ok_or_else(|| no_daemon(&address.url))?;
        if !is_encrypted && let Some(flag) = meaningless_without_tls(address) {
            let help = "write https:// in --url or TIDEGATE_URL, or leave the file out";
            return Err(Failure::new(format!("{flag} means nothing without TLS, and the daemon is {base}"), help));
        }
        let authorization = identity::authorization(address)?;
        if authorization.is_some() && !is_encrypted && !is_near(&host) && !address.insecure_plaintext {
            let help = "write https:// in --url or TIDEGATE_URL; where something else encrypts, allow it with --insecure-plaintext";
            return Err(Failure::new(format!("the token is not sent without TLS to {host}"), help));
        }
        let config = http().timeout_connect(Some(CONNECT_TIMEOUT)).timeout_recv_response(Some(ANSWER_TIMEOUT));
        let config = if is_encrypted { config.tls_config(identity::tls(address)?) } else { config };
        Ok(Self { agent: config.build().into(), base: format!("{base}/api/v1"), authorization })
    }

    /// GET.
    pub(super) fn get<T: DeserializeOwned>(&self, path: &[&str], query: Query<'_>) -> Result<T, RequestError> {
        let request =
            self.known(self.agent.get(self.url(path))).query_pairs(query.iter().map(|(name, value)| (*name, value)));
        self.answer(request.call())
    }

    /// GET a stream of events, from after the one that was the last.
    pub(super) fn stream(&self, path: &[&str], last: Option<&str>) -> Result<impl Read + use<>, RequestError> {
        let request = self.known(self.agent.get(self.url(path))).header(header::ACCEPT, "text/event-stream");
        let request = last.into_iter().fold(request, |request, last| request.header("Last-Event-ID", last));
        let response = request.call().map_err(|error| self.request_error(&error))?;
        if response.status().is_success() {
            return Ok(response.into_body().into_reader());
        }
        Err(match self.answer::<serde::de::IgnoredAny>(Ok(response)) {
            Err(error) => error,
            Ok(_) => RequestError::Lost(self.lost(&"no stream")),
        })
    }

    /// DELETE.
    pub(super) fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, RequestError> {
        self.answer(self.known(self.agent.delete(self.url(path))).call())
    }

    /// DELETE of a link that has a version, if it has that one. The link, if the daemon keeps the order.
    pub(super) fn delete_version(
        &self,
        path: &[&str],
        query: Query<'_>,
        version: Option<u64>,
    ) -> Result<Option<Link>, RequestError> {
        let request =
            self.known(self.agent.delete(self.url(path))).query_pairs(query.iter().map(|(name, value)| (*name, value)));
        self.answer(if_match(request, version).call())
    }

    /// PUT of something that has a version, if it has that one.
    pub(super) fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
        version: Option<u64>,
        body: &[u8],
    ) -> Result<T, RequestError> {
        let request =
            self.known(self.agent.put(self.url(path))).query_pairs(query.iter().map(|(name, value)| (*name, value)));
        self.answer(if_match(request, version).content_type("application/json").send(body))
    }

    /// POST of some bytes.
    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
        content_type: &str,
        body: &[u8],
    ) -> Result<T, RequestError> {
        let request =
            self.known(self.agent.post(self.url(path))).query_pairs(query.iter().map(|(name, value)| (*name, value)));
        self.answer(request.content_type(content_type).send(body))
    }

    /// POST of JSON.
    pub(super) fn post_json<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: Query<'_>,
        body: &impl Serialize,
    ) -> Result<T, RequestError> {
        let body = serde_json::to_vec(body).map_err(|error| RequestError::Unreachable(self.unreachable(&error)))?;
        self.post(path, query, "application/json", &body)
    }

    /// A request that says who we are.
    fn known<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.authorization {
            Some(token) => request.header(header::AUTHORIZATION, token.clone()),
            None => request,
        }
    }

    fn url(&self, path: &[&str]) -> String {
        path.iter().fold(self.base.clone(), |mut url, segment| {
            url.push('/');
            push_encoded(&mut url, segment);
            url
        })
    }

    fn answer<T: DeserializeOwned>(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, RequestError> {
        let mut response = response.map_err(|error| self.request_error(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_vec();
        let body = body.map_err(|error| RequestError::Lost(self.lost(&error)))?;
        if status.is_success() {
            let body = if body.is_empty() { b"null" } else { &*body };
            return serde_json::from_slice(body).map_err(|error| RequestError::Lost(self.lost(&error)));
        }
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(RequestError::Refused(problem)),
            Err(_) => Err(RequestError::Lost(self.lost(&format!("status {status}")))),
        }
    }

    fn request_error(&self, error: &ureq::Error) -> RequestError {
        if let Some((why, help)) = identity::tls_trouble(error) {
            let message = format!("no secure connection to the daemon at {}: {why}", self.daemon());
            return RequestError::Unreachable(Failure::new(message, help));
        }
        let unsent = match error {
            ureq::Error::Io(error) => error.kind() == io::ErrorKind::ConnectionRefused,
            ureq::Error::Timeout(timeout) => matches!(timeout, ureq::Timeout::Connect | ureq::Timeout::Resolve),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed | ureq::Error::BadUri(_) => true,
            ureq::Error::Http(_) => true,
            _ => false,
        };
        let reason: &dyn std::fmt::Display = if let ureq::Error::Io(error) = error { error } else { error };
        if unsent { RequestError::Unreachable(self.unreachable(reason)) } else { RequestError::Lost(self.lost(reason)) }
    }

    fn unreachable(&self, error: &dyn std::fmt::Display) -> Failure {
        let help = "start it with `tidegate run`, or say where it is with --url or TIDEGATE_URL";
        Failure::new(format!("cannot reach the daemon at {}: {error}", self.daemon()), help)
    }

    fn lost(&self, error: &dyn std::fmt::Display) -> Failure {
        let help = "see with `tidegate status` whether it runs, and that --url or TIDEGATE_URL names a tidegate";
        Failure::new(format!("no good answer from the daemon at {}: {error}", self.daemon()), help)
    }

    fn daemon(&self) -> &str {
        self.base.strip_suffix("/api/v1").unwrap_or(&self.base)
    }
}

/// Whether the way to a daemon is encrypted; `None` if the URL is none of a daemon.
fn way(url: &str) -> Option<bool> {
    if url.starts_with("https://") { Some(true) } else { url.starts_with("http://").then_some(false) }
}

/// The host of a URL, as the request goes there: what stands before an `@` is none.
fn host(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    uri.host().filter(|host| !host.is_empty()).map(str::to_owned)
}

fn no_daemon(url: &str) -> Failure {
    let help = "write it as http://HOST:PORT or https://HOST:PORT, with --url or in TIDEGATE_URL";
    Failure::new(format!("not the URL of a daemon: {url}"), help)
}

/// The first flag that says who we or the daemon are in TLS.
fn meaningless_without_tls(address: &Address) -> Option<&'static str> {
    let files = [
        ("--ca-file (TIDEGATE_CA_FILE)", &address.ca_file),
        ("--cert-file (TIDEGATE_CERT_FILE)", &address.cert_file),
        ("--key-file (TIDEGATE_KEY_FILE)", &address.key_file),
    ];
    files.into_iter().find(|(_, file)| file.is_some()).map(|(flag, _)| flag)
}

fn if_match<B>(request: ureq::RequestBuilder<B>, version: Option<u64>) -> ureq::RequestBuilder<B> {
    match version {
        Some(version) => request.header("If-Match", format!("\"{version}\"")),
        None => request,
    }
}

/// Append a segment of a path, percent-encoded.
fn push_encoded(url: &mut String, segment: &str) {
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _never_fails = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: [&str; 5] = [
        "http://127.0.0.1:8081",
        "http://localhost:8081/",
        "http://LOCALHOST",
        "http://[::1]:8081",
        "http://127.9.9.9",
    ];
    const FAR: [&str; 5] = [
        "http://10.0.0.7:8081",
        "http://daemon.example:8081/",
        "http://localhost.example:8081",
        "http://127.0.0.1@daemon.example:8081",
        "http://[2001:db8::1]:8081",
    ];

    fn at(url: &str) -> Address {
        let url = url.to_owned();
        Address { url, token_file: None, ca_file: None, cert_file: None, key_file: None, insecure_plaintext: false }
    }

    fn said(failure: Failure) -> String {
        let Failure::Told { message, .. } = failure else { panic!("nothing is said: {failure:?}") };
        message
    }

    #[test]
    fn a_token_goes_to_another_machine_with_tls_only_or_if_that_is_allowed() {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        std::fs::write(&token, "TOKEN-PLANTED\n").expect("a file");
        let sends = |url: &str, insecure_plaintext: bool| {
            let address = Address { token_file: Some(token.clone()), insecure_plaintext, ..at(url) };
            Client::new(&address).map(|client| client.authorization.is_some()).map_err(said)
        };
        for url in NEAR {
            assert_eq!(sends(url, false), Ok(true), "{url}");
        }
        for url in FAR {
            assert_eq!(sends(url, true), Ok(true), "{url}");
            let error = sends(url, false).expect_err(url);
            assert!(error.contains("not sent without TLS") && !error.contains("PLANTED"), "{url}: {error}");
            assert!(Client::new(&at(url)).is_ok(), "{url}: there is no token");
        }
        // This machine may trust nobody: then that is said.
        let encrypted = sends("https://daemon.example:8081", false);
        assert!(encrypted.is_ok() || encrypted.is_err_and(|error| error.contains("authority")));
    }

    #[test]
    fn files_of_tls_mean_nothing_without_it() {
        let file = Some("file.pem".into());
        for (address, flag) in [
            (Address { ca_file: file.clone(), ..at(NEAR[0]) }, "--ca-file"),
            (Address { cert_file: file.clone(), key_file: file.clone(), ..at(NEAR[0]) }, "--cert-file"),
            (Address { key_file: file, ..at(FAR[0]) }, "--key-file"),
        ] {
            let error = said(Client::new(&address).err().expect("refused"));
            assert!(error.contains(flag), "{error}");
        }
    }

    #[test]
    fn what_is_no_url_of_a_daemon_is_refused() {
        for url in ["", "127.0.0.1:8081", "http://", "https:///", "ftp://127.0.0.1", "http://a b", "http://:8081"] {
            assert!(Client::new(&at(url)).is_err(), "{url:?}");
        }
    }
}
