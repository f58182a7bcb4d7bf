//! Where a statement asks the time: `now()` and its kin, and literals like 'today' that a server reads as the time.

use super::edit::TextAnchor;
use super::lift::Span;
use super::parse::offset;
use super::tokens::{Token, TokenKind, string_value};
use sqlparser::ast::{
    CastKind, DataType, Expr, Function, FunctionArguments, Query, SelectItem, SetExpr, Statement,
    TimezoneInfo, Value, ValueWithSpan, Visit, Visitor,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{ControlFlow, Range};

const WORDS: [&[u8]; 4] = [b"now", b"today", b"tomorrow", b"yesterday"];

/// A text with more words than this is no time.
const WORDS_MAX: usize = 3;
/// Nor is a longer one, for any server.
const LENGTH_MAX: usize = 128;

/// May this be read as a time that is another one a moment later? As a text it is what it is; which of both, its context
/// says.
#[must_use]
pub fn may_be_time(value: &[u8]) -> bool {
    if value.len() > LENGTH_MAX {
        return false;
    }
    let words = value.split(|byte| !byte.is_ascii_alphabetic());
    let (mut count, mut found) = (0, false);
    for word in words.filter(|word| !word.is_empty()) {
        count += 1;
        found |= WORDS.iter().any(|known| word.eq_ignore_ascii_case(known));
    }
    found && count <= WORDS_MAX
}

/// A literal among these tokens, outside of the slots, may be read as a time.
#[must_use]
pub fn names_time(text: &[u8], tokens: &[Token], slots: &[Span], scs: bool) -> bool {
    let in_slot = |token: &Token| {
        let before = slots.partition_point(|slot| slot.start <= token.start);
        before > 0 && token.start < slots[before - 1].end
    };
    let mut values = tokens
        .iter()
        .filter(|token| !in_slot(token))
        .filter_map(|token| string_value(text, token, scs));
    values.any(|value| may_be_time(&value))
}

/// A literal in a slot may be.
#[must_use]
pub fn slots_name_time(text: &[u8], slots: &[Span]) -> bool {
    let mut literals = slots.iter().filter_map(|s| text.get(s.start..s.end));
    literals.any(|literal| literal.first() == Some(&b'\'') && may_be_time(literal))
}

/// What a statement asks of the clock: the moment its transaction began, in one form or another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clock {
    Moment,
    Date,
    /// without a time zone
    Local,
}

impl Clock {
    const ALL: [Self; 3] = [Self::Moment, Self::Date, Self::Local];

    fn type_name(self) -> &'static str {
        match self {
            Self::Moment => "timestamptz",
            Self::Date => "date",
            Self::Local => "timestamp",
        }
    }

    #[must_use]
    pub fn type_oid(self) -> u32 {
        match self {
            Self::Moment => 1184,
            Self::Date => 1082,
            Self::Local => 1114,
        }
    }
}

/// The time of a transaction, as one server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// "2026-11-30 18:00:00.123456", in UTC
    pub utc: String,
    /// the same in the session's time zone
    pub local: String,
}

impl Times {
    /// For a look at what would be asked.
    #[must_use]
    pub fn some() -> Self {
        let time = "2000-01-01 00:00:00.000000".to_owned();
        Self {
            utc: time.clone(),
            local: time,
        }
    }

    #[must_use]
    pub fn of(&self, clock: Clock) -> String {
        match clock {
            Clock::Moment => format!("{}+00", self.utc),
            Clock::Date => self.local.chars().take(10).collect(),
            Clock::Local => self.local.clone(),
        }
    }
}

/// One call in a planned text, or a literal like 'now' of a type of times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    clock: Clock,
    at: TextAnchor,
    bytes: usize,
    /// the type that has to be said with the time
    cast: Option<&'static str>,
    /// it is a column of its own, and gives it this name
    column: Option<&'static str>,
}

/// How the time is written in the place of a call.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    Literals(&'a Times),
    /// the clocks of `used` are `$first` and those behind it
    Params {
        first: usize,
    },
}

/// The clocks that are asked, each once.
#[must_use]
pub fn used(calls: &[Call]) -> Vec<Clock> {
    let asked = |clock: &Clock| calls.iter().any(|call| call.clock == *clock);
    Clock::ALL.into_iter().filter(asked).collect()
}

/// Where the calls of a text were, seen from the text with the time in their place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved(Vec<Move>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Move {
    /// characters before the time
    at: usize,
    /// of the time, and of the call
    written: usize,
    taken: usize,
}

