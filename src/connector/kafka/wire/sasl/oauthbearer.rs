//! OAUTHBEARER (RFC 7628): a token.

use std::sync::Arc;

use super::{Failure, refused};

/// What to send first. Configurations have no other extensions than those that can be sent.
pub(super) fn message(token: &str, extensions: &[(Arc<str>, Arc<str>)]) -> Result<Vec<u8>, Failure> {
    // The characters of a bearer token (RFC 6750). Any other could end the message early.
    let valid = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    if !valid {
        return Err(Failure::NoSecret("the token has characters that no bearer token has".to_owned()));
    }
    let extensions: String = extensions.iter().map(|(name, value)| format!("{name}={value}\u{1}")).collect();
    Ok(format!("n,,\u{1}auth=Bearer {token}\u{1}{extensions}\u{1}").into_bytes())
}

/// A broker that does not take the token says why, wants to be answered with one byte, and then ends the exchange.
pub(super) fn answer(error: &mut Option<String>, challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    match error.take() {
        Some(error) => Err(refused(error)),
        None if challenge.is_empty() => Ok(None),
        None => {
            *error = Some(String::from_utf8_lossy(challenge).into_owned());
            Ok(Some(vec![1]))
        }
    }
}
