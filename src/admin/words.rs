//! The console's own small scanner: words, quoted words, strings, numbers and single signs. It is for commands typed
//! by hand and for what drivers say at connect, not for SQL at large.

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// folded to lower case unless it was in double quotes
    Name(String),
    Text(String),
    Number(String),
    Sign(char),
}

impl Word {
    /// Is it this word? Never true for strings.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        matches!(self, Self::Name(n) if n == name)
    }
}

/// The statements of a text, empty ones left out. None when a quote or a comment is not closed.
#[must_use]
pub fn statements(text: &str) -> Option<Vec<Vec<Word>>> {
    let mut all = vec![Vec::new()];
    let mut rest = text;
    loop {
        rest = skip_blanks(rest)?;
        let Some(first) = rest.chars().next() else {
            break;
        };
        let (word, len) = word(first, rest)?;
        rest = &rest[len..];
        match word {
            Word::Sign(';') => all.push(Vec::new()),
            word => all.last_mut()?.push(word),
        }
    }
    all.retain(|statement| !statement.is_empty());
    Some(all)
}

fn skip_blanks(mut text: &str) -> Option<&str> {
    loop {
        text = text.trim_start();
        if text.starts_with("--") {
            text = text.find('\n').map_or("", |end| &text[end..]);
        } else if text.starts_with("/*") {
            text = &text[text.find("*/")? + 2..];
        } else {
            return Some(text);
        }
    }
}

/// The word at the start of `text` and its length in bytes.
fn word(first: char, text: &str) -> Option<(Word, usize)> {
    match first {
        '\'' => quoted(text, '\'').map(|(value, len)| (Word::Text(value), len)),
        '"' => quoted(text, '"').map(|(value, len)| (Word::Name(value), len)),
        c if c.is_ascii_digit() => {
            let len = length(text, |c| c.is_ascii_alphanumeric() || c == '.' || c == '_');
            Some((Word::Number(text[..len].to_owned()), len))
        }
        c if c.is_alphabetic() || c == '_' => {
            let len = length(text, |c| c.is_alphanumeric() || c == '_' || c == '$');
            Some((Word::Name(text[..len].to_ascii_lowercase()), len))
        }
        c => Some((Word::Sign(c), c.len_utf8())),
    }
}

fn length(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// A quote inside is written twice.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut at = 1;
    loop {
        let end = at + text[at..].find(quote)?;
        value.push_str(&text[at..end]);
        at = end + 1;
        if !text[at..].starts_with(quote) {
            return Some((value, at));
        }
        value.push(quote);
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Word {
        Word::Name(text.into())
    }

    #[test]
    fn words_are_folded_and_quotes_taken_off() {
        let found = statements("SHOW \"Pools\" 'it''s' 4.5 , -- end\n;; /* no */ Reload;").unwrap();
        let first = vec![
            name("show"),
            name("Pools"),
            Word::Text("it's".into()),
            Word::Number("4.5".into()),
            Word::Sign(','),
        ];
        assert_eq!(found, [first, vec![name("reload")]]);
    }

    #[test]
    fn what_is_not_closed_is_not_guessed() {
        for text in ["SELECT 'a", "SELECT \"a", "/* a", "SELECT 'a''"] {
            assert_eq!(statements(text), None, "{text}");
        }
    }

    #[test]
    fn nothing_is_no_statement() {
        for text in ["", " ; ;", "-- only this", "/* and this */"] {
            assert_eq!(statements(text), Some(vec![]), "{text}");
        }
        assert!(statements("é \u{0} € 💥 ''").is_some());
    }
}
