//! `SELECT set_config('name', 'value', is_local)` is a SET in other words: it must reach every server the session uses.

use super::Session;
use super::startup::set_statement;
use crate::exec::failure::{Failure, Report};
use crate::exec::job::Setting;
use crate::route::{Command, Plan};
use crate::sql::command::{Command as Words, Isolation, SettingValue, classify};
use crate::sql::tokens::{Token, TokenKind, string_value, tokenize};
use crate::wire::sqlstate::SqlState;

/// The reason the planner gives for a call of set_config().
const SET_CONFIG: &str = "set_config()";

/// A statement that changes a setting of the session.
#[must_use]
pub fn is_setting(plan: &Plan) -> bool {
    matches!(plan.command, Command::Set { .. } | Command::Reset(_)) || calls_set_config(plan)
}

/// SET … TO DEFAULT, by whatever words.
#[must_use]
pub fn is_default(plan: &Plan) -> bool {
    let value = plan.setting.as_ref().map(|setting| &setting.value);
    matches!(value, Some(SettingValue::Default))
}

#[must_use]
pub fn calls_set_config(plan: &Plan) -> bool {
    plan.effects.pins == Some(SET_CONFIG)
}

/// The name the planner gives to SET SESSION CHARACTERISTICS.
pub const CHARACTERISTICS: &str = "session characteristics";

/// SET SESSION CHARACTERISTICS in the words of the settings it changes.
#[must_use]
pub fn characteristics(sql: &[u8]) -> Vec<Setting> {
    let tokens = tokenize(sql, true).unwrap_or_default();
    let Words::SessionCharacteristics(modes) = classify(sql, &tokens, true) else {
        return Vec::new();
    };
    let isolation = modes.isolation.map(|level| match level {
        Isolation::ReadUncommitted => "read uncommitted",
        Isolation::ReadCommitted => "read committed",
        Isolation::RepeatableRead => "repeatable read",
        Isolation::Serializable => "serializable",
    });
    let on_off = |value: bool| if value { "on" } else { "off" };
    let changed = [
        ("default_transaction_isolation", isolation),
        ("default_transaction_read_only", modes.read_only.map(on_off)),
        (
            "default_transaction_deferrable",
            modes.deferrable.map(on_off),
        ),
    ];
    let known = changed
        .into_iter()
        .filter_map(|(name, value)| value.map(|v| (name, v)));
    known
        .map(|(name, value)| Setting::Set {
            name: name.to_owned(),
            statement: set_statement(name, value),
        })
        .collect()
}

/// Why a session stays with its server.
pub const FOREIGN: &str = "a setting in another encoding than UTF8";

/// A SET whose words only one server was told.
#[must_use]
pub fn stays_there(plan: &Plan, settings: &[Setting]) -> bool {
    matches!(plan.command, Command::Set { .. }) && settings.is_empty()
}

impl Session {
    /// The words of a setting are repeated elsewhere under whatever encoding the session has by then: only those that mean the
    /// same there can be. With one server any others keep the session on it.
    pub fn is_foreign(&self, sql: &[u8]) -> Result<bool, Failure> {
        let same_everywhere =
            sql.is_ascii() || self.exec.reads_utf8() && std::str::from_utf8(sql).is_ok();
        if same_everywhere || self.exec.snapshot.database.shards.len() < 2 {
            return Ok(!same_everywhere);
        }
        Err(Report::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            "a setting in another client_encoding than UTF8 over several shards",
        )
        .hint("SET client_encoding TO UTF8 first, and to the other one afterwards.")
        .into())
    }

    /// What a call of set_config() changes. Only the plain form is understood; with one server any other form keeps the
    /// session on it, with several it is refused.
    pub fn set_config(&self, sql: &[u8]) -> Result<Option<Setting>, Failure> {
        let strings = self.context.standard_conforming_strings;
        if self.is_foreign(sql)? {
            return Ok(None);
        }
        match plain_call(sql, strings) {
            Some((name, value, false)) => {
                let statement = set_statement(&name, &value);
                Ok(Some(Setting::Set { name, statement }))
            }
            Some((name, value, true)) => {
                let statement = set_statement(&name, &value).replacen("SET ", "SET LOCAL ", 1);
                Ok(Some(Setting::Local { name, statement }))
            }
            None if self.exec.snapshot.database.shards.len() < 2 => Ok(None),
            None => Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "this call of set_config() over several shards",
            )
            .hint("Write SELECT set_config('name', 'value', false) with plain literals, or SET name = 'value'.")
            .into()),
        }
    }
}

