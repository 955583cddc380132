//! What a lane writes: records, and letters about those that could not be handled.

use std::sync::Arc;
use std::time::Instant;

use super::{Processed, Read, Session};
use crate::config::{Writing, may_write};
use crate::connector::Encoded;
use crate::link::events::Event;
use crate::link::failure::{Failure, Place};
use crate::link::letters::{Letter, dead_letters};
use crate::model::TopicPartition;

impl Session {
    /// Hand a record batch on as it is: there is nothing that would look at it.
    pub(super) fn pass(&mut self, encoded: Encoded) -> Result<(), Failure> {
        let partition = TopicPartition::new(encoded.topic.clone(), encoded.partition);
        let (records, bytes) = (encoded.records.count() as u64, encoded.records.bytes().len() as u64);
        let next_offset = encoded.next_offset;
        let _told = self.trace(&partition, records as usize);
        if self.has_past(&partition, &encoded) {
            return self.handle(encoded.decode()?);
        }
        self.transaction.note_timestamp(Some(encoded.records.base_timestamp()));
        let Some(position) = self.positions.get_mut(&partition) else { return Ok(()) };
        if let Some(batch) = self.sink.pass(encoded.clone(), &position.target)? {
            return self.handle(batch);
        }
        position.next = next_offset;
        let crowded_out = self.unnamed.keep(&partition, encoded, Instant::now());
        self.name_first_of(crowded_out);
        self.link.throttle.spend(bytes);
        self.transaction.count(&partition, next_offset, records, records, bytes);
        Ok(())
    }

    pub(super) fn write(
        &mut self,
        partition: &TopicPartition,
        processed: Processed,
        read: Read,
    ) -> Result<(), Failure> {
        self.write_letters(&processed.letters)?;
        self.advance(partition, read);
        let Some(position) = self.positions.get(partition) else { return Ok(()) };
        let (mut records_out, mut bytes_out) = (0, 0);
        let mut too_large = Vec::new();
        for batch in &processed.outputs {
            let left_out = self.sink.write(batch, &position.target)?;
            records_out += (batch.len() - left_out.len()) as u64;
            bytes_out += batch.payload_bytes() as u64;
            too_large.extend(left_out.into_iter().map(|index| Letter::too_large(batch.slice(index..index + 1))));
        }
        self.link.throttle.spend(bytes_out);
        self.transaction.count(partition, read.next_offset, read.records, records_out, bytes_out);
        let tally = &mut self.transaction.tally;
        tally.records_filtered += processed.builtins.filtered;
        tally.records_transformed += processed.builtins.transformed;
        for stage in &processed.tallies {
            tally.records_filtered += stage.dropped;
            tally.records_transformed += stage.changed;
            tally.records_put_aside += stage.rejected + stage.trapped;
        }
        tally.records_put_aside += too_large.len() as u64;
        self.tell(&processed);
        self.put_aside(&too_large)
    }

    /// Put records aside that no pipeline can do anything about: the target does not take them.
    fn put_aside(&mut self, too_large: &[Letter]) -> Result<(), Failure> {
        for letter in too_large {
            self.link.events.push(Event {
                code: Some(letter.cause.code.clone()),
                place: Some(Place::of(&letter.record)),
                ..Event::new("record-not-handled", letter.cause.message.clone())
            });
        }
        self.write_letters(too_large)
    }

    fn write_letters(&mut self, letters: &[Letter]) -> Result<(), Failure> {
        let Some(first) = letters.first() else { return Ok(()) };
        let config = &self.link.config;
        // The file was checked for what it says; an earlier revision may put records aside where the file does not.
        let writer = Writing::DeadLetters(config);
        may_write(writer, &config.dead_letters, &[]).map_err(|refused| Failure::refused(writer, &refused))?;
        let topic: Arc<str> = config.dead_letters.as_str().into();
        self.prepare_letters(&topic, &first.record.topic)?;
        let bytes_max = self.link.target.record_bytes_max(&topic)?;
        let config = &self.link.config;
        let Some(batch) = dead_letters(letters, &config.id, &config.source, self.run.pipeline(), bytes_max) else {
            return Ok(());
        };
        let left_out = self.sink.write(&batch, &topic)?;
        match left_out.first() {
            None => Ok(()),
            Some(index) => {
                let bytes = batch.record_bytes(*index);
                let message = format!("{topic} does not take a dead letter of {bytes} bytes");
                let remedy = "raise max.message.bytes of the topic of dead letters, then start the link";
                Err(Failure::fatal("dead-letter-too-large", message, remedy))
            }
        }
    }

    /// Tell people what was put aside.
    fn tell(&self, processed: &Processed) {
        for (stage, tally) in self.run.pipeline().stages.iter().zip(&processed.tallies) {
            for (code, incident) in &tally.incidents {
                self.link.events.push(Event {
                    code: Some(code.clone()),
                    count: incident.count,
                    stage: Some(stage.spec.name.clone()),
                    place: Some(incident.place.clone()),
                    ..Event::new("record-not-handled", incident.message.clone())
                });
            }
        }
    }
}
