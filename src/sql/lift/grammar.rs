//! The allow-list: where in a text a literal may be lifted. It follows parentheses and the clauses of SELECT, INSERT,
//! UPDATE, DELETE, MERGE and VALUES just far enough to know that; every place that it does not know is not lifted.
//!
//! Lifted are operands of comparisons (BETWEEN and LIKE among them) in WHERE, ON and SET, numbers in sums and products there,
//! elements of IN lists, the text of `= ANY ('{…}')`, and elements of VALUES rows. Never lifted: select lists, GROUP BY, HAVING, ORDER BY, RETURNING, LIMIT (there a value may
//! be an ordinal, or has to equal another expression of the query), function arguments, and whatever stands in them.

use super::words::Word;
use crate::sql::tokens::{Token, TokenKind};
use smallvec::SmallVec;

/// Nothing in this text may be lifted.
#[derive(Debug)]
pub(super) struct Unsure;

const DEPTH_MAX: usize = 64;

/// A place where a literal may be lifted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// right of a comparison
    Operand,
    /// right of an arithmetic operator: numbers only
    Term,
    /// right of LIKE: strings only
    Pattern,
    /// in an IN list or a row of VALUES
    Element,
    /// in the parentheses of `= ANY ('{1,2}')`: strings only
    Array,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clause {
    /// before the first word of a query
    Start,
    With,
    SelectList,
    /// FROM, and USING of DELETE and MERGE
    From,
    On,
    Where,
    /// SET of UPDATE
    Set,
    /// between UPDATE and SET
    UpdateTarget,
    /// between INSERT and VALUES or a query
    InsertTarget,
    /// between DELETE and FROM
    DeleteTarget,
    /// between MERGE and USING
    MergeTarget,
    Values,
    /// after ON CONFLICT: the WHERE here chooses an index by its text
    Conflict,
    /// nothing is lifted
    Other,
}

/// What a pair of parentheses is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// the text itself, or a query in parentheses
    Query,
    /// an expression or a join in parentheses
    Group,
    InList,
    ValuesRow,
    AnyArgument,
    /// function arguments, column lists, and all that is not known
    Opaque,
    /// brackets
    Brackets,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    kind: Kind,
    clause: Clause,
    /// the statement's own verb: Select, Insert, Update, Delete, Merge, or None
    verb: Word,
    lifts: bool,
    /// between BETWEEN and its AND
    between: bool,
}

impl Frame {
    const START: Self = Self {
        kind: Kind::Query,
        clause: Clause::Start,
        verb: Word::None,
        lifts: true,
        between: false,
    };

    fn opaque(kind: Kind) -> Self {
        Self {
            kind,
            clause: Clause::Other,
            verb: Word::None,
            lifts: false,
            between: false,
        }
    }
}

/// The token before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// nothing: a statement begins
    Nothing,
    Word(Word),
    Comparison,
    /// ANY, SOME or ALL right of a comparison
    AnyOfComparison,
    /// the AND of a BETWEEN
    AndOfBetween,
    /// between two terms
    Arithmetic,
    Comma,
    Open,
    Close,
    Dot,
    /// a literal or parameter
    Value,
    Other,
}

pub(super) struct Grammar {
    /// never empty; the first is the statement itself
    frames: SmallVec<[Frame; DEPTH_MAX]>,
    before: Before,
}

impl Grammar {
    pub fn new() -> Self {
        let mut frames = SmallVec::new();
        frames.push(Frame::START);
        Self {
            frames,
            before: Before::Nothing,
        }
    }

    /// May a literal that begins here be lifted?
    pub fn place(&self) -> Option<Place> {
        let frame = self.frame();
        match (self.before, frame.kind) {
            _ if !frame.lifts => None,
            (before, Kind::Query | Kind::Group) if has_operands(frame.clause) => match before {
                Before::Comparison | Before::AndOfBetween | Before::Word(Word::Between) => {
                    Some(Place::Operand)
                }
                Before::Arithmetic => Some(Place::Term),
                Before::Word(Word::Like | Word::Ilike) => Some(Place::Pattern),
                _ => None,
            },
            (Before::Open | Before::Comma, Kind::InList | Kind::ValuesRow) => Some(Place::Element),
            (Before::Open, Kind::AnyArgument) => Some(Place::Array),
            _ => None,
        }
    }

