//! Certificates and private keys in PEM files.
//!
//! The errors of the parser quote the file: of a key whose line ends were lost, all of it. So they are matched here, and a [`Fault`] has words of its own. No other file
//! names the parser.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use pkcs8::EncryptedPrivateKeyInfo;
use rustls::pki_types::pem::{Error, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use secrecy::{ExposeSecret as _, SecretString};

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
    /// A key that the password does not decrypt.
    #[error(
        "its private key cannot be decrypted: the password is another one, it is damaged, or it is not encrypted by PBES2 (PKCS #8)"
    )]
    Undecryptable,
    /// A password for a key that needs none.
    #[error("its private key is not encrypted, and a password was given")]
    NotEncrypted,
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

/// The first private key of a file, decrypted with `password` if there is one.
///
/// # Errors
/// There is none that can be used.
pub fn private_key(text: &[u8], password: Option<&SecretString>) -> Result<PrivateKeyDer<'static>, Fault> {
    if let Some(password) = password {
        return decrypted(text, password);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        _ if is_encrypted(text) => Fault::EncryptedKey,
        Error::NoItemsFound => Fault::NoKey,
        _quotes_the_file => Fault::DamagedKey,
    })
}

/// The first encrypted key of a file (PKCS #8). The parser of PEM passes over it.
fn decrypted(text: &[u8], password: &SecretString) -> Result<PrivateKeyDer<'static>, Fault> {
    const BEGIN: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----";
    const END: &str = "-----END ENCRYPTED PRIVATE KEY-----";
    let text = String::from_utf8_lossy(text);
    let Some((_, behind)) = text.split_once(BEGIN) else {
        return Err(match private_key(text.as_bytes(), None) {
            Ok(_) => Fault::NotEncrypted,
            // An older form, which needs another tool.
            Err(Fault::EncryptedKey) => Fault::Undecryptable,
            Err(fault) => fault,
        });
    };
    let lines = behind.split_once(END).ok_or(Fault::DamagedKey)?.0;
    let letters: String = lines.split_ascii_whitespace().collect();
    let der = BASE64_STANDARD.decode(letters).map_err(|_quotes| Fault::DamagedKey)?;
    let encrypted = EncryptedPrivateKeyInfo::try_from(&*der).map_err(|_quotes| Fault::Undecryptable)?;
    let key = encrypted.decrypt(password.expose_secret()).map_err(|_quotes| Fault::Undecryptable)?;
    Ok(PrivatePkcs8KeyDer::from(key.as_bytes().to_vec()).into())
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

    // One key, as OpenSSL 3 writes it: in the clear, and encrypted with `swordfish` in several
    // ways.
    /// `-nocrypt`
    const PLAIN: &str = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgIHPv1/69XNRTDi/UoMDyghhf1fI8\n\
         SHoS5pS8++2r5oehRANCAAQZeDdKBYE2qXALg9AVm8tgRmNWRQczoV+yjvLKUff6605Rw3ReXaRh\n\
         /DmPi8CGvZMGNsz8KzwU9pueVQLVcUgy";
    /// `-v2 aes-256-cbc`
    const AES_256: &str = "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAgEjAC0PW/7qwICCAAwDAYIKoZIhvcN\n\
         AgkFADAdBglghkgBZQMEASoEEM/w+CsuKKXUfHTxcHw9WoUEgZCJp0cPDCeDpqt0Wg5M0h9buxfk\n\
         LQ0FyPxNdASMw8ENRef2DrTgf9XwhP008sZNd6ni83P+rGpM5394ppnobdWvVgGO6Vrd/RK6dkvR\n\
         1RkO16hnGkE7MEGCAdCGH+l6rcui5XSBf7wHALruNbGsjMUgBmucFgZHozBJIQYHgh81vF2Xx0jd\n\
         IIYtxJ3plnluBQA=";
    /// `-v2 aes-128-cbc -v2prf hmacWithSHA512`
    const AES_128: &str = "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiWG9BV1Q23HwICCAAwDAYIKoZIhvcN\n\
         AgsFADAdBglghkgBZQMEAQIEEAvqv1r66t0lK2lcksCmpiYEgZDlRGcY1O2g3DE88A1vGm83KvLk\n\
         eGq7dw/bnlRydDjafPbPok8CrzGxyel8iTorVqnJz+x80vO+8x5tZso5965SYTQdVoY6J5DUbvXl\n\
         72ljGlOS32cJ8JFifjrDLdia/JkBjHx4N9yGV8oIpa/ag4newMU0sq9ew+7nF0USBq6QrkiYAD3v\n\
         Z+ms3E4CbjuNEKk=";
    /// `-scrypt`
    const SCRYPT: &str = "MIHkME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAg/Ru6qo/L7MQICQAACAQgCAQEwHQYJ\n\
         YIZIAWUDBAEqBBBf0NwnFzjRzCMOFZiUMrwGBIGQ+f5rq452GqW73/6h0HrP40NE0kicT4iFYafO\n\
         ocpYm9+gHAsSU+RhMio955IaxDqxQH5Q16TzwCX665CkbrT/L0ew3N8FJ2iculiO73RJKES45kYE\n\
         KBdX8H39izkzRlyhiP2xL84aGAyv17o85msajYsKvKk82oeNhCaRCPbwq7lloswCY9X+bFfrsKgs\n\
         KAZk";
    /// `-v1 PBE-SHA1-3DES`
    const PBES1: &str = "MIGxMBwGCiqGSIb3DQEMAQMwDgQIcoVlyWz2ivoCAggABIGQ9pMspoOLBAOOTmHaVVhGHttz9Eeb\n\
         yZGXX1ihjOba/D8TmNshZxV+4FA7IQJEhSSuydopBfjKFpotXVmKVxYrJwmhrEizSQW88yB9J7OO\n\
         bmTpDL+Il4MxlWbd2G6DORISoW0rlHjV9cb8lSaHacbhUNaH0zCLbbiZX5CdLsPhuPRyPHUYz0N+\n\
         VlLS3d3/LDFa";

    #[test]
    fn an_encrypted_key_is_decrypted_with_its_password_alone() {
        const ENCRYPTED: &str = "ENCRYPTED PRIVATE KEY";
        let read = |text: &str, password: &str| private_key(text.as_bytes(), Some(&password.into()));
        let plain = private_key(pem(LABEL, PLAIN).as_bytes(), None).expect("a key");
        for lines in [AES_256, AES_128, SCRYPT] {
            // A certificate before it, and line ends of another system.
            let text = format!("{}{}", pem("CERTIFICATE", "AAAA"), pem(ENCRYPTED, lines));
            for text in [text.clone(), text.replace('\n', "\r\n")] {
                assert_eq!(read(&text, "swordfish").expect("a key").secret_der(), plain.secret_der());
                assert_eq!(read(&text, "swordfis").expect_err("another password"), Fault::Undecryptable);
                assert_eq!(private_key(text.as_bytes(), None).expect_err("encrypted"), Fault::EncryptedKey);
            }
        }
        let headers = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\nAAAA";
        for (text, fault) in [
            (pem(ENCRYPTED, PBES1), Fault::Undecryptable),
            (pem("RSA PRIVATE KEY", headers), Fault::Undecryptable),
            (pem(ENCRYPTED, "not base64!"), Fault::DamagedKey),
            (pem(ENCRYPTED, "AAAA"), Fault::Undecryptable),
            (pem(ENCRYPTED, AES_256).replace("-----END", "-----EN"), Fault::DamagedKey),
            (pem(LABEL, PLAIN), Fault::NotEncrypted),
            (pem("CERTIFICATE", "AAAA"), Fault::NoKey),
            (String::new(), Fault::NoKey),
        ] {
            assert_eq!(read(&text, "swordfish").expect_err("no key"), fault, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_key_is_said_in_words_of_our_own() {
        let good = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        assert!(private_key(good.as_bytes(), None).is_ok());
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
            assert_eq!(private_key(text.as_bytes(), None).expect_err("no key"), fault, "{text}");
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
