//! Run a stateful plugin in its own tests, without a host and outside of WebAssembly.
//!
//! A [`Partition`] has a state that expires, is taken back for rejected records and has a record time like that of the
//! daemon. There are no limits. Run every case in one batch and in batches of one, and want the same answer:
//!
//! ```
//! # use tidegate_plugin::{Column, ConfigError, Expiry, NoConfig, Record, Reject, State, StatefulFilter};
//! use tidegate_plugin::testing::{Partition, TestRecord};
//!
//! # struct First;
//! # impl StatefulFilter for First {
//! #     type Config = NoConfig;
//! #     const NEEDS: &'static [Column] = &[];
//! #     fn new(_: NoConfig) -> Result<Self, Vec<ConfigError>> {
//! #         Ok(Self)
//! #     }
//! #     fn keep(&self, _: &Record<'_>, state: &State<'_>) -> Result<bool, Reject> {
//! #         let first = state.get(b"seen").is_none();
//! #         state.put(b"seen", b"", Expiry::Never);
//! #         Ok(first)
//! #     }
//! # }
//! let records = [TestRecord { offset: 7, ..TestRecord::default() }, TestRecord { offset: 8, ..TestRecord::default() }];
//! let whole = Partition::in_batches_of(2).filter::<First>("{}", &records).expect("a configuration");
//! assert_eq!(whole.outputs, records[..1]);
//! assert_eq!(Partition::in_batches_of(1).filter::<First>("{}", &records), Ok(whole));
//! ```

use crate::bindings::types::{self, Batch};
use crate::export::{self, Slot};
use crate::fake::Fake;
use crate::outputs::{KEEP, KEEP_TIMESTAMP};
use crate::record::NULL;
use crate::{ConfigError, StatefulFilter, StatefulTransform, state};

/// A record that goes into a plugin or comes out of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TestRecord {
    /// The key, `None` for null.
    pub key: Option<Vec<u8>>,
    /// The value, `None` for null.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Milliseconds since 1970-01-01 UTC.
    pub timestamp: i64,
    /// The offset. Neighbours with the same one are siblings.
    pub offset: i64,
    /// The topic that a record which came out was routed to, if it was.
    pub route: Option<String>,
}

/// What a plugin made of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// What came out, in order.
    pub outputs: Vec<TestRecord>,
    /// Offset and code of what was rejected, in order.
    pub rejects: Vec<(i64, String)>,
    /// The keys and values in the state at the end, in order, without those that have expired.
    pub state: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The state of a partition, which plugins or configurations work on one after the other.
pub struct Partition {
    batch_size: usize,
    fake: Fake,
}

impl Partition {
    /// A partition without state. Its records come in batches of no more than `batch_size`, from 1.
    pub fn in_batches_of(batch_size: usize) -> Self {
        Self { batch_size, fake: Fake::new() }
    }

    /// Run a filter, configured with the JSON object `config`, over records.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn filter<F: StatefulFilter>(
        &mut self,
        config: &str,
        records: &[TestRecord],
    ) -> Result<Answer, Vec<ConfigError>> {
        let slot = Slot::<F>::new();
        export::configure_stateful_filter(&slot, "stage".to_owned(), config).map_err(errors)?;
        Ok(self.run(records, |records, answer| {
            let verdicts = export::stateful_filter(&slot, batch(records));
            let kept = records.iter().zip(&verdicts.keep).filter(|(_, keep)| **keep == 1);
            answer.outputs.extend(kept.map(|(record, _)| record.clone()));
            verdicts.rejects
        }))
    }

    /// Run a transform, configured with the JSON object `config`, over records.
    ///
    /// # Errors
    /// What is wrong with the configuration.
    pub fn transform<T: StatefulTransform>(
        &mut self,
        config: &str,
        records: &[TestRecord],
    ) -> Result<Answer, Vec<ConfigError>> {
        let slot = Slot::<T>::new();
        let setup = export::configure_stateful_transform(&slot, "stage".to_owned(), config).map_err(errors)?;
        Ok(self.run(records, |records, answer| {
            let outputs = export::stateful_transform(&slot, batch(records));
            answer.outputs.extend(made(records, &outputs, &setup.routes));
            outputs.rejects
        }))
    }

    /// Let a filter migrate the state.
    ///
    /// # Errors
    /// Why it refuses, or what is wrong with the configuration.
    pub fn migrate_filter<F: StatefulFilter>(&mut self, config: &str, from: u32, to: u32) -> Result<(), String> {
        let slot = Slot::<F>::new();
        export::configure_stateful_filter(&slot, "stage".to_owned(), config).map_err(|errors| format!("{errors:?}"))?;
        self.fake.lend(|| export::migrate_stateful_filter(&slot, from, to))
    }

    /// Let a transform migrate the state.
    ///
    /// # Errors
    /// Why it refuses, or what is wrong with the configuration.
    pub fn migrate_transform<T: StatefulTransform>(&mut self, config: &str, from: u32, to: u32) -> Result<(), String> {
        let slot = Slot::<T>::new();
        let configured = export::configure_stateful_transform(&slot, "stage".to_owned(), config);
        configured.map_err(|errors| format!("{errors:?}"))?;
        self.fake.lend(|| export::migrate_stateful_transform(&slot, from, to))
    }

    /// Run `call` with each batch.
    fn run(
        &mut self,
        records: &[TestRecord],
        mut call: impl FnMut(&[TestRecord], &mut Answer) -> Vec<types::Reject>,
    ) -> Answer {
        let mut answer = Answer::default();
        for records in records.chunks(self.batch_size) {
            self.fake.begin(records.iter().map(|record| record.timestamp).collect());
            let rejects = self.fake.lend(|| call(records, &mut answer));
            self.fake.commit();
            let shown = |reject: types::Reject| (records[reject.index as usize].offset, reject.code);
            answer.rejects.extend(rejects.into_iter().map(shown));
        }
        answer.state = self.fake.lend(|| state::between_batches(|state| state.scan(b"").collect()));
        answer
    }
}

