//! Cursors by SQL, by name: those on one server, and those over several shards, whose rows come as they are fetched or, where
//! a cursor goes back or outlives its transaction, have all been read. FETCH and MOVE go about in them as PostgreSQL's do.

use super::flowing::Flow;
use super::gather::Parked;
use super::merge::Formats;
use crate::shard::ShardId;
use crate::wire::frame;
use bytes::Bytes;
use std::sync::Arc;

/// The most cursors of one session that are known here.
pub const CURSORS_MAX: usize = 1_000;

#[derive(Debug)]
pub struct Cursor {
    pub name: String,
    /// savepoints there were when it was declared
    pub savepoints: usize,
    /// WITH HOLD: it stays when its transaction commits
    pub holds: bool,
    pub place: Place,
}

/// Where its rows are.
#[derive(Debug)]
pub enum Place {
    /// it is this shard's own
    Server(ShardId),
    /// all are here
    Kept(Kept),
    /// the shards give them as they are asked
    Flowing(Flowing),
    /// a scratch database does
    Parked(Box<Parked>),
    /// nothing can be done with it: it has failed
    Over,
}

/// The cursors of a transaction. They are nobody else's: a copy of what is known of the transaction has none.
#[derive(Debug, Default)]
pub struct Cursors(pub Vec<Cursor>);

impl Clone for Cursors {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Cursors {
    /// Those that outlive a transaction, in the order of their declaration.
    #[must_use]
    pub fn take_holding(&mut self) -> Vec<Cursor> {
        let all = std::mem::take(&mut self.0);
        let (holding, others) = all.into_iter().partition(|cursor| cursor.holds);
        self.0 = others;
        holding
    }
}

impl Cursor {
    /// What it keeps in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match &self.place {
            Place::Kept(kept) => kept.bytes(),
            Place::Flowing(flowing) => flowing.flow.bytes(),
            Place::Server(_) | Place::Parked(_) | Place::Over => 0,
        }
    }

    /// What its rows look like, in the formats it was declared with; empty where only a server knows.
    #[must_use]
    pub fn description(&self) -> Bytes {
        match &self.place {
            Place::Kept(kept) => kept.description(),
            Place::Flowing(flowing) => flowing.description.clone(),
            Place::Server(_) | Place::Parked(_) | Place::Over => Bytes::new(),
        }
    }
}

/// All rows of a cursor.
#[derive(Debug)]
pub struct Kept {
    /// the RowDescription
    description: Bytes,
    pub formats: Formats,
    rows: Bytes,
    /// where each row ends
    ends: Arc<[usize]>,
    /// SCROLL, NO SCROLL, or nothing was said
    scroll: Option<bool>,
    /// 0: before the first row; one more than there are rows: after the last
    at: usize,
}

/// A cursor that goes forward only.
#[derive(Debug)]
pub struct Flowing {
    pub description: Bytes,
    pub flow: Box<Flow>,
    /// BINARY: what simple queries fetch
    pub formats: Formats,
    /// NO SCROLL was said
    pub forward_only: bool,
    /// rows gone over, and whether more were wanted than there were
    at: u64,
    past: bool,
}

/// How a cursor that goes forward gets where FETCH or MOVE goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// rows to pass over first
    pub over: u64,
    /// then these; None: all there are
    pub rows: Option<u64>,
}

impl Flowing {
    #[must_use]
    pub fn new(description: Bytes, flow: Flow, formats: Formats, forward_only: bool) -> Self {
        Self {
            description,
            flow: Box::new(flow),
            formats,
            forward_only,
            at: 0,
            past: false,
        }
    }

    /// The steps that PostgreSQL takes: what begins with a step back, a rewind included, is for cursors that can.
    pub fn ahead(&self, direction: Direction) -> Result<Option<Ahead>, Stuck> {
        let back = if self.forward_only {
            Stuck::ForwardOnly
        } else {
            Stuck::Unsaid
        };
        let at_start = self.at == 0 && !self.past;
        let then = |over: u64, rows: u64| {
            let rows = Some(rows);
            Ok(Some(Ahead { over, rows }))
        };
        match direction {
            Direction::Forward(0) | Direction::Relative(0) if self.on_a_row() => Err(back),
            Direction::Forward(0) | Direction::Relative(0) => Ok(None),
            Direction::Forward(rows) if rows > 0 => then(0, rows.unsigned_abs()),
            Direction::Relative(rows) if rows > 0 => then(rows.unsigned_abs() - 1, 1),
            Direction::ForwardAll => Ok(Some(Ahead {
                over: 0,
                rows: None,
            })),
            Direction::Absolute(0) if at_start => Ok(None),
            Direction::Absolute(row) if row > 0 => {
                let row = row.unsigned_abs();
                if row - 1 <= self.at / 2 {
                    return if at_start {
                        then(row - 1, 1)
                    } else {
                        Err(back)
                    };
                }
                let next = self.at + u64::from(self.past) + 1;
                match row.checked_sub(next) {
                    Some(over) => then(over, 1),
                    None => Err(back),
                }
            }
            _ => Err(back),
        }
    }

