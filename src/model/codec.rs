//! The five codecs that records are compressed with, each in the framing that Kafka's own client writes.

use std::cell::RefCell;
use std::fmt;
use std::io::{Read, Write};
use std::ops::RangeInclusive;

use zstd::zstd_safe;

/// How records are compressed: `compression.type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip, one or several members.
    Gzip,
    /// Snappy: written in the framing of the Java library (xerial), read in that one or without any.
    Snappy,
    /// LZ4 in its standard frame.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// All of them, by their numbers in the attributes of a record batch.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The codec with this number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// Its number.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// Its name in Kafka's configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// How hard it can try, if there is a choice.
    pub fn levels(self) -> Option<RangeInclusive<i32>> {
        match self {
            Self::Gzip => Some(1..=9),
            Self::Zstd => Some(1..=22),
            Self::None | Self::Snappy | Self::Lz4 => None,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A codec and how hard it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compression {
    codec: Codec,
    /// Of gzip and zstd.
    level: i32,
}

impl Compression {
    /// No compression.
    pub const NONE: Self = Self { codec: Codec::None, level: 0 };

    /// Zstandard at its fastest level, which compresses about as fast as a disk writes.
    pub const FAST: Self = Self { codec: Codec::Zstd, level: 1 };

    /// A codec at its usual level.
    pub fn usual(codec: Codec) -> Self {
        let level = match codec {
            Codec::Gzip => 6,
            Codec::Zstd => zstd::DEFAULT_COMPRESSION_LEVEL,
            Codec::None | Codec::Snappy | Codec::Lz4 => 0,
        };
        Self { codec, level }
    }

    /// A codec at one of its levels; `None` if it does not have it.
    pub fn with_level(codec: Codec, level: i32) -> Option<Self> {
        codec.levels().is_some_and(|levels| levels.contains(&level)).then_some(Self { codec, level })
    }

    /// The codec.
    pub fn codec(self) -> Codec {
        self.codec
    }
}

/// Compresses. Keep one for a writer: of Zstandard it holds about a mebibyte of tables.
pub struct Compressor {
    compression: Compression,
    zstd: Option<zstd_safe::CCtx<'static>>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Compressor {
    /// A compressor that compresses in this way.
    pub fn new(compression: Compression) -> Self {
        let zstd = (compression.codec == Codec::Zstd).then(zstd_safe::CCtx::create);
        Self { compression, zstd }
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.compression.codec
    }

    /// Append `records`, compressed, to `out`.
    ///
    /// # Errors
    /// What the library says, which fails only without memory.
    pub fn append(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self.compression.codec {
            Codec::None => {
                out.extend_from_slice(records);
                Ok(())
            }
            Codec::Gzip => gzip(records, self.compression.level, out),
            Codec::Snappy => xerial(records, out),
            Codec::Lz4 => lz4(records, out),
            Codec::Zstd => self.zstd(records, out),
        }
    }

    fn zstd(&mut self, records: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        let context = self.zstd.get_or_insert_with(zstd_safe::CCtx::create);
        // The library writes to the front of what it is given.
        let mut packed = Vec::with_capacity(zstd_safe::compress_bound(records.len()));
        context
            .compress(&mut packed, records, self.compression.level)
            .map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
        out.extend_from_slice(&packed);
        Ok(())
    }
}

fn gzip(records: &[u8], level: i32, out: &mut Vec<u8>) -> Result<(), String> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::new(level as u32));
    encoder.write_all(records).and_then(|()| encoder.finish().map(drop)).map_err(|error| error.to_string())
}

/// Kafka's client refuses blocks that depend on each other, so they are independent; 64 KiB is what it writes too.
fn lz4(records: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    encoder.write_all(records).map_err(|error| error.to_string())?;
    encoder.finish().map(drop).map_err(|error| error.to_string())
}

const XERIAL_MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
/// The version that writes it and the oldest that reads it: 1 and 1.
const XERIAL_VERSIONS: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 1];
/// What Kafka's client compresses at a time.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;

/// After magic and versions: blocks of Snappy, each with its length before it.
fn xerial(records: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    out.extend_from_slice(&XERIAL_MAGIC);
    out.extend_from_slice(&XERIAL_VERSIONS);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(|error| error.to_string())?;
        out.extend_from_slice(&(packed.len() as u32).to_be_bytes());
        out.extend_from_slice(&packed);
    }
    Ok(())
}

/// Why something cannot be decompressed.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It would take more than is allowed.
    TooLarge,
    /// It is nothing that the codec wrote.
    Damaged,
}

