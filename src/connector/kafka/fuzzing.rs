//! What comes from brokers and from whoever writes to our topics, given to a fuzzer (`cargo xtask fuzz`): any bytes are read or refused.

use bytes::Bytes;
use kafka_protocol::messages::FetchRequest;
use kafka_protocol::protocol::Request;

use super::layout::{LaneRecord, StateRecord};
use super::records::{AbortedTransaction, Bounds, Decoder, Fetched, HEADER_BYTES};
use super::wire::{self, Call, EachCall, Reader, each_call};

/// What a record batch may take when it is decompressed, in bytes.
const DECOMPRESSED_BYTES_MAX: usize = 1 << 20;
const MERGE_BYTES: usize = 1 << 12;

/// The records of a fetch answer. The first byte says whether checksums are made right, so that what is behind them has to hold by itself.
pub fn record_batches(bytes: &[u8]) {
    let Some((first, records)) = bytes.split_first() else { return };
    let mut records = records.to_vec();
    if first % 2 == 0 {
        make_checksums_right(&mut records);
    }
    let allowed = records.len().max(DECOMPRESSED_BYTES_MAX) + MERGE_BYTES;
    let aborted = [(1, 0), (2, 5)];
    let aborted = aborted.map(|(producer_id, first_offset)| AbortedTransaction { producer_id, first_offset });
    let fetched =
        Fetched { topic: "orders".into(), partition: 0, from: 0, bytes: records.into(), aborted: aborted.to_vec() };
    let bounds = Bounds { decompressed_bytes_max: DECOMPRESSED_BYTES_MAX, merge_bytes: MERGE_BYTES };
    for batch in Decoder::new(fetched, bounds).flatten() {
        assert!(batch.arena.len() <= allowed, "an arena of {} bytes", batch.arena.len());
        assert!(batch.offsets.is_sorted_by(|before, after| before < after), "offsets that do not rise");
        for record in batch.records() {
            let headers = record.headers().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len));
            let parts = [record.key(), record.value()].into_iter().flatten().map(<[u8]>::len);
            assert!(headers.chain(parts).sum::<usize>() <= allowed, "a record that is larger than all of them");
        }
    }
}

/// Give every record batch the checksum of its bytes.
pub(super) fn make_checksums_right(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(length) = bytes.get(at + 8..at + 12).and_then(|length| length.try_into().ok()) {
        let end = at + 12 + u32::from_be_bytes(length) as usize;
        let Some(batch) = bytes.get_mut(at..end).filter(|batch| batch.len() >= HEADER_BYTES) else { return };
        let checksum = crc_fast::crc32_iscsi(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
        at = end;
    }
}

/// Any other answer. The first byte says to which request, the second in which version.
pub fn answer(bytes: &[u8]) {
    let [request, version, body @ ..] = bytes else { return };
    each_call(&mut Answered { left: usize::from(*request), version: *version, body });
}

/// Bytes that are read as the answer to one of the requests.
struct Answered<'a> {
    /// How many requests come before it.
    left: usize,
    version: u8,
    body: &'a [u8],
}

impl EachCall for Answered<'_> {
    fn visit<R: Call<Answer = <R as Request>::Response>>(&mut self) {
        if self.left == 0 {
            let version = R::SPOKEN.start() + i16::from(self.version) % (R::SPOKEN.end() - R::SPOKEN.start() + 1);
            let _any = wire::read::<R>(Bytes::copy_from_slice(self.body), version);
        }
        self.left = self.left.wrapping_sub(1);
    }
}

/// A fetch answer. The first byte is its version.
pub fn fetch_answer(bytes: &[u8]) {
    let Some((first, body)) = bytes.split_first() else { return };
    let version = 4 + i16::from(first % 14);
    let mut body = Reader::new(Bytes::copy_from_slice(body), FetchRequest::is_flexible(version));
    let _any = FetchRequest::read_answer(&mut body, version);
}

/// A record of a topic of checkpoints or of state. The first byte is the length of its key.
pub fn own_record(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (key, value) = rest.split_at(usize::from(*first).min(rest.len()));
    let _any = LaneRecord::read(Some(key), Some(value));
    let _any = StateRecord::read(Some(key), Some(value));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// What the fuzzer begins with; the tests of each reader damage sound bytes.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            for read in [record_batches, answer, fetch_answer, own_record] {
                read(&bytes);
            }
        }
    }
}