fn errors(errors: Vec<types::ConfigError>) -> Vec<ConfigError> {
    errors.into_iter().map(|error| ConfigError::new(error.path, error.message)).collect()
}

/// The contract's batch of these records.
fn batch(records: &[TestRecord]) -> Batch {
    let mut batch = Batch {
        topic: "topic".to_owned(),
        partition: 0,
        count: records.len() as u32,
        arena: Vec::new(),
        keys: Vec::new(),
        values: Vec::new(),
        header_ends: Vec::new(),
        headers: Vec::new(),
        timestamps: records.iter().map(|record| record.timestamp).collect(),
        offsets: records.iter().map(|record| record.offset).collect(),
        first_ordinal: 0,
    };
    for record in records {
        let key = stored(&mut batch.arena, record.key.as_deref());
        batch.keys.extend(key);
        let value = stored(&mut batch.arena, record.value.as_deref());
        batch.values.extend(value);
        for (name, value) in &record.headers {
            let name = stored(&mut batch.arena, Some(name));
            batch.headers.extend(name);
            let value = stored(&mut batch.arena, value.as_deref());
            batch.headers.extend(value);
        }
        batch.header_ends.push((batch.headers.len() / 4) as u32);
    }
    batch
}

fn stored(arena: &mut Vec<u8>, bytes: Option<&[u8]>) -> [u32; 2] {
    let Some(bytes) = bytes else { return [0, NULL] };
    arena.extend_from_slice(bytes);
    [(arena.len() - bytes.len()) as u32, bytes.len() as u32]
}

/// The records that `outputs` makes of `records`.
fn made(records: &[TestRecord], outputs: &types::Outputs, routes: &[String]) -> Vec<TestRecord> {
    let bytes =
        |range: &[u32]| (range[1] != NULL).then(|| outputs.arena[range[0] as usize..][..range[1] as usize].to_vec());
    let column = |column: &[u32], index: usize, keep: &Option<Vec<u8>>| match column.get(2 * index..2 * index + 2) {
        Some(range) if range[1] != KEEP => bytes(range),
        _ => keep.clone(),
    };
    let mut headers = outputs.headers.chunks_exact(4);
    let output = |(index, source): (usize, &u32)| {
        let input = &records[*source as usize];
        let own = outputs.header_counts.get(index).filter(|count| **count != KEEP);
        TestRecord {
            key: column(&outputs.keys, index, &input.key),
            value: column(&outputs.values, index, &input.value),
            headers: own.map_or(input.headers.clone(), |count| {
                let own = headers.by_ref().take(*count as usize);
                own.map(|header| (bytes(&header[..2]).unwrap_or_default(), bytes(&header[2..]))).collect()
            }),
            timestamp: *outputs.timestamps.get(index).filter(|t| **t != KEEP_TIMESTAMP).unwrap_or(&input.timestamp),
            offset: input.offset,
            route: outputs.routes.get(index).filter(|route| **route > 0).map(|n| routes[*n as usize - 1].clone()),
        }
    };
    outputs.sources.iter().enumerate().map(output).collect()
}
