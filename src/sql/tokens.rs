//! SQL text to tokens, by the rules of PostgreSQL's own lexer (scan.l of version 15; hexadecimal integers and digit
//! separators of later versions are recognised as `Special` numbers). A token is a kind and a span: it does not know
//! what the words mean, and never holds a copy of the text.
//!
//! Everything is linear in the text, and nothing here panics: text that Postgres's lexer would refuse is a `ScanError`.

use memchr::{memchr, memchr2, memmem};
use std::ops::Range;

/// One token: `text[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub start: usize,
    pub end: usize,
    /// a string of several parts, `'a'` newline `'b'`: one value, but not one pair of quotes
    pub continued: bool,
}

impl Token {
    pub fn span(&self) -> Range<usize> {
        self.start..self.end
    }

    /// The bytes of the token; empty when `text` is not the text it came from.
    pub fn bytes<'a>(&self, text: &'a [u8]) -> &'a [u8] {
        text.get(self.start..self.end).unwrap_or_default()
    }

    /// Is it this bare word, in any case? `word` is lower case.
    pub fn is_word(&self, text: &[u8], word: &str) -> bool {
        self.kind == TokenKind::Ident && self.bytes(text).eq_ignore_ascii_case(word.as_bytes())
    }
}

/// In whole words, so that a token is copied in whole words: it halves the time of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TokenKind {
    /// keyword or bare identifier
    Ident,
    /// `"a""b"`
    QuotedIdent,
    /// `U&"d\0061t"`; a UESCAPE clause, if any, is the next tokens
    UnicodeIdent,
    /// `'it''s'`; with standard_conforming_strings off it may hold backslash escapes
    String,
    /// `E'\n'`
    EString,
    /// `N'…'`: escapes as in `String`
    NationalString,
    /// `U&'…'`; a UESCAPE clause, if any, is the next tokens
    UnicodeString,
    /// `B'01'` and `X'1f'`
    BitString,
    /// `$tag$…$tag$`
    DollarString,
    Number(NumberKind),
    /// `$n`
    Param(u32),
    /// any operator, also the one-character ones (`=`, `*`) and `=>`
    Operator,
    Comma,
    Semicolon,
    ParenOpen,
    ParenClose,
    BracketOpen,
    BracketClose,
    Dot,
    /// `..`
    DotDot,
    Colon,
    ColonColon,
    /// `:=`
    ColonEquals,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum NumberKind {
    /// decimal digits only
    Integer,
    /// with a point or an exponent
    Decimal,
    /// `0x1f`, `0o17`, `0b1`, `1_000`: PostgreSQL 16 and later; 15 refuses them, earlier versions read them as two words
    Special,
}

/// Text that Postgres's lexer refuses. `at` is a byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    #[error("unterminated /* comment at byte {at}")]
    UnterminatedComment { at: usize },
    #[error("unterminated quoted string at byte {at}")]
    UnterminatedString { at: usize },
    #[error("unterminated quoted identifier at byte {at}")]
    UnterminatedIdentifier { at: usize },
    #[error("zero-length delimited identifier at byte {at}")]
    EmptyIdentifier { at: usize },
    #[error("trailing junk after number at byte {at}")]
    NumberJunk { at: usize },
    #[error("parameter number too large at byte {at}")]
    ParameterNumber { at: usize },
    #[error("operator too long at byte {at}")]
    OperatorTooLong { at: usize },
    #[error(
        "unsafe use of string constant with Unicode escapes at byte {at}: standard_conforming_strings is off"
    )]
    UnsafeUnicodeString { at: usize },
    #[error("unexpected character at byte {at}")]
    Stray { at: usize },
}

/// All tokens of a text; comments and blanks are left out.
///
/// `scs` is the session's `standard_conforming_strings`.
pub fn tokenize(text: &[u8], scs: bool) -> Result<Vec<Token>, ScanError> {
    let mut scanner = Scanner::new(text, scs);
    let mut tokens = Vec::with_capacity(text.len() / 5 + 4);
    while let Some(token) = scanner.next_token()? {
        tokens.push(token);
    }
    Ok(tokens)
}

/// One statement of a text that may hold several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// its tokens, without the semicolon; never empty
    pub tokens: Range<usize>,
    /// first to last byte of its tokens
    pub span: Range<usize>,
    /// from the end of the statement before to its own semicolon: `span` and the comments around it (hints are looked
    /// for here); the last statement's segment ends with the text
    pub segment: Range<usize>,
}

