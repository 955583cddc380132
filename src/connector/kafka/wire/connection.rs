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
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use rustix::event::{PollFd, PollFlags};

use super::authentication::authenticate;
use super::calls::Call;
use super::error::WireError;
use super::fields::{Fields, Flaw, Reader};
use super::greeting::Versions;
use super::settings::Settings;
use super::stream::{self, Stream};

/// How much room is made at first for an answer that claims to be longer, in bytes. More is made as it arrives.
const ROOM_AT_FIRST: usize = 1 << 20;

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
    /// Read it. `R` and `version` are those of the request. This is the only way in which answers are read.
    ///
    /// # Errors
    /// The broker sent something else.
    pub(crate) fn decode<R: Call>(self, version: i16) -> Result<R::Answer, WireError> {
        read::<R>(self.bytes, version).map_err(|flaw| WireError::Malformed {
            address: self.address,
            what: format!("the answer to {} cannot be read: {flaw}", name_of::<R>()),
        })
    }
}

/// Read the header of an answer, which has tagged fields of which none is defined, and its body.
pub(crate) fn read<R: Call>(bytes: Bytes, version: i16) -> Result<R::Answer, Flaw> {
    let mut header = Reader::new(bytes, R::Response::header_version(version) > 0);
    header.tags(|_, _| Ok(()))?;
    let mut body = header.then(R::is_flexible(version));
    let answer = R::read_answer(&mut body, version)?;
    body.finish()?;
    Ok(answer)
}

fn name_of<R>() -> &'static str {
    let name = std::any::type_name::<R>().rsplit("::").next().unwrap_or_default();
    name.strip_suffix("Request").unwrap_or(name)
}

/// A request without an answer yet.
#[derive(Clone, Copy, Debug)]
struct Awaited {
    correlation: i32,
    /// What its answer may take, in bytes.
    bytes_max: usize,
}

