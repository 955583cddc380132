//! What a broker answers before it is known who it is.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use kafka_protocol::messages::{ApiVersionsRequest, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;

use super::calls::{Call, SMALL};
use super::fields::{Fields, Flaw, structures};

/// A finalized feature of a cluster: what version of transactions it has.
const TRANSACTION_VERSION: &str = "transaction.version";

/// The tagged field of an answer to ApiVersions that has the finalized features.
const FINALIZED_FEATURES: u32 = 2;

/// What a broker knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Versions {
    /// The versions of each request that the broker knows.
    pub(super) of_requests: BTreeMap<i16, RangeInclusive<i16>>,
    /// The version of transactions that the cluster has finalized.
    pub(super) of_transactions: i16,
}

/// The versions of a request.
#[derive(Debug, Default)]
struct Known {
    key: i16,
    min: i16,
    max: i16,
}

/// A finalized feature.
#[derive(Debug, Default)]
struct Feature {
    name: StrBytes,
    max: i16,
    min: i16,
}

structures! {
    Known { key, min, max }
    Feature { name, max, min }
}

impl Call for ApiVersionsRequest {
    /// The versions, or an error code.
    type Answer = Result<Versions, i16>;
    const SPOKEN: RangeInclusive<i16> = 3..=3;
    const ANSWER_BYTES_MAX: usize = SMALL;

    /// The header of this answer is never flexible: the client does not know yet what the broker knows.
    fn is_flexible(_: i16) -> bool {
        true
    }

    fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<Self::Answer, Flaw> {
        let code: i16 = from.read(version)?;
        // An older broker answers in another layout, with an error in front.
        if code != 0 {
            from.skip_rest();
            return Ok(Err(code));
        }
        let known: Vec<Known> = from.read(version)?;
        let of_requests = known.into_iter().map(|known| (known.key, known.min..=known.max)).collect();
        let _throttle: i32 = from.read(version)?;
        let mut of_transactions = 0;
        from.tags(|tag, mut field| {
            if tag == FINALIZED_FEATURES {
                let features: Vec<Feature> = field.read(version)?;
                let found = features.iter().rfind(|feature| feature.name.as_str() == TRANSACTION_VERSION);
                of_transactions = found.map_or(0, |feature| feature.max);
            }
            Ok(())
        })?;
        Ok(Ok(Versions { of_requests, of_transactions }))
    }
}

impl Call for SaslHandshakeRequest {
    /// The error code, and the mechanisms that the broker has.
    type Answer = (i16, Vec<StrBytes>);
    const SPOKEN: RangeInclusive<i16> = 1..=1;
    const ANSWER_BYTES_MAX: usize = SMALL;

    fn read_answer<F: Fields>(from: &mut F, version: i16) -> Result<Self::Answer, Flaw> {
        Ok((from.read(version)?, from.read(version)?))
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey};
    use kafka_protocol::messages::{ApiVersionsResponse, SaslHandshakeResponse};
    use kafka_protocol::protocol::Encodable;
    use proptest::prelude::*;

    use super::super::connection::read;
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

    fn versions(body: &[u8]) -> Result<Result<Versions, i16>, Flaw> {
        read::<ApiVersionsRequest>(Bytes::copy_from_slice(body), 3)
    }

    fn mechanisms(body: &[u8]) -> Result<(i16, Vec<StrBytes>), Flaw> {
        read::<SaslHandshakeRequest>(Bytes::copy_from_slice(body), 1)
    }

    #[test]
    fn versions_and_features_are_read() {
        let of_requests = BTreeMap::from([(0, 3..=13), (18, 0..=4)]);
        assert_eq!(versions(&api_versions()), Ok(Ok(Versions { of_requests, of_transactions: 2 })));
        assert_eq!(versions(&[0, 35, 0, 0]), Ok(Err(35)));
    }

    #[test]
    fn mechanisms_are_read() {
        let names = ["PLAIN", "SCRAM-SHA-512"].map(StrBytes::from_static_str);
        assert_eq!(mechanisms(&handshake()), Ok((33, names.to_vec())));
    }

    #[test]
    fn what_ends_early_is_no_answer() {
        let (api_versions, handshake) = (api_versions(), handshake());
        assert!((0..api_versions.len()).all(|end| versions(&api_versions[..end]).is_err()));
        assert!((0..handshake.len()).all(|end| mechanisms(&handshake[..end]).is_err()));
    }

    proptest! {
        #[test]
        fn nothing_is_a_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _read = (versions(&body), mechanisms(&body));
        }

        #[test]
        fn nothing_like_an_answer_is_a_panic(at in 0..60_usize, byte: u8) {
            for mut body in [api_versions(), handshake()] {
                let at = at % body.len();
                body[at] = byte;
                let _read = (versions(&body), mechanisms(&body));
            }
        }
    }
}
