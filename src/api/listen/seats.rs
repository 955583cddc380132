//! Who gives way when there are too many connections.
//!
//! A connection without a request under way waits for its client, who may take their time: it gives way. It is one of the address that has the most, so that one client that
//! opens connections without end shuts out itself.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The seats of all connections.
#[derive(Clone, Default)]
pub(super) struct Seats(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Occupant>,
}

struct Occupant {
    address: IpAddr,
    is_busy: Arc<AtomicBool>,
    go: Arc<Notify>,
}

/// The seat of a connection, for as long as it lives.
pub(super) struct Seat {
    number: u64,
    is_busy: Arc<AtomicBool>,
    go: Arc<Notify>,
    seats: Seats,
}

impl Seats {
    /// A seat for a connection from `address`. If `seats_max` are taken, somebody gives way; `None` if nobody can.
    pub(super) fn take(&self, address: IpAddr, seats_max: usize) -> Option<Seat> {
        let mut taken = self.lock();
        while taken.seats.len() >= seats_max {
            let idle = taken.who_gives_way()?;
            if let Some(occupant) = taken.seats.remove(&idle) {
                occupant.go.notify_one();
            }
        }
        let number = taken.next;
        taken.next += 1;
        let (is_busy, go) = (Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        taken.seats.insert(number, Occupant { address, is_busy: is_busy.clone(), go: go.clone() });
        Some(Seat { number, is_busy, go, seats: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    /// The oldest idle one of the address that has the most; or of any.
    fn who_gives_way(&self) -> Option<u64> {
        let mut by_address = HashMap::<IpAddr, usize>::new();
        self.seats.values().for_each(|occupant| *by_address.entry(occupant.address).or_default() += 1);
        let idle = self.seats.iter().filter(|(_, occupant)| !occupant.is_busy.load(Ordering::Relaxed));
        let weight = |(number, occupant): &(&u64, &Occupant)| {
            (by_address.get(&occupant.address).copied().unwrap_or_default(), u64::MAX - **number)
        };
        idle.max_by_key(weight).map(|(number, _)| *number)
    }
}

impl Seat {
    /// What says whether a request is under way.
    pub(super) fn is_busy(&self) -> Arc<AtomicBool> {
        self.is_busy.clone()
    }

    /// Until somebody else needs the seat.
    pub(super) async fn asked_to_go(&self) {
        self.go.notified().await;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().seats.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Whether a seat was asked for.
    fn must_go(seat: &Seat) -> bool {
        let mut asked = std::pin::pin!(seat.asked_to_go());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        asked.as_mut().poll(&mut context).is_ready()
    }

    #[test]
    fn the_oldest_idle_one_of_whoever_has_the_most_gives_way() {
        let seats = Seats::default();
        let first = seats.take(address(1), 4).expect("a seat");
        let greedy: Vec<Seat> = (0..3).map(|_| seats.take(address(2), 4).expect("a seat")).collect();
        greedy[0].is_busy().store(true, Ordering::Relaxed);
        let fifth = seats.take(address(3), 4).expect("a seat");
        assert_eq!(
            [&first, &greedy[0], &greedy[1], &greedy[2], &fifth].map(must_go),
            [false, false, true, false, false]
        );
        drop(greedy);
        assert!(!must_go(&first));
        assert_eq!(seats.lock().seats.len(), 2);
    }

    #[test]
    fn whoever_works_stays_and_a_seat_that_is_left_is_free() {
        let seats = Seats::default();
        let mut taken: Vec<Seat> = (0..4).map(|_| seats.take(address(1), 4).expect("a seat")).collect();
        taken.iter().for_each(|seat| seat.is_busy().store(true, Ordering::Relaxed));
        assert!(seats.take(address(2), 4).is_none());
        taken.pop();
        let late = seats.take(address(2), 4).expect("a seat");
        assert!(!must_go(&late));
    }
}