impl Moved {
    /// A place in the new text, counted from 1, in the old one.
    #[must_use]
    pub fn back(&self, place: usize) -> usize {
        let (mut written, mut taken) = (0, 0);
        for one in &self.0 {
            if place <= one.at {
                break;
            }
            if place <= one.at + one.written {
                return (one.at + 1 + taken).saturating_sub(written);
            }
            written += one.written;
            taken += one.taken;
        }
        (place + taken).saturating_sub(written)
    }
}

/// The bytes `range` of the text with the time in the place of each call, and what has moved by that. None when a call does
/// not fit the text.
#[must_use]
pub fn told(
    text: &[u8],
    slots: &[Span],
    range: Range<usize>,
    calls: &[Call],
    by: Told<'_>,
) -> Option<(Vec<u8>, Moved)> {
    let clocks = used(calls);
    let mut out = Vec::with_capacity(range.len() + 48 * calls.len());
    let mut moved = Moved::default();
    let mut at = range.start;
    let mut chars = 0;
    for call in calls {
        let place = call.at.absolute(slots)?;
        let between = text.get(at..place)?;
        out.extend_from_slice(between);
        at = place + call.bytes;
        let value = match by {
            Told::Literals(times) => format!("'{}'", times.of(call.clock)),
            Told::Params { first } => {
                let nth = clocks.iter().position(|clock| *clock == call.clock)?;
                format!("${}", first + nth)
            }
        };
        let mut time = value;
        for (word, more) in [("::", call.cast), (" AS ", call.column)] {
            time.extend(more.into_iter().flat_map(|more| [word, more]));
        }
        out.extend_from_slice(time.as_bytes());
        chars += String::from_utf8_lossy(between).chars().count();
        moved.0.push(Move {
            at: chars,
            written: time.len(),
            taken: call.bytes,
        });
        chars += time.len();
    }
    out.extend_from_slice(text.get(at..range.end)?);
    Some((out, moved))
}

/// The calls of a statement, in its text's order; None when there are none, or one that nothing can stand in for.
#[must_use]
pub fn calls(
    statement: &Statement,
    text: &[u8],
    tokens: &[Token],
    slots: &[Span],
) -> Option<Vec<Call>> {
    let mut search = Search::default();
    if statement.visit(&mut search).is_break() || search.found.is_empty() {
        return None;
    }
    let call = |(at, found): (&usize, &Found)| {
        let (range, cast, column) = match found.written {
            Written::Call(name) => {
                let column = search.columns.contains(at).then_some(name);
                (
                    *at..end_of(*at, text, tokens)?,
                    Some(found.clock.type_name()),
                    column,
                )
            }
            Written::Literal(name) => match typed_literal_at(*at, name, text, tokens) {
                Some(range) => (range, Some(name), None),
                None => (literal_at(*at, tokens)?, None, None),
            },
        };
        // what is in a slot is another literal the next time
        let lifted = slots
            .iter()
            .any(|s| s.start < range.end && range.start < s.end);
        (!lifted).then(|| Call {
            clock: found.clock,
            at: TextAnchor::of(range.start, slots),
            bytes: range.len(),
            cast,
            column,
        })
    };
    search.found.iter().map(call).collect()
}

/// The string that begins there.
fn literal_at(at: usize, tokens: &[Token]) -> Option<Range<usize>> {
    let token = tokens.iter().find(|token| token.start == at)?;
    let plain = token.kind == TokenKind::String && !token.continued;
    plain.then_some(token.start..token.end)
}

/// With the one word of its type before it.
fn typed_literal_at(at: usize, name: &str, text: &[u8], tokens: &[Token]) -> Option<Range<usize>> {
    let literal = literal_at(at, tokens)?;
    let place = tokens.iter().position(|token| token.start == at)?;
    let word = tokens.get(place.checked_sub(1)?)?;
    let qualified = place > 1 && tokens[place - 2].kind == TokenKind::Dot;
    (word.is_word(text, name) && !qualified).then_some(word.start..literal.end)
}

/// Where the call that begins there ends: a name, with its schema or without, and empty parentheses, if any.
fn end_of(at: usize, text: &[u8], tokens: &[Token]) -> Option<usize> {
    let first = tokens.iter().position(|token| token.start == at)?;
    let mut rest = tokens.get(first..)?;
    while let [_, dot, more @ ..] = rest
        && dot.kind == TokenKind::Dot
    {
        rest = more;
    }
    let (name, rest) = rest.split_first()?;
    match rest {
        [open, close, ..]
            if open.kind == TokenKind::ParenOpen && close.kind == TokenKind::ParenClose =>
        {
            Some(close.end)
        }
        [open, ..] if open.kind == TokenKind::ParenOpen => None,
        _ => (name.kind == TokenKind::Ident).then_some(name.end),
    }
    .filter(|end| *end <= text.len())
}

#[derive(Default)]
struct Search {
    /// by where they begin
    found: BTreeMap<usize, Found>,
    /// those that are columns of their own
    columns: BTreeSet<usize>,
}

