//! Builders of messages: each appends one whole frame to a buffer.

use super::sqlstate::SqlState;
use bytes::{BufMut, BytesMut};

/// Appends a frame whose body `body` writes; the length is filled in afterwards.
pub fn frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    out.put_u8(tag);
    let start = out.len();
    out.put_i32(0);
    body(out);
    let len = i32::try_from(out.len() - start).unwrap_or(i32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

fn cstr(out: &mut BytesMut, text: &[u8]) {
    out.put_slice(text);
    out.put_u8(0);
}

// ---- towards servers -------------------------------------------------------------------------

pub fn query(out: &mut BytesMut, text: &[u8]) {
    frame(out, b'Q', |b| cstr(b, text));
}

pub fn parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u32]) {
    frame(out, b'P', |b| {
        cstr(b, name);
        cstr(b, text);
        b.put_i16(i16::try_from(types.len()).unwrap_or(i16::MAX));
        for oid in types {
            b.put_u32(*oid);
        }
    });
}

/// Bind of `portal` to `statement`; `rest` is the client's own body behind the two names.
pub fn bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], rest: &[u8]) {
    frame(out, b'B', |b| {
        cstr(b, portal);
        cstr(b, statement);
        b.put_slice(rest);
    });
}

/// Execute of `portal`, up to `rows` rows; 0 for all.
pub fn execute(out: &mut BytesMut, portal: &[u8], rows: i32) {
    frame(out, b'E', |b| {
        cstr(b, portal);
        b.put_i32(rows);
    });
}

/// Describe or Close: `kind` is `S` (statement) or `P` (portal).
pub fn named(out: &mut BytesMut, tag: u8, kind: u8, name: &[u8]) {
    frame(out, tag, |b| {
        b.put_u8(kind);
        cstr(b, name);
    });
}

pub fn sync(out: &mut BytesMut) {
    frame(out, b'S', |_| {});
}

pub fn flush(out: &mut BytesMut) {
    frame(out, b'H', |_| {});
}

pub fn terminate(out: &mut BytesMut) {
    frame(out, b'X', |_| {});
}

pub fn copy_fail(out: &mut BytesMut, why: &str) {
    frame(out, b'f', |b| cstr(b, why.as_bytes()));
}

/// The packet that asks a postmaster to cancel what backend `pid` is doing.
pub fn cancel_request(out: &mut BytesMut, pid: i32, secret: i32) {
    out.put_i32(16);
    out.put_i32(80_877_102);
    out.put_i32(pid);
    out.put_i32(secret);
}

// ---- towards clients -------------------------------------------------------------------------

/// How bad an error is for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Fatal,
    Warning,
    Notice,
}

impl Severity {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
        }
    }
}

/// ErrorResponse, or NoticeResponse for warnings and notices.
pub fn report(
    out: &mut BytesMut,
    severity: Severity,
    code: SqlState,
    message: &str,
    hint: Option<&str>,
) {
    report_of(out, severity, code, message, hint, None);
}

/// The same with the routine in which PostgreSQL finds it: where one code has several meanings, drivers look at that.
pub fn report_of(
    out: &mut BytesMut,
    severity: Severity,
    code: SqlState,
    message: &str,
    hint: Option<&str>,
    routine: Option<&str>,
) {
    let more = [
        hint.map(|hint| (b'H', hint)),
        routine.map(|name| (b'R', name)),
    ];
    report_with(out, severity, code, message, &more);
}

/// The same with any other fields, by their letters.
pub fn report_with(
    out: &mut BytesMut,
    severity: Severity,
    code: SqlState,
    message: &str,
    more: &[Option<(u8, &str)>],
) {
    let tag = if matches!(severity, Severity::Error | Severity::Fatal) {
        b'E'
    } else {
        b'N'
    };
    frame(out, tag, |b| {
        let mut field = |kind: u8, text: &str| {
            b.put_u8(kind);
            cstr(b, text.as_bytes());
        };
        field(b'S', severity.word());
        field(b'V', severity.word());
        field(b'C', code.0);
        field(b'M', message);
        for (kind, text) in more.iter().flatten() {
            field(*kind, text);
        }
        b.put_u8(0);
    });
}

/// An ErrorResponse as it came, with one more line of context; a place behind `unedited` characters of the text is not told.
pub fn error_with_context(
    out: &mut BytesMut,
    error: &[u8],
    context: &str,
    unedited: Option<usize>,
) {
    let is_elsewhere = |text: &[u8]| {
        let place = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
        unedited.is_some_and(|unedited| place.is_none_or(|place: usize| place > unedited))
    };
    let mut fields = error.get(super::frame::HEADER..).unwrap_or_default();
    frame(out, b'E', |b| {
        let mut told = false;
        while let Some((&kind, rest)) = fields.split_first() {
            let Some(end) = memchr::memchr(0, rest).filter(|_| kind != 0) else {
                break;
            };
            let text = &rest[..end];
            fields = &rest[end + 1..];
            if kind == b'P' && is_elsewhere(text) {
                continue;
            }
            b.put_u8(kind);
            b.put_slice(text);
            if kind == b'W' {
                told = true;
                b.put_u8(b'\n');
                b.put_slice(context.as_bytes());
            }
            b.put_u8(0);
        }
        if !told {
            b.put_u8(b'W');
            cstr(b, context.as_bytes());
        }
        b.put_u8(0);
    });
}

