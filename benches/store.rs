//! What the embedded store costs, as ratios within this run: absolute times on a shared machine mean nothing.
//!
//! `cargo bench --bench store`. Files go to a temporary directory beside the build's own, because a temporary
//! directory of the system may be in memory, where durability costs nothing.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use tidegate::model::{Batch, BatchBuilder, Codec, Compression};
use tidegate::store::{Append, Command, Compressor, Options, Packer, Retention, Store, StoredBatch, stored};

/// Pairs of measurements; the median of this many is steady to a few hundredths.
const PAIRS: usize = 30;

fn main() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    durable_commits(directory.path());
    packing();
}

fn durable_commits(directory: &Path) {
    let store = Store::open(directory.join("store.redb"), Options::default()).unwrap();
    let topic = store.create_topic("noise", 1, Retention::default()).unwrap().id;
    let mut raw = File::create(directory.join("raw")).unwrap();
    let mut noise = Noise(1);
    let mut compressor = store.compressor(None);
    println!("durable commits of one incompressible value, store : raw file with fdatasync, median of {PAIRS} pairs");
    for kib in [1, 64, 1000] {
        let mut ratios = Vec::new();
        let mut megabytes = Vec::new();
        for pair in 0..PAIRS {
            let value = noise.bytes(kib * 1024);
            let batch = one_record(&value);
            let mut write_raw = || {
                raw.write_all(&value).unwrap();
                raw.sync_data().unwrap();
            };
            let write_store = || {
                let batches = pack(&batch, &mut compressor);
                store.execute(Command::Append(vec![Append { topic, partition: 0, batches }])).unwrap();
            };
            // Who goes second finds a warmer disk: take turns.
            let (raw, store) = if pair % 2 == 0 {
                let raw = seconds(&mut write_raw);
                (raw, seconds(write_store))
            } else {
                let store = seconds(write_store);
                (seconds(&mut write_raw), store)
            };
            ratios.push(raw / store);
            megabytes.push(value.len() as f64 / store / 1e6);
        }
        println!("  {kib:>4} KiB: {:.2}   ({:.0} MB/s here and now)", median(&mut ratios), median(&mut megabytes));
    }
}

fn packing() {
    let batch = documents(1000);
    println!("packing and unpacking 1,000 records of {} bytes", batch.arena.len() / batch.len());
    let usual = Codec::ALL.map(|codec| (codec.name(), Compression::usual(codec)));
    for (name, compression) in [("zstd 1", Compression::FAST)].into_iter().chain(usual) {
        let mut compressor = Compressor::new(compression);
        let stored = pack(&batch, &mut compressor);
        let bytes: usize = stored.iter().map(|stored| stored.as_bytes().len()).sum();
        let pack = per_record(|| drop(black_box(pack(&batch, &mut compressor))), batch.len());
        let unpack = per_record(|| drop(black_box(unpack(&stored))), batch.len());
        let share = 100.0 * bytes as f64 / batch.arena.len() as f64;
        println!("  {name:>7}: pack {pack:.0} ns a record, unpack {unpack:.0} ns, {share:.0} % of the bytes");
    }
    let mut noise = Noise(2);
    let mut builder = BatchBuilder::new();
    for index in 0..1000 {
        builder.push(index, index, None, Some(&noise.bytes(150)), []);
    }
    let batch = builder.finish("noise", 0);
    let mut compressor = Compressor::new(Compression::FAST);
    let stored = pack(&batch, &mut compressor);
    let pack = per_record(|| drop(black_box(pack(&batch, &mut compressor))), batch.len());
    let unpack = per_record(|| drop(black_box(unpack(&stored))), batch.len());
    println!("    noise: pack {pack:.0} ns a record, unpack {unpack:.0} ns");
}

fn pack(batch: &Batch, compressor: &mut Compressor) -> Vec<StoredBatch> {
    let mut packer = Packer::new(0);
    for record in batch.records() {
        packer.push(record, compressor).unwrap();
    }
    packer.finish(compressor)
}

fn unpack(stored: &[StoredBatch]) -> Vec<Batch> {
    let topic = "t".into();
    stored.iter().map(|stored| stored::decode(stored.as_bytes(), 0, &topic, 0).unwrap()).collect()
}

fn one_record(value: &[u8]) -> Batch {
    let mut builder = BatchBuilder::new();
    builder.push(0, 0, None, Some(value), []);
    builder.finish("noise", 0)
}

/// JSON documents of about 150 bytes, as a shop's order stream may have them.
fn documents(count: i64) -> Batch {
    let mut noise = Noise(3);
    let mut builder = BatchBuilder::new();
    for index in 0..count {
        let (customer, amount, card) = (noise.next() % 100_000, noise.next() % 100_000, noise.next() % 10_u64.pow(16));
        let value = format!(
            r#"{{"id":{index},"customer":"customer-{customer}","amount":{}.{:02},"currency":"EUR","card":"{card:016}","note":"left at the door"}}"#,
            amount / 100,
            amount % 100,
        );
        builder.push(
            index,
            1_700_000_000_000 + index,
            Some(customer.to_string().as_bytes()),
            Some(value.as_bytes()),
            [],
        );
    }
    builder.finish("orders", 0)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

/// Nanoseconds a record: the median of many rounds.
fn per_record(mut work: impl FnMut(), records: usize) -> f64 {
    let mut rounds: Vec<f64> = (0..200).map(|_| seconds(&mut work)).collect();
    median(&mut rounds) * 1e9 / records as f64
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Bytes that no codec shrinks (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }
}
