//! The client's socket with its two buffers. What must not be shown yet is held back here.

use super::executor::CancelSlot;
use crate::net::Stream;
use crate::net::transfer::{Intake, Push, poll_write_all};
use crate::wire::build::{self, Severity};
use crate::wire::{frame, message};
use bytes::BytesMut;
use std::borrow::Cow;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

/// An output buffer that has grown beyond this is not kept.
const OUTPUT_KEPT: usize = 8 * 1024;
/// A result of which more than this has gone out is sent in full segments. Servers send in pieces of 8 KB; what is
/// smaller is the end of something.
const LARGE: u64 = 64 * 1024;
const PIECE: usize = 4 * 1024;
/// A result of which more than this has gone out is read in gulps.
const VERY_LARGE: u64 = 1024 * 1024;
/// How far a client may run ahead of its own requests before it is left unread.
const AHEAD_MAX: usize = 256 * 1024;
/// Output beyond this is sent before more is made.
pub const OUTPUT_MAX: usize = 256 * 1024;

pub struct Client {
    stream: Stream,
    intake: Intake,
    pub input: BytesMut,
    pub output: BytesMut,
    /// output from this offset on stays here until released
    hold: Option<usize>,
    /// the answer it is being sent goes on
    pub expects_more: bool,
    /// bytes of the longest message it may send
    message_max: u32,
    traffic: Traffic,
    /// what it is to be shown is kept for later
    keeping: Option<Box<Keeping>>,
    /// what is said of a statement that was cancelled because it took too long
    pub cancel: Option<Arc<CancelSlot>>,
}

/// Output that is not sent but kept.
struct Keeping {
    /// what was due before
    before: BytesMut,
    bytes: BytesMut,
    room: usize,
    overflown: bool,
}

impl Keeping {
    /// Beyond the room nothing is kept, and what came before it is of no use any more.
    fn take(&mut self, bytes: &[u8]) {
        self.overflown |= self.bytes.len() + bytes.len() > self.room;
        if !self.overflown {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// What was kept.
pub struct Kept {
    pub bytes: BytesMut,
    /// there was not room for all of it
    pub overflown: bool,
}

/// Bytes since they were last asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    pub bytes_in: u64,
    pub bytes_out: u64,
}

impl Client {
    #[must_use]
    pub fn new(stream: Stream, unread: BytesMut, message_max: usize) -> Self {
        Self {
            stream,
            intake: Intake::default(),
            input: unread,
            output: BytesMut::new(),
            hold: None,
            expects_more: false,
            // lengths on the wire have 31 bits
            message_max: u32::try_from(message_max).unwrap_or(u32::MAX),
            traffic: Traffic::default(),
            keeping: None,
            cancel: None,
        }
    }

    /// A server's error, where a verdict of ours was behind it in our words. None where that ends the connection: the last
    /// word says it.
    #[must_use]
    pub fn worded<'e>(&self, error: &'e [u8]) -> Option<Cow<'e, [u8]>> {
        let overrun = match message::error_field(error, b'C') {
            Some("57014") => self.cancel.as_ref().map(|cancel| &cancel.overrun),
            _ => None,
        };
        let Some((overrun, report)) = overrun.and_then(|o| Some((o, o.of_statement()?))) else {
            return Some(Cow::Borrowed(error));
        };
        if overrun.of_connection().is_some() {
            return None;
        }
        let mut ours = BytesMut::new();
        let hint = report.hint.as_deref();
        build::report(
            &mut ours,
            Severity::Error,
            report.code,
            &report.message,
            hint,
        );
        Some(Cow::Owned(ours.to_vec()))
    }

    /// Shows it a server's error.
    pub fn show_error(&mut self, error: &[u8]) {
        if let Some(error) = self.worded(error) {
            self.output.extend_from_slice(&error);
        }
    }

    /// The same for an error that stands at the end of what it is to be shown.
    pub fn word_last(&mut self, error: &[u8]) {
        let worded = self.worded(error);
        if !matches!(worded, Some(Cow::Borrowed(_))) && self.output.ends_with(error) {
            self.output.truncate(self.output.len() - error.len());
            self.output.extend_from_slice(&worded.unwrap_or_default());
        }
    }