    #[must_use]
    pub fn on_a_row(&self) -> bool {
        self.at > 0 && !self.past
    }

    /// So many of the rows wanted were there.
    pub fn went(&mut self, wanted: Option<u64>, rows: u64) {
        self.at += rows;
        self.past |= wanted.is_none_or(|wanted| rows < wanted);
    }
}

/// Where FETCH or MOVE goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// so many rows; backward when negative, none: the row it is on
    Forward(i64),
    ForwardAll,
    BackwardAll,
    Absolute(i64),
    Relative(i64),
}

impl Direction {
    /// The row it is on.
    #[must_use]
    pub fn stays(self) -> bool {
        matches!(self, Self::Forward(0) | Self::Relative(0))
    }
}

/// Why a cursor cannot go there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stuck {
    ForwardOnly,
    /// PostgreSQL could, depending on its plan
    Unsaid,
}

/// Rows that were gone over, in the order in which they are shown: each a part of `rows`.
pub struct Gone {
    pub count: usize,
    backward: bool,
    from: usize,
}

impl Kept {
    #[must_use]
    pub fn new(description: Bytes, formats: Formats, rows: Bytes, scroll: Option<bool>) -> Self {
        let mut ends = Vec::new();
        let mut end = 0;
        while let Ok(Some(head)) = frame::header(&rows[end..], usize::MAX) {
            end += head.len.min(rows.len() - end);
            ends.push(end);
        }
        Self {
            description,
            formats,
            rows,
            ends: ends.into(),
            scroll,
            at: 0,
        }
    }

    #[must_use]
    pub fn description(&self) -> Bytes {
        self.description.clone()
    }

    fn bytes(&self) -> usize {
        self.rows.len() + self.ends.len() * size_of::<usize>()
    }

    /// Goes there. What it went over is shown by FETCH and counted by MOVE.
    pub fn go(&mut self, direction: Direction) -> Result<Gone, Stuck> {
        self.may_go(direction)?;
        let past = self.ends.len() + 1;
        Ok(match direction {
            Direction::Forward(0) | Direction::Relative(0) => self.land(self.at),
            Direction::Forward(rows) if rows > 0 => self.forward(amount(rows)),
            Direction::Forward(rows) => self.backward(amount(rows)),
            Direction::ForwardAll => self.forward(usize::MAX),
            Direction::BackwardAll => self.backward(usize::MAX),
            Direction::Absolute(row) if row >= 0 => self.land(amount(row).min(past)),
            Direction::Absolute(row) => self.land(past.saturating_sub(amount(row))),
            Direction::Relative(rows) if rows > 0 => {
                self.land(self.at.saturating_add(amount(rows)).min(past))
            }
            Direction::Relative(rows) => self.land(self.at.saturating_sub(amount(rows))),
        })
    }

    /// Only forward is certain where nobody said SCROLL.
    fn may_go(&self, direction: Direction) -> Result<(), Stuck> {
        let forward = matches!(direction, Direction::ForwardAll)
            || matches!(direction, Direction::Forward(rows) | Direction::Relative(rows) if rows > 0);
        let backward = matches!(direction, Direction::BackwardAll)
            || matches!(direction, Direction::Forward(rows) | Direction::Relative(rows) if rows < 0);
        match self.scroll {
            Some(true) => Ok(()),
            _ if forward => Ok(()),
            Some(false) if backward => Err(Stuck::ForwardOnly),
            _ => Err(Stuck::Unsaid),
        }
    }

    fn forward(&mut self, rows: usize) -> Gone {
        let from = (self.at + 1).min(self.ends.len() + 1);
        let to = self.at.saturating_add(rows).min(self.ends.len());
        self.at = self.at.saturating_add(rows).min(self.ends.len() + 1);
        Gone {
            count: (to + 1).saturating_sub(from),
            backward: false,
            from,
        }
    }

    fn backward(&mut self, rows: usize) -> Gone {
        let to = self.at.saturating_sub(1);
        let from = self.at.saturating_sub(rows).max(1);
        self.at = self.at.saturating_sub(rows);
        Gone {
            count: (to + 1).saturating_sub(from),
            backward: true,
            from,
        }
    }

    /// On this row, or beside them all.
    fn land(&mut self, at: usize) -> Gone {
        self.at = at;
        let on_a_row = at >= 1 && at <= self.ends.len();
        Gone {
            count: usize::from(on_a_row),
            backward: false,
            from: at,
        }
    }

