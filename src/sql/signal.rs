//! `SELECT pg_terminate_backend(n)` and `SELECT pg_cancel_backend(n)`, as they are written where the number is a client's: one
//! call with one number, and nothing else. And `SELECT pg_backend_pid()`, as it is written by who wants such a number.

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
        self.replaced(
            text,
            &format!("(SELECT {value} AS {})", self.signal.function()),
        )
    }

    /// The text that does it to the server it runs on, for who has named himself: PostgreSQL ends or cancels the statement that
    /// calls it.
    #[must_use]
    pub fn at_own_server(&self, text: &[u8]) -> Vec<u8> {
        let function = self.signal.function();
        let done = format!("pg_catalog.{function}(pg_catalog.pg_backend_pid())");
        let answer = match self.number {
            Number::Literal(_) => done,
            Number::Param(n) => {
                format!("CASE WHEN ${n}::pg_catalog.int4 IS NOT NULL THEN {done} END AS {function}")
            }
        };
        self.replaced(text, &answer)
    }

    fn replaced(&self, text: &[u8], answer: &str) -> Vec<u8> {
        let before = text.get(..self.span.start).unwrap_or_default();
        let after = text.get(self.span.end..).unwrap_or_default();
        [before, answer.as_bytes(), after].concat()
    }
}

/// The text with the session's own number in place of a `pg_backend_pid()` that is all it asks for.
#[must_use]
pub fn own_number(text: &[u8], tokens: &[Token], pid: i32) -> Option<Vec<u8>> {
    let (first, rest) = selected(text, tokens)?;
    let [name, open, close, after @ ..] = rest else {
        return None;
    };
    let is_ident = |token: &Token| matches!(token.kind, TokenKind::Ident | TokenKind::QuotedIdent);
    let after = match after {
        [r#as, alias, after @ ..] if r#as.is_word(text, "as") && is_ident(alias) => after,
        after => after,
    };
    let called = open.kind == TokenKind::ParenOpen && close.kind == TokenKind::ParenClose;
    if !name.is_word(text, "pg_backend_pid") || !called || !ends(after) {
        return None;
    }
    let answer = format!("(SELECT {pid} AS pg_backend_pid)");
    let (before, after) = (text.get(..first.start)?, text.get(close.end..)?);
    Some([before, answer.as_bytes(), after].concat())
}

/// What is selected: where it begins, and what follows `pg_catalog.`, if that is there.
fn selected<'t>(text: &[u8], tokens: &'t [Token]) -> Option<(&'t Token, &'t [Token])> {
    let (select, rest) = tokens.split_first()?;
    let first = rest.first().filter(|_| select.is_word(text, "select"))?;
    Some(match rest {
        [schema, dot, rest @ ..]
            if schema.is_word(text, "pg_catalog") && dot.kind == TokenKind::Dot =>
        {
            (first, rest)
        }
        rest => (first, rest),
    })
}

/// Nothing but the end of the statement.
fn ends(after: &[Token]) -> bool {
    matches!(after, []) || matches!(after, [end] if end.kind == TokenKind::Semicolon)
}

#[must_use]
pub fn call(text: &[u8], tokens: &[Token]) -> Option<Call> {
    let (first, rest) = selected(text, tokens)?;
    let [name, open, number, rest @ ..] = rest else {
        return None;
    };
    let [close, after @ ..] = without_cast(text, rest) else {
        return None;
    };
    let called = open.kind == TokenKind::ParenOpen && close.kind == TokenKind::ParenClose;
    if !called || !ends(after) {
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

/// What follows a `::int`, as drivers' users write it behind a parameter.
fn without_cast<'t>(text: &[u8], tokens: &'t [Token]) -> &'t [Token] {
    match tokens {
        [cast, name, rest @ ..]
            if cast.kind == TokenKind::ColonColon
                && ["int", "int4", "integer"]
                    .iter()
                    .any(|word| name.is_word(text, word)) =>
        {
            rest
        }
        _ => tokens,
    }
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
        let cast = answered("SELECT pg_terminate_backend($1::int)");
        assert_eq!(cast, param);
        assert_eq!(
            answered("select pg_cancel_backend( 7 );").as_deref(),
            Some("select (SELECT true AS pg_cancel_backend);")
        );
    }

    #[test]
    fn the_sessions_own_number_takes_the_place_of_the_servers() {
        let own = |sql: &str| {
            let tokens = tokenize(sql.as_bytes(), true).ok()?;
            String::from_utf8(own_number(sql.as_bytes(), &tokens, 77)?).ok()
        };
        let answer = "(SELECT 77 AS pg_backend_pid)";
        for (sql, before, after) in [
            ("SELECT pg_backend_pid()", "SELECT ", ""),
            (
                "select Pg_catalog.pg_backend_pid() AS \"p\" ;",
                "select ",
                " AS \"p\" ;",
            ),
        ] {
            assert_eq!(own(sql), Some(format!("{before}{answer}{after}")));
        }
        for sql in [
            "SELECT pg_backend_pid(), 1",
            "SELECT pg_backend_pid() FROM t",
            "SELECT pid FROM pg_locks WHERE pid = pg_backend_pid()",
            "SELECT pg_terminate_backend(pg_backend_pid())",
            "SELECT mine.pg_backend_pid()",
        ] {
            assert_eq!(own(sql), None, "{sql}");
        }
    }

    #[test]
    fn what_is_more_than_one_call_is_left_alone() {
        for sql in [
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity",
            "SELECT pg_terminate_backend(7, 100)",
            "SELECT mine.pg_terminate_backend(7)",
            "SELECT pg_terminate_backend(7), 1",
            "SELECT pg_terminate_backend($1::text)",
            "SELECT pg_terminate_backend(99999999999)",
        ] {
            assert_eq!(answered(sql), None, "{sql}");
        }
    }
}
