//! One client's session: what it sends is cut into requests, planned, run, answered.
//! It owns the client's statements and portals; servers and transactions are the executor's.

pub mod batch;
pub mod books;
mod bound;
mod bringing;
pub mod clocks;
pub mod combine;
pub mod context;
pub mod control;
mod cursor_batch;
mod cursor_steps;
mod cursors;
mod explain;
mod instead;
pub mod local;
mod named;
mod names;
pub mod plan;
mod portals;
mod portions;
mod preparing;
mod promise;
pub mod settings;
mod signals;
pub mod simple;
pub mod startup;
mod statements;

use crate::exec::cancel::send_cancel;
use crate::exec::client::NextFrame;
use crate::exec::executor::Executor;
use crate::exec::failure::{Failure, Report};
use crate::exec::job::Prepared;
use crate::exec::merge::Run;
use crate::exec::transaction::Transaction;
use crate::route::Targets;
use crate::sql::lift::Lifted;
use crate::stats::{ClientHandle, Recorder};
use crate::wire::build::{self, Severity};
use crate::wire::frame::FrameError;
use crate::wire::sqlstate::SqlState;
use batch::Gathering;
use bytes::{Bytes, BytesMut};
use context::Context;
use named::NamedStatements;
use portals::Portals;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;

/// Small, short-lived and the client's own: no hash is worth its price here that guards against strangers.
type FastMap<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A batch whose Sync has not come by then runs as far as it has come.
const BATCH_PAUSE: Duration = Duration::from_millis(20);

/// What a portal was bound to.
#[derive(Clone, Debug)]
pub struct Portal {
    pub prepared: Arc<Prepared>,
    pub targets: Targets,
    /// with `Merge::Combine` on several shards
    pub combine: Option<Arc<Run>>,
    /// over several shards: how far it has been read
    progress: Option<portions::Shared>,
    /// of a statement about cursors that is answered here
    cursor: Option<Arc<cursor_steps::Asked>>,
}

impl Portal {
    /// Of a statement that is answered here.
    fn local(prepared: Arc<Prepared>) -> Self {
        Self {
            prepared,
            targets: Targets::None,
            combine: None,
            progress: None,
            cursor: None,
        }
    }

    /// Of a statement about cursors.
    fn of_cursor(asked: Arc<cursor_steps::Asked>, transaction: Option<&Transaction>) -> Self {
        Self {
            prepared: asked.prepared.clone(),
            targets: Targets::None,
            combine: None,
            progress: Some(portions::Progress::new(transaction)),
            cursor: Some(asked),
        }
    }
}

pub struct Session {
    pub exec: Executor,
    /// where a reload puts a new backend
    pub slot: Arc<arc_swap::ArcSwap<crate::exec::backend::Backend>>,
    /// of all clients: one may signal another
    pub cancels: Arc<crate::exec::cancels::Cancels>,
    pub context: Context,
    pub statements: NamedStatements,
    /// those of them that were prepared by SQL
    by_sql: Option<Box<statements::BySql>>,
    pub portals: Portals,
    /// cursors that have outlived their transaction
    pub holding: Option<Box<crate::exec::cursors::Cursors>>,
    pub lifted: Lifted,
    pub recorder: Recorder,
    pub handle: ClientHandle,
    /// messages of the extended protocol that wait for their Sync
    pub gathering: Gathering,
    /// pgshunt shuts down; `cancel.bell` rings when this changes
    pub closing: Arc<AtomicBool>,
    /// settings of the start-up packet: where RESET returns to
    pub start_vars: crate::vars::Vars,
    /// SET pgshunt.shard
    pub forced_shard: Option<crate::shard::ShardId>,
    /// takes shards in turn for what any of them can answer
    pub turn: std::cell::Cell<u16>,
    /// what SHOW CLIENTS was told last
    pub shown_transaction: bool,
    pub shown_held: bool,
}

/// What the session does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    GoOn,
    End,
}

impl Session {
    /// Serves the client until it leaves, breaks the protocol, or pgshunt shuts down.
    pub async fn serve(mut self: Box<Self>) {
        loop {
            match self.turn().await {
                Ok(Next::GoOn) => {}
                Ok(Next::End) => break,
                Err(Failure::ClientGone) => {
                    if let Some(last_word) = self.exec.cancel.overrun.of_connection() {
                        Box::pin(self.say_fatal(&last_word)).await;
                    }
                    break;
                }
                Err(Failure::Shown) => {}
                Err(Failure::Report(report)) => {
                    Box::pin(self.say_fatal(&report)).await;
                    break;
                }
            }
        }
        Box::pin(self.leave()).await;
    }

