//! Views of messages: what one frame says, borrowed from its bytes. Every length is checked before it is believed.

use smallvec::SmallVec;

/// The frame's bytes do not have the shape its tag promises; in PostgreSQL's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("insufficient data left in message")]
    TooShort,
    #[error("invalid string in message")]
    NoTerminator,
    #[error("invalid message format")]
    TrailingBytes,
    #[error("invalid {message} message subtype {subtype}")]
    Subtype { message: &'static str, subtype: u8 },
    #[error("bind message has {formats} parameter formats but {params} parameters")]
    Formats { formats: usize, params: usize },
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(frame: &'a [u8]) -> Result<Self, Malformed> {
        let rest = frame
            .get(super::frame::HEADER..)
            .ok_or(Malformed::TooShort)?;
        Ok(Self { rest })
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        if n > self.rest.len() {
            return Err(Malformed::TooShort);
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let b = self.take(2)?;
        Ok(u16::from_be_bytes([b[0], b[1]]))
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        let b = self.take(4)?;
        Ok(i32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    fn cstr(&mut self) -> Result<&'a [u8], Malformed> {
        let end = memchr::memchr(0, self.rest).ok_or(Malformed::NoTerminator)?;
        let text = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Ok(text)
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::TrailingBytes)
        }
    }
}

/// The text of a Query message.
pub fn query(frame: &[u8]) -> Result<&[u8], Malformed> {
    let mut r = Reader::new(frame)?;
    let text = r.cstr()?;
    r.end()?;
    Ok(text)
}

#[derive(Debug)]
pub struct Parse<'a> {
    pub name: &'a [u8],
    pub text: &'a [u8],
    pub types: Vec<u32>,
}

pub fn parse(frame: &[u8]) -> Result<Parse<'_>, Malformed> {
    let mut r = Reader::new(frame)?;
    let name = r.cstr()?;
    let text = r.cstr()?;
    let count = r.u16()?;
    let mut types = Vec::with_capacity(usize::from(count).min(r.rest.len() / 4));
    for _ in 0..count {
        types.push(r.i32()?.cast_unsigned());
    }
    r.end()?;
    Ok(Parse { name, text, types })
}

#[derive(Debug)]
pub struct Bind<'a> {
    pub portal: &'a [u8],
    pub statement: &'a [u8],
    /// everything behind the two names: formats, values, result formats
    pub rest: &'a [u8],
    formats: &'a [u8],
    pub params: usize,
    /// offset in `rest` where the count of values stands
    values_at: usize,
    /// offset in `rest` behind the last value
    pub values_end: usize,
}

/// One value of a Bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindValue<'a> {
    Null,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

pub fn bind(frame: &[u8]) -> Result<Bind<'_>, Malformed> {
    let mut r = Reader::new(frame)?;
    let portal = r.cstr()?;
    let statement = r.cstr()?;
    let rest = r.rest;
    let formats = usize::from(r.u16()?);
    let formats = r.take(formats * 2)?;
    let values_at = rest.len() - r.rest.len();
    let params = usize::from(r.u16()?);
    for _ in 0..params {
        let len = r.i32()?;
        if len >= 0 {
            r.take(usize::try_from(len).map_err(|_| Malformed::TooShort)?)?;
        } else if len != -1 {
            return Err(Malformed::TooShort);
        }
    }
    let values_end = rest.len() - r.rest.len();
    let results = usize::from(r.u16()?);
    r.take(results * 2)?;
    r.end()?;
    let n_formats = formats.len() / 2;
    if n_formats > 1 && n_formats != params {
        return Err(Malformed::Formats {
            formats: n_formats,
            params,
        });
    }
    Ok(Bind {
        portal,
        statement,
        rest,
        formats,
        params,
        values_at,
        values_end,
    })
}

impl<'a> Bind<'a> {
    /// Whether value `n` (0-based) is binary.
    fn is_binary(&self, n: usize) -> bool {
        match self.formats.len() / 2 {
            0 => false,
            1 => self.formats[1] == 1,
            _ => self.formats.get(2 * n + 1) == Some(&1),
        }
    }

