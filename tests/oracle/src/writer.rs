//! A source that is written while everything else goes wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::KafkaResult;
use rdkafka::message::{self, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;

use crate::record::Random;
use crate::{Record, Result};

/// The most that a transaction, or what is flushed together, has. Record batches get small ones and large ones from it.
const BLOCK_RECORDS_MAX: u64 = 800;
/// How long a record batch is filled, in ms, if it is not flushed before: a block gives one for each partition.
const LINGER_MS: &str = "50";
/// Every so many transactions the last is aborted.
const ABORT_EVERY: u64 = 3;
/// How long brokers may take. No call waits for ever: librdkafka's own default for a commit does.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_millis(200);

/// A codec of record batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not compressed.
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// zstd.
    Zstd,
}

impl Codec {
    /// All that Kafka has.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// As `compression.type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The brokers.
    pub bootstrap: String,
    /// A topic that is there.
    pub topic: String,
    /// How many partitions it has.
    pub partitions: i32,
    /// What all records and the size of every transaction follow from.
    pub seed: u64,
    /// In transactions, of which every third is aborted; otherwise idempotent.
    pub transactions: bool,
    /// One after the other, a transaction each.
    pub codecs: Vec<Codec>,
    /// Records in a second. None: as fast as can be.
    pub rate: Option<u64>,
    /// The numbers of all records end below this. None: until it is told to stop.
    pub records_max: Option<u64>,
}

/// Writes on a thread of its own until it is told to stop. Failures of brokers do not end it: what is open is aborted, and it goes on with the records behind.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Written>>,
}

/// What a writer has tried to write. What is in the topic says the topic alone: an answer of a broker can be lost.
#[derive(Clone, Debug, Default)]
pub struct Written {
    /// Records, those of aborted transactions included; their numbers begin with 0.
    pub records: u64,
    /// Records of transactions that were aborted on purpose.
    pub aborted: u64,
    /// What failed.
    pub troubles: Vec<String>,
}

#[derive(Debug, Default)]
struct Shared {
    stops: AtomicBool,
    records: AtomicU64,
}

impl Writer {
    /// Begin to write, and print the seed: a run can be repeated with it.
    pub fn start(plan: Plan) -> Self {
        println!("writing to topic {} with seed {}", plan.topic, plan.seed);
        let shared = Arc::new(Shared::default());
        let work = Work {
            producers: plan.codecs.iter().map(|_| None).collect(),
            written: Written::default(),
            blocks: 0,
            plan,
        };
        let writing = Arc::clone(&shared);
        Self { shared, thread: Some(thread::spawn(move || work.run(&writing))) }
    }

    /// How many records it has tried to write so far.
    pub fn records(&self) -> u64 {
        self.shared.records.load(Ordering::Relaxed)
    }

    /// Let it end what it has begun, and stop. Then all that it has committed can be read, and no transaction is open.
    ///
    /// Errors: its thread panicked.
    pub fn stop(mut self) -> Result<Written> {
        self.shared.stops.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Wait until it has written all that `records_max` allows. Without that it never ends.
    ///
    /// Errors: its thread panicked.
    pub fn join(&mut self) -> Result<Written> {
        let thread = self.thread.take().ok_or("the writer was waited for")?;
        thread.join().map_err(|_| "the writer panicked".to_owned())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::Relaxed);
        // Whoever did not wait does not want to know.
        let _ended = self.join();
    }
}

/// What the thread works with.
struct Work {
    plan: Plan,
    /// One for each codec; none before its first block and after a failure.
    producers: Vec<Option<BaseProducer>>,
    written: Written,
    blocks: u64,
}

