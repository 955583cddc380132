//! Exchanges without a broker.

use proptest::prelude::*;

use super::scram::{Hash, Scram};
use super::{Exchange, Failure, TEXT_BYTES_MAX, secret};
use crate::config::{Bearer, Login, SaslConfig, TokenSource};

fn login() -> Login {
    Login { username: "user".into(), password: "pencil".into() }
}

fn token(token: &str) -> SaslConfig {
    SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given(token.into()), extensions: Vec::new() })
}

fn begin(config: &SaslConfig) -> Exchange {
    let secret = secret(config, "broker:9092", true).expect("a secret");
    Exchange::new(config, secret).expect("an exchange")
}

fn refused(answer: Result<Option<Vec<u8>>, Failure>) -> String {
    match answer {
        Err(Failure::Refused(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

/// The example of RFC 7677, section 3.
mod rfc_7677 {
    pub(super) const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    pub(super) const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub(super) const SALTED: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub(super) const PROOF: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                    p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub(super) const SERVER_PROOF: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
}

/// The exchange of the example, up to our proof.
fn proven() -> Scram {
    let mut scram = Scram::new(Hash::Sha256, "user", rfc_7677::NONCE);
    assert_eq!(scram.first(), rfc_7677::FIRST.as_bytes());
    let proof = scram.answer(rfc_7677::SALTED.as_bytes(), "pencil").expect("a proof").expect("a message");
    assert_eq!(String::from_utf8_lossy(&proof), rfc_7677::PROOF);
    scram
}

#[test]
fn scram_speaks_as_in_the_example_of_rfc_7677() {
    assert_eq!(proven().answer(rfc_7677::SERVER_PROOF.as_bytes(), "pencil"), Ok(None));
}

#[test]
fn a_server_that_does_not_know_the_password_is_refused() {
    let wrong = rfc_7677::SERVER_PROOF.replace("6rri", "7rri");
    for proof in [&*wrong, "v=", "v=!", "", "x=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="] {
        let text = refused(proven().answer(proof.as_bytes(), "pencil"));
        assert_eq!(text, "it does not prove that it knows the password: somebody else may be answering", "{proof}");
    }
    assert_eq!(refused(proven().answer(b"e=invalid-proof", "pencil")), "invalid-proof");
}

#[test]
fn a_server_that_asks_for_more_is_refused() {
    let mut scram = proven();
    assert_eq!(scram.answer(rfc_7677::SERVER_PROOF.as_bytes(), "pencil"), Ok(None));
    assert_eq!(refused(scram.answer(rfc_7677::SERVER_PROOF.as_bytes(), "pencil")), "it asked for more than SCRAM has");
}

#[test]
fn what_a_server_must_not_say_is_refused() {
    let iterations = "it wants a number of iterations that is not from 4096 to 1000000";
    for (message, text) in [
        ("", "its message has no nonce"),
        ("m=x,r=nonceA,s=AAAA,i=4096", "its message has no nonce"),
        ("r=nonceA", "its message has no salt"),
        ("r=nonceA,s=AAAA", "its message has no number of iterations"),
        ("r=nonc,s=AAAA,i=4096", "its nonce does not begin with ours: somebody else may be answering"),
        ("r=Anonce,s=AAAA,i=4096", "its nonce does not begin with ours: somebody else may be answering"),
        ("r=nonceA,s=,i=4096", "its salt is none"),
        ("r=nonceA,s=?,i=4096", "its salt is none"),
        ("r=nonceA,s=AAAA,i=4095", iterations),
        ("r=nonceA,s=AAAA,i=1000001", iterations),
        ("r=nonceA,s=AAAA,i=99999999999999999999", iterations),
        ("r=nonceA,s=AAAA,i=-4096", iterations),
    ] {
        let mut scram = Scram::new(Hash::Sha512, "user", "nonce");
        assert_eq!(refused(scram.answer(message.as_bytes(), "pencil")), text, "{message}");
    }
    let mut scram = Scram::new(Hash::Sha512, "user", "nonce");
    assert_eq!(refused(scram.answer(b"r=nonceA,s=\xff", "pencil")), "its message is no text");
    let mut scram = Scram::new(Hash::Sha512, "user", "nonce");
    assert_eq!(refused(scram.answer(&[b'r'; 5000], "pencil")), "its message is too long");
}

#[test]
fn extensions_behind_what_is_known_are_ignored() {
    let mut scram = Scram::new(Hash::Sha512, "user", "nonce");
    assert!(scram.answer(b"r=nonceA,s=AAAA,i=4096,x=y", "pencil").is_ok());
}

#[test]
fn names_cannot_break_out_of_their_field() {
    let scram = Scram::new(Hash::Sha256, "a,r=b=", "nonce");
    assert_eq!(String::from_utf8_lossy(&scram.first()), "n,,n=a=2Cr=3Db=3D,r=nonce");
}

#[test]
fn each_exchange_has_a_nonce_of_its_own() {
    let first = || begin(&SaslConfig::ScramSha512(login())).first().expect("a message");
    assert_ne!(first(), first());
}

#[test]
fn plain_sends_name_and_password_and_awaits_nothing() {
    let mut plain = begin(&SaslConfig::Plain(login()));
    assert_eq!(plain.first(), Ok(b"\0user\0pencil".to_vec()));
    assert_eq!(plain.answer(b""), Ok(None));
    assert_eq!(refused(plain.answer(b"x")), "it asked for more than PLAIN has");
    let nul = Login { username: "user".into(), password: "a\0b".into() };
    let failure = begin(&SaslConfig::Plain(nul)).first().expect_err("a NUL");
    assert_eq!(failure, Failure::NoSecret("the password has a NUL in it, which PLAIN cannot carry".to_owned()));
}

#[test]
fn a_token_is_sent_as_in_rfc_7628_and_its_refusal_acknowledged() {
    let mut bearer = begin(&token("abc.def-~+/="));
    assert_eq!(bearer.first(), Ok(b"n,,\x01auth=Bearer abc.def-~+/=\x01\x01".to_vec()));
    assert_eq!(bearer.answer(b"{\"status\":\"invalid_token\"}"), Ok(Some(vec![1])));
    assert_eq!(refused(bearer.answer(b"")), "{\"status\":\"invalid_token\"}");
    assert_eq!(begin(&token("abc")).answer(b""), Ok(None));
    let extensions = vec![("logicalCluster".into(), "lkc-1".into()), ("identityPoolId".into(), "pool 1".into())];
    let extended = SaslConfig::OAuthBearer(Bearer { token: TokenSource::Given("abc".into()), extensions });
    let first = b"n,,\x01auth=Bearer abc\x01logicalCluster=lkc-1\x01identityPoolId=pool 1\x01\x01";
    assert_eq!(begin(&extended).first(), Ok(first.to_vec()));
    for wrong in ["a b", "a\u{1}auth=Bearer b", "ä"] {
        let failure = begin(&token(wrong)).first().expect_err(wrong);
        assert_eq!(failure, Failure::NoSecret("the token has characters that no bearer token has".to_owned()));
    }
}

#[test]
fn what_a_server_says_is_shown_without_our_secret_and_not_at_length() {
    let heard = |said: &str| {
        let mut bearer = begin(&token("hunter2hunter2"));
        assert_eq!(bearer.answer(said.as_bytes()), Ok(Some(vec![1])));
        refused(bearer.answer(b""))
    };
    let text = heard(&format!("no\n\u{1b}[31m\u{202e}{}", "ä".repeat(1000)));
    assert!(text.starts_with("no  [31m ä") && text.len() <= TEXT_BYTES_MAX, "{text}");
    for form in [
        "hunter2hunter2",
        "68756e7465723268756e74657232",
        "bixhdXRoPUJlYXJlciBodW50ZXIyaHVudGVyMgEB",
        "aHVudGVyMmh1bnRlcjI",
    ] {
        assert_eq!(heard(&format!("no: {form} is wrong")), "(hidden: the broker has sent our secret back)", "{form}");
    }
}

proptest! {
    #[test]
    fn nothing_that_a_server_says_is_a_panic(challenges in prop::collection::vec(message(), 1..4)) {
        for config in [SaslConfig::Plain(login()), SaslConfig::ScramSha256(login()), SaslConfig::ScramSha512(login()), token("abc")] {
            let mut exchange = begin(&config);
            exchange.first().expect("a message");
            for challenge in &challenges {
                // No server without the password is believed by SCRAM.
                let answer = exchange.answer(challenge);
                let is_scram = matches!(config, SaslConfig::ScramSha256(_) | SaslConfig::ScramSha512(_));
                prop_assert!(!is_scram || answer != Ok(None));
                if answer.is_err() {
                    break;
                }
            }
        }
    }
}

/// Any bytes, or what is like a message of SCRAM.
fn message() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..100),
        "[rsivem]=[a-zA-Z0-9+/=]{0,8},[rsivem]=[a-zA-Z0-9+/=]{0,8},i=[0-9]{0,5}".prop_map(String::into_bytes),
    ]
}
