//! PLAIN (RFC 4616): name and password as they are.

use super::{Failure, refused};

pub(super) fn message(username: &str, password: &str) -> Result<Vec<u8>, Failure> {
    if password.contains('\0') {
        return Err(Failure::NoSecret("the password has a NUL in it, which PLAIN cannot carry".to_owned()));
    }
    Ok(format!("\0{username}\0{password}").into_bytes())
}

pub(super) fn answer(challenge: &[u8]) -> Result<Option<Vec<u8>>, Failure> {
    if challenge.is_empty() { Ok(None) } else { Err(refused("it asked for more than PLAIN has")) }
}
