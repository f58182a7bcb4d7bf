//! Dials servers: TCP, then TLS as libpq's `sslmode` and `sslnegotiation` mean it, or a Unix socket. Knows addresses, not
//! who logs in there.

use super::stream::{Stream, tune};
use super::tls::{ALPN, TlsError, server_tls};
use crate::config::{Negotiation, ServerAddress, ServerTls, TlsMode};
use crate::wire::sqlstate::SqlState;
use rustls::ClientConfig;
use rustls::pki_types::{IpAddr, ServerName};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {host}:{port}: {source}", host = .address.host, port = .address.port)]
    Tcp {
        address: ServerAddress,
        source: io::Error,
    },
    #[error("no connection to {host}:{port} within {:.1} s", .after.as_secs_f64(), host = .address.host, port = .address.port)]
    TimedOut {
        address: ServerAddress,
        after: Duration,
    },
    #[error("server {host}:{port} does not offer TLS", host = .0.host, port = .0.port)]
    TlsRefused(ServerAddress),
    #[error("TLS with {host}:{port} failed: {source}", host = .address.host, port = .address.port)]
    Tls {
        address: ServerAddress,
        source: io::Error,
    },
    #[error("server {host}:{port} does not say inside TLS that it speaks PostgreSQL's protocol", host = .0.host, port = .0.port)]
    NoAlpn(ServerAddress),
    #[error("server {host}:{port} answered the request for TLS with {answer}", host = .address.host, port = .address.port)]
    Protocol {
        address: ServerAddress,
        answer: String,
    },
}

impl ConnectError {
    pub fn code(&self) -> SqlState {
        match self {
            Self::Protocol { .. } | Self::NoAlpn(_) => SqlState::PROTOCOL_VIOLATION,
            _ => SqlState::CANNOT_CONNECT,
        }
    }

    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Tcp { address, .. } if address.socket().is_some() => Some(
                "Is the server running on this machine, and is this one of its unix_socket_directories?",
            ),
            Self::Tcp { .. } => {
                Some("Is the server running there, and does it accept TCP connections?")
            }
            Self::TimedOut { .. } => Some(
                "Nothing answers at this address: the host may be down, or a firewall drops the packets.",
            ),
            Self::TlsRefused(_) => Some(
                "Turn ssl on in the server's postgresql.conf, or lower the sslmode of this database.",
            ),
            Self::Tls { .. } => Some(
                "The root certificate must have signed the server's, and for verify-full its names must contain the host.",
            ),
            Self::NoAlpn(_) => Some("`negotiation: direct` needs PostgreSQL 17 or later."),
            Self::Protocol { .. } => Some("Is it a PostgreSQL server that listens there?"),
        }
    }
}

/// Made once for each database of the configuration; connections share its TLS session cache.
#[derive(Clone)]
pub struct Connector {
    mode: TlsMode,
    negotiation: Negotiation,
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// Reads the root certificate.
    pub fn new(settings: &ServerTls) -> Result<Self, TlsError> {
        Ok(Self {
            mode: settings.mode.clone(),
            negotiation: settings.negotiation,
            tls: server_tls(settings)?,
        })
    }

    /// A connection that is ready for a StartupMessage. `timeout` covers all of it: names, TCP, TLS.
    pub async fn connect(
        &self,
        address: &ServerAddress,
        timeout: Duration,
    ) -> Result<Stream, ConnectError> {
        match tokio::time::timeout(timeout, self.dial(address)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(ConnectError::TimedOut {
                address: address.clone(),
                after: timeout,
            }),
        }
    }

