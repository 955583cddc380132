//! Answers to every request that we make, in every version that we speak: sound ones are read like the crate `kafka-protocol` reads them, and nothing else does harm.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request};
use proptest::prelude::*;

use super::super::calls::{Call, EachCall, each_call};
use super::super::connection::read;
use super::super::fields::{Fields, Flaw, MEMORY_MIN, MEMORY_PER_BYTE, Reader, Width};
use super::memory::peak_of;

/// What invented answers are like.
#[derive(Clone, Copy, Debug)]
struct Manner {
    list_max: usize,
    text_max: usize,
    /// Whether nothing is null, and every number small: a long list would hardly ever be sound otherwise.
    is_plain: bool,
    /// Whether structures have tagged fields that nobody knows.
    has_tags: bool,
}

const ORDINARY: Manner = Manner { list_max: 3, text_max: 12, is_plain: false, has_tags: false };
/// As many elements as possible in few bytes.
const DENSE: Manner = Manner { list_max: 3000, text_max: 0, is_plain: true, has_tags: false };

/// A message that comes into being while it is read: whatever is asked for is there.
struct Invented {
    manner: Manner,
    is_flexible: bool,
    random: u64,
    written: Vec<u8>,
    /// Where lengths are.
    lengths: Vec<Range<usize>>,
}

impl Invented {
    fn new(seed: u64, manner: Manner, is_flexible: bool) -> Self {
        Self { manner, is_flexible, random: seed | 1, written: Vec::new(), lengths: Vec::new() }
    }

    /// Below `bound` (xorshift).
    fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as usize % bound
    }

    fn varint(&mut self, value: usize) {
        put_varint(&mut self.written, value);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Fields for Invented {
    fn number<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        // Half of them small and positive, as codes and indices are.
        let small = self.manner.is_plain || self.below(2) == 0;
        let bytes =
            std::array::from_fn(
                |at| if small && at + 1 < N { 0 } else { self.below(if small { 4 } else { 256 }) as u8 },
            );
        self.written.extend(bytes);
        Ok(bytes)
    }

    fn length(&mut self, width: Width) -> Result<Option<usize>, Flaw> {
        let max = match width {
            Width::Short => self.manner.text_max,
            // The elements of long lists have short ones.
            Width::Long if self.written.len() > 64 => self.manner.list_max.min(4),
            Width::Long => self.manner.list_max,
        };
        let length = if !self.manner.is_plain && self.below(40) == 0 { None } else { Some(self.below(max + 1)) };
        let at = self.written.len();
        match width {
            _ if self.is_flexible => self.varint(length.map_or(0, |length| length + 1)),
            Width::Short => self.written.extend(length.map_or(-1, |length| length as i16).to_be_bytes()),
            Width::Long => self.written.extend(length.map_or(-1, |length| length as i32).to_be_bytes()),
        }
        self.lengths.push(at..self.written.len());
        Ok(length)
    }

    fn take(&mut self, bytes: usize) -> Result<Bytes, Flaw> {
        let taken: Vec<u8> = (0..bytes).map(|_| b'a' + self.below(26) as u8).collect();
        self.written.extend(&taken);
        Ok(taken.into())
    }

    fn reserve(&mut self, _: usize) -> Result<(), Flaw> {
        Ok(())
    }

    fn tags(&mut self, _: impl FnMut(u32, Reader) -> Result<(), Flaw>) -> Result<(), Flaw> {
        if self.is_flexible {
            let tags: &[u8] = if self.manner.has_tags { &[2, 77, 1, 9, 78, 0] } else { &[0] };
            self.written.extend(tags);
        }
        Ok(())
    }

    fn skip_rest(&mut self) {}
}

/// A sound answer with its header, and where its lengths are.
fn sound<R: Call>(seed: u64, manner: Manner, version: i16) -> (Vec<u8>, Vec<Range<usize>>) {
    for attempt in 0..10_000 {
        let mut invented = Invented::new(
            seed.wrapping_add(attempt).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            manner,
            R::is_flexible(version),
        );
        if R::Response::header_version(version) > 0 {
            // No tagged field.
            invented.written.push(0);
        }
        // Null where there has to be something is not sound.
        if R::read_answer(&mut invented, version).is_ok() {
            return (invented.written, invented.lengths);
        }
    }
    panic!("no sound answer to {} in version {version}", std::any::type_name::<R>());
}

/// Like the crate reads it, which believes lengths. All of it must be read.
#[expect(clippy::disallowed_methods, reason = "what is read here is sound")]
fn as_the_crate_reads<R: Request>(whole: &[u8], version: i16) -> R::Response {
    let mut body = &whole[usize::from(R::Response::header_version(version) > 0)..];
    let answer = R::Response::decode(&mut body, version).expect("the crate reads it");
    assert!(body.is_empty(), "the crate leaves {} bytes", body.len());
    answer
}

struct Compares(u64);

