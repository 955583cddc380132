//! How sources give out what they have read in pieces of the size that a lane asks for.

use crate::model::Batch;

/// A batch that is given out from its start to its end.
#[derive(Debug)]
pub(super) struct Pieces {
    batch: Batch,
    /// How many of its records were given out.
    given: usize,
}

impl Pieces {
    pub(super) fn new(batch: Batch) -> Self {
        Self { batch, given: 0 }
    }

    /// The batch that is given out.
    pub(super) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// The next records: at most `max_records`, and not many more than `max_bytes` bytes. With the last piece, nothing is left
    /// in `pieces`.
    pub(super) fn give(pieces: &mut Option<Self>, max_records: usize, max_bytes: usize) -> Option<Batch> {
        let Self { mut batch, given } = pieces.take()?;
        let end = cut(&batch, given, max_records, max_bytes);
        if end < batch.len() {
            let piece = batch.slice(given..end);
            *pieces = Some(Self { batch, given: end });
            return Some(piece);
        }
        if given > 0 {
            batch = batch.slice(given..end);
        }
        Some(batch)
    }
}

/// Where a piece of `batch` that starts at `start` ends.
fn cut(batch: &Batch, start: usize, max_records: usize, max_bytes: usize) -> usize {
    let most = batch.len().min(start.saturating_add(max_records.max(1)));
    if batch.arena.len() <= max_bytes {
        return most;
    }
    let mut bytes = 0;
    for index in start..most {
        let record = batch.record(index);
        let headers = record.headers().map(|header| header.name.len() + header.value.map_or(0, <[u8]>::len));
        bytes += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len) + headers.sum::<usize>();
        if bytes > max_bytes && index > start {
            return index;
        }
    }
    most
}