    /// Is the operand at `place` complete when this token follows?
    pub fn may_end(&self, place: Place, token: &Token, word: Word) -> bool {
        let frame = self.frame();
        match (place, token.kind) {
            (Place::Element, TokenKind::Comma | TokenKind::ParenClose) => {
                matches!(frame.kind, Kind::InList | Kind::ValuesRow)
            }
            (Place::Array, TokenKind::ParenClose) => frame.kind == Kind::AnyArgument,
            (Place::Element | Place::Array, _) => false,
            (_, TokenKind::ParenClose) => frame.kind == Kind::Group || frame.kind == Kind::Query,
            (_, TokenKind::Semicolon) => self.frames.len() == 1,
            (_, TokenKind::Comma) => frame.kind == Kind::Query && frame.clause == Clause::Set,
            (_, TokenKind::Ident) => ends_operand(word),
            _ => false,
        }
    }

    /// Does a sum or product go on behind a number at `place` with this token?
    pub fn may_go_on(place: Place, text: &[u8], token: &Token) -> bool {
        matches!(place, Place::Operand | Place::Term)
            && token.kind == TokenKind::Operator
            && is_arithmetic(token.bytes(text))
    }

    pub fn may_end_at_end(&self, place: Place) -> bool {
        !matches!(place, Place::Element | Place::Array) && self.frames.len() == 1
    }

    pub fn finish(&self) -> Result<(), Unsure> {
        if self.frames.len() == 1 {
            Ok(())
        } else {
            Err(Unsure)
        }
    }

    pub fn step(&mut self, text: &[u8], token: &Token, word: Word) -> Result<(), Unsure> {
        self.before = match token.kind {
            TokenKind::Ident => self.word(word)?,
            TokenKind::ParenOpen => {
                self.push(self.opened())?;
                Before::Open
            }
            TokenKind::BracketOpen => {
                self.push(Frame::opaque(Kind::Brackets))?;
                Before::Other
            }
            TokenKind::ParenClose => {
                self.pop(false)?;
                Before::Close
            }
            TokenKind::BracketClose => {
                self.pop(true)?;
                Before::Other
            }
            TokenKind::Semicolon => {
                self.finish()?;
                self.frames[0] = Frame::START;
                Before::Nothing
            }
            TokenKind::Comma => Before::Comma,
            TokenKind::Dot => Before::Dot,
            TokenKind::Operator if is_comparison(token.bytes(text)) => Before::Comparison,
            TokenKind::Operator if self.follows_term() && is_arithmetic(token.bytes(text)) => {
                Before::Arithmetic
            }
            TokenKind::Number(_) | TokenKind::String | TokenKind::Param(_) => Before::Value,
            _ => Before::Other,
        };
        Ok(())
    }

    /// An operator here stands between two terms; elsewhere it is a sign.
    fn follows_term(&self) -> bool {
        matches!(
            self.before,
            Before::Value | Before::Close | Before::Word(Word::Other)
        )
    }

    fn frame(&self) -> Frame {
        self.frames
            .last()
            .copied()
            .unwrap_or(Frame::opaque(Kind::Opaque))
    }

    fn frame_mut(&mut self) -> Result<&mut Frame, Unsure> {
        self.frames.last_mut().ok_or(Unsure)
    }

    fn push(&mut self, frame: Frame) -> Result<(), Unsure> {
        if self.frames.len() >= DEPTH_MAX {
            return Err(Unsure);
        }
        self.frames.push(frame);
        Ok(())
    }

    fn pop(&mut self, brackets: bool) -> Result<(), Unsure> {
        let frame = self.frames.pop().ok_or(Unsure)?;
        if self.frames.is_empty() || (frame.kind == Kind::Brackets) != brackets {
            return Err(Unsure);
        }
        Ok(())
    }

