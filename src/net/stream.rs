//! One connection, plain or encrypted, to a client or to a server. Everything above reads and writes this.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// A peer that has vanished without a word is noticed after about two minutes.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);

/// MSG_MORE and MSG_NOSIGNAL of Linux; elsewhere these numbers mean other things, and nothing waits.
const SEND_MORE: i32 = if cfg!(target_os = "linux") {
    0x8000 | 0x4000
} else {
    0
};

pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    ClientTls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    ServerTls(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    /// closed, or napping
    Away,
}

macro_rules! on_stream {
    ($self:ident, $io:ident => $body:expr) => {
        match $self.get_mut() {
            Stream::Tcp($io) => $body,
            Stream::Unix($io) => $body,
            Stream::ClientTls($io) => $body,
            Stream::ServerTls($io) => $body,
            Stream::Away => Poll::Ready(Err(away())),
        }
    };
}

impl Stream {
    pub fn is_encrypted(&self) -> bool {
        matches!(self, Self::ClientTls(_) | Self::ServerTls(_))
    }

    /// The certificate of the server at the other end, where there is one.
    pub fn server_certificate(&self) -> Option<&[u8]> {
        match self {
            Self::ServerTls(tls) => tls
                .get_ref()
                .1
                .peer_certificates()?
                .first()
                .map(AsRef::as_ref),
            _ => None,
        }
    }

    /// Nothing to read and not closed, found out without waiting: what an idle server must be. A byte that was there is
    /// lost, so a stream that is not quiet is only good for closing.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(self)
            .poll_read(&mut context, &mut buffer)
            .is_pending()
    }

    /// Ready when a read may find something. Of what TLS has decrypted already the socket knows nothing, so that an
    /// encrypted stream always may.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => tcp.poll_read_ready(cx),
            Self::Unix(unix) => unix.poll_read_ready(cx),
            Self::ClientTls(_) | Self::ServerTls(_) | Self::Away => Poll::Ready(Ok(())),
        }
    }

    /// Sleeps, and is not woken by what comes in meanwhile: it waits in the socket. Dropped half way, the connection is
    /// closed.
    pub async fn nap(&mut self, pause: Duration) -> io::Result<()> {
        match std::mem::replace(self, Self::Away) {
            Self::Tcp(tcp) => {
                let asleep = tcp.into_std()?;
                tokio::time::sleep(pause).await;
                *self = Self::Tcp(TcpStream::from_std(asleep)?);
            }
            Self::Unix(unix) => {
                let asleep = unix.into_std()?;
                tokio::time::sleep(pause).await;
                *self = Self::Unix(UnixStream::from_std(asleep)?);
            }
            other => {
                *self = other;
                tokio::time::sleep(pause).await;
            }
        }
        Ok(())
    }

    /// Writes; what does not fill a segment may wait in the kernel for the next write.
    pub fn poll_write_more(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Self::Tcp(tcp) = self else {
            return Pin::new(self).poll_write(cx, bytes);
        };
        loop {
            ready!(tcp.poll_write_ready(cx))?;
            let send = || socket2::SockRef::from(&*tcp).send_with_flags(bytes, SEND_MORE);
            match tcp.try_io(Interest::WRITABLE, send) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }
}

fn away() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

/// What every connection of ours has: small messages leave at once, and dead peers are noticed. What a listener accepts
/// inherits it.
pub fn tune(tcp: &socket2::Socket) -> io::Result<()> {
    tcp.set_tcp_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY);
    tcp.set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on_stream!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_stream!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Unix(io) => io.is_write_vectored(),
            Self::ClientTls(io) => io.is_write_vectored(),
            Self::ServerTls(io) => io.is_write_vectored(),
            Self::Away => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_stream!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