/// Append what was compressed to `out`: at most `bytes_max` of it.
///
/// # Errors
/// See [`Refused`]. A part of it may be in `out` then.
pub fn decompress(codec: Codec, packed: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Refused> {
    match codec {
        Codec::None if packed.len() > bytes_max => Err(Refused::TooLarge),
        Codec::None => {
            out.extend_from_slice(packed);
            Ok(())
        }
        Codec::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(packed), out, bytes_max),
        Codec::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(packed), out, bytes_max),
        Codec::Snappy => snappy(packed, out, bytes_max),
        Codec::Zstd => unzstd(packed, out, bytes_max),
    }
}

fn read_all(reader: impl Read, out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Refused> {
    // One byte more than allowed tells that it is too much.
    let read = reader.take(bytes_max as u64 + 1).read_to_end(out).map_err(|_| Refused::Damaged)?;
    if read > bytes_max { Err(Refused::TooLarge) } else { Ok(()) }
}

fn snappy(packed: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Refused> {
    let Some(blocks) = packed.strip_prefix(&XERIAL_MAGIC) else { return snappy_block(packed, out, bytes_max) };
    let mut rest = blocks.get(XERIAL_VERSIONS.len()..).ok_or(Refused::Damaged)?;
    let start = out.len();
    while !rest.is_empty() {
        let (block, behind) = xerial_block(rest)?;
        snappy_block(block, out, bytes_max - (out.len() - start))?;
        rest = behind;
    }
    Ok(())
}

/// The first block, and what is behind it.
fn xerial_block(bytes: &[u8]) -> Result<(&[u8], &[u8]), Refused> {
    let (length, behind) = bytes.split_first_chunk().ok_or(Refused::Damaged)?;
    behind.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Refused::Damaged)
}

/// No block of Snappy grows more than this: its densest element makes 64 bytes of three.
const SNAPPY_RATIO_MAX: usize = 32;

fn snappy_block(packed: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Refused> {
    let bytes = snap::raw::decompress_len(packed).map_err(|_| Refused::Damaged)?;
    if bytes > bytes_max {
        return Err(Refused::TooLarge);
    }
    if bytes / SNAPPY_RATIO_MAX > packed.len() {
        return Err(Refused::Damaged);
    }
    let start = out.len();
    out.resize(start + bytes, 0);
    snap::raw::Decoder::new().decompress(packed, &mut out[start..]).map(drop).map_err(|_| Refused::Damaged)
}

thread_local! {
    /// One a thread, because making one costs as much as decompressing a small record batch.
    static ZSTD: RefCell<zstd_safe::DCtx<'static>> = RefCell::new(zstd_safe::DCtx::create());
}

/// How much larger the next try is where a frame does not say its size, as those of Kafka's client do not.
const ZSTD_GROWTH: usize = 4;

/// In one go, into a buffer of the right size: decompressing piece by piece takes a window of up to 128 MiB, as large as
/// the frame claims, beside the result.
fn unzstd(packed: &[u8], out: &mut Vec<u8>, bytes_max: usize) -> Result<(), Refused> {
    const TOO_SMALL: usize =
        0_usize.wrapping_sub(zstd_safe::zstd_sys::ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall as usize);
    let claimed = zstd_safe::get_frame_content_size(packed).map_err(|_| Refused::Damaged)?;
    let claimed = claimed.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if claimed.is_some_and(|claimed| claimed > bytes_max) {
        return Err(Refused::TooLarge);
    }
    let mut room = claimed.unwrap_or(packed.len().saturating_mul(ZSTD_GROWTH)).min(bytes_max);
    loop {
        let mut bytes = Vec::with_capacity(room);
        match ZSTD.with_borrow_mut(|context| context.decompress(&mut bytes, packed)) {
            Ok(_) if bytes.len() > bytes_max => return Err(Refused::TooLarge),
            Ok(_) if out.is_empty() => {
                *out = bytes;
                return Ok(());
            }
            Ok(_) => {
                out.extend_from_slice(&bytes);
                return Ok(());
            }
            Err(TOO_SMALL) if room < bytes_max => room = room.saturating_mul(ZSTD_GROWTH).clamp(1, bytes_max),
            Err(TOO_SMALL) => return Err(Refused::TooLarge),
            Err(_) => return Err(Refused::Damaged),
        }
    }
}

/// Append the beginning of what was compressed to `out`: `bytes` of it, or all that there is. Little more is decompressed than that takes: a block of the codec.
///
/// # Errors
/// It is [`Refused::Damaged`], or [`Refused::TooLarge`] where even its beginning takes much memory. A part of it may be in `out` then.
pub fn decompress_start(codec: Codec, packed: &[u8], out: &mut Vec<u8>, bytes: usize) -> Result<(), Refused> {
    match codec {
        Codec::None => {
            out.extend_from_slice(&packed[..bytes.min(packed.len())]);
            Ok(())
        }
        Codec::Gzip => read_start(flate2::bufread::MultiGzDecoder::new(packed), out, bytes),
        Codec::Lz4 => read_start(lz4_flex::frame::FrameDecoder::new(packed), out, bytes),
        Codec::Snappy => snappy_start(packed, out, bytes),
        Codec::Zstd => unzstd_start(packed, out, bytes),
    }
}

fn read_start(reader: impl Read, out: &mut Vec<u8>, bytes: usize) -> Result<(), Refused> {
    reader.take(bytes as u64).read_to_end(out).map(drop).map_err(|_| Refused::Damaged)
}

/// The most that one block may be of which only the beginning is wanted.
const START_BYTES_MAX: usize = 16 << 20;

fn snappy_start(packed: &[u8], out: &mut Vec<u8>, bytes: usize) -> Result<(), Refused> {
    let end = out.len() + bytes;
    let Some(blocks) = packed.strip_prefix(&XERIAL_MAGIC) else {
        snappy_block(packed, out, START_BYTES_MAX.max(bytes))?;
        out.truncate(end);
        return Ok(());
    };
    let mut rest = blocks.get(XERIAL_VERSIONS.len()..).ok_or(Refused::Damaged)?;
    while !rest.is_empty() && out.len() < end {
        let (block, behind) = xerial_block(rest)?;
        snappy_block(block, out, START_BYTES_MAX.max(bytes))?;
        rest = behind;
    }
    out.truncate(end);
    Ok(())
}

/// The window of a frame of which only the beginning is wanted: 8 MiB. Kafka's client writes less.
const WINDOW_LOG_MAX: u32 = 23;

thread_local! {
    /// Piece by piece takes the window that the frame claims, so this one is bounded.
    static ZSTD_START: RefCell<Option<zstd_safe::DCtx<'static>>> = const { RefCell::new(None) };
}

fn unzstd_start(packed: &[u8], out: &mut Vec<u8>, bytes: usize) -> Result<(), Refused> {
    ZSTD_START.with_borrow_mut(|context| {
        let context = context.get_or_insert_with(zstd_safe::DCtx::create);
        let refused = |_| Refused::TooLarge;
        context.reset(zstd_safe::ResetDirective::SessionOnly).map_err(refused)?;
        context.set_parameter(zstd_safe::DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(refused)?;
        let mut start = vec![0; bytes];
        let mut output = zstd_safe::OutBuffer::around(&mut start[..]);
        let mut input = zstd_safe::InBuffer::around(packed);
        while output.pos() < bytes {
            let before = (output.pos(), input.pos());
            let left = context.decompress_stream(&mut output, &mut input).map_err(|_| Refused::Damaged)?;
            if left == 0 && input.pos() == packed.len() {
                break;
            }
            if (output.pos(), input.pos()) == before {
                return Err(Refused::Damaged);
            }
        }
        out.extend_from_slice(output.as_slice());
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How they read what others wrote is tested with record batches.
    #[test]
    fn what_is_compressed_comes_back_and_takes_no_more_than_it_may() {
        let text = b"the tide comes and the tide goes; ".repeat(5_000);
        for codec in Codec::ALL {
            let levels = codec.levels().into_iter().flatten().filter_map(|level| Compression::with_level(codec, level));
            for compression in levels.chain([Compression::usual(codec)]) {
                let mut packed = b"before".to_vec();
                Compressor::new(compression).append(&text, &mut packed).unwrap();
                let packed = &packed[6..];
                assert!(codec == Codec::None || packed.len() < text.len() / 10, "{compression:?}");
                let mut out = Vec::new();
                assert_eq!(decompress(codec, packed, &mut out, text.len()), Ok(()), "{compression:?}");
                assert_eq!(out, text);
                assert_eq!(decompress(codec, packed, &mut Vec::new(), text.len() - 1), Err(Refused::TooLarge));
                for bytes in [0, 1, 100, 70_000, text.len(), text.len() + 1] {
                    let mut start = b"before".to_vec();
                    assert_eq!(decompress_start(codec, packed, &mut start, bytes), Ok(()), "{compression:?} {bytes}");
                    assert!(start[6..] == text[..bytes.min(text.len())], "{compression:?} {bytes}");
                }
            }
        }
    }

    #[test]
    fn levels_are_those_that_the_codec_has() {
        for (codec, level, is_there) in [
            (Codec::Gzip, 9, true),
            (Codec::Gzip, 10, false),
            (Codec::Zstd, 22, true),
            (Codec::Zstd, 0, false),
            (Codec::Lz4, 1, false),
            (Codec::Snappy, 0, false),
            (Codec::None, 0, false),
        ] {
            assert_eq!(Compression::with_level(codec, level).is_some(), is_there, "{codec} {level}");
        }
    }
}
