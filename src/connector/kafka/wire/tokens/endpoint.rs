//! The client credentials grant (RFC 6749, section 4.4): a request over HTTP.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::Issued;
use super::http::{agent, answered, form_encoded};
use crate::config::TokenEndpoint;

/// How long a token counts whose answer does not say it.
const LIFETIME_USUAL: Duration = Duration::from_secs(300);

/// The error codes of an authorization server (RFC 6749, section 5.2): no other word of its answer
/// is shown.
const CODES: [&str; 8] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "server_error",
    "temporarily_unavailable",
];

/// Request a token.
pub(super) fn request(endpoint: &TokenEndpoint, timeout: Duration) -> Result<Issued, String> {
    let secret = endpoint.secret_for_endpoint().map_err(|withheld| withheld.to_string())?;
    let agent = agent(endpoint.ca_file.as_deref(), timeout)?;
    let request = agent
        .post(endpoint.address())
        .header("accept", "application/json")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("authorization", basic(&endpoint.client_id, &secret));
    let answer = answered(request.send(body(endpoint.scope.as_deref()).as_bytes()))?;
    if answer.status.is_success() { issued(&answer.bytes) } else { Err(refusal(answer.status.as_u16(), &answer.bytes)) }
}

/// Id and secret, each encoded as in a form before they are joined (RFC 6749, section 2.3.1).
fn basic(client_id: &str, secret: &SecretString) -> String {
    let pair = format!("{}:{}", form_encoded(client_id), form_encoded(secret.expose_secret()));
    format!("Basic {}", BASE64_STANDARD.encode(pair))
}

fn body(scope: Option<&str>) -> String {
    let scope = scope.map(|scope| format!("&scope={}", form_encoded(scope)));
    format!("grant_type=client_credentials{}", scope.unwrap_or_default())
}

/// What a server answers that issues a token (RFC 6749, section 5.1). Some write the number as a
/// text.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

fn issued(bytes: &[u8]) -> Result<Issued, String> {
    let answer: Answer =
        serde_json::from_slice(bytes).map_err(|_quotes| "its answer has no access_token".to_owned())?;
    let token = SecretString::from(answer.access_token);
    let lifetime = match answer.expires_in {
        None | Some(serde_json::Value::Null) => Some(LIFETIME_USUAL),
        Some(serde_json::Value::String(text)) => text.parse().ok().map(Duration::from_secs),
        Some(number) => number.as_u64().map(Duration::from_secs),
    };
    match lifetime {
        _ if token.expose_secret().is_empty() => Err("its answer has an empty access_token".to_owned()),
        Some(lifetime) => Ok(Issued { token, lifetime }),
        None => Err("the expires_in of its answer is no number of seconds".to_owned()),
    }
}

/// What a server answers that issues none (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

fn refusal(status: u16, bytes: &[u8]) -> String {
    let code = match serde_json::from_slice::<Refusal>(bytes) {
        Ok(refusal) => CODES.iter().find(|code| **code == refusal.error),
        Err(_quotes) => None,
    };
    match code {
        Some(code) => format!("it answers {status} ({code})"),
        None => format!("it answers {status}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(String, u64), String> {
        issued(text.as_bytes()).map(|it| (it.token.expose_secret().to_owned(), it.lifetime.as_secs()))
    }

    #[test]
    fn answers_are_read_as_servers_write_them() {
        for (text, seconds) in [
            (r#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#, 60),
            (r#"{"access_token":"t","expires_in":"3599","ext_expires_in":"1"}"#, 3599),
            (r#"{"access_token":"t"}"#, 300),
            (r#"{"access_token":"t","expires_in":null}"#, 300),
        ] {
            assert_eq!(read(text), Ok(("t".to_owned(), seconds)), "{text}");
        }
    }

    /// The texts of errors go into logs.
    #[test]
    fn what_is_no_answer_is_quoted_by_no_error() {
        for text in [
            "",
            "planted",
            r#"{"token":"planted"}"#,
            r#"{"access_token":["planted"]}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"planted","expires_in":-1}"#,
            r#"{"access_token":"planted","expires_in":"planted"}"#,
            r#"{"access_token":"planted","expires_in":1e99}"#,
        ] {
            let error = read(text).expect_err(text);
            assert!(!error.contains("planted"), "{error}");
        }
        for (text, said) in [
            (r#"{"error":"invalid_client","error_description":"planted"}"#, "it answers 401 (invalid_client)"),
            (r#"{"error":"planted"}"#, "it answers 401"),
            ("planted", "it answers 401"),
        ] {
            assert_eq!(refusal(401, text.as_bytes()), said);
        }
    }

    /// The example of RFC 6749, section 2.3.1, and what such ids and secrets do not have.
    #[test]
    fn the_client_is_named_as_the_standard_has_it() {
        assert_eq!(basic("s6BhdRkqt3", &"gX1fBat3bV".into()), "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW");
        assert_eq!(form_encoded("a:b c%ä~"), "a%3Ab+c%25%C3%A4%7E");
        assert_eq!(body(Some("kafka read/all")), "grant_type=client_credentials&scope=kafka+read%2Fall");
        assert_eq!(body(None), "grant_type=client_credentials");
    }
}