/// An ErrorResponse as it came, with another place in the text.
pub fn error_elsewhere(out: &mut BytesMut, error: &[u8], place: impl Fn(usize) -> usize) {
    let mut fields = error.get(super::frame::HEADER..).unwrap_or_default();
    frame(out, b'E', |b| {
        while let Some((&kind, rest)) = fields.split_first() {
            let Some(end) = memchr::memchr(0, rest).filter(|_| kind != 0) else {
                break;
            };
            let text = &rest[..end];
            fields = &rest[end + 1..];
            b.put_u8(kind);
            let at = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok());
            match at.filter(|_| kind == b'P') {
                Some(at) => cstr(b, place(at).to_string().as_bytes()),
                None => cstr(b, text),
            }
        }
        b.put_u8(0);
    });
}

/// `status`: `I` idle, `T` in a transaction, `E` in a failed one.
pub fn ready_for_query(out: &mut BytesMut, status: u8) {
    frame(out, b'Z', |b| b.put_u8(status));
}

pub fn command_complete(out: &mut BytesMut, tag: &str) {
    frame(out, b'C', |b| cstr(b, tag.as_bytes()));
}

/// A message without a body: ParseComplete `1`, BindComplete `2`, CloseComplete `3`, NoData `n`, EmptyQueryResponse `I`.
pub fn bare(out: &mut BytesMut, tag: u8) {
    frame(out, tag, |_| {});
}

pub fn parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    frame(out, b'S', |b| {
        cstr(b, name.as_bytes());
        cstr(b, value.as_bytes());
    });
}

/// NotificationResponse.
pub fn notification(out: &mut BytesMut, pid: i32, channel: &str, payload: &str) {
    frame(out, b'A', |b| {
        b.put_i32(pid);
        cstr(b, channel.as_bytes());
        cstr(b, payload.as_bytes());
    });
}

pub fn backend_key_data(out: &mut BytesMut, pid: i32, secret: &[u8]) {
    frame(out, b'K', |b| {
        b.put_i32(pid);
        b.put_slice(secret);
    });
}

/// RowDescription of text columns.
pub fn text_columns(out: &mut BytesMut, names: &[&str]) {
    const TEXT: u32 = 25;
    frame(out, b'T', |b| {
        b.put_i16(i16::try_from(names.len()).unwrap_or(0));
        for name in names {
            cstr(b, name.as_bytes());
            b.put_u32(0);
            b.put_i16(0);
            b.put_u32(TEXT);
            b.put_i16(-1);
            b.put_i32(-1);
            b.put_i16(0);
        }
    });
}

/// DataRow of values as they are.
pub fn row(out: &mut BytesMut, values: &[&[u8]]) {
    frame(out, b'D', |b| {
        b.put_i16(i16::try_from(values.len()).unwrap_or(0));
        for value in values {
            b.put_i32(i32::try_from(value.len()).unwrap_or(0));
            b.put_slice(value);
        }
    });
}

/// DataRow of text values.
pub fn text_row(out: &mut BytesMut, values: &[&str]) {
    frame(out, b'D', |b| {
        b.put_i16(i16::try_from(values.len()).unwrap_or(0));
        for value in values {
            b.put_i32(i32::try_from(value.len()).unwrap_or(0));
            b.put_slice(value.as_bytes());
        }
    });
}

/// ParameterDescription.
pub fn parameter_description(out: &mut BytesMut, types: &[u32]) {
    frame(out, b't', |b| {
        b.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
        for oid in types {
            b.put_u32(*oid);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::header;

    #[test]
    fn a_built_frame_reads_back() {
        let mut out = BytesMut::new();
        query(&mut out, b"SELECT 1");
        let head = header(&out, 1 << 20).unwrap().unwrap();
        assert_eq!((head.tag, head.len), (b'Q', out.len()));
        assert_eq!(&out[5..], b"SELECT 1\0");
    }

    #[test]
    fn context_is_added_and_places_in_another_text_are_not_told() {
        let told = |fields: &[u8], unedited| {
            let (mut error, mut out) = (BytesMut::new(), BytesMut::new());
            frame(&mut error, b'E', |b| b.put_slice(fields));
            error_with_context(&mut out, &error, "on shard s2", unedited);
            out[5..].to_vec()
        };
        assert_eq!(told(b"C1\0P9\0\0", Some(8)), b"C1\0Won shard s2\0\0");
        assert_eq!(told(b"P9\0Wx\0\0", Some(9)), b"P9\0Wx\non shard s2\0\0");
        assert_eq!(told(b"P9\0\0", None), b"P9\0Won shard s2\0\0");
    }

    #[test]
    fn an_error_has_its_fields() {
        let mut out = BytesMut::new();
        report(
            &mut out,
            Severity::Error,
            SqlState::FEATURE_NOT_SUPPORTED,
            "no",
            Some("yes"),
        );
        assert_eq!(&out[5..], b"SERROR\0VERROR\0C0A000\0Mno\0Hyes\0\0");
    }
}