/// The statements of a text: split at semicolons outside parentheses and outside `BEGIN ATOMIC … END` bodies.
/// Empty statements are left out, so an empty query gives an empty list.
pub fn split(text: &[u8], tokens: &[Token]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::new();
    let mut first = 0;
    let mut segment_start = 0;
    let mut nesting = Nesting::default();
    for (n, token) in tokens.iter().enumerate() {
        if token.kind == TokenKind::Semicolon && nesting.is_outermost() {
            push_piece(&mut pieces, tokens, first..n, segment_start..token.start);
            first = n + 1;
            segment_start = token.end;
            nesting = Nesting::default();
        } else {
            nesting.note(text, tokens, first, n);
        }
    }
    push_piece(
        &mut pieces,
        tokens,
        first..tokens.len(),
        segment_start..text.len(),
    );
    if let Some(last) = pieces.last_mut() {
        last.segment.end = text.len();
    }
    pieces
}

fn push_piece(
    pieces: &mut Vec<Piece>,
    tokens: &[Token],
    range: Range<usize>,
    segment: Range<usize>,
) {
    let Some(statement) = tokens.get(range.clone()) else {
        return;
    };
    if let (Some(first), Some(last)) = (statement.first(), statement.last()) {
        pieces.push(Piece {
            tokens: range,
            span: first.start..last.end,
            segment,
        });
    }
}

/// How deep a place is in parentheses and in the body of a standard SQL routine.
#[derive(Default)]
struct Nesting {
    parens: usize,
    /// BEGIN ATOMIC … END, and CASE … END within it
    blocks: usize,
}

impl Nesting {
    fn is_outermost(&self) -> bool {
        self.parens == 0 && self.blocks == 0
    }

    fn note(&mut self, text: &[u8], tokens: &[Token], first: usize, n: usize) {
        let token = &tokens[n];
        match token.kind {
            TokenKind::ParenOpen => self.parens += 1,
            TokenKind::ParenClose => self.parens = self.parens.saturating_sub(1),
            TokenKind::Ident if self.parens == 0 && !is_label(text, tokens, first, n) => {
                self.note_word(text, tokens, first, n);
            }
            _ => {}
        }
    }

    fn note_word(&mut self, text: &[u8], tokens: &[Token], first: usize, n: usize) {
        let token = &tokens[n];
        if self.blocks == 0 {
            let atomic = tokens
                .get(n + 1)
                .is_some_and(|next| next.is_word(text, "atomic"));
            if atomic && token.is_word(text, "begin") && tokens[first].is_word(text, "create") {
                self.blocks = 1;
            }
        } else if token.is_word(text, "case") {
            self.blocks += 1;
        } else if token.is_word(text, "end") {
            self.blocks -= 1;
        }
    }
}

/// After AS or a dot any word is a name.
fn is_label(text: &[u8], tokens: &[Token], first: usize, n: usize) -> bool {
    n > first && (tokens[n - 1].kind == TokenKind::Dot || tokens[n - 1].is_word(text, "as"))
}

/// The value of a string token as Postgres reads it, without quotes and escapes.
/// None when it is not a string, is a Unicode or bit string, or has an escape whose meaning is not plain.
pub fn string_value(text: &[u8], token: &Token, scs: bool) -> Option<Vec<u8>> {
    let bytes = token.bytes(text);
    let (open, escapes) = match token.kind {
        TokenKind::String => (0, !scs),
        TokenKind::NationalString => (1, !scs),
        TokenKind::EString => (1, true),
        TokenKind::DollarString => {
            let tag = memchr(b'$', bytes.get(1..)?)? + 2;
            return bytes
                .get(tag..bytes.len().checked_sub(tag)?)
                .map(<[u8]>::to_vec);
        }
        _ => return None,
    };
    let mut value = Vec::with_capacity(bytes.len());
    let mut at = open + 1;
    loop {
        let &byte = bytes.get(at)?;
        match byte {
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => {
                value.push(b'\'');
                at += 2;
            }
            b'\'' if at + 1 == bytes.len() => return Some(value),
            b'\'' => at = continuation(bytes, at + 1)?,
            b'\\' if escapes => at += unescape(bytes.get(at + 1..)?, &mut value)? + 1,
            _ => {
                value.push(byte);
                at += 1;
            }
        }
    }
}

