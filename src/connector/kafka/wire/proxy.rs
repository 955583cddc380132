//! A way to brokers through a proxy: SOCKS 5 (RFC 1928, RFC 1929) or HTTP CONNECT (RFC 9110).
//!
//! Invariants
//! - The proxy resolves the names of brokers: they need not be known here.
//! - Nothing is read beyond what the proxy says, so the broker's first byte is not lost.
//! - What a proxy says is bounded, and is in no error but for a number.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::Instant;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rustix::event::{PollFd, PollFlags};
use secrecy::{ExposeSecret as _, SecretString};

use super::stream::wait;
use crate::config::{ProxyConfig, ProxyKind};

/// The most bytes of an answer to CONNECT.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// A name and a password for the proxy.
type Login = (String, SecretString);

/// Why a proxy does not connect us.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection to it broke, or it did not answer in time.
    Io(io::Error),
    /// It says no, or something else.
    Refused(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Have the proxy at the other end of `socket` connect us to `address`.
pub(super) fn connect(
    socket: TcpStream,
    proxy: &ProxyConfig,
    address: &str,
    deadline: Instant,
) -> Result<TcpStream, Trouble> {
    let login = proxy.login().map_err(Trouble::Refused)?;
    let mut tunnel = Tunnel { socket, deadline };
    match proxy.kind {
        ProxyKind::Socks5 => socks5(&mut tunnel, address, login.as_ref())?,
        ProxyKind::Http => http(&mut tunnel, address, login.as_ref())?,
    }
    Ok(tunnel.socket)
}

/// A socket that never blocks, with a deadline.
struct Tunnel {
    socket: TcpStream,
    deadline: Instant,
}

impl Tunnel {
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) => self.wait_after(error, PollFlags::OUT)?,
            }
        }
        Ok(())
    }

    fn read<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, mut bytes: &mut [u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.socket.read(bytes) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => bytes = &mut bytes[read..],
                Err(error) => self.wait_after(error, PollFlags::IN)?,
            }
        }
        Ok(())
    }

    fn wait_after(&self, error: io::Error, interest: PollFlags) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::Interrupted => Ok(()),
            io::ErrorKind::WouldBlock => match wait(&mut [PollFd::new(&self.socket, interest)], self.deadline)? {
                true => Ok(()),
                false => Err(io::ErrorKind::TimedOut.into()),
            },
            _ => Err(error),
        }
    }
}

fn refused<T>(what: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Refused(what.into()))
}

/// Host and port of an address, which has both.
fn split(address: &str) -> Result<(&str, u16), Trouble> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    parts.map_or_else(|| refused("the broker's address has no port"), Ok)
}

const SOCKS: u8 = 5;
const NO_LOGIN: u8 = 0;
const BY_PASSWORD: u8 = 2;

fn socks5(tunnel: &mut Tunnel, address: &str, login: Option<&Login>) -> Result<(), Trouble> {
    let (host, port) = split(address)?;
    match login {
        None => tunnel.write(&[SOCKS, 1, NO_LOGIN])?,
        Some(_) => tunnel.write(&[SOCKS, 2, NO_LOGIN, BY_PASSWORD])?,
    }
    match (tunnel.read()?, login) {
        ([SOCKS, NO_LOGIN], _) => {}
        ([SOCKS, BY_PASSWORD], Some((name, password))) => {
            let (name, password) = (short(name)?, short(password.expose_secret())?);
            tunnel.write(&[&[1], &*name, &*password].concat())?;
            let [_, code] = tunnel.read()?;
            if code != 0 {
                return refused("it does not take the user and the password");
            }
        }
        ([SOCKS, _], None) => return refused("it wants a user and a password"),
        ([SOCKS, _], Some(_)) => return refused("it takes no user with a password"),
        _ => return refused("it does not speak SOCKS 5"),
    }
    let place = match host.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(ip)) => [&[1], &ip.octets()[..]].concat(),
        Ok(IpAddr::V6(ip)) => [&[4], &ip.octets()[..]].concat(),
        Err(_) => [&[3], &*short(host)?].concat(),
    };
    tunnel.write(&[&[SOCKS, 1, 0], &*place, &port.to_be_bytes()].concat())?;
    let [version, code, _, kind] = tunnel.read()?;
    if version != SOCKS {
        return refused("it does not speak SOCKS 5");
    }
    if code != 0 {
        return refused(format!("it answers {code} ({})", reply(code)));
    }
    // Where it has connected from: of no use here.
    let rest = match kind {
        1 => 4,
        4 => 16,
        3 => usize::from(tunnel.read::<1>()?[0]),
        _ => return refused("it does not speak SOCKS 5"),
    };
    tunnel.fill(&mut vec![0; rest + 2])?;
    Ok(())
}

