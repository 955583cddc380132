//! Faults between a client and a broker, tried on a server that answers each message with its own body.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use kafka_brokers::{Cluster, Deed, Options, Proxy, Side, Wan, ask};

const END_TXN: i16 = 26;
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;

/// How long to wait for what must come. Only what is broken takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long to wait for what must not come. Too short makes a broken proxy pass, never a good one fail.
const SILENCE: Duration = Duration::from_millis(150);

/// A proxy in front of a server that answers every request with its own body, and what the server has received: api key and body.
fn server() -> (Proxy, Receiver<(i16, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let (send, received) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, send) = (stream.unwrap(), send.clone());
            thread::spawn(move || {
                while let Ok(message) = read(&mut stream) {
                    let (head, body) = message.split_at(8);
                    let _nobody_looks = send.send((i16::from_be_bytes([head[0], head[1]]), body.to_vec()));
                    if stream.write_all(&framed(&[&head[4..], body].concat())).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (proxy, received)
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u32::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// A message without its length.
fn read(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// A client of the server.
struct Client {
    stream: TcpStream,
    asked: i32,
}

impl Client {
    fn of(proxy: &Proxy) -> Self {
        let stream = TcpStream::connect(proxy.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, asked: 0 }
    }

    fn send(&mut self, api_key: i16, body: &[u8]) -> Result<()> {
        self.asked += 1;
        let head = [&api_key.to_be_bytes()[..], &[0, 9], &self.asked.to_be_bytes()].concat();
        self.stream.write_all(&framed(&[&head, body].concat()))
    }

    /// The next answer: correlation id and body.
    fn answer(&mut self) -> Result<(i32, Vec<u8>)> {
        let answer = read(&mut self.stream)?;
        let (id, body) = answer.split_at(4);
        Ok((i32::from_be_bytes(id.try_into().unwrap()), body.to_vec()))
    }

    fn ask(&mut self, body: &[u8]) -> Result<(i32, Vec<u8>)> {
        self.send(PRODUCE, body)?;
        self.answer()
    }

    /// Whether nothing comes for a while.
    fn is_silent(&mut self) -> bool {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        let silent = self.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

#[test]
fn bytes_pass_unchanged_and_a_large_message_too() {
    let (proxy, _received) = server();
    let mut client = Client::of(&proxy);
    assert_eq!(client.ask(b"one").unwrap(), (1, b"one".to_vec()));
    let large: Vec<u8> = (0..5_000_000_u32).map(|number| (number % 251) as u8).collect();
    let (sent, mut reader) = (large.clone(), client.stream.try_clone().unwrap());
    let answer = thread::spawn(move || read(&mut reader).unwrap());
    client.send(PRODUCE, &sent).unwrap();
    assert!(answer.join().unwrap()[4..] == large, "the bytes differ");
}

#[test]
fn connections_are_cut_reset_and_refused() {
    let (proxy, _received) = server();
    let mut client = Client::of(&proxy);
    client.ask(b"x").unwrap();
    assert_eq!(proxy.connections(), 1);
    proxy.cut();
    assert_eq!(proxy.connections(), 0);
    assert_eq!(client.answer().unwrap_err().kind(), ErrorKind::UnexpectedEof);

    let mut client = Client::of(&proxy);
    client.ask(b"x").unwrap();
    proxy.reset();
    assert_eq!(client.answer().unwrap_err().kind(), ErrorKind::ConnectionReset);

    let mut client = Client::of(&proxy);
    client.ask(b"x").unwrap();
    proxy.refuse();
    assert_eq!(TcpStream::connect(proxy.address()).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    client.ask(b"the old one stays").unwrap();
    proxy.accept().unwrap();
    Client::of(&proxy).ask(b"x").unwrap();
}

#[test]
fn a_half_open_connection_is_silent_and_goes_on_afterwards() {
    let (proxy, received) = server();
    let mut client = Client::of(&proxy);
    client.ask(b"before").unwrap();
    received.recv_timeout(PATIENCE).unwrap();

    proxy.stall(Side::Answer);
    client.send(PRODUCE, b"arrives").unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), (PRODUCE, b"arrives".to_vec()));
    assert!(client.is_silent());
    proxy.resume();
    assert_eq!(client.answer().unwrap(), (2, b"arrives".to_vec()));

    proxy.stall(Side::Request);
    client.send(PRODUCE, b"waits").unwrap();
    assert!(received.recv_timeout(SILENCE).is_err());
    proxy.resume();
    assert_eq!(client.answer().unwrap(), (3, b"waits".to_vec()));
}

#[test]
fn a_request_is_held_until_it_is_released() {
    let (proxy, received) = server();
    let catch = proxy.catch(Side::Request, END_TXN, Deed::Hold);
    let mut client = Client::of(&proxy);
    client.ask(b"another kind").unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().0, PRODUCE);
    client.send(END_TXN, b"held").unwrap();
    client.send(PRODUCE, b"behind it").unwrap();
    assert!(catch.await_caught(PATIENCE));
    assert!(received.recv_timeout(SILENCE).is_err());
    catch.release();
    assert_eq!(client.answer().unwrap(), (2, b"held".to_vec()));
    assert_eq!(client.answer().unwrap(), (3, b"behind it".to_vec()));
    client.send(END_TXN, b"the next one is let through").unwrap();
    assert_eq!(client.answer().unwrap().0, 4);
}

#[test]
fn a_request_that_is_held_arrives_even_if_its_client_is_gone() {
    for ends in [Proxy::cut, Proxy::reset, |_: &Proxy| {}] {
        let (proxy, received) = server();
        let catch = proxy.catch(Side::Request, END_TXN, Deed::Hold);
        let mut client = Client::of(&proxy);
        client.send(END_TXN, b"late").unwrap();
        assert!(catch.await_caught(PATIENCE));
        ends(&proxy);
        drop(client);
        let mut other = Client::of(&proxy);
        other.ask(b"meanwhile").unwrap();
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), (PRODUCE, b"meanwhile".to_vec()));
        catch.release();
        assert_eq!(received.recv_timeout(PATIENCE).unwrap(), (END_TXN, b"late".to_vec()));
    }
}

#[test]
fn a_request_and_an_answer_are_lost() {
    let (proxy, received) = server();
    let mut client = Client::of(&proxy);
    let catch = proxy.catch(Side::Request, END_TXN, Deed::Drop);
    client.send(END_TXN, b"lost").unwrap();
    assert!(catch.await_caught(PATIENCE));
    assert_eq!(client.ask(b"next").unwrap(), (2, b"next".to_vec()));
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), (PRODUCE, b"next".to_vec()));

    let catch = proxy.catch(Side::Answer, END_TXN, Deed::Drop);
    assert_eq!(client.ask(b"another kind").unwrap().0, 3);
    received.recv_timeout(PATIENCE).unwrap();
    client.send(END_TXN, b"done").unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap(), (END_TXN, b"done".to_vec()));
    assert!(catch.await_caught(PATIENCE));
    assert_eq!(client.ask(b"next").unwrap(), (5, b"next".to_vec()));

    let catch = proxy.catch(Side::Answer, END_TXN, Deed::Hold);
    client.send(END_TXN, b"waits").unwrap();
    assert!(catch.await_caught(PATIENCE));
    assert!(client.is_silent());
    drop(catch);
    assert_eq!(client.answer().unwrap(), (6, b"waits".to_vec()));
}