/// One escape without its backslash: how many bytes it takes. Surrogate pairs are not read.
fn unescape(escape: &[u8], value: &mut Vec<u8>) -> Option<usize> {
    let plain = match *escape.first()? {
        b'0'..=b'7' => {
            let digits = count_digits(escape, 8, 3);
            // as in Postgres, only the low eight bits of `\777` are kept
            value.push((number(&escape[..digits], 8)? & 0xff) as u8);
            return Some(digits);
        }
        b'x' if count_digits(&escape[1..], 16, 2) > 0 => {
            let digits = count_digits(&escape[1..], 16, 2);
            value.push((number(&escape[1..=digits], 16)? & 0xff) as u8);
            return Some(digits + 1);
        }
        unicode @ (b'u' | b'U') => {
            let digits = if unicode == b'u' { 4 } else { 8 };
            let character = char::from_u32(number(escape.get(1..=digits)?, 16)?)?;
            value.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(digits + 1);
        }
        b'b' => 8,
        b'f' => 12,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    };
    value.push(plain);
    Some(1)
}

fn count_digits(bytes: &[u8], radix: u32, most: usize) -> usize {
    bytes
        .iter()
        .take(most)
        .take_while(|byte| char::from(**byte).is_digit(radix))
        .count()
}

fn number(digits: &[u8], radix: u32) -> Option<u32> {
    if count_digits(digits, radix, digits.len()) < digits.len() {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

/// A token or a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lexeme {
    Token(Token),
    /// with its `--` or `/*` and `*/`
    Comment {
        start: usize,
        end: usize,
    },
}

/// Reads a text token by token, without allocation.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    scs: bool,
    run: OperatorRun,
}

/// A run of operator characters, up to a comment in it; one run may hold several operators.
#[derive(Default)]
struct OperatorRun {
    end: usize,
    /// one past the last character that lets an operator end in `+` or `-`
    special_end: usize,
    /// where the trailing `+` and `-` begin
    signs: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(text: &'a [u8], scs: bool) -> Self {
        Self {
            text,
            at: 0,
            scs,
            run: OperatorRun::default(),
        }
    }

    #[inline]
    pub fn next_token(&mut self) -> Result<Option<Token>, ScanError> {
        loop {
            let Some(byte) = self.skip_blanks() else {
                return Ok(None);
            };
            match self.comment_end(self.at, byte)? {
                Some(end) => self.at = end,
                None => return self.advance(byte).map(Some),
            }
        }
    }

    /// As `next_token`, with the comments.
    pub fn next_lexeme(&mut self) -> Result<Option<Lexeme>, ScanError> {
        let Some(byte) = self.skip_blanks() else {
            return Ok(None);
        };
        let start = self.at;
        if let Some(end) = self.comment_end(start, byte)? {
            self.at = end;
            return Ok(Some(Lexeme::Comment { start, end }));
        }
        self.advance(byte).map(|token| Some(Lexeme::Token(token)))
    }

