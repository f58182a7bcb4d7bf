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
    /// a server has failed: until all have answered, it is not known which Syncs they have seen
    Resync,
    Done,
}

impl Phase {
    fn takes_frames(self) -> bool {
        matches!(self, Self::Data | Self::AwaitSync)
    }
}

/// How the copy was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// by Query, or by a batch that ended with Flush: CopyDone or CopyFail ends it
    Plainly,
    /// by a batch that ended with Sync, which the server swallows while it copies: the client sends another at the end
    BeforeSync,
}

/// One COPY from the client to its servers.
struct Copying {
    phase: Phase,
    asked: Asked,
    /// a server has refused the data, or the client its own
    failed: bool,
    /// the client's Sync at the end has gone out
    sync_sent: bool,
    /// the error has been told to the client
    told: bool,
}

/// Feeds every server until each has answered, or wants the data of another copy. Answers are collected, nothing is shown
/// to the client but what `first` (the first server's sink) takes. True when the error has been told to the client already.
pub async fn copy_in(
    client: &mut Client,
    servers: &mut [&mut Server],
    answers: &mut [Answer],
    first: &mut BytesMut,
    asked: Asked,
) -> Result<bool, RelayError> {
    for (server, answer) in servers.iter_mut().zip(answers.iter_mut()) {
        answer.copy_in = false;
        server.doubts_sync = asked == Asked::BeforeSync;
    }
    let mut copying = Copying {
        phase: Phase::Data,
        asked,
        failed: false,
        sync_sent: false,
        told: false,
    };
    let ended = copying.run(client, servers, answers, first).await;
    for server in servers.iter_mut() {
        server.doubts_sync = false;
    }
    ended.map(|()| copying.told)
}

impl Copying {
    async fn run(
        &mut self,
        client: &mut Client,
        servers: &mut [&mut Server],
        answers: &mut [Answer],
        first: &mut BytesMut,
    ) -> Result<(), RelayError> {
        let mut nothing = BytesMut::new();
        loop {
            for (n, (server, answer)) in servers.iter_mut().zip(answers.iter_mut()).enumerate() {
                let (filter, sink) = if n == 0 {
                    (Filter::All, &mut *first)
                } else {
                    (Filter::Errors, &mut nothing)
                };
                server.digest(filter, sink, answer)?;
            }
            if !self.failed && answers.iter().any(|a| a.error.is_some()) {
                self.fail(servers, answers);
            }
            let over =
                |(server, answer): (&&mut Server, &Answer)| server.is_answered() || answer.copy_in;
            let all_over = servers.iter().zip(answers.iter()).all(over);
            if self.phase == Phase::Resync && all_over {
                self.resynced(client, answers, first);
            }
            self.take_frames(client, servers)?;
            if self.phase == Phase::Done && all_over {
                return Ok(());
            }
            poll_fn(|cx| poll_copy(client, servers, self.phase, cx))
                .await
                .map_err(|error| explained(error, answers))?;
        }
    }

    /// One server refused the data: the others must not keep what they have got, and all must come back into step.
    fn fail(&mut self, servers: &mut [&mut Server], answers: &[Answer]) {
        self.failed = true;
        for (server, answer) in servers.iter_mut().zip(answers) {
            if self.phase == Phase::Data && answer.error.is_none() && !server.is_answered() {
                let mut fail = BytesMut::new();
                build::copy_fail(&mut fail, "the copy failed on another shard");
                server.send(&fail);
            }
            if self.asked == Asked::BeforeSync {
                server.resync();
            }
        }
        self.phase = match self.asked {
            Asked::Plainly => Phase::Done,
            Asked::BeforeSync => Phase::Resync,
        };
    }

    /// The servers are in step again, and what they have answered tells whether the Sync sent with the Execute was
    /// swallowed by the copy: the client's own at the end, and ours, have one answer each.
    fn resynced(&mut self, client: &mut Client, answers: &mut [Answer], first: &mut BytesMut) {
        let sent = 1 + usize::from(self.sync_sent);
        let swallowed = answers.iter().all(|a| a.syncs <= sent);
        for answer in answers.iter_mut() {
            answer.syncs = 0;
        }
        self.phase = Phase::Done;
        if swallowed && !self.sync_sent {
            // the client may wait for the error before it sends its Sync
            self.phase = Phase::AwaitSync;
            self.told = true;
            match answers.iter().find_map(|a| a.error.as_ref()) {
                Some(error) if answers[0].error.is_none() => client.show_error(error),
                _ => client.output.extend_from_slice(&first.split()),
            }
        } else if !swallowed && self.sync_sent {
            client.give_back(SYNC);
        }
    }

    /// Takes the client's frames as far as the phase goes.
    fn take_frames(
        &mut self,
        client: &mut Client,
        servers: &mut [&mut Server],
    ) -> Result<(), RelayError> {
        while self.phase.takes_frames() && servers.iter().all(|s| s.unsent() < UNSENT_MAX) {
            if self.phase == Phase::Data {
                // a row is a message
                let run = client.take_run(b'd', UNSENT_MAX);
                if !run.is_empty() {
                    to_all(servers, &run);
                    continue;
                }
            }
            let taken = client.take_frame().map_err(|_| RelayError::ClientGone)?;
            let Some(message) = taken else {
                break;
            };
            self.take_frame(&message, servers)?;
        }
        Ok(())
    }

    fn take_frame(
        &mut self,
        message: &[u8],
        servers: &mut [&mut Server],
    ) -> Result<(), RelayError> {
        match (message[0], self.phase) {
            (b'd', Phase::Data) => to_all(servers, message),
            (b'c' | b'f', Phase::Data) => {
                to_all(servers, message);
                self.end_data(servers);
            }
            (b'S', Phase::AwaitSync) => {
                if !self.failed {
                    // the Sync sent with the Execute was swallowed by the copy: its entry is still due
                    to_all(servers, message);
                    self.sync_sent = true;
                }
                self.phase = Phase::Done;
            }
            // the server itself ignores these while it copies, or after its error
            (b'H' | b'S', Phase::Data) | (b'd' | b'c' | b'f' | b'H', Phase::AwaitSync) => {}
            (b'X', _) => return Err(RelayError::ClientGone),
            _ if self.failed => {}
            _ => {
                let mut fail = BytesMut::new();
                build::copy_fail(&mut fail, "unexpected message during COPY from stdin");
                to_all(servers, &fail);
                self.end_data(servers);
            }
        }
        Ok(())
    }

    /// CopyDone or CopyFail has gone out.
    fn end_data(&mut self, servers: &mut [&mut Server]) {
        if self.asked == Asked::BeforeSync {
            self.phase = Phase::AwaitSync;
            return;
        }
        // a Flush that came before was swallowed by the copy
        for server in servers.iter_mut() {
            server.flush_request();
        }
        self.phase = Phase::Done;
    }
}

/// With what one of the servers said before it went.
fn explained(error: RelayError, answers: &[Answer]) -> RelayError {
    match answers.iter().find(|a| a.last_words.is_some()) {
        Some(answer) => error.explained(answer),
        None => error,
    }
}

fn to_all(servers: &mut [&mut Server], bytes: &[u8]) {
    for server in servers.iter_mut() {
        server.send(bytes);
    }
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
    if !phase.takes_frames() {
        return if moved {
            Poll::Ready(Ok(()))
        } else {
            poll_client_presence(client, cx)
        };
    }
    // what has come in whole is passed on first, or it would pile up with a client that is faster than its servers
    if room && !client.has_frame() {
        match client.poll_fill_or_end(cx) {
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
