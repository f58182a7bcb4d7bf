//! What of a statement matters when it runs on copies of its tables: which columns it may look at, and what would act on
//! the copies instead of the tables. Columns are found by their names among all words of the statement and of the views
//! it stands on; where a row may be meant as a whole, every column counts.

use super::facts::{Closure, Node};
use super::{Analyzer, Instance, uses};
use crate::catalog::QualifiedName;
use crate::sql::name::identifier;
use crate::sql::statement::{ColumnValues, ValueSource};
use crate::sql::tokens::{Token, TokenKind};
use std::collections::HashSet;

/// More values of one column are not asked for one by one.
const VALUES_MAX: usize = 200;

/// Which columns of its tables a statement may look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needed {
    All,
    /// those with one of these names
    Named(HashSet<String>),
}

#[derive(Clone, Debug)]
pub struct OnCopies {
    pub needed: Needed,
    /// views that were looked through, as the statement names them
    pub views: Vec<QualifiedName>,
    /// what cannot be asked of copies
    pub obstacle: Option<String>,
}

/// Gathered while the analysis runs.
#[derive(Debug, Default)]
pub struct Notes {
    pub whole_rows: bool,
    pub views: Vec<QualifiedName>,
    pub obstacle: Option<String>,
    words: HashSet<String>,
}

impl Notes {
    pub fn obstacle(&mut self, what: impl FnOnce() -> String) {
        self.obstacle.get_or_insert_with(what);
    }

    /// A text that the statement consists of: its own, or that of a view.
    pub fn read(&mut self, text: &[u8], tokens: &[Token]) {
        for (n, token) in tokens.iter().enumerate() {
            let before = n.checked_sub(1).and_then(|at| tokens.get(at));
            match token.kind {
                TokenKind::UnicodeIdent => self.whole_rows = true,
                TokenKind::Operator if token.bytes(text).starts_with(b"*") => {
                    self.whole_rows |= may_be_wildcard(text, tokens, n);
                }
                _ => {}
            }
            let Some(word) = identifier(text, token) else {
                continue;
            };
            // NATURAL JOIN looks at columns it does not name, TABLE t is SELECT *
            if word == "natural" || token.is_word(text, "table") {
                self.whole_rows = true;
            }
            let of_fetch =
                before.is_some_and(|b| b.is_word(text, "row") || b.is_word(text, "rows"));
            if token.is_word(text, "only") && !of_fetch {
                self.obstacle(|| "ONLY".to_owned());
            }
            self.words.insert(word);
        }
    }
}

/// `*` is a wildcard unless it stands behind an operand, or is that of `count(*)`.
fn may_be_wildcard(text: &[u8], tokens: &[Token], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|n| tokens.get(n));
    let Some(before) = before else { return true };
    match before.kind {
        TokenKind::Number(_) | TokenKind::String | TokenKind::Param(_) => false,
        TokenKind::ParenOpen => !at
            .checked_sub(2)
            .and_then(|n| tokens.get(n))
            .is_some_and(|word| word.is_word(text, "count")),
        TokenKind::QuotedIdent => false,
        TokenKind::Ident => ["select", "distinct", "all", "returning"]
            .iter()
            .any(|word| before.is_word(text, word)),
        _ => true,
    }
}

impl Analyzer<'_> {
    /// What is proven of a relation's columns.
    pub(super) fn equals(
        &self,
        instance: &Instance,
        closure: &Closure,
        unsafe_params: &HashSet<usize>,
    ) -> Vec<ColumnValues> {
        let proven = |(column, node): &(String, Option<Node>)| {
            let values = closure.known((*node)?)?;
            // what is limited by bytes elsewhere may compare otherwise here
            let type_oid = node.map_or(0, |node| self.base.type_of(node));
            let text = matches!(type_oid, 25 | 1043);
            let by_bytes = node.is_some_and(|node| self.base.collation_of(node).by_bytes);
            let range = |value: &ValueSource| matches!(value, ValueSource::Between(_));
            let known = values.len() <= VALUES_MAX
                && !values.iter().any(|v| uses(v, unsafe_params))
                && (!text || by_bytes || !values.iter().any(range));
            known.then(|| ColumnValues {
                column: column.clone(),
                type_oid,
                values,
            })
        };
        instance.columns.iter().filter_map(proven).collect()
    }

    pub(super) fn on_copies(&mut self, tokens: &[Token]) -> OnCopies {
        let mut notes = std::mem::take(&mut self.notes);
        notes.read(self.env.text, tokens);
        OnCopies {
            needed: if notes.whole_rows {
                Needed::All
            } else {
                Needed::Named(notes.words)
            },
            views: notes.views,
            obstacle: notes.obstacle,
        }
    }
}

/// Does a view's definition say ONLY?
pub fn says_only(definition: &str) -> bool {
    let text = definition.as_bytes();
    let tokens = crate::sql::tokens::tokenize(text, true).unwrap_or_default();
    let mut notes = Notes::default();
    notes.read(text, &tokens);
    notes.obstacle.is_some()
}
