//! SET, RESET, SHOW and DISCARD. Settings called `pgshunt.…` are ours and never reach a server.

use super::words::Words;
use super::{Command, Discard, Setting, SettingValue, transaction};
use crate::sql::tokens::TokenKind;

const OURS: &str = "pgshunt.";

/// After SET. None when it is malformed.
pub(super) fn set(words: &mut Words) -> Option<Command> {
    if words.take("constraints") {
        return None;
    }
    let local = take_scope(words);
    if words.take_all(&["session", "characteristics", "as", "transaction"]) {
        return transaction::modes(words).map(Command::SessionCharacteristics);
    }
    if words.take_all(&["transaction", "snapshot"]) {
        return Some(Command::SetTransactionSnapshot);
    }
    if words.take("transaction") {
        return transaction::modes(words).map(Command::SetTransaction);
    }
    let (name, value) = assignment(words)?;
    words.expect_end()?;
    Some(match name.strip_prefix(OURS) {
        Some(name) => Command::SetLocal {
            name: name.to_owned(),
            value: own_value(value),
            local,
        },
        None => Command::Set(Setting { name, local, value }),
    })
}

/// `[SESSION | LOCAL]`, not as the name of a setting, and not as the first half of SESSION AUTHORIZATION.
fn take_scope(words: &mut Words) -> bool {
    let at = words.position();
    let is_scope = matches!(
        words.kind_at(at + 1),
        Some(TokenKind::Ident | TokenKind::QuotedIdent)
    ) && !words.is_word_at(at + 1, "to");
    if is_scope && words.take("local") {
        return true;
    }
    let is_session = is_scope
        && !words.is_word_at(at + 1, "authorization")
        && !words.is_word_at(at + 1, "characteristics");
    if is_session {
        words.take("session");
    }
    false
}

/// The name in its one spelling, and the value.
fn assignment(words: &mut Words) -> Option<(String, SettingValue)> {
    let special = if words.take_all(&["time", "zone"]) {
        Some(("timezone", time_zone(words)))
    } else if words.take_all(&["session", "authorization"]) {
        Some(("session_authorization", one_value(words)))
    } else if words.is_word_at(words.position(), "names") && !is_assigned(words, 1) {
        words.skip(1);
        let value = if words.is_at_end() {
            SettingValue::Default
        } else {
            one_value(words)
        };
        Some(("client_encoding", value))
    } else if is_followed_by_value(words, "role") {
        Some(("role", one_value(words)))
    } else if is_followed_by_value(words, "schema") {
        Some(("search_path", one_value(words)))
    } else if words.take_all(&["xml", "option"]) {
        Some(("xmloption", one_value(words)))
    } else {
        None
    };
    if let Some((name, value)) = special {
        return Some((name.to_owned(), value));
    }
    let name = setting_name(words)?;
    if !words.take("to") {
        (words.verbatim()? == "=").then_some(())?;
    }
    Some((name, values(words)))
}

/// Steps over `word` when a value and not `=` or TO comes after it.
fn is_followed_by_value(words: &mut Words, word: &str) -> bool {
    !is_assigned(words, 1) && words.rest().len() > 1 && words.take(word)
}

fn is_assigned(words: &Words, ahead: usize) -> bool {
    let at = words.position() + ahead;
    words.is_text_at(at, "=")
        || words.is_word_at(at, "to")
        || words.kind_at(at) == Some(TokenKind::Dot)
}

/// `name` or `prefix.name`, in lower case: settings are found whatever their case.
fn setting_name(words: &mut Words) -> Option<String> {
    let mut name = words.name()?.to_ascii_lowercase();
    while words.take_kind(TokenKind::Dot) {
        name.push('.');
        name.push_str(&words.name()?.to_ascii_lowercase());
    }
    Some(name)
}

fn time_zone(words: &mut Words) -> SettingValue {
    if words.take("local") {
        SettingValue::Default
    } else {
        one_value(words)
    }
}

fn one_value(words: &mut Words) -> SettingValue {
    match values(words) {
        SettingValue::List(list) if list.len() != 1 => SettingValue::Opaque,
        value => value,
    }
}

/// All that is left of the statement.
fn values(words: &mut Words) -> SettingValue {
    if words.rest().len() == 1 && words.take("default") {
        return SettingValue::Default;
    }
    let mut list = Vec::new();
    let read = loop {
        match value(words) {
            Some(value) => list.push(value),
            None => break false,
        }
        if words.is_at_end() {
            break true;
        }
        if !words.take_kind(TokenKind::Comma) {
            break false;
        }
    };
    words.skip_to(words.len());
    if read {
        SettingValue::List(list)
    } else {
        SettingValue::Opaque
    }
}

/// A bare word, a string or a number with its sign.
fn value(words: &mut Words) -> Option<String> {
    match words.peek_kind()? {
        TokenKind::Ident | TokenKind::QuotedIdent => words.name(),
        TokenKind::Number(_) => words.verbatim(),
        TokenKind::Operator => {
            let sign = words.verbatim()?;
            matches!(words.peek_kind()?, TokenKind::Number(_)).then_some(())?;
            match sign.as_str() {
                "-" => words.verbatim().map(|number| format!("-{number}")),
                "+" => words.verbatim(),
                _ => None,
            }
        }
        _ => words.string(),
    }
}

/// Our own settings have one value each; what cannot be read is an empty value, which each of them refuses.
fn own_value(value: SettingValue) -> Option<String> {
    match value {
        SettingValue::Default => None,
        SettingValue::List(list) => Some(list.join(", ")),
        SettingValue::Opaque => Some(String::new()),
    }
}

/// After RESET.
pub(super) fn reset(words: &mut Words) -> Option<Command> {
    if words.rest().len() == 1 && words.take("all") {
        return Some(Command::ResetAll);
    }
    let name = named(words)?;
    words.expect_end()?;
    Some(match name.strip_prefix(OURS) {
        Some(name) => Command::SetLocal {
            name: name.to_owned(),
            value: None,
            local: false,
        },
        None => Command::Reset(name),
    })
}

/// After SHOW.
pub(super) fn show(words: &mut Words) -> Option<Command> {
    let name = named(words)?;
    words.expect_end()?;
    Some(match name.strip_prefix(OURS) {
        Some(name) => Command::ShowLocal(name.to_owned()),
        None => Command::Show(name),
    })
}

/// The name of a setting as RESET and SHOW spell it.
fn named(words: &mut Words) -> Option<String> {
    if words.take_all(&["time", "zone"]) {
        Some("timezone".to_owned())
    } else if words.take_all(&["transaction", "isolation", "level"]) {
        Some("transaction_isolation".to_owned())
    } else if words.take_all(&["session", "authorization"]) {
        Some("session_authorization".to_owned())
    } else {
        setting_name(words)
    }
}

/// After DISCARD.
pub(super) fn discard(words: &mut Words) -> Option<Command> {
    let discard = match words.next_word()?.as_str() {
        "all" => Discard::All,
        "plans" => Discard::Plans,
        "temp" | "temporary" => Discard::Temporary,
        "sequences" => Discard::Sequences,
        _ => return None,
    };
    words.expect_end()?;
    Some(Command::Discard(discard))
}
