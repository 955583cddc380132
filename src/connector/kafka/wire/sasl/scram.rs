//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither says it.
//!
//! Names and passwords are taken as they are, without the preparation of RFC 4013: Kafka's brokers do not prepare them either.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use rustls::crypto::ring;
use sha2::{Digest, Sha256, Sha512};

use super::{Failure, refused};

/// The rounds that a broker may ask for. Fewer than RFC 7677 and Kafka want make a stolen proof easy to guess; more would keep
/// this machine busy for whoever answers in the broker's place.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4096..=1_000_000;

/// The most bytes of a broker's message: those of Kafka have less than 200.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The bytes of randomness in our nonce.
const NONCE_BYTES: usize = 24;

/// No channel binding: Kafka has none.
const GS2_HEADER: &str = "n,,";

/// What the mechanism hashes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha512,
}

/// One exchange.
pub(super) struct Scram {
    hash: Hash,
    nonce: String,
    first_bare: String,
    awaits: Awaits,
}

/// Which message of the broker comes next.
enum Awaits {
    Salt,
    /// Its proof, which has to be this.
    Proof(Vec<u8>),
    Nothing,
}

/// A nonce that was never used before.
pub(super) fn nonce() -> Result<String, Failure> {
    let mut bytes = [0; NONCE_BYTES];
    let filled = ring::default_provider().secure_random.fill(&mut bytes);
    filled.map_err(|_| Failure::NoSecret("the system gives no random numbers".to_owned()))?;
    Ok(BASE64_STANDARD.encode(bytes))
}

impl Scram {
    pub(super) fn new(hash: Hash, username: &str, nonce: &str) -> Self {
        let username = username.replace('=', "=3D").replace(',', "=2C");
        Self { hash, nonce: nonce.to_owned(), first_bare: format!("n={username},r={nonce}"), awaits: Awaits::Salt }
    }

    pub(super) fn first(&self) -> Vec<u8> {
        format!("{GS2_HEADER}{}", self.first_bare).into_bytes()
    }

    pub(super) fn answer(&mut self, challenge: &[u8], password: &str) -> Result<Option<Vec<u8>>, Failure> {
        let text = text(challenge)?;
        match std::mem::replace(&mut self.awaits, Awaits::Nothing) {
            Awaits::Salt => self.prove(text, password).map(Some),
            Awaits::Proof(expected) => check_proof(text, &expected).map(|()| None),
            Awaits::Nothing => Err(refused("it asked for more than SCRAM has")),
        }
    }

    /// Our proof, in answer to the broker's salt.
    fn prove(&mut self, text: &str, password: &str) -> Result<Vec<u8>, Failure> {
        let Salted { nonce, salt, iterations } = Salted::parse(text)?;
        if !nonce.starts_with(&self.nonce) {
            return Err(refused("its nonce does not begin with ours: somebody else may be answering"));
        }
        let without_proof = format!("c={},r={nonce}", BASE64_STANDARD.encode(GS2_HEADER));
        let said = format!("{},{text},{without_proof}", self.first_bare);
        let hash = self.hash;
        let salted = hash.derive(password.as_bytes(), &salt, iterations)?;
        let client_key = hash.sign(&salted, b"Client Key")?;
        let signature = hash.sign(&hash.digest(&client_key), said.as_bytes())?;
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(key, signature)| key ^ signature).collect();
        let server_key = hash.sign(&salted, b"Server Key")?;
        self.awaits = Awaits::Proof(hash.sign(&server_key, said.as_bytes())?);
        Ok(format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)).into_bytes())
    }
}

/// The broker's first message.
struct Salted<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
}

impl<'a> Salted<'a> {
    fn parse(text: &'a str) -> Result<Self, Failure> {
        // Extensions may follow, and are to be ignored; one that must not be comes first.
        let mut fields = text.split(',');
        let mut field = |name: &str, what: &str| {
            let found = fields.next().and_then(|field| field.strip_prefix(name));
            found.ok_or_else(|| refused(format!("its message has no {what}")))
        };
        let nonce = field("r=", "nonce")?;
        let salt = field("s=", "salt")?;
        let iterations = field("i=", "number of iterations")?;
        let salt = BASE64_STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let iterations = iterations.parse().ok().filter(|iterations| ITERATIONS.contains(iterations));
        Ok(Self {
            nonce,
            salt: salt.ok_or_else(|| refused("its salt is none"))?,
            iterations: iterations.ok_or_else(|| {
                refused(format!(
                    "it wants a number of iterations that is not from {} to {}",
                    ITERATIONS.start(),
                    ITERATIONS.end()
                ))
            })?,
        })
    }
}

/// Whether the broker knows the password too.
fn check_proof(text: &str, expected: &[u8]) -> Result<(), Failure> {
    if let Some(error) = text.strip_prefix("e=") {
        return Err(refused(error));
    }
    let proof = text.strip_prefix("v=").and_then(|rest| BASE64_STANDARD.decode(rest.split(',').next()?).ok());
    // Not in constant time: what is expected is good for this exchange alone, and whoever answers has one try.
    match proof {
        Some(proof) if proof == expected => Ok(()),
        _ => Err(refused("it does not prove that it knows the password: somebody else may be answering")),
    }
}

fn text(challenge: &[u8]) -> Result<&str, Failure> {
    if challenge.len() > MESSAGE_BYTES_MAX {
        return Err(refused("its message is too long"));
    }
    std::str::from_utf8(challenge).map_err(|_| refused("its message is no text"))
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn sign(self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Failure> {
        fn sign<M: Mac + hmac::digest::KeyInit>(key: &[u8], data: &[u8]) -> Result<Vec<u8>, Failure> {
            let mac = <M as Mac>::new_from_slice(key).map_err(|_| refused("a key has no fitting length"))?;
            Ok(mac.chain_update(data).finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha256 => sign::<Hmac<Sha256>>(key, data),
            Self::Sha512 => sign::<Hmac<Sha512>>(key, data),
        }
    }

    fn derive(self, password: &[u8], salt: &[u8], iterations: u32) -> Result<Vec<u8>, Failure> {
        let mut key = vec![0; self.digest(b"").len()];
        let derived = match self {
            Self::Sha256 => pbkdf2::pbkdf2::<Hmac<Sha256>>(password, salt, iterations, &mut key),
            Self::Sha512 => pbkdf2::pbkdf2::<Hmac<Sha512>>(password, salt, iterations, &mut key),
        };
        derived.map(|()| key).map_err(|_| refused("the password has no fitting length"))
    }
}
