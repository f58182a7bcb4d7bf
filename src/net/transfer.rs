//! Bytes between a socket and the buffers of its owner: no more room than is needed, none at all while nothing comes.

use super::stream::Stream;
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Room for a read where nothing is known yet: most messages are small.
const ROOM_MIN: usize = 1024;
/// Room where read after read came in full.
const ROOM_MAX: usize = 64 * 1024;

/// The reading side of a connection.
#[derive(Debug)]
pub struct Intake {
    /// bytes made room for before the next read
    room: usize,
    /// the last read found less than is worth waking up for, where much is to come
    found_little: bool,
}

impl Default for Intake {
    fn default() -> Self {
        Self {
            room: ROOM_MIN,
            found_little: false,
        }
    }
}

impl Intake {
    /// One read to the end of `input`; Ok(0) is the end of the stream. No memory is taken before something is there.
    pub fn poll_read(
        &mut self,
        stream: &mut Stream,
        input: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(stream.poll_readable(cx))?;
        if input.capacity() - input.len() < self.room / 2 {
            input.reserve(self.room);
        }
        let room = input.capacity() - input.len();
        let polled = tokio_util::io::poll_read_buf(Pin::new(stream), cx, input);
        if let Poll::Ready(Ok(n)) = polled {
            self.adapt(n, room);
        } else if input.is_empty() {
            *input = BytesMut::new();
        }
        polled
    }

    #[must_use]
    pub fn found_little(&self) -> bool {
        self.found_little
    }

    fn adapt(&mut self, read: usize, room: usize) {
        self.found_little = read < ROOM_MAX / 2;
        if read == room {
            self.room = (self.room * 4).min(ROOM_MAX);
        } else if read < self.room / 4 {
            self.room = (self.room / 2).max(ROOM_MIN);
        }
    }
}

/// When written bytes are to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    Now,
    /// more is on its way: the kernel may keep the rest of a segment for it, for a fifth of a second at most
    WithMore,
}

/// Writes the first `limit` bytes of `output`; Ready when they are gone.
pub fn poll_write_all(
    stream: &mut Stream,
    output: &mut BytesMut,
    limit: usize,
    push: Push,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut left = limit.min(output.len());
    while left > 0 {
        let bytes = &output[..left];
        let written = ready!(match push {
            Push::Now => Pin::new(&mut *stream).poll_write(cx, bytes),
            Push::WithMore => stream.poll_write_more(cx, bytes),
        })?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        output.advance(written);
        left -= written;
    }
    // TLS keeps bytes of its own until flushed
    Pin::new(stream).poll_flush(cx)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_grows_with_full_reads_and_shrinks_with_small_ones() {
        let mut intake = Intake::default();
        for _ in 0..9 {
            intake.adapt(intake.room, intake.room);
        }
        assert_eq!(intake.room, ROOM_MAX);
        intake.adapt(ROOM_MAX / 2, ROOM_MAX);
        assert_eq!(intake.room, ROOM_MAX);
        for _ in 0..9 {
            intake.adapt(100, intake.room);
        }
        assert_eq!(intake.room, ROOM_MIN);
    }
}