    /// The first byte that is no blank.
    #[inline]
    fn skip_blanks(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte(self.at)?;
            if CLASSES[usize::from(byte)] != Class::Space {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    #[inline]
    fn advance(&mut self, byte: u8) -> Result<Token, ScanError> {
        let token = self.token(self.at, byte)?;
        self.at = token.end;
        Ok(token)
    }

    #[inline]
    fn byte(&self, at: usize) -> Option<u8> {
        self.text.get(at).copied()
    }

    #[inline]
    fn class_at(&self, at: usize) -> Class {
        self.byte(at)
            .map_or(Class::End, |byte| CLASSES[usize::from(byte)])
    }

    #[inline]
    fn comment_end(&self, start: usize, byte: u8) -> Result<Option<usize>, ScanError> {
        if CLASSES[usize::from(byte)] != Class::Operator {
            return Ok(None);
        }
        match (byte, self.byte(start + 1)) {
            (b'-', Some(b'-')) => Ok(Some(line_end(self.text, start + 2))),
            (b'/', Some(b'*')) => block_comment_end(self.text, start).map(Some),
            _ => Ok(None),
        }
    }

    #[inline]
    fn token(&mut self, start: usize, byte: u8) -> Result<Token, ScanError> {
        match CLASSES[usize::from(byte)] {
            Class::Word => self.word(start, byte),
            Class::Digit => self.number(start),
            Class::Operator => self.operator(start),
            Class::Quote => self.string(TokenKind::String, start, start, !self.scs),
            Class::DoubleQuote => self.quoted_identifier(TokenKind::QuotedIdent, start, start),
            Class::Dollar => self.dollar(start),
            Class::Dot => match self.class_at(start + 1) {
                Class::Digit => self.number(start),
                Class::Dot => Ok(plain(TokenKind::DotDot, start, start + 2)),
                _ => Ok(plain(TokenKind::Dot, start, start + 1)),
            },
            Class::Colon => Ok(match self.byte(start + 1) {
                Some(b':') => plain(TokenKind::ColonColon, start, start + 2),
                Some(b'=') => plain(TokenKind::ColonEquals, start, start + 2),
                _ => plain(TokenKind::Colon, start, start + 1),
            }),
            Class::Single => Ok(plain(single(byte), start, start + 1)),
            Class::Space | Class::Stray | Class::End => Err(ScanError::Stray { at: start }),
        }
    }

    /// An identifier or keyword, or a string with a letter before its quote.
    #[inline]
    fn word(&self, start: usize, byte: u8) -> Result<Token, ScanError> {
        match (byte, self.byte(start + 1)) {
            (b'e' | b'E', Some(b'\'')) => {
                return self.string(TokenKind::EString, start, start + 1, true);
            }
            (b'n' | b'N', Some(b'\'')) => {
                return self.string(TokenKind::NationalString, start, start + 1, !self.scs);
            }
            (b'b' | b'B' | b'x' | b'X', Some(b'\'')) => return self.bit_string(start),
            (b'u' | b'U', Some(b'&')) => match self.byte(start + 2) {
                Some(b'\'') if self.scs => {
                    return self.string(TokenKind::UnicodeString, start, start + 2, false);
                }
                Some(b'\'') => return Err(ScanError::UnsafeUnicodeString { at: start }),
                Some(b'"') => {
                    return self.quoted_identifier(TokenKind::UnicodeIdent, start, start + 2);
                }
                _ => {}
            },
            _ => {}
        }
        let mut end = start + 1;
        while matches!(
            self.class_at(end),
            Class::Word | Class::Digit | Class::Dollar
        ) {
            end += 1;
        }
        Ok(plain(TokenKind::Ident, start, end))
    }

    fn string(
        &self,
        kind: TokenKind,
        start: usize,
        quote: usize,
        escapes: bool,
    ) -> Result<Token, ScanError> {
        let unterminated = ScanError::UnterminatedString { at: start };
        let mut at = quote + 1;
        let mut continued = false;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            let found = if escapes {
                memchr2(b'\'', b'\\', rest)
            } else {
                memchr(b'\'', rest)
            };
            at += found.ok_or(unterminated)?;
            if self.byte(at) == Some(b'\\') || self.byte(at + 1) == Some(b'\'') {
                at += 2;
            } else if let Some(next) = continuation(self.text, at + 1) {
                at = next;
                continued = true;
            } else {
                return Ok(Token {
                    kind,
                    start,
                    end: at + 1,
                    continued,
                });
            }
        }
    }

    /// A doubled quote ends a bit string and begins the next string.
    fn bit_string(&self, start: usize) -> Result<Token, ScanError> {
        let mut at = start + 2;
        let mut continued = false;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            at += memchr(b'\'', rest).ok_or(ScanError::UnterminatedString { at: start })? + 1;
            match continuation(self.text, at) {
                Some(next) => (at, continued) = (next, true),
                None => {
                    return Ok(Token {
                        kind: TokenKind::BitString,
                        start,
                        end: at,
                        continued,
                    });
                }
            }
        }
    }

    fn quoted_identifier(
        &self,
        kind: TokenKind,
        start: usize,
        quote: usize,
    ) -> Result<Token, ScanError> {
        let mut at = quote + 1;
        loop {
            let rest = self.text.get(at..).unwrap_or_default();
            at += memchr(b'"', rest).ok_or(ScanError::UnterminatedIdentifier { at: start })? + 1;
            if self.byte(at) != Some(b'"') {
                break;
            }
            at += 1;
        }
        if at == quote + 2 {
            return Err(ScanError::EmptyIdentifier { at: start });
        }
        Ok(plain(kind, start, at))
    }

