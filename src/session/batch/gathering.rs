//! Messages of a batch that wait for their Sync, and what has been written since the last one.

use super::segments::Work;
use crate::route::Access;
use crate::session::cursors::Whose;
use crate::shard::ShardId;
use crate::sql::clock::Times;
use crate::vars::Vars;
use bytes::Bytes;

/// A batch larger than this is run as far as it has come, as if the client had sent a Flush.
pub(super) const GATHERED_MAX: u32 = 1 << 20;

/// So is one of several statements and more than this, before one server: an error among the first is heard before the client
/// has said all.
pub(super) const PIECE: u32 = 64 << 10;

/// Messages that wait for their Sync.
#[derive(Debug, Default)]
pub struct Gathering {
    pub(super) frames: Vec<Bytes>,
    pub(super) bytes: u32,
    pub(super) executes: u32,
    /// what came before has run although the client has sent neither Sync nor Flush
    pub(super) cut: bool,
    /// an error happened: everything up to the Sync is ignored
    pub(super) skipping: bool,
    /// settings as they were at the last Sync, to which an error returns
    pub(super) vars: Option<Vars>,
    /// where something was written since the last Sync, outside a transaction block
    pub(super) wrote: Wrote,
    /// the time that was put into statements since then
    pub(in crate::session) times: Option<Box<Times>>,
    /// cursors declared or closed since then
    pub(in crate::session) declared: Vec<(String, Whose)>,
}

/// Where something was written between two Syncs: all of it is one transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Wrote {
    #[default]
    Nothing,
    On(ShardId),
    /// on every shard, and committed there
    Everywhere,
}

impl Wrote {
    /// None when this work would have to be one transaction with what was written elsewhere.
    pub(super) fn then(self, work: &Work) -> Option<Self> {
        let shard = work.shard();
        match (self, work.job.access) {
            (Self::Everywhere, _) => None,
            (Self::Nothing, Access::Read) => Some(self),
            (Self::Nothing, Access::Write) => Some(shard.map_or(Self::Everywhere, Self::On)),
            // a read of one shard may fail: then the write, which is not committed yet, is undone
            (Self::On(_), Access::Read) => shard.map(|_| self),
            (Self::On(its), Access::Write) => (shard == Some(its)).then_some(self),
        }
    }
}

impl Gathering {
    /// False when so much has come together that it is to run.
    pub(super) fn take(&mut self, frame: Bytes) -> bool {
        if !self.skipping {
            let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
            self.bytes = self.bytes.saturating_add(bytes);
            self.executes += u32::from(frame[0] == b'E');
            self.frames.push(frame);
        }
        self.bytes <= GATHERED_MAX
    }

    /// It ends with an Execute, not the first, and is long.
    pub(super) fn is_piece(&self) -> bool {
        let ended = self.frames.last().is_some_and(|frame| frame[0] == b'E');
        ended && self.executes > 1 && self.bytes > PIECE
    }

    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && !self.skipping
    }

    /// There is something to run.
    pub fn waits(&self) -> bool {
        !self.frames.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tag: u8, length: u32) -> Bytes {
        let mut frame = vec![0; length as usize];
        frame[0] = tag;
        frame.into()
    }

    /// A single statement is no pipeline, however long it is, and nothing is cut off before its Execute.
    #[test]
    fn a_piece_ends_with_the_execute_of_a_later_statement() {
        let mut gathering = Gathering::default();
        for (tag, length, piece) in [
            (b'P', 100, false),
            (b'B', PIECE, false),
            (b'E', 10, false),
            (b'B', 100, false),
            (b'E', 10, true),
        ] {
            assert!(gathering.take(frame(tag, length)));
            assert_eq!(gathering.is_piece(), piece, "{}", char::from(tag));
        }
    }
}
