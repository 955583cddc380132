//! What becomes of the answers of brokers.

use std::time::Instant;

use kafka_protocol::messages::{AddPartitionsToTxnRequest, EndTxnRequest, ProduceRequest, ProduceResponse};

use super::{AGAIN_AFTER, AGAIN_PATIENCE, Asked, Flight, Identity, Question, Session};
use crate::connector::Error;
use crate::connector::kafka::error::{self, Code};
use crate::connector::kafka::pace::throttle;
use crate::connector::kafka::sink::Topics;
use crate::connector::kafka::sink::flow::Mode;
use crate::connector::kafka::sink::joined::{Kept, Meaning};
use crate::connector::kafka::sink::outbox::Place;
use crate::model::TopicPartition;

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
                broker.pace.answered(throttle(answer.throttle_time_ms), Instant::now());
                self.client.windows().learn(number, &broker.pace);
                self.take_produced(flight, &answer, topics)?;
            }
        }
        self.take_coordinated()
    }

    fn take_produced(&mut self, flight: Flight, answer: &ProduceResponse, topics: &Topics) -> Result<(), Error> {
        let refused = self.read_produced(flight, answer, topics);
        // It is answered, whatever the answer is.
        let again = self.flow.answered(matches!(refused, Ok(true)));
        if !refused? {
            self.again_since = None;
        }
        if again { self.send_refused_again() } else { Ok(()) }
    }

    /// Whether some of it was refused and is to be sent once more.
    fn read_produced(&mut self, mut flight: Flight, answer: &ProduceResponse, topics: &Topics) -> Result<bool, Error> {
        let mut refused = false;
        for topic in &answer.responses {
            let index = topics.answered(topic.name.0.as_str(), topic.topic_id);
            let index = index.ok_or_else(|| error::not_asked("Produce"))?;
            for part in &topic.partition_responses {
                let (place, code) = ((index, part.index as u32), Code(part.error_code));
                let kept = flight.kept.iter().position(|kept| kept.place == place);
                let kept = kept.map(|kept| flight.kept.swap_remove(kept));
                match self.joined.answered(place, code, kept) {
                    Meaning::Written => self.acknowledged(place, &flight, part.base_offset, topics)?,
                    Meaning::Again => refused = true,
                    Meaning::Failed(code) => {
                        let (name, message) = (&topics.list[index].name, part.error_message.as_deref());
                        if let Some(size) = flight.size(place).filter(|_| code.is_too_large()) {
                            self.client.limits().refuse(name, size);
                        }
                        return Err(error::not_written(name, place.1, code, message));
                    }
                }
            }
        }
        if answer.responses.iter().map(|topic| topic.partition_responses.len()).sum::<usize>() != flight.parts.len() {
            return Err(error::not_asked("Produce"));
        }
        Ok(refused)
    }

    fn acknowledged(&mut self, place: Place, flight: &Flight, base: i64, topics: &Topics) -> Result<(), Error> {
        let records = flight.size(place).map_or(0, |size| size.records) as i64;
        if base < 0 || base.checked_add(records).is_none() {
            let partition = TopicPartition::new(topics.list[place.0].name.clone(), place.1);
            return Err(error::impossible(&partition, &format!("{records} records begin at offset {base}")));
        }
        self.ledger.acknowledged(place, base, records);
        Ok(())
    }

    fn send_refused_again(&mut self) -> Result<(), Error> {
        for Kept { place, sequence, batch } in self.joined.take_refused().into_iter().rev() {
            self.sequences.insert(place, sequence);
            self.sending.put_back(place, batch);
        }
        self.again_later()
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
                coordinator.listens_from = Instant::now() + throttle(answer.throttle_time_ms);
                let parts = answer.results_by_topic_v3_and_below.iter().flat_map(|topic| &topic.results_by_partition);
                // Where one is refused, the others are said not to have been attempted.
                let codes = parts.map(|part| Code(part.partition_error_code)).filter(|code| code.0 != 0);
                self.take_registered(places, codes.min_by_key(|code| *code == Code::OPERATION_NOT_ATTEMPTED))
            }
            Question::End => {
                let answer = answer.decode::<EndTxnRequest>(version)?;
                coordinator.listens_from = Instant::now() + throttle(answer.throttle_time_ms);
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
                self.joined.add(places);
                self.flow.registered(true);
                Ok(())
            }
            Some(Code::CONCURRENT_TRANSACTIONS) => {
                self.flow.registered(false);
                self.again_later()
            }
            Some(code) => {
                self.flow.registered(false);
                Err(code.error("adding partitions to a transaction"))
            }
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