impl Work {
    fn run(mut self, shared: &Shared) -> Written {
        let begun = Instant::now();
        let records_max = self.plan.records_max.unwrap_or(u64::MAX);
        while self.written.records < records_max && !shared.stops.load(Ordering::Relaxed) {
            let first = self.written.records;
            let size = 1 + Random(self.plan.seed ^ !self.blocks).below(BLOCK_RECORDS_MAX);
            let last = (first + size).min(records_max);
            let aborts = self.plan.transactions && self.blocks % ABORT_EVERY == ABORT_EVERY - 1;
            if let Err(error) = self.block(first..last, aborts) {
                self.written.troubles.push(error.to_string());
                thread::sleep(PAUSE);
            }
            self.written.aborted += if aborts { last - first } else { 0 };
            self.written.records = last;
            self.blocks += 1;
            shared.records.store(last, Ordering::Relaxed);
            if let Some(rate) = self.plan.rate {
                let due = Duration::from_secs_f64(last as f64 / rate as f64);
                thread::sleep(due.saturating_sub(begun.elapsed()));
            }
        }
        self.settle();
        self.written
    }

    /// End what a failure left open, and wait until what was committed can be read: that is a little after the answer.
    fn settle(&mut self) {
        self.producers.clear();
        let codecs = self.plan.codecs.iter().filter(|_| self.plan.transactions);
        let failures = codecs.filter_map(|codec| self.plan.producer(*codec).err()).map(|error| error.to_string());
        self.written.troubles.extend(failures);
    }

    /// Write records, and leave nothing of them under way: the next are another producer's, and order counts. After a failure the producer is gone.
    fn block(&mut self, numbers: std::ops::Range<u64>, aborts: bool) -> KafkaResult<()> {
        let index = (self.blocks % self.plan.codecs.len() as u64) as usize;
        let producer = match self.producers[index].take() {
            Some(producer) => producer,
            None => self.plan.producer(self.plan.codecs[index])?,
        };
        if self.plan.transactions {
            producer.begin_transaction()?;
        }
        for number in numbers {
            self.plan.send(&producer, number)?;
        }
        producer.flush(PATIENCE)?;
        match (self.plan.transactions, aborts) {
            (true, true) => producer.abort_transaction(PATIENCE)?,
            (true, false) => producer.commit_transaction(PATIENCE)?,
            (false, _) => {}
        }
        self.producers[index] = Some(producer);
        Ok(())
    }
}

impl Plan {
    fn producer(&self, codec: Codec) -> KafkaResult<BaseProducer> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("compression.type", codec.name())
            .set("enable.idempotence", "true")
            .set("linger.ms", LINGER_MS)
            .set("reconnect.backoff.max.ms", "500")
            // A broker that is stopped where it is says nothing: by default it is given up after a minute.
            .set("socket.timeout.ms", "5000")
            .set("request.timeout.ms", "5000");
        if self.transactions {
            config.set("transactional.id", format!("kafka-oracle-{}-{}", self.topic, codec.name()));
        } else {
            // A record that is given up leaves a hole in what the seed says.
            config.set("message.timeout.ms", "0");
        }
        let producer: BaseProducer = config.create()?;
        if self.transactions {
            producer.init_transactions(PATIENCE)?;
        }
        Ok(producer)
    }

    fn send(&self, producer: &BaseProducer, number: u64) -> KafkaResult<()> {
        let (partition, record) = Record::generate(self.seed, number, self.partitions);
        send(producer, &self.topic, partition, &record)
    }
}

/// Give a record to a producer, as it is.
///
/// Errors: those of the producer; when its queue is full this waits.
pub fn send(producer: &BaseProducer, topic: &str, partition: i32, record: &Record) -> KafkaResult<()> {
    let mut wanted = BaseRecord::<[u8], [u8]>::to(topic).partition(partition).timestamp(record.timestamp);
    if let Some(key) = &record.key {
        wanted = wanted.key(key);
    }
    if let Some(value) = &record.value {
        wanted = wanted.payload(value);
    }
    if !record.headers.is_empty() {
        let add = |headers: OwnedHeaders, header: &crate::Header| {
            headers.insert(message::Header { key: &header.key, value: header.value.as_deref() })
        };
        wanted = wanted.headers(record.headers.iter().fold(OwnedHeaders::new(), add));
    }
    loop {
        match producer.send(wanted) {
            Ok(()) => return Ok(()),
            Err((error, back)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) => {
                producer.poll(PAUSE);
                wanted = back;
            }
            Err((error, _)) => return Err(error),
        }
    }
}