    /// `$1` or `$tag$…$tag$`.
    fn dollar(&self, start: usize) -> Result<Token, ScanError> {
        if self.class_at(start + 1) == Class::Digit {
            return self.param(start);
        }
        let mut close = start + 1;
        while matches!(self.class_at(close), Class::Word | Class::Digit) {
            close += 1;
        }
        if self.byte(close) != Some(b'$') {
            return Err(ScanError::Stray { at: start });
        }
        let tag = self.text.get(start..=close).unwrap_or_default();
        let body = self.text.get(close + 1..).unwrap_or_default();
        let found = memmem::find(body, tag).ok_or(ScanError::UnterminatedString { at: start })?;
        Ok(plain(
            TokenKind::DollarString,
            start,
            close + 1 + found + tag.len(),
        ))
    }

    fn param(&self, start: usize) -> Result<Token, ScanError> {
        let end = self.digits_end(start + 1);
        if self.class_at(end) == Class::Word {
            return Err(ScanError::NumberJunk { at: start });
        }
        // Postgres 15 lets a number past 31 bits wrap around to another parameter: never follow it there
        let number = self
            .text
            .get(start + 1..end)
            .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        match number {
            Some(number) if i32::try_from(number).is_ok() => {
                Ok(plain(TokenKind::Param(number), start, end))
            }
            _ => Err(ScanError::ParameterNumber { at: start }),
        }
    }

    fn digits_end(&self, mut at: usize) -> usize {
        while self.class_at(at) == Class::Digit {
            at += 1;
        }
        at
    }

    fn number(&self, start: usize) -> Result<Token, ScanError> {
        let (end, kind) = match self.prefixed_end(start) {
            Some(end) => (end, NumberKind::Special),
            None => self.decimal_end(start),
        };
        // a digit can only follow the digits of another base: `0b12`
        if matches!(self.class_at(end), Class::Word | Class::Digit) {
            return Err(ScanError::NumberJunk { at: start });
        }
        Ok(plain(TokenKind::Number(kind), start, end))
    }

    /// `0x…`, `0o…`, `0b…`.
    fn prefixed_end(&self, start: usize) -> Option<usize> {
        let radix = match (self.byte(start)?, self.byte(start + 1)?) {
            (b'0', b'x' | b'X') => 16,
            (b'0', b'o' | b'O') => 8,
            (b'0', b'b' | b'B') => 2,
            _ => return None,
        };
        let is_digit = |at: usize| {
            self.byte(at)
                .is_some_and(|byte| char::from(byte).is_digit(radix))
        };
        let mut at = start + 2;
        while is_digit(at) || (self.byte(at) == Some(b'_') && is_digit(at + 1)) {
            at += 1;
        }
        (at > start + 2).then_some(at)
    }

    fn decimal_end(&self, start: usize) -> (usize, NumberKind) {
        let mut separated = false;
        let mut kind = NumberKind::Integer;
        let mut at = self.separated_digits_end(start, &mut separated);
        // `1..2` is a range: the integer 1 and two dots
        if self.byte(at) == Some(b'.') && (at == start || self.byte(at + 1) != Some(b'.')) {
            kind = NumberKind::Decimal;
            at += 1;
            if self.class_at(at) == Class::Digit {
                at = self.separated_digits_end(at, &mut separated);
            }
        }
        if let Some(b'e' | b'E') = self.byte(at) {
            let signed = matches!(self.byte(at + 1), Some(b'+' | b'-'));
            let digits = at + 1 + usize::from(signed);
            if self.class_at(digits) == Class::Digit {
                kind = NumberKind::Decimal;
                at = self.separated_digits_end(digits, &mut separated);
            }
        }
        (at, if separated { NumberKind::Special } else { kind })
    }

    fn separated_digits_end(&self, start: usize, separated: &mut bool) -> usize {
        let mut at = self.digits_end(start);
        while at > start && self.byte(at) == Some(b'_') && self.class_at(at + 1) == Class::Digit {
            *separated = true;
            at = self.digits_end(at + 1);
        }
        at
    }

