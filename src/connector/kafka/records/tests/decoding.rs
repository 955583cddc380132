//! What a reader sees of fetched bytes.

use super::*;

#[test]
fn a_record_batch_made_by_hand_is_read() {
    let bytes = Bytes::from(from_hex(BY_HAND));
    let batches = decode(bytes.clone(), 42, &[]);
    assert_eq!(batches.len(), 1);
    assert_eq!(plain(&batches[0]), by_hand("hello"));
    assert_eq!((&*batches[0].topic, batches[0].partition, batches[0].next_offset), ("orders", 3, 44));
    let arena = batches[0].arena.as_ptr() as usize;
    assert!((bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len()).contains(&arena), "it was copied");
}

#[test]
fn record_batches_of_the_same_kind_make_one_batch_until_it_is_large_enough() {
    for codec in CODECS {
        let bytes: Vec<u8> =
            (0..4).flat_map(|index| stored(&values(&["a", "b"]), codec, Stamp::NONE, index * 2)).collect();
        let all = expected(&[(0, "a"), (1, "b"), (2, "a"), (3, "b"), (4, "a"), (5, "b"), (6, "a"), (7, "b")]);
        let merged = decode(bytes.clone(), 0, &[]);
        assert_eq!((merged.len(), seen(&merged)), (1, all.clone()), "{codec}");
        let bounds = Bounds { merge_bytes: 0, ..BOUNDS };
        let single: Vec<Batch> =
            Decoder::new(fetched(bytes, 0, &[]), bounds).collect::<Result<_, _>>().expect("sound bytes");
        assert_eq!((single.len(), seen(&single)), (4, all), "{codec}");
    }
}

#[test]
fn compressed_and_plain_record_batches_follow_each_other() {
    let mut bytes = stored(&values(&["a", "b"]), Codec::Zstd, Stamp::NONE, 0);
    bytes.extend(stored(&values(&["c"]), Codec::None, Stamp::NONE, 2));
    bytes.extend(stored(&values(&["d"]), Codec::Gzip, Stamp::NONE, 3));
    let all = [(0, "a"), (1, "b"), (2, "c"), (3, "d")];
    for from in 0..=4 {
        let batches = decode(bytes.clone(), from, &[]);
        assert_eq!(seen(&batches), expected(&all[from as usize..]), "from {from}");
    }
}

#[test]
fn reading_begins_in_the_middle_and_leaves_out_what_is_cut_short() {
    for codec in CODECS {
        let mut bytes = stored(&values(&["a", "b", "c"]), codec, Stamp::NONE, 10);
        let whole = bytes.len();
        bytes.extend(stored(&values(&["d"]), codec, Stamp::NONE, 13));
        for end in whole..bytes.len() {
            let mut decoder = Decoder::new(fetched(bytes[..end].to_vec(), 11, &[]), BOUNDS);
            let batch = decoder.next().expect("a batch").expect("sound bytes");
            assert_eq!(seen(&[batch]), expected(&[(11, "b"), (12, "c")]), "{codec} up to {end}");
            assert!(decoder.next().is_none());
            assert_eq!(decoder.next_offset(), 13);
        }
    }
}

#[test]
fn aborted_transactions_of_two_producers_are_left_out() {
    let data = |producer, value: &str, offset| stored(&values(&[value]), Codec::Lz4, in_transaction(producer), offset);
    let bytes = [
        data(1, "aborted by 1", 0),
        data(2, "kept of 2", 1),
        data(1, "aborted by 1 too", 2),
        stored(&values(&["in no transaction"]), Codec::Lz4, Stamp { transactional: false, ..in_transaction(1) }, 3),
        marker(2, COMMIT, 4),
        marker(1, ABORT, 5),
        data(1, "kept of 1", 6),
        data(2, "aborted by 2", 7),
        marker(1, COMMIT, 8),
        data(1, "aborted by 1 again", 9),
        marker(2, ABORT, 10),
        data(2, "kept of 2 again", 11),
        marker(1, ABORT, 12),
        marker(2, COMMIT, 13),
    ]
    .concat();
    // In no order: brokers do not promise one.
    let aborted = [(1, 9), (1, 0), (2, 7)];
    let kept = [(1, "kept of 2"), (3, "in no transaction"), (6, "kept of 1"), (11, "kept of 2 again")];
    let batches = decode(bytes.clone(), 0, &aborted);
    assert_eq!(seen(&batches), expected(&kept));
    assert_eq!(batches.last().expect("a batch").next_offset, 14, "markers at the end belong to the last batch");
    assert_eq!(batches.len(), 1, "markers do not part batches");
    let from_seven = decode(bytes, 7, &aborted);
    assert_eq!(seen(&from_seven), expected(&kept[3..]));
}

