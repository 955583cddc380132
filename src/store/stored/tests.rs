use proptest::prelude::*;

use super::*;
use crate::model::{BatchBuilder, HeaderRef};

/// When the records of these tests arrive.
const ARRIVAL: i64 = 0x0102_0304_0506;

type Header = (Vec<u8>, Option<Vec<u8>>);
type Plain = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<Header>);

fn build(records: &[Plain]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (timestamp, key, value, headers) in records {
        let headers = headers.iter().map(|(name, value)| HeaderRef { name, value: value.as_deref() });
        builder.push(900, *timestamp, key.as_deref(), value.as_deref(), headers);
    }
    builder.finish("source", 7)
}

fn plain(batch: &Batch) -> Vec<Plain> {
    let bytes = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    batch
        .records()
        .map(|record| {
            let headers = record.headers().map(|header| (header.name.to_vec(), bytes(header.value))).collect();
            (record.timestamp(), bytes(record.key()), bytes(record.value()), headers)
        })
        .collect()
}

fn pack(batch: &Batch) -> Vec<StoredBatch> {
    pack_with(batch, Compression::FAST)
}

fn pack_with(batch: &Batch, compression: Compression) -> Vec<StoredBatch> {
    let mut compressor = Compressor::new(compression);
    let mut packer = Packer::new(ARRIVAL);
    for record in batch.records() {
        packer.push(record, &mut compressor).expect("small");
    }
    packer.finish(&mut compressor)
}

fn unpack(stored: &[StoredBatch], mut base: i64) -> Vec<(i64, Plain)> {
    let mut records = Vec::new();
    for stored in stored {
        let batch = decode(stored.as_bytes(), base, &"orders".into(), 3).expect("what was packed");
        assert_eq!(batch.len(), stored.records() as usize);
        records.extend(batch.offsets.iter().copied().zip(plain(&batch)));
        base = batch.next_offset;
    }
    records
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..900_usize).prop_map(|(byte, length)| vec![byte; length])
    ]
}

fn record() -> impl Strategy<Value = Plain> {
    let headers = proptest::collection::vec((bytes(), proptest::option::of(bytes())), 0..4);
    (any::<i64>(), proptest::option::of(bytes()), proptest::option::of(bytes()), headers)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn records_come_back_as_they_were(records in proptest::collection::vec(record(), 1..60)) {
        let stored = pack(&build(&records));
        let expected: Vec<_> = (50..).zip(records).collect();
        prop_assert_eq!(unpack(&stored, 50), expected);
    }

    #[test]
    fn a_flipped_byte_is_always_noticed(
        records in proptest::collection::vec(record(), 1..9), at in any::<prop::sample::Index>(), bit in 0..8_u32,
    ) {
        let mut bytes = pack(&build(&records))[0].as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes, 0, &"orders".into(), 0).is_err(), "byte {}", at);
    }

    /// With the right checksum, so that what stands behind it has to defend itself.
    #[test]
    fn hostile_bytes_never_break_a_batch(
        records in proptest::collection::vec(record(), 1..5),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        codec in prop::sample::select(&CODECS),
        uncompressed: bool,
    ) {
        let batch = build(&records);
        let mut bytes = pack_with(&batch, Compression::usual(codec))[0].as_bytes().to_vec();
        if uncompressed {
            let header = StoredHeader::read(&bytes).expect("header");
            let body = decode_body(&header, &bytes[HEADER_BYTES..]).expect("body");
            bytes.truncate(HEADER_BYTES);
            bytes.extend_from_slice(&body);
            bytes[5] = 0;
        }
        for (at, byte) in changes {
            let at = 5 + at.index(bytes.len() - 5);
            bytes[at] = byte;
        }
        let checksum = crc_fast::crc32_iscsi(&bytes[5..]);
        bytes[1..5].copy_from_slice(&checksum.to_le_bytes());
        if let Ok(batch) = decode(&bytes, 0, &"orders".into(), 0) {
            prop_assert_eq!(batch.len(), batch.header_ends.len());
            prop_assert_eq!(batch.header_ends.last().copied(), Some(batch.headers.len() as u32));
            plain(&batch);
        }
    }
}

#[test]
fn any_bytes_are_refused_without_much_memory() {
    assert_eq!(decode(&[], 0, &"t".into(), 0).err(), Some(Damage::Short));
    assert_eq!(decode(&[1; 33], 0, &"t".into(), 0).err(), Some(Damage::Short));
    assert_eq!(decode(&[2; 41], 0, &"t".into(), 0).err(), Some(Damage::Short));
    assert_eq!(decode(&[3; 99], 0, &"t".into(), 0).err(), Some(Damage::Version(3)));
    let mut greedy = vec![0xff; 60];
    greedy[0] = STORED_VERSION;
    greedy[5] = 1;
    let checksum = crc_fast::crc32_iscsi(&greedy[5..]);
    greedy[1..5].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&greedy, 0, &"t".into(), 0).err(), Some(Damage::Lengths));
}

