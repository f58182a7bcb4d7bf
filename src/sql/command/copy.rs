//! COPY: what is copied, in which direction, and whether the client is the other end.

use super::words::Words;
use super::{Copy, CopyDirection, CopyEndpoint, CopySubject};
use crate::sql::tokens::TokenKind;

/// After COPY. None when it is malformed.
pub(super) fn parse(words: &mut Words) -> Option<Copy> {
    let subject = if words.peek_kind() == Some(TokenKind::ParenOpen) {
        query(words)?
    } else {
        table(words)?
    };
    let direction = if words.take("from") {
        CopyDirection::In
    } else {
        words.expect("to")?;
        CopyDirection::Out
    };
    let endpoint = endpoint(words)?;
    Some(Copy {
        direction,
        subject,
        endpoint,
        options: words.rest(),
    })
}

fn query(words: &mut Words) -> Option<CopySubject> {
    let close = words.closing_paren()?;
    let inner = words.position() + 1..close;
    words.skip_to(close + 1);
    Some(CopySubject::Query(inner))
}

/// `[BINARY] [schema.]name [(columns)]`; BINARY is reserved, so it is never the table's name.
fn table(words: &mut Words) -> Option<CopySubject> {
    words.take("binary");
    let mut schema = None;
    let mut name = words.name()?;
    // the database may come first; Postgres insists that it is this one
    for _ in 0..2 {
        if words.take_kind(TokenKind::Dot) {
            schema = Some(name);
            name = words.name()?;
        }
    }
    let columns = if words.peek_kind() == Some(TokenKind::ParenOpen) {
        Some(columns(words)?)
    } else {
        None
    };
    Some(CopySubject::Table {
        schema,
        name,
        columns,
    })
}

fn columns(words: &mut Words) -> Option<Vec<String>> {
    words.skip(1);
    let mut columns = vec![words.name()?];
    while words.take_kind(TokenKind::Comma) {
        columns.push(words.name()?);
    }
    words.take_kind(TokenKind::ParenClose).then_some(columns)
}

/// STDIN and STDOUT mean the client in either direction.
fn endpoint(words: &mut Words) -> Option<CopyEndpoint> {
    if words.take("stdin") || words.take("stdout") {
        return Some(CopyEndpoint::Client);
    }
    let endpoint = if words.take("program") {
        CopyEndpoint::Program
    } else {
        CopyEndpoint::File
    };
    words.string().map(|_| endpoint)
}