    /// What the parenthesis that opens now encloses.
    fn opened(&self) -> Frame {
        let frame = self.frame();
        let known = frame.lifts && matches!(frame.kind, Kind::Query | Kind::Group);
        let within = |kind| Frame {
            kind,
            between: false,
            ..frame
        };
        match (frame.clause, self.before) {
            _ if !known => Frame::opaque(Kind::Opaque),
            (
                Clause::Start,
                Before::Nothing
                | Before::Open
                | Before::Word(
                    Word::Union | Word::Intersect | Word::Except | Word::All | Word::Distinct,
                ),
            )
            | (Clause::With, Before::Word(Word::As | Word::Materialized)) => Frame::START,
            (
                Clause::From,
                Before::Comma
                | Before::Open
                | Before::Word(Word::From | Word::Using | Word::Join | Word::Lateral),
            ) => within(Kind::Group),
            (clause, Before::Word(Word::In)) if has_operands(clause) => within(Kind::InList),
            (clause, Before::AnyOfComparison) if has_operands(clause) => within(Kind::AnyArgument),
            (
                clause,
                Before::Open
                | Before::Comparison
                | Before::Word(
                    Word::Where | Word::On | Word::And | Word::Or | Word::Not | Word::Exists,
                ),
            ) if has_operands(clause) => within(Kind::Group),
            (Clause::Values, Before::Comma | Before::Word(Word::Values))
                if frame.kind == Kind::Query =>
            {
                within(Kind::ValuesRow)
            }
            _ => Frame::opaque(Kind::Opaque),
        }
    }

    /// Steps over a bare word, which may begin a clause. It does so only where Postgres's grammar cannot take it for a
    /// name: after AS and a dot every word is one, and many keywords may name columns and tables.
    fn word(&mut self, word: Word) -> Result<Before, Unsure> {
        let before = self.before;
        if before == Before::Dot || (before == Before::Word(Word::As) && word != Word::Materialized)
        {
            return Ok(Before::Other);
        }
        if word == Word::Create && before == Before::Nothing {
            // routine bodies hold statements, rules hold lists of them
            return Err(Unsure);
        }
        let frame = self.frame_mut()?;
        let is_name = word == Word::Other && frame.clause != Clause::Start;
        if frame.lifts && !is_name {
            *frame = next_frame(*frame, before, word);
        }
        if before == Before::Comparison && matches!(word, Word::Any | Word::Some | Word::All) {
            return Ok(Before::AnyOfComparison);
        }
        // the first AND behind BETWEEN is its own, unless a CASE has some
        let is_its_and = word == Word::And && frame.between;
        match word {
            Word::Between => frame.between = true,
            Word::And | Word::Case => frame.between = false,
            _ => {}
        }
        Ok(if is_its_and {
            Before::AndOfBetween
        } else {
            Before::Word(word)
        })
    }
}

/// The frame after a word.
fn next_frame(frame: Frame, before: Before, word: Word) -> Frame {
    match frame.kind {
        Kind::Query if frame.clause == Clause::Start => started(frame, word),
        Kind::Query
            if frame.clause == Clause::With && before == Before::Close && begins_query(word) =>
        {
            started(frame, word)
        }
        Kind::Query => Frame {
            clause: next_clause(frame, before, word),
            ..frame
        },
        _ if before == Before::Open => in_parens(frame, word),
        Kind::Group => match next_clause(frame, before, word) {
            Clause::Start => Frame::START,
            clause => Frame { clause, ..frame },
        },
        _ => frame,
    }
}

/// A query's first word, or the one after its WITH list.
fn started(frame: Frame, word: Word) -> Frame {
    let (clause, verb) = match word {
        Word::Select => (Clause::SelectList, frame.verb),
        Word::Values => (Clause::Values, frame.verb),
        Word::With if frame.clause == Clause::Start => (Clause::With, frame.verb),
        Word::Insert => (Clause::InsertTarget, word),
        Word::Update => (Clause::UpdateTarget, word),
        Word::Delete => (Clause::DeleteTarget, word),
        Word::Merge => (Clause::MergeTarget, word),
        // between queries: the one before may have been in parentheses
        Word::Union | Word::Intersect | Word::Except | Word::All | Word::Distinct => {
            (frame.clause, frame.verb)
        }
        _ => {
            return Frame {
                lifts: false,
                ..frame
            };
        }
    };
    Frame {
        kind: Kind::Query,
        clause,
        verb,
        lifts: true,
        between: false,
    }
}