/// What all versions hold alike: the records of [`as_ever`] behind the version and the checksum.
const HEADER_AS_EVER: &str = concat!("00", "02000000", "02000000", "08000000", "e803000000000000", "e803000000000000");
const BODY_AS_EVER: &str = concat!(
    "6b6e76",
    "76616c7565",
    "0000000000000000",
    "feffffffffffffff",
    "01000000",
    "ffffffff",
    "ffffffff",
    "05000000",
    "02000000",
    "00000000",
    "01000000",
    "00000000",
    "01000000",
    "ffffffff",
);

fn as_ever() -> [Plain; 2] {
    let record = (1000, Some(b"k".to_vec()), None, vec![(b"n".to_vec(), Some(b"v".to_vec())), (vec![], None)]);
    [record, (998, None, Some(b"value".to_vec()), vec![])]
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn assert_is_as_ever(bytes: &[u8]) {
    let batch = decode(bytes, 5, &"orders".into(), 3).expect("readable");
    assert_eq!(plain(&batch), as_ever());
    assert_eq!((batch.offsets.as_slice(), batch.next_offset), ([5, 6].as_slice(), 7));
}

/// The bytes that the first programs wrote. They must be read for ever.
#[test]
fn version_1_is_what_it_was() {
    let bytes = from_hex(&["01", "5d01dca4", HEADER_AS_EVER, BODY_AS_EVER].concat());
    assert_eq!(StoredHeader::read_checked(&bytes).expect("whole").arrival, None);
    assert_is_as_ever(&bytes);
}

/// Version 1, and the time of arrival.
#[test]
fn version_2_is_what_it_was() {
    let expected = ["02", "3882a2f7", HEADER_AS_EVER, "0605040302010000", BODY_AS_EVER].concat();
    let stored = pack(&build(&as_ever()));
    // Too short to shrink enough, or compressed: read the uncompressed form, and write what is read.
    let written: String = uncompressed(&stored[0]).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(written, expected);
    let bytes = from_hex(&expected);
    assert_eq!(StoredHeader::read_checked(&bytes).expect("whole").arrival, Some(ARRIVAL));
    assert_is_as_ever(&bytes);
}

fn uncompressed(stored: &StoredBatch) -> Vec<u8> {
    let header = StoredHeader::read(stored.as_bytes()).expect("header");
    let body = decode_body(&header, &stored.as_bytes()[HEADER_BYTES..]).expect("body");
    let mut bytes = stored.as_bytes()[..HEADER_BYTES].to_vec();
    bytes[5] = 0;
    bytes.extend_from_slice(&body);
    let checksum = crc_fast::crc32_iscsi(&bytes[5..]);
    bytes[1..5].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn noise_is_stored_as_it_is_and_text_shrinks() {
    let noisy = pack(&build(&[(0, None, Some(noise(1000 * 1024)), vec![])]));
    assert_eq!(noisy[0].as_bytes()[5], 0);
    assert!(noisy[0].as_bytes().len() < 1000 * 1024 + 256, "fits a page of a mebibyte");
    let text = b"the tide comes and the tide goes; ".repeat(30_000);
    let packed = pack(&build(&[(0, None, Some(text.clone()), vec![])]));
    assert_eq!(packed[0].as_bytes()[5], 1);
    assert!(packed[0].as_bytes().len() < text.len() / 20);
}

#[test]
fn each_codec_has_its_number_and_brings_back_what_it_took() {
    let records: Vec<Plain> = (0..3000).map(|index| (index, None, Some(b"tide ".repeat(100)), vec![])).collect();
    for (number, codec) in [(0, Codec::None), (1, Codec::Zstd), (2, Codec::Gzip), (3, Codec::Snappy), (4, Codec::Lz4)] {
        let stored = pack_with(&build(&records), Compression::usual(codec));
        assert!(stored.iter().all(|stored| stored.as_bytes()[5] == number), "{codec}");
        let shrinks = stored.iter().all(|stored| stored.as_bytes().len() < STORED_BYTES_MAX / 5);
        assert_eq!(shrinks, codec != Codec::None, "{codec}");
        assert_eq!(unpack(&stored, 0).into_iter().map(|(_, record)| record).collect::<Vec<_>>(), records);
    }
    let mut unknown = pack(&build(&records))[0].as_bytes().to_vec();
    unknown[5] = 5;
    let checksum = crc_fast::crc32_iscsi(&unknown[5..]);
    unknown[1..5].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(decode(&unknown, 0, &"t".into(), 0).err(), Some(Damage::Codec(5)));
}

#[test]
fn many_records_become_batches_of_bounded_size() {
    let records: Vec<Plain> = (0..3000).map(|index| (index, None, Some(noise(1000)), vec![])).collect();
    let stored = pack(&build(&records));
    assert_eq!(stored.len(), 3);
    for stored in &stored {
        assert!(uncompressed(stored).len() <= STORED_BYTES_MAX);
    }
    assert_eq!(unpack(&stored, 0).len(), 3000);
}

#[test]
fn a_record_over_the_limit_is_refused_and_leaves_nothing() {
    let batch = build(&[(0, None, Some(vec![0; RECORD_BYTES_MAX]), vec![])]);
    let mut compressor = Compressor::new(Compression::FAST);
    let mut packer = Packer::new(ARRIVAL);
    assert!(packer.push(batch.record(0), &mut compressor).is_err());
    assert!(packer.finish(&mut compressor).is_empty());
}
