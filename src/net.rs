//! Sockets and TLS, both roles. Knows addresses and certificates; knows no messages beyond the one byte that answers an
//! SSLRequest.

pub mod connector;
pub mod door;
pub mod listener;
pub mod stream;
pub mod tls;
pub mod transfer;
mod unix;

pub use connector::{ConnectError, Connector, dial};
pub use door::Door;
pub use listener::listen;
pub use stream::Stream;
pub use tls::{TlsError, listener_tls};
