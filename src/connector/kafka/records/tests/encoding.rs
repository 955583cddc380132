//! What is written, and what a reader makes of it.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

#[test]
fn the_record_batch_made_by_hand_is_written() {
    let batch = batch_of(&by_hand("hello"));
    assert_eq!(encode(Codec::None, &batch, 0..2, STAMP, 89), Ok((2, from_hex(BY_HAND_IN_TRANSACTION))));
}

#[test]
fn as_many_records_are_taken_as_fit() {
    let batch = batch_of(&by_hand("hello"));
    let first = HEADER_BYTES + 13;
    for (bytes_max, taken) in [(first, 1), (first + 14, 1), (first + 15, 2), (usize::MAX, 2)] {
        let (records, bytes) = encode(Codec::None, &batch, 0..2, STAMP, bytes_max).expect("fits");
        assert_eq!(records, taken);
        assert!(bytes.len() <= bytes_max);
    }
    let (records, bytes) = encode(Codec::None, &batch, 0..2, STAMP, first - 1).expect("encoded");
    assert_eq!((records, bytes.len()), (1, first), "one at least");
}

#[test]
fn records_of_several_batches_make_one_until_it_is_full() {
    let mut open = OpenBatch::default();
    for text in ["a", "b", "c"] {
        assert_eq!(open.push(&values(&[text]), 0..1, 1000), 1);
    }
    let full = open.bytes();
    assert_eq!(open.push(&values(&["d"]), 0..1, full), 0);
    let mut finished = encoder(Codec::Zstd).finish(open).expect("finished");
    assert_eq!((finished.records(), finished.bytes()), (3, full), "compression would make it larger");
    let bytes = finished.seal(STAMP).to_vec();
    let read: Vec<Option<Vec<u8>>> = decode(bytes, 0, &[]).iter().flat_map(plain).map(|record| record.value).collect();
    assert_eq!(read, [Some(b"a".to_vec()), Some(b"b".to_vec()), Some(b"c".to_vec())]);
}

#[test]
fn a_record_that_is_larger_than_that_goes_alone_and_its_size_is_known() {
    let batch = batch_of(&[record(0, &[b'x'; 50_000]), record(1, b"y")]);
    for codec in &CODECS[1..] {
        let (records, bytes) = encode(*codec, &batch, 0..2, STAMP, 5000).expect("fits");
        assert_eq!(records, 1, "{codec}");
        assert!(bytes.len() <= 5000, "{codec}");
        let size = encoder(*codec).encode(&batch, 0..2, 5000).expect("encoded").size();
        assert_eq!((size.records, size.bytes), (1, bytes.len()), "{codec}");
        assert!(size.uncompressed.is_some_and(|uncompressed| uncompressed > 50_000), "{codec}");
        assert_eq!(seen(&decode(bytes, 0, &[]))[0].1.len(), 50_000, "{codec}");
    }
}

/// Bytes that no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn records_that_would_grow_when_compressed_stay_as_they_are() {
    let records: Vec<Plain> = noise(4000).chunks(100).enumerate().map(|(at, value)| record(at as i64, value)).collect();
    let batch = batch_of(&records);
    for codec in CODECS {
        let (mut taken, mut values) = (0, Vec::new());
        while taken < batch.len() {
            let (records, bytes) = encode(codec, &batch, taken..batch.len(), STAMP, 1000).expect("fits");
            taken += records;
            assert!(bytes.len() <= 1000, "{codec}: {}", bytes.len());
            values.extend(decode(bytes, 0, &[]).iter().flat_map(plain).map(|record| record.value));
        }
        assert_eq!(values, records.iter().map(|record| record.value.clone()).collect::<Vec<_>>(), "{codec}");
    }
}