    /// An error that stands at the end of what it is to be shown is not shown.
    pub fn take_back(&mut self, error: &[u8]) -> bool {
        let there = self.output.ends_with(error);
        if there {
            self.output.truncate(self.output.len() - error.len());
        }
        there
    }

    /// The error that was written last is about another place of the text.
    pub fn place_last(&mut self, error: &[u8], place: impl Fn(usize) -> usize) {
        if self.output.ends_with(error) {
            self.output.truncate(self.output.len() - error.len());
            build::error_elsewhere(&mut self.output, error, place);
        }
    }

    /// An error that was written since so many bytes were shown is about another place of the text. What has been sent already
    /// stays as it is.
    pub fn place_error_since(&mut self, shown: usize, place: impl Fn(usize) -> usize) {
        let sent = self.shown() - self.output.len();
        let Some(mut at) = shown.checked_sub(sent) else {
            return;
        };
        while let Some(header) = self.output.get(at..at + 5) {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            let end = at + 1 + usize::try_from(length).unwrap_or(usize::MAX / 2);
            if header[0] == b'E' && end == self.output.len() {
                let error = self.output.split_off(at);
                build::error_elsewhere(&mut self.output, &error, place);
                return;
            }
            at = end;
        }
    }

    /// Keeps everything written from now on.
    pub fn hold(&mut self) {
        self.hold_at(self.output.len());
    }

    /// Keeps everything from this offset of the output on.
    pub fn hold_at(&mut self, offset: usize) {
        self.hold.get_or_insert(offset);
    }

    /// Bytes it has been shown or will be, since they were last counted.
    #[must_use]
    pub fn shown(&self) -> usize {
        usize::try_from(self.traffic.bytes_out).unwrap_or(usize::MAX / 2) + self.output.len()
    }

