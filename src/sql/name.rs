//! Identifiers as Postgres stores them: bare words folded to lower case, quoted ones as written, both cut to 63 bytes.
//! It does not know what the names stand for.

use super::tokens::{Token, TokenKind};

/// NAMEDATALEN - 1
pub const NAME_MAX: usize = 63;

/// The name that an identifier token stands for. None when the token is no identifier, when it is a `U&"…"` identifier
/// (its UESCAPE is another token), or when it is not UTF-8.
pub fn identifier(text: &[u8], token: &Token) -> Option<String> {
    let bytes = token.bytes(text);
    match token.kind {
        TokenKind::Ident => fold(bytes),
        TokenKind::QuotedIdent => unquote(bytes),
        _ => None,
    }
}

/// A bare word as a name: ASCII letters in lower case, as in every encoding of several bytes a character.
pub fn fold(word: &[u8]) -> Option<String> {
    let word = std::str::from_utf8(word).ok()?;
    Some(truncate(word).to_ascii_lowercase())
}

/// A name as an identifier of SQL, whatever it holds.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"a""b"` as a name.
pub fn unquote(quoted: &[u8]) -> Option<String> {
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let name = std::str::from_utf8(inner).ok()?.replace("\"\"", "\"");
    Some(truncate(&name).to_owned())
}

/// The first 63 bytes, never half a character.
pub fn truncate(name: &str) -> &str {
    let mut end = name.len().min(NAME_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    fn name(text: &str) -> Option<String> {
        let tokens = tokenize(text.as_bytes(), true).unwrap();
        identifier(text.as_bytes(), &tokens[0])
    }

    #[test]
    fn bare_words_are_folded_and_quoted_ones_are_not() {
        assert_eq!(name("FooBar").as_deref(), Some("foobar"));
        assert_eq!(name("ÄB").as_deref(), Some("Äb"));
        assert_eq!(name("\"Foo\"\"Bar\"").as_deref(), Some("Foo\"Bar"));
        assert_eq!(name("U&\"a\""), None);
        assert_eq!(name("'a'"), None);
    }

    #[test]
    fn names_are_cut_to_63_bytes_and_whole_characters() {
        assert_eq!(name(&"a".repeat(70)).map(|name| name.len()), Some(63));
        assert_eq!(
            name(&format!("\"{}\"", "é".repeat(40))),
            Some("é".repeat(31))
        );
    }
}
