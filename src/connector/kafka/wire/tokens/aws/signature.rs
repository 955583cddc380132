//! Signature Version 4 of AWS, as query parameters of a URL.
//!
//! See <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html>.

use hmac::{Hmac, Mac};
use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};

use super::credentials::Keys;
use crate::model::time::rfc3339;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is requested with `GET`.
pub(super) struct Request<'a> {
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    /// Parameters of its own, in the order of their names and before those that begin with `X-Amz`.
    pub(super) parameters: &'a [(&'a str, &'a str)],
    pub(super) service: &'a str,
    pub(super) region: &'a str,
    /// The hexadecimal digest of its body, or what a service takes in its place.
    pub(super) payload: &'a str,
    pub(super) expires_seconds: u64,
}

impl Request<'_> {
    /// The URL with its signature, at this time in milliseconds.
    ///
    /// # Errors
    /// There is none: a key of any length will do.
    pub(super) fn signed(&self, keys: &Keys, now_ms: i64) -> Result<String, String> {
        let Self { host, path, service, region, payload, expires_seconds, .. } = self;
        let time: String =
            rfc3339(now_ms).chars().take(19).filter(|letter| !"-:".contains(*letter)).chain(['Z']).collect();
        let date = &time[..8];
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let credential = format!("{}/{scope}", keys.access_key_id.expose_secret());
        let expires = expires_seconds.to_string();
        let mut parameters = self.parameters.to_vec();
        parameters.extend([
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &*credential),
            ("X-Amz-Date", &*time),
            ("X-Amz-Expires", &*expires),
        ]);
        parameters.extend(keys.session_token.iter().map(|token| ("X-Amz-Security-Token", token.expose_secret())));
        parameters.push(("X-Amz-SignedHeaders", "host"));
        parameters.sort_unstable();
        let query = query(&parameters);
        let canonical = format!("GET\n{path}\n{query}\nhost:{host}\n\nhost\n{payload}");
        let to_sign = format!("{ALGORITHM}\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let mut key = format!("AWS4{}", keys.secret_access_key.expose_secret()).into_bytes();
        for part in [date, region, service, "aws4_request"] {
            key = hmac(&key, part)?;
        }
        let signature = hex(&hmac(&key, &to_sign)?);
        Ok(format!("https://{host}{path}?{query}&X-Amz-Signature={signature}"))
    }
}

fn query(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters.iter().map(|(name, value)| format!("{}={}", encoded(name), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

/// A text within a URL: all but unreserved characters are encoded (RFC 3986).
pub(super) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

fn hmac(key: &[u8], text: &str) -> Result<Vec<u8>, String> {
    let mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| "the key has no fitting length".to_owned())?;
    Ok(mac.chain_update(text).finalize().into_bytes().to_vec())
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of "Authenticating Requests: Using Query Parameters" in the API reference of
    /// Amazon S3.
    #[test]
    fn a_url_is_signed_as_in_the_example_of_aws() {
        let keys = Keys {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
            ends_ms: None,
        };
        let request = Request {
            host: "examplebucket.s3.amazonaws.com",
            path: "/test.txt",
            parameters: &[],
            service: "s3",
            region: "us-east-1",
            payload: "UNSIGNED-PAYLOAD",
            expires_seconds: 86_400,
        };
        assert_eq!(
            request.signed(&keys, 1_369_353_600_000).as_deref(),
            Ok("https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
                &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
                &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
                &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")
        );
    }
}
