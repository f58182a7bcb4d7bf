//! A cursor over the tokens of one statement: the few questions that keyword grammars ask.

use crate::sql::name;
use crate::sql::tokens::{Token, TokenKind, string_value};
use std::ops::Range;

pub(super) struct Words<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    scs: bool,
    at: usize,
}

impl<'a> Words<'a> {
    pub fn new(text: &'a [u8], tokens: &'a [Token], scs: bool) -> Self {
        Self {
            text,
            tokens,
            scs,
            at: 0,
        }
    }

    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    pub fn position(&self) -> usize {
        self.at
    }

    pub fn rest(&self) -> Range<usize> {
        self.at.min(self.tokens.len())..self.tokens.len()
    }

    pub fn is_at_end(&self) -> bool {
        self.at >= self.tokens.len()
    }

    pub fn skip(&mut self, count: usize) {
        self.at += count;
    }

    pub fn skip_to(&mut self, at: usize) {
        self.at = at;
    }

    pub fn peek(&self) -> Option<&'a Token> {
        self.tokens.get(self.at)
    }

    pub fn peek_kind(&self) -> Option<TokenKind> {
        self.kind_at(self.at)
    }

    pub fn kind_at(&self, at: usize) -> Option<TokenKind> {
        self.tokens.get(at).map(|token| token.kind)
    }

    /// The next token as a bare word in lower case.
    pub fn peek_word(&self) -> Option<String> {
        let token = self.peek().filter(|token| token.kind == TokenKind::Ident)?;
        Some(String::from_utf8_lossy(token.bytes(self.text)).to_ascii_lowercase())
    }

    pub fn next_word(&mut self) -> Option<String> {
        let word = self.peek_word()?;
        self.at += 1;
        Some(word)
    }

    pub fn is_word_at(&self, at: usize, word: &str) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.is_word(self.text, word))
    }

    pub fn is_text_at(&self, at: usize, text: &str) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| token.bytes(self.text).eq_ignore_ascii_case(text.as_bytes()))
    }

    pub fn is_string_at(&self, at: usize) -> bool {
        self.tokens
            .get(at)
            .is_some_and(|token| string_value(self.text, token, self.scs).is_some())
    }

    /// Steps over `word` when it comes next.
    pub fn take(&mut self, word: &str) -> bool {
        let found = self.is_word_at(self.at, word);
        self.at += usize::from(found);
        found
    }

    /// Steps over all of these words, or none.
    pub fn take_all(&mut self, words: &[&str]) -> bool {
        let found = words
            .iter()
            .enumerate()
            .all(|(n, word)| self.is_word_at(self.at + n, word));
        self.at += if found { words.len() } else { 0 };
        found
    }

    pub fn take_kind(&mut self, kind: TokenKind) -> bool {
        let found = self.peek_kind() == Some(kind);
        self.at += usize::from(found);
        found
    }

    pub fn expect(&mut self, word: &str) -> Option<()> {
        self.take(word).then_some(())
    }

    pub fn expect_end(&self) -> Option<()> {
        self.is_at_end().then_some(())
    }

    /// An identifier, folded as Postgres folds it.
    pub fn name(&mut self) -> Option<String> {
        let name = name::identifier(self.text, self.peek()?)?;
        self.at += 1;
        Some(name)
    }

    /// A name, or the bare word ALL (None).
    pub fn name_or_all(&mut self) -> Option<Option<String>> {
        if self.take("all") {
            Some(None)
        } else {
            self.name().map(Some)
        }
    }

    pub fn string(&mut self) -> Option<String> {
        let value = string_value(self.text, self.peek()?, self.scs)?;
        self.at += 1;
        String::from_utf8(value).ok()
    }

    /// The next token as it is written.
    pub fn verbatim(&mut self) -> Option<String> {
        let token = self.peek()?;
        self.at += 1;
        Some(String::from_utf8_lossy(token.bytes(self.text)).into_owned())
    }

    /// These tokens as they are written, with what is between them.
    pub fn text_of(&self, tokens: Range<usize>) -> String {
        let tokens = self.tokens.get(tokens).unwrap_or_default();
        let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
            return String::new();
        };
        let bytes = self.text.get(first.start..last.end).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// The word, string or number that stands between here and `end`, if it is the only one.
    pub fn value_before(&mut self, end: usize) -> Option<String> {
        if self.at + 1 != end {
            return None;
        }
        self.string()
            .or_else(|| self.name())
            .or_else(|| self.verbatim())
    }

    /// Where the parenthesis that opens here is closed.
    pub fn closing_paren(&self) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate().skip(self.at) {
            match token.kind {
                TokenKind::ParenOpen => depth += 1,
                TokenKind::ParenClose if depth <= 1 => return Some(at),
                TokenKind::ParenClose => depth -= 1,
                _ => {}
            }
        }
        None
    }

    /// Do one or more parentheses open here, with a query in them?
    pub fn is_query_in_parens(&self) -> bool {
        let mut at = self.at;
        while self.kind_at(at) == Some(TokenKind::ParenOpen) {
            at += 1;
        }
        at > self.at
            && ["select", "values", "with", "table"]
                .iter()
                .any(|word| self.is_word_at(at, word))
    }

    /// The first place of this keyword outside parentheses, where it is not a label or part of a dotted name.
    pub fn find_outside_parens(&self, word: &str) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, token) in self.tokens.iter().enumerate() {
            match token.kind {
                TokenKind::ParenOpen => depth += 1,
                TokenKind::ParenClose => depth = depth.saturating_sub(1),
                TokenKind::Ident
                    if depth == 0 && token.is_word(self.text, word) && !self.is_label(at) =>
                {
                    return Some(at);
                }
                _ => {}
            }
        }
        None
    }

    fn is_label(&self, at: usize) -> bool {
        let before = at.wrapping_sub(1);
        self.is_word_at(before, "as") || self.kind_at(before) == Some(TokenKind::Dot)
    }

    /// Is a name of the session's temporary schema written anywhere?
    pub fn mentions_temporary_schema(&self) -> bool {
        self.tokens.windows(2).any(|pair| {
            pair[1].kind == TokenKind::Dot
                && name::identifier(self.text, &pair[0]).is_some_and(|name| name == "pg_temp")
        })
    }
}
