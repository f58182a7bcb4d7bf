//! Names longer than PostgreSQL keeps: it says so when it reads a statement, and so does pgshunt of those it answers itself.

use super::Session;
use super::context::set_values;
use crate::sql::name::{NAME_MAX, truncate};
use crate::sql::tokens::{TokenKind, tokenize};
use crate::wire::build::{self, Severity};
use crate::wire::sqlstate::SqlState;

impl Session {
    /// The notices that PostgreSQL would send with this statement.
    pub(super) fn tell_truncated(&mut self, sql: &[u8]) {
        if sql.len() <= NAME_MAX || !self.wants_notices() {
            return;
        }
        for name in long_names(sql, self.context.standard_conforming_strings) {
            let text = format!(
                "identifier \"{name}\" will be truncated to \"{}\"",
                truncate(&name)
            );
            let out = &mut self.exec.client.output;
            build::report(out, Severity::Notice, SqlState("42622"), &text, None);
        }
    }

    fn wants_notices(&self) -> bool {
        let statement = self.exec.vars.statement("client_min_messages");
        let level = statement.and_then(set_values).unwrap_or_default();
        !level.iter().any(|level| {
            level.eq_ignore_ascii_case("warning") || level.eq_ignore_ascii_case("error")
        })
    }
}

/// Identifiers as PostgreSQL reads them before it cuts them.
fn long_names(sql: &[u8], strings: bool) -> Vec<String> {
    let tokens = tokenize(sql, strings).unwrap_or_default();
    let names = tokens.iter().filter_map(|token| {
        let text = std::str::from_utf8(token.bytes(sql)).ok()?;
        match token.kind {
            TokenKind::Ident => Some(text.to_ascii_lowercase()),
            TokenKind::QuotedIdent => {
                let inner = text.strip_prefix('"')?.strip_suffix('"')?;
                Some(inner.replace("\"\"", "\""))
            }
            _ => None,
        }
    });
    names.filter(|name| name.len() > NAME_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::long_names;

    #[test]
    fn only_what_is_cut_is_told() {
        let long = "X".repeat(64);
        let sql = format!("LISTEN {long}");
        assert_eq!(long_names(sql.as_bytes(), true), [long.to_lowercase()]);
        let sql = format!("LISTEN \"{long}\" -- {long}");
        assert_eq!(long_names(sql.as_bytes(), true).concat(), long);
        let sql = format!("LISTEN {}", "x".repeat(63));
        assert!(long_names(sql.as_bytes(), true).is_empty());
    }
}
