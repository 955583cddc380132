//! Bytes that no broker sends: errors, never a panic, and no more memory than allowed.

use proptest::collection::vec;
use proptest::prelude::*;

use super::encoding::any_records;
use super::*;
use crate::connector::kafka::fuzzing::make_checksums_right;

/// Read everything, and check that all that is answered is a sound batch.
fn read(bytes: Vec<u8>) {
    let fetched_bytes = bytes.len();
    let aborted = [(1, 0), (2, 5)];
    let bounds = Bounds { decompressed_bytes_max: 1 << 16, merge_bytes: 1 << 12 };
    for batch in Decoder::new(fetched(bytes, 0, &aborted), bounds).flatten() {
        assert!(batch.arena.len() <= fetched_bytes.max(1 << 16) + (1 << 12));
        assert!(batch.offsets.is_sorted_by(|before, after| before < after));
        assert!(batch.offsets.last().is_some_and(|last| *last < batch.next_offset));
        // Touches every span.
        assert_eq!(plain(&batch).len(), batch.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// With the checksum made right again, so that what is behind it has to hold by itself.
    #[test]
    fn flipped_bits_are_errors_or_other_records(
        records in any_records(), codec in 0..5_usize, flips in vec((any::<usize>(), 0..8_u32), 1..6), fixed in any::<bool>(),
    ) {
        let batch = batch_of(&records);
        let mut bytes = [
            stored(&batch, CODECS[codec], Stamp::NONE, 0),
            marker(1, ABORT, 30),
            stored(&batch, CODECS[codec], in_transaction(2), 31),
        ].concat();
        for (at, bit) in flips {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        if fixed {
            make_checksums_right(&mut bytes);
        }
        read(bytes);
    }

    #[test]
    fn any_end_is_a_partial_record_batch(records in any_records(), codec in 0..5_usize, end in any::<usize>()) {
        let mut bytes = stored(&batch_of(&records), CODECS[codec], Stamp::NONE, 0);
        bytes.truncate(end % bytes.len());
        prop_assert!(decode(bytes, 0, &[]).is_empty());
    }

    #[test]
    fn records_that_end_too_early_are_errors(records in any_records(), codec in 0..5_usize, end in any::<usize>()) {
        let mut bytes = stored(&batch_of(&records), CODECS[codec], Stamp::NONE, 0);
        let end = HEADER_BYTES + end % (bytes.len() - HEADER_BYTES);
        bytes.truncate(end);
        bytes[8..12].copy_from_slice(&((end - 12) as i32).to_be_bytes());
        make_checksums_right(&mut bytes);
        // A compressed stream may have all its records before its own end mark.
        if CODECS[codec] == Codec::None {
            first_error(bytes);
        } else {
            read(bytes);
        }
    }

    #[test]
    fn arbitrary_records_are_errors_or_records(body in vec(any::<u8>(), 0..200), codec in 0..5_u8, count in 0..4_i32) {
        let mut bytes = stored(&values(&["a"]), Codec::None, Stamp::NONE, 0);
        bytes.truncate(HEADER_BYTES);
        bytes.extend(body);
        bytes[22] = codec;
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        make_checksums_right(&mut bytes);
        read(bytes);
    }
}

#[test]
fn a_wrong_checksum_is_refused() {
    for at in 21..from_hex(BY_HAND).len() {
        let mut bytes = from_hex(BY_HAND);
        bytes[at] ^= 1;
        assert_eq!(first_error(bytes), Error::Corrupt { offset: 42, what: "its checksum does not match its bytes" });
    }
}

#[test]
fn a_decompression_bomb_is_refused() {
    let bomb = batch_of(&[record(0, &vec![0; 2 << 20])]);
    for codec in CODECS {
        let bytes = stored(&bomb, codec, Stamp::NONE, 0);
        let read = |decompressed_bytes_max| {
            let bounds = Bounds { decompressed_bytes_max, ..BOUNDS };
            Decoder::new(fetched(bytes.clone(), 0, &[]), bounds).next().expect("an answer").map(|batch| batch.len())
        };
        // The record, and 14 bytes of numbers around it.
        assert_eq!(read((2 << 20) + 14), Ok(1), "{codec}");
        if codec != Codec::None {
            let bytes_max = (2 << 20) + 10;
            assert_eq!(read(bytes_max), Err(Error::DecompressedTooLarge { offset: 0, bytes_max }), "{codec}");
            assert_eq!(read(0), Err(Error::DecompressedTooLarge { offset: 0, bytes_max: 0 }), "{codec}");
        }
    }
}

#[test]
fn counts_that_the_bytes_cannot_hold_are_refused() {
    let mut bytes = from_hex(BY_HAND);
    patch(&mut bytes, 57, &i32::MAX.to_be_bytes());
    assert_eq!(first_error(bytes), Error::Corrupt { offset: 42, what: "it claims more records than it has bytes for" });
    let mut bytes = from_hex(BY_HAND);
    patch(&mut bytes, 57, &1_i32.to_be_bytes());
    assert_eq!(first_error(bytes), Error::Corrupt { offset: 42, what: "there are bytes behind its last record" });
    // The number of headers of the second record: 62.
    let mut bytes = from_hex(BY_HAND);
    patch(&mut bytes, 81, &[0x7c]);
    let what = "a record claims more headers than it has bytes for";
    assert_eq!(first_error(bytes), Error::Corrupt { offset: 42, what });
}