impl EachCall for Compares {
    fn visit<R: Call<Answer = <R as Request>::Response>>(&mut self)
    where
        R::Response: PartialEq + Debug,
    {
        for version in R::SPOKEN {
            let (whole, _) = sound::<R>(self.0, ORDINARY, version);
            let ours = read::<R>(whole.clone().into(), version);
            assert_eq!(ours, Ok(as_the_crate_reads::<R>(&whole, version)), "version {version}");
        }
        tags_are_passed_over::<R>(self.0);
    }
}

fn tags_are_passed_over<R: Call>(seed: u64) {
    for version in R::SPOKEN {
        let (whole, _) = sound::<R>(seed, Manner { has_tags: true, ..ORDINARY }, version);
        as_the_crate_reads::<R>(&whole, version);
        assert_eq!(read::<R>(whole.into(), version).err(), None, "version {version}");
    }
}

/// Reads bytes as an answer, and sees to it that this takes little memory.
fn bounded<R: Call>(bytes: Vec<u8>, version: i16) {
    let length = bytes.len();
    let bytes = Bytes::from(bytes);
    let (peak, answer) = peak_of(|| read::<R>(bytes, version).map(drop));
    // Lists grow by doubling; and whoever puts what was read into another form may hold both.
    let allowed = 3 * (length * MEMORY_PER_BYTE + MEMORY_MIN);
    assert!(
        peak <= allowed,
        "{} {version}: {peak} bytes for an answer of {length}: {answer:?}",
        std::any::type_name::<R>()
    );
}

/// Lengths that nothing has.
const ABSURD: [i64; 9] =
    [-2, i32::MIN as i64, i32::MAX as i64, 0x7fff, -0x8000, 1 << 16, 1 << 24, u32::MAX as i64, 1 << 30];

struct Damages(u64);

impl EachCall for Damages {
    fn visit<R: Call<Answer = <R as Request>::Response>>(&mut self) {
        damage::<R>(self.0);
    }
}

fn damage<R: Call>(seed: u64) {
    for version in R::SPOKEN {
        let (whole, lengths) = sound::<R>(seed, ORDINARY, version);
        let mut chance = Invented::new(seed, ORDINARY, false);
        for at in lengths {
            for absurd in ABSURD {
                let length = match at.len() {
                    _ if R::is_flexible(version) => {
                        let mut length = Vec::new();
                        put_varint(&mut length, absurd as u32 as usize);
                        length
                    }
                    2 => (absurd as i16).to_be_bytes().to_vec(),
                    _ => (absurd as i32).to_be_bytes().to_vec(),
                };
                bounded::<R>([&whole[..at.start], &length, &whole[at.end..]].concat(), version);
            }
        }
        for _ in 0..20 {
            let mut damaged = whole.clone();
            let at = chance.below(damaged.len());
            match chance.below(3) {
                0 => damaged[at] ^= 1 << chance.below(8),
                1 => damaged.truncate(at),
                _ => damaged[at..].fill(chance.below(256) as u8),
            }
            bounded::<R>(damaged, version);
        }
        let length = chance.below(1024);
        bounded::<R>((0..length).map(|_| chance.below(256) as u8).collect(), version);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn sound_answers_are_read_like_the_crate_reads_them(seed: u64) {
        each_call(&mut Compares(seed));
        tags_are_passed_over::<FetchRequest>(seed);
        tags_are_passed_over::<SaslHandshakeRequest>(seed);
    }

    #[test]
    fn an_answer_that_claims_much_takes_little_memory(seed: u64) {
        each_call(&mut Damages(seed));
        damage::<FetchRequest>(seed);
        damage::<ApiVersionsRequest>(seed);
        damage::<SaslHandshakeRequest>(seed);
    }
}

struct Crowds;

impl EachCall for Crowds {
    fn visit<R: Call<Answer = <R as Request>::Response>>(&mut self) {
        crowd::<R>();
    }
}

/// What holds many small elements, and what looks as if it did.
fn crowd<R: Call>() {
    for version in R::SPOKEN {
        for seed in 0..2 {
            bounded::<R>(sound::<R>(seed, DENSE, version).0, version);
        }
        for byte in 0..4 {
            bounded::<R>(vec![byte; 50_000], version);
        }
        // Each list is as long as an answer of this size can claim.
        let (whole, lengths) = sound::<R>(7, ORDINARY, version);
        for at in lengths.into_iter().filter(|at| R::is_flexible(version) || at.len() == 4) {
            let mut long = whole[..at.start].to_vec();
            let elements = 1_usize << 14;
            if R::is_flexible(version) {
                put_varint(&mut long, elements);
            } else {
                long.extend((elements as i32).to_be_bytes());
            }
            for byte in [0, 1] {
                bounded::<R>([&long[..], &vec![byte; elements]].concat(), version);
            }
        }
    }
}

#[test]
fn an_answer_of_many_small_elements_takes_no_more_memory_than_its_size_allows() {
    each_call(&mut Crowds);
    crowd::<FetchRequest>();
    crowd::<ApiVersionsRequest>();
    crowd::<SaslHandshakeRequest>();
}
