//! Cursors by SQL over several shards: all their rows have been read, and FETCH and MOVE go about in them as PostgreSQL's do.

use crate::wire::frame;
use bytes::Bytes;
use std::sync::Arc;

/// The most cursors of one transaction that are kept here.
pub const CURSORS_MAX: usize = 1_000;

#[derive(Clone, Debug)]
pub struct Cursor {
    pub name: String,
    /// the RowDescription
    pub description: Bytes,
    rows: Bytes,
    /// where each row ends
    ends: Arc<[usize]>,
    /// SCROLL, NO SCROLL, or nothing was said
    scroll: Option<bool>,
    /// 0: before the first row; one more than there are rows: after the last
    at: usize,
    /// savepoints there were when it was declared
    pub savepoints: usize,
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

impl Cursor {
    #[must_use]
    pub fn new(
        name: String,
        description: Bytes,
        rows: Bytes,
        scroll: Option<bool>,
        savepoints: usize,
    ) -> Self {
        let mut ends = Vec::new();
        let mut end = 0;
        while let Ok(Some(head)) = frame::header(&rows[end..], usize::MAX) {
            end += head.len.min(rows.len() - end);
            ends.push(end);
        }
        Self {
            name,
            description,
            rows,
            ends: ends.into(),
            scroll,
            at: 0,
            savepoints,
        }
    }

    /// What it keeps in memory.
    #[must_use]
    pub fn bytes(&self) -> usize {
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
    use crate::wire::build;
    use bytes::BytesMut;

    fn cursor(scroll: Option<bool>) -> Cursor {
        let mut rows = BytesMut::new();
        for n in 1..=5 {
            build::text_row(&mut rows, &[&n.to_string()]);
        }
        Cursor::new("c".into(), Bytes::new(), rows.freeze(), scroll, 0)
    }

    fn went(cursor: &mut Cursor, direction: Direction) -> String {
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
}
