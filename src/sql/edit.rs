//! Places in a text that survive literals of other lengths, and the splicing of drawn keys into an INSERT. The original
//! bytes are kept as they are; nothing is printed back from a tree.

use super::lift::Span;
use super::tokens::{Token, TokenKind};
use std::ops::Range;

/// Byte offset in the planned text = `offset` bytes after the end of slot `after_slot` (or of the text's start).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TextAnchor {
    pub after_slot: Option<usize>,
    pub offset: usize,
}

impl TextAnchor {
    /// The anchor of a byte offset that is not inside a slot.
    #[must_use]
    pub fn of(at: usize, slots: &[Span]) -> Self {
        match slots.iter().rposition(|slot| slot.end <= at) {
            Some(slot) => Self {
                after_slot: Some(slot),
                offset: at - slots[slot].end,
            },
            None => Self {
                after_slot: None,
                offset: at,
            },
        }
    }

    /// Where it is in a text with these slots; None when the slots are not those of this shape.
    #[must_use]
    pub fn absolute(&self, slots: &[Span]) -> Option<usize> {
        match self.after_slot {
            Some(slot) => slots.get(slot).map(|slot| slot.end + self.offset),
            None => Some(self.offset),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrawEdit {
    pub at: TextAnchor,
    /// bytes removed at that place (a DEFAULT keyword), usually 0
    pub remove: usize,
    pub insert: EditPart,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EditPart {
    Text(String),
    /// these bytes of the text itself, once more
    Copy {
        from: TextAnchor,
        to: TextAnchor,
    },
    /// the drawn value of this row; `before` and `after` are put around it (", " and so on)
    Value {
        row: usize,
        before: &'static str,
        after: &'static str,
    },
}

/// How drawn values are written.
#[derive(Clone, Copy, Debug)]
pub enum Drawn<'a> {
    /// simple query: one literal a row
    Literals(&'a [i64]),
    /// extended query: row n becomes `$(first + n)`; the values are added to the Bind
    Params { first: usize },
}

/// The bytes `range` of the text with the edits made. None when an edit does not fit the text.
#[must_use]
pub fn splice(
    text: &[u8],
    slots: &[Span],
    range: Range<usize>,
    edits: &[DrawEdit],
    drawn: Drawn<'_>,
) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(range.len() + 32 * edits.len());
    let mut at = range.start;
    for edit in edits {
        let place = edit.at.absolute(slots)?;
        out.extend_from_slice(text.get(at..place)?);
        at = place + edit.remove;
        match &edit.insert {
            EditPart::Text(insert) => out.extend_from_slice(insert.as_bytes()),
            EditPart::Copy { from, to } => {
                out.extend_from_slice(text.get(from.absolute(slots)?..to.absolute(slots)?)?);
            }
            EditPart::Value { row, before, after } => {
                out.extend_from_slice(before.as_bytes());
                let value = match drawn {
                    Drawn::Literals(values) => values.get(*row)?.to_string(),
                    Drawn::Params { first } => format!("${}", first + row),
                };
                out.extend_from_slice(value.as_bytes());
                out.extend_from_slice(after.as_bytes());
            }
        }
    }
    out.extend_from_slice(text.get(at..range.end)?);
    Some(out)
}

/// Where things stand in an `INSERT INTO t [(columns)] VALUES (…), (…)`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct InsertPlaces {
    /// just after the column list's opening parenthesis
    pub list: Option<usize>,
    /// start of VALUES (or of DEFAULT VALUES)
    pub values: usize,
    /// the words DEFAULT VALUES
    pub default_values: Option<Range<usize>>,
    pub rows: Vec<RowPlace>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct RowPlace {
    /// just after the opening parenthesis
    pub open: usize,
    /// of each element, first to last byte
    pub elements: Vec<Range<usize>>,
    /// the closing parenthesis
    pub close: usize,
}

/// Finds the places by tokens alone; None when the statement is built otherwise.
#[must_use]
pub fn insert_places(text: &[u8], tokens: &[Token]) -> Option<InsertPlaces> {
    let mut reader = Reader {
        text,
        tokens,
        at: 0,
    };
    reader.skip_to_insert()?;
    reader.name()?;
    let mut places = InsertPlaces::default();
    if !reader.is_any(&["values", "default", "overriding"])
        && reader.kind() != Some(TokenKind::ParenOpen)
    {
        reader.at += usize::from(reader.is("as"));
        reader.at += 1;
    }
    if reader.kind() == Some(TokenKind::ParenOpen) {
        places.list = Some(reader.row()?.open);
    }
    if reader.is("overriding") {
        reader.at += 3;
    }
    places.values = reader.token()?.start;
    if reader.is("default") {
        let end = reader.tokens.get(reader.at + 1)?.end;
        places.default_values = Some(places.values..end);
        return Some(places);
    }
    if !reader.is("values") {
        return None;
    }
    loop {
        reader.at += 1;
        places.rows.push(reader.row()?);
        if reader.kind() != Some(TokenKind::Comma) {
            return Some(places);
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    tokens: &'a [Token],
    at: usize,
}

impl Reader<'_> {
    fn token(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn kind(&self) -> Option<TokenKind> {
        self.token().map(|token| token.kind)
    }

    fn is(&self, word: &str) -> bool {
        self.token()
            .is_some_and(|token| token.is_word(self.text, word))
    }

    fn is_any(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// Past the INSERT INTO that is not inside parentheses (a WITH may stand before it).
    fn skip_to_insert(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.kind()? {
                TokenKind::ParenOpen => depth += 1,
                TokenKind::ParenClose => depth = depth.checked_sub(1)?,
                _ if depth == 0 && self.is("insert") => break,
                _ => {}
            }
            self.at += 1;
        }
        self.at += 1;
        if !self.is("into") {
            return None;
        }
        self.at += 1;
        Some(())
    }

    fn name(&mut self) -> Option<()> {
        loop {
            self.token()?;
            self.at += 1;
            if self.kind() != Some(TokenKind::Dot) {
                return Some(());
            }
            self.at += 1;
        }
    }

    /// A parenthesised list; stops after it.
    fn row(&mut self) -> Option<RowPlace> {
        if self.kind()? != TokenKind::ParenOpen {
            return None;
        }
        let mut row = RowPlace {
            open: self.token()?.end,
            ..RowPlace::default()
        };
        let mut depth = 0_usize;
        let mut start: Option<usize> = None;
        let mut end = row.open;
        loop {
            self.at += 1;
            let token = *self.token()?;
            match token.kind {
                TokenKind::ParenClose if depth == 0 => {
                    row.elements.extend(start.map(|start| start..end));
                    row.close = token.start;
                    self.at += 1;
                    return Some(row);
                }
                TokenKind::Comma if depth == 0 => {
                    row.elements.push(start.take()?..end);
                    continue;
                }
                TokenKind::ParenOpen | TokenKind::BracketOpen => depth += 1,
                TokenKind::ParenClose | TokenKind::BracketClose => depth = depth.checked_sub(1)?,
                _ => {}
            }
            start.get_or_insert(token.start);
            end = token.end;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::tokens::tokenize;

    #[test]
    fn anchors_survive_literals_of_other_lengths() {
        let short = [Span { start: 10, end: 12 }];
        let long = [Span { start: 10, end: 40 }];
        let anchor = TextAnchor::of(15, &short);
        assert_eq!(anchor.absolute(&long), Some(43));
        assert_eq!(TextAnchor::of(3, &short).absolute(&long), Some(3));
        assert_eq!(anchor.absolute(&[]), None);
    }

    #[test]
    fn places_of_an_insert() {
        let sql = b"WITH x AS (SELECT 1) INSERT INTO s.t AS u (a, b) OVERRIDING USER VALUE VALUES (1, f(2, 3)), (DEFAULT, 4) RETURNING a";
        let places = insert_places(sql, &tokenize(sql, true).unwrap()).unwrap();
        assert_eq!(places.rows.len(), 2);
        let element = |row: usize, n: usize| {
            std::str::from_utf8(&sql[places.rows[row].elements[n].clone()]).unwrap()
        };
        assert_eq!((element(0, 1), element(1, 0)), ("f(2, 3)", "DEFAULT"));
        assert!(sql[places.values..].starts_with(b"VALUES (1"));
        assert!(sql[places.list.unwrap()..].starts_with(b"a, b)"));
        let none = b"INSERT INTO t SELECT 1";
        assert_eq!(insert_places(none, &tokenize(none, true).unwrap()), None);
    }

    #[test]
    fn drawn_keys_are_spliced_in() {
        let sql = b"INSERT INTO t (a) VALUES ('it''s'), ('b')";
        let slots = [Span { start: 26, end: 33 }, Span { start: 37, end: 40 }];
        let edit = |at: usize, insert| DrawEdit {
            at: TextAnchor::of(at, &slots),
            remove: 0,
            insert,
        };
        let value = |row| EditPart::Value {
            row,
            before: "",
            after: ", ",
        };
        let edits = [
            edit(15, EditPart::Text("\"id\", ".into())),
            edit(26, value(0)),
            edit(37, value(1)),
        ];
        let literal = splice(sql, &slots, 0..sql.len(), &edits, Drawn::Literals(&[7, -8])).unwrap();
        assert_eq!(
            String::from_utf8(literal).unwrap(),
            "INSERT INTO t (\"id\", a) VALUES (7, 'it''s'), (-8, 'b')"
        );
        let params = splice(
            sql,
            &slots,
            0..sql.len(),
            &edits,
            Drawn::Params { first: 3 },
        )
        .unwrap();
        assert_eq!(
            String::from_utf8(params).unwrap(),
            "INSERT INTO t (\"id\", a) VALUES ($3, 'it''s'), ($4, 'b')"
        );
    }
}
