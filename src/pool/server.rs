//! One server connection: its socket, its buffers, what it still owes and what it is known to have set.
//! It moves bytes and keeps count; it does not know what was asked of it or why.

use super::outstanding::{Effect, Fate, OutOfStep, Outstanding, Queue, Reply, effect};
use crate::net::Stream;
use crate::net::transfer::{Intake, Push, poll_write_all};
use crate::vars::Vars;
use crate::wire::{build, frame, message};
use bytes::{Buf, Bytes, BytesMut};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// A row longer than this is passed on in pieces.
const PIECE: usize = 16 * 1024;
/// Room for one of several answers that have come in together.
const ANSWER_USUAL: usize = 512;
/// Why a server that could not open a transaction is closed.
const NOT_BEGUN: &str = "its transaction did not begin";
/// A message that is not a row must fit in this.
const MESSAGE_MAX: usize = 1 << 30;

/// A writer that is no session.
pub const NOBODY: u64 = u64::MAX;

/// The transaction status a server reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Idle,
    Open,
    Failed,
}

/// Which parts of the answer the sink takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// everything
    All,
    /// the first of several servers whose rows are concatenated: all but CommandComplete
    First,
    /// a further one: rows only
    Rest,
    /// nothing but errors
    Errors,
}

/// How far `digest_from` goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// to the end of what has come in
    Dry,
    /// to the first ReadyForQuery
    Ready,
}

/// What the description of a statement says.
#[derive(Debug)]
pub struct Described {
    /// of its parameters
    pub types: Box<[u32]>,
    /// `wire::message::result_hash`
    pub result: u64,
}

/// What one exchange has shown so far.
#[derive(Debug, Default)]
pub struct Answer {
    /// last command tag, where it is not passed on as it is
    pub tag: Option<String>,
    /// rows, from command tags
    pub rows: u64,
    /// first ErrorResponse of what the client asked
    pub error: Option<Bytes>,
    /// first ErrorResponse of what we asked for ourselves
    pub own_error: Option<Bytes>,
    /// a query of ours ended with ROLLBACK
    pub own_rollback: bool,
    /// a row, or copy data, went to the sink: the exchange cannot be run again unseen
    pub rows_begun: bool,
    /// the server waits for copy data
    pub copy_in: bool,
    /// a portal has given as many rows as it was asked for
    pub suspended: bool,
    /// ParseCompletes shown to the client
    pub parsed: u32,
    pub described: Vec<Described>,
    /// first columns of rows that were captured
    pub captured: Vec<Bytes>,
    /// an ErrorResponse after which the server goes
    pub last_words: Option<Bytes>,
    /// of what was asked in the client's name while nothing was shown
    pub notices: BytesMut,
    /// ReadyForQueries where it was in doubt how many would come
    pub syncs: usize,
    /// where in the sink the first CommandComplete stands
    pub ended_at: Option<usize>,
}

/// What others may see of a connection while someone works with it.
#[derive(Debug)]
pub struct ServerInfo {
    pub pid: i32,
    pub born: Instant,
    /// milliseconds from `born` to the last check-in; u64::MAX while it is in use
    idle_from_ms: AtomicU64,
    prepared: AtomicUsize,
}

impl ServerInfo {
    pub fn note_busy(&self) {
        self.idle_from_ms.store(u64::MAX, Ordering::Relaxed);
    }

    pub fn note_idle(&self, prepared: usize, now: Instant) {
        let since = u64::try_from((now - self.born).as_millis()).unwrap_or(u64::MAX - 1);
        self.idle_from_ms.store(since, Ordering::Relaxed);
        self.prepared.store(prepared, Ordering::Relaxed);
    }

    #[must_use]
    pub fn idle_since(&self) -> Option<Instant> {
        let ms = self.idle_from_ms.load(Ordering::Relaxed);
        (ms != u64::MAX).then(|| self.born + Duration::from_millis(ms))
    }

    #[must_use]
    pub fn prepared(&self) -> usize {
        self.prepared.load(Ordering::Relaxed)
    }
}

/// Room that an idle server keeps for what it sends, and for what it says.
const KEPT_MAX: usize = 64 * 1024;

