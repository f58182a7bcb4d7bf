//! Hints in comments: `/* pgshunt: shard=s1 */` or `-- pgshunt: primary`, anywhere before or in a statement. This file
//! reads them; it does not know whether the shard exists or what a key's type is.

use super::tokens::{Lexeme, Scanner};
use crate::wire::sqlstate::SqlState;
use memchr::memmem;

/// What the comments of one statement ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// `shard=s1`
    pub shard: Option<String>,
    /// `key=42`, `key='a b'`, `key=(42, 'eu')`: the values as text, without quotes; one per key column
    pub key: Option<Vec<String>>,
    /// `keyspace=by_user`: which keyspace `key` belongs to
    pub keyspace: Option<String>,
    /// where and how fresh it must be read
    pub reads: Option<Reads>,
    /// `session='user-42'`: shares its watermark with every connection of that name
    pub session: Option<String>,
}

/// `primary`, `replica` or `level=…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// `primary`: on the primary, also when it is a read
    Primary,
    /// `replica`, `level=eventual`: any replica, however old
    Eventual,
    /// `level=bounded(200)`: replicas at most so many milliseconds behind
    Bounded(u32),
    /// `level=session`
    Session,
    /// `level=strong`
    Strong,
}

/// A hint that is not understood is an error: it was written because it matters.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct HintError {
    pub code: SqlState,
    pub message: String,
    pub hint: String,
}

impl HintError {
    fn new(message: String, hint: &str) -> Self {
        Self {
            code: SqlState::INVALID_PARAMETER_VALUE,
            message,
            hint: hint.to_owned(),
        }
    }
}

const MARK: &[u8] = b"pgshunt:";
const KNOWN: &str = "Known hints are shard=name, key=value, keyspace=name, primary, replica, \
                     level=eventual|bounded(ms)|session|strong and session='name'.";
const ONE_OF: &str = "Write each hint once, and only one of shard and key, and only one of primary, replica and level.";

/// The hints of one statement. `segment` is the statement with the comments around it (`tokens::Piece::segment`).
pub fn hints(segment: &[u8], scs: bool) -> Result<Hints, HintError> {
    let mut hints = Hints::default();
    if memmem::find(segment, MARK).is_none() {
        return Ok(hints);
    }
    let mut scanner = Scanner::new(segment, scs);
    // a text that cannot be scanned is refused elsewhere
    while let Ok(Some(lexeme)) = scanner.next_lexeme() {
        if let Lexeme::Comment { start, end } = lexeme
            && let Some(words) = hint_words(segment.get(start..end).unwrap_or_default())
        {
            read_comment(words, &mut hints)?;
        }
    }
    agree(&hints)?;
    Ok(hints)
}

/// What is behind `pgshunt:` in a comment; None for a comment that is for others.
fn hint_words(comment: &[u8]) -> Option<&[u8]> {
    let inner = match comment.strip_prefix(b"--") {
        Some(line) => line,
        None => comment.strip_prefix(b"/*")?.strip_suffix(b"*/")?,
    };
    inner.trim_ascii().strip_prefix(MARK)
}

fn read_comment(words: &[u8], hints: &mut Hints) -> Result<(), HintError> {
    let words = std::str::from_utf8(words)
        .map_err(|_| HintError::new("a pgshunt hint is not valid UTF-8".to_owned(), KNOWN))?;
    let mut rest = skip_separators(words);
    while !rest.is_empty() {
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (values, after) = match after.trim_start().strip_prefix('=') {
            Some(value) => read_values(value.trim_start()).ok_or_else(|| bad_value(name))?,
            None => (Vec::new(), after),
        };
        note(name, values, hints)?;
        let next = skip_separators(after);
        if next.len() == rest.len() {
            return Err(unknown(rest));
        }
        rest = next;
    }
    Ok(())
}

fn skip_separators(text: &str) -> &str {
    text.trim_start_matches(|c: char| c.is_whitespace() || c == ',')
}

