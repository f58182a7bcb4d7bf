//! A query text to its shape: literals become slots, the rest is fingerprinted, so that `id = 42` and `id = 43` share
//! one plan. Two texts of one fingerprint mean the same up to the values in their slots.
//!
//! Lifting is by allow-list (`lift/grammar.rs`): operands of comparisons, elements of IN lists, rows of VALUES. What is
//! not on the list stays in the text, and where the text itself is unsure nothing is lifted and the fingerprint is that
//! of the whole text. Comments and blanks are part of it. This file does not know what the slots mean.

mod cast;
mod grammar;
pub mod templates;
mod words;

use super::tokens::{NumberKind, ScanError, Scanner, Token, TokenKind};
use cast::Cast;
use grammar::{Grammar, Place};
use memchr::memchr;
use smallvec::SmallVec;
use std::sync::Arc;
use words::Word;
use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

/// Texts with more literals than this are not lifted.
const SLOTS_MAX: usize = 32_768;
/// Buffers larger than this are given back before the next text.
const KEPT_SLOTS_MAX: usize = 1_024;
const KEPT_BYTES_MAX: usize = 64 * 1024;
/// A shape shown to people is cut here.
const SHAPE_BYTES_MAX: usize = 2_048;

/// Bytes of one lifted literal in the text, with its quotes and sign: `text[start..end]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub start: usize,
    pub end: usize,
}

/// What Postgres takes a literal for; part of the fingerprint. The sign is in the fingerprint too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LiteralKind {
    /// an integer in the range of int4
    Int4,
    /// an integer outside of int4, in the range of int8
    Int8,
    /// an integer beyond int8: numeric
    Large,
    /// with a point or exponent: numeric
    Decimal,
    /// `'…'` without a cast: of unknown type until its context gives it one
    String,
}

/// The outcome of lifting one text; reuse it from query to query, it keeps its buffers.
#[derive(Clone, Debug, Default)]
pub struct Lifted {
    /// ascending, not overlapping
    pub slots: SmallVec<[Span; 2]>,
    /// one for each slot
    pub kinds: SmallVec<[LiteralKind; 8]>,
    /// 128-bit xxh3 of the text with the slots replaced by their kinds, and of standard_conforming_strings
    pub fingerprint: u128,
    /// the text with its slots replaced, while it is hashed
    scratch: Vec<u8>,
    /// what the text before this one was like: most sessions repeat themselves
    like: Option<Arc<templates::Template>>,
}

impl Lifted {
    /// The literal of slot `n` as written; None when there is no such slot.
    pub fn literal<'a>(&self, text: &'a [u8], n: usize) -> Option<&'a [u8]> {
        let span = self.slots.get(n)?;
        text.get(span.start..span.end)
    }

    fn clear(&mut self) {
        self.forget_slots();
        if self.slots.capacity() > KEPT_SLOTS_MAX {
            self.slots = SmallVec::new();
            self.kinds = SmallVec::new();
        }
        self.scratch.clear();
        self.scratch.shrink_to(KEPT_BYTES_MAX);
    }

    fn forget_slots(&mut self) {
        self.slots.clear();
        self.kinds.clear();
    }

    fn push(&mut self, candidate: Candidate) {
        self.slots.push(candidate.span);
        self.kinds.push(candidate.kind);
    }
}

/// Lifts `text` into `out`. False when the text cannot be scanned (Postgres will refuse it). Then, and wherever lifting
/// is unsure, there are no slots and the fingerprint is that of the whole text.
pub fn lift(text: &[u8], scs: bool, out: &mut Lifted) -> bool {
    out.clear();
    let outcome = if memchr(0, text).is_some() {
        Err(Stop::Unscannable)
    } else {
        find_slots(text, scs, out)
    };
    if outcome.is_err() {
        out.forget_slots();
    }
    fingerprint(text, scs, out);
    outcome != Err(Stop::Unscannable)
}

/// The text with its slots as `?`, for people: at most 2 KB.
pub fn shape(text: &[u8], lifted: &Lifted) -> String {
    let mut bytes = Vec::with_capacity(text.len().min(SHAPE_BYTES_MAX + 64));
    let mut at = 0;
    for slot in &lifted.slots {
        if bytes.len() > SHAPE_BYTES_MAX {
            break;
        }
        bytes.extend_from_slice(text.get(at..slot.start).unwrap_or_default());
        bytes.push(b'?');
        at = slot.end;
    }
    let rest = text.get(at..).unwrap_or_default();
    bytes.extend_from_slice(&rest[..rest.len().min(SHAPE_BYTES_MAX + 4)]);
    let mut shape = String::from_utf8_lossy(&bytes).trim().to_owned();
    if shape.len() > SHAPE_BYTES_MAX {
        let mut end = SHAPE_BYTES_MAX - '…'.len_utf8();
        while !shape.is_char_boundary(end) {
            end -= 1;
        }
        shape.truncate(end);
        shape.push('…');
    }
    shape
}

/// Why nothing is lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Unscannable,
    /// brackets that do not match, a routine's body, too many slots, too deep
    Unsure,
}

impl From<ScanError> for Stop {
    fn from(_: ScanError) -> Self {
        Self::Unscannable
    }
}

impl From<grammar::Unsure> for Stop {
    fn from(_: grammar::Unsure) -> Self {
        Self::Unsure
    }
}

/// A literal at a place of the allow-list; whether it is lifted depends on what follows.
struct Candidate {
    span: Span,
    kind: LiteralKind,
    place: Place,
    cast: Cast,
}

