//! What a broker answers before it is known who it is: read by hand, because the messages of `kafka-protocol` make room for as many entries as
//! an answer claims to have.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::fields::Fields;

/// A finalized feature of a cluster: what version of transactions it has.
const TRANSACTION_VERSION: &[u8] = b"transaction.version";

/// The tagged field of an answer to ApiVersions that has the finalized features.
const FINALIZED_FEATURES: u32 = 2;

/// An answer to ApiVersions 3.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Versions {
    /// The versions of each request that the broker knows.
    pub(super) of_requests: BTreeMap<i16, RangeInclusive<i16>>,
    /// The version of transactions that the cluster has finalized.
    pub(super) of_transactions: i16,
}

impl Versions {
    /// The answer, or its error code. `None` if it is no answer.
    pub(super) fn read(body: &[u8]) -> Option<Result<Self, i16>> {
        let mut fields = Fields(body);
        let code = fields.i16()?;
        // An older broker answers in another layout, with an error in front.
        if code != 0 {
            return Some(Err(code));
        }
        let mut versions = Self::default();
        for _ in 1..fields.varint()? {
            let (key, min, max) = (fields.i16()?, fields.i16()?, fields.i16()?);
            fields.tags(|_, _| Some(()))?;
            versions.of_requests.insert(key, min..=max);
        }
        let _throttle = fields.take(4)?;
        fields.tags(|tag, mut field| {
            if tag == FINALIZED_FEATURES {
                versions.of_transactions = transaction_version(&mut field)?;
            }
            Some(())
        })?;
        Some(Ok(versions))
    }
}

fn transaction_version(fields: &mut Fields<'_>) -> Option<i16> {
    let mut found = 0;
    for _ in 1..fields.varint()? {
        let bytes = fields.varint()?.checked_sub(1)?;
        let name = fields.take(bytes as usize)?;
        let (max, _min) = (fields.i16()?, fields.i16()?);
        fields.tags(|_, _| Some(()))?;
        if name == TRANSACTION_VERSION {
            found = max;
        }
    }
    Some(found)
}

/// An answer to SaslHandshake 1: its error code, and the mechanisms that the broker has.
pub(super) fn mechanisms(body: &[u8]) -> Option<(i16, Vec<String>)> {
    let mut fields = Fields(body);
    let code = fields.i16()?;
    let mut names = Vec::new();
    for _ in 0..fields.i32()? {
        names.push(String::from_utf8_lossy(fields.string()?).into_owned());
    }
    Some((code, names))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
    use kafka_protocol::messages::{ApiVersionsResponse, SaslHandshakeResponse};
    use kafka_protocol::protocol::{Encodable, StrBytes};
    use proptest::prelude::*;

    use super::*;

    fn api_versions() -> Vec<u8> {
        let api = |key, min, max| ApiVersion::default().with_api_key(key).with_min_version(min).with_max_version(max);
        let feature = |name, max| {
            FinalizedFeatureKey::default().with_name(StrBytes::from_static_str(name)).with_max_version_level(max)
        };
        let answer = ApiVersionsResponse::default()
            .with_api_keys(vec![api(0, 3, 13), api(18, 0, 4)])
            .with_finalized_features_epoch(7)
            .with_finalized_features(vec![feature("metadata.version", 25), feature("transaction.version", 2)]);
        let mut body = BytesMut::new();
        answer.encode(&mut body, 3).expect("an answer");
        body.to_vec()
    }

    fn handshake() -> Vec<u8> {
        let names = ["PLAIN", "SCRAM-SHA-512"].map(StrBytes::from_static_str);
        let answer = SaslHandshakeResponse::default().with_error_code(33).with_mechanisms(names.to_vec());
        let mut body = BytesMut::new();
        answer.encode(&mut body, 1).expect("an answer");
        body.to_vec()
    }

    #[test]
    fn versions_and_features_are_read() {
        let of_requests = BTreeMap::from([(0, 3..=13), (18, 0..=4)]);
        assert_eq!(Versions::read(&api_versions()), Some(Ok(Versions { of_requests, of_transactions: 2 })));
        assert_eq!(Versions::read(&[0, 35, 0, 0]), Some(Err(35)));
    }

    #[test]
    fn mechanisms_are_read() {
        assert_eq!(mechanisms(&handshake()), Some((33, vec!["PLAIN".to_owned(), "SCRAM-SHA-512".to_owned()])));
    }

    #[test]
    fn what_ends_early_is_no_answer() {
        let (versions, handshake) = (api_versions(), handshake());
        assert!((0..versions.len()).all(|end| Versions::read(&versions[..end]).is_none()));
        assert!((0..handshake.len()).all(|end| mechanisms(&handshake[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn nothing_is_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read = (Versions::read(&body), mechanisms(&body));
        }

        #[test]
        fn nothing_like_an_answer_is_a_panic(at in 0..60_usize, byte: u8) {
            for mut body in [api_versions(), handshake()] {
                let at = at % body.len();
                body[at] = byte;
                let _read = (Versions::read(&body), mechanisms(&body));
            }
        }
    }
}
