//! Listening sockets of networks.

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use tokio::net::TcpListener;

/// Connections that wait for us to accept them. The kernel has its own, smaller, limit.
const BACKLOG: i32 = 4096;

/// One listener for each address of `host`; `*` is every address of the machine. Addresses of a family that this
/// machine does not have are passed over as long as one remains. To be called inside the runtime.
pub fn listen(host: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let mut missing = None;
    for address in addresses(host, port)? {
        match bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing(&error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        return Err(missing.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the name has no address")
        }));
    }
    Ok(listeners)
}

fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if host == "*" {
        return Ok(vec![
            SocketAddr::from(([0, 0, 0, 0], port)),
            SocketAddr::from(([0u16; 8], port)),
        ]);
    }
    let mut found: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut seen = std::collections::HashSet::new();
    found.retain(|address| seen.insert(*address));
    Ok(found)
}

fn is_missing(error: &io::Error) -> bool {
    const EAFNOSUPPORT: i32 = 97;
    error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // its IPv4 twin has a listener of its own
        socket.set_only_v6(true)?;
    }
    super::stream::tune(&socket)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_an_error_and_a_free_one_is_bound() {
        let first = listen("127.0.0.1", 0).unwrap();
        let port = first[0].local_addr().unwrap().port();
        assert_eq!(
            listen("127.0.0.1", port).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(first);
        assert_eq!(listen("127.0.0.1", port).unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_accepted_is_tuned_like_its_listener() {
        let listener = listen("127.0.0.1", 0).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let _client = tokio::net::TcpStream::connect(address).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(accepted.nodelay().unwrap());
        assert!(socket2::SockRef::from(&accepted).keepalive().unwrap());
    }

    #[tokio::test]
    async fn a_name_is_resolved() {
        assert!(!listen("localhost", 0).unwrap().is_empty());
    }
}
