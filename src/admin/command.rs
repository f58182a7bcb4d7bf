//! What may be said to the console: its own commands, and the few things drivers say to every server. A text becomes
//! commands or one error that says what would have worked; nothing is run here.

use super::table::{Cell, Column, ColumnType};
use super::views::View;
use super::words::{Word, statements};
use super::{SERVER_VERSION, VERSION_TEXT};
use crate::wire::sqlstate::SqlState;

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    Show(View),
    /// SHOW of a server setting that drivers ask for: name and value
    ShowSetting(&'static str, String),
    Reload,
    /// transactions mean nothing here, but drivers open them
    Begin,
    Commit,
    Rollback,
    /// accepted without any effect; the command tag
    Ignored(&'static str),
    /// SELECT of constants: the columns and the one row
    Select(Vec<(Column, Cell)>),
}

/// Becomes one ErrorResponse.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub code: SqlState,
    pub message: String,
    pub hint: String,
}

/// Who asks: what `SELECT current_user` and `SHOW` of a setting answer from.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub pid: i32,
}

const SEE_HELP: &str = "SHOW HELP lists what this database understands.";

/// All commands of a simple query.
pub fn parse(text: &str, asker: &Asker) -> Result<Vec<Command>, CommandError> {
    let Some(statements) = statements(text) else {
        return Err(error(
            SqlState::SYNTAX_ERROR,
            "a quote or a comment is not closed",
        ));
    };
    statements
        .iter()
        .map(|words| command(words, asker))
        .collect()
}

/// The one command of a Parse; None for an empty text.
pub fn parse_one(text: &str, asker: &Asker) -> Result<Option<Command>, CommandError> {
    let mut commands = parse(text, asker)?;
    if commands.len() > 1 {
        let message = "cannot insert multiple commands into a prepared statement";
        return Err(error(SqlState::SYNTAX_ERROR, message));
    }
    Ok(commands.pop())
}

impl Command {
    /// Empty for a command without rows.
    #[must_use]
    pub fn columns(&self) -> Vec<Column> {
        match self {
            Self::Show(view) => view.columns(),
            Self::ShowSetting(name, _) => vec![Column::of(name, ColumnType::Text)],
            Self::Select(items) => items.iter().map(|(column, _)| column.clone()).collect(),
            _ => Vec::new(),
        }
    }
}

fn command(words: &[Word], asker: &Asker) -> Result<Command, CommandError> {
    let Some(Word::Name(first)) = words.first() else {
        return Err(unknown(words));
    };
    match first.as_str() {
        "show" => show(&words[1..], asker),
        "reload" if words.len() == 1 => Ok(Command::Reload),
        "help" if words.len() == 1 => Ok(Command::Show(View::Help)),
        "begin" | "start" => Ok(Command::Begin),
        "commit" | "end" => Ok(Command::Commit),
        "rollback" | "abort" => Ok(Command::Rollback),
        "select" => select(&words[1..], asker),
        other => match ignored_tag(other, words) {
            Some(tag) => Ok(Command::Ignored(tag)),
            None => Err(unknown(words)),
        },
    }
}

/// What connection pools and drivers say when they take or return a connection.
fn ignored_tag(first: &str, words: &[Word]) -> Option<&'static str> {
    match first {
        "set" => Some("SET"),
        "reset" => Some("RESET"),
        "discard" => Some("DISCARD ALL"),
        "deallocate" if words.get(1).is_some_and(|w| w.is("all")) => Some("DEALLOCATE ALL"),
        "unlisten" => Some("UNLISTEN"),
        "close" => Some("CLOSE CURSOR ALL"),
        _ => None,
    }
}

fn show(words: &[Word], asker: &Asker) -> Result<Command, CommandError> {
    let names: Vec<&str> = words
        .iter()
        .filter_map(|word| match word {
            Word::Name(name) => Some(name.as_str()),
            _ => None,
        })
        .collect();
    if names.len() != words.len() || names.is_empty() {
        return Err(unknown_show("SHOW what?"));
    }
    if let [name] = names[..]
        && let Some(view) = View::named(name)
    {
        return Ok(Command::Show(view));
    }
    let name = match names[..] {
        ["transaction", "isolation", "level"] => "transaction_isolation".to_owned(),
        ["time", "zone"] => "timezone".to_owned(),
        _ => names.join(" "),
    };
    settings(asker)
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(&name))
        .map(|(known, value)| Command::ShowSetting(known, value))
        .ok_or_else(|| unknown_show(&format!("SHOW {} is not known here", name.to_uppercase())))
}

