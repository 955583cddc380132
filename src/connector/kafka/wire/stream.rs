//! A socket that never blocks, with or without TLS, and waits with a deadline.

use std::io::{self, IoSlice, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

use super::error::WireError;
use super::settings::Settings;
use super::tls::{Handshake, Tls, TlsStream};

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
    /// Connect to `host:port`, trying each address that the name has, and agree on keys if connections are encrypted.
    pub(super) fn connect(address: &Arc<str>, settings: &Settings, deadline: Instant) -> Result<Self, WireError> {
        let socket = connect(address, deadline)
            .map_err(|source| WireError::Connect { address: address.clone(), source: Arc::new(source) })?;
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
            if !wait(&mut [PollFd::new(stream.socket(), interest)], deadline).map_err(failed)? {
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

    /// Wait until there is something to read, or room to write. `false` after the deadline.
    pub(super) fn wait(&self, interest: PollFlags, deadline: Instant) -> io::Result<bool> {
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

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for candidate in address.to_socket_addrs()? {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&candidate, left) {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                keep_alive(&socket)?;
                socket.set_nonblocking(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
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
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
