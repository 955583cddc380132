//! One connection: requests go out, answers come back in the same order.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, RequestHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use rustix::event::{PollFd, PollFlags};

use super::authentication::authenticate;
use super::error::WireError;
use super::greeting::Versions;
use super::settings::Settings;
use super::stream::{self, Stream};

/// The largest answer that is taken: a fetch answer holds what was asked for, or one record batch where that is larger.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// How soon a session may be renewed: brokers refuse it within its first second.
const RENEWAL_MIN: Duration = Duration::from_secs(1);

/// What a TLS record begins with: one of four types, and a version that begins with 3.
const TLS_RECORD_TYPES: std::ops::RangeInclusive<u8> = 0x14..=0x17;
const TLS_VERSION: u8 = 3;

/// An answer as it arrived.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The number that [`Connection::send`] gave its request.
    pub(crate) correlation: i32,
    bytes: Bytes,
    address: Arc<str>,
}

impl Answer {
    /// What follows the number of the request.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Read it. `R` and `version` are those of the request.
    ///
    /// # Errors
    /// The broker sent something else.
    pub(crate) fn decode<R: Request>(self, version: i16) -> Result<R::Response, WireError> {
        self.read(R::Response::header_version(version), |mut body| {
            R::Response::decode(&mut body, version).map_err(|error| error.to_string())
        })
    }

    /// Have its body read by the caller, who says what is wrong with it. `header_version` is that of the answer.
    ///
    /// # Errors
    /// The broker sent something else.
    pub(crate) fn read<T>(
        mut self,
        header_version: i16,
        read: impl FnOnce(Bytes) -> Result<T, String>,
    ) -> Result<T, WireError> {
        let malformed = |what: String| WireError::Malformed { address: self.address.clone(), what };
        if header_version > 0 {
            skip_tags(&mut self.bytes).ok_or_else(|| malformed("its header ends early".to_owned()))?;
        }
        read(self.bytes).map_err(malformed)
    }
}

/// Headers of answers have tagged fields, and none is defined.
fn skip_tags(bytes: &mut Bytes) -> Option<()> {
    for _ in 0..take_varint(bytes)? {
        take_varint(bytes)?;
        let len = take_varint(bytes)? as usize;
        if len > bytes.len() {
            return None;
        }
        bytes.advance(len);
    }
    Some(())
}

fn take_varint(bytes: &mut Bytes) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = bytes.try_get_u8().ok()?;
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// A connection to a broker that has been greeted: its versions are known, and who we are is settled.
pub(crate) struct Connection {
    address: Arc<str>,
    settings: Settings,
    stream: Stream,
    versions: Versions,
    correlation: i32,
    /// The requests without an answer yet, oldest first.
    awaited: VecDeque<i32>,
    /// Answers that arrived while something else was asked, oldest first.
    set_aside: VecDeque<Answer>,
    /// When we have to say again who we are.
    renew_at: Option<Instant>,
    /// What has arrived of the next answer: its length first, then the rest.
    arrived: Vec<u8>,
    /// The length of the next answer, when it is known.
    expected: Option<usize>,
    /// Whether the broker has answered anything but the greeting.
    has_answered: bool,
    /// How long the first answer took.
    round_trip: Duration,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({}, {} awaited)", self.address, self.awaited.len())
    }
}

impl Connection {
    /// Connect to `host:port`, and greet.
    ///
    /// # Errors
    /// Whatever keeps it from being of use.
    pub(crate) fn open(address: &Arc<str>, settings: &Settings) -> Result<Self, WireError> {
        let deadline = Instant::now() + settings.connect_timeout;
        settings.admit_login()?;
        let stream = Stream::connect(address, settings, deadline)?;
        let mut connection = Self {
            address: address.clone(),
            settings: settings.clone(),
            stream,
            versions: Versions::default(),
            correlation: 0,
            awaited: VecDeque::new(),
            set_aside: VecDeque::new(),
            renew_at: None,
            arrived: Vec::new(),
            expected: None,
            has_answered: false,
            round_trip: Duration::ZERO,
        };
        connection.ask_versions(deadline)?;
        connection.authenticate(deadline)?;
        Ok(connection)
    }

    /// How long its first answer took: about what the network takes there and back.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Say who we are, if that is wanted: at the beginning, and again before a broker would end the session (KIP-368).
    fn authenticate(&mut self, deadline: Instant) -> Result<(), WireError> {
        let Some(sasl) = self.settings.sasl.clone() else { return Ok(()) };
        let begun = Instant::now();
        let logins = self.settings.logins.clone();
        let lifetime = authenticate(self, &sasl, &logins, deadline)?;
        let soonest = Instant::now() + RENEWAL_MIN;
        // The last fifth is for what keeps a broker busy, or this thread.
        self.renew_at = lifetime.and_then(|lifetime| begun.checked_add(lifetime * 4 / 5)).map(|at| at.max(soonest));
        Ok(())
    }

