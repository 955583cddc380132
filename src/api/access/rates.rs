//! How often somebody asks: a bucket of requests for each of them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many seconds' requests may come at once: somebody who was quiet may load a page with many parts.
const BURST_SECONDS: f64 = 2.0;

/// More are not told apart: each costs memory, and addresses cost nothing.
const BUCKETS_MAX: usize = 10_000;

/// Whose requests are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asker {
    /// The owner of a token or of a certificate.
    Named(Arc<str>),
    /// Whoever says nothing from this address.
    Address(IpAddr),
    /// Those for whom there is no room.
    Others,
}

impl Asker {
    /// Of an IPv6 address the network counts: a host has as many addresses in it as it likes.
    pub(super) fn at(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
            }
            address => address,
        })
    }
}

struct Bucket {
    requests: f64,
    at: Instant,
}

/// The buckets of all who have asked lately.
#[derive(Default)]
pub(super) struct Rates {
    buckets: Mutex<HashMap<Asker, Bucket>>,
}

impl Rates {
    /// Take a request from the bucket of `asker`, which gets `per_second`.
    ///
    /// # Errors
    /// It is empty; in this time there is one again.
    pub(super) fn take(&self, asker: Asker, per_second: u32, now: Instant) -> Result<(), Duration> {
        let rate = f64::from(per_second);
        let full = rate * BURST_SECONDS;
        let filled = |bucket: &Bucket| {
            (bucket.requests + now.saturating_duration_since(bucket.at).as_secs_f64() * rate).min(full)
        };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX {
            // Whoever has a full one can as well have none.
            buckets.retain(|_, bucket| filled(bucket) < full);
        }
        let has_room = buckets.len() < BUCKETS_MAX || buckets.contains_key(&asker);
        let asker = if has_room { asker } else { Asker::Others };
        let bucket = buckets.entry(asker).or_insert(Bucket { requests: full, at: now });
        let requests = filled(bucket);
        let is_there = requests >= 1.0;
        *bucket = Bucket { requests: if is_there { requests - 1.0 } else { requests }, at: now };
        if is_there { Ok(()) } else { Err(Duration::from_secs_f64((1.0 - requests) / rate)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Asker {
        Asker::Named(name.into())
    }

    #[test]
    fn whoever_asks_too_often_waits_and_nobody_else_does() {
        let (rates, begun) = (Rates::default(), Instant::now());
        let taken = (0..100).take_while(|_| rates.take(named("ann"), 10, begun).is_ok()).count();
        assert_eq!(taken, 20, "two seconds' worth");
        assert_eq!(rates.take(named("ann"), 10, begun), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(named("bob"), 10, begun), Ok(()));
        assert_eq!(rates.take(Asker::at([10, 0, 0, 1].into()), 10, begun), Ok(()));
        let later = begun + Duration::from_millis(250);
        assert_eq!([(); 3].map(|()| rates.take(named("ann"), 10, later).is_ok()), [true, true, false]);
        let much_later = begun + Duration::from_secs(3600);
        let taken = (0..100).take_while(|_| rates.take(named("ann"), 10, much_later).is_ok()).count();
        assert_eq!(taken, 20, "it does not grow beyond");
    }

    #[test]
    fn a_host_has_one_bucket_however_many_addresses_it_has() {
        let at = |text: &str| Asker::at(text.parse().expect("an address"));
        assert_eq!(at("2001:db8::1"), at("2001:db8::2:3:4:5"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
        assert_ne!(at("10.0.0.1"), at("10.0.0.2"));
    }

    #[test]
    fn many_addresses_do_not_cost_memory_without_end() {
        let (rates, now) = (Rates::default(), Instant::now());
        for number in 0..3 * BUCKETS_MAX as u32 {
            let _whether_or_not = rates.take(Asker::at(number.to_be_bytes().into()), 1, now);
        }
        assert!(rates.buckets.lock().expect("a lock").len() <= BUCKETS_MAX + 1);
        assert!(rates.take(Asker::at([255, 0, 0, 1].into()), 1, now).is_err(), "strangers share what is left");
        let later = now + Duration::from_secs(10);
        assert_eq!(rates.take(Asker::at([255, 0, 0, 1].into()), 1, later), Ok(()));
        assert_eq!(rates.buckets.lock().expect("a lock").len(), 1);
    }
}