#[test]
fn a_far_network_delays_and_holds_no_more_than_its_window() {
    let (proxy, _received) = server();
    let far = Wan { round_trip: Duration::from_millis(80), bytes_per_second: 50_000_000, window: 8 << 20 };
    proxy.set_wan(Some(far));
    let mut client = Client::of(&proxy);
    let begun = Instant::now();
    client.ask(b"x").unwrap();
    assert!(begun.elapsed() >= far.round_trip, "{:?}", begun.elapsed());

    // Both limits from above only: how much slower a busy machine is says nothing.
    let transport = |client: &mut Client, bytes: usize| {
        let mut writer = client.stream.try_clone().unwrap();
        let message = framed(&[&[0_u8, 0, 0, 9, 0, 0, 0, 1][..], &vec![7; bytes]].concat());
        let begun = Instant::now();
        thread::spawn(move || writer.write_all(&message).unwrap());
        assert_eq!(client.answer().unwrap().1.len(), bytes);
        let took = begun.elapsed();
        println!("{bytes} bytes there and back in {took:?}");
        took
    };
    // There, and only then back: 0.5 s each.
    assert!(transport(&mut client, 25_000_000) >= Duration::from_secs(1));
    // 1 MiB a round trip: 10 of them there, and 9 until the last has begun its way back.
    proxy.set_wan(Some(Wan { window: 1 << 20, ..far }));
    assert!(transport(&mut client, 10 << 20) >= far.round_trip * 18);
}

#[test]
fn a_broker_is_reached_through_its_proxy_and_past_it() {
    let cluster = Cluster::start(&Options { proxied: true, ..Options::default() }).expect("a cluster");
    let broker = &cluster.brokers()[0];
    let proxy = broker.proxy().expect("a proxy");
    let port_in_metadata = |address| {
        // Metadata 1 of no topics: a count, then node id and host of the first broker, then its port.
        let answer = ask(address, METADATA, 1, &0_i32.to_be_bytes()).expect("an answer");
        assert_eq!(answer[8..19], *b"\0\x09127.0.0.1");
        u16::try_from(i32::from_be_bytes(answer[19..23].try_into().unwrap())).unwrap()
    };
    assert_eq!(cluster.proxied_bootstrap().expect("proxies"), proxy.address().to_string());
    assert_eq!(port_in_metadata(proxy.address()), proxy.address().port());
    assert_eq!(port_in_metadata(broker.address()), broker.address().port());
    proxy.refuse();
    assert!(ask(proxy.address(), METADATA, 1, &0_i32.to_be_bytes()).is_err());
    assert_eq!(port_in_metadata(broker.address()), broker.address().port());
}

/// What was asked before is answered before: such an answer is no sign that the late request was worked on.
#[test]
fn the_brokers_connection_stays_until_a_late_request_is_answered() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
    let catch = proxy.catch(Side::Request, END_TXN, Deed::Hold);
    proxy.stall(Side::Answer);
    let mut client = Client::of(&proxy);
    client.send(PRODUCE, b"before").unwrap();
    client.send(END_TXN, b"late").unwrap();
    let (stream, _) = listener.accept().unwrap();
    let mut broker = Client { stream, asked: 0 };
    let mut answer_next = |body: &[u8], last: bool| {
        let request = read(&mut broker.stream).unwrap();
        assert_eq!(&request[8..], body);
        // Only the end of the connection is not silent.
        assert!(broker.is_silent(), "closed before {body:?} was answered");
        broker.stream.write_all(&framed(&request[4..])).unwrap();
        assert!(!last || broker.stream.read(&mut [0]).unwrap() == 0, "still open");
    };
    answer_next(b"before", false);
    assert!(catch.await_caught(PATIENCE));
    proxy.reset();
    catch.release();
    answer_next(b"late", true);
}
