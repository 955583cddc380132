//! Connections to brokers: framing, correlation, versions, and who we are.
//!
//! Messages are those of the crate `kafka-protocol`; frames are Kafka's: four bytes of length, then the header and the body
//! (<https://kafka.apache.org/protocol.html>).
//!
//! Reading order: [`Connection`] for what can be done, [`stream`] and [`tls`] for how bytes travel, [`greeting`], [`authentication`], [`sasl`] and [`logins`] for who both
//! sides are,
//! [`error`] for what can go wrong, [`settings`] for what is asked for.
//!
//! Invariants
//! - Sockets never block: every wait has a deadline, so a broker that stopped without a word is an error after a time that is known.
//! - What a broker sends is bounded before it is believed, and never panics.
//! - A session that ends is renewed before it does: at the first request after four fifths of its time, whether answers are awaited or not.
//! - An answer is only ever given to the request that it belongs to. After any error a connection is dropped.

mod authentication;
mod connection;
mod error;
mod fields;
mod greeting;
mod logins;
mod sasl;
mod settings;
mod stream;
#[cfg(test)]
mod tests;
mod tls;

pub(super) use connection::{Answer, Connection, wait_readable};
pub(super) use error::WireError;
pub(super) use fields::Fields;
pub(super) use settings::Settings;
