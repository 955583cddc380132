//! The first record of a record batch is the one that decoding all of it finds first.

use super::*;

fn first(bytes: impl Into<Bytes>, bytes_max: usize) -> Result<Option<Batch>, Error> {
    let records = RecordBatches::new(bytes.into()).next().expect("a record batch").expect("sound");
    records.first_record(&Arc::from("orders"), 3, bytes_max)
}

#[test]
fn the_first_record_is_that_of_all_of_them() {
    let noise = |bytes: usize| (0..bytes).map(|at| (at * at / 7 + at) as u8).collect::<Vec<_>>();
    let headers = vec![(b"h".to_vec(), Some(b"1".to_vec())), (b"h".to_vec(), None)];
    for codec in CODECS {
        for bytes in [0, 1, 100, 5_000, 200_000, 3 << 20] {
            let mut records =
                vec![Plain { key: Some(b"k".to_vec()), headers: headers.clone(), ..record(0, &noise(bytes)) }];
            records.extend((1..100).map(|offset| record(offset, b"more")));
            let stored = stored(&batch_of(&records), codec, Stamp::NONE, 42);
            let all = Decoder::new(
                fetched(stored.clone(), 42, &[]),
                Bounds { decompressed_bytes_max: 1 << 24, merge_bytes: 0 },
            );
            let all: Vec<Batch> = all.collect::<Result<_, _>>().expect("sound bytes");
            let found = first(stored, 1 << 24).expect("sound").expect("a record");
            assert_eq!(plain(&found), plain(&all[0])[..1], "{codec} {bytes}");
            assert_eq!(found.next_offset, 142);
        }
    }
}

#[test]
fn the_first_record_that_the_java_client_compresses_is_read() {
    for bytes in super::decoding::JAVA {
        let mut bytes = from_hex(bytes);
        bytes[..8].copy_from_slice(&42_i64.to_be_bytes());
        let found = first(bytes, 1 << 20).expect("sound").expect("a record");
        assert_eq!(plain(&found), by_hand("hello hello hello hello hello")[..1]);
    }
}

#[test]
fn a_first_record_that_claims_too_much_is_refused() {
    for codec in CODECS {
        let stored = stored(&batch_of(&[record(0, &[7; 100_000])]), codec, Stamp::NONE, 0);
        let refused = first(stored, 50_000).expect_err("too large");
        assert_eq!(refused, Error::DecompressedTooLarge { offset: 0, bytes_max: 50_000 }, "{codec}");
    }
}

#[test]
fn a_batch_without_records_has_no_first_one() {
    let mut bytes = stored(&values(&["a"]), Codec::None, Stamp::NONE, 0);
    bytes.truncate(HEADER_BYTES);
    let length = (HEADER_BYTES - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    patch(&mut bytes, 57, &0_i32.to_be_bytes());
    assert_eq!(first(bytes, 1 << 20).expect("sound").map(|batch| batch.len()), None);
}

/// Behind a sound checksum anything may be.
#[test]
fn damage_is_an_error_and_no_panic() {
    for codec in CODECS {
        let whole = stored(&values(&["a", "b"]), codec, Stamp::NONE, 0);
        for at in HEADER_BYTES..whole.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                patch(&mut bytes, at, &[value]);
                let _ = first(bytes, 1 << 20);
            }
        }
    }
}