/// A minus sign where a literal may begin.
struct Sign {
    token: Token,
    place: Place,
}

fn find_slots(text: &[u8], scs: bool, out: &mut Lifted) -> Result<(), Stop> {
    let mut scanner = Scanner::new(text, scs);
    let mut grammar = Grammar::new();
    let mut candidate: Option<Candidate> = None;
    let mut sign: Option<Sign> = None;
    while let Some(token) = scanner.next_token()? {
        let word = words::word(text, &token);
        if let Some(waiting) = candidate.take() {
            candidate = follow(text, waiting, &token, word, &grammar, out);
        }
        let signed = sign.take();
        match token.kind {
            TokenKind::Number(_) | TokenKind::String => {
                candidate = begin(text, scs, &token, grammar.place(), signed).or(candidate);
            }
            TokenKind::Operator if token.bytes(text) == b"-" => {
                sign = grammar.place().map(|place| Sign { token, place });
            }
            _ => {}
        }
        grammar.step(text, &token, word)?;
        if out.slots.len() > SLOTS_MAX {
            return Err(Stop::Unsure);
        }
    }
    if let Some(candidate) = candidate
        .filter(|candidate| candidate.cast.may_end() && grammar.may_end_at_end(candidate.place))
    {
        out.push(candidate);
    }
    Ok(grammar.finish()?)
}

/// A candidate that begins with this token.
fn begin(
    text: &[u8],
    scs: bool,
    token: &Token,
    place: Option<Place>,
    sign: Option<Sign>,
) -> Option<Candidate> {
    let candidate = |place, start, kind, cast| Candidate {
        span: Span {
            start,
            end: token.end,
        },
        kind,
        place,
        cast,
    };
    match token.kind {
        TokenKind::Number(number) => match (place, sign) {
            (Some(place), _) if takes_numbers(place) => Some(candidate(
                place,
                token.start,
                number_kind(number, token.bytes(text), false)?,
                Cast::None,
            )),
            (None, Some(sign)) if sign.token.end == token.start && takes_numbers(sign.place) => {
                let kind = number_kind(number, token.bytes(text), true)?;
                Some(candidate(sign.place, sign.token.start, kind, Cast::Refused))
            }
            _ => None,
        },
        TokenKind::String => {
            let is_plain = !token.continued && (scs || memchr(b'\\', token.bytes(text)).is_none());
            place
                .filter(|place| is_plain && *place != Place::Term)
                .map(|place| candidate(place, token.start, LiteralKind::String, Cast::None))
        }
        _ => None,
    }
}

fn takes_numbers(place: Place) -> bool {
    !matches!(place, Place::Array | Place::Pattern)
}

/// Looks at the token after a candidate: it is lifted, dropped, or (within a cast) still waiting.
fn follow(
    text: &[u8],
    mut candidate: Candidate,
    token: &Token,
    word: Word,
    grammar: &Grammar,
    out: &mut Lifted,
) -> Option<Candidate> {
    let goes_on =
        candidate.kind != LiteralKind::String && Grammar::may_go_on(candidate.place, text, token);
    if candidate.cast.may_end() && (goes_on || grammar.may_end(candidate.place, token, word)) {
        out.push(candidate);
        return None;
    }
    candidate.cast = candidate.cast.step(text, token)?;
    Some(candidate)
}

/// As Postgres types a numeric constant: the sign counts, so -2147483648 is an int4.
fn number_kind(number: NumberKind, digits: &[u8], negative: bool) -> Option<LiteralKind> {
    match number {
        NumberKind::Special => return None,
        NumberKind::Decimal => return Some(LiteralKind::Decimal),
        NumberKind::Integer => {}
    }
    let mut value: u64 = 0;
    for digit in digits {
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit - b'0')));
        match next {
            Some(next) => value = next,
            None => return Some(LiteralKind::Large),
        }
    }
    let extra = u64::from(negative);
    Some(if value <= i32::MAX as u64 + extra {
        LiteralKind::Int4
    } else if value <= i64::MAX as u64 + extra {
        LiteralKind::Int8
    } else {
        LiteralKind::Large
    })
}

/// The slots are marked by a zero byte, which no text holds, and their kind.
fn fingerprint(text: &[u8], scs: bool, out: &mut Lifted) {
    let mut at = 0;
    for (slot, kind) in out.slots.iter().zip(&out.kinds) {
        out.scratch
            .extend_from_slice(text.get(at..slot.start).unwrap_or_default());
        out.scratch
            .extend_from_slice(&[0, kind_mark(*kind, text.get(slot.start) == Some(&b'-'))]);
        at = slot.end;
    }
    let hashed = if out.slots.is_empty() {
        text
    } else {
        out.scratch
            .extend_from_slice(text.get(at..).unwrap_or_default());
        &out.scratch
    };
    out.fingerprint = if scs {
        xxh3_128(hashed)
    } else {
        xxh3_128_with_seed(hashed, 1)
    };
}

fn kind_mark(kind: LiteralKind, negative: bool) -> u8 {
    let mark = match kind {
        LiteralKind::Int4 => b'i',
        LiteralKind::Int8 => b'l',
        LiteralKind::Large => b'n',
        LiteralKind::Decimal => b'd',
        LiteralKind::String => b's',
    };
    if negative {
        mark.to_ascii_uppercase()
    } else {
        mark
    }
}

#[cfg(test)]
mod tests;
