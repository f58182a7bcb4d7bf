//! One exchange between one client and one server: bytes both ways until everything asked is answered.

use super::client::{Client, OUTPUT_MAX};
use crate::pool::outstanding::OutOfStep;
use crate::pool::server::{Answer, Filter, Server};
use crate::wire::message;
use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

/// How long a large result may gather in the socket before it is read.
const BREATHER: Duration = Duration::from_millis(1);

/// How an exchange stands when `relay` comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    Answered,
    /// the server waits for copy data
    CopyIn,
}

/// When the client sees CommandComplete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    AtOnce,
    /// it is held back, with all that follows, until the caller lets go of it
    Later,
}

impl RelayError {
    /// With what the server said before it went.
    #[must_use]
    pub fn explained(self, answer: &Answer) -> Self {
        let words = answer.last_words.as_deref();
        match (self, words) {
            (Self::ClientGone, _) => Self::ClientGone,
            (other, None) => other,
            (_, Some(words)) => {
                let field = |kind| message::error_field(words, kind).unwrap_or("?").to_owned();
                Self::ServerSaid {
                    code: field(b'C'),
                    message: field(b'M'),
                }
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the server closed the connection")]
    ServerGone,
    #[error("{message}")]
    ServerSaid { code: String, message: String },
    #[error("the connection to the server broke: {0}")]
    Server(io::Error),
    #[error(transparent)]
    OutOfStep(#[from] OutOfStep),
    #[error("the client is gone")]
    ClientGone,
}

/// Runs until the server has answered all it was asked, or waits for copy data.
pub async fn relay(
    client: &mut Client,
    server: &mut Server,
    filter: Filter,
    ends: Ends,
    answer: &mut Answer,
) -> Result<Stand, RelayError> {
    loop {
        let (had_rows, had_failed) = (answer.rows_begun, answer.error.is_some());
        server.digest(filter, &mut client.output, answer)?;
        if let (false, Some(error)) = (had_failed, &answer.error) {
            client.word_last(error);
        }
        // more than is held back in memory counts as seen
        answer.rows_begun |= ends == Ends::AtOnce && client.held_back() >= OUTPUT_MAX;
        // what failed with its first rows in the same read has not been seen yet, and can be asked elsewhere
        let stands = answer.error.is_none() && answer.last_words.is_none();
        if answer.rows_begun && !had_rows && stands {
            client.release();
        }
        if let (Ends::Later, Some(offset)) = (ends, answer.ended_at.take()) {
            client.hold_at(offset.min(client.output.len()));
        }
        client.expects_more = false;
        if answer.copy_in {
            return Ok(Stand::CopyIn);
        }
        if server.is_answered() {
            return Ok(Stand::Answered);
        }
        if answer.last_words.is_some() {
            return Err(RelayError::ServerGone.explained(answer));
        }
        client.expects_more = answer.rows_begun;
        if client.runs_large() && server.trickles() {
            Box::pin(breather(client, server)).await?;
        }
        poll_fn(|cx| poll_exchange(client, server, cx))
            .await
            .map_err(|error| error.explained(answer))?;
    }
}

/// A large result comes in small pieces. Taken one by one, each costs a wake-up here and there; a moment later there are
/// several.
async fn breather(client: &mut Client, server: &mut Server) -> Result<(), RelayError> {
    let sent = poll_fn(|cx| Poll::Ready(client.poll_send(cx))).await;
    if let Poll::Ready(Err(_)) = sent {
        return Err(RelayError::ClientGone);
    }
    server.nap(BREATHER).await.map_err(RelayError::Server)
}

/// Moves what can be moved; Ready when the server said something more.
pub(super) fn poll_exchange(
    client: &mut Client,
    server: &mut Server,
    cx: &mut Context<'_>,
) -> Poll<Result<(), RelayError>> {
    if server.unsent() > 0
        && let Poll::Ready(Err(e)) = server.poll_send(cx)
    {
        // what it said before it went may explain it
        return match server.poll_fill(cx) {
            Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(RelayError::Server(e))),
        };
    }
    if let Poll::Ready(Err(_)) = client.poll_send(cx) {
        return Poll::Ready(Err(RelayError::ClientGone));
    }
    if client.output.len() < OUTPUT_MAX {
        match server.poll_fill(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(RelayError::ServerGone)),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(e)) => return Poll::Ready(Err(RelayError::Server(e))),
            Poll::Pending => {}
        }
    }
    poll_client_presence(client, cx)
}

/// Reads ahead so that a vanished client is noticed while its server works.
pub fn poll_client_presence(
    client: &mut Client,
    cx: &mut Context<'_>,
) -> Poll<Result<(), RelayError>> {
    loop {
        match client.poll_fill(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(RelayError::ClientGone)),
            Poll::Ready(Ok(_)) => {}
            Poll::Pending => return Poll::Pending,
        }
    }
}

/// Runs our own queries on a server: nothing goes to the client.
pub async fn settle(server: &mut Server, answer: &mut Answer) -> Result<(), RelayError> {
    let mut nothing = bytes::BytesMut::new();
    loop {
        server.digest(Filter::Errors, &mut nothing, answer)?;
        answer.notices.unsplit(nothing.split());
        if server.is_answered() {
            return Ok(());
        }
        poll_fn(|cx| poll_server(server, cx))
            .await
            .map_err(|error| error.explained(answer))?;
    }
}

/// Sends and reads on one server; Ready when it said something more.
pub fn poll_server(server: &mut Server, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
    if server.unsent() > 0
        && let Poll::Ready(Err(e)) = server.poll_send(cx)
    {
        return match server.poll_fill(cx) {
            Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(())),
            _ => Poll::Ready(Err(RelayError::Server(e))),
        };
    }
    match server.poll_fill(cx) {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(RelayError::ServerGone)),
        Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
        Poll::Ready(Err(e)) => Poll::Ready(Err(RelayError::Server(e))),
        Poll::Pending => Poll::Pending,
    }
}

/// Sends what is unsent without waiting for answers (the other shards of a scatter start early).
pub async fn send_only(server: &mut Server) -> Result<(), RelayError> {
    poll_fn(|cx| server.poll_send(cx))
        .await
        .map_err(RelayError::Server)
}
