//! `SELECT pg_terminate_backend(n)` and `SELECT pg_cancel_backend(n)`, as they are written where the number is a client's: one
//! call with one number, and nothing else.

use super::tokens::{NumberKind, Token, TokenKind};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Terminate,
    Cancel,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    Literal(i32),
    Param(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub signal: Signal,
    pub number: Number,
    /// the call in the text
    span: Range<usize>,
}

impl Signal {
    fn function(self) -> &'static str {
        match self {
            Self::Terminate => "pg_terminate_backend",
            Self::Cancel => "pg_cancel_backend",
        }
    }
}

impl Call {
    /// The text with the answer in place of the call: true, in a column of the same name, from the same parameter.
    #[must_use]
    pub fn answered(&self, text: &[u8]) -> Vec<u8> {
        let value = match self.number {
            Number::Literal(_) => "true".to_owned(),
            Number::Param(n) => format!("${n}::pg_catalog.int4 IS NOT NULL"),
        };
        let answer = format!("(SELECT {value} AS {})", self.signal.function());
        let before = text.get(..self.span.start).unwrap_or_default();
        let after = text.get(self.span.end..).unwrap_or_default();
        [before, answer.as_bytes(), after].concat()
    }
}

#[must_use]
pub fn call(text: &[u8], tokens: &[Token]) -> Option<Call> {
    let (select, rest) = tokens.split_first()?;
    let first = rest.first()?;
    let rest = match rest {
        [schema, dot, rest @ ..]
            if schema.is_word(text, "pg_catalog") && dot.kind == TokenKind::Dot =>
        {
            rest
        }
        rest => rest,
    };
    let [name, open, number, close, after @ ..] = rest else {
        return None;
    };
    let alone = matches!(after, []) || matches!(after, [end] if end.kind == TokenKind::Semicolon);
    let called = open.kind == TokenKind::ParenOpen && close.kind == TokenKind::ParenClose;
    if !select.is_word(text, "select") || !called || !alone {
        return None;
    }
    let signals = [Signal::Terminate, Signal::Cancel];
    let named = |signal: &Signal| name.is_word(text, signal.function());
    Some(Call {
        signal: signals.into_iter().find(named)?,
        number: self::number(text, *number)?,
        span: first.start..close.end,
    })
}

fn number(text: &[u8], token: Token) -> Option<Number> {
    let digits = std::str::from_utf8(token.bytes(text)).ok()?;
    match token.kind {
        TokenKind::Number(NumberKind::Integer) => digits.parse().ok().map(Number::Literal),
        TokenKind::Param(n) => usize::try_from(n).ok().map(Number::Param),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokenize;
    use super::*;

    fn answered(sql: &str) -> Option<String> {
        let tokens = tokenize(sql.as_bytes(), true).ok()?;
        let call = call(sql.as_bytes(), &tokens)?;
        String::from_utf8(call.answered(sql.as_bytes())).ok()
    }

    #[test]
    fn the_answer_takes_the_place_of_the_call() {
        let answer = |value: &str| Some(format!("SELECT (SELECT {value} AS pg_terminate_backend)"));
        let literal = answered("SELECT pg_catalog.pg_terminate_backend(4194310)");
        assert_eq!(literal, answer("true"));
        let param = answered("SELECT PG_terminate_backend($1)");
        assert_eq!(param, answer("$1::pg_catalog.int4 IS NOT NULL"));
        assert_eq!(
            answered("select pg_cancel_backend( 7 );").as_deref(),
            Some("select (SELECT true AS pg_cancel_backend);")
        );
    }

    #[test]
    fn what_is_more_than_one_call_is_left_alone() {
        for sql in [
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
            "SELECT pg_terminate_backend(7, 100)",
            "SELECT mine.pg_terminate_backend(7)",
            "SELECT pg_terminate_backend(7), 1",
            "SELECT pg_terminate_backend(99999999999)",
        ] {
            assert_eq!(answered(sql), None, "{sql}");
        }
    }
}