/// Settings that drivers ask for.
fn settings(asker: &Asker) -> Vec<(&'static str, String)> {
    let mut all = reported(asker);
    all.push(("transaction_isolation", "read committed".to_owned()));
    all.push(("search_path", "\"$user\", public".to_owned()));
    all.push(("server_version_num", "150000".to_owned()));
    all.push(("max_identifier_length", "63".to_owned()));
    all
}

/// Those of them that a server reports at start-up, as ParameterStatus.
#[must_use]
pub fn reported(asker: &Asker) -> Vec<(&'static str, String)> {
    let fixed = [
        ("server_version", SERVER_VERSION),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("IntervalStyle", "postgres"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "off"),
        ("default_transaction_read_only", "off"),
        ("in_hot_standby", "off"),
    ];
    let fixed = fixed.map(|(name, value)| (name, value.to_owned()));
    let own = [
        ("session_authorization", asker.user.clone()),
        ("application_name", asker.application_name.clone()),
    ];
    fixed.into_iter().chain(own).collect()
}

fn select(words: &[Word], asker: &Asker) -> Result<Command, CommandError> {
    let items: Option<Vec<_>> = words
        .split(|word| *word == Word::Sign(','))
        .map(|item| select_item(item, asker))
        .collect();
    items.map(Command::Select).ok_or_else(no_sql)
}

/// A constant or one of a few functions, with or without a name of its own.
fn select_item(words: &[Word], asker: &Asker) -> Option<(Column, Cell)> {
    let (words, alias) = match words {
        [item @ .., Word::Name(as_), Word::Name(alias)] if as_ == "as" => {
            (item, Some(alias.clone()))
        }
        _ => (words, None),
    };
    let words = match words {
        [Word::Name(schema), Word::Sign('.'), rest @ ..] if schema == "pg_catalog" => rest,
        _ => words,
    };
    let (name, kind, cell) = match words {
        [Word::Number(digits)] => (
            "?column?",
            ColumnType::Int4,
            Cell::Int4(digits.parse().ok()?),
        ),
        [Word::Text(text)] => ("?column?", ColumnType::Text, Cell::Text(text.clone())),
        [Word::Name(name)] => keyword(name, asker)?,
        [Word::Name(name), Word::Sign('('), Word::Sign(')')] => function(name, asker)?,
        _ => return None,
    };
    let mut column = Column::of(name, kind);
    if let Some(alias) = alias {
        column.name = alias.into();
    }
    Some((column, cell))
}

fn keyword(name: &str, asker: &Asker) -> Option<(&'static str, ColumnType, Cell)> {
    let name = ["current_user", "session_user", "user", "current_role"]
        .into_iter()
        .find(|n| *n == name)?;
    Some((name, ColumnType::Text, Cell::Text(asker.user.clone())))
}

fn function(name: &str, asker: &Asker) -> Option<(&'static str, ColumnType, Cell)> {
    match name {
        "version" => {
            let text = format!("PostgreSQL {SERVER_VERSION}, the admin database of {VERSION_TEXT}");
            Some(("version", ColumnType::Text, Cell::Text(text)))
        }
        "current_database" => Some((
            "current_database",
            ColumnType::Text,
            Cell::Text(asker.database.clone()),
        )),
        "current_schema" => Some(("current_schema", ColumnType::Text, Cell::Null)),
        "pg_backend_pid" => Some(("pg_backend_pid", ColumnType::Int4, Cell::Int4(asker.pid))),
        "pg_is_in_recovery" => Some(("pg_is_in_recovery", ColumnType::Bool, Cell::Bool(false))),
        // a pool's way to clean a connection: nothing is locked here
        "pg_advisory_unlock_all" => Some(("pg_advisory_unlock_all", ColumnType::Text, "".into())),
        _ => None,
    }
}

fn no_sql() -> CommandError {
    CommandError {
        code: SqlState::FEATURE_NOT_SUPPORTED,
        message: "the admin database has no tables and no catalog: it runs no queries".to_owned(),
        hint: format!("{SEE_HELP} \\d and its like work in the databases that pgshunt serves."),
    }
}