    fn ask_versions(&mut self, deadline: Instant) -> Result<(), WireError> {
        const VERSION: i16 = 3;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tidegate"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let asked = Instant::now();
        self.send(VERSION, &request)?;
        let answer = self.receive(deadline)?;
        self.round_trip = asked.elapsed();
        let versions = Versions::read(&answer.bytes).ok_or_else(|| self.malformed("not its versions".to_owned()))?;
        self.versions =
            versions.map_err(|_| WireError::Unsupported { address: self.address.clone(), request: "ApiVersions" })?;
        Ok(())
    }

    /// Where it goes to.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// The version of transactions that the cluster has finalized (`transaction.version`): 2 is KIP-890.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.versions.of_transactions
    }

    /// The newest version of a request that both sides know.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn version<R: Request>(&self, ours: RangeInclusive<i16>) -> Result<i16, WireError> {
        let theirs = self.versions.of_requests.get(&R::KEY);
        let newest = theirs.map(|theirs| *theirs.end().min(ours.end()));
        let fits = |newest: &i16| theirs.is_some_and(|theirs| theirs.contains(newest)) && ours.contains(newest);
        newest.filter(fits).ok_or_else(|| WireError::Unsupported {
            address: self.address.clone(),
            request: std::any::type_name::<R>().rsplit("::").next().unwrap_or("a request"),
        })
    }

    /// Send a request, and answer the number that its [`Answer`] will have.
    ///
    /// # Errors
    /// It could not be sent.
    pub(crate) fn send<R: Request>(&mut self, version: i16, request: &R) -> Result<i32, WireError> {
        let body = self.encode(version, request)?;
        self.send_parts(R::KEY, version, R::header_version(version), &[IoSlice::new(&body)])
    }

    /// Send a request whose body was encoded by the caller, in pieces. Where the session has to be renewed, that comes first: brokers do it
    /// between two requests, so the answers that are awaited arrive meanwhile and are kept, and a lane that always awaits some
    /// stands still for them once in a session.
    ///
    /// # Errors
    /// It could not be sent, or the session not be renewed.
    pub(crate) fn send_parts(
        &mut self,
        key: i16,
        version: i16,
        header_version: i16,
        body: &[IoSlice<'_>],
    ) -> Result<i32, WireError> {
        if self.renew_at.is_some_and(|at| Instant::now() >= at) {
            self.authenticate(Instant::now() + self.settings.request_timeout)?;
        }
        self.send_now(key, version, header_version, body)
    }

    fn send_now(
        &mut self,
        key: i16,
        version: i16,
        header_version: i16,
        body: &[IoSlice<'_>],
    ) -> Result<i32, WireError> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(key)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_string(self.settings.client_id.to_string())));
        let mut head = BytesMut::new();
        head.put_i32(0);
        header.encode(&mut head, header_version).map_err(|error| self.malformed(error.to_string()))?;
        let bytes = head.len() - 4 + body.iter().map(|part| part.len()).sum::<usize>();
        let bytes = i32::try_from(bytes).map_err(|_| self.malformed("a request of over 2 GiB".to_owned()))?;
        head[..4].copy_from_slice(&bytes.to_be_bytes());
        let mut parts = Vec::with_capacity(body.len() + 1);
        parts.push(IoSlice::new(&head));
        parts.extend_from_slice(body);
        self.write_all(&mut parts)?;
        self.awaited.push_back(self.correlation);
        Ok(self.correlation)
    }

    fn write_all(&mut self, mut parts: &mut [IoSlice<'_>]) -> Result<(), WireError> {
        let deadline = Instant::now() + self.settings.request_timeout;
        while !parts.is_empty() {
            match self.stream.write(parts) {
                Ok(0) => return Err(self.closed()),
                Ok(written) => IoSlice::advance_slices(&mut parts, written),
                Err(error) => self.wait_for(error, PollFlags::OUT, "take a request", deadline)?,
            }
        }
        while let Err(error) = self.stream.flush() {
            self.wait_for(error, PollFlags::OUT, "take a request", deadline)?;
        }
        Ok(())
    }

    /// Send a request and wait for its answer. Answers to earlier requests, which come first, are kept for [`Connection::try_receive`].
    pub(super) fn ask<R: Request>(
        &mut self,
        version: i16,
        request: &R,
        deadline: Instant,
    ) -> Result<Answer, WireError> {
        let body = self.encode(version, request)?;
        let correlation = self.send_now(R::KEY, version, R::header_version(version), &[IoSlice::new(&body)])?;
        loop {
            match self.next_answer()? {
                Some(answer) if answer.correlation == correlation => return Ok(answer),
                Some(answer) => self.set_aside.push_back(answer),
                None => self.wait_for(io::ErrorKind::WouldBlock.into(), PollFlags::IN, "answer", deadline)?,
            }
        }
    }

    fn encode<R: Request>(&self, version: i16, request: &R) -> Result<BytesMut, WireError> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|error| self.malformed(error.to_string()))?;
        Ok(body)
    }

    /// After an operation that could not go on at once.
    fn wait_for(
        &self,
        error: io::Error,
        interest: PollFlags,
        what: &'static str,
        deadline: Instant,
    ) -> Result<(), WireError> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => match self.stream.wait(interest, deadline) {
                Ok(true) => Ok(()),
                Ok(false) => Err(self.timed_out(what)),
                Err(error) => Err(self.broken(error)),
            },
            _ => Err(self.broken(error)),
        }
    }

    /// The number of requests without an answer.
    #[cfg(test)]
    pub(crate) fn awaited(&self) -> usize {
        self.awaited.len() + self.set_aside.len()
    }

    /// The next answer if all of it has arrived. Does not wait.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(crate) fn try_receive(&mut self) -> Result<Option<Answer>, WireError> {
        match self.set_aside.pop_front() {
            Some(answer) => Ok(Some(answer)),
            None => self.next_answer(),
        }
    }

    /// The next answer from the stream if all of it has arrived.
    fn next_answer(&mut self) -> Result<Option<Answer>, WireError> {
        loop {
            let wanted = self.expected.map_or(4, |expected| expected + 4);
            if self.arrived.len() < wanted {
                self.arrived.reserve_exact(wanted - self.arrived.len());
                match self.stream.read(&mut self.arrived) {
                    Ok(0) => return Err(self.closed()),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.broken(error)),
                }
            } else if self.expected.is_none() {
                self.expected = Some(self.answer_bytes()?);
            } else {
                return self.take_answer(wanted).map(Some);
            }
        }
    }

    fn answer_bytes(&self) -> Result<usize, WireError> {
        let length = (&self.arrived[..4]).get_i32();
        match usize::try_from(length) {
            Ok(bytes) if (4..=ANSWER_BYTES_MAX).contains(&bytes) => Ok(bytes),
            _ if TLS_RECORD_TYPES.contains(&self.arrived[0]) && self.arrived[1] == TLS_VERSION => {
                Err(WireError::WantsTls { address: self.address.clone() })
            }
            _ => Err(self.malformed(format!("an answer of {length} bytes"))),
        }
    }

    /// Everything of the next answer has arrived, and is `bytes` long with its length.
    fn take_answer(&mut self, bytes: usize) -> Result<Answer, WireError> {
        let rest = self.arrived.split_off(bytes);
        let mut whole = Bytes::from(std::mem::replace(&mut self.arrived, rest));
        self.expected = None;
        whole.advance(4);
        let correlation = whole.get_i32();
        match self.awaited.pop_front() {
            Some(awaited) if awaited == correlation => {
                self.has_answered |= !self.versions.of_requests.is_empty();
                Ok(Answer { correlation, bytes: whole, address: self.address.clone() })
            }
            _ => Err(self.malformed(format!("an answer to request {correlation}, which was not asked"))),
        }
    }

    /// The next answer.
    ///
    /// # Errors
    /// It did not come before the deadline, or the connection broke.
    pub(crate) fn receive(&mut self, deadline: Instant) -> Result<Answer, WireError> {
        loop {
            if let Some(answer) = self.try_receive()? {
                return Ok(answer);
            }
            self.wait_for(io::ErrorKind::WouldBlock.into(), PollFlags::IN, "answer", deadline)?;
        }
    }

    /// Send a request and wait for its answer, which must be the only one that is awaited.
    ///
    /// # Errors
    /// Both sides know no version of it among `ours`, no answer came in time, or the connection broke.
    pub(crate) fn call<R: Request>(
        &mut self,
        ours: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Response, WireError> {
        let version = self.version::<R>(ours)?;
        let deadline = Instant::now() + self.settings.request_timeout;
        self.send(version, request)?;
        self.receive(deadline)?.decode::<R>(version)
    }

    /// An error: this took too long.
    pub(crate) fn timed_out(&self, what: &'static str) -> WireError {
        WireError::TimedOut { address: self.address.clone(), what, after: self.settings.request_timeout }
    }

    fn closed(&self) -> WireError {
        let address = self.address.clone();
        if self.has_answered { WireError::Closed { address } } else { WireError::HungUp { address } }
    }

    fn broken(&self, source: io::Error) -> WireError {
        match source.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe if !self.has_answered => self.closed(),
            _ => WireError::broken(&self.address, source),
        }
    }

    pub(super) fn malformed(&self, what: String) -> WireError {
        WireError::Malformed { address: self.address.clone(), what }
    }
}

/// Wait until something can be read from one of the connections. `false` after the deadline.
///
/// # Errors
/// The system refuses to wait.
pub(crate) fn wait_readable<'a>(
    connections: impl Iterator<Item = &'a Connection> + Clone,
    deadline: Instant,
) -> io::Result<bool> {
    if connections.clone().any(|connection| connection.stream.has_buffered() || !connection.set_aside.is_empty()) {
        return Ok(true);
    }
    let mut fds: Vec<_> =
        connections.map(|connection| PollFd::from_borrowed_fd(connection.stream.as_fd(), PollFlags::IN)).collect();
    stream::wait(&mut fds, deadline)
}
