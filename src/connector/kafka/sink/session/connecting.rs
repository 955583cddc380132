//! Connections of a lane: a broker or the path to it may have closed one that rested, and that is not an error.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Broker, Session};
use crate::connector::Error;
use crate::connector::kafka::wire::Connection;

impl Session {
    /// Have a connection to a broker. Nothing is lost with one on which no answer is awaited.
    pub(super) fn connect(&mut self, number: i32) -> Result<(), Error> {
        let Some(broker) = self.brokers.get_mut(&number) else {
            let (connection, pace) = (self.client.connect(number)?, self.client.windows().begin(number));
            self.brokers.insert(number, Broker { connection, pace, flights: VecDeque::new(), bytes: 0 });
            return Ok(());
        };
        if broker.flights.is_empty() && !broker.connection.outlasted_rest(Instant::now()) {
            broker.connection = self.client.connect(number)?;
        }
        Ok(())
    }

    /// The same of the coordinator, which is asked one thing after the other.
    pub(super) fn wake_coordinator(&mut self) -> Result<(), Error> {
        let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.asked.is_none()) else {
            return Ok(());
        };
        if !coordinator.connection.outlasted_rest(Instant::now()) {
            let address = coordinator.connection.address().clone();
            coordinator.connection = Connection::open(&address, self.client.settings())?;
        }
        Ok(())
    }
}
