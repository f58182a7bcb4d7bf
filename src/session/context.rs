//! What changes the meaning of a statement's text in this session: search_path, role, string syntax, encoding.

use crate::catalog::Catalog;
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
}

/// Client encodings in which a byte below 128 may be part of a larger character: there SQL cannot be scanned safely.
const UNSAFE_ENCODINGS: [&str; 7] = [
    "SJIS",
    "BIG5",
    "GBK",
    "UHC",
    "GB18030",
    "JOHAB",
    "SHIFT_JIS_2004",
];

#[must_use]
pub fn is_unsafe_encoding(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    UNSAFE_ENCODINGS.contains(&name.as_str())
}

impl Context {
    /// `local_path` is a SET LOCAL search_path of the current transaction.
    #[must_use]
    pub fn new(
        catalog: &Catalog,
        version: u64,
        user: &str,
        vars: &Vars,
        local_path: Option<&[String]>,
        standard_conforming_strings: bool,
    ) -> Self {
        let path: Vec<String> = match local_path {
            Some(path) => path.to_vec(),
            None => vars
                .statement("search_path")
                .and_then(set_values)
                .unwrap_or_else(|| catalog.default_search_path.clone()),
        };
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
        let mut hash = version ^ u64::from(standard_conforming_strings) << 63;
        for schema in &search_path {
            hash = xxh3_64_with_seed(schema.as_bytes(), hash.wrapping_add(1));
        }
        for name in [
            "role",
            "session_authorization",
            "transform_null_equals",
            "client_encoding",
        ] {
            if let Some(statement) = vars.statement(name) {
                hash = xxh3_64_with_seed(statement.as_bytes(), hash);
            }
        }
        Self {
            search_path,
            standard_conforming_strings,
            version,
            fingerprint: hash,
        }
    }
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
