//! What of a statement matters when it runs on copies of its tables: which columns it may look at, and what would act on
//! the copies instead of the tables. Columns are found by their names among all words of the statement and of the views
//! it stands on; where a row may be meant as a whole, every column counts.

use super::facts::{Closure, Node};
use super::lookup::{Lookup, Lookups};
use super::{Analyzer, Instance, uses};
use crate::catalog::QualifiedName;
use crate::sql::filter::{Filter, FilterPart, Known, Partner};
use crate::sql::name::identifier;
use crate::sql::statement::{ColumnValues, Placement, ValueSource};
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
    /// indexes without which it would take for ever
    pub lookups: Vec<(QualifiedName, Lookup)>,
    /// what cannot be asked of copies
    pub obstacle: Option<String>,
}

/// Gathered while the analysis runs.
#[derive(Debug, Default)]
pub struct Notes {
    pub whole_rows: bool,
    pub views: Vec<QualifiedName>,
    pub obstacle: Option<String>,
    pub lookups: Lookups,
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

/// In a statement of more relations than this, none is looked at for the sake of another.
const RELATIONS_MAX: usize = 24;
/// So many partners are asked for, and so many of theirs.
const PARTNERS_MAX: usize = 3;
const PARTNERS_DEPTH: usize = 3;

/// What is known when the analysis has seen all of the statement.
pub struct Found<'f> {
    pub instances: &'f [Instance],
    pub closures: &'f [Closure],
    pub unsafe_params: &'f HashSet<usize>,
}

impl Analyzer<'_> {
    /// What holds for the rows of a relation that matter.
    pub(super) fn holds_for(&self, at: usize, found: &Found<'_>) -> Known {
        self.known_beside(&[at], found)
    }

    /// Of the last of these relations; the others are looked at for its sake, or it for theirs.
    fn known_beside(&self, path: &[usize], found: &Found<'_>) -> Known {
        let at = path.last().copied().unwrap_or_default();
        let (Some(instance), Some(closure)) = (found.instances.get(at), found.closures.get(at))
        else {
            return Known::default();
        };
        let all = self.base.filters(instance.context, at);
        let safe = all.into_iter().map(|f| &f.filter);
        let safe = safe.filter(|filter| is_safe(filter, found.unsafe_params));
        Known {
            values: self.equals(instance, closure, found.unsafe_params),
            filters: safe.cloned().collect(),
            partners: self.partners(path, found),
        }
    }

    /// Relations that every row that matters has a row of beside it, on the same shard, and of which not every row will do.
    fn partners(&self, path: &[usize], found: &Found<'_>) -> Vec<Partner> {
        let several = self.env.database.shards.len() > 1 && path.len() <= PARTNERS_DEPTH;
        let Some((&at, before)) = path.split_last() else {
            return Vec::new();
        };
        if !several || found.instances.len() > RELATIONS_MAX {
            return Vec::new();
        }
        let mut partners = Vec::new();
        if before.is_empty() {
            partners = self.groups_beside(at, found);
        }
        for other in 0..found.instances.len() {
            // who stands beside one of those before is looked at for its sake
            let is_known = path.contains(&other)
                || before
                    .iter()
                    .any(|at| self.beside(*at, other, found).is_some());
            if is_known || partners.len() >= PARTNERS_MAX {
                continue;
            }
            let Some(pairs) = self.beside(at, other, found) else {
                continue;
            };
            let longer: Vec<usize> = path.iter().copied().chain([other]).collect();
            let mut known = self.known_beside(&longer, found);
            // the same is known of our own columns
            let paired = |column: &str| pairs.iter().any(|(_, their)| their == column);
            known.values.retain(|values| !paired(&values.column));
            let table = &found.instances[other].table;
            if !known.is_nothing() {
                partners.push(Partner {
                    table: table.clone(),
                    pairs,
                    known,
                    groups: None,
                });
            }
        }
        partners
    }

    /// The columns by which a relation's row has its one partner in the other relation on its own shard.
    fn beside(&self, at: usize, other: usize, found: &Found<'_>) -> Option<Vec<(String, String)>> {
        let (ours, theirs) = (found.instances.get(at)?, found.instances.get(other)?);
        if ours.table == theirs.table || !self.base.is_around(theirs.context, ours.context) {
            return None;
        }
        let closure = found.closures.get(at)?;
        if !self.are_together(ours, theirs, closure) {
            return None;
        }
        let mut pairs = Vec::new();
        for (column, node) in &ours.columns {
            let tied = |(_, their): &&(String, Option<Node>)| match (node, their) {
                (Some(a), Some(b)) => closure.tied(*a, *b) && self.has_plain_equality(*a),
                _ => false,
            };
            if let Some((their, _)) = theirs.columns.iter().find(tied) {
                pairs.push((column.clone(), their.clone()));
            }
        }
        let key = &self.env.catalog.relations.get(&theirs.table)?.primary_key;
        let paired = |column: &String| pairs.iter().any(|(_, their)| their == column);
        (!key.is_empty() && key.iter().all(paired)).then_some(pairs)
    }

    /// Are rows that are joined on the same shard?
    fn are_together(&self, ours: &Instance, theirs: &Instance, closure: &Closure) -> bool {
        if theirs.placement == Placement::Reference {
            return true;
        }
        let mut keys = ours.keys.iter().zip(&theirs.keys);
        self.are_of_one_keyspace(ours, theirs)
            && keys.all(|(a, b)| closure.tied(*a, *b) && self.has_plain_equality(*a))
    }

    /// Are rows with equal keys on the same shard?
    pub(super) fn are_of_one_keyspace(&self, ours: &Instance, theirs: &Instance) -> bool {
        let (Placement::Sharded(a), Placement::Sharded(b)) = (ours.placement, theirs.placement)
        else {
            return false;
        };
        let keyspace = |at: usize| self.env.database.tables.get(at).map(|t| t.keyspace);
        keyspace(a) == keyspace(b) && ours.keys.len() == theirs.keys.len() && !ours.keys.is_empty()
    }

    /// Of a type that has one equality and no collation.
    pub(super) fn has_plain_equality(&self, node: Node) -> bool {
        matches!(
            self.base.type_of(node),
            20 | 21 | 23 | 1082 | 1114 | 1184 | 1700 | 2950
        )
    }

    /// What is proven of a relation's columns.
    fn equals(
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
        let lookups = self.lookups();
        let mut notes = std::mem::take(&mut self.notes);
        notes.read(self.env.text, tokens);
        OnCopies {
            needed: if notes.whole_rows {
                Needed::All
            } else {
                Needed::Named(notes.words)
            },
            views: notes.views,
            lookups,
            obstacle: notes.obstacle,
        }
    }
}

/// It has no parameter whose type may be another elsewhere.
pub fn is_safe(filter: &Filter, unsafe_params: &HashSet<usize>) -> bool {
    let unsafe_param = |part: &FilterPart| match part {
        FilterPart::Value { source, .. } => uses(source, unsafe_params),
        _ => false,
    };
    !filter.parts.iter().any(unsafe_param)
}

/// Does a view's definition say ONLY?
pub fn says_only(definition: &str) -> bool {
    let text = definition.as_bytes();
    let tokens = crate::sql::tokens::tokenize(text, true).unwrap_or_default();
    let mut notes = Notes::default();
    notes.read(text, &tokens);
    notes.obstacle.is_some()
}