/// Name, value and is_local of `SELECT [pg_catalog.]set_config('n', 'v', true|false) [[AS] alias]`.
fn plain_call(sql: &[u8], strings: bool) -> Option<(String, String, bool)> {
    let tokens = tokenize(sql, strings).ok()?;
    let mut rest = tokens.as_slice();
    take_word(sql, &mut rest, "select")?;
    if take_word(sql, &mut rest, "pg_catalog").is_some() {
        take_kind(&mut rest, TokenKind::Dot)?;
    }
    take_word(sql, &mut rest, "set_config")?;
    take_kind(&mut rest, TokenKind::ParenOpen)?;
    let name = take_string(sql, &mut rest, strings)?.to_ascii_lowercase();
    take_kind(&mut rest, TokenKind::Comma)?;
    let value = take_string(sql, &mut rest, strings)?;
    take_kind(&mut rest, TokenKind::Comma)?;
    let local = match (
        take_word(sql, &mut rest, "true"),
        take_word(sql, &mut rest, "false"),
    ) {
        (Some(()), _) => true,
        (None, Some(())) => false,
        (None, None) => return None,
    };
    take_kind(&mut rest, TokenKind::ParenClose)?;
    // a second column or a FROM is more than this
    let _ = take_word(sql, &mut rest, "as");
    let alias_only = rest.iter().all(|t| {
        matches!(
            t.kind,
            TokenKind::Ident | TokenKind::QuotedIdent | TokenKind::Semicolon
        )
    });
    (alias_only && rest.len() <= 2 && !rest.iter().any(|t| t.is_word(sql, "from")))
        .then_some((name, value, local))
}

fn take_word(sql: &[u8], rest: &mut &[Token], word: &str) -> Option<()> {
    let (first, others) = rest.split_first()?;
    first.is_word(sql, word).then(|| *rest = others)
}

fn take_kind(rest: &mut &[Token], kind: TokenKind) -> Option<()> {
    let (first, others) = rest.split_first()?;
    (first.kind == kind).then(|| *rest = others)
}

fn take_string(sql: &[u8], rest: &mut &[Token], strings: bool) -> Option<String> {
    let (first, others) = rest.split_first()?;
    let value = String::from_utf8(string_value(sql, first, strings)?).ok()?;
    *rest = others;
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::plain_call;

    #[test]
    fn the_plain_call_is_read_and_nothing_else() {
        let read = |sql: &str| plain_call(sql.as_bytes(), true);
        let expected = Some(("timezone".to_owned(), "Asia/Tokyo".to_owned(), false));
        assert_eq!(
            read("SELECT set_config('TimeZone', 'Asia/Tokyo', false)"),
            expected
        );
        assert_eq!(
            read("select pg_catalog.set_config('TimeZone', 'Asia/Tokyo', false) AS x;"),
            expected
        );
        assert!(read("SELECT set_config('a.b', 'c', true)").is_some_and(|(.., local)| local));
        assert_eq!(read("SELECT set_config('a.b', v, false) FROM t"), None);
        assert_eq!(read("SELECT set_config('a.b', 'c', false), 1"), None);
        assert_eq!(read("SELECT set_config('a.b', 'c', false) FROM t"), None);
        assert_eq!(read("SELECT set_config('a.b', $1, false)"), None);
    }
}