    /// An operator may not hold the start of a comment, nor end in `+` or `-` unless it also holds a character that
    /// no standard operator has: `=-` is two operators, `@-` is one.
    fn operator(&mut self, start: usize) -> Result<Token, ScanError> {
        if start >= self.run.end {
            self.run = self.operator_run(start);
        }
        let run = &self.run;
        let ends_in_sign = run.signs < run.end && run.end - start > 1;
        let end = if ends_in_sign && run.special_end <= start {
            run.signs.max(start + 1)
        } else {
            run.end
        };
        if end - start > OPERATOR_MAX {
            return Err(ScanError::OperatorTooLong { at: start });
        }
        Ok(plain(TokenKind::Operator, start, end))
    }

    fn operator_run(&self, start: usize) -> OperatorRun {
        let mut run = OperatorRun {
            end: start,
            special_end: 0,
            signs: start,
        };
        while let Some(byte) = self
            .byte(run.end)
            .filter(|_| self.class_at(run.end) == Class::Operator)
        {
            let next = self.byte(run.end + 1);
            if matches!((byte, next), (b'/', Some(b'*')) | (b'-', Some(b'-'))) {
                break;
            }
            run.end += 1;
            if !matches!(byte, b'+' | b'-') {
                run.signs = run.end;
            }
            if b"~!@#^&|`?%".contains(&byte) {
                run.special_end = run.end;
            }
        }
        run
    }
}

/// NAMEDATALEN - 1
const OPERATOR_MAX: usize = 63;

#[inline]
fn plain(kind: TokenKind, start: usize, end: usize) -> Token {
    Token {
        kind,
        start,
        end,
        continued: false,
    }
}

fn single(byte: u8) -> TokenKind {
    match byte {
        b',' => TokenKind::Comma,
        b';' => TokenKind::Semicolon,
        b'(' => TokenKind::ParenOpen,
        b')' => TokenKind::ParenClose,
        b'[' => TokenKind::BracketOpen,
        _ => TokenKind::BracketClose,
    }
}

/// First line end at or after `at`, or the end of the text.
fn line_end(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + memchr2(b'\n', b'\r', rest).unwrap_or(rest.len())
}

/// Comments nest.
fn block_comment_end(text: &[u8], start: usize) -> Result<usize, ScanError> {
    let mut depth = 1_usize;
    let mut at = start + 2;
    loop {
        let rest = text.get(at..).unwrap_or_default();
        at += memchr2(b'*', b'/', rest).ok_or(ScanError::UnterminatedComment { at: start })?;
        match text.get(at..at + 2) {
            Some(b"*/") if depth == 1 => return Ok(at + 2),
            Some(b"*/") => (depth, at) = (depth - 1, at + 2),
            Some(b"/*") => (depth, at) = (depth + 1, at + 2),
            _ => at += 1,
        }
    }
}

/// After the closing quote of a string: the place after the next opening quote, when blanks with at least one newline
/// and nothing else but `--` comments lie between them.
fn continuation(text: &[u8], mut at: usize) -> Option<usize> {
    let mut newline = false;
    loop {
        match *text.get(at)? {
            b'\n' | b'\r' => newline = true,
            b' ' | b'\t' | 0x0b | 0x0c => {}
            b'-' if text.get(at + 1) == Some(&b'-') => {
                // the newline that ends the comment is looked at next; without one the text ends
                at = line_end(text, at + 2);
                continue;
            }
            b'\'' if newline => return Some(at + 1),
            _ => return None,
        }
        at += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Space,
    /// letters, underscore and everything past ASCII: may begin an identifier
    Word,
    Digit,
    Operator,
    Quote,
    DoubleQuote,
    Dollar,
    Dot,
    Colon,
    /// `, ; ( ) [ ]`
    Single,
    Stray,
    /// past the end of the text
    End,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Stray; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

const fn class(byte: u8) -> Class {
    match byte {
        b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => Class::Space,
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => Class::Word,
        b'0'..=b'9' => Class::Digit,
        b'~' | b'!' | b'@' | b'#' | b'^' | b'&' | b'|' | b'`' | b'?' | b'+' | b'-' | b'*'
        | b'/' | b'%' | b'<' | b'>' | b'=' => Class::Operator,
        b'\'' => Class::Quote,
        b'"' => Class::DoubleQuote,
        b'$' => Class::Dollar,
        b'.' => Class::Dot,
        b':' => Class::Colon,
        b',' | b';' | b'(' | b')' | b'[' | b']' => Class::Single,
        _ => Class::Stray,
    }
}

#[cfg(test)]
mod tests;
