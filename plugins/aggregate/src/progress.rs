//! Which windows are closed.

use tidegate_plugin::{Expiry, Reject, State};

use crate::broken;

/// The key in the state.
const KEY: &[u8] = b"p";

/// How far results are out. Cells with keys before `next` are done; the others are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Windows that end here or before are closed, even if they would be open after a change of the configuration: their results
    /// may be out.
    pub(crate) closed: i64,
    /// Whether there may be cells that are done.
    pub(crate) unswept: bool,
    /// The key of the first cell that is not done; `None` if there is none.
    pub(crate) next: Option<Vec<u8>>,
}

impl Progress {
    /// What is stored: `closed` as 8 bytes, little-endian, `unswept` as a byte, `next`.
    pub(crate) fn load(state: &State<'_>) -> Result<Self, Reject> {
        let Some(stored) = state.get(KEY) else { return Ok(Self { closed: i64::MIN, unswept: false, next: None }) };
        let read = || {
            let (closed, rest) = stored.split_first_chunk()?;
            let (unswept, next) = rest.split_first()?;
            let next = (!next.is_empty()).then(|| next.to_vec());
            Some(Self { closed: i64::from_le_bytes(*closed), unswept: *unswept == 1, next })
        };
        read().ok_or_else(|| broken("a progress"))
    }

    pub(crate) fn store(&self, state: &State<'_>) {
        let next = self.next.as_deref().unwrap_or_default();
        let stored = [&self.closed.to_le_bytes()[..], &[u8::from(self.unswept)], next].concat();
        state.put(KEY, &stored, Expiry::Never);
    }

    /// There is a cell with this key, in an open window.
    pub(crate) fn open(&mut self, key: Vec<u8>) {
        if self.next.as_ref().is_none_or(|next| key < *next) {
            self.next = Some(key);
        }
    }
}
