//! What can be wrong with record batches.

use crate::model::Codec;

/// Why record batches cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no sound record batch.
    #[error(
        "the record batch at offset {offset} is damaged: {what}; read the partition again, and if that does not help, check the broker's disk"
    )]
    Corrupt {
        /// The base offset that the record batch claims.
        offset: i64,
        /// What is wrong.
        what: &'static str,
    },
    /// A message set of the time before record batches.
    #[error(
        "the messages at offset {offset} have format {magic}, which brokers before 0.11 wrote and which is not read: copy \
         the topic once with a client of Kafka 3 so that it is written anew, or start the link behind these messages"
    )]
    OldFormat {
        /// The offset of the first of them.
        offset: i64,
        /// 0 or 1.
        magic: u8,
    },
    /// A codec that is not one of the five.
    #[error(
        "the record batch at offset {offset} is compressed with codec {codec}, which is not known: a newer version may read it"
    )]
    UnknownCodec {
        /// Its base offset.
        offset: i64,
        /// The number in the attributes.
        codec: u8,
    },
    /// A record batch that takes too much memory.
    #[error(
        "the record batch at offset {offset} takes more than {bytes_max} bytes when it is decompressed: larger ones are not read"
    )]
    DecompressedTooLarge {
        /// Its base offset.
        offset: i64,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A record that does not fit, even alone.
    #[error(
        "record {index} takes {bytes} bytes in a record batch of its own, and {bytes_max} are allowed: raise max.message.bytes of the topic"
    )]
    RecordTooLarge {
        /// Its index in the batch.
        index: usize,
        /// The size of a record batch with this record alone, compressed, in bytes.
        bytes: usize,
        /// The limit, in bytes.
        bytes_max: usize,
    },
    /// A compression library failed, which it does only without memory.
    #[error("{codec} could not compress: {message}")]
    Compress {
        /// The codec.
        codec: Codec,
        /// What it said.
        message: String,
    },
}

impl Error {
    /// A stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Corrupt { .. } => "corrupt-batch",
            Self::OldFormat { .. } => "old-format",
            Self::UnknownCodec { .. } => "unknown-codec",
            Self::DecompressedTooLarge { .. } => "batch-too-large",
            Self::RecordTooLarge { .. } => "record-too-large",
            Self::Compress { .. } => "not-compressed",
        }
    }
}
