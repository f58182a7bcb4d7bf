//! The streaming operator: frames of several shards in, frames for the client out. It holds one row's key a shard, and
//! more only where the order is lost: rows seen (DISTINCT), groups. Both are bounded.

use super::groups::{Column, Groups};
use super::key::row_key;
use super::row::{Formats, Row, put_columns, put_description, put_row};
use super::{Run, Trouble};
use crate::wire::frame;
use bytes::{Buf, BytesMut};
use std::collections::HashSet;
use std::sync::Arc;

/// A row of which so much has come in, and not all, is passed on in pieces where its bytes are not looked at.
const LONG: usize = 16 * 1024;

/// What one shard has sent and nobody has taken yet.
#[derive(Debug, Default)]
pub struct Stream {
    pub buffer: BytesMut,
    /// nothing more will come
    pub ended: bool,
}

impl Stream {
    /// A whole row has come in.
    #[must_use]
    pub fn has_row(&self) -> bool {
        let mut rest = &self.buffer[..];
        while let Ok(Some(head)) = frame::header(rest, usize::MAX) {
            if rest.len() < head.len {
                return false;
            }
            if head.tag == b'D' {
                return true;
            }
            rest = &rest[head.len..];
        }
        false
    }
}

/// How things stand after what had come in was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// these streams, at least, have to say more
    Wants,
    /// the client has to take some of the output first
    Full,
    /// as many rows are out as were wanted for now
    Paused,
    /// all rows are out; streams that have not ended are no longer needed
    Done,
}

/// The next row of a stream.
#[derive(Debug, Default)]
struct Head {
    /// length of its frame at the start of the stream's buffer; 0: not there yet
    len: usize,
    ended: bool,
    key: Vec<u8>,
    /// messages before its rows that were taken, and those that the first stream has not said yet
    asides: usize,
    unsaid: BytesMut,
}

pub struct Combiner {
    run: Arc<Run>,
    heads: Vec<Head>,
    /// streams with a row, the next last
    ready: Vec<usize>,
    /// streams whose next row is not known
    open: Vec<usize>,
    seen: HashSet<Box<[u8]>, foldhash::fast::RandomState>,
    seen_bytes: usize,
    memory_max: usize,
    skipped: u64,
    /// rows sent on
    pub rows: u64,
    /// so many are wanted for now
    until: u64,
    /// messages before the first stream's rows that are out
    asides: usize,
    /// the next RowDescription is that of a statement as the client wrote it
    described: bool,
    /// nothing is looked at, rows go on in runs
    plain: bool,
    /// bytes of a long row that are still to come
    passing: usize,
    groups: Option<Box<Groups>>,
    /// finished groups, the next first
    finished: Option<std::vec::IntoIter<Vec<Column>>>,
}

impl Combiner {
    #[must_use]
    pub fn new(run: Arc<Run>, streams: usize, memory_max: usize) -> Self {
        let groups = run.made.groups.is_some();
        Self {
            plain: run.made.is_plain() && run.limit.is_none() && run.offset == 0,
            passing: 0,
            groups: groups.then(|| Box::new(Groups::new(run.clone(), memory_max))),
            finished: None,
            run,
            heads: (0..streams).map(|_| Head::default()).collect(),
            ready: Vec::with_capacity(streams),
            // the first is looked at first: what stands before its rows goes out before any row
            open: (0..streams).rev().collect(),
            seen: HashSet::default(),
            seen_bytes: 0,
            memory_max,
            skipped: 0,
            rows: 0,
            until: u64::MAX,
            asides: 0,
            described: false,
        }
    }

    /// From now on it stops after so many rows more; None: at the end.
    pub fn pause_after(&mut self, rows: Option<u64>) {
        self.plain = false;
        self.until = rows.map_or(u64::MAX, |rows| self.rows.saturating_add(rows));
    }

    /// Rows that are still wanted, with those that are passed over; None: all there are.
    #[must_use]
    pub fn wanted(&self) -> Option<u64> {
        let groups = self.run.made.groups.is_some();
        let passed_over = self.run.offset - self.skipped.min(self.run.offset);
        let wanted = self.until.saturating_sub(self.rows);
        (self.until != u64::MAX && !groups).then(|| wanted.saturating_add(passed_over))
    }

