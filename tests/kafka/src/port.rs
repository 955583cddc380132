//! Ports on loopback that stay free for a broker while it is down.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::Result;

/// The first port to hand out.
const FIRST: u16 = 10_000;
/// How many there are. All are below the ports that the system gives to outgoing connections (on Linux from 32,768): one of those
/// could sit on the port of a broker that was killed and is to start again.
const COUNT: u32 = 22_000;
/// Processes that run at the same time begin this many ports from each other, so that they seldom look at the same one.
const APART: u32 = 101;

/// How many ports this process has looked at.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on, and that this process has not handed out before.
///
/// Errors: none is left.
pub fn free() -> Result<u16> {
    let begin = process::id() % COUNT * APART;
    loop {
        let looked_at = LOOKED_AT.fetch_add(1, Ordering::Relaxed);
        if looked_at >= COUNT {
            return Err(format!("no port of 127.0.0.1 is free from {FIRST} on; end the programs that listen there"));
        }
        let port = u16::try_from((begin + looked_at) % COUNT).map_or(FIRST, |number| FIRST + number);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
}