#[derive(Clone, Copy)]
struct Found {
    clock: Clock,
    written: Written,
}

#[derive(Clone, Copy)]
enum Written {
    /// under this name
    Call(&'static str),
    /// of this type: `'now'::date`, `CAST('now' AS date)`, `date 'now'`
    Literal(&'static str),
}

/// Something that the time cannot be put into.
struct Unsure;

impl Visitor for Search {
    type Break = Unsure;

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<Unsure> {
        let asked = match expr {
            Expr::Function(function) => asked(function),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => match expr.as_ref() {
                Expr::Value(value) => literal(value, data_type),
                _ => Asked::Nothing,
            },
            _ => Asked::Nothing,
        };
        match asked {
            Asked::Nothing => ControlFlow::Continue(()),
            Asked::Clock(at, found) => {
                self.found.insert(at, found);
                ControlFlow::Continue(())
            }
            Asked::Unsure => ControlFlow::Break(Unsure),
        }
    }

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Unsure> {
        self.set(&query.body)
    }

    fn pre_visit_statement(&mut self, statement: &Statement) -> ControlFlow<Unsure> {
        match statement {
            Statement::Insert(insert) => self.columns(insert.returning.as_deref()),
            Statement::Update(update) => self.columns(update.returning.as_deref()),
            Statement::Delete(delete) => self.columns(delete.returning.as_deref()),
            Statement::Query(_) => ControlFlow::Continue(()),
            _ => ControlFlow::Break(Unsure),
        }
    }
}

impl Search {
    fn set(&mut self, body: &SetExpr) -> ControlFlow<Unsure> {
        let mut open = vec![body];
        while let Some(body) = open.pop() {
            match body {
                SetExpr::Select(select) => self.columns(Some(&select.projection))?,
                SetExpr::SetOperation { left, right, .. } => open.extend([&**left, &**right]),
                // visited for themselves
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn columns(&mut self, items: Option<&[SelectItem]>) -> ControlFlow<Unsure> {
        for item in items.unwrap_or_default() {
            let SelectItem::UnnamedExpr(expr) = item else {
                continue;
            };
            if let Expr::Function(function) = expr
                && let Asked::Clock(at, ..) = asked(function)
            {
                self.columns.insert(at);
            } else if !has_its_own_name(expr) && asks(expr) {
                return ControlFlow::Break(Unsure);
            }
        }
        ControlFlow::Continue(())
    }
}

/// PostgreSQL names the column after this expression's own operator or function, whatever is within.
fn has_its_own_name(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::BinaryOp { .. }
            | Expr::UnaryOp { .. }
            | Expr::IsNull(_)
            | Expr::IsNotNull(_)
            | Expr::Between { .. }
            | Expr::InList { .. }
            | Expr::InSubquery { .. }
            | Expr::Exists { .. }
            | Expr::Subquery(_)
            | Expr::AtTimeZone { .. }
            | Expr::Extract { .. }
            | Expr::Function(_)
    )
}

/// A call is within; a literal in the place of another changes no name.
fn asks(expr: &Expr) -> bool {
    let mut search = Search::default();
    let is_call = |found: &Found| matches!(found.written, Written::Call(_));
    expr.visit(&mut search).is_break() || search.found.values().any(is_call)
}

enum Asked {
    Nothing,
    Clock(usize, Found),
    Unsure,
}

/// A literal of a type of times.
fn literal(value: &ValueWithSpan, data_type: &DataType) -> Asked {
    let Value::SingleQuotedString(text) = &value.value else {
        return Asked::Nothing;
    };
    if !may_be_time(text.as_bytes()) {
        return Asked::Nothing;
    }
    let (moment, name) = match data_type {
        DataType::Date => (Clock::Date, "date"),
        DataType::Timestamp(None, TimezoneInfo::None) => (Clock::Local, "timestamp"),
        DataType::Timestamp(None, TimezoneInfo::Tz | TimezoneInfo::WithTimeZone) => {
            (Clock::Moment, "timestamptz")
        }
        // a text, say, which is what it is
        _ => return Asked::Nothing,
    };
    let clock = match text.trim().to_ascii_lowercase().as_str() {
        "now" => moment,
        "today" => Clock::Date,
        _ => return Asked::Unsure,
    };
    let written = Written::Literal(name);
    match offset(value.span) {
        Some(at) => Asked::Clock(at, Found { clock, written }),
        None => Asked::Unsure,
    }
}

/// Times that are others for every statement, or more than a moment.
const OTHERS: [&str; 6] = [
    "statement_timestamp",
    "clock_timestamp",
    "timeofday",
    "current_time",
    "localtime",
    "age",
];

fn arguments(function: &Function) -> Option<usize> {
    match &function.args {
        FunctionArguments::List(list) => Some(list.args.len()),
        _ => None,
    }
}

fn asked(function: &Function) -> Asked {
    let name = function.name.0.last().and_then(|part| part.as_ident());
    let Some(name) = name else {
        return Asked::Nothing;
    };
    let word = name.value.to_ascii_lowercase();
    let (clock, known, called) = match word.as_str() {
        "now" => (Clock::Moment, "now", true),
        "transaction_timestamp" => (Clock::Moment, "transaction_timestamp", true),
        "current_timestamp" => (Clock::Moment, "current_timestamp", false),
        "current_date" => (Clock::Date, "current_date", false),
        "localtimestamp" => (Clock::Local, "localtimestamp", false),
        "age" if arguments(function) == Some(2) => return Asked::Nothing,
        other if OTHERS.contains(&other) => return Asked::Unsure,
        _ => return Asked::Nothing,
    };
    let plain = match &function.args {
        FunctionArguments::None => !called,
        FunctionArguments::List(list) => called && list.args.is_empty() && list.clauses.is_empty(),
        FunctionArguments::Subquery(_) => false,
    };
    let schema = function
        .name
        .0
        .split_last()
        .map(|(_, schema)| schema)
        .unwrap_or_default();
    let own = match schema {
        [] => true,
        [schema] if called => schema.as_ident().is_some_and(|s| s.value == "pg_catalog"),
        _ => false,
    };
    let bare = function.over.is_none()
        && function.filter.is_none()
        && function.within_group.is_empty()
        && function.null_treatment.is_none();
    let first = function.name.0.first().and_then(|part| part.as_ident());
    let at = first.and_then(|ident| offset(ident.span));
    match at {
        Some(at) if plain && own && bare && name.quote_style.is_none() => {
            let written = Written::Call(known);
            Asked::Clock(at, Found { clock, written })
        }
        _ => Asked::Unsure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    #[test]
    fn the_words_are_known_whatever_their_case_and_place() {
        for time in [
            " Now ",
            "tomorrow 12:00",
            "12:00 today",
            "YESTERDAY allballs utc",
            "'now'",
        ] {
            assert!(may_be_time(time.as_bytes()), "{time}");
        }
        for text in [
            "nowhere",
            "",
            "what I said is not now what I say",
            "2026-11-30",
        ] {
            assert!(!may_be_time(text.as_bytes()), "{text}");
        }
        let long = format!("now{}", " ".repeat(LENGTH_MAX));
        assert!(!may_be_time(long.as_bytes()));
    }

    #[test]
    fn places_are_found_again() {
        let text = "SELECT 'ä', now(), current_date FROM t";
        let call = |word: &str, clock, column: bool| {
            let at = text.find(word).unwrap();
            Call {
                clock,
                at: TextAnchor::of(at, &[]),
                bytes: word.len(),
                cast: Some(clock.type_name()),
                column: column.then_some("now"),
            }
        };
        let calls = [
            call("now()", Clock::Moment, true),
            call("current_date", Clock::Date, false),
        ];
        let times = Times::some();
        let by = Told::Literals(&times);
        let (timed, moved) = told(text.as_bytes(), &[], 0..text.len(), &calls, by).unwrap();
        let timed = String::from_utf8(timed).unwrap();
        assert_eq!(
            timed,
            "SELECT 'ä', '2000-01-01 00:00:00.000000+00'::timestamptz AS now, '2000-01-01'::date FROM t"
        );
        let place = |text: &str, word: &str| text[..text.find(word).unwrap()].chars().count() + 1;
        for (there, here) in [
            ("SELECT", "SELECT"),
            ("'ä'", "'ä'"),
            ("'2000-01-01 00", "now()"),
            ("timestamptz", "now()"),
            (", '2000-01-01'::date", ", current_date"),
            ("'2000-01-01'::date", "current_date"),
            ("FROM", "FROM"),
        ] {
            assert_eq!(
                moved.back(place(&timed, there)),
                place(text, here),
                "{there}"
            );
        }
    }

    #[test]
    fn literals_in_slots_are_looked_at_apart() {
        let text = b"SELECT E'today'::date FROM t WHERE a = 'now'";
        let tokens = tokenize(text, true).unwrap();
        let slot = Span { start: 39, end: 44 };
        assert_eq!(&text[slot.start..slot.end], b"'now'");
        assert!(names_time(text, &tokens, &[slot], true));
        assert!(names_time(text, &tokens[6..], &[], true));
        assert!(!names_time(text, &tokens[6..], &[slot], true));
        assert!(slots_name_time(text, &[slot]));
        assert!(!slots_name_time(b"SELECT 7", &[Span { start: 7, end: 8 }]));
    }
}