pub struct Server {
    stream: Stream,
    intake: Intake,
    input: BytesMut,
    output: BytesMut,
    queue: Queue,
    /// bytes of a row that went out before all of it had come in
    passing: usize,
    status: Status,
    tainted: Option<&'static str>,
    prepared: lru::LruCache<u128, ()>,
    /// a copy is under way that may or may not swallow the Sync behind it: an error leaves open how many are answered
    pub doubts_sync: bool,
    /// identity of the unnamed statement
    pub unnamed: Option<u128>,
    pub vars: Vars,
    /// as last reported
    pub parameters: Vec<(String, String)>,
    /// of those that a session can change
    parameters_hash: u64,
    pub pid: i32,
    pub secret: i32,
    /// the session that has last run something here that is not proven a read, and how often that has changed
    writer: u64,
    pub writers: u32,
    /// another one has before it, and what that may have left is still there
    mixed: bool,
    pub info: Arc<ServerInfo>,
}

impl Server {
    #[must_use]
    pub fn new(
        stream: Stream,
        login: crate::auth::server::ServerLogin,
        prepared_max: usize,
        now: Instant,
    ) -> Self {
        Self {
            stream,
            intake: Intake::default(),
            input: login.leftover,
            output: BytesMut::new(),
            queue: Queue::default(),
            passing: 0,
            status: Status::Idle,
            tainted: None,
            prepared: lru::LruCache::new(
                NonZeroUsize::new(prepared_max).unwrap_or(NonZeroUsize::MIN),
            ),
            doubts_sync: false,
            unnamed: None,
            vars: Vars::default(),
            parameters_hash: parameters_hash(&login.parameters),
            parameters: login.parameters,
            pid: login.pid,
            secret: login.secret,
            writer: NOBODY,
            writers: 0,
            mixed: false,
            info: Arc::new(ServerInfo {
                pid: login.pid,
                born: now,
                idle_from_ms: AtomicU64::new(u64::MAX),
                prepared: AtomicUsize::new(0),
            }),
        }
    }

    #[must_use]
    pub fn status(&self) -> Status {
        self.status
    }

    /// Differs when a reported parameter that belongs to the session differs.
    #[must_use]
    pub fn parameters_hash(&self) -> u64 {
        self.parameters_hash
    }