/// One value, or several in parentheses, and the text after them.
fn read_values(text: &str) -> Option<(Vec<String>, &str)> {
    let Some(mut rest) = text.strip_prefix('(') else {
        let (value, rest) = read_value(text, |c| c.is_whitespace() || c == ',')?;
        return Some((vec![value], rest));
    };
    let mut values = Vec::new();
    loop {
        let (value, after) = read_value(rest.trim_start(), |c| c == ',' || c == ')')?;
        values.push(value);
        let after = after.trim_start();
        if let Some(after) = after.strip_prefix(')') {
            return Some((values, after));
        }
        rest = after.strip_prefix(',')?;
    }
}

/// `'it''s'`, or everything up to `ends`.
fn read_value(text: &str, ends: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let Some(mut rest) = text.strip_prefix('\'') else {
        let (value, rest) = text.split_at(text.find(ends).unwrap_or(text.len()));
        let value = value.trim_end();
        return (!value.is_empty()).then(|| (value.to_owned(), rest));
    };
    let mut value = String::new();
    loop {
        let (part, after) = rest.split_once('\'')?;
        value.push_str(part);
        match after.strip_prefix('\'') {
            Some(after) => {
                value.push('\'');
                rest = after;
            }
            None => return Some((value, after)),
        }
    }
}

fn note(name: &str, mut values: Vec<String>, hints: &mut Hints) -> Result<(), HintError> {
    let folded = name.to_ascii_lowercase();
    match (folded.as_str(), values.len()) {
        ("primary", 0) => set(name, &mut hints.reads, Reads::Primary),
        ("replica", 0) => set(name, &mut hints.reads, Reads::Eventual),
        ("key", 1..) => set(name, &mut hints.key, values),
        ("shard", 1) => set(name, &mut hints.shard, values.remove(0)),
        ("keyspace", 1) => set(name, &mut hints.keyspace, values.remove(0)),
        ("session", 1) => set(name, &mut hints.session, values.remove(0)),
        ("level", 1) => set(name, &mut hints.reads, level(&values[0])?),
        ("primary" | "replica" | "key" | "shard" | "keyspace" | "session" | "level", _) => {
            Err(bad_value(name))
        }
        _ => Err(unknown(name)),
    }
}

fn set<T>(name: &str, place: &mut Option<T>, value: T) -> Result<(), HintError> {
    if place.is_some() {
        return Err(HintError::new(
            format!("pgshunt hint \"{name}\" contradicts another hint"),
            ONE_OF,
        ));
    }
    *place = Some(value);
    Ok(())
}

fn level(text: &str) -> Result<Reads, HintError> {
    let folded = text.to_ascii_lowercase();
    let bound = folded
        .strip_prefix("bounded(")
        .and_then(|rest| rest.strip_suffix(')'));
    match (folded.as_str(), bound) {
        ("eventual", _) => Ok(Reads::Eventual),
        ("session", _) => Ok(Reads::Session),
        ("strong", _) => Ok(Reads::Strong),
        (_, Some(ms)) => ms
            .trim()
            .parse()
            .map(Reads::Bounded)
            .map_err(|_| bad_value("level")),
        _ => Err(bad_value("level")),
    }
}

fn agree(hints: &Hints) -> Result<(), HintError> {
    if hints.shard.is_some() && hints.key.is_some() {
        return Err(HintError::new(
            "pgshunt hints name both a shard and a key".to_owned(),
            ONE_OF,
        ));
    }
    if hints.keyspace.is_some() && hints.key.is_none() {
        let message = "pgshunt hint \"keyspace\" needs a key".to_owned();
        return Err(HintError::new(
            message,
            "Write /* pgshunt: key=42 keyspace=name */.",
        ));
    }
    Ok(())
}

fn unknown(text: &str) -> HintError {
    let shown: String = text.chars().take(64).collect();
    HintError::new(format!("unknown pgshunt hint \"{shown}\""), KNOWN)
}

