//! What a lane waits for, and for how long.

use std::time::Instant;

use super::{Broker, Session};
use crate::connector::Error;
use crate::connector::kafka::error;
use crate::connector::kafka::wire::{Connection, wait_readable};

impl Session {
    pub(super) fn is_awaiting(&self) -> bool {
        self.connections().next().is_some()
    }

    /// The connections that an answer is awaited on, and since when the broker could give it.
    fn connections(&self) -> impl Iterator<Item = (&Connection, Instant)> + Clone {
        let brokers = self.brokers.values();
        let since = |broker: &Broker| Some(broker.pace.begins(broker.flights.front()?.at));
        let brokers = brokers.filter_map(move |broker| Some((&broker.connection, since(broker)?)));
        let coordinator = self.coordinator.iter();
        brokers.chain(coordinator.filter_map(|asked| Some((&asked.connection, asked.asked.as_ref()?.at))))
    }

    /// Until when a broker does not listen, if something waits for that.
    pub(super) fn held_until(&self) -> Option<Instant> {
        let now = Instant::now();
        let held = self.sending.ready().filter_map(|place| self.brokers.get(self.leaders.get(&place)?));
        held.filter_map(|broker| broker.pace.held_until(now)).min()
    }

    pub(super) fn wait(&self, deadline: Instant) -> Result<(), Error> {
        let deadline = self.held_until().map_or(deadline, |held| held.min(deadline));
        let timeout = self.client.settings().request_timeout;
        let patience = self.connections().map(|(_, at)| at + timeout).min();
        let until = patience.map_or(deadline, |patience| patience.min(deadline));
        let connections = self.connections().map(|(connection, _)| connection);
        if !wait_readable(connections, until).map_err(error::cannot_wait)? {
            return self.check_patience();
        }
        Ok(())
    }

    /// Whether a broker has taken too long.
    pub(super) fn check_patience(&self) -> Result<(), Error> {
        let timeout = self.client.settings().request_timeout;
        match self.connections().find(|(_, at)| at.elapsed() > timeout) {
            Some((late, _)) => Err(late.timed_out("answer").into()),
            None => Ok(()),
        }
    }
}
