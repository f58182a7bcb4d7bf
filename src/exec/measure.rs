//! What EXPLAIN (ANALYZE) learns of a run while it happens: rows, bytes and times of each shard. Nobody measures unless
//! someone asks for it; then what the client would have been sent is counted, and thrown away.

use super::merge::{Combiner, Step, Stream, Trouble};
use crate::shard::ShardId;
use crate::wire::frame;
use bytes::BytesMut;
use std::time::{Duration, Instant};

/// Rows among the bytes of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    pub rows: u64,
    /// of these rows, as messages
    pub bytes: u64,
    /// bytes still to come of a message that has begun
    missing: usize,
}

/// What has come from one shard; where tables are brought together, of one of them.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub shard: ShardId,
    /// number of the table, where tables are gathered
    pub table: Option<usize>,
    pub taken: Meter,
    /// until the last of it had come in
    pub time: Duration,
}

/// One run.
#[derive(Debug)]
pub struct Measured {
    began: Instant,
    pub parts: Vec<Part>,
    /// what would have gone to the client
    pub sent: Meter,
    /// spent on putting rows together
    pub combining: Duration,
    /// until all tables were in the scratch database
    pub filled: Duration,
    pub total: Duration,
}

impl Meter {
    #[must_use]
    pub fn of(rows: u64, bytes: u64) -> Self {
        Self {
            rows,
            bytes,
            missing: 0,
        }
    }

    /// These bytes follow on what came before.
    fn count(&mut self, mut bytes: &[u8]) {
        loop {
            let taken = self.missing.min(bytes.len());
            self.missing -= taken;
            bytes = &bytes[taken..];
            let Ok(Some(head)) = frame::header(bytes, usize::MAX) else {
                return;
            };
            if head.tag == b'D' {
                self.rows += 1;
                self.bytes += head.len as u64;
            }
            self.missing = head.len;
        }
    }
}

impl Measured {
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            began: now,
            parts: Vec::new(),
            sent: Meter::default(),
            combining: Duration::ZERO,
            filled: Duration::ZERO,
            total: Duration::ZERO,
        }
    }

    /// A run begins, perhaps not the first: a replica may have turned the one before away.
    pub fn begin(&mut self, shards: &[ShardId], now: Instant) {
        *self = Self::new(now);
        for shard in shards {
            self.note(*shard, None, Meter::default(), Duration::ZERO);
        }
    }

    pub fn note(&mut self, shard: ShardId, table: Option<usize>, taken: Meter, time: Duration) {
        self.parts.push(Part {
            shard,
            table,
            taken,
            time,
        });
    }

    /// What has come in of this part: whole messages, and beginnings of long ones.
    pub fn took(&mut self, part: usize, bytes: &[u8], now: Instant) {
        if let Some(part) = self.parts.get_mut(part)
            && !bytes.is_empty()
        {
            part.taken.count(bytes);
            part.time = now - self.began;
        }
    }

    /// A step of putting rows together; of what the client would get by it nothing is left.
    pub fn step(
        &mut self,
        combiner: &mut Combiner,
        streams: &mut [Stream],
        output: &mut BytesMut,
    ) -> Result<Step, Trouble> {
        let (from, began) = (output.len(), Instant::now());
        let step = combiner.step(streams, output, usize::MAX);
        self.combining += began.elapsed();
        self.sent.count(&output[from..]);
        output.truncate(from);
        step
    }

    /// One shard after another: this one is done.
    pub fn lap(&mut self, shard: ShardId, now: Instant) {
        let before: Duration = self.parts.iter().map(|part| part.time).sum();
        let time = (now - self.began).saturating_sub(before);
        self.note(shard, None, Meter::default(), time);
    }

    pub fn is_filled(&mut self, now: Instant) {
        self.filled = now - self.began;
    }

    pub fn end(&mut self, now: Instant) {
        self.total = now - self.began;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;

    #[test]
    fn rows_are_counted_however_they_come_in() {
        let mut bytes = BytesMut::new();
        build::text_columns(&mut bytes, &["a"]);
        let before = bytes.len();
        for row in ["one", "three", ""] {
            build::text_row(&mut bytes, &[row]);
        }
        let rows = bytes.len() - before;
        let now = Instant::now();
        // headers come in whole, bodies of long rows do not
        for cut in [bytes.len(), before + 7, before + 5] {
            let mut measured = Measured::new(now);
            measured.begin(&[ShardId(0)], now);
            measured.took(0, &bytes[..cut], now);
            measured.took(0, &bytes[cut..], now);
            let taken = measured.parts[0].taken;
            assert_eq!((taken.rows, taken.bytes), (3, rows as u64), "{cut}");
        }
    }
}