fn bad_value(name: &str) -> HintError {
    HintError::new(format!("invalid value for pgshunt hint \"{name}\""), KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Hints {
        hints(text.as_bytes(), true).unwrap()
    }

    fn refused(text: &str) -> HintError {
        hints(text.as_bytes(), true).unwrap_err()
    }

    #[test]
    fn a_statement_without_hints_has_none() {
        assert_eq!(
            read("SELECT 1 /* pgshunt is not addressed */"),
            Hints::default()
        );
        assert_eq!(read("SELECT '/* pgshunt: shard=s1 */'"), Hints::default());
        assert_eq!(
            read("SELECT 1 /* see pgshunt: shard=s1 */"),
            Hints::default()
        );
    }

    #[test]
    fn shard_and_session_before_or_in_the_statement() {
        assert_eq!(
            read("/* pgshunt: shard=s1 */ SELECT 1").shard.as_deref(),
            Some("s1")
        );
        assert_eq!(
            read("SELECT /*pgshunt:shard='s 1'*/ 1").shard.as_deref(),
            Some("s 1")
        );
        assert_eq!(
            read("SELECT 1 -- pgshunt: shard = s1").shard.as_deref(),
            Some("s1")
        );
        let both = read("/* pgshunt: primary */ SELECT 1 /* pgshunt: session='user-4''2' */");
        assert_eq!(both.session.as_deref(), Some("user-4'2"));
        assert_eq!(both.reads, Some(Reads::Primary));
    }

    #[test]
    fn keys_are_texts_one_for_each_column() {
        assert_eq!(read("/* pgshunt: key=42 */").key, Some(vec!["42".into()]));
        assert_eq!(
            read("/* pgshunt: key=-42, keyspace=k */").key,
            Some(vec!["-42".into()])
        );
        let uuid = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(
            read(&format!("/* pgshunt: key={uuid} */")).key,
            Some(vec![uuid.into()])
        );
        let pair = read("/* pgshunt: key=( 42 , 'e)u' ) keyspace=by_user */");
        assert_eq!(pair.key, Some(vec!["42".into(), "e)u".into()]));
        assert_eq!(pair.keyspace.as_deref(), Some("by_user"));
    }

    #[test]
    fn levels() {
        assert_eq!(read("/* pgshunt: replica */").reads, Some(Reads::Eventual));
        assert_eq!(
            read("/* pgshunt: level=BOUNDED(200) */").reads,
            Some(Reads::Bounded(200))
        );
        assert_eq!(
            read("/* pgshunt: level=strong */").reads,
            Some(Reads::Strong)
        );
        refused("/* pgshunt: level=bounded(x) */");
        refused("/* pgshunt: level=soon */");
    }

    #[test]
    fn what_is_not_understood_is_refused_with_the_known_words() {
        let error = refused("/* pgshunt: sharrd=s1 */ SELECT 1");
        assert_eq!(error.code, SqlState::INVALID_PARAMETER_VALUE);
        assert_eq!(error.message, "unknown pgshunt hint \"sharrd\"");
        assert!(error.hint.contains("shard=name"));
        for text in [
            "/* pgshunt: shard */",
            "/* pgshunt: shard= */",
            "/* pgshunt: shard='s1 */",
            "/* pgshunt: primary=1 */",
            "/* pgshunt: =5 */",
            "/* pgshunt: + */",
            "/* pgshunt: key=(1 */",
            "/* pgshunt: key=() */",
            "/* pgshunt: é */",
        ] {
            refused(text);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for text in [
            "/* pgshunt: primary replica */",
            "/* pgshunt: shard=a */ /* pgshunt: shard=b */",
            "/* pgshunt: shard=a key=1 */",
            "/* pgshunt: keyspace=a */",
            "/* pgshunt: primary level=session */",
        ] {
            refused(text);
        }
    }
}
