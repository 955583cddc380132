//! Connections to brokers: framing, correlation, versions, and who we are.
//!
//! Messages are those of the crate `kafka-protocol`, but it only encodes them: what arrives is read by [`fields`]. Frames are Kafka's: four bytes of length, then
//! the header and the body (<https://kafka.apache.org/protocol.html>).
//!
//! Reading order: [`Connection`] for what can be done, [`calls`] for what can be asked, [`fields`] for how answers are read, [`stream`], [`resolve`], [`proxy`], [`tls`] and [`certificates`] for how bytes travel, [`greeting`], [`authentication`], [`sasl`], [`logins`] and [`tokens`] for who both
//! sides are,
//! [`error`] for what can go wrong, [`settings`] for what is asked for.
//!
//! Invariants
//! - Sockets never block: every wait has a deadline, so a broker that stopped without a word is an error after a time that is known.
//! - What a broker sends is bounded before it is believed, and never panics: an answer is as long as [`Call::ANSWER_BYTES_MAX`] at most, room for it is made as it
//!   arrives, and reading it takes no more than 32 bytes of memory for each of its bytes.
//! - A session that ends is renewed before it does: at the first request after four fifths of its time, whether answers are awaited or not.
//! - An answer is only ever given to the request that it belongs to. After any error a connection is dropped.

mod authentication;
mod calls;
mod certificates;
mod connection;
mod error;
mod fields;
mod greeting;
mod logins;
mod proxy;
mod resolve;
mod sasl;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;

pub(super) use calls::{Call, RECORDS};
#[cfg(any(fuzzing, test))]
pub(super) use calls::{EachCall, each_call};
#[cfg(any(fuzzing, test))]
pub(super) use connection::read;
pub(super) use connection::{Answer, Connection, wait_readable};
pub(super) use error::WireError;
#[cfg(test)]
pub(super) use fields::structures;
pub(super) use fields::{Field, Fields, Flaw, Reader};
pub(super) use settings::Settings;
