//! Logins that a cluster has refused: its connections wait longer and longer before the next one, all of them together.
//!
//! Every lane, and what looks after each link, connects by itself and tries again by itself. A wrong password would be tried some times a second by all of them, which locks accounts and
//! fills brokers' logs. A new secret is tried at once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

use super::error::WireError;

/// The wait after the first refusal. It doubles with each further one.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait: who has corrected the account at the broker does not wait longer than that.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What brokers of a cluster have said to our logins.
#[derive(Debug, Default)]
pub(crate) struct Logins(Mutex<Option<Refusal>>);

#[derive(Debug)]
struct Refusal {
    error: WireError,
    /// How often in a row.
    times: u32,
    /// Nobody tries before.
    until: Instant,
    /// Whether a connection was let try again, and what it hears is not known yet.
    is_tried: bool,
    /// The digest of the secret that was refused.
    secret: [u8; 32],
}

impl Logins {
    /// Whether a login may be tried now.
    ///
    /// # Errors
    /// The last one was refused, and its wait is not over.
    pub(super) fn admit(&self, secret: &SecretString, now: Instant) -> Result<(), WireError> {
        let mut state = self.state();
        let Some(refusal) = state.as_mut().filter(|refusal| refusal.secret == digest(secret)) else { return Ok(()) };
        let wait = wait(refusal.times);
        if now < refusal.until {
            let (error, times) = (Box::new(refusal.error.clone()), refusal.times);
            return Err(WireError::LoginWaits { error, times, wait });
        }
        // This one tries, and the others wait for what it hears.
        (refusal.until, refusal.is_tried) = (now + wait, true);
        Ok(())
    }

    /// A login was refused.
    pub(super) fn refused(&self, secret: &SecretString, error: WireError, now: Instant) {
        let mut state = self.state();
        let secret = digest(secret);
        let before = state.as_ref().filter(|refusal| refusal.secret == secret);
        // Of those that were under way together one counts.
        let times = before.map_or(1, |refusal| refusal.times.saturating_add(u32::from(refusal.is_tried)));
        *state = Some(Refusal { error, times, until: now + wait(times), is_tried: false, secret });
    }

    /// A login was taken.
    pub(super) fn taken(&self) {
        *self.state() = None;
    }

    fn state(&self) -> std::sync::MutexGuard<'_, Option<Refusal>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn digest(secret: &SecretString) -> [u8; 32] {
    Sha256::digest(secret.expose_secret()).into()
}

/// How long the next try waits after so many in a row have failed.
pub(super) fn wait(times: u32) -> Duration {
    let factor = 1_u32.checked_shl(times.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(factor).min(WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal() -> WireError {
        WireError::Refused {
            address: "b:9".into(),
            mechanism: "PLAIN",
            who: "user x".to_owned(),
            what: "no".to_owned(),
        }
    }

    #[test]
    fn a_refused_login_is_tried_less_and_less_often_and_by_one_connection_at_a_time() {
        let (logins, secret) = (Logins::default(), SecretString::from("wrong"));
        let begun = Instant::now();
        let mut tries = Vec::new();
        // Ten connections ask ten times a second for five minutes.
        for tenth in 0..3_000_u64 {
            let now = begun + Duration::from_millis(tenth * 100);
            for _connection in 0..10 {
                if logins.admit(&secret, now).is_ok() {
                    tries.push(tenth / 10);
                    logins.refused(&secret, refusal(), now);
                }
            }
        }
        assert_eq!(tries, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        let error = logins.admit(&secret, begun + Duration::from_secs(299)).expect_err("it waits");
        assert_eq!(
            error.to_string(),
            "b:9 does not take user x by PLAIN: no (10 times in a row: the next try is 60 s after the last)"
        );
        assert_eq!(crate::connector::Error::from(error).code, "authentication-failed");
    }

    #[test]
    fn logins_that_were_under_way_together_count_once() {
        let (logins, secret, now) = (Logins::default(), SecretString::from("wrong"), Instant::now());
        (0..30).for_each(|_| logins.refused(&secret, refusal(), now));
        assert!(logins.admit(&secret, now + FIRST_WAIT).is_ok());
    }

    #[test]
    fn another_secret_and_a_login_that_was_taken_wait_for_nothing() {
        let (logins, secret, now) = (Logins::default(), SecretString::from("wrong"), Instant::now());
        logins.refused(&secret, refusal(), now);
        assert!(logins.admit(&secret, now).is_err());
        assert!(logins.admit(&"new".into(), now).is_ok());
        logins.taken();
        assert!(logins.admit(&secret, now).is_ok());
    }
}