fn begins_query(word: Word) -> bool {
    matches!(
        word,
        Word::Select | Word::Values | Word::Insert | Word::Update | Word::Delete | Word::Merge
    )
}

/// The first word in parentheses: a query, or the expression goes on.
fn in_parens(frame: Frame, word: Word) -> Frame {
    match word {
        Word::Select | Word::Values | Word::With => started(Frame::START, word),
        _ => frame,
    }
}

/// The clause after a word that is not a query's first.
fn next_clause(frame: Frame, before: Before, word: Word) -> Clause {
    let clause = frame.clause;
    match (word, clause) {
        (Word::Where, Clause::SelectList | Clause::From | Clause::On | Clause::Set) => {
            Clause::Where
        }
        // IS DISTINCT FROM
        (Word::From, Clause::SelectList | Clause::Set | Clause::DeleteTarget)
            if before != Before::Word(Word::Distinct) =>
        {
            Clause::From
        }
        (Word::Using, Clause::From | Clause::MergeTarget)
            if matches!(frame.verb, Word::Delete | Word::Merge) =>
        {
            Clause::From
        }
        (Word::Join, Clause::From | Clause::On) => Clause::From,
        // DISTINCT ON
        (Word::On, _) if before == Before::Word(Word::Distinct) => clause,
        (Word::On, Clause::From | Clause::On) => Clause::On,
        // ON CONFLICT ON CONSTRAINT
        (Word::On, Clause::Conflict) => clause,
        (Word::On, _) => Clause::Other,
        (Word::Conflict, _) if before == Before::Word(Word::On) => Clause::Conflict,
        (Word::Update, Clause::Conflict) if before == Before::Word(Word::Do) => {
            Clause::UpdateTarget
        }
        (Word::Update, _) if merges(frame, before) => Clause::UpdateTarget,
        (Word::Insert, _) if merges(frame, before) => Clause::InsertTarget,
        (Word::Set, Clause::UpdateTarget) => Clause::Set,
        (Word::Select, Clause::InsertTarget) => Clause::SelectList,
        (Word::Values, Clause::InsertTarget) => Clause::Values,
        (Word::With, Clause::InsertTarget) => Clause::Other,
        (Word::When, _) if frame.verb == Word::Merge => Clause::Other,
        (Word::Union | Word::Intersect | Word::Except, _) => Clause::Start,
        (
            Word::Group
            | Word::Having
            | Word::Order
            | Word::Limit
            | Word::Offset
            | Word::Fetch
            | Word::For
            | Word::Returning
            | Word::Window,
            _,
        ) => Clause::Other,
        _ => clause,
    }
}

/// THEN UPDATE, THEN INSERT
fn merges(frame: Frame, before: Before) -> bool {
    frame.verb == Word::Merge && before == Before::Word(Word::Then)
}

fn has_operands(clause: Clause) -> bool {
    matches!(clause, Clause::On | Clause::Where | Clause::Set)
}

fn is_comparison(operator: &[u8]) -> bool {
    matches!(operator, b"=" | b"<>" | b"!=" | b"<" | b">" | b"<=" | b">=")
}

fn is_arithmetic(operator: &[u8]) -> bool {
    matches!(operator, b"+" | b"-" | b"*" | b"/" | b"%")
}

/// Reserved words (and words that join tables) that cannot go on with an expression.
fn ends_operand(word: Word) -> bool {
    matches!(
        word,
        Word::And
            | Word::Or
            | Word::Where
            | Word::From
            | Word::On
            | Word::Join
            | Word::Left
            | Word::Right
            | Word::Inner
            | Word::Cross
            | Word::Full
            | Word::Natural
            | Word::Group
            | Word::Having
            | Word::Order
            | Word::Limit
            | Word::Offset
            | Word::Fetch
            | Word::For
            | Word::Union
            | Word::Intersect
            | Word::Except
            | Word::Window
            | Word::Returning
            | Word::When
    )
}
