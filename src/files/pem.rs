//! Certificates and private keys in PEM files.
//!
//! The errors of the parser quote the file: of a key whose line ends were lost, all of it. So they are matched here, and a [`Fault`] has words of its own. No other file
//! names the parser.

use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The most bytes of a file: a bundle of all authorities of the world has less than one MiB.
pub const FILE_BYTES_MAX: u64 = 4 << 20;

/// What is wrong with a file of certificates, or of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No certificate in it.
    #[error("it has no certificate")]
    NoCertificate,
    /// A certificate that cannot be read.
    #[error("it has a certificate that is damaged, or whose line ends were lost")]
    DamagedCertificate,
    /// No key in it.
    #[error("it has no private key")]
    NoKey,
    /// A key that is encrypted.
    #[error("its private key is encrypted: decrypt it, for example with `openssl pkey`")]
    EncryptedKey,
    /// A key that cannot be read.
    #[error("it has a private key that is damaged, or whose line ends were lost")]
    DamagedKey,
    /// A key and a certificate that do not belong together.
    #[error("the private key is not that of the certificate")]
    Inconsistent,
    /// Something that TLS cannot use.
    #[error("TLS cannot use it: it is damaged, or of a kind that is not supported")]
    Unusable,
}

/// All certificates of a file; one at least.
///
/// # Errors
/// There is none, or one is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(Fault::NoCertificate),
        Ok(found) => Ok(found),
        Err(_quotes_the_file) => Err(Fault::DamagedCertificate),
    }
}

/// The first private key of a file.
///
/// # Errors
/// There is none that can be used.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Fault> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        _ if is_encrypted(text) => Fault::EncryptedKey,
        Error::NoItemsFound => Fault::NoKey,
        _quotes_the_file => Fault::DamagedKey,
    })
}

/// PKCS #8 says it in the label of the block, and the older form in a header of it.
fn is_encrypted(text: &[u8]) -> bool {
    [&b"-----BEGIN ENCRYPTED PRIVATE KEY-----"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|sign| text.windows(sign.len()).any(|part| part == *sign))
}

/// What TLS does not like about certificates and keys.
pub fn unusable(error: &rustls::Error) -> Fault {
    match error {
        rustls::Error::InconsistentKeys(_) => Fault::Inconsistent,
        rustls::Error::InvalidCertificate(_) => Fault::DamagedCertificate,
        rustls::Error::NoCertificatesPresented => Fault::NoCertificate,
        _ => Fault::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABEL: &str = "PRIVATE KEY";

    fn pem(label: &str, lines: &str) -> String {
        format!("-----BEGIN {label}-----\n{lines}\n-----END {label}-----\n")
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_in_words_of_our_own() {
        let good = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        assert!(private_key(good.as_bytes()).is_ok());
        let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA";
        for (text, fault) in [
            (good.replace('\n', ""), Fault::DamagedKey),
            (good.replace("-----END", "-----EN"), Fault::DamagedKey),
            (pem(LABEL, "not base64!"), Fault::DamagedKey),
            (pem("RSA PRIVATE KEY", headers), Fault::EncryptedKey),
            (pem("ENCRYPTED PRIVATE KEY", "AAAA"), Fault::EncryptedKey),
            (pem("CERTIFICATE", "AAAA"), Fault::NoKey),
            (String::new(), Fault::NoKey),
        ] {
            assert_eq!(private_key(text.as_bytes()).expect_err("no key"), fault, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_in_words_of_our_own() {
        let good = pem("CERTIFICATE", "AAAA");
        assert_eq!(certificates(good.repeat(2).as_bytes()).expect("two").len(), 2);
        for (text, fault) in [
            (good.replace('\n', ""), Fault::DamagedCertificate),
            (pem("CERTIFICATE", "not base64!"), Fault::DamagedCertificate),
            (pem(LABEL, "AAAA"), Fault::NoCertificate),
            (String::new(), Fault::NoCertificate),
        ] {
            assert_eq!(certificates(text.as_bytes()).expect_err("none"), fault, "{text}");
        }
    }
}
