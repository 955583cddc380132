//! A connection to one broker, with one fetch under way.

use std::time::{Duration, Instant};

use kafka_protocol::messages::FetchRequest;

use super::answer::FetchAnswer;
use super::positions::Positions;
use super::session::{self, Limits, Session};
use crate::config::Tuning;
use crate::connector::Error;
use crate::connector::kafka::client::{Client, Isolation};
use crate::connector::kafka::wire::{Connection, WireError};

/// What a request asks for at least, in bytes. While the lane works on one answer the next one is on its way, so this is held
/// twice; below, the cost of a request begins to show.
const BYTES_MIN: i32 = 4 << 20;

/// How much more it asks for, in bytes for each millisecond of the round trip: with one request under way the path is idle for as long as it takes
/// to ask again, and at 100 MB/s that shall be a quarter of the time.
const BYTES_PER_MS: u128 = 300_000;

/// `bytes_max`: what it asks for at most, however far the broker is.
fn limits(round_trip: Duration, bytes_max: i32) -> Limits {
    let more = i32::try_from(round_trip.as_millis() * BYTES_PER_MS).unwrap_or(i32::MAX);
    let all = BYTES_MIN.saturating_add(more).min(bytes_max);
    Limits { all, partition: all / 4 }
}

/// A broker that partitions are fetched from.
#[derive(Debug)]
pub(super) struct Broker {
    pub(super) session: Session,
    pub(super) connection: Connection,
    version: i16,
    request_timeout: Duration,
    max_wait: Duration,
    /// When the answer must be there; `None` while no request is under way.
    awaited: Option<Instant>,
}

impl Broker {
    /// Connect, for topics that have ids or have none.
    ///
    /// # Errors
    /// The broker cannot be reached, or is too old.
    pub(super) fn open(client: &Client, node: i32, have_ids: bool, isolation: Isolation) -> Result<Self, Error> {
        let connection = client.connect(node)?;
        let version = connection.version_among::<FetchRequest>(session::versions(have_ids))?;
        let request_timeout = client.settings().request_timeout;
        let rack = client.settings().client_rack.as_deref();
        let Tuning { fetch_max_bytes, fetch_max_wait: max_wait, .. } = client.settings().tuning;
        let limits = limits(connection.round_trip(), fetch_max_bytes);
        let session = Session::new(version, limits, rack).reading(isolation).waiting(max_wait);
        Ok(Self { session, connection, version, request_timeout, max_wait, awaited: None })
    }

    /// When the answer must be there.
    pub(super) fn awaited(&self) -> Option<Instant> {
        self.awaited
    }

    /// Fetch what comes next, unless a fetch is under way.
    ///
    /// # Errors
    /// The connection is of no use any more.
    pub(super) fn fetch(&mut self, positions: &Positions, now: Instant) -> Result<(), WireError> {
        if self.awaited.is_some() {
            return Ok(());
        }
        let request = self.session.request(positions);
        self.connection.send(self.version, &request)?;
        self.awaited = Some(now + self.request_timeout + self.max_wait);
        Ok(())
    }

    /// The answer, if all of it has arrived.
    ///
    /// # Errors
    /// The connection is of no use any more: it broke, or the answer is late.
    pub(super) fn take(&mut self, now: Instant) -> Result<Option<FetchAnswer>, WireError> {
        let Some(deadline) = self.awaited else { return Ok(None) };
        let Some(answer) = self.connection.try_receive()? else {
            return if now > deadline { Err(self.connection.timed_out("answer a fetch")) } else { Ok(None) };
        };
        let answer = answer.decode::<FetchRequest>(self.version)?;
        self.awaited = None;
        // A broker that throttles does not listen meanwhile.
        self.request_timeout = self.request_timeout.max(answer.throttle.saturating_mul(2));
        Ok(Some(answer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_that_are_far_are_asked_for_more() {
        let limits = |round_trip| limits(round_trip, 32 << 20);
        assert_eq!(limits(Duration::from_micros(700)), Limits { all: 4 << 20, partition: 1 << 20 });
        assert_eq!(limits(Duration::from_millis(80)).all, (4 << 20) + 24_000_000);
        assert_eq!(limits(Duration::from_secs(20)).all, 32 << 20);
        assert_eq!(super::limits(Duration::ZERO, 64 << 10), Limits { all: 64 << 10, partition: 16 << 10 });
    }
}
