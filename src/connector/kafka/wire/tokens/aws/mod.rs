//! IAM of Amazon MSK: a token is a signed URL, made here with the keys of an identity.
//!
//! It is what the signers that AWS publishes make (`aws-msk-iam-sasl-signer`), and it is sent as a
//! token of OAUTHBEARER.
//!
//! Reading order: this file, [`credentials`] for where keys come from, [`signature`].

mod credentials;
mod signature;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use self::credentials::Keys;
use self::signature::{Request, encoded, hex};
use super::Issued;
use crate::config::AwsIdentity;
use crate::model::time::now_ms;

/// How long a token is valid: as long as those of the published signers.
const LIFETIME: Duration = Duration::from_secs(900);

const USER_AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));

/// Find the keys, and sign a token.
pub(super) fn issue(identity: &AwsIdentity, written: &SecretString, timeout: Duration) -> Result<Issued, String> {
    let keys = credentials::find(identity, written, &|name| std::env::var(name).ok(), timeout)?;
    let now_ms = now_ms();
    // A token is worth nothing once the keys are not.
    let left = keys.ends_ms.map(|ends_ms| Duration::from_millis(ends_ms.saturating_sub(now_ms).max(0).unsigned_abs()));
    let lifetime = left.map_or(LIFETIME, |left| left.min(LIFETIME));
    Ok(Issued { token: token(&keys, &identity.region, USER_AGENT, now_ms)?.into(), lifetime })
}

fn token(keys: &Keys, region: &str, user_agent: &str, now_ms: i64) -> Result<String, String> {
    let request = Request {
        host: &format!("kafka.{region}.amazonaws.com"),
        path: "/",
        parameters: &[("Action", "kafka-cluster:Connect")],
        service: "kafka-cluster",
        region,
        payload: &hex(&Sha256::digest("")),
        expires_seconds: LIFETIME.as_secs(),
    };
    // Who asks is not signed.
    let url = format!("{}&User-Agent={}", request.signed(keys, now_ms)?, encoded(user_agent));
    Ok(BASE64_URL_SAFE_NO_PAD.encode(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2024-05-17T09:08:07Z.
    const NOW_MS: i64 = 1_715_936_887_000;

    /// Made by `aws-msk-iam-sasl-signer-python` 1.0.2 with botocore 1.44.8 at that time.
    #[test]
    fn a_token_is_the_one_of_the_published_signer() {
        let token = |session_token: Option<&str>| {
            let keys = Keys {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
                secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into(),
                session_token: session_token.map(Into::into),
                ends_ms: None,
            };
            token(&keys, "eu-central-1", "aws-msk-iam-sasl-signer-python/1.0.2", NOW_MS).expect("a token")
        };
        // What belongs to a session stands elsewhere among the parameters: brokers sort them.
        let parts = |token: &str| {
            let url = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(token).expect("base64")).expect("a text");
            let (address, query) = url.split_once('?').expect("a query");
            let mut parameters: Vec<String> = query.split('&').map(str::to_owned).collect();
            parameters.sort_unstable();
            (address.to_owned(), parameters)
        };
        assert_eq!(
            token(None),
            "aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFsLTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FDb25uZWN0Jlgt\
             QW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJQUlPU0ZPRE5ON0VYQU1QTEUlMkYyMDI0\
             MDUxNyUyRmV1LWNlbnRyYWwtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1BbXotRGF0ZT0yMDI0MDUxN1QwOTA4\
             MDdaJlgtQW16LUV4cGlyZXM9OTAwJlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCZYLUFtei1TaWduYXR1cmU9MGE0YzNiMTE4MzBm\
             NGQ5NGJlMzE0M2U5Yzc4ZDJmZGQ0ODliMWQzN2RmNmZkY2UyMWNiYzRlNmY2NzRjNDQzYiZVc2VyLUFnZW50PWF3cy1tc2staWFt\
             LXNhc2wtc2lnbmVyLXB5dGhvbiUyRjEuMC4y"
        );
        assert_eq!(
            parts(&token(Some("FQoGZXIvYXdzEBYaD+/=x"))),
            parts(
                "aHR0cHM6Ly9rYWZrYS5ldS1jZW50cmFsLTEuYW1hem9uYXdzLmNvbS8_QWN0aW9uPWthZmthLWNsdXN0ZXIlM0FDb25uZWN0Jlgt\
             QW16LUFsZ29yaXRobT1BV1M0LUhNQUMtU0hBMjU2JlgtQW16LUNyZWRlbnRpYWw9QUtJQUlPU0ZPRE5ON0VYQU1QTEUlMkYyMDI0\
             MDUxNyUyRmV1LWNlbnRyYWwtMSUyRmthZmthLWNsdXN0ZXIlMkZhd3M0X3JlcXVlc3QmWC1BbXotRGF0ZT0yMDI0MDUxN1QwOTA4\
             MDdaJlgtQW16LUV4cGlyZXM9OTAwJlgtQW16LVNpZ25lZEhlYWRlcnM9aG9zdCZYLUFtei1TZWN1cml0eS1Ub2tlbj1GUW9HWlhJ\
             dllYZHpFQllhRCUyQiUyRiUzRHgmWC1BbXotU2lnbmF0dXJlPWI0MmU5MTNjNjNmOWNmMTE5YTVkZjAxYmY2MTE5Njc4MmE3OGVj\
             MzY0MDZhZGE4NDJmZjY3NDNhNzc0MzJkYTgmVXNlci1BZ2VudD1hd3MtbXNrLWlhbS1zYXNsLXNpZ25lci1weXRob24lMkYxLjAu\
             Mg"
            )
        );
    }
}
