//! A proxy between clients and one broker, for the faults of a network: connections that are cut, reset, refused, half-open, slow, or that
//! lose one message of a kind.
//!
//! A broker of a cluster with [`crate::Options::proxied`] has one in front of a listener of its own, which advertises the proxy. Whoever connects
//! elsewhere, such as an oracle, feels none of the faults.
//!
//! **Invariants:** bytes are never changed and never change places; a message that is held or dropped is a whole one. A fault is in force for every
//! connection within [`LOOK_EVERY`], and [`Proxy::cut`] and [`Proxy::reset`] return when the old connections are gone.
//!
//! Reading order: this file; `connection` (the thread of one connection), `way` (what is under way in one direction), `frames`.

mod connection;
mod frames;
mod way;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::{Result, port};
use connection::Connection;

/// How often a connection with nothing to do looks for faults, and the listener for connections.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A proxy that listens on 127.0.0.1. Dropping it ends its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepts: Option<JoinHandle<()>>,
}

/// A direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From a client to the broker.
    Request,
    /// From the broker to a client.
    Answer,
}

/// What becomes of a message that was caught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It, and what follows it on its connection in its direction, waits until [`Catch::release`]. A request that is held reaches the broker
    /// then even if its client is gone: it arrives late.
    Hold,
    /// It is never passed on. What follows it is.
    Drop,
}

/// A far network, as each direction has it.
#[derive(Clone, Copy, Debug)]
pub struct Wan {
    /// From a request to its answer, beside what the broker takes.
    pub round_trip: Duration,
    /// The most that all connections together transport, in bytes a second.
    pub bytes_per_second: u64,
    /// How many bytes of one connection can be under way before the first is acknowledged: what socket buffers allow. A connection transports
    /// no more than this in a round trip.
    pub window: usize,
}

/// A trap for the next message of a kind. Dropping it releases what is held.
#[derive(Debug)]
pub struct Catch {
    trap: Arc<Trap>,
}

