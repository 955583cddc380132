//! Whether one Kafka topic is an exact copy of another: written with librdkafka and without a line of Tidegate's, so that the same mistake is
//! unlikely to be in both.
//!
//! A [`Writer`] fills a source with records of every kind, aborted transactions among them. [`read`] reads what a consumer with
//! `read_committed` sees of a topic, [`compare`] says the first difference in words, and a [`Watcher`] is a consumer that runs all the time.
//! What is expected is what the **source** holds, not what the writer believes to have written.
//!
//! **Limits:** names of headers are UTF-8 without zero bytes, because the safe reader of headers panics at others; and a timestamp of 0 is
//! never written, because librdkafka takes it for "now".
//!
//! Reading order: `record`, `content`, `tail`, `watcher`; `writer`, `topics`, `groups`, `foreign`.

mod content;
mod foreign;
mod groups;
mod record;
mod tail;
mod topics;
mod watcher;
mod writer;

pub use content::{Content, Placed, compare};
pub use foreign::Foreign;
pub use groups::{Member, commit, committed};
pub use record::{Header, Record};
pub use tail::{await_copy, count, read};
pub use topics::{
    create, create_all, create_on, delete, delete_records, end, is_transaction_open, leader, set, settings, widen,
};
pub use watcher::Watcher;
pub use writer::{Codec, Plan, Writer, Written, send};

/// What went wrong, in words.
pub type Result<T> = std::result::Result<T, String>;