    /// The DataRows of what was gone over, in pieces.
    pub fn shown(&self, gone: &Gone) -> impl Iterator<Item = Bytes> + use<> {
        let (rows, ends) = (self.rows.clone(), self.ends.clone());
        let start = move |row: usize| match row {
            0 | 1 => 0,
            row => ends.get(row - 2).copied().unwrap_or_default(),
        };
        let (first, last) = (gone.from, gone.from + gone.count);
        let backward = gone.backward;
        let all = (gone.count > 0 && !backward).then(|| rows.slice(start(first)..start(last)));
        let each = (first..last).rev().filter(move |_| backward);
        let each = each.map(move |row| rows.slice(start(row)..start(row + 1)));
        all.into_iter().chain(each)
    }
}

fn amount(rows: i64) -> usize {
    usize::try_from(rows.unsigned_abs()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::flowing::By;
    use crate::wire::build;
    use bytes::BytesMut;

    fn cursor(scroll: Option<bool>) -> Kept {
        let mut rows = BytesMut::new();
        for n in 1..=5 {
            build::text_row(&mut rows, &[&n.to_string()]);
        }
        Kept::new(Bytes::new(), Formats::AllText, rows.freeze(), scroll)
    }

    fn went(cursor: &mut Kept, direction: Direction) -> String {
        let gone = cursor.go(direction).unwrap();
        let shown: Vec<u8> = cursor.shown(&gone).flatten().collect();
        // the last byte of each row is its value
        let values: Vec<u8> = shown.chunks(12).map(|row| row[11]).collect();
        assert_eq!(values.len(), gone.count);
        String::from_utf8(values).unwrap()
    }

    #[test]
    fn it_goes_about_as_told() {
        use Direction::{Absolute, BackwardAll, Forward, ForwardAll, Relative};
        let mut c = cursor(Some(true));
        assert_eq!(went(&mut c, Forward(2)), "12");
        assert_eq!(went(&mut c, Forward(0)), "2");
        assert_eq!(went(&mut c, Forward(-5)), "1");
        assert_eq!(went(&mut c, Forward(-5)), "");
        assert_eq!(went(&mut c, ForwardAll), "12345");
        assert_eq!(went(&mut c, Forward(1)), "");
        assert_eq!(went(&mut c, Forward(-2)), "54");
        assert_eq!(went(&mut c, Absolute(-1)), "5");
        assert_eq!(went(&mut c, Absolute(2)), "2");
        assert_eq!(went(&mut c, Absolute(9)), "");
        assert_eq!(went(&mut c, Relative(-1)), "5");
        assert_eq!(went(&mut c, Relative(-9)), "");
        assert_eq!(went(&mut c, Relative(3)), "3");
        assert_eq!(went(&mut c, BackwardAll), "21");
        assert_eq!(went(&mut c, Absolute(0)), "");
        assert_eq!(went(&mut c, Forward(5)), "12345");
        assert_eq!(went(&mut c, Forward(-1)), "4");
    }

    #[test]
    fn backward_only_with_scroll() {
        let back = Direction::Forward(-1);
        assert!(matches!(
            cursor(Some(false)).go(back),
            Err(Stuck::ForwardOnly)
        ));
        assert!(matches!(cursor(None).go(back), Err(Stuck::Unsaid)));
    }

    #[test]
    fn one_that_only_goes_forward_takes_no_step_back() {
        use Direction::{Absolute, Forward, ForwardAll, Relative};
        let flow = Flow::new(Bytes::new(), By::Fetch, &[], Arc::default(), 0);
        let mut c = Flowing::new(Bytes::new(), flow, Formats::AllText, true);
        let ahead = |over, rows| {
            Ok(Some(Ahead {
                over,
                rows: Some(rows),
            }))
        };
        assert_eq!(c.ahead(Absolute(1)), ahead(0, 1));
        assert_eq!(c.ahead(Forward(0)), Ok(None));
        assert_eq!(c.ahead(Absolute(0)), Ok(None));
        c.went(Some(4), 4);
        assert_eq!(c.ahead(Forward(0)), Err(Stuck::ForwardOnly));
        assert_eq!(c.ahead(Absolute(3)), Err(Stuck::ForwardOnly));
        assert_eq!(c.ahead(Absolute(5)), ahead(0, 1));
        assert_eq!(c.ahead(Absolute(9)), ahead(4, 1));
        assert_eq!(c.ahead(Relative(3)), ahead(2, 1));
        c.went(None, 2);
        assert_eq!(c.ahead(Forward(0)), Ok(None));
        assert_eq!(c.ahead(Absolute(7)), Err(Stuck::ForwardOnly));
        assert_eq!(c.ahead(Absolute(8)), ahead(0, 1));
        assert_eq!(
            c.ahead(ForwardAll),
            Ok(Some(Ahead {
                over: 0,
                rows: None
            }))
        );
        c.forward_only = false;
        assert_eq!(c.ahead(Forward(-1)), Err(Stuck::Unsaid));
    }
}