    /// Something is held back, if only what is still to come.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.hold.is_some()
    }

    /// Bytes that are held back.
    #[must_use]
    pub fn held_back(&self) -> usize {
        self.hold.map_or(0, |offset| self.output.len() - offset)
    }

    /// What is held back.
    #[must_use]
    pub fn held(&self) -> &[u8] {
        self.hold.map_or(&[], |offset| &self.output[offset..])
    }

    /// Lets go of what was held.
    pub fn release(&mut self) {
        self.hold = None;
    }

    /// Throws away what was held: it was never seen.
    pub fn forget_held(&mut self) {
        if let Some(offset) = self.hold.take() {
            self.output.truncate(offset);
        }
    }

    /// From now on nothing is sent: as much as there is room for is kept, in the order in which it would have gone out.
    pub fn keep(&mut self, room: usize) {
        self.keeping = Some(Box::new(Keeping {
            before: std::mem::take(&mut self.output),
            bytes: BytesMut::new(),
            room,
            overflown: false,
        }));
    }

    /// Ends the keeping.
    pub fn take_kept(&mut self) -> Kept {
        let output = std::mem::take(&mut self.output);
        self.hold = None;
        let Some(mut keeping) = self.keeping.take() else {
            return Kept {
                bytes: output,
                overflown: false,
            };
        };
        keeping.take(&output);
        self.output = keeping.before;
        Kept {
            bytes: keeping.bytes,
            overflown: keeping.overflown,
        }
    }

    /// Ready when all that may be shown has been sent.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let before = self.output.len();
        let limit = self.hold.unwrap_or(before);
        if limit == 0 {
            return Poll::Ready(Ok(()));
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.take(&self.output.split_to(limit));
            self.hold = self.hold.map(|offset| offset - limit);
            return Poll::Ready(Ok(()));
        }
        let large = self.traffic.bytes_out > LARGE && limit >= PIECE;
        let push = if self.expects_more && large {
            Push::WithMore
        } else {
            Push::Now
        };
        let polled = poll_write_all(&mut self.stream, &mut self.output, limit, push, cx);
        let sent = before - self.output.len();
        self.traffic.bytes_out += sent as u64;
        self.hold = self.hold.map(|offset| offset - sent);
        if polled.is_pending() && self.poll_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }

    /// Its connection is to end: it is waited for no longer. Otherwise the task is woken when that comes.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> bool {
        let Some(cancel) = &self.cancel else {
            return false;
        };
        // first the bell, then the look
        cancel.bell.register(cx.waker());
        cancel.overrun.of_connection().is_some()
    }

    /// The result it is being sent is large, and goes on.
    #[must_use]
    pub fn runs_large(&self) -> bool {
        self.expects_more && self.traffic.bytes_out > VERY_LARGE
    }

    /// Reads once, unless the client is far enough ahead; Ok(0) is the end of the stream.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.input.len() > AHEAD_MAX {
            return Poll::Pending;
        }
        self.poll_fill_more(cx)
    }

    /// Reads once however far ahead the client is (it is in the middle of a message).
    pub fn poll_fill_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.intake.poll_read(&mut self.stream, &mut self.input, cx);
        if let Poll::Ready(Ok(n)) = polled {
            self.traffic.bytes_in += n as u64;
        }
        polled
    }

    /// The same for one that is waited for, in the middle of a message or of its data.
    pub fn poll_fill_or_end(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let polled = self.poll_fill_more(cx);
        if polled.is_pending() && self.poll_ended(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        polled
    }

    pub async fn send(&mut self) -> io::Result<()> {
        self.expects_more = false;
        let sent = poll_fn(|cx| self.poll_send(cx)).await;
        if self.output.is_empty() && self.output.capacity() > OUTPUT_KEPT {
            self.output = BytesMut::new();
        }
        sent
    }

    /// The tag of the next frame, if any of it has come in.
    #[must_use]
    pub fn next_tag(&self) -> Option<u8> {
        self.input.first().copied()
    }

    /// The next frame, once it has come in whole; until then there is room for the rest of it.
    pub fn take_frame(&mut self) -> Result<Option<BytesMut>, frame::FrameError> {
        let Some(head) = frame::header(&self.input, self.message_max as usize)? else {
            return Ok(None);
        };
        if self.input.len() >= head.len {
            return Ok(Some(self.input.split_to(head.len)));
        }
        let missing = head.len - self.input.len();
        self.input.reserve(missing.min(1 << 20));
        Ok(None)
    }

    /// Whole frames with this tag that have come in one behind the other: one, and more while they are no longer than `most`
    /// bytes together. Empty when the next one is another, or has not come in.
    pub fn take_run(&mut self, tag: u8, most: usize) -> BytesMut {
        let mut length = 0;
        while let Ok(Some(head)) = frame::header(&self.input[length..], self.message_max as usize) {
            let end = length + head.len;
            if head.tag != tag || end > self.input.len() || length > 0 && end > most {
                break;
            }
            length = end;
        }
        self.input.split_to(length)
    }

    /// Puts a message back in front of what was not read yet.
    pub fn give_back(&mut self, frame: &[u8]) {
        let rest = std::mem::replace(&mut self.input, BytesMut::from(frame));
        self.input.unsplit(rest);
    }

    /// The next whole frame, or None at the end of the stream. Output is sent before waiting.
    pub async fn next_frame(&mut self) -> Result<Option<BytesMut>, NextFrame> {
        loop {
            if let Some(frame) = self.take_frame()? {
                return Ok(Some(frame));
            }
            if !self.output.is_empty() {
                self.send().await?;
            }
            self.shed();
            if poll_fn(|cx| self.poll_fill_or_end(cx)).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// An idle client keeps no buffer.
    pub fn shed(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }

    /// Whether a whole frame has come in already.
    #[must_use]
    pub fn has_frame(&self) -> bool {
        matches!(frame::header(&self.input, usize::MAX), Ok(Some(head)) if self.input.len() >= head.len)
    }

    /// Bytes moved since the last call.
    pub fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// Gives the socket back, with what was read and not used.
    #[must_use]
    pub fn into_parts(self) -> (Stream, BytesMut) {
        (self.stream, self.input)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum NextFrame {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] frame::FrameError),
}
