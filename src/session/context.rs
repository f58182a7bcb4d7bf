//! What changes the meaning of a statement's text in this session: search_path, role, string syntax, encoding.

use crate::catalog::Catalog;
use crate::exec::transaction::{Heard, Said, Transaction};
use crate::vars::Vars;
use xxhash_rust::xxh3::xxh3_64_with_seed;

#[derive(Clone, Debug)]
pub struct Context {
    /// schemas in order, `"$user"` replaced
    pub search_path: Vec<String>,
    pub standard_conforming_strings: bool,
    /// of the snapshot it was made for
    pub version: u64,
    /// changes with any of these, and with map and catalog
    pub fingerprint: u64,
    /// changes with everything that a prepared statement may have taken in when it was parsed
    pub settings: u64,
}

/// Client encodings in which a byte below 128 may be part of a larger character: there SQL cannot be scanned safely.
/// With all the names PostgreSQL knows them by, without case and punctuation.
const UNSAFE_ENCODINGS: [&str; 17] = [
    "sjis",
    "shiftjis",
    "mskanji",
    "win932",
    "windows932",
    "shiftjis2004",
    "big5",
    "win950",
    "windows950",
    "gbk",
    "win936",
    "windows936",
    "uhc",
    "win949",
    "windows949",
    "johab",
    "gb18030",
];

#[must_use]
pub fn is_unsafe_encoding(name: &str) -> bool {
    let letters = name.chars().filter(char::is_ascii_alphanumeric);
    let name: String = letters.map(|c| c.to_ascii_lowercase()).collect();
    UNSAFE_ENCODINGS.contains(&name.as_str())
}

impl Context {
    #[must_use]
    pub fn new(
        catalog: &Catalog,
        version: u64,
        user: &str,
        vars: &Vars,
        transaction: Option<&Transaction>,
    ) -> Self {
        // the transaction's own word counts before the session's
        let statement = |name: &str| match transaction.map_or(Said::Nothing, |tx| tx.said_of(name))
        {
            Said::Nothing | Said::Reset => vars.statement(name),
            Said::Set(statement) => Some(statement),
        };
        let in_force = |name: &str| statement(name).and_then(set_values);
        let path = in_force("search_path").unwrap_or_else(|| catalog.default_search_path.clone());
        let search_path: Vec<String> = path
            .iter()
            .map(|schema| {
                if schema == "$user" {
                    user.to_owned()
                } else {
                    schema.clone()
                }
            })
            .collect();
        let standard_conforming_strings =
            in_force("standard_conforming_strings").is_none_or(|values| !is_off(&values));
        let mut hash = version ^ u64::from(standard_conforming_strings) << 63;
        for schema in &search_path {
            hash = xxh3_64_with_seed(schema.as_bytes(), hash.wrapping_add(1));
        }
        let names = [
            "role",
            "session_authorization",
            "transform_null_equals",
            "client_encoding",
        ];
        for statement in names.iter().filter_map(|name| statement(name)) {
            hash = xxh3_64_with_seed(statement.as_bytes(), hash);
        }
        let mut settings = hash;
        for (name, statement) in vars.entries().chain(said(transaction)) {
            if !is_harmless(name) {
                settings = xxh3_64_with_seed(statement.as_bytes(), settings.rotate_left(1));
            }
        }
        Self {
            search_path,
            standard_conforming_strings,
            version,
            fingerprint: hash,
            settings,
        }
    }
}

fn is_off(values: &[String]) -> bool {
    let word = values.first().map(|v| v.to_ascii_lowercase());
    matches!(
        word.as_deref(),
        Some("off" | "of" | "false" | "fals" | "fal" | "fa" | "f" | "no" | "n" | "0")
    )
}

/// Settings of the transaction, in order.
fn said(transaction: Option<&Transaction>) -> impl Iterator<Item = (&str, &str)> {
    let heard = transaction
        .map(|tx| tx.heard.as_slice())
        .unwrap_or_default();
    heard.iter().filter_map(|h| match h {
        Heard::Setting {
            name, statement, ..
        } => Some((name.as_str(), statement.as_str())),
        Heard::Savepoint { .. } | Heard::Wish(_) => None,
    })
}

/// Settings that change neither what a statement means nor what its constants are: sessions that differ in them share
/// prepared statements.
fn is_harmless(name: &str) -> bool {
    const HARMLESS: [&str; 9] = [
        "application_name",
        "client_min_messages",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "idle_session_timeout",
        "transaction_timeout",
        "synchronous_commit",
        "work_mem",
    ];
    // settings of an extension or of the application have a dot; what reads them, current_setting(), is not folded
    HARMLESS.contains(&name) || name.contains('.')
}

/// The values of a `SET name = a, 'b'` statement; None for DEFAULT or what is not a plain list.
#[must_use]
pub fn set_values(statement: &str) -> Option<Vec<String>> {
    use crate::sql::command::{Command, SettingValue, classify};
    let tokens = crate::sql::tokens::tokenize(statement.as_bytes(), true).ok()?;
    match classify(statement.as_bytes(), &tokens, true) {
        Command::Set(setting) => match setting.value {
            SettingValue::List(values) => Some(values),
            _ => None,
        },
        _ => None,
    }
}