    /// Value `n` (0-based), or None when there are fewer.
    #[must_use]
    pub fn value(&self, n: usize) -> Option<BindValue<'a>> {
        if n >= self.params {
            return None;
        }
        let mut r = Reader {
            rest: &self.rest[self.values_at + 2..],
        };
        for _ in 0..n {
            let len = r.i32().ok()?;
            r.take(usize::try_from(len).unwrap_or(0)).ok()?;
        }
        let len = r.i32().ok()?;
        let Ok(len) = usize::try_from(len) else {
            return Some(BindValue::Null);
        };
        let bytes = r.take(len).ok()?;
        Some(if self.is_binary(n) {
            BindValue::Binary(bytes)
        } else {
            BindValue::Text(bytes)
        })
    }

    /// In which formats the columns are wanted: none (all text), one for all, or one for each.
    #[must_use]
    pub fn result_formats(&self) -> SmallVec<[bool; 8]> {
        let formats = self.rest.get(self.values_end + 2..).unwrap_or_default();
        formats.chunks(2).map(|pair| pair == [0, 1]).collect()
    }

    /// The body behind the names, with `more` columns at the end of the result, in binary where formats are told
    /// column by column.
    #[must_use]
    pub fn with_result_columns(&self, more: usize) -> Vec<u8> {
        let mut body = self.rest.to_vec();
        let known = self.result_formats().len();
        if known < 2 || more == 0 {
            return body;
        }
        let total = u16::try_from(known + more).unwrap_or(u16::MAX);
        body[self.values_end..self.values_end + 2].copy_from_slice(&total.to_be_bytes());
        for _ in 0..more {
            body.extend_from_slice(&[0, 1]);
        }
        body
    }

    /// The body behind the names with further text values at the end.
    #[must_use]
    pub fn with_text_values(&self, more: &[String]) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.rest.len() + more.len() * 16);
        let total = self.params + more.len();
        let put_u16 = |body: &mut Vec<u8>, n: usize| {
            body.extend_from_slice(&u16::try_from(n).unwrap_or(u16::MAX).to_be_bytes());
        };
        put_u16(&mut body, total);
        for n in 0..self.params {
            put_u16(&mut body, usize::from(self.is_binary(n)));
        }
        for _ in more {
            put_u16(&mut body, 0);
        }
        put_u16(&mut body, total);
        body.extend_from_slice(&self.rest[self.values_at + 2..self.values_end]);
        for value in more {
            body.extend_from_slice(&i32::try_from(value.len()).unwrap_or(0).to_be_bytes());
            body.extend_from_slice(value.as_bytes());
        }
        body.extend_from_slice(&self.rest[self.values_end..]);
        body
    }
}

/// Describe or Close: kind (`S` or `P`) and name.
pub fn named(frame: &[u8]) -> Result<(u8, &[u8]), Malformed> {
    let mut r = Reader::new(frame)?;
    let kind = r.u8()?;
    let name = r.cstr()?;
    r.end()?;
    if kind == b'S' || kind == b'P' {
        Ok((kind, name))
    } else {
        let message = if frame.first() == Some(&b'D') {
            "DESCRIBE"
        } else {
            "CLOSE"
        };
        Err(Malformed::Subtype {
            message,
            subtype: kind,
        })
    }
}

/// Execute: portal and row limit (0 is none).
pub fn execute(frame: &[u8]) -> Result<(&[u8], i32), Malformed> {
    let mut r = Reader::new(frame)?;
    let portal = r.cstr()?;
    let rows = r.i32()?;
    r.end()?;
    Ok((portal, rows))
}

// ---- from servers ----------------------------------------------------------------------------

/// The command tag of a CommandComplete.
#[must_use]
pub fn command_tag(frame: &[u8]) -> &str {
    Reader::new(frame)
        .and_then(|mut r| r.cstr())
        .ok()
        .and_then(|t| std::str::from_utf8(t).ok())
        .unwrap_or("")
}

/// The number at the end of a command tag: rows affected or returned.
#[must_use]
pub fn tag_rows(tag: &str) -> Option<u64> {
    let bytes = tag.as_bytes();
    let first = bytes
        .iter()
        .rposition(|b| !b.is_ascii_digit())
        .map_or(0, |n| n + 1);
    if first == bytes.len() || (first > 0 && bytes[first - 1] != b' ') {
        return None;
    }
    let digit = |sum: u64, b: &u8| sum.checked_mul(10)?.checked_add(u64::from(b - b'0'));
    bytes[first..].iter().try_fold(0, digit)
}