    async fn dial(&self, address: &ServerAddress) -> Result<Stream, ConnectError> {
        let failed = |source| ConnectError::Tcp {
            address: address.clone(),
            source,
        };
        let tcp = match (dial(address).await.map_err(failed)?, &self.tls) {
            (Stream::Tcp(tcp), Some(_)) => tcp,
            // as libpq: what passes through a Unix socket stays on this machine, whatever the mode
            (stream, _) => return Ok(stream),
        };
        let Some(config) = &self.tls else {
            return Ok(Stream::Tcp(tcp));
        };
        if self.negotiation == Negotiation::Direct {
            return encrypt_directly(tcp, config, address).await;
        }
        match (encrypt(tcp, config, address).await, &self.mode) {
            (Ok(Answer::Encrypted(stream)), _) => Ok(stream),
            (Ok(Answer::Refused(tcp)), TlsMode::Prefer) => Ok(Stream::Tcp(tcp)),
            (Ok(Answer::Refused(_)), _) => Err(ConnectError::TlsRefused(address.clone())),
            // as libpq: `prefer` tries again without
            (Err(ConnectError::Tls { .. }), TlsMode::Prefer) => dial(address).await.map_err(failed),
            (Err(error), _) => Err(error),
        }
    }
}

/// A connection without TLS. The caller keeps the deadline.
pub async fn dial(address: &ServerAddress) -> io::Result<Stream> {
    if let Some(path) = address.socket() {
        return Ok(Stream::Unix(UnixStream::connect(path).await?));
    }
    let tcp = TcpStream::connect((address.host.as_str(), address.port)).await?;
    tune(&socket2::SockRef::from(&tcp))?;
    Ok(Stream::Tcp(tcp))
}

enum Answer {
    Encrypted(Stream),
    Refused(TcpStream),
}

async fn encrypt(
    mut tcp: TcpStream,
    config: &Arc<ClientConfig>,
    address: &ServerAddress,
) -> Result<Answer, ConnectError> {
    let lost = |source| ConnectError::Tcp {
        address: address.clone(),
        source,
    };
    let mut request = bytes::BytesMut::with_capacity(8);
    postgres_protocol::message::frontend::ssl_request(&mut request);
    tcp.write_all(&request).await.map_err(lost)?;
    // exactly one byte is read: whatever came with it in plaintext stays in the socket, where the TLS handshake
    // stumbles over it instead of taking it for the server's word
    match tcp.read_u8().await.map_err(lost)? {
        b'S' => {}
        b'N' => return Ok(Answer::Refused(tcp)),
        b'E' => {
            return Err(ConnectError::Protocol {
                address: address.clone(),
                answer: "an error".to_owned(),
            });
        }
        other => {
            let answer = format!("byte 0x{other:02x}");
            return Err(ConnectError::Protocol {
                address: address.clone(),
                answer,
            });
        }
    }
    handshake(tcp, config, address).await.map(Answer::Encrypted)
}

/// Without asking first; the server has to say that it is the protocol we mean.
async fn encrypt_directly(
    tcp: TcpStream,
    config: &Arc<ClientConfig>,
    address: &ServerAddress,
) -> Result<Stream, ConnectError> {
    let stream = handshake(tcp, config, address).await?;
    match &stream {
        Stream::ServerTls(tls) if tls.get_ref().1.alpn_protocol() == Some(ALPN) => Ok(stream),
        _ => Err(ConnectError::NoAlpn(address.clone())),
    }
}

async fn handshake(
    tcp: TcpStream,
    config: &Arc<ClientConfig>,
    address: &ServerAddress,
) -> Result<Stream, ConnectError> {
    let failed = |source| ConnectError::Tls {
        address: address.clone(),
        source,
    };
    let name = server_name(address, &tcp).map_err(failed)?;
    let tls = TlsConnector::from(config.clone())
        .connect(name, tcp)
        .await
        .map_err(failed)?;
    Ok(Stream::ServerTls(Box::new(tls)))
}

/// The name that the certificate must have. A host that is no DNS name goes by its address, which `verify-full` will
/// only accept from a certificate that says so.
fn server_name(address: &ServerAddress, tcp: &TcpStream) -> io::Result<ServerName<'static>> {
    match ServerName::try_from(address.host.clone()) {
        Ok(name) => Ok(name),
        Err(_) => Ok(ServerName::IpAddress(IpAddr::from(tcp.peer_addr()?.ip()))),
    }
}
