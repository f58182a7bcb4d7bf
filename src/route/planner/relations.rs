//! Names in statements that are read by their words alone: lists of tables, and the words of what could not be parsed.

use super::Statement;
use crate::catalog::QualifiedName;
use crate::sql::analyze::{is_reference, is_sharded_name, sharded_index};
use crate::sql::name::identifier;
use crate::sql::statement::Placement;
use crate::sql::tokens::TokenKind;

/// The first word that may stand for sharded or shared data, or for code that reads it.
pub fn name_that_matters(statement: &Statement<'_>) -> Option<String> {
    let env = statement.env();
    for (n, token) in statement.tokens.iter().enumerate() {
        if token.kind == TokenKind::UnicodeIdent {
            return Some("U&\"…\"".to_owned());
        }
        let Some(name) = identifier(statement.text, token) else {
            continue;
        };
        let called = statement
            .tokens
            .get(n + 1)
            .is_some_and(|next| next.kind == TokenKind::ParenOpen);
        let user_function = env
            .catalog
            .functions
            .get(&name)
            .is_some_and(|overloads| overloads.iter().any(|f| !f.builtin));
        let reference = env
            .database
            .reference_tables
            .iter()
            .any(|(_, table)| *table == name);
        if is_sharded_name(&env, &name) || reference || called && user_function {
            return Some(name);
        }
    }
    None
}

/// A table named in a list, and where it lives.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    pub name: String,
    pub placement: Placement,
}

/// The tables of `TRUNCATE [TABLE] [ONLY] a [*], b …` or `LOCK [TABLE] …`; `from` is the first token after the verb.
pub fn table_list(statement: &Statement<'_>, from: usize) -> Vec<Named> {
    let mut at = from;
    let word = |at: usize, word: &str| {
        statement
            .tokens
            .get(at)
            .is_some_and(|token| token.is_word(statement.text, word))
    };
    let kind = |at: usize| statement.tokens.get(at).map(|token| token.kind);
    if word(at, "table") {
        at += 1;
    }
    let mut named = Vec::new();
    loop {
        if word(at, "only") {
            at += 1;
        }
        let Some((schema, name, after)) = qualified(statement, at) else {
            return named;
        };
        let placement = placement(statement, schema.as_deref(), &name);
        named.push(Named { name, placement });
        at = after;
        if kind(at) == Some(TokenKind::Operator) {
            at += 1;
        }
        if kind(at) != Some(TokenKind::Comma) {
            return named;
        }
        at += 1;
    }
}

/// `[schema.]name` at a token, and the token after it.
pub fn qualified(statement: &Statement<'_>, at: usize) -> Option<(Option<String>, String, usize)> {
    let name = |at: usize| {
        statement
            .tokens
            .get(at)
            .and_then(|token| identifier(statement.text, token))
    };
    let first = name(at)?;
    if statement.tokens.get(at + 1).map(|token| token.kind) == Some(TokenKind::Dot) {
        return Some((Some(first), name(at + 2)?, at + 3));
    }
    Some((None, first, at + 1))
}

pub fn placement(statement: &Statement<'_>, schema: Option<&str>, name: &str) -> Placement {
    let env = statement.env();
    let found = match env.catalog.resolve(env.search_path, schema, name) {
        Some((found, relation)) => {
            if let Some(base) = relation
                .depends_on
                .iter()
                .find_map(|base| sharded_index(&env, base))
            {
                return Placement::Sharded(base);
            }
            found
        }
        None => QualifiedName::new(schema.unwrap_or("public"), name),
    };
    match sharded_index(&env, &found) {
        Some(index) => Placement::Sharded(index),
        None if is_reference(&env, &found) => Placement::Reference,
        None => Placement::Home,
    }
}