/// A connection to a broker that has been greeted: its versions are known, and who we are is settled.
pub(crate) struct Connection {
    address: Arc<str>,
    settings: Settings,
    stream: Stream,
    versions: Versions,
    correlation: i32,
    /// The requests without an answer yet, oldest first.
    awaited: VecDeque<Awaited>,
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
    /// When something was sent or answered last.
    used: Instant,
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
        settings.admit_login(address)?;
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
            used: Instant::now(),
        };
        connection.ask_versions(deadline)?;
        connection.authenticate(deadline)?;
        Ok(connection)
    }

    /// Whether it can be used after a rest, in which no answer was awaited: the broker has not closed it, and nothing on the way to the broker
    /// has had the time to forget it.
    pub(crate) fn outlasted_rest(&mut self, now: Instant) -> bool {
        !self.rested_too_long(now) && matches!(self.next_answer(), Ok(None))
    }

    /// Whether something on the way to the broker may have forgotten it.
    pub(crate) fn rested_too_long(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.used) >= self.settings.tuning.idle_timeout
    }

    /// How long its first answer took: about what the network takes there and back.
    pub(crate) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Say who we are, if that is wanted: at the beginning, and again before a broker would end the session (KIP-368).
    fn authenticate(&mut self, deadline: Instant) -> Result<(), WireError> {
        let settings = self.settings.clone();
        let Some(sasl) = &settings.sasl else { return Ok(()) };
        let begun = Instant::now();
        let lifetime = authenticate(self, sasl, &settings, deadline)?;
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
        let versions = answer.decode::<ApiVersionsRequest>(VERSION)?;
        self.versions =
            versions.map_err(|_| WireError::Unsupported { address: self.address.clone(), request: "ApiVersions" })?;
        Ok(())
    }

    /// Where it goes to.
    pub(crate) fn address(&self) -> &Arc<str> {
        &self.address
    }

    /// Whether what is sent is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// The version of transactions that the cluster has finalized (`transaction.version`): 2 is KIP-890.
    pub(crate) fn transaction_version(&self) -> i16 {
        self.versions.of_transactions
    }

    /// The newest version of a request that both sides know.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn version<R: Call>(&self) -> Result<i16, WireError> {
        self.version_among::<R>(R::SPOKEN)
    }

    /// The newest of some of the versions that we speak.
    ///
    /// # Errors
    /// The broker knows none of them.
    pub(crate) fn version_among<R: Call>(&self, ours: RangeInclusive<i16>) -> Result<i16, WireError> {
        let theirs = self.versions.of_requests.get(&R::KEY);
        let newest = theirs.map(|theirs| *theirs.end().min(ours.end()));
        let fits = |newest: &i16| theirs.is_some_and(|theirs| theirs.contains(newest)) && ours.contains(newest);
        newest
            .filter(fits)
            .ok_or_else(|| WireError::Unsupported { address: self.address.clone(), request: name_of::<R>() })
    }

    /// Send a request, and answer the number that its [`Answer`] will have.
    ///
    /// # Errors
    /// It could not be sent.
    pub(crate) fn send<R: Call>(&mut self, version: i16, request: &R) -> Result<i32, WireError> {
        let body = self.encode(version, request)?;
        self.send_parts::<R>(version, &[IoSlice::new(&body)])
    }

    /// Send a request whose body was encoded by the caller, in pieces. Where the session has to be renewed, that comes first: brokers do it
    /// between two requests, so the answers that are awaited arrive meanwhile and are kept, and a lane that always awaits some
    /// stands still for them once in a session.
    ///
    /// # Errors
    /// It could not be sent, or the session not be renewed.
    pub(crate) fn send_parts<R: Call>(&mut self, version: i16, body: &[IoSlice<'_>]) -> Result<i32, WireError> {
        if self.renew_at.is_some_and(|at| Instant::now() >= at) {
            self.authenticate(Instant::now() + self.settings.request_timeout)?;
        }
        self.send_now::<R>(version, body)
    }

    fn send_now<R: Call>(&mut self, version: i16, body: &[IoSlice<'_>]) -> Result<i32, WireError> {
        self.correlation = self.correlation.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_string(self.settings.client_id.to_string())));
        let mut head = BytesMut::new();
        head.put_i32(0);
        header.encode(&mut head, R::header_version(version)).map_err(|_| self.unencoded::<R>())?;
        let bytes = head.len() - 4 + body.iter().map(|part| part.len()).sum::<usize>();
        let bytes = i32::try_from(bytes).map_err(|_| self.unencoded::<R>())?;
        head[..4].copy_from_slice(&bytes.to_be_bytes());
        let mut parts = Vec::with_capacity(body.len() + 1);
        parts.push(IoSlice::new(&head));
        parts.extend_from_slice(body);
        self.write_all(&mut parts)?;
        self.used = Instant::now();
        self.awaited.push_back(Awaited { correlation: self.correlation, bytes_max: R::ANSWER_BYTES_MAX });
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
    pub(super) fn ask<R: Call>(&mut self, version: i16, request: &R, deadline: Instant) -> Result<Answer, WireError> {
        let body = self.encode(version, request)?;
        let correlation = self.send_now::<R>(version, &[IoSlice::new(&body)])?;
        loop {
            match self.next_answer()? {
                Some(answer) if answer.correlation == correlation => return Ok(answer),
                Some(answer) => self.set_aside.push_back(answer),
                None => self.wait_for(io::ErrorKind::WouldBlock.into(), PollFlags::IN, "answer", deadline)?,
            }
        }
    }

    fn encode<R: Call>(&self, version: i16, request: &R) -> Result<BytesMut, WireError> {
        let mut body = BytesMut::new();
        request.encode(&mut body, version).map_err(|_| self.unencoded::<R>())?;
        Ok(body)
    }

    fn unencoded<R: Call>(&self) -> WireError {
        WireError::Unencoded { address: self.address.clone(), request: name_of::<R>() }
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
                if self.arrived.len() == self.arrived.capacity() {
                    self.arrived.reserve_exact(room(self.arrived.len(), wanted));
                }
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
        let bytes_max = self.awaited.front().map_or(0, |awaited| awaited.bytes_max);
        match usize::try_from(length) {
            Ok(bytes) if (4..=bytes_max).contains(&bytes) => Ok(bytes),
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
            Some(awaited) if awaited.correlation == correlation => {
                self.has_answered |= !self.versions.of_requests.is_empty();
                self.used = Instant::now();
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
    /// Both sides know no version of it, no answer came in time, or the connection broke.
    pub(crate) fn call<R: Call>(&mut self, request: &R) -> Result<R::Answer, WireError> {
        self.call_among(R::SPOKEN, request)
    }

    /// The same in one of some of the versions that we speak.
    ///
    /// # Errors
    /// As those of [`Connection::call`].
    pub(crate) fn call_among<R: Call>(
        &mut self,
        ours: RangeInclusive<i16>,
        request: &R,
    ) -> Result<R::Answer, WireError> {
        let version = self.version_among::<R>(ours)?;
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

    fn malformed(&self, what: String) -> WireError {
        WireError::Malformed { address: self.address.clone(), what }
    }
}

/// How much more room is made, in bytes, when so many have arrived of those that are wanted: an answer that claims much and sends little costs little.
fn room(arrived: usize, wanted: usize) -> usize {
    (wanted - arrived).min(arrived.max(ROOM_AT_FIRST))
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
