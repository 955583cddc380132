//! One connection through the proxy: a thread that owns both sockets, so that closing one is done when it says so.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_socket_linger;

use super::frames::Head;
use super::way::Way;
use super::{Deed, LOOK_EVERY, Shared, Side, Trap, Weather};

/// How long to rest when a socket has something to say that nobody wants to hear now, such as its closing while the direction is stalled.
const REST: Duration = Duration::from_millis(1);

/// One client and its connection to the broker.
#[derive(Debug)]
pub(super) struct Connection {
    /// None when the client is gone and a request of its still waits.
    client: Option<TcpStream>,
    era: u64,
    requests: Way,
    answers: Way,
    /// Requests without an answer yet: correlation id and api key.
    asked: HashMap<i32, i16>,
    shared: Arc<Shared>,
}

/// Whose socket has failed.
enum Broken {
    Client,
    Broker,
}

impl Connection {
    pub(super) fn of(client: TcpStream, shared: Arc<Shared>) -> Self {
        let era = shared.born();
        let (requests, answers) = (Way::new(Side::Request), Way::new(Side::Answer));
        Self { client: Some(client), era, requests, answers, asked: HashMap::new(), shared }
    }

    /// Pass bytes on until one end closes or a fault ends the connection.
    pub(super) fn run(mut self) {
        match self.shared.connect().and_then(|broker| self.prepare(&broker).map(|()| broker)) {
            Ok(broker) => self.pass(&broker),
            // What a client sees of a broker that is down.
            Err(_) => self.lose_client(true),
        }
        self.lose_client(false);
    }

    fn prepare(&self, broker: &TcpStream) -> io::Result<()> {
        for socket in self.client.iter().chain([broker]) {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
        }
        Ok(())
    }

    fn pass(&mut self, broker: &TcpStream) {
        let mut was_ready = false;
        while !self.is_over() {
            let weather = self.shared.weather();
            if self.requests.holds() && self.requests.is_ended() {
                self.lose_client(false);
            }
            if self.client.is_some() && weather.era > self.era {
                if weather.with_reset && !self.requests.holds() {
                    reset_on_close(broker);
                }
                self.lose_client(weather.with_reset);
                continue;
            }
            match self.step(broker, &weather) {
                Ok(true) => was_ready = false,
                Ok(false) => {
                    if was_ready {
                        thread::sleep(REST);
                    }
                    was_ready = self.wait(broker, &weather);
                }
                Err(Broken::Client) => self.lose_client(false),
                Err(Broken::Broker) => return,
            }
        }
    }

    /// Both directions are closed, or the client is gone and no request of its is left that waits or has no answer.
    fn is_over(&self) -> bool {
        let closed = self.requests.is_closed() && self.answers.is_closed();
        closed || (self.client.is_none() && self.answers.is_closed()) || self.shared.closing.load(Ordering::Relaxed)
    }

    /// Close the client's socket. The broker's stays only for a request that is held.
    fn lose_client(&mut self, with_reset: bool) {
        let Some(client) = self.client.take() else { return };
        if with_reset {
            reset_on_close(&client);
        }
        drop(client);
        self.shared.died(self.era);
        if self.requests.holds() {
            self.requests.keep_open();
        } else {
            self.answers.abandon();
        }
    }

    /// Move what can be moved. Answers whether anything was.
    fn step(&mut self, broker: &TcpStream, weather: &Weather) -> Result<bool, Broken> {
        let Some(client) = &self.client else { return self.step_without_client(broker) };
        let (shared, asked, wan, now) = (&self.shared, &mut self.asked, weather.wan.as_ref(), Instant::now());
        let mut moved = false;
        for way in [&mut self.requests, &mut self.answers] {
            let side = way.side();
            if weather.stalled[side.index()] {
                continue;
            }
            let (from, to, no_read, no_write) = match side {
                Side::Request => (client, broker, Broken::Client, Broken::Broker),
                Side::Answer => (broker, client, Broken::Broker, Broken::Client),
            };
            if way.may_read(wan, now) {
                let delivery = |bytes| wan.map_or(now, |wan| shared.delivery(side, bytes, wan));
                let read = way.read(from, wan, delivery, |head| trap(shared, asked, head));
                moved |= read.map_err(|_| no_read)?;
            }
            moved |= way.write(to, now).map_err(|_| no_write)?;
        }
        Ok(moved)
    }

    /// Deliver what was held, and wait until the broker has answered all: then it was worked on.
    fn step_without_client(&mut self, broker: &TcpStream) -> Result<bool, Broken> {
        let (shared, asked, now) = (&self.shared, &mut self.asked, Instant::now());
        let written = self.requests.write(broker, now).map_err(|_| Broken::Broker)?;
        let read = self.answers.read(broker, None, |_| now, |head| trap(shared, asked, head));
        let moved = read.map_err(|_| Broken::Broker)? || written;
        if self.asked.is_empty() || self.answers.is_ended() {
            self.answers.abandon();
        }
        Ok(moved)
    }

    /// Wait until a socket is ready, something is due, or it is time to look for faults. Answers whether a socket is ready.
    fn wait(&mut self, broker: &TcpStream, weather: &Weather) -> bool {
        let now = Instant::now();
        let next = self.requests.next(now).into_iter().chain(self.answers.next(now)).min();
        let time = next.map_or(LOOK_EVERY, |next| (next - now).min(LOOK_EVERY));
        let Some(client) = &self.client else {
            thread::sleep(time);
            return false;
        };
        let mut events = [PollFlags::empty(); 2];
        let stalled = weather.stalled;
        for (from, to, way) in [(0, 1, &mut self.requests), (1, 0, &mut self.answers)] {
            if stalled[way.side().index()] {
                continue;
            }
            if way.may_read(weather.wan.as_ref(), now) {
                events[from] |= PollFlags::IN;
            }
            if way.due().is_some_and(|due| due <= now) {
                events[to] |= PollFlags::OUT;
            }
        }
        let mut sockets = [PollFd::new(client, events[0]), PollFd::new(broker, events[1])];
        let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
        // A signal is a reason to look, too.
        poll(&mut sockets, Some(&time)).is_ok_and(|ready| ready > 0)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A connection whose thread could not begin counts no longer.
        self.lose_client(false);
    }
}

/// Remember a request until its answer, and ask what catches this message. A request that is dropped is never answered.
fn trap(shared: &Shared, asked: &mut HashMap<i32, i16>, head: Head) -> Option<Arc<Trap>> {
    let Some(api_key) = head.api_key else {
        let api_key = asked.remove(&head.correlation_id)?;
        return shared.trap(Side::Answer, api_key);
    };
    let trap = shared.trap(Side::Request, api_key);
    if trap.as_ref().is_none_or(|trap| trap.deed == Deed::Hold) {
        asked.insert(head.correlation_id, api_key);
    }
    trap
}

/// Let the system send a reset in place of an orderly end.
fn reset_on_close(socket: &TcpStream) {
    // A socket that fails here is broken already.
    let _set = set_socket_linger(socket, Some(Duration::ZERO));
}
