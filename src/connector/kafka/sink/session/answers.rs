//! What becomes of the answers of brokers.

use std::time::Instant;

use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, ProduceRequest, ProduceResponse};

use super::{AGAIN_AFTER, AGAIN_PATIENCE, Asked, Flight, Identity, Question, Session};
use crate::connector::Error;
use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::sink::Topics;
use crate::connector::kafka::sink::flow::Mode;
use crate::connector::kafka::sink::outbox::Place;

impl Session {
    /// Take in every answer that has arrived.
    pub(super) fn take_answers(&mut self, topics: &Topics) -> Result<(), Error> {
        for number in self.brokers.keys().copied().collect::<Vec<_>>() {
            while let Some(broker) = self.brokers.get_mut(&number).filter(|broker| !broker.flights.is_empty())
                && let Some(answer) = broker.connection.try_receive()?
            {
                let Some(flight) = broker.flights.pop_front() else { break };
                broker.bytes -= flight.bytes;
                let answer = answer.decode::<ProduceRequest>(flight.version)?;
                self.take_produced(flight, &answer, topics)?;
            }
        }
        self.take_coordinated()
    }

    fn take_produced(&mut self, flight: Flight, answer: &ProduceResponse, topics: &Topics) -> Result<(), Error> {
        let parts = || answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let concurrent = |code: i16| Code(code) == Code::CONCURRENT_TRANSACTIONS;
        if parts().all(|part| concurrent(part.error_code)) && !flight.kept.is_empty() && self.flow.again() {
            for (place, batch) in flight.kept.into_iter().rev() {
                self.sending.put_back(place, batch);
            }
            self.sequences.clear();
            return self.again_later();
        }
        for topic in &answer.responses {
            let by_name = topics.by_name.get(topic.name.0.as_str()).copied();
            let index = by_name.or_else(|| topics.list.iter().position(|known| known.id == topic.topic_id));
            let index = index.ok_or_else(|| error::not_asked("Produce"))?;
            let name = &topics.list[index].name;
            for part in &topic.partition_responses {
                let place = (index, part.index as u32);
                if part.error_code != 0 {
                    return Err(error::not_written(
                        name,
                        place.1,
                        Code(part.error_code),
                        part.error_message.as_deref(),
                    ));
                }
                let records = flight.parts.iter().find(|(other, _)| *other == place).map_or(0, |(_, records)| *records);
                let tail = self.tails.entry(place).or_default();
                tail.unacknowledged -= records as i64;
                tail.known = part.base_offset + records as i64;
            }
        }
        if parts().count() != flight.parts.len() {
            return Err(error::not_asked("Produce"));
        }
        self.again_since = None;
        self.flow.answered();
        Ok(())
    }

    fn take_coordinated(&mut self) -> Result<(), Error> {
        let Some(coordinator) = self.coordinator.as_mut().filter(|coordinator| coordinator.asked.is_some()) else {
            return Ok(());
        };
        let Some(answer) = coordinator.connection.try_receive()? else { return Ok(()) };
        let Some(Asked { what, version, .. }) = coordinator.asked.take() else { return Ok(()) };
        match what {
            Question::Register(places) => {
                let answer = answer.decode::<AddPartitionsToTxnRequest>(version)?;
                let parts = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
                // Where one is refused, the others are said not to have been attempted.
                let codes = parts.map(|part| Code(part.partition_error_code)).filter(|code| code.0 != 0);
                self.take_registered(places, codes.min_by_key(|code| *code == Code::OPERATION_NOT_ATTEMPTED))
            }
            Question::End => {
                let answer = answer.decode::<EndTxnRequest>(version)?;
                match Code(answer.error_code) {
                    Code(0) => {
                        if self.flow.mode() == Mode::Version2 {
                            self.identity = Identity { id: answer.producer_id.0, epoch: answer.producer_epoch };
                            self.sequences.clear();
                        }
                        self.finish();
                        Ok(())
                    }
                    Code::CONCURRENT_TRANSACTIONS => {
                        self.flow.end_again();
                        self.again_later()
                    }
                    code => Err(code.error("committing a transaction")),
                }
            }
        }
    }

    fn take_registered(&mut self, places: Vec<Place>, refused: Option<Code>) -> Result<(), Error> {
        match refused {
            None => {
                self.again_since = None;
                self.registered.extend(places);
                self.flow.registered(true);
                Ok(())
            }
            Some(Code::CONCURRENT_TRANSACTIONS) => {
                self.flow.registered(false);
                self.again_later()
            }
            Some(code) => Err(code.error("adding partitions to a transaction")),
        }
    }

    /// The transaction before is still ending.
    fn again_later(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        self.not_before = Some(now + AGAIN_AFTER);
        if now.duration_since(*self.again_since.get_or_insert(now)) > AGAIN_PATIENCE {
            return Err(Code::CONCURRENT_TRANSACTIONS.error("beginning a transaction"));
        }
        Ok(())
    }
}
