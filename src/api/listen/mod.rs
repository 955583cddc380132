//! The server around the router: takes connections, encrypts them, and lets none of them hold what others need.
//!
//! `seats` says who gives way when there are too many connections, `stall` gives up on whoever does not take an answer.
//!
//! Invariants
//! - Nothing is waited for between two connections: a handshake is an affair of its own connection.
//! - Whatever a client has to send or take has a limit of time: handshake, header, body, answer, and the pause until the next request.

mod seats;
mod stall;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;

use self::seats::{Seat, Seats};
use self::stall::Stall;
use super::access::{Access, Names, Peer};
use super::control::ControlPlane;
use super::error::ApiError;
use super::routes::router;
use super::server::Api;
use crate::config::ApiLimits;

/// How often the files of certificates, keys and tokens are looked at.
const REFRESH_EVERY: Duration = Duration::from_secs(5);

/// How long nothing is taken when the system has no room for another connection.
const NO_ROOM_PAUSE: Duration = Duration::from_millis(500);

/// The first byte of every TLS connection: a handshake record.
const TLS_HANDSHAKE: u8 = 0x16;

/// How long, and how much, a client is listened to that has been told to go, so that it hears why.
const FAREWELL: Duration = Duration::from_secs(1);
const FAREWELL_BYTES_MAX: usize = 256 << 10;

/// How long a connection that was made while certificates or tokens changed may take for its first request: it is on its way, most likely.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// What all connections share.
#[derive(Clone)]
struct House {
    access: Arc<Access>,
    router: Router,
    ending: watch::Receiver<bool>,
}

/// Serve the API on `listener` until `shutdown` is there; then accept no new connection, and give requests under way the
/// time that `shutdown` says.
pub async fn serve(
    listener: TcpListener,
    access: Arc<Access>,
    control: Arc<dyn ControlPlane>,
    shutdown: impl Future<Output = Duration> + Send + 'static,
) {
    let (end, mut ending) = watch::channel(false);
    let (allow, allowed) = oneshot::channel();
    let router = router(Api::new(control, access.clone(), ending.clone()));
    let house = House { access: access.clone(), router, ending: ending.clone() };
    tokio::spawn(async move {
        let _nobody_listens = allow.send(shutdown.await);
        let _nobody_listens = end.send(true);
    });
    let refreshing = tokio::spawn(refresh(access));
    // Each connection holds a sender: when all are gone, the receiver hears it.
    let (here, mut all_gone) = mpsc::channel::<Infallible>(1);
    let seats = Seats::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = ending.wait_for(|ending| *ending) => break,
        };
        match accepted {
            Ok((stream, address)) => take(&house, &seats, stream, address, here.clone()),
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::error!("no connection to the API can be taken: {error}");
                sleep(NO_ROOM_PAUSE).await;
            }
        }
    }
    drop(here);
    let grace = allowed.await.unwrap_or_default();
    drop(timeout(grace, all_gone.recv()).await);
    refreshing.abort();
}

/// Whether the one connection failed, and not the listener.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    [ConnectionAborted, ConnectionRefused, ConnectionReset].contains(&error.kind())
}

async fn refresh(access: Arc<Access>) {
    loop {
        sleep(REFRESH_EVERY).await;
        let access = access.clone();
        drop(tokio::task::spawn_blocking(move || access.refresh()).await);
    }
}

/// Give a connection a seat and a task.
fn take(house: &House, seats: &Seats, stream: TcpStream, address: SocketAddr, here: mpsc::Sender<Infallible>) {
    let limits = house.access.limits();
    let Some(seat) = seats.take(address.ip(), limits.connections_max) else {
        tracing::warn!(%address, "there are {} connections to the API, all at work: another one is refused", limits.connections_max);
        return;
    };
    // Answers are small and people wait for them.
    drop(stream.set_nodelay(true));
    let house = house.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = welcome(&house, stream, address, &seat, limits) => {}
            () = seat.asked_to_go() => {}
        }
        drop((seat, here));
    });
}

/// Encrypt a connection if that is to be, and serve it to its end.
async fn welcome(house: &House, stream: TcpStream, address: SocketAddr, seat: &Seat, limits: ApiLimits) {
    let (tls, generation) = house.access.tls();
    let peer = |names, is_encrypted| Peer {
        address: address.ip().to_canonical(),
        names,
        is_encrypted,
        is_busy: seat.is_busy(),
    };
    let Some(tls) = tls else {
        let stream = Stall::new(stream, limits.body_timeout);
        return converse(house, stream, peer(None, false), generation, limits).await;
    };
    let handshake = timeout(limits.header_timeout, async {
        let mut first = [0];
        if stream.peek(&mut first).await? > 0 && first != [TLS_HANDSHAKE] {
            return Ok(Err(stream));
        }
        TlsAcceptor::from(tls).accept(Stall::new(stream, limits.body_timeout)).await.map(Ok)
    });
    match handshake.await {
        Ok(Ok(Ok(stream))) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let names = shown.and_then(Names::of).map(Arc::new);
            converse(house, stream, peer(names, true), generation, limits).await;
        }
        Ok(Ok(Err(stream))) => drop(timeout(FAREWELL, say_use_tls(stream)).await),
        Ok(Err(error)) => tracing::debug!(%address, "no TLS with a client of the API: {error}"),
        Err(_elapsed) => tracing::debug!(%address, "no TLS with a client of the API: it took too long"),
    }
}

/// Answer requests until the client goes, is too slow, or the daemon or its certificates end.
async fn converse(
    house: &House,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: Peer,
    mut generation: watch::Receiver<u64>,
    limits: ApiLimits,
) {
    let asked = Notify::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        asked.notify_one();
        request.extensions_mut().insert(peer.clone());
        house.router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes_max)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut ending = house.ending.clone();
    let outdated = async {
        drop(generation.changed().await);
        drop(timeout(FIRST_REQUEST, asked.notified()).await);
    };
    tokio::select! {
        served = connection.as_mut() => return log_end(&peer, served),
        _ = ending.wait_for(|ending| *ending) => {}
        () = outdated => {}
    }
    // What is under way is answered.
    connection.as_mut().graceful_shutdown();
    log_end(&peer, connection.await);
}

fn log_end(peer: &Peer, served: Result<(), hyper::Error>) {
    if let Err(error) = served {
        tracing::debug!(address = %peer.address, "a connection to the API ended: {error}");
    }
}

/// Tell a client that speaks plain HTTP where TLS is spoken.
async fn say_use_tls(mut stream: TcpStream) -> io::Result<()> {
    let remedy = "write https:// instead of http://";
    let error = ApiError::new(StatusCode::BAD_REQUEST, "tls-required", "this port speaks TLS", remedy);
    let (head, body) = error.into_response().into_parts();
    let body = axum::body::to_bytes(body, FAREWELL_BYTES_MAX).await.map_err(io::Error::other)?;
    let kind = "application/problem+json";
    let head = format!("HTTP/1.1 {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n", head.status, body.len());
    stream.write_all(&[head.as_bytes(), b"connection: close\r\n\r\n", &*body].concat()).await?;
    stream.shutdown().await?;
    // What it has sent and nobody has read would make the system take back the answer.
    let mut left = FAREWELL_BYTES_MAX;
    let mut unread = [0; 4096];
    while left > 0 {
        match stream.read(&mut unread).await? {
            0 => break,
            bytes => left = left.saturating_sub(bytes),
        }
    }
    Ok(())
}
