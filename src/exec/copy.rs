//! COPY FROM STDIN: the client's data to one server, or the same data to every one of several.

use super::client::Client;
use super::relay::{RelayError, poll_client_presence};
use crate::pool::server::{Answer, Filter, Server};
use crate::wire::build;
use bytes::BytesMut;
use std::future::poll_fn;
use std::task::Poll;

/// Unsent copy data beyond this waits.
const UNSENT_MAX: usize = 1 << 20;

const SYNC: &[u8] = b"S\0\0\0\x04";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Data,
    /// CopyDone or CopyFail has gone out; in the extended protocol the client's Sync is still to come
    AwaitSync,
    Done,
}

/// How the copy was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// by Query, or by a batch that ended with Flush: CopyDone or CopyFail ends it
    Plainly,
    /// by a batch that ended with Sync, which the server swallows while it copies: the client sends another at the end
    BeforeSync,
}

/// Feeds every server until each has answered, or wants the data of another copy. Answers are collected, nothing is shown
/// to the client but what `first` (the first server's sink) takes.
pub async fn copy_in(
    client: &mut Client,
    servers: &mut [&mut Server],
    answers: &mut [Answer],
    first: &mut BytesMut,
    asked: Asked,
) -> Result<(), RelayError> {
    let mut phase = Phase::Data;
    let mut nothing = BytesMut::new();
    let mut failed = false;
    for answer in answers.iter_mut() {
        answer.copy_in = false;
    }
    loop {
        for (n, (server, answer)) in servers.iter_mut().zip(answers.iter_mut()).enumerate() {
            let (filter, sink) = if n == 0 {
                (Filter::All, &mut *first)
            } else {
                (Filter::Errors, &mut nothing)
            };
            server.digest(filter, sink, answer)?;
        }
        if !failed && answers.iter().any(|a| a.error.is_some()) {
            failed = true;
            phase = end_failed(servers, answers, phase, asked);
        }
        // one ReadyForQuery answers our own Sync; another means that the first was not swallowed, and is answered now
        if answers.iter().any(|a| a.syncs > 1) {
            if phase == Phase::Done {
                client.give_back(SYNC);
            }
            for answer in answers.iter_mut() {
                answer.syncs = 0;
            }
            phase = Phase::Done;
        }
        phase = take_frames(client, servers, phase, asked, failed)?;
        let over =
            |(server, answer): (&&mut Server, &Answer)| server.is_answered() || answer.copy_in;
        if phase == Phase::Done && servers.iter().zip(answers.iter()).all(over) {
            return Ok(());
        }
        poll_fn(|cx| poll_copy(client, servers, phase, cx)).await?;
    }
}

/// One server refused the data: the others must not keep what they have got, and all must come back into step.
fn end_failed(
    servers: &mut [&mut Server],
    answers: &[Answer],
    phase: Phase,
    asked: Asked,
) -> Phase {
    for (server, answer) in servers.iter_mut().zip(answers) {
        if phase == Phase::Data && answer.error.is_none() && !server.is_answered() {
            let mut fail = BytesMut::new();
            build::copy_fail(&mut fail, "the copy failed on another shard");
            server.send(&fail);
        }
        if asked == Asked::BeforeSync {
            server.resync();
        }
    }
    match (phase, asked) {
        (Phase::Data, Asked::Plainly) => Phase::Done,
        (Phase::Data, Asked::BeforeSync) => Phase::AwaitSync,
        (phase, _) => phase,
    }
}

/// Takes the client's frames as far as the phase goes.
fn take_frames(
    client: &mut Client,
    servers: &mut [&mut Server],
    mut phase: Phase,
    asked: Asked,
    failed: bool,
) -> Result<Phase, RelayError> {
    while phase != Phase::Done && servers.iter().all(|s| s.unsent() < UNSENT_MAX) {
        let Some(head) = client.next_header().map_err(|_| RelayError::ClientGone)? else {
            break;
        };
        if client.input.len() < head.len {
            let missing = head.len - client.input.len();
            client.input.reserve(missing.min(1 << 20));
            break;
        }
        let message = client.input.split_to(head.len);
        phase = take_frame(&message, servers, phase, asked, failed)?;
    }
    Ok(phase)
}

fn take_frame(
    message: &[u8],
    servers: &mut [&mut Server],
    phase: Phase,
    asked: Asked,
    failed: bool,
) -> Result<Phase, RelayError> {
    let to_all = |servers: &mut [&mut Server], bytes: &[u8]| {
        for server in servers.iter_mut() {
            server.send(bytes);
        }
    };
    Ok(match (message[0], phase) {
        (b'd', Phase::Data) => {
            to_all(servers, message);
            Phase::Data
        }
        (b'c' | b'f', Phase::Data) => {
            to_all(servers, message);
            if asked == Asked::Plainly {
                // a Flush that came before was swallowed by the copy
                for server in servers.iter_mut() {
                    server.flush_request();
                }
                Phase::Done
            } else {
                Phase::AwaitSync
            }
        }
        (b'S', Phase::AwaitSync) => {
            if !failed {
                // the Sync sent with the Execute was swallowed by the copy: its entry is still due
                to_all(servers, message);
            }
            Phase::Done
        }
        // the server itself ignores these while it copies, or after its error
        (b'H' | b'S', Phase::Data) | (b'd' | b'c' | b'f' | b'H', Phase::AwaitSync) => phase,
        (b'X', _) => return Err(RelayError::ClientGone),
        _ if failed => phase,
        _ => {
            let mut fail = BytesMut::new();
            build::copy_fail(&mut fail, "unexpected message during COPY from stdin");
            to_all(servers, &fail);
            if asked == Asked::Plainly {
                Phase::Done
            } else {
                Phase::AwaitSync
            }
        }
    })
}

fn poll_copy(
    client: &mut Client,
    servers: &mut [&mut Server],
    phase: Phase,
    cx: &mut std::task::Context<'_>,
) -> Poll<Result<(), RelayError>> {
    let mut moved = false;
    let mut room = true;
    // the client waits for CopyInResponse before it sends anything
    if let Poll::Ready(Err(_)) = client.poll_send(cx) {
        return Poll::Ready(Err(RelayError::ClientGone));
    }
    for server in servers.iter_mut() {
        let before = server.unsent();
        if before > 0 {
            if let Poll::Ready(Err(e)) = server.poll_send(cx) {
                return match server.poll_fill(cx) {
                    Poll::Ready(Ok(n)) if n > 0 => Poll::Ready(Ok(())),
                    _ => Poll::Ready(Err(RelayError::Server(e))),
                };
            }
            moved |= before >= UNSENT_MAX && server.unsent() < UNSENT_MAX;
        }
        room &= server.unsent() < UNSENT_MAX;
        match server.poll_fill(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(RelayError::ServerGone)),
            Poll::Ready(Ok(_)) => moved = true,
            Poll::Ready(Err(e)) => return Poll::Ready(Err(RelayError::Server(e))),
            Poll::Pending => {}
        }
    }
    if phase == Phase::Done {
        return if moved {
            Poll::Ready(Ok(()))
        } else {
            poll_client_presence(client, cx)
        };
    }
    if room {
        match client.poll_fill_more(cx) {
            Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(RelayError::ClientGone)),
            Poll::Ready(Ok(_)) => moved = true,
            Poll::Pending => {}
        }
    }
    if moved {
        Poll::Ready(Ok(()))
    } else {
        Poll::Pending
    }
}
