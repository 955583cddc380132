//! A socket that never blocks, and waits with a deadline.

use std::io::{self, IoSlice, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::WireError;

/// How connections to a cluster are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What the broker's logs call us.
    pub(crate) client_id: Arc<str>,
    /// How long connecting may take, handshakes included.
    pub(crate) connect_timeout: Duration,
    /// How long a broker has for an answer.
    pub(crate) request_timeout: Duration,
}

/// Bytes to and from a broker.
pub(super) struct Stream {
    socket: TcpStream,
}

impl Stream {
    /// Connect to `host:port`, trying each address that the name has.
    pub(super) fn connect(address: &Arc<str>, deadline: Instant) -> Result<Self, WireError> {
        let failed = |source| WireError::Connect { address: address.clone(), source: Arc::new(source) };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in address.to_socket_addrs().map_err(failed)? {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            match TcpStream::connect_timeout(&candidate, left) {
                Ok(socket) => {
                    socket.set_nodelay(true).map_err(failed)?;
                    socket.set_nonblocking(true).map_err(failed)?;
                    return Ok(Self { socket });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Append what has arrived to `into`, at most as much as it has room for. `WouldBlock` if nothing has.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        Ok(rustix::io::read(&self.socket, rustix::buffer::spare_capacity(into))?)
    }

    /// Write as much as goes at once.
    pub(super) fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.socket.write_vectored(parts)
    }

    /// Whether bytes wait that have left the socket already, so that a poll of it would not tell.
    pub(super) fn has_buffered(&self) -> bool {
        false
    }

    /// Wait until there is something to read, or room to write. `false` after the deadline.
    pub(super) fn wait(&self, interest: PollFlags, deadline: Instant) -> io::Result<bool> {
        wait(&mut [PollFd::new(&self.socket, interest)], deadline)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
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