fn unknown(words: &[Word]) -> CommandError {
    if words.first().is_some_and(|word| {
        ["with", "table", "values", "explain"]
            .iter()
            .any(|w| word.is(w))
    }) {
        return no_sql();
    }
    let said = match words.first() {
        Some(Word::Name(name)) => name.to_uppercase(),
        Some(Word::Text(text) | Word::Number(text)) => text.clone(),
        Some(Word::Sign(sign)) => sign.to_string(),
        None => String::new(),
    };
    error(
        SqlState::SYNTAX_ERROR,
        &format!("the admin database does not understand \"{said}\""),
    )
}

fn unknown_show(message: &str) -> CommandError {
    let names = View::ALL.map(View::name).join(", ");
    CommandError {
        code: SqlState::UNDEFINED_OBJECT,
        message: message.to_owned(),
        hint: format!("SHOW takes one of {names}."),
    }
}

fn error(code: SqlState, message: &str) -> CommandError {
    CommandError {
        code,
        message: message.to_owned(),
        hint: SEE_HELP.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker() -> Asker {
        Asker {
            user: "ops".into(),
            database: "pgshunt".into(),
            application_name: "psql".into(),
            pid: 42,
        }
    }

    fn one(text: &str) -> Result<Command, CommandError> {
        parse_one(text, &asker()).map(Option::unwrap)
    }

    #[test]
    fn commands_are_understood_in_any_case_and_company() {
        assert_eq!(one("show POOLS;"), Ok(Command::Show(View::Pools)));
        assert_eq!(one("/* why */ Reload -- now"), Ok(Command::Reload));
        let both = parse("BEGIN; SHOW stats; commit", &asker()).unwrap();
        assert_eq!(
            both,
            [Command::Begin, Command::Show(View::Stats), Command::Commit]
        );
        assert_eq!(parse(" ; ", &asker()).unwrap(), []);
    }

    #[test]
    fn what_drivers_say_at_connect_is_answered() {
        for text in [
            "SET extra_float_digits = 3",
            "SET SESSION client_encoding TO 'x;y'",
            "SET a.b = 1",
        ] {
            assert_eq!(one(text), Ok(Command::Ignored("SET")), "{text}");
        }
        assert_eq!(one("DISCARD ALL"), Ok(Command::Ignored("DISCARD ALL")));
        let isolation = Command::ShowSetting("transaction_isolation", "read committed".into());
        assert_eq!(one("SHOW TRANSACTION ISOLATION LEVEL"), Ok(isolation));
        assert!(matches!(
            one("show server_version"),
            Ok(Command::ShowSetting("server_version", _))
        ));
        assert!(matches!(
            one("SHOW datestyle"),
            Ok(Command::ShowSetting("DateStyle", _))
        ));
        let Ok(Command::Select(items)) =
            one("select pg_catalog.version(), 1 AS one, 'x', current_user")
        else {
            panic!("not a select")
        };
        let names: Vec<_> = items.iter().map(|(column, _)| &*column.name).collect();
        assert_eq!(names, ["version", "one", "?column?", "current_user"]);
        assert_eq!(items[1].1, Cell::Int4(1));
        assert_eq!(items[3].1, Cell::Text("ops".into()));
    }

    #[test]
    fn errors_say_what_would_have_worked() {
        let catalog =
            one("SELECT n.nspname FROM pg_catalog.pg_class c WHERE c.relkind IN ('r','')")
                .unwrap_err();
        assert_eq!(catalog.code.0, "0A000");
        assert!(catalog.hint.contains("\\d"), "{}", catalog.hint);
        let show = one("SHOW POOL").unwrap_err();
        assert!(show.message.contains("SHOW POOL") && show.hint.contains("POOLS, CLIENTS"));
        assert_eq!(one("DELETE FROM users").unwrap_err().code.0, "42601");
        assert_eq!(one("SHOW POOLS; SHOW STATS").unwrap_err().code.0, "42601");
        assert_eq!(one("SHOW 'POOLS").unwrap_err().code.0, "42601");
        for odd in [
            "SHOW",
            "SHOW 1",
            "SELECT",
            "SELECT ,",
            "SELECT 99999999999",
            "'a'",
            "(",
            "$1",
            "SELECT $1",
        ] {
            assert!(one(odd).is_err(), "{odd}");
        }
    }
}
