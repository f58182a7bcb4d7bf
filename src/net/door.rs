//! Where clients come in: a listening socket of a network, or a Unix socket. What comes through is a stream and where it
//! comes from.

use super::Stream;
use super::listener::listen;
use super::unix::UnixDoor;
use crate::config::Listener;
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

pub enum Door {
    Tcp(TcpListener),
    Unix(UnixDoor),
}

impl Door {
    /// All that this listener of the configuration stands for. To be called inside the runtime.
    pub fn open(listener: &Listener) -> io::Result<Vec<Self>> {
        if let Some(path) = listener.address().socket() {
            return Ok(vec![Self::Unix(UnixDoor::open(
                &path,
                listener.permissions,
            )?)]);
        }
        let sockets = listen(&listener.host, listener.port)?;
        Ok(sockets.into_iter().map(Self::Tcp).collect())
    }

    /// The next client; one that comes through a Unix socket has no address.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (tcp, peer) = listener.accept().await?;
                Ok((Stream::Tcp(tcp), Some(peer)))
            }
            Self::Unix(door) => Ok((Stream::Unix(door.accept().await?), None)),
        }
    }
}