/// An ErrorResponse after which the sender closes the connection.
#[must_use]
pub fn is_fatal(frame: &[u8]) -> bool {
    matches!(error_field(frame, b'V'), Some("FATAL" | "PANIC"))
}

/// A field of an ErrorResponse or NoticeResponse by its one-letter kind.
#[must_use]
pub fn error_field(frame: &[u8], kind: u8) -> Option<&str> {
    let mut r = Reader::new(frame).ok()?;
    loop {
        let k = r.u8().ok()?;
        if k == 0 {
            return None;
        }
        let text = r.cstr().ok()?;
        if k == kind {
            return std::str::from_utf8(text).ok();
        }
    }
}

/// Name and value of a ParameterStatus.
pub fn parameter_status(frame: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut r = Reader::new(frame)?;
    let name = std::str::from_utf8(r.cstr()?).map_err(|_| Malformed::NoTerminator)?;
    let value = std::str::from_utf8(r.cstr()?).map_err(|_| Malformed::NoTerminator)?;
    Ok((name, value))
}

/// Parameter types of a ParameterDescription.
pub fn parameter_types(frame: &[u8]) -> Result<Vec<u32>, Malformed> {
    let mut r = Reader::new(frame)?;
    let count = r.u16()?;
    (0..count)
        .map(|_| r.i32().map(i32::cast_unsigned))
        .collect()
}

/// A number for what a RowDescription, or NoData, says of the result: names, types and type modifiers. Types that a database
/// has made itself have another number on each server and count alike.
#[must_use]
pub fn result_hash(frame: &[u8]) -> Option<u64> {
    /// the first number that an object made by a user can have
    const FIRST_OWN: i32 = 16_384;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    if frame.first() == Some(&b'T') {
        let mut r = Reader::new(frame).ok()?;
        for _ in 0..r.u16().ok()? {
            hash.update(r.cstr().ok()?);
            r.take(6).ok()?;
            let oid = r.i32().ok()?;
            let oid = if oid < FIRST_OWN { oid } else { 0 };
            r.take(2).ok()?;
            let modifier = r.i32().ok()?;
            r.take(2).ok()?;
            hash.update(&oid.to_le_bytes());
            hash.update(&modifier.to_le_bytes());
        }
    }
    Some(hash.digest() | 1)
}

/// The first column of a DataRow as text, if it is not NULL.
#[must_use]
pub fn first_column(frame: &[u8]) -> Option<&[u8]> {
    let mut r = Reader::new(frame).ok()?;
    r.u16().ok()?;
    let len = usize::try_from(r.i32().ok()?).ok()?;
    r.take(len).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::build;
    use bytes::BytesMut;

    fn bind_frame(rest: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        build::bind(&mut out, b"p", b"s", rest);
        out
    }

    #[test]
    fn bind_values_are_found_by_number_and_format() {
        let rest = [
            &[0, 2, 0, 0, 0, 1][..],
            &[0, 2],
            &[0, 0, 0, 2, b'4', b'2'],
            &[0, 0, 0, 1, 7],
            &[0, 0],
        ]
        .concat();
        let frame = bind_frame(&rest);
        let bind = bind(&frame).unwrap();
        assert_eq!(bind.value(0), Some(BindValue::Text(b"42")));
        assert_eq!(bind.value(1), Some(BindValue::Binary(&[7])));
        assert_eq!(bind.value(2), None);
    }

    #[test]
    fn further_values_are_appended_as_text() {
        let rest = [&[0, 1, 0, 1][..], &[0, 1], &[0, 0, 0, 1, 7], &[0, 1, 0, 1]].concat();
        let frame = bind_frame(&rest);
        let more = bind(&frame).unwrap().with_text_values(&["99".to_owned()]);
        let frame = bind_frame(&more);
        let again = bind(&frame).unwrap();
        assert_eq!(again.value(0), Some(BindValue::Binary(&[7])));
        assert_eq!(again.value(1), Some(BindValue::Text(b"99")));
    }

    #[test]
    fn a_truncated_or_lying_bind_is_an_error() {
        let rest = [&[0, 0][..], &[0, 1], &[0, 0, 0, 200, b'4'], &[0, 0]].concat();
        assert!(bind(&bind_frame(&rest)).is_err());
        assert!(bind(&bind_frame(&[0])).is_err());
    }
}
