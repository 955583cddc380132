//! TLS over a socket that never blocks.
//!
//! Invariant: plaintext and ciphertext that have left the socket and were not handed out make [`TlsStream::has_buffered`] true, because a poll of the
//! socket does not tell of them.

use std::io::{self, BufRead, BufReader, IoSlice, Write};
use std::net::TcpStream;

use rustls::{AlertDescription, CertificateError, ClientConnection};

use super::certificates::Tls;

/// How much ciphertext is taken from the socket at once: rustls itself asks for 4 KiB each time.
const READ_BYTES: usize = 64 << 10;

/// How often ciphertext is taken from the socket without any plaintext coming of it. A record of 16 KiB comes in five pieces; a peer that goes on with
/// records that have nothing in them must not keep a thread past its deadline.
const TAKES_MAX: usize = 16;

/// A socket and the TLS session on it.
pub(super) struct TlsStream {
    session: ClientConnection,
    socket: BufReader<TcpStream>,
    /// How much plaintext waits in the session.
    waiting: usize,
}

impl TlsStream {
    /// Begin a session. Nothing is sent before [`TlsStream::shake_hands`].
    pub(super) fn new(socket: TcpStream, tls: &Tls, address: &str) -> io::Result<Self> {
        let session = tls.session(address).map_err(broken)?;
        Ok(Self { session, socket: BufReader::with_capacity(READ_BYTES, socket), waiting: 0 })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        self.socket.get_ref()
    }

    /// Go on with the handshake as far as it goes at once.
    pub(super) fn shake_hands(&mut self) -> io::Result<Handshake> {
        for _ in 0..TAKES_MAX {
            match self.flush() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Handshake::MustWrite),
                flushed => flushed?,
            }
            if !self.session.is_handshaking() {
                return Ok(Handshake::Done);
            }
            match self.take() {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Handshake::MustRead),
                Err(error) => return Err(error),
            }
        }
        Ok(Handshake::MustRead)
    }

    /// Take ciphertext from the socket and make plaintext of it. `Ok(0)` at the end.
    fn take(&mut self) -> io::Result<usize> {
        let taken = self.session.read_tls(&mut self.socket)?;
        match self.session.process_new_packets() {
            Ok(state) => {
                self.waiting = state.plaintext_bytes_to_read();
                Ok(taken)
            }
            Err(error) => {
                // The peer is told why, if it still listens.
                drop(self.flush());
                Err(broken(error))
            }
        }
    }

    /// As `Stream::read`. `WouldBlock` also if there was much to read and no plaintext in it.
    pub(super) fn read(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let room = into.capacity() - into.len();
        for _ in 0..TAKES_MAX {
            let mut reader = self.session.reader();
            match reader.fill_buf() {
                Ok(chunk) => {
                    let bytes = chunk.len().min(room);
                    into.extend_from_slice(&chunk[..bytes]);
                    reader.consume(bytes);
                    self.waiting -= bytes;
                    return Ok(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => drop(self.take()?),
                // Frames have lengths, so an end without a farewell cuts off nothing unseen.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    /// As `Stream::write`; what was taken and did not leave yet goes with [`TlsStream::flush`].
    pub(super) fn write(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let taken = self.session.writer().write_vectored(parts)?;
        match self.flush() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Write all that waits. `WouldBlock` if it does not go at once.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket.get_ref())? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    pub(super) fn has_buffered(&self) -> bool {
        self.waiting > 0 || !self.socket.buffer().is_empty()
    }
}

/// How far a handshake has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handshake {
    Done,
    MustRead,
    MustWrite,
}

fn broken(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

/// What is wrong with TLS to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsFault {
    /// The broker's certificate is not valid at this time.
    Expired,
    /// The broker's certificate has other names.
    ServerName,
    /// The broker's certificate does not come from an authority that is trusted.
    Untrusted,
    /// The broker does not take our certificate, or that there is none.
    ClientCertificate,
    /// Something else.
    Handshake,
}

impl TlsFault {
    /// What an error that TLS itself found means; `None`: the error is of the socket.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
        Some(match error {
            rustls::Error::InvalidCertificate(certificate) => Self::of_certificate(certificate),
            rustls::Error::AlertReceived(alert) => Self::of_alert(*alert),
            _ => Self::Handshake,
        })
    }

    fn of_certificate(error: &CertificateError) -> Self {
        match error {
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::Expired,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => Self::ServerName,
            CertificateError::UnknownIssuer | CertificateError::BadSignature | CertificateError::Revoked => {
                Self::Untrusted
            }
            _ => Self::Handshake,
        }
    }

    /// Brokers differ in the word for a certificate that they do not take.
    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied => Self::ClientCertificate,
            _ => Self::Handshake,
        }
    }

    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Expired => "tls-certificate-expired",
            Self::ServerName => "tls-server-name",
            Self::Untrusted => "tls-untrusted",
            Self::ClientCertificate => "tls-client-certificate",
            Self::Handshake => "tls-handshake",
        }
    }

    pub(super) fn remedy(self) -> &'static str {
        match self {
            Self::Expired => "give the broker a certificate that is valid now, and look at the clock of this machine",
            Self::ServerName => {
                "name the broker in `brokers` and in its advertised listeners as its certificate does, or set `tls_server_name`"
            }
            Self::Untrusted => "set `tls_ca_file` to the certificate of the authority that signed the broker's",
            Self::ClientCertificate => {
                "set `tls_cert_file` and `tls_key_file` to a certificate that the broker trusts and that is valid now"
            }
            Self::Handshake => "check whether the port wants TLS, and which versions and ciphers it has",
        }
    }
}
