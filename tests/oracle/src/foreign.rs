//! Producers that a target does not expect: one that takes another's transactional id, and one that leaves a transaction open.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, Producer};

use crate::{Record, Result, send};

/// How long brokers may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A producer with a transactional id of somebody's choice, which writes where nobody wants it.
pub struct Foreign {
    producer: BaseProducer,
}

impl Foreign {
    /// Become the only producer of a transactional id: whoever had it is fenced. A transaction that is left open is aborted by the brokers after `timeout`.
    ///
    /// Errors: the brokers do not answer, or refuse.
    pub fn take(bootstrap: &str, transactional_id: &str, timeout: Duration) -> Result<Self> {
        let cannot = |error: KafkaError| format!("cannot take {transactional_id} at {bootstrap}: {error}");
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .create()
            .map_err(cannot)?;
        producer.init_transactions(PATIENCE).map_err(cannot)?;
        Ok(Self { producer })
    }

    /// Begin a transaction, write a record in it, and leave it open.
    ///
    /// Errors: the brokers do not take the record.
    pub fn hang(&self, topic: &str, partition: i32, record: &Record) -> Result<()> {
        let cannot = |error: KafkaError| format!("cannot write to {topic}: {error}");
        self.producer.begin_transaction().map_err(cannot)?;
        send(&self.producer, topic, partition, record).map_err(cannot)?;
        self.producer.flush(PATIENCE).map_err(cannot)
    }

    /// End what is open: as if nothing had been written.
    ///
    /// Errors: the brokers do not answer.
    pub fn abort(&self) -> Result<()> {
        self.producer.abort_transaction(PATIENCE).map_err(|error| format!("cannot abort: {error}"))
    }

    /// End what is open: it was meant.
    ///
    /// Errors: the brokers do not answer.
    pub fn commit(&self) -> Result<()> {
        self.producer.commit_transaction(PATIENCE).map_err(|error| format!("cannot commit: {error}"))
    }
}
