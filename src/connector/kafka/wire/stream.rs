//! A socket that never blocks, with or without TLS, and waits with a deadline.

use std::io::{self, IoSlice, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{self, socket_error};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::certificates::Tls;
use super::error::WireError;
use super::proxy::{self, Trouble};
use super::resolve::resolve;
use super::settings::Settings;
use super::tls::{Handshake, TlsStream};

/// How long an address of a name is waited for before the next one is tried beside it.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// After how long a rest a connection is probed, how often then, and how many probes may be lost.
const PROBE_AFTER: Duration = Duration::from_secs(60);
const PROBE_EVERY: Duration = Duration::from_secs(10);
const PROBES: u32 = 6;

/// Bytes to and from a broker.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Connect to `host:port`, trying each address that the name has, or through the proxy; and
    /// agree on keys if connections are encrypted.
    pub(super) fn connect(address: &Arc<str>, settings: &Settings, deadline: Instant) -> Result<Self, WireError> {
        let socket = match &settings.proxy {
            None => reach(address, deadline)?,
            Some(proxy) => {
                let refused = |what| WireError::Proxy { proxy: proxy.address.clone(), address: address.clone(), what };
                proxy::connect(reach(&proxy.address, deadline)?, proxy, address, deadline).map_err(|trouble| {
                    refused(match trouble {
                        Trouble::Io(error) => error.to_string(),
                        Trouble::Refused(what) => what,
                    })
                })?
            }
        };
        match &settings.tls {
            None => Ok(Self::Plain(socket)),
            Some(tls) => Self::secure(socket, tls, address, settings.connect_timeout, deadline),
        }
    }

    fn secure(
        socket: TcpStream,
        tls: &Tls,
        address: &Arc<str>,
        after: Duration,
        deadline: Instant,
    ) -> Result<Self, WireError> {
        let failed = |error: io::Error| WireError::in_handshake(address, error);
        let mut stream = TlsStream::new(socket, tls, address).map_err(failed)?;
        loop {
            let interest = match stream.shake_hands().map_err(failed)? {
                Handshake::Done => return Ok(Self::Tls(Box::new(stream))),
                Handshake::MustRead => PollFlags::IN,
                Handshake::MustWrite => PollFlags::OUT,
            };
            let is_there = interest == PollFlags::IN && stream.has_buffered();
            let in_time = Instant::now() < deadline
                && (is_there || wait(&mut [PollFd::new(stream.socket(), interest)], deadline).map_err(failed)?);
            if !in_time {
                return Err(WireError::TimedOut { address: address.clone(), what: "finish the TLS handshake", after });
            }
        }
    }

    /// Whether nobody between here and the broker can read along.
    pub(super) fn is_encrypted(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(_) => true,
        }
    }

    /// Append what has arrived to `into`, at most as much as it has room for. `WouldBlock` if nothing has.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => Ok(rustix::io::read(socket, rustix::buffer::spare_capacity(into))?),
            Self::Tls(stream) => stream.read(into),
        }
    }

    /// Write as much as goes at once. What was taken may still wait here: [`Stream::flush`].
    pub(super) fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write_vectored(parts),
            Self::Tls(stream) => stream.write(parts),
        }
    }

    /// Send on what [`Stream::write`] took. `WouldBlock` if it does not all go at once.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }

    /// Whether bytes wait that have left the socket already, so that a poll of it would not tell.
    pub(super) fn has_buffered(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.has_buffered(),
        }
    }

    /// Wait until there is something to read, or room to write. `false` after the deadline, even if there is: who always sends a little is waited for no longer than others.
    pub(super) fn wait(&self, interest: PollFlags, deadline: Instant) -> io::Result<bool> {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        if interest == PollFlags::IN && self.has_buffered() {
            return Ok(true);
        }
        wait(&mut [PollFd::new(self, interest)], deadline)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Plain(socket) => socket.as_fd(),
            Self::Tls(stream) => stream.socket().as_fd(),
        }
    }
}

/// Connect to what is called so.
fn reach(address: &Arc<str>, deadline: Instant) -> Result<TcpStream, WireError> {
    let reached = resolve(address, deadline).and_then(|addresses| connect_to(addresses, deadline));
    reached.map_err(|source| WireError::Connect { address: address.clone(), source: Arc::new(source) })
}