/// The trap as connections see it.
#[derive(Debug)]
struct Trap {
    side: Side,
    api_key: i16,
    deed: Deed,
    state: Mutex<TrapState>,
    changed: Condvar,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TrapState {
    Armed,
    Caught,
    /// Nothing is held any more, and nothing will be caught.
    Released,
}

/// What connections look at.
#[derive(Debug)]
struct Shared {
    broker: SocketAddr,
    /// None while connections are refused.
    listener: Mutex<Option<TcpListener>>,
    faults: Mutex<Faults>,
    /// A connection of a client has gone.
    gone: Condvar,
    /// The proxy is being dropped: even held requests are given up.
    closing: AtomicBool,
}

#[derive(Debug)]
struct Faults {
    weather: Weather,
    traps: Vec<Arc<Trap>>,
    /// When each direction has transported what it was given so far.
    busy_until: [Instant; 2],
    /// How many connections of clients live, by the era in which they began.
    living: BTreeMap<u64, usize>,
}

/// What a connection needs to know at every step.
#[derive(Clone, Copy, Debug)]
struct Weather {
    /// Connections of an earlier era end.
    era: u64,
    /// They end with a reset.
    with_reset: bool,
    /// Directions in which nothing moves.
    stalled: [bool; 2],
    wan: Option<Wan>,
}

impl Proxy {
    /// Listen on a free port, and pass every connection on to `broker`.
    ///
    /// Errors: no port is free.
    pub fn start(broker: SocketAddr) -> Result<Self> {
        let (address, listener) = listen_anywhere()?;
        let weather = Weather { era: 0, with_reset: false, stalled: [false; 2], wan: None };
        let faults = Faults { weather, traps: Vec::new(), busy_until: [Instant::now(); 2], living: BTreeMap::new() };
        let shared = Arc::new(Shared {
            broker,
            listener: Mutex::new(Some(listener)),
            faults: Mutex::new(faults),
            gone: Condvar::new(),
            closing: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        let accepts = Some(thread::spawn(move || accepting.accept()));
        Ok(Self { address, shared, accepts })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// End all connections now, in order as far as the two ends can see.
    pub fn cut(&self) {
        self.end_connections(false);
    }

    /// Reset all connections now: both ends get an error.
    pub fn reset(&self) {
        self.end_connections(true);
    }

    /// Refuse new connections, as a port does that nobody listens on. Those that there are stay.
    pub fn refuse(&self) {
        *lock(&self.shared.listener) = None;
    }

    /// Take new connections again.
    ///
    /// Errors: the port was taken by somebody else meanwhile.
    pub fn accept(&self) -> Result<()> {
        let mut listener = lock(&self.shared.listener);
        if listener.is_none() {
            *listener = Some(listen(self.address)?);
        }
        Ok(())
    }

    /// Let nothing through in a direction, without closing anything, until [`Proxy::resume`]. A closing is not passed on either.
    pub fn stall(&self, side: Side) {
        lock(&self.shared.faults).weather.stalled[side.index()] = true;
    }

    /// Let everything through again. What waited goes on.
    pub fn resume(&self) {
        lock(&self.shared.faults).weather.stalled = [false; 2];
    }

    /// Be a far network from now on, or a near one again.
    pub fn set_wan(&self, wan: Option<Wan>) {
        lock(&self.shared.faults).weather.wan = wan;
    }

    /// Catch the next message of an api key. An answer has the key of its request; one whose request went through before this counts too.
    pub fn catch(&self, side: Side, api_key: i16, deed: Deed) -> Catch {
        let state = Mutex::new(TrapState::Armed);
        let trap = Arc::new(Trap { side, api_key, deed, state, changed: Condvar::new() });
        let mut faults = lock(&self.shared.faults);
        faults.traps.retain(|trap| *lock(&trap.state) == TrapState::Armed);
        faults.traps.push(Arc::clone(&trap));
        Catch { trap }
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        lock(&self.shared.faults).living.values().sum()
    }

    fn end_connections(&self, with_reset: bool) {
        let mut faults = lock(&self.shared.faults);
        faults.weather.era += 1;
        faults.weather.with_reset = with_reset;
        let era = faults.weather.era;
        while faults.living.keys().any(|began| *began < era) {
            faults = self.shared.gone.wait(faults).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        if let Some(accepts) = self.accepts.take() {
            // A thread that panicked has ended too.
            let _ended = accepts.join();
        }
        self.cut();
    }
}

impl Catch {
    /// Wait until a message was caught. False: none came in that time.
    pub fn await_caught(&self, within: Duration) -> bool {
        let state = lock(&self.trap.state);
        let armed = |state: &mut TrapState| *state == TrapState::Armed;
        let (state, _) =
            self.trap.changed.wait_timeout_while(state, within, armed).unwrap_or_else(PoisonError::into_inner);
        *state != TrapState::Armed
    }

    /// Whether a message was caught, and is held still if it was to be.
    pub fn is_caught(&self) -> bool {
        *lock(&self.trap.state) == TrapState::Caught
    }

    /// Let go what is held, or catch nothing if nothing was caught yet.
    pub fn release(&self) {
        *lock(&self.trap.state) = TrapState::Released;
    }
}

impl Drop for Catch {
    fn drop(&mut self) {
        self.release();
    }
}

impl Trap {
    /// Whether this message is the one to be caught; then it is.
    fn catches(&self, side: Side, api_key: i16) -> bool {
        let mut state = lock(&self.state);
        if (self.side, self.api_key, *state) != (side, api_key, TrapState::Armed) {
            return false;
        }
        *state = TrapState::Caught;
        self.changed.notify_all();
        true
    }

    fn is_released(&self) -> bool {
        *lock(&self.state) == TrapState::Released
    }
}

impl Shared {
    /// Take connections until the proxy is dropped.
    fn accept(self: Arc<Self>) {
        while !self.closing.load(Ordering::Relaxed) {
            let accepted = lock(&self.listener).as_ref().and_then(|listener| listener.accept().ok());
            match accepted {
                Some((client, _)) => {
                    let connection = Connection::of(client, Arc::clone(&self));
                    thread::spawn(move || connection.run());
                }
                None => thread::sleep(LOOK_EVERY),
            }
        }
    }

    fn weather(&self) -> Weather {
        lock(&self.faults).weather
    }

    /// The trap that catches this message, if one does.
    fn trap(&self, side: Side, api_key: i16) -> Option<Arc<Trap>> {
        let faults = lock(&self.faults);
        faults.traps.iter().find(|trap| trap.catches(side, api_key)).cloned()
    }

    /// When a far network delivers these bytes: all connections share it.
    fn delivery(&self, side: Side, bytes: usize, wan: &Wan) -> Instant {
        let mut faults = lock(&self.faults);
        let busy_until = &mut faults.busy_until[side.index()];
        let seconds = bytes as f64 / wan.bytes_per_second as f64;
        *busy_until = (*busy_until).max(Instant::now()) + Duration::from_secs_f64(seconds);
        *busy_until + wan.round_trip / 2
    }

    /// A client has connected: the era in which it did.
    fn born(&self) -> u64 {
        let mut faults = lock(&self.faults);
        let era = faults.weather.era;
        *faults.living.entry(era).or_default() += 1;
        era
    }

    /// A client's connection is closed.
    fn died(&self, era: u64) {
        let mut faults = lock(&self.faults);
        if let Some(count) = faults.living.get_mut(&era) {
            *count -= 1;
        }
        faults.living.retain(|_, count| *count > 0);
        self.gone.notify_all();
    }

    /// A connection to the broker.
    fn connect(&self) -> std::io::Result<TcpStream> {
        TcpStream::connect(self.broker)
    }
}

impl Side {
    fn index(self) -> usize {
        match self {
            Self::Request => 0,
            Self::Answer => 1,
        }
    }
}

/// A port that is free may be somebody else's a moment later.
fn listen_anywhere() -> Result<(SocketAddr, TcpListener)> {
    loop {
        let address = (Ipv4Addr::LOCALHOST, port::free()?).into();
        if let Ok(listener) = listen(address) {
            return Ok((address, listener));
        }
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| format!("the proxy cannot listen on {address}: {error}"))
}

/// A lock, whose data is good even if a thread panicked: every change of it is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