/// A text behind its length in one byte.
fn short(text: &str) -> Result<Vec<u8>, Trouble> {
    match u8::try_from(text.len()) {
        Ok(length) => Ok([&[length], text.as_bytes()].concat()),
        Err(_) => refused("a name or a password is longer than SOCKS 5 can carry"),
    }
}

fn reply(code: u8) -> &'static str {
    match code {
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "timed out",
        7 => "it does not connect for others",
        8 => "it does not take such addresses",
        _ => "it failed",
    }
}

fn http(tunnel: &mut Tunnel, address: &str, login: Option<&Login>) -> Result<(), Trouble> {
    let login = login.map(|(name, password)| {
        let pair = BASE64_STANDARD.encode(format!("{name}:{}", password.expose_secret()));
        format!("Proxy-Authorization: Basic {pair}\r\n")
    });
    let login = login.unwrap_or_default();
    tunnel.write(format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{login}\r\n").as_bytes())?;
    let mut head: Vec<u8> = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= HEAD_BYTES_MAX {
            return refused("its answer has no end");
        }
        head.extend(tunnel.read::<1>()?);
    }
    let mut words = head.split(|byte| *byte == b' ');
    let is_http = words.next().is_some_and(|version| version.starts_with(b"HTTP/1."));
    let status = words.next().and_then(|word| std::str::from_utf8(word).ok()?.get(..3)?.parse::<u16>().ok());
    match status.filter(|_| is_http) {
        Some(200..=299) => Ok(()),
        Some(status) => refused(format!("it answers {status}")),
        None => refused("it does not answer in HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// What a proxy is sent until it has said `answers`, each when so many bytes have come, and
    /// what came of it.
    fn tried(proxy: &ProxyConfig, address: &str, answers: &[(usize, &[u8])]) -> (Result<(), String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let socket = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
        socket.set_nonblocking(true).expect("a socket");
        let answers: Vec<_> = answers.iter().map(|(bytes, answer)| (*bytes, answer.to_vec())).collect();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut heard = Vec::new();
            for (bytes, answer) in answers {
                let mut part = vec![0; bytes];
                stream.read_exact(&mut part).expect("a request");
                heard.extend(part);
                // The broker behind it may speak at once.
                stream.write_all(&answer).expect("sent");
            }
            heard
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        let connected = connect(socket, proxy, address, deadline);
        let heard = server.join().expect("the proxy");
        let what = connected.map(drop).map_err(|trouble| match trouble {
            Trouble::Refused(what) => what,
            Trouble::Io(error) => format!("{:?}", error.kind()),
        });
        (what, heard)
    }

    fn proxy(kind: ProxyKind, login: Option<(&str, &str)>) -> ProxyConfig {
        ProxyConfig::for_tests(kind, login)
    }

    #[test]
    fn socks_is_spoken_as_the_standard_has_it() {
        let plain = proxy(ProxyKind::Socks5, None);
        let name = b"\x05\x01\0\x05\x01\0\x03\x08b.remote\x23\x84";
        let good: &[u8] = b"\x05\0\0\x01\x0a\0\0\x01\x04\x38";
        assert_eq!(tried(&plain, "b.remote:9092", &[(3, b"\x05\0"), (15, good)]), (Ok(()), name.to_vec()));
        let v6: &[u8] = &[&b"\x05\0\0\x04"[..], &[0; 18]].concat();
        let (what, heard) = tried(&plain, "[::1]:9092", &[(3, b"\x05\0"), (22, v6)]);
        assert_eq!((what, &heard[6..]), (Ok(()), &[&b"\x04"[..], &[0; 15], &b"\x01\x23\x84"[..]].concat()[..]));
        let named: &[u8] = b"\x05\0\0\x03\x02xy\0\0";
        assert_eq!(tried(&plain, "10.0.0.1:1", &[(3, b"\x05\0"), (10, named)]).0, Ok(()));

        let login = proxy(ProxyKind::Socks5, Some(("tide", "planted")));
        let steps: [(usize, &[u8]); 3] = [(4, b"\x05\x02"), (14, b"\x01\0"), (10, good)];
        let (what, heard) = tried(&login, "10.0.0.1:1", &steps);
        assert_eq!((what, &heard[..18]), (Ok(()), &b"\x05\x02\0\x02\x01\x04tide\x07planted"[..]));
        for (proxy, steps, said) in [
            (&plain, &[(3, &b"\x05\xff"[..])][..], "it wants a user and a password"),
            (&login, &[(4, b"\x05\xff")], "it takes no user with a password"),
            (&login, &[(4, b"\x05\x02"), (14, b"\x01\x01")], "it does not take the user and the password"),
            (&plain, &[(3, b"\x05\0"), (10, b"\x05\x05\0\x01")], "it answers 5 (connection refused)"),
            (&plain, &[(3, b"\x05\0"), (10, b"\x05\x63\0\x01")], "it answers 99 (it failed)"),
            (&plain, &[(3, b"\x05\0"), (10, b"\x05\0\0\x07")], "it does not speak SOCKS 5"),
            (&plain, &[(3, b"HT")], "it does not speak SOCKS 5"),
            (&plain, &[(3, b"\x05")], "UnexpectedEof"),
        ] {
            assert_eq!(tried(proxy, "10.0.0.1:1", steps).0, Err(said.to_owned()));
        }
        assert!(tried(&plain, &format!("{}:1", "x".repeat(256)), &[(3, b"\x05\0")]).0.is_err());
    }

    #[test]
    fn connect_is_spoken_as_the_standard_has_it() {
        let plain = b"CONNECT b.remote:9092 HTTP/1.1\r\nHost: b.remote:9092\r\n\r\n";
        let good: &[u8] = b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
        let http = proxy(ProxyKind::Http, None);
        assert_eq!(tried(&http, "b.remote:9092", &[(plain.len(), good)]), (Ok(()), plain.to_vec()));
        let login = proxy(ProxyKind::Http, Some(("tide", "planted")));
        let expected = format!(
            "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\nProxy-Authorization: Basic {}\r\n\r\n",
            BASE64_STANDARD.encode("tide:planted")
        );
        let (what, heard) = tried(&login, "b:1", &[(expected.len(), good)]);
        assert_eq!((what, heard), (Ok(()), expected.clone().into_bytes()));
        for (answer, said) in [
            (&b"HTTP/1.1 407 planted\r\n\r\n"[..], "it answers 407"),
            (b"HTTP/1.0 502\r\n\r\n", "it answers 502"),
            (b"planted\r\n\r\n", "it does not answer in HTTP"),
            (b"HTTP/1.1 200", "UnexpectedEof"),
            (&[b'x'; HEAD_BYTES_MAX], "its answer has no end"),
        ] {
            assert_eq!(tried(&login, "b:1", &[(expected.len(), answer)]).0, Err(said.to_owned()));
        }
    }
}