#[test]
fn a_batch_passes_with_another_producers_header() {
    let mut bytes = from_hex(BY_HAND);
    // A delete horizon stays in a log for ever if it is let through.
    set_attributes(&mut bytes, 1 << 6);
    assert_eq!(pass(bytes), Ok(from_hex(BY_HAND_IN_TRANSACTION)));
    let compressed = stored(&values(&["a"]), Codec::Zstd, Stamp::NONE, 7);
    let passed = pass(compressed).expect("passes");
    let batches = decode(passed, 0, &[]);
    assert_eq!(seen(&batches), expected(&[(0, "a")]));
}

fn pass(bytes: Vec<u8>) -> Result<Vec<u8>, NotPassable> {
    let batch = RecordBatches::new(bytes.into()).next().expect("a record batch").expect("sound");
    batch.pass_through().map(|mut passed| passed.seal(STAMP).to_vec())
}

#[test]
fn large_record_batches_come_whole_and_what_is_between_them_decoded() {
    let large = |base, codec| stored(&batch_of(&[record(0, &noise(70_000))]), codec, Stamp::NONE, base);
    let small = |base| stored(&values(&["a"]), Codec::None, Stamp::NONE, base);
    let bytes = [small(0), large(1, Codec::None), large(2, Codec::Zstd), small(3), small(4)].concat();
    let pieces = |codec, from| {
        let mut decoder = Decoder::new(fetched(bytes.clone(), from, &[]), BOUNDS);
        let passing = Some(Passing { codec });
        let mut pieces = Vec::new();
        while let Some(piece) = decoder.next_piece(passing) {
            pieces.push(match piece.expect("sound") {
                Piece::Batch(batch) => (batch.len(), decoder.next_offset()),
                Piece::Whole(whole) => (0, whole.next_offset()),
            });
        }
        pieces
    };
    assert_eq!(pieces(None, 0), [(1, 1), (0, 2), (0, 3), (2, 5)]);
    assert_eq!(pieces(Some(Codec::None), 2), [(0, 3), (2, 5)], "compression would make noise larger");
    assert!(pieces(Some(Codec::Zstd), 0).iter().all(|(records, _)| *records > 0), "none has this codec");
}

#[test]
fn what_a_broker_would_refuse_or_change_does_not_pass() {
    assert_eq!(pass(marker(1, COMMIT, 0)), Err(NotPassable::Control));
    let mut holes = from_hex(BY_HAND);
    patch(&mut holes, 23, &2_i32.to_be_bytes());
    assert_eq!(pass(holes), Err(NotPassable::Holes { count: 2, offsets: 3 }));
    let mut log_append_time = from_hex(BY_HAND);
    set_attributes(&mut log_append_time, 1 << 3);
    assert_eq!(pass(log_append_time), Err(NotPassable::LogAppendTime));
}

pub(super) fn any_records() -> impl Strategy<Value = Vec<Plain>> {
    let bytes = || vec(any::<u8>(), 0..40);
    let timestamp = prop_oneof![any::<i64>(), -1000..1000_i64, Just(1_700_000_000_000), Just(i64::MIN), Just(i64::MAX)];
    let headers = vec((bytes(), option::of(bytes())), 0..4);
    vec((timestamp, option::of(bytes()), option::of(bytes()), headers), 1..30).prop_map(|records| {
        let plain = |(offset, (timestamp, key, value, headers))| Plain { offset, timestamp, key, value, headers };
        (0..).zip(records).map(plain).collect()
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        records in any_records(), codec in 0..5_usize, from in 0..30_usize, skipped in 0..30_usize, base in 0..i64::MAX - 100,
    ) {
        let skipped = skipped.min(records.len() - 1);
        let (taken, mut bytes) =
            encode(CODECS[codec], &batch_of(&records), skipped..records.len(), STAMP, 1 << 20).expect("encodes");
        prop_assert_eq!(taken, records.len() - skipped);
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        let from = from.min(taken);
        let found: Vec<Plain> = decode(bytes, base + from as i64, &[]).iter().flat_map(plain).collect();
        let mut wanted = records[skipped + from..].to_vec();
        wanted.iter_mut().for_each(|record| record.offset += base - skipped as i64);
        prop_assert_eq!(found, wanted);
    }
}