    /// One frame of the client. An error here ends the connection.
    async fn turn(&mut self) -> Result<Next, Failure> {
        let Some(frame) = self.next_frame().await? else {
            return Ok(Next::End);
        };
        match frame[0] {
            b'Q' => self.on_query(frame.freeze()).await?,
            b'S' => self.on_sync().await?,
            b'P' | b'B' | b'D' | b'E' | b'C' | b'H' => {
                let asked = frame[0] == b'H';
                if !self.gathers(frame.freeze()) {
                    Box::pin(self.on_flush(asked)).await?;
                }
            }
            b'X' => return Ok(Next::End),
            // copy data after the copy has failed: the protocol lets the client go on until it hears of it
            b'd' | b'c' | b'f' => {}
            b'F' => Box::pin(self.on_function_call(frame.freeze())).await?,
            tag => {
                return Err(Report::new(
                    SqlState::PROTOCOL_VIOLATION,
                    format!("invalid frontend message type {tag}"),
                )
                .into());
            }
        }
        Ok(Next::GoOn)
    }

    /// The client's next message; meanwhile notifications of pinned servers are passed on.
    async fn next_frame(&mut self) -> Result<Option<BytesMut>, Failure> {
        if !self.exec.client.has_frame() {
            self.exec
                .client
                .send()
                .await
                .map_err(|_| Failure::ClientGone)?;
            self.exec.client.shed();
            let came = if self.gathering.waits() {
                self.more_soon().await?
            } else {
                None
            };
            let goes_on = match came {
                Some(goes_on) => goes_on,
                None => self.wait_for_client().await?,
            };
            if !goes_on {
                return Ok(None);
            }
        }
        // what is on its way already is not begun by one who has been ended
        if let Some(last_word) = self.exec.cancel.overrun.for_good() {
            return Err(last_word.into());
        }
        match self.exec.client.next_frame().await {
            Ok(frame) => Ok(frame),
            // nothing is said to one who does not speak the protocol
            Err(NextFrame::Io(_) | NextFrame::Frame(FrameError::TooShort(_))) => {
                Err(Failure::ClientGone)
            }
            Err(NextFrame::Frame(error)) => {
                let hint = "limits.message_bytes_max in the shard map bounds a message.";
                Err(Report::new(SqlState::PROTOCOL_VIOLATION, error.to_string())
                    .hint(hint)
                    .into())
            }
        }
    }

    /// As `wait_for_client`, for a moment. Then what the client has left without its Sync is run: PostgreSQL has done that by
    /// now, and told of errors.
    async fn more_soon(&mut self) -> Result<Option<bool>, Failure> {
        let waited = tokio::time::timeout(BATCH_PAUSE, Box::pin(self.wait_for_client())).await;
        if let Ok(came) = waited {
            return came.map(Some);
        }
        Box::pin(self.flush()).await?;
        Ok(None)
    }

    /// Waits for bytes of the client; false when pgshunt shuts down and nothing is open here.
    async fn wait_for_client(&mut self) -> Result<bool, Failure> {
        let idle = self.exec.transaction.is_none() && !self.has_open_batch();
        loop {
            let Self { exec, closing, .. } = self;
            let quiet = poll_fn(|cx| {
                if let Poll::Ready(quiet) = exec.poll_idle(cx) {
                    return Poll::Ready(Ok(quiet));
                }
                // first the bell, then the look: neither can be missed
                exec.cancel.bell.register(cx.waker());
                if idle && closing.load(Ordering::SeqCst) {
                    return Poll::Ready(Err(shutting_down()));
                }
                if idle && exec.has_mail(cx) {
                    return Poll::Ready(exec.tell_mail().map(|()| Ok(false)));
                }
                match exec.cancel.overrun.of_connection() {
                    Some(report) => Poll::Ready(Err(report)),
                    None => Poll::Pending,
                }
            })
            .await;
            if quiet?? {
                return Ok(true);
            }
            self.exec
                .client
                .send()
                .await
                .map_err(|_| Failure::ClientGone)?;
        }
    }