    /// Nothing is owed, nothing unread, no transaction, nothing unknown: another client may have it.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.in_step() && self.status == Status::Idle && self.tainted.is_none()
    }

    /// All that was asked has been answered.
    #[must_use]
    pub fn in_step(&self) -> bool {
        self.queue.is_empty()
            && self.passing == 0
            && self.input.is_empty()
            && self.output.is_empty()
    }

    /// Nothing that is not proven a read has run here, or all that it may have left is gone.
    #[must_use]
    pub fn is_unwritten(&self) -> bool {
        self.writer == NOBODY
    }

    /// This session has run something here that is not proven a read, and nobody else has, or what it may have left is gone.
    #[must_use]
    pub fn is_written_only_by(&self, session: u64) -> bool {
        self.writer == session && !self.mixed
    }

    /// This session runs something here that is not proven a read.
    pub fn written_by(&mut self, session: u64) {
        if self.writer != session {
            self.mixed = session != NOBODY && self.writer != NOBODY;
            self.writer = session;
            self.writers += 1;
        }
    }

    /// Never to be reused, for this reason.
    pub fn taint(&mut self, why: &'static str) {
        self.tainted.get_or_insert(why);
    }

    #[must_use]
    pub fn is_tainted(&self) -> bool {
        self.tainted.is_some()
    }

    #[must_use]
    pub fn prepared_len(&self) -> usize {
        self.prepared.len()
    }

    /// The transaction it was to open did not begin: what was asked in it has not run.
    #[must_use]
    pub fn has_not_begun(&self) -> bool {
        self.tainted == Some(NOT_BEGUN)
    }

    /// Forgets what the server had prepared (after DISCARD ALL or DEALLOCATE ALL).
    pub fn forget_prepared(&mut self) {
        self.prepared.clear();
        self.unnamed = None;
    }

    // ---- asking ------------------------------------------------------------------------------

    /// A simple query.
    pub fn query(&mut self, sql: &[u8], fate: Fate) {
        build::query(&mut self.output, sql);
        self.unnamed = None;
        self.queue.push(Outstanding::Await(Reply::Query, fate));
    }

    /// Opens a transaction for what is asked next, in the same write. Should it fail (a cancel or a timeout may hit it), the
    /// server ignores everything up to the next Sync, queries too: nothing runs outside the transaction it was meant for.
    pub fn begin(&mut self, sql: &[u8]) {
        build::parse(&mut self.output, b"", sql, &[]);
        build::bind(&mut self.output, b"", b"", &[0; 6]);
        build::execute(&mut self.output, b"", 0);
        self.unnamed = None;
        self.status = Status::Open;
        self.queue
            .push(Outstanding::Await(Reply::Begin, Fate::Skip));
    }

    pub fn sync(&mut self) {
        build::sync(&mut self.output);
        self.queue.push(Outstanding::Await(Reply::Sync, Fate::Skip));
    }

    pub fn flush_request(&mut self) {
        build::flush(&mut self.output);
    }

    /// Makes sure that a named statement is there; true when a Parse had to be sent (with this fate).
    pub fn prepare(&mut self, id: u128, text: &[u8], types: &[u32], fate: Fate) -> bool {
        if self.prepared.get(&id).is_some() || self.queue.parse_due(id) {
            return false;
        }
        if self.prepared.len() + self.queue.parses_due() >= self.prepared.cap().get()
            && let Some((old, ())) = self.prepared.pop_lru()
        {
            build::named(&mut self.output, b'C', b'S', statement_name(old).as_bytes());
            self.queue
                .push(Outstanding::Await(Reply::Close(Some(old)), Fate::Skip));
        }
        build::parse(&mut self.output, statement_name(id).as_bytes(), text, types);
        self.queue.push(Outstanding::Await(Reply::Parse(id), fate));
        true
    }

    /// The unnamed statement.
    pub fn parse_unnamed(&mut self, id: u128, text: &[u8], types: &[u32], fate: Fate) {
        build::parse(&mut self.output, b"", text, types);
        self.unnamed = Some(id);
        self.queue.push(Outstanding::Await(Reply::Parse(0), fate));
    }

    /// Any other message that is answered: `write` appends it.
    pub fn ask(&mut self, reply: Reply, fate: Fate, write: impl FnOnce(&mut BytesMut)) {
        write(&mut self.output);
        self.queue.push(Outstanding::Await(reply, fate));
    }

    /// A reply of ours in its place among the server's.
    pub fn synthesize(&mut self, reply: Bytes) {
        self.queue.push(Outstanding::Synthesize(reply));
    }

    /// Bytes that are not answered one by one (copy data).
    pub fn send(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
    }

    #[must_use]
    pub fn unsent(&self) -> usize {
        self.output.len()
    }

    /// All asked has been answered (synthetic replies included).
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.queue.is_empty() && self.passing == 0
    }

    /// A copy that was asked for by a batch with a Sync behind it has failed. If it had begun to read, it has swallowed
    /// the Sync, else it has not: another one brings the server back in either case, and an empty query behind it, which
    /// every state of a transaction allows, tells when that is over.
    pub fn resync(&mut self) {
        if std::mem::take(&mut self.doubts_sync) {
            self.queue.doubt_sync();
        }
        build::sync(&mut self.output);
        self.query(b"", Fate::Skip);
    }

    // ---- the socket --------------------------------------------------------------------------

    /// What a large message or answer has needed is not kept while nobody needs it.
    pub fn shed(&mut self) {
        for buffer in [&mut self.output, &mut self.input] {
            if buffer.is_empty() && buffer.capacity() > KEPT_MAX {
                *buffer = BytesMut::new();
            }
        }
    }

    /// Sends what is unsent; Ready when nothing is left.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        poll_write_all(
            &mut self.stream,
            &mut self.output,
            usize::MAX,
            Push::Now,
            cx,
        )
    }

    /// The last read found little.
    #[must_use]
    pub fn trickles(&self) -> bool {
        self.intake.found_little()
    }

    /// Lets what comes in wait in the socket for a moment.
    pub async fn nap(&mut self, pause: Duration) -> std::io::Result<()> {
        self.stream.nap(pause).await
    }

    /// Reads once; Ok(0) is the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        self.intake.poll_read(&mut self.stream, &mut self.input, cx)
    }

    /// Whether an idle server is still connected and silent, as far as is known without asking it.
    pub fn still_there(&mut self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match self.poll_fill(&mut cx) {
            Poll::Pending => true,
            Poll::Ready(Ok(0) | Err(_)) => false,
            Poll::Ready(Ok(_)) => {
                // parameter changes after a reload are no reason to close it; anything else is
                let mut nothing = BytesMut::new();
                let mut answer = Answer::default();
                self.digest(Filter::Errors, &mut nothing, &mut answer)
                    .is_ok()
                    && answer.last_words.is_none()
                    && self.in_step()
            }
        }
    }

    // ---- answers -----------------------------------------------------------------------------

    /// Takes every message that has come in whole, passes on what `filter` lets through.
    pub fn digest(
        &mut self,
        filter: Filter,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<(), OutOfStep> {
        if self.input.is_empty() {
            self.release_synthetic(filter, sink, answer);
            return Ok(());
        }
        // one growth for all that is there, not one for each message
        sink.reserve(self.input.len());
        let mut input = std::mem::take(&mut self.input);
        let result = self.digest_from(&mut input, filter, Until::Dry, sink, answer);
        self.input = input;
        result.map(|_| ())
    }

    /// The same up to the first ReadyForQuery, where several answers come one after the other; true when it has come.
    pub fn digest_one(
        &mut self,
        filter: Filter,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<bool, OutOfStep> {
        let mut input = std::mem::take(&mut self.input);
        sink.reserve(input.len().min(ANSWER_USUAL));
        let result = self.digest_from(&mut input, filter, Until::Ready, sink, answer);
        self.input = input;
        result
    }

    /// True when it has stopped at a ReadyForQuery.
    fn digest_from(
        &mut self,
        input: &mut BytesMut,
        filter: Filter,
        until: Until,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<bool, OutOfStep> {
        loop {
            self.release_synthetic(filter, sink, answer);
            if self.passing > 0 && !self.pass_on(input, sink) {
                return Ok(false);
            }
            let head = match frame::header(input, MESSAGE_MAX) {
                Ok(Some(head)) => head,
                Ok(None) => return Ok(false),
                Err(_) => {
                    return Err(OutOfStep {
                        tag: input[0],
                        expected: "a message of sane length",
                    });
                }
            };
            if input.len() < head.len {
                self.begin_passing(input, head, filter, sink, answer)?;
                if self.passing == 0 {
                    return Ok(false);
                }
                continue;
            }
            if !self.take_run(input, filter, sink, answer) {
                self.take(&input[..head.len], filter, sink, answer)?;
                input.advance(head.len);
                if until == Until::Ready && head.tag == b'Z' {
                    return Ok(true);
                }
            }
        }
    }

    fn release_synthetic(&mut self, filter: Filter, sink: &mut BytesMut, answer: &mut Answer) {
        while let Some(reply) = self.queue.take_synthetic() {
            answer.parsed += u32::from(reply.first() == Some(&b'1'));
            if matches!(filter, Filter::All | Filter::First) {
                sink.extend_from_slice(&reply);
            }
        }
    }

    fn pass_on(&mut self, input: &mut BytesMut, sink: &mut BytesMut) -> bool {
        let n = self.passing.min(input.len());
        sink.extend_from_slice(&input[..n]);
        input.advance(n);
        self.passing -= n;
        self.passing == 0
    }

    /// A row larger than what has come in is passed on in pieces, so that memory stays bounded.
    fn begin_passing(
        &mut self,
        input: &mut BytesMut,
        head: frame::Header,
        filter: Filter,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<(), OutOfStep> {
        let shown =
            filter != Filter::Errors && matches!(self.queue.front(), Some((_, Fate::Forward)));
        if matches!(head.tag, b'D' | b'd') && shown && head.len > PIECE {
            effect(head.tag, self.queue.front().map(|f| f.0))?;
            answer.rows_begun = true;
            self.passing = head.len;
            self.pass_on(input, sink);
        } else if head.len > input.capacity() {
            input.reserve((head.len - input.len()).min(1 << 20));
        }
        Ok(())
    }

    /// The hot loop: a run of whole messages that are shown as they are goes over in one copy.
    fn take_run(
        &mut self,
        input: &mut BytesMut,
        filter: Filter,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> bool {
        let mut end = 0;
        while let (Some((reply, Fate::Forward)), Some(tag)) = (self.queue.front(), input.get(end)) {
            let tag = *tag;
            let Some(effect) = plain(reply, tag, filter == Filter::All) else {
                break;
            };
            let Ok(Some(head)) = frame::header(&input[end..], MESSAGE_MAX) else {
                break;
            };
            let Some(message) = input.get(end..end + head.len) else {
                break;
            };
            match tag {
                b'D' | b'd' => answer.rows_begun = true,
                b'C' => note_end(message, sink.len() + end, answer),
                b'1' => answer.parsed += 1,
                _ => {}
            }
            end += head.len;
            if effect == Effect::Ends {
                self.note_parsed(reply);
                self.queue.pop();
            }
        }
        if end == 0 {
            return false;
        }
        if filter != Filter::Errors {
            sink.extend_from_slice(&input[..end]);
        }
        input.advance(end);
        true
    }

    /// A statement is there from now on.
    fn note_parsed(&mut self, reply: Reply) {
        if let Reply::Parse(id) = reply
            && id != 0
        {
            self.prepared.put(id, ());
        }
    }

    fn take(
        &mut self,
        message: &[u8],
        filter: Filter,
        sink: &mut BytesMut,
        answer: &mut Answer,
    ) -> Result<(), OutOfStep> {
        let tag = message[0];
        if tag == b'I' && matches!(self.queue.front(), Some((Reply::Syncs, _))) {
            self.queue.pop();
        }
        let front = self.queue.front();
        let effect = effect(tag, front.map(|f| f.0))?;
        let fate = front.map_or(Fate::Skip, |f| f.1);
        match tag {
            b'S' => self.note_parameter(message),
            b'Z' => {
                answer.syncs += usize::from(matches!(front, Some((Reply::Syncs, _))));
                self.note_ready(message);
            }
            b'C' => note_tag(message, fate, filter, sink, answer),
            b'G' => answer.copy_in = fate == Fate::Forward,
            b's' => answer.suspended = true,
            b'1' if fate == Fate::Forward => answer.parsed += 1,
            b'T' | b'n' if matches!(front, Some((Reply::DescribeStatement { .. }, _))) => {
                if let Some(last) = answer.described.last_mut() {
                    last.result = message::result_hash(message).unwrap_or_default();
                }
            }
            b't' => {
                let types = message::parameter_types(message).unwrap_or_default();
                let types = types.into_boxed_slice();
                answer.described.push(Described { types, result: 0 });
            }
            b'D' if fate == Fate::Capture => {
                answer.captured.push(Bytes::copy_from_slice(
                    message::first_column(message).unwrap_or(b""),
                ));
            }
            _ => {}
        }
        if effect == Effect::Error && message::is_fatal(message) {
            answer
                .last_words
                .get_or_insert_with(|| Bytes::copy_from_slice(message));
            self.taint("it has said why it closes");
            return Ok(());
        }
        if effect == Effect::Error {
            self.fail(message, front, answer);
        }
        let shown = match fate {
            Fate::Forward => shows(filter, tag),
            Fate::Notices => tag == b'N',
            Fate::Skip | Fate::Capture => false,
        };
        if shown {
            self.forward(message, front, sink);
        }
        if effect == Effect::Ends {
            if let Some((reply, _)) = front {
                self.note_parsed(reply);
            }
            self.queue.pop();
        }
        Ok(())
    }

    /// What an ErrorResponse does to what is owed.
    fn fail(&mut self, message: &[u8], front: Option<(Reply, Fate)>, answer: &mut Answer) {
        if std::mem::take(&mut self.doubts_sync) {
            self.queue.doubt_sync();
        }
        note_error(message, front, answer);
        if front.is_some_and(|(reply, _)| reply != Reply::Query) {
            for kept in self.queue.drop_until_sync() {
                self.prepared.put(kept, ());
            }
            if matches!(front, Some((Reply::Begin, _))) {
                self.taint(NOT_BEGUN);
                if self.queue.is_empty() {
                    self.sync();
                }
            }
        }
        answer.copy_in = false;
        // the Parse that was to replace it may be among what the server now ignores
        self.unnamed = None;
    }

    fn forward(&self, message: &[u8], front: Option<(Reply, Fate)>, sink: &mut BytesMut) {
        if let (b't', Some((Reply::DescribeStatement { hidden }, _))) = (message[0], front)
            && hidden > 0
        {
            let types = message::parameter_types(message).unwrap_or_default();
            build::parameter_description(sink, &types[..types.len().saturating_sub(hidden)]);
            return;
        }
        sink.extend_from_slice(message);
    }

    fn note_parameter(&mut self, message: &[u8]) {
        let Ok((name, value)) = message::parameter_status(message) else {
            return;
        };
        match self.parameters.iter_mut().find(|(n, _)| n == name) {
            Some(entry) => value.clone_into(&mut entry.1),
            None => self.parameters.push((name.to_owned(), value.to_owned())),
        }
        self.parameters_hash = parameters_hash(&self.parameters);
    }

    fn note_ready(&mut self, message: &[u8]) {
        self.status = match message.get(frame::HEADER) {
            Some(b'I') => Status::Idle,
            Some(b'T') => Status::Open,
            _ => Status::Failed,
        };
    }
}

/// Reported parameters that belong to the server, not to the session.
const SERVERS_OWN: [&str; 4] = [
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "in_hot_standby",
];

/// Whether a reported parameter follows the session from server to server.
#[must_use]
pub fn belongs_to_session(parameter: &str) -> bool {
    !SERVERS_OWN.contains(&parameter)
}

/// Of the session's own, in any order.
#[must_use]
pub fn parameters_hash(parameters: &[(String, String)]) -> u64 {
    let own = parameters
        .iter()
        .filter(|(name, _)| belongs_to_session(name));
    own.fold(0, |sum, (name, value)| {
        let seed = xxhash_rust::xxh3::xxh3_64(name.as_bytes());
        sum ^ xxhash_rust::xxh3::xxh3_64_with_seed(value.as_bytes(), seed)
    })
}

/// The name a statement has on every server.
#[must_use]
pub fn statement_name(id: u128) -> String {
    format!("pgshunt_{id:032x}")
}

/// What a message does that is shown as it is and needs no more than a note; None for all others. `whole`: nothing of the
/// answer is left out.
fn plain(reply: Reply, tag: u8, whole: bool) -> Option<Effect> {
    match (reply, tag) {
        (Reply::Query | Reply::Execute, b'D' | b'd') => Some(Effect::Within),
        (Reply::Query, b'T' | b'C') if whole => Some(Effect::Within),
        (Reply::Parse(_), b'1')
        | (Reply::Bind, b'2')
        | (Reply::DescribePortal, b'T' | b'n')
        | (Reply::Execute, b'C')
            if whole =>
        {
            Some(Effect::Ends)
        }
        _ => None,
    }
}

fn note_tag(message: &[u8], fate: Fate, filter: Filter, sink: &BytesMut, answer: &mut Answer) {
    let tag = message::command_tag(message);
    if fate != Fate::Forward {
        answer.own_rollback |= tag == "ROLLBACK";
        return;
    }
    if filter != Filter::All {
        answer.tag = Some(tag.to_owned());
    }
    note_end(message, sink.len(), answer);
}

/// A CommandComplete that stands there in the sink.
fn note_end(message: &[u8], offset: usize, answer: &mut Answer) {
    answer.rows += message::tag_rows(message::command_tag(message)).unwrap_or(0);
    answer.copy_in = false;
    answer.ended_at.get_or_insert(offset);
}

fn note_error(message: &[u8], front: Option<(Reply, Fate)>, answer: &mut Answer) {
    let slot = match front {
        None => &mut answer.last_words,
        Some((_, Fate::Forward)) => &mut answer.error,
        Some(_) => &mut answer.own_error,
    };
    slot.get_or_insert_with(|| Bytes::copy_from_slice(message));
}

fn shows(filter: Filter, tag: u8) -> bool {
    match filter {
        // ReadyForQuery is the session's own to say, and what has become of its parameters, which may live on several
        // servers; it listens elsewhere, and notifications that come here are for nobody
        Filter::All => !matches!(tag, b'Z' | b'S' | b'A'),
        Filter::First => !matches!(tag, b'Z' | b'S' | b'A' | b'C' | b'c'),
        Filter::Rest => matches!(tag, b'D' | b'd' | b'E' | b'N'),
        Filter::Errors => false,
    }
}
