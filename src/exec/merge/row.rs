//! One DataRow or RowDescription as columns, and what is cut off its end.

use super::Trouble;
use crate::route::combine::Place;
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

/// Tag and length.
const HEADER: usize = 5;

/// In which format the columns come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Formats {
    #[default]
    AllText,
    AllBinary,
    /// true is binary
    Each(Box<[bool]>),
}

impl Formats {
    #[must_use]
    pub fn is_binary(&self, column: usize) -> bool {
        match self {
            Self::AllText => false,
            Self::AllBinary => true,
            Self::Each(each) => each.get(column).copied().unwrap_or(false),
        }
    }
}

/// The columns of one DataRow; None is NULL.
#[derive(Debug, Default)]
pub struct Row<'a> {
    pub columns: SmallVec<[Option<&'a [u8]>; 16]>,
}

impl<'a> Row<'a> {
    pub fn read(frame: &'a [u8]) -> Result<Self, Trouble> {
        let mut at = HEADER + 2;
        let count = u16_at(frame, HEADER)?;
        let mut columns = SmallVec::with_capacity(usize::from(count));
        for _ in 0..count {
            let column = column_at(frame, &mut at)?;
            columns.push(column);
        }
        Ok(Self { columns })
    }

    /// Index of a place among the columns, of which the last `hidden` are not the client's.
    pub fn index(&self, place: Place, hidden: usize) -> Result<usize, Trouble> {
        let visible = self.columns.len().checked_sub(hidden);
        let at = match place {
            Place::Visible(at) => Some(at).filter(|at| visible.is_some_and(|v| *at < v)),
            Place::Hidden(at) => visible.map(|v| v + at).filter(|_| at < hidden),
        };
        at.ok_or(Trouble::Unreadable)
    }
}

fn u16_at(frame: &[u8], at: usize) -> Result<u16, Trouble> {
    match frame.get(at..at + 2) {
        Some(&[a, b]) => Ok(u16::from_be_bytes([a, b])),
        _ => Err(Trouble::Unreadable),
    }
}

fn column_at<'a>(frame: &'a [u8], at: &mut usize) -> Result<Option<&'a [u8]>, Trouble> {
    let Some(&[a, b, c, d]) = frame.get(*at..*at + 4) else {
        return Err(Trouble::Unreadable);
    };
    *at += 4;
    let Ok(len) = usize::try_from(i32::from_be_bytes([a, b, c, d])) else {
        return Ok(None);
    };
    let value = frame.get(*at..*at + len).ok_or(Trouble::Unreadable)?;
    *at += len;
    Ok(Some(value))
}

/// Appends a DataRow without its last `hidden` columns.
pub fn put_row(out: &mut BytesMut, frame: &[u8], hidden: usize) -> Result<(), Trouble> {
    if hidden == 0 {
        out.put_slice(frame);
        return Ok(());
    }
    let count = usize::from(u16_at(frame, HEADER)?);
    let kept = count.checked_sub(hidden).ok_or(Trouble::Unreadable)?;
    let mut at = HEADER + 2;
    for _ in 0..kept {
        column_at(frame, &mut at)?;
    }
    put_cut(out, frame, kept, at)
}

/// Appends a RowDescription without its last `hidden` columns.
pub fn put_description(out: &mut BytesMut, frame: &[u8], hidden: usize) -> Result<(), Trouble> {
    // table, column number, type, size, modifier, format
    const FIELD: usize = 18;
    let count = usize::from(u16_at(frame, HEADER)?);
    let kept = count.checked_sub(hidden).ok_or(Trouble::Unreadable)?;
    let mut at = HEADER + 2;
    for _ in 0..kept {
        let rest = frame.get(at..).ok_or(Trouble::Unreadable)?;
        at += memchr::memchr(0, rest).ok_or(Trouble::Unreadable)? + 1 + FIELD;
    }
    put_cut(out, frame, kept, at)
}

fn put_cut(out: &mut BytesMut, frame: &[u8], kept: usize, end: usize) -> Result<(), Trouble> {
    let body = frame.get(HEADER + 2..end).ok_or(Trouble::Unreadable)?;
    let len = i32::try_from(body.len() + 6).map_err(|_| Trouble::Unreadable)?;
    out.put_u8(*frame.first().ok_or(Trouble::Unreadable)?);
    out.put_i32(len);
    out.put_u16(u16::try_from(kept).map_err(|_| Trouble::Unreadable)?);
    out.put_slice(body);
    Ok(())
}

/// Appends a DataRow of these columns.
pub fn put_columns<'a>(
    out: &mut BytesMut,
    columns: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
) {
    let count = u16::try_from(columns.len()).unwrap_or(u16::MAX);
    crate::wire::build::frame(out, b'D', |body| {
        body.put_u16(count);
        for column in columns {
            match column {
                None => body.put_i32(-1),
                Some(value) => {
                    body.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                    body.put_slice(value);
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;

    #[test]
    fn hidden_columns_are_cut_off() {
        let mut row = BytesMut::new();
        build::text_row(&mut row, &["a", "bc", "def"]);
        let mut out = BytesMut::new();
        put_row(&mut out, &row, 2).unwrap();
        let mut expected = BytesMut::new();
        build::text_row(&mut expected, &["a"]);
        assert_eq!(out, expected);
        assert_eq!(put_row(&mut out, &row, 4), Err(Trouble::Unreadable));
    }

    #[test]
    fn descriptions_are_cut_as_well() {
        let (mut all, mut expected, mut out) = (BytesMut::new(), BytesMut::new(), BytesMut::new());
        build::text_columns(&mut all, &["a", "b", "c"]);
        build::text_columns(&mut expected, &["a", "b"]);
        put_description(&mut out, &all, 1).unwrap();
        assert_eq!(out, expected);
    }

    #[test]
    fn nulls_are_told_from_empty_values() {
        let mut out = BytesMut::new();
        put_columns(&mut out, [Some(&b""[..]), None].into_iter());
        let row = Row::read(&out).unwrap();
        assert_eq!(row.columns.as_slice(), [Some(&b""[..]), None]);
        assert_eq!(row.index(Place::Hidden(0), 1), Ok(1));
        assert_eq!(row.index(Place::Visible(1), 1), Err(Trouble::Unreadable));
    }
}
