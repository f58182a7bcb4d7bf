//! DDL and maintenance by their words: what kind of object, whether it may run in a transaction block, whether it makes
//! something temporary.

use super::words::Words;
use super::{Command, Ddl};
use crate::sql::tokens::TokenKind;

/// After the verb.
pub(super) fn parse(verb: &str, words: &mut Words) -> Ddl {
    let modifiers = if verb == "create" {
        skip_modifiers(words)
    } else {
        Modifiers::default()
    };
    let object = object(words);
    Ddl {
        verb: verb.to_owned(),
        outside_transaction: is_outside_transaction(verb, &object, words),
        temporary: verb == "create" && (modifiers.temporary || words.mentions_temporary_schema()),
        vacates: (object == "database")
            .then(|| vacated(verb, words))
            .flatten(),
        object,
    }
}

#[derive(Default)]
struct Modifiers {
    temporary: bool,
}

/// What may stand between CREATE and the kind of object.
fn skip_modifiers(words: &mut Words) -> Modifiers {
    let mut modifiers = Modifiers::default();
    while let Some(word) = words.peek_word() {
        match word.as_str() {
            "temp" | "temporary" => modifiers.temporary = true,
            "or" | "replace" | "global" | "local" | "unlogged" | "unique" | "recursive"
            | "trusted" | "procedural" | "constraint" => {}
            _ => break,
        }
        words.skip(1);
    }
    modifiers
}

/// One or two words: "table", "materialized view".
fn object(words: &mut Words) -> String {
    let Some(first) = words.next_word() else {
        return String::new();
    };
    let second: &[&str] = match first.as_str() {
        "materialized" => &["view"],
        "foreign" => &["table", "data"],
        "event" => &["trigger"],
        "access" => &["method"],
        "user" => &["mapping"],
        "operator" => &["class", "family"],
        "default" => &["privileges"],
        "large" => &["object"],
        "text" => &["search"],
        _ => &[],
    };
    match second.iter().find(|word| words.take(word)) {
        Some(second) => format!("{first} {second}"),
        None => first,
    }
}

/// `words` stand behind the kind of object.
fn is_outside_transaction(verb: &str, object: &str, words: &Words) -> bool {
    let next_is_concurrently = words.is_word_at(words.position(), "concurrently");
    match (verb, object) {
        ("create" | "drop", "database" | "tablespace") => true,
        ("alter", "database") => words
            .find_outside_parens("tablespace")
            .is_some_and(|at| words.is_word_at(at.wrapping_sub(1), "set")),
        ("create" | "drop" | "alter", "subscription") | ("alter", "system") => true,
        ("create" | "drop", "index") => next_is_concurrently,
        // ALTER TABLE … DETACH PARTITION p CONCURRENTLY
        ("alter", "table") => words.is_word_at(words.len().wrapping_sub(1), "concurrently"),
        _ => false,
    }
}

/// The database that is dropped, renamed, moved or copied; `words` stand behind DATABASE.
fn vacated(verb: &str, words: &mut Words) -> Option<String> {
    match verb {
        "drop" => {
            words.take_all(&["if", "exists"]);
            words.name()
        }
        "alter" => {
            let name = words.name()?;
            let empty = words.take("rename") || words.take_all(&["set", "tablespace"]);
            empty.then_some(name)
        }
        "create" => {
            let template = words.find_outside_parens("template")?;
            let is_sign = words.is_text_at(template + 1, "=");
            words.skip_to(template + 1 + usize::from(is_sign));
            words.string().or_else(|| words.name())
        }
        _ => None,
    }
}

/// VACUUM, ANALYZE, REINDEX, CLUSTER, REFRESH, CHECKPOINT, after their first word.
pub(super) fn maintenance(word: &str, words: &mut Words) -> Command {
    let outside_transaction = match word {
        "vacuum" => true,
        "reindex" => is_reindex_outside(words),
        "cluster" => is_cluster_of_all(words),
        _ => false,
    };
    let word = if word == "analyse" { "analyze" } else { word };
    Command::Maintenance {
        word: word.to_owned(),
        outside_transaction,
    }
}

/// `REINDEX [(options)] kind [CONCURRENTLY] name`
fn is_reindex_outside(words: &mut Words) -> bool {
    let begin = words.position();
    if words.peek_kind() == Some(TokenKind::ParenOpen) {
        let close = words.closing_paren().unwrap_or(words.len());
        words.skip_to(close + 1);
    }
    let options = begin..words.position();
    let kind = words.next_word().unwrap_or_default();
    matches!(kind.as_str(), "schema" | "database" | "system")
        || words.take("concurrently")
        || options
            .into_iter()
            .any(|at| words.is_word_at(at, "concurrently"))
}

/// `CLUSTER [VERBOSE | (options)]` without a table.
fn is_cluster_of_all(words: &mut Words) -> bool {
    words.take("verbose");
    if words.peek_kind() == Some(TokenKind::ParenOpen) {
        let close = words.closing_paren().unwrap_or(words.len());
        words.skip_to(close + 1);
    }
    words.is_at_end()
}