/// Connect to the first address of a name that answers. Each is begun a moment after the one before, and none is waited for alone (RFC 8305).
fn connect_to(candidates: Vec<SocketAddr>, deadline: Instant) -> io::Result<TcpStream> {
    let mut candidates = candidates.into_iter();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let mut connecting: Vec<OwnedFd> = Vec::new();
    loop {
        let next = candidates.next();
        let has_next = next.is_some();
        match next.map(begin_to_connect) {
            Some(Ok(socket)) => connecting.push(socket),
            Some(Err(error)) => last = error,
            None if connecting.is_empty() => return Err(last),
            None => {}
        }
        if connecting.is_empty() {
            continue;
        }
        let until = if has_next { deadline.min(Instant::now() + NEXT_ADDRESS_AFTER) } else { deadline };
        match first_connected(&mut connecting, until)? {
            Ok(Some(socket)) => return Ok(socket),
            Ok(None) => {}
            Err(error) => last = error,
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
}

fn begin_to_connect(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    match rustix::net::connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The first of these that is connected by `until`, if one is. Those that have failed are dropped; the inner error is of one of them. Waits
/// no longer than for the first that comes to an end.
fn first_connected(connecting: &mut Vec<OwnedFd>, until: Instant) -> io::Result<io::Result<Option<TcpStream>>> {
    let mut fds: Vec<_> = connecting.iter().map(|socket| PollFd::new(socket, PollFlags::OUT)).collect();
    if !wait(&mut fds, until)? {
        return Ok(Ok(None));
    }
    let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
    let mut failed = None;
    for at in (0..ready.len()).rev().filter(|at| ready[*at]) {
        let socket = connecting.remove(at);
        match socket_error(&socket)? {
            Ok(()) => {
                let socket = TcpStream::from(socket);
                socket.set_nodelay(true)?;
                keep_alive(&socket)?;
                return Ok(Ok(Some(socket)));
            }
            Err(error) => failed = Some(error),
        }
    }
    Ok(failed.map_or(Ok(None), |error| Err(error.into())))
}

/// Have the system find out when the other side is gone, and keep what is on the way from forgetting the connection.
fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, PROBE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, PROBES)?)
}

/// Wait until one of `fds` is ready. `false` after the deadline.
pub(super) fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<bool> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        match poll(fds, Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_can_be_read_after_the_deadline_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let stream = Stream::Plain(listener.accept().expect("a connection").0);
        peer.write_all(b"x").expect("sent");
        let now = Instant::now();
        assert!(stream.wait(PollFlags::IN, now + Duration::from_secs(60)).expect("a wait"));
        assert!(!stream.wait(PollFlags::IN, now).expect("a wait"));
    }

    /// An address that lets nobody in and refuses nobody: what has its queue full passes over who comes.
    fn black_hole() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        rustix::net::listen(&listener, 0).expect("a queue");
        let address = listener.local_addr().expect("an address");
        let attempts = (0..8).map_while(|_| TcpStream::connect_timeout(&address, Duration::from_millis(100)).ok());
        let queue = attempts.collect();
        (listener, queue, address)
    }

    fn connected(candidates: &[SocketAddr], deadline: Instant) -> io::Result<SocketAddr> {
        connect_to(candidates.to_vec(), deadline).and_then(|socket| socket.peer_addr())
    }

    #[test]
    fn an_address_that_says_nothing_keeps_nobody_from_the_next() {
        let (_listener, _queue, hole) = black_hole();
        let good = TcpListener::bind("127.0.0.1:0").expect("a port");
        let good = good.local_addr().map(|address| (good, address)).expect("an address");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(connected(&[hole, good.1], deadline).ok(), Some(good.1));
        assert_eq!(connected(&[good.1, hole], deadline).ok(), Some(good.1));
    }

    #[test]
    fn an_address_that_refuses_keeps_nobody_from_the_next() {
        let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("an address");
        let good = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = good.local_addr().expect("an address");
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(connected(&[gone, address], deadline).ok(), Some(address));
        let error = connected(&[gone, gone], deadline).expect_err("nobody is there");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn no_address_is_waited_for_beyond_the_deadline() {
        let (_listener, _queue, hole) = black_hole();
        let deadline = Instant::now() + Duration::from_millis(300);
        assert_eq!(connected(&[hole], deadline).expect_err("nobody answers").kind(), io::ErrorKind::TimedOut);
        assert_eq!(connected(&[], deadline).expect_err("nobody is there").kind(), io::ErrorKind::NotFound);
    }
}