    /// The old FunctionCall message names a function by its OID: what it would touch cannot be known.
    async fn on_function_call(&mut self, frame: Bytes) -> Result<(), Failure> {
        self.refresh_snapshot();
        let result = if self.exec.snapshot.database.shards.len() > 1 {
            Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "the function call message is not supported over several shards",
            )
            .hint("Call the function by SELECT.")
            .into())
        } else {
            let job = crate::exec::job::Job::function(frame, self.exec.snapshot.database.home);
            let level = self.exec.freshness.level;
            self.exec.run(&job, level).await.map(|_| ())
        };
        self.tell(result).await?;
        self.ready();
        Ok(())
    }

    /// The one place where an error of ours becomes a message.
    pub fn say(&mut self, report: &Report) {
        let out = &mut self.exec.client.output;
        build::report_of(
            out,
            Severity::Error,
            report.code,
            &report.message,
            report.hint.as_deref(),
            report.routine,
        );
    }

    async fn say_fatal(&mut self, report: &Report) {
        self.exec.client.release();
        let out = &mut self.exec.client.output;
        build::report(
            out,
            Severity::Fatal,
            report.code,
            &report.message,
            report.hint.as_deref(),
        );
        let _ = self.exec.client.send().await;
    }

    /// ReadyForQuery, after the notifications that have come in.
    async fn ready_with_mail(&mut self) -> Result<(), Failure> {
        if self.exec.listening.is_some() {
            Box::pin(self.exec.hear_own()).await;
            self.exec.tell_mail()?;
        }
        self.ready();
        Ok(())
    }

    pub fn ready(&mut self) {
        self.exec.tell_parameters();
        self.show_state();
        let status = self.exec.status();
        build::ready_for_query(&mut self.exec.client.output, status);
    }

    /// The client is gone: what it held is rolled back, or closed where that is not sure.
    async fn leave(&mut self) {
        for held in self.exec.held.iter().filter(|h| !h.server.in_step()) {
            // nobody waits for it any more: it must not go on holding locks
            let address = self.exec.backend.topology.address(held.member);
            send_cancel(address, held.server.pid, held.server.secret).await;
        }
        // a batch whose Sync never came must not be committed by one of ours
        self.exec.held.retain(|held| !held.batch_open);
        self.exec.rollback_all().await;
        self.exec.forget_cancel().await;
        for held in std::mem::take(&mut self.exec.held) {
            if held.pin.is_none() {
                held.let_go().await;
            }
        }
        self.exec.forget_written();
    }
}

fn shutting_down() -> Report {
    Report::new(
        SqlState::ADMIN_SHUTDOWN,
        "terminating connection: pgshunt is shutting down",
    )
}

impl Executor {
    /// Ready(true): bytes of the client are there; Ready(false): something is to be sent to it.
    fn poll_idle(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<bool, Failure>> {
        if self.poll_held(cx)? {
            return Poll::Ready(Ok(false));
        }
        match self.client.poll_fill_more(cx) {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Err(Failure::ClientGone)),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(true)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// What held servers say unasked (notifications), and whether they are still there.
    fn poll_held(&mut self, cx: &mut std::task::Context<'_>) -> Result<bool, Failure> {
        use crate::pool::server::{Answer, Filter};
        for index in 0..self.held.len() {
            let held = &mut self.held[index];
            let polled = held.server.poll_fill(cx);
            let Poll::Ready(read) = polled else { continue };
            let mut answer = Answer::default();
            let digested = held
                .server
                .digest(Filter::All, &mut self.client.output, &mut answer);
            if matches!(read, Ok(n) if n > 0) && digested.is_ok() && answer.last_words.is_none() {
                cx.waker().wake_by_ref();
                return Ok(!self.client.output.is_empty());
            }
            return Err(self.held_server_gone(index, answer.last_words));
        }
        Ok(false)
    }

    /// A server that the session's state lives on has gone while the client was idle: so must the session.
    fn held_server_gone(&mut self, index: usize, last_words: Option<Bytes>) -> Failure {
        let member = self.drop_held(index);
        if let Some(words) = last_words {
            self.client.output.extend_from_slice(&words);
        }
        let name = self.backend.servers.member_name(member);
        Report::new(
            SqlState::ADMIN_SHUTDOWN,
            format!("the connection to {name}, which this session held, was closed"),
        )
        .hint("Connect again; a transaction that was open has been rolled back.")
        .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn future_of<A, F>(_: impl FnOnce(A) -> F) -> usize {
        size_of::<F>()
    }

    /// Thousands of clients are idle: what each of them takes is rounded up to the allocator's next step.
    #[test]
    fn an_idle_client_is_small() {
        assert!(size_of::<Session>() <= 1024, "{}", size_of::<Session>());
        // and what its task holds beside it, which is a little
        let future = future_of(Session::serve);
        assert!(future + 64 <= 1536, "{future}");
    }
}
