use proptest::prelude::*;

use super::*;
use crate::model::{BatchBuilder, Compression};

const TOPIC: &str = "orders";

fn stated(bytes_max: usize, compression_type: &str) -> Stated {
    Stated { bytes_max, storing: Storing::named(compression_type) }
}

fn limits(stated: Stated) -> Limits {
    let mut limits = Limits::default();
    limits.learn(TOPIC.into(), stated, Instant::now());
    limits
}

fn size(records: usize, bytes: usize, uncompressed: usize) -> BatchSize {
    BatchSize { records, bytes, uncompressed: Some(uncompressed) }
}

fn batch(values: &[usize]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (offset, bytes) in values.iter().enumerate() {
        builder.push(offset as i64, 0, None, Some(&vec![b'x'; *bytes]), std::iter::empty());
    }
    builder.finish("in", 0)
}

#[test]
fn a_record_batch_passes_where_brokers_store_it_as_it_is() {
    let own = [("uncompressed", Some(Codec::None)), ("zstd", Some(Codec::Zstd)), ("lz4", Some(Codec::Lz4))];
    let more = [("gzip", Some(Codec::Gzip)), ("snappy", Some(Codec::Snappy)), ("brotli", None)];
    for codec in Codec::ALL {
        for (setting, kept) in own.into_iter().chain(more) {
            let limit = limits(stated(1000, setting)).of(TOPIC);
            assert_eq!(limit.passes(codec, 1000), kept == Some(codec), "{codec} to {setting}");
            assert!(!limit.passes(codec, 1001), "{codec} to {setting}");
        }
        let limit = limits(stated(1000, "producer")).of(TOPIC);
        assert!(limit.passes(codec, 1000) && !limit.passes(codec, 1001), "{codec}");
    }
}

#[test]
fn a_record_alone_is_as_large_as_it_is_stored() {
    let records = batch(&[5000, 10]);
    for (setting, fits) in [("producer", true), ("zstd", true), ("gzip", true), ("uncompressed", false)] {
        let limit = limits(stated(1000, setting)).of(TOPIC);
        let encoded = limit.encode(&mut Encoder::new(Compression::FAST), &records, 0..2);
        assert_eq!(encoded.is_ok(), fits, "{setting}: {encoded:?}");
        assert!(encoded.is_ok_and(|encoded| encoded.records() == 1) || !fits, "{setting}");
        let plain = limit.encode(&mut Encoder::new(Compression::NONE), &records, 0..2);
        assert!(matches!(plain, Err(Error::RecordTooLarge { index: 0, .. })), "{setting}: {plain:?}");
    }
}

#[test]
fn topics_that_are_gone_are_forgotten() {
    let mut limits = limits(stated(7, "producer"));
    limits.keep(|topic| **topic == *TOPIC);
    assert_eq!(limits.of(TOPIC).bytes_max(), 7);
    limits.keep(|_| false);
    assert_eq!(limits.of(TOPIC), Limit::default());
}

#[test]
fn what_was_refused_is_remembered_until_the_topic_has_other_settings() {
    let before = stated(1000, "lz4");
    let mut limits = limits(before);
    let fresh = limits.of(TOPIC);
    limits.refuse(&TOPIC.into(), size(10, 500, 900));
    limits.refuse(&TOPIC.into(), BatchSize { uncompressed: None, ..size(10, 500, 0) });
    let refused = limits.of(TOPIC);
    assert_eq!((refused.together(), refused.passes(Codec::Lz4, 1)), (450, false));
    assert_eq!(limits.of("another"), Limit::default());
    // A lane opens again, and asks the topic again.
    let (topics, now) = ([TOPIC.into()], Instant::now());
    assert!(limits.unknown(&topics, now).is_empty());
    limits.ask_again();
    assert_eq!(limits.unknown(&topics, now), topics);
    assert_eq!(limits.of(TOPIC), refused);
    limits.learn(TOPIC.into(), before, now);
    assert_eq!(limits.of(TOPIC), refused);
    assert!(limits.unknown(&topics, now).is_empty());
    assert_eq!(limits.unknown(&topics, now + AGE_MAX), topics);
    for after in [stated(2000, "lz4"), stated(1000, "producer")] {
        limits.learn(TOPIC.into(), after, now);
        assert_eq!(limits.of(TOPIC).bounds, Bounds::NONE);
        limits.learn(TOPIC.into(), before, now);
        assert_eq!(limits.of(TOPIC), fresh);
    }
}

/// A broker that does not say what it takes.
#[derive(Clone, Copy, Debug)]
struct Strict {
    /// The largest record batch, in bytes before it is compressed.
    bytes_max: usize,
    records_max: usize,
}

impl Strict {
    fn takes(self, size: BatchSize) -> bool {
        size.records <= self.records_max && size.uncompressed.is_none_or(|bytes| bytes <= self.bytes_max)
    }
}

/// A lane writes the records, and begins again whenever a record batch is refused. How many record batches were refused, and the
/// records that were left out in the end.
fn write(broker: Strict, records: &Batch, codec: Codec) -> (usize, Vec<usize>) {
    let (mut limits, mut refused) = (limits(stated(1 << 20, "producer")), Vec::new());
    let mut encoder = Encoder::new(Compression::usual(codec));
    'open: loop {
        let (mut next, mut left_out) = (0, Vec::new());
        while next < records.len() {
            match limits.of(TOPIC).encode(&mut encoder, records, next..records.len()) {
                Ok(encoded) if broker.takes(encoded.size()) => next += encoded.records(),
                Ok(encoded) => {
                    let size = encoded.size();
                    assert!(!refused.contains(&(next, size)), "the same again: {size:?}");
                    refused.push((next, size));
                    limits.refuse(&TOPIC.into(), size);
                    limits.ask_again();
                    limits.learn(TOPIC.into(), stated(1 << 20, "producer"), Instant::now());
                    continue 'open;
                }
                Err(Error::RecordTooLarge { index, .. }) => {
                    left_out.push(index);
                    next += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        return (refused.len(), left_out);
    }
}

proptest! {
    /// Whatever a broker refuses: no record batch is sent again as it was, the lane comes to its end, and what is left out is what the broker
    /// does not take alone.
    #[test]
    fn a_broker_that_refuses_gets_something_else(
        sizes in prop::collection::vec(0_usize..3000, 1..40), bytes_max in 62_usize..4000, records_max in 1_usize..50,
        codec in prop::sample::select(&Codec::ALL[..2]),
    ) {
        let (broker, records) = (Strict { bytes_max, records_max }, batch(&sizes));
        let (tries, left_out) = write(broker, &records, codec);
        prop_assert!(tries <= 60, "{tries}");
        let alone = |index: usize| {
            let encoded = Encoder::new(Compression::NONE).encode(&records, index..index + 1, 0).expect("encoded");
            encoded.size()
        };
        for index in 0..records.len() {
            let fits = broker.takes(alone(index));
            prop_assert!(fits || left_out.contains(&index), "{index} was not left out");
            // Compressed sizes say a little less.
            prop_assert!(!fits || codec != Codec::None || !left_out.contains(&index), "{index} was left out");
        }
    }
}
