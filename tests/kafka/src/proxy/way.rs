//! What is under way on one connection in one direction.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::frames::{Frames, Head, Part};
use super::{Deed, Side, Trap, Wan};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;
/// How much may wait without a far network, in bytes: enough that neither end waits for this thread.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// What is under way in one direction.
#[derive(Debug)]
pub(super) struct Way {
    side: Side,
    frames: Frames,
    waiting: VecDeque<Piece>,
    waiting_bytes: usize,
    /// When bytes that were read will be known to have arrived, and how many; and their sum.
    unacknowledged: VecDeque<(Instant, usize)>,
    unacknowledged_bytes: usize,
    /// The message that has begun is swallowed.
    drops: bool,
    /// The sender has closed.
    ended: bool,
    /// The closing was passed on.
    closed: bool,
}

/// Bytes on their way.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    due: Instant,
    /// Nothing goes on from here before this lets it.
    trap: Option<Arc<Trap>>,
}

impl Way {
    pub(super) fn new(side: Side) -> Self {
        let frames = match side {
            Side::Request => Frames::of_requests(),
            Side::Answer => Frames::of_answers(),
        };
        Self {
            side,
            frames,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            unacknowledged: VecDeque::new(),
            unacknowledged_bytes: 0,
            drops: false,
            ended: false,
            closed: false,
        }
    }

    pub(super) fn side(&self) -> Side {
        self.side
    }

    /// Nothing more will move in this direction.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether a message is held.
    pub(super) fn holds(&self) -> bool {
        self.waiting.iter().any(|piece| piece.trap.is_some())
    }

    /// The sender has closed; what it sent before may still be under way.
    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Do not pass a closing on.
    pub(super) fn keep_open(&mut self) {
        self.ended = false;
    }

    /// Nobody waits for what is under way any more.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
        self.closed = true;
    }

    /// Whether there is room for more.
    pub(super) fn may_read(&mut self, wan: Option<&Wan>, now: Instant) -> bool {
        while let Some((_, bytes)) = self.unacknowledged.pop_front_if(|(at, _)| *at <= now) {
            self.unacknowledged_bytes -= bytes;
        }
        let room = wan.map_or(WAITING_BYTES_MAX, |wan| wan.window);
        !self.ended && self.waiting_bytes < room && self.unacknowledged_bytes < room
    }

    /// When the first piece may go on. None: there is none, or it is held.
    pub(super) fn due(&self) -> Option<Instant> {
        let first = self.waiting.front()?;
        first.trap.as_ref().is_none_or(|trap| trap.is_released()).then_some(first.due)
    }

    /// When time alone lets something move: a piece is due, or bytes are known to have arrived.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let acknowledged = self.unacknowledged.front().map(|(at, _)| *at);
        [self.due(), acknowledged].into_iter().flatten().filter(|at| *at > now).min()
    }

    /// Read what has come. `delivery` says when so many bytes arrive at the other end, `trap` what catches a message. Answers whether anything came.
    ///
    /// Errors: the sender's socket fails.
    pub(super) fn read(
        &mut self,
        mut from: &TcpStream,
        wan: Option<&Wan>,
        delivery: impl FnOnce(usize) -> Instant,
        mut trap: impl FnMut(Head) -> Option<Arc<Trap>>,
    ) -> io::Result<bool> {
        let mut buffer = [0; READ_BYTES];
        let count = match from.read(&mut buffer) {
            Err(error) if is_passing(&error) => return Ok(false),
            read => read?,
        };
        if count == 0 {
            self.ended = true;
            return Ok(true);
        }
        let due = delivery(count);
        if let Some(wan) = wan {
            self.unacknowledged.push_back((due + wan.round_trip / 2, count));
            self.unacknowledged_bytes += count;
        }
        for part in self.frames.push(&buffer[..count]) {
            match part {
                Part::Begin(head, bytes) => {
                    let trap = trap(head);
                    self.drops = trap.as_ref().is_some_and(|trap| trap.deed == Deed::Drop);
                    self.push(Piece { bytes, due, trap });
                }
                Part::More(bytes) => self.push(Piece { bytes, due, trap: None }),
            }
        }
        Ok(true)
    }

    fn push(&mut self, piece: Piece) {
        if !self.drops {
            self.waiting_bytes += piece.bytes.len();
            self.waiting.push_back(piece);
        }
    }

    /// Write what is due; close if the sender has, and nothing is left. Answers whether anything moved.
    ///
    /// Errors: the receiver's socket fails.
    pub(super) fn write(&mut self, mut to: &TcpStream, now: Instant) -> io::Result<bool> {
        let mut moved = false;
        while self.due().is_some_and(|due| due <= now) {
            let Some(first) = self.waiting.front_mut() else { break };
            first.trap = None;
            let count = match to.write(&first.bytes) {
                Err(error) if is_passing(&error) => return Ok(moved),
                written => written?,
            };
            moved = true;
            self.waiting_bytes -= count;
            first.bytes.drain(..count);
            if first.bytes.is_empty() {
                self.waiting.pop_front();
            }
        }
        if self.ended && !self.closed && self.waiting.is_empty() {
            self.closed = true;
            to.shutdown(std::net::Shutdown::Write)?;
            moved = true;
        }
        Ok(moved)
    }
}

/// Whether a socket only has to be asked again.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