    /// Columns at the end of rows that do not go out.
    #[must_use]
    pub fn hidden(&self) -> usize {
        self.run.made.hidden
    }

    /// What is kept of rows that have been taken: those of groups and of a DISTINCT.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        let groups = self.groups.as_ref().map_or(0, |groups| groups.bytes());
        let finished = self.finished.as_ref().map_or(0, |groups| {
            let columns = groups.as_slice().iter().flatten().flatten();
            columns.map(|column| column.len()).sum()
        });
        self.seen_bytes + groups + finished
    }

    /// Rows come in these formats from now on. False when rows of other formats have been looked at already.
    pub fn set_formats(&mut self, formats: &Formats) -> bool {
        if self.run.formats == *formats {
            return true;
        }
        let looked = self.rows > 0 || self.skipped > 0;
        let compares = self.run.made.groups.is_some() || self.run.made.distinct;
        if compares && (looked || self.kept_bytes() > 0)
            || self.heads.iter().any(|head| head.len > 0)
        {
            return false;
        }
        let run = Run {
            formats: formats.clone(),
            ..(*self.run).clone()
        };
        self.run = Arc::new(run);
        if let Some(groups) = &mut self.groups {
            **groups = Groups::new(self.run.clone(), self.memory_max);
        }
        true
    }

    /// Does it wait for this one of the streams to say more?
    #[must_use]
    pub fn needs(&self, at: usize, stream: &Stream) -> bool {
        let made = &self.run.made;
        let open = if made.order.is_empty() && made.groups.is_none() {
            // one after the other
            self.open.last() == Some(&at)
        } else {
            self.open.contains(&at)
        };
        open && !stream.has_row()
    }

    /// Uses what has come in, as long as `out` has less than `room` bytes.
    pub fn step(
        &mut self,
        streams: &mut [Stream],
        out: &mut BytesMut,
        room: usize,
    ) -> Result<Step, Trouble> {
        if self.run.made.groups.is_some() {
            return self.step_groups(streams, out, room);
        }
        if self.plain {
            return self.step_plain(streams, out, room);
        }
        let limit = self.run.limit.unwrap_or(u64::MAX);
        loop {
            // what stands before the first rows goes out in any case
            let looked = self.rows > 0;
            if self.rows >= self.until {
                return Ok(Step::Paused);
            }
            if looked && self.rows >= limit {
                return Ok(Step::Done);
            }
            if !self.look(streams, out)? {
                return Ok(Step::Wants);
            }
            if self.rows >= limit {
                return Ok(Step::Done);
            }
            if out.len() >= room {
                return Ok(Step::Full);
            }
            let Some(&next) = self.ready.last() else {
                return Ok(Step::Done);
            };
            self.pass(next, &mut streams[next], out)?;
        }
    }

    /// Finds the next row of every stream that has to be known; false when more must come in first.
    fn look(&mut self, streams: &mut [Stream], out: &mut BytesMut) -> Result<bool, Trouble> {
        let merges = !self.run.made.order.is_empty();
        while let Some(&at) = self.open.last() {
            self.find(at, &mut streams[at], out)?;
            let head = &self.heads[at];
            if head.len == 0 && !head.ended {
                return Ok(false);
            }
            self.open.pop();
            if !head.ended {
                self.place(at);
            }
            if !merges && !self.ready.is_empty() {
                break;
            }
        }
        Ok(true)
    }

    /// Puts a stream where its row's key belongs; equal keys go by the number of their stream.
    fn place(&mut self, at: usize) {
        let heads = &self.heads;
        let mine = (&heads[at].key, at);
        let place = self
            .ready
            .partition_point(|&other| (&heads[other].key, other) > mine);
        self.ready.insert(place, at);
    }

    /// Takes what stands before the next row: messages of the first stream, notices of all.
    fn find(&mut self, at: usize, stream: &mut Stream, out: &mut BytesMut) -> Result<(), Trouble> {
        loop {
            let head = match frame::header(&stream.buffer, usize::MAX) {
                Ok(Some(head)) if stream.buffer.len() >= head.len => head,
                Ok(_) => {
                    self.heads[at].len = 0;
                    self.heads[at].ended = stream.ended && stream.buffer.is_empty();
                    return Ok(());
                }
                Err(_) => return Err(Trouble::Unreadable),
            };
            if head.tag == b'D' {
                return self.read(at, head.len, &stream.buffer[..head.len]);
            }
            let message = stream.buffer.split_to(head.len);
            match head.tag {
                // told by whoever reads the streams
                b'E' => {}
                b'N' => out.extend_from_slice(&message),
                _ => {
                    self.heads[at].asides += 1;
                    if self.heads[at].asides <= self.asides {
                        continue;
                    }
                    if at == 0 {
                        self.put_aside(&message, out)?;
                    } else {
                        self.heads[at].unsaid.extend_from_slice(&message);
                    }
                }
            }
        }
    }

    /// A message before the rows, which the client has not seen from any stream yet.
    fn put_aside(&mut self, message: &[u8], out: &mut BytesMut) -> Result<(), Trouble> {
        self.asides += 1;
        let described = std::mem::replace(&mut self.described, message[0] == b't');
        if message[0] == b'T' && !described {
            return put_description(out, message, self.run.made.hidden);
        }
        out.extend_from_slice(message);
        Ok(())
    }

    /// This stream has failed: what it had said before its rows is said, where no other has.
    pub fn put_before_error(
        &mut self,
        at: usize,
        stream: &Stream,
        out: &mut BytesMut,
    ) -> Result<(), Trouble> {
        let unsaid = std::mem::take(&mut self.heads[at].unsaid);
        let mut number = self.heads[at].asides - count_frames(&unsaid);
        for bytes in [&unsaid[..], &stream.buffer[..]] {
            let mut rest = bytes;
            while let Ok(Some(head)) = frame::header(rest, usize::MAX) {
                if matches!(head.tag, b'D' | b'E') || rest.len() < head.len {
                    break;
                }
                let (message, behind) = rest.split_at(head.len);
                rest = behind;
                if head.tag == b'N' {
                    continue;
                }
                number += 1;
                if number > self.asides {
                    self.put_aside(message, out)?;
                }
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, len: usize, frame: &[u8]) -> Result<(), Trouble> {
        let head = &mut self.heads[at];
        head.len = len;
        let made = &self.run.made;
        if !made.order.is_empty() && made.groups.is_none() {
            let row = Row::read(frame)?;
            row_key(
                &row,
                &made.order,
                made.hidden,
                &self.run.formats,
                &mut head.key,
            )?;
        }
        Ok(())
    }

    /// The next row of all: sent on, or not.
    fn pass(&mut self, at: usize, stream: &mut Stream, out: &mut BytesMut) -> Result<(), Trouble> {
        let len = std::mem::take(&mut self.heads[at].len);
        let frame = &stream.buffer[..len];
        if !self.run.made.distinct || self.is_new(frame)? {
            if self.skipped < self.run.offset {
                self.skipped += 1;
            } else {
                put_row(out, frame, self.run.made.hidden)?;
                self.rows += 1;
            }
        }
        stream.buffer.advance(len);
        self.ready.pop();
        self.open.push(at);
        Ok(())
    }

    /// One stream after the other, whole runs of rows at a time.
    fn step_plain(
        &mut self,
        streams: &mut [Stream],
        out: &mut BytesMut,
        room: usize,
    ) -> Result<Step, Trouble> {
        while let Some(&at) = self.open.last() {
            let stream = &mut streams[at];
            if self.passing == 0 {
                self.find(at, stream, out)?;
                if self.heads[at].ended {
                    self.open.pop();
                    continue;
                }
            }
            let end = self.run_of_rows(&stream.buffer);
            if end == 0 {
                return Ok(Step::Wants);
            }
            out.extend_from_slice(&stream.buffer[..end]);
            stream.buffer.advance(end);
            if out.len() >= room {
                return Ok(Step::Full);
            }
        }
        Ok(Step::Done)
    }

    /// Bytes at the start that are rows; of a long one as much as is there.
    fn run_of_rows(&mut self, buffer: &[u8]) -> usize {
        let mut end = self.passing.min(buffer.len());
        self.passing -= end;
        while self.passing == 0 {
            let Ok(Some(head)) = frame::header(&buffer[end..], usize::MAX) else {
                break;
            };
            let there = buffer.len() - end;
            if head.tag != b'D' || there < head.len && there < LONG {
                break;
            }
            self.rows += 1;
            end += head.len.min(there);
            self.passing = head.len.saturating_sub(there);
        }
        end
    }

    /// All partial results are taken before the first group goes out.
    fn step_groups(
        &mut self,
        streams: &mut [Stream],
        out: &mut BytesMut,
        room: usize,
    ) -> Result<Step, Trouble> {
        let mut open = std::mem::take(&mut self.open);
        for at in open.clone() {
            self.drain(at, &mut streams[at], out)?;
        }
        open.retain(|at| !self.heads[*at].ended);
        self.open = open;
        if !self.open.is_empty() {
            return Ok(Step::Wants);
        }
        if let Some(groups) = self.groups.take() {
            self.finished = Some(groups.finish()?.into_iter());
        }
        let limit = self.run.limit.unwrap_or(u64::MAX);
        while self.rows < limit {
            if self.rows >= self.until {
                return Ok(Step::Paused);
            }
            let Some(columns) = self.finished.as_mut().and_then(Iterator::next) else {
                break;
            };
            if self.skipped < self.run.offset {
                self.skipped += 1;
                continue;
            }
            put_columns(out, columns.iter().map(Option::as_deref));
            self.rows += 1;
            if out.len() >= room {
                return Ok(Step::Full);
            }
        }
        Ok(Step::Done)
    }

    /// Takes every row of a stream that has come in.
    fn drain(&mut self, at: usize, stream: &mut Stream, out: &mut BytesMut) -> Result<(), Trouble> {
        loop {
            self.find(at, stream, out)?;
            let len = self.heads[at].len;
            if len == 0 {
                return Ok(());
            }
            if let Some(groups) = &mut self.groups {
                groups.take(&stream.buffer[..len])?;
            }
            stream.buffer.advance(len);
        }
    }

    fn is_new(&mut self, frame: &[u8]) -> Result<bool, Trouble> {
        // of an entry besides its bytes, about
        const ENTRY: usize = 32;
        if self.seen.contains(frame) {
            return Ok(false);
        }
        self.seen_bytes += frame.len() + ENTRY;
        if self.seen_bytes > self.memory_max {
            return Err(Trouble::TooMuch(self.memory_max));
        }
        self.seen.insert(frame.into());
        Ok(true)
    }
}

fn count_frames(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(head)) = frame::header(bytes, usize::MAX) {
        bytes = bytes.get(head.len..).unwrap_or_default();
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::merge::Formats;
    use crate::route::Combination;
    use crate::route::combine::{Place, Reading, SortKey, Source};
    use crate::wire::build;

    fn run(made: Combination, limit: Option<u64>, offset: u64) -> Arc<Run> {
        Arc::new(Run {
            made: Arc::new(made),
            formats: Formats::AllText,
            limit,
            offset,
            unedited: None,
        })
    }

    fn by_first(hidden: usize) -> Combination {
        Combination {
            order: vec![SortKey {
                value: Source {
                    place: Place::Visible(0),
                    reading: Reading::Integer,
                },
                descending: false,
                nulls_first: false,
            }],
            hidden,
            ..Combination::default()
        }
    }

    fn stream(rows: &[&[&str]], ended: bool) -> Stream {
        let mut stream = Stream {
            ended,
            ..Stream::default()
        };
        for row in rows {
            build::text_row(&mut stream.buffer, row);
        }
        stream
    }

    fn rows(mut out: &[u8]) -> Vec<String> {
        let mut rows = Vec::new();
        while let Ok(Some(head)) = frame::header(out, usize::MAX) {
            let row = Row::read(&out[..head.len]).unwrap();
            let columns = row.columns.iter();
            let text = columns.map(|c| c.map_or("-", |c| std::str::from_utf8(c).unwrap()));
            rows.push(text.collect::<Vec<_>>().join(","));
            out = &out[head.len..];
        }
        rows
    }

    fn all(run: Arc<Run>, mut streams: Vec<Stream>) -> (Step, Vec<String>) {
        let mut out = BytesMut::new();
        let mut combiner = Combiner::new(run, streams.len(), 1 << 20);
        let step = combiner.step(&mut streams, &mut out, usize::MAX).unwrap();
        (step, rows(&out))
    }

    #[test]
    fn rows_come_in_order_and_hidden_columns_do_not_come() {
        let streams = vec![
            stream(&[&["1", "a"], &["10", "b"]], true),
            stream(&[&["2", "c"], &["9", "d"], &["11", "e"]], true),
            stream(&[], true),
        ];
        let (step, rows) = all(run(by_first(1), None, 0), streams);
        assert_eq!(step, Step::Done);
        assert_eq!(rows, ["1", "2", "9", "10", "11"]);
    }

    #[test]
    fn nothing_goes_out_before_every_stream_has_spoken() {
        let mut streams = vec![stream(&[&["1"], &["3"]], true), stream(&[], false)];
        let mut out = BytesMut::new();
        let mut combiner = Combiner::new(run(by_first(0), None, 0), 2, 1 << 20);
        assert_eq!(combiner.step(&mut streams, &mut out, 9999), Ok(Step::Wants));
        assert!(out.is_empty() && combiner.needs(1, &streams[1]));
        // its row is there, whether it was looked at or not
        assert!(!combiner.needs(0, &streams[0]));
        build::text_row(&mut streams[1].buffer, &["2"]);
        assert_eq!(combiner.step(&mut streams, &mut out, 9999), Ok(Step::Wants));
        assert_eq!(rows(&out), ["1", "2"]);
        streams[1].ended = true;
        assert_eq!(combiner.step(&mut streams, &mut out, 9999), Ok(Step::Done));
        assert_eq!(rows(&out), ["1", "2", "3"]);
    }

    #[test]
    fn a_stream_with_a_row_is_not_asked_for_more_while_an_earlier_one_is_silent() {
        let mut streams = vec![stream(&[], false), stream(&[&["1"]], false)];
        let mut out = BytesMut::new();
        let mut combiner = Combiner::new(run(by_first(0), None, 0), 2, 1 << 20);
        assert_eq!(combiner.step(&mut streams, &mut out, 9999), Ok(Step::Wants));
        let needs = |at: usize| combiner.needs(at, &streams[at]);
        assert_eq!((needs(0), needs(1)), (true, false));
    }

    #[test]
    fn limit_and_offset_count_rows_of_all_shards() {
        let streams = || {
            vec![
                stream(&[&["1"], &["3"], &["5"]], false),
                stream(&[&["2"], &["4"], &["6"]], false),
            ]
        };
        let (step, rows) = all(run(by_first(0), Some(2), 1), streams());
        assert_eq!((step, rows), (Step::Done, vec!["2".into(), "3".into()]));
        let plain = Combination::default();
        let (step, rows) = all(run(plain, Some(4), 1), streams());
        assert_eq!((step, rows.len()), (Step::Wants, 2));
        let (step, rows) = all(run(by_first(0), Some(0), 0), streams());
        assert_eq!((step, rows.len()), (Step::Done, 0));
    }

    #[test]
    fn rows_that_are_not_looked_at_go_on_in_runs_and_pieces() {
        let long = "x".repeat(50_000);
        let mut first = stream(&[&["1"], &[&long], &["3"]], false);
        let rest = first.buffer.split_off(30_000);
        let mut streams = vec![first, stream(&[&["4"]], true)];
        let mut combiner = Combiner::new(run(Combination::default(), None, 0), 2, 1 << 20);
        let mut out = BytesMut::new();
        assert_eq!(
            combiner.step(&mut streams, &mut out, usize::MAX),
            Ok(Step::Wants)
        );
        assert_eq!((out.len(), combiner.rows), (30_000, 2));
        streams[0].buffer.unsplit(rest);
        streams[0].ended = true;
        assert_eq!(
            combiner.step(&mut streams, &mut out, usize::MAX),
            Ok(Step::Done)
        );
        assert_eq!(rows(&out), ["1", &long, "3", "4"]);
    }

    #[test]
    fn equal_rows_are_one_and_memory_is_bounded() {
        let made = Combination {
            distinct: true,
            ..Combination::default()
        };
        let streams = || {
            vec![
                stream(&[&["a"], &["b"]], true),
                stream(&[&["b"], &["c"]], true),
            ]
        };
        let (_, found) = all(run(made.clone(), None, 0), streams());
        assert_eq!(found, ["a", "b", "c"]);
        let mut combiner = Combiner::new(run(made, None, 0), 2, 60);
        let step = combiner.step(&mut streams(), &mut BytesMut::new(), 9999);
        assert_eq!(step, Err(Trouble::TooMuch(60)));
    }
}
