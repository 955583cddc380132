//! A real broker behind a proxy that alone knows its name.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use super::broker::{TLS, ask, world};

/// The name of the broker, which no name server has and its certificate does.
const NAME: &str = "broker.example";

/// A proxy on loopback that connects to `to` whoever asks for [`NAME`], by SOCKS 5 or HTTP. It
/// wants a login. Answers its address.
fn proxy(to: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let to = to.clone();
            thread::spawn(move || serve(client, &to));
        }
    });
    address
}

fn serve(mut client: TcpStream, to: &str) -> io::Result<()> {
    let mut first = [0];
    client.read_exact(&mut first)?;
    let good: &[u8] = if first[0] == 5 { socks(&mut client)? } else { http(&mut client)? };
    let broker = TcpStream::connect(to)?;
    client.write_all(good)?;
    let (mut from, mut into) = (client.try_clone()?, broker.try_clone()?);
    thread::spawn(move || io::copy(&mut from, &mut into));
    io::copy(&mut &broker, &mut client).map(drop)
}

fn socks(client: &mut TcpStream) -> io::Result<&'static [u8]> {
    let mut expect = |wanted: &[u8], answer: &[u8]| {
        let mut heard = vec![0; wanted.len()];
        client.read_exact(&mut heard)?;
        assert_eq!(heard, wanted);
        client.write_all(answer)
    };
    expect(b"\x02\0\x02", b"\x05\x02")?;
    expect(b"\x01\x04tide\x06secret", b"\x01\0")?;
    expect(&[&b"\x05\x01\0\x03\x0e"[..], NAME.as_bytes()].concat(), b"")?;
    client.read_exact(&mut [0; 2])?;
    Ok(b"\x05\0\0\x01\0\0\0\0\0\0")
}

fn http(client: &mut TcpStream) -> io::Result<&'static [u8]> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with(&format!("ONNECT {NAME}:")), "{head}");
    assert!(head.contains("\r\nProxy-Authorization: Basic dGlkZTpzZWNyZXQ=\r\n"), "{head}");
    Ok(b"HTTP/1.1 200 OK\r\n\r\n")
}

#[test]
fn a_broker_is_reached_through_a_proxy_that_knows_its_name() {
    let world = world();
    let (plain, tls) = (world.address("CLIENT"), world.address("TLS"));
    for (listener, lines) in [(plain, ""), (tls, TLS)] {
        let proxy = proxy(listener.clone());
        let port = listener.rsplit_once(':').expect("a port").1;
        for scheme in ["socks5", "http"] {
            let files = world.files();
            let lines =
                format!("proxy = '{scheme}://{proxy}'\nproxy_username = 'tide'\nproxy_password = 'secret'\n{lines}");
            let settings = super::settings(&lines, files.path());
            assert!(!format!("{settings:?}").contains("secret\""), "{settings:?}");
            let mut connection = super::open(&format!("{NAME}:{port}"), &settings).expect("a connection");
            assert_eq!(ask(&mut connection).expect("an answer"), 1, "{lines}");
        }
    }
}

#[test]
fn a_proxy_that_is_gone_or_refuses_is_named() {
    let files = tempfile::tempdir().expect("a directory");
    let gone = TcpListener::bind("127.0.0.1:0").and_then(|gone| gone.local_addr()).expect("an address");
    let settings = super::settings(&format!("proxy = 'http://{gone}'"), files.path());
    let error = super::open("broker.example:9092", &settings).expect_err("nobody is there");
    assert!(error.code == "cannot-connect" && error.message.contains(&gone.to_string()), "{error:?}");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let refuses = thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a connection");
        client.write_all(b"HTTP/1.1 403 No\r\n\r\n").expect("sent");
        drop(client.read(&mut [0; 100]));
    });
    let settings = super::settings(&format!("proxy = 'http://{address}'"), files.path());
    let error = super::open("broker.example:9092", &settings).expect_err("refused");
    assert_eq!(error.code, "proxy-refused");
    assert_eq!(error.message, format!("the proxy {address} does not connect to broker.example:9092: it answers 403"));
    refuses.join().expect("the proxy");
}
