//! Values to the bytes that are stored.
//!
//! **Invariant:** what cannot be encoded is an error, and the error comes before anything is
//! written. Bytes that stand for nothing would be read as a
//! checkpoint, a history or an order some day.

use serde::Serialize;

/// A value has no stored form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} cannot be encoded: {reason}")]
pub struct NotEncodable {
    /// What it is.
    pub what: &'static str,
    /// Why.
    pub reason: String,
}

impl NotEncodable {
    /// A stable word for it.
    pub const CODE: &'static str = "not-encodable";
    /// What a person can do about it.
    pub const REMEDY: &'static str = "report this";
}

/// The stored form of a value, as JSON.
///
/// # Errors
/// The value has none.
pub fn encode<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<Vec<u8>, NotEncodable> {
    serde_json::to_vec(value).map_err(|error| NotEncodable { what, reason: error.to_string() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_has_no_form_is_an_error_and_no_bytes() {
        assert_eq!(encode("a number", &7).expect("JSON"), b"7");
        let error = encode("a map", &BTreeMap::from([((1, 2), 3)])).expect_err("keys of JSON are texts");
        assert!(error.to_string().starts_with("a map cannot be encoded: "), "{error}");
    }
}
