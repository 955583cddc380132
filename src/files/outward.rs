//! Requests of ours over HTTP: what all of them have in common, and what is said of one that failed. Errors of the HTTP library quote addresses and headers, which may hold keys: so they are matched, and never formatted.

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

/// What every HTTP client of the program begins with: nothing in the environment and nobody who answers decides where a request goes.
pub(crate) fn http() -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        // A proxy would read along, connect for us wherever it likes, and answer for one that is not there.
        .proxy(None)
        // What is sent has tokens and signatures, which must not follow.
        .max_redirects(0)
        .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
}

/// Why a request failed.
pub(crate) fn why(error: &ureq::Error) -> &'static str {
    match error {
        ureq::Error::Timeout(_) => "it did not answer in time",
        ureq::Error::HostNotFound => "its host is not known",
        ureq::Error::ConnectionFailed => "it cannot be connected to",
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) | ureq::Error::Pem(_) => "TLS with it fails",
        ureq::Error::Protocol(_) | ureq::Error::LargeResponseHeader(..) => "it does not answer in HTTP",
        ureq::Error::Io(error) => match error.kind() {
            _ if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => "TLS with it fails",
            std::io::ErrorKind::ConnectionRefused => "it takes no connection",
            _ => "the connection broke",
        },
        _ => "the request cannot be sent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_an_address_or_a_header_is_quoted() {
        let secret = "https://hooks.example.com/T0/planted";
        for error in [
            ureq::Error::BadUri(secret.to_owned()),
            ureq::Error::Other(secret.into()),
            ureq::Error::Io(std::io::Error::other(secret)),
            ureq::Error::Io(std::io::Error::other(rustls::Error::General(secret.to_owned()))),
            ureq::Error::Rustls(rustls::Error::General(secret.to_owned())),
            ureq::Error::InvalidProxyUrl,
        ] {
            assert!(error.to_string().contains("planted") || matches!(error, ureq::Error::InvalidProxyUrl), "{error}");
            assert!(!why(&error).contains("planted"));
        }
    }
}
