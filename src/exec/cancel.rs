//! A cancel request to one server: stops what a backend is doing.

use crate::config::ServerAddress;
use crate::wire::build;
use bytes::BytesMut;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long one cancel may take; its client's servers stay with it that long.
const CANCEL_MAX: Duration = Duration::from_secs(5);

/// Sends it and waits until the server has passed the signal on, or the time is over: then it is false, and the signal may
/// still come.
pub async fn send_cancel(address: &ServerAddress, pid: i32, secret: i32) -> bool {
    match tokio::time::timeout(CANCEL_MAX, send(address, pid, secret)).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::debug!(%error, server = %address.host, port = address.port, "a cancel request was not delivered");
            false
        }
        Err(_) => false,
    }
}

async fn send(address: &ServerAddress, pid: i32, secret: i32) -> std::io::Result<()> {
    let mut stream = crate::net::dial(address).await?;
    let mut packet = BytesMut::new();
    build::cancel_request(&mut packet, pid, secret);
    stream.write_all(&packet).await?;
    // the postmaster closes the connection when the signal has been sent
    let mut rest = [0; 1];
    let _ = stream.read(&mut rest).await?;
    Ok(())
}