#[test]
fn an_answer_without_records_moves_the_next_offset() {
    let bytes = [stored(&values(&["a", "b"]), Codec::None, in_transaction(1), 0), marker(1, ABORT, 2)].concat();
    let mut decoder = Decoder::new(fetched(bytes, 0, &[(1, 0)]), BOUNDS);
    assert!(decoder.next().is_none());
    assert_eq!(decoder.next_offset(), 3);
}

#[test]
fn what_compaction_removed_leaves_holes() {
    let mut holes = stored(&values(&["a", "b"]), Codec::None, Stamp::NONE, 10);
    // Offsets 10 and 11 of what were 10 to 19.
    patch(&mut holes, 23, &9_i32.to_be_bytes());
    let mut emptied = stored(&values(&["x"]), Codec::None, Stamp::NONE, 25);
    emptied.truncate(HEADER_BYTES);
    emptied[8..12].copy_from_slice(&49_i32.to_be_bytes());
    patch(&mut emptied, 57, &0_i32.to_be_bytes());
    let bytes = [holes, emptied].concat();
    let batches = decode(bytes, 3, &[]);
    assert_eq!(seen(&batches), expected(&[(10, "a"), (11, "b")]));
    assert_eq!(batches[0].next_offset, 26);
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    let mut bytes = stored(&values(&["a", "b"]), Codec::Snappy, Stamp::NONE, 0);
    set_attributes(&mut bytes, 1 << 3);
    patch(&mut bytes, 35, &77_777_i64.to_be_bytes());
    assert_eq!(decode(bytes, 0, &[])[0].timestamps, [77_777, 77_777]);
}

#[test]
fn old_formats_are_refused_with_a_remedy() {
    for magic in [0, 1] {
        let mut bytes = from_hex(BY_HAND);
        bytes[16] = magic;
        let error = first_error(bytes);
        assert_eq!(error, Error::OldFormat { offset: 42, magic });
        assert!(error.to_string().contains("copy the topic once"), "{error}");
    }
}

#[test]
fn an_unknown_codec_is_named() {
    let mut bytes = from_hex(BY_HAND);
    set_attributes(&mut bytes, 5);
    assert_eq!(first_error(bytes), Error::UnknownCodec { offset: 42, codec: 5 });
}

#[test]
fn what_lies_before_damage_is_read_first() {
    let mut bytes = stored(&values(&["a"]), Codec::None, Stamp::NONE, 0);
    let mut disordered = stored(&values(&["b", "c"]), Codec::None, Stamp::NONE, 1);
    patch(&mut disordered, 23, &0_i32.to_be_bytes());
    bytes.extend(disordered);
    let mut decoder = Decoder::new(fetched(bytes, 0, &[]), BOUNDS);
    assert_eq!(seen(&[decoder.next().expect("a batch").expect("sound")]), expected(&[(0, "a")]));
    assert_eq!(decoder.next_offset(), 1);
    let error = decoder.next().expect("an error").expect_err("its offsets go beyond its last");
    assert_eq!(error, Error::Corrupt { offset: 1, what: "its records are out of order" });
    assert!(decoder.next().is_none());
}

/// Written by Kafka's own client, version 4.3.1: the records made by hand, with a longer value.
#[test]
fn what_the_java_client_compresses_is_read() {
    for bytes in JAVA {
        let mut bytes = from_hex(bytes);
        bytes[..8].copy_from_slice(&42_i64.to_be_bytes());
        let batches = decode(bytes, 42, &[]);
        assert_eq!(plain(&batches[0]), by_hand("hello hello hello hello hello"));
    }
}

/// gzip, Snappy, LZ4, Zstandard.
pub(super) const JAVA: [&str; 4] = [
    "000000000000000000000064ffffffff0229a89d950001000000010000018bcfe568000000018bcfe5692cffffffffffffff \
     ffffffffffffff000000021f8b08000000000000fff360606060cab6ca48cdc9c957c04132c830dc606162646461ca603264 \
     ca6004007c366c6034000000",
    "000000000000000000000068ffffffff02db3324120002000000010000018bcfe568000000018bcfe5692cffffffffffffff \
     ffffffffffffff0000000282534e4150505900000000010000000100000023343048000000026b3a68656c6c6f205a06003c \
     001c00d8040201010402680231026801",
    "000000000000000000000063ffffffff02e8701bdb0003000000010000018bcfe568000000018bcfe5692cffffffffffffff \
     ffffffffffffff0000000204224d1860408223000000df48000000026b3a68656c6c6f20060004f001001c00d80402010104 \
     0268023102680100000000",
    "000000000000000000000060ffffffff0280d332de0004000000010000018bcfe568000000018bcfe5692cffffffffffffff \
     ffffffffffffff0000000228b52ffd00581c0100e848000000026b3a68656c6c6f20001c00d8040201010402680231026801 \
     0100a9cb17010000",
];
