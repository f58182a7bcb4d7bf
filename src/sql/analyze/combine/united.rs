//! A set operation as the outermost query: rows of UNION ALL are those of its arms, whichever shard they come from, when each arm's rows
//! are. UNION, INTERSECT and EXCEPT compare rows; rows that hold the shard key in the same columns of every arm have their equals
//! on the same shard. ORDER BY names columns of the result, so nothing has to be added to sort by.

use super::super::query::ordinal;
use super::super::{Analyzer, ContextId, Instance, Node};
use super::{Across, Amounts, places, sort_key};
use crate::sql::analyze::query::Columns;
use crate::sql::analyze::scope::folded;
use crate::sql::combine::{Combination, Place, SortKey, Source};
use crate::sql::edit::{DrawEdit, EditPart, TextAnchor};
use crate::sql::statement::Placement;
use sqlparser::ast::{Expr, OrderByExpr, OrderByKind, Query, SetExpr, SetOperator, SetQuantifier};
use std::ops::Range;

/// The outermost set operation while its arms are looked at.
#[derive(Default)]
pub(in super::super) struct United {
    /// where it is in memory, to be known again
    pub at: usize,
    pub arms: Vec<Arm>,
}

pub(in super::super) struct Arm {
    pub instances: Range<usize>,
    pub context: ContextId,
    /// each of its rows stands for one row of its FROM
    pub flat: bool,
    pub columns: Vec<(String, Option<Node>)>,
}

impl Arm {
    pub fn new(instances: Range<usize>, context: ContextId, flat: bool, columns: &Columns) -> Self {
        let columns = columns.iter().flatten();
        Self {
            instances,
            context,
            flat,
            columns: columns.map(|c| (c.name.clone(), c.node)).collect(),
        }
    }

    /// The relation to which all others of the arm have to be tied.
    pub fn anchor(&self, instances: &[Instance]) -> Option<usize> {
        let is_anchor = |at: &usize| {
            instances
                .get(*at)
                .is_some_and(|i| i.anchors && is_sharded(i))
        };
        self.instances.clone().find(is_anchor)
    }
}

fn is_sharded(instance: &Instance) -> bool {
    matches!(instance.placement, Placement::Sharded(_))
}

pub(in super::super) fn address(body: &SetExpr) -> usize {
    std::ptr::from_ref(body).addr()
}

/// Nothing but UNION ALL.
fn all_rows(body: &SetExpr) -> bool {
    let mut open = vec![body];
    while let Some(body) = open.pop() {
        let SetExpr::SetOperation {
            op,
            set_quantifier,
            left,
            right,
        } = body
        else {
            continue;
        };
        if (*op, *set_quantifier) != (SetOperator::Union, SetQuantifier::All) {
            return false;
        }
        open.extend([left.as_ref(), right.as_ref()]);
    }
    true
}

impl Analyzer<'_> {
    pub(in super::super) fn is_united(&self, body: &SetExpr) -> bool {
        let united = self.united.as_ref();
        united.is_some_and(|united| united.at == address(body))
    }

    /// None: the rows of several shards do not go together.
    pub(in super::super) fn across_arms(&self, query: &Query) -> Option<Across> {
        std::str::from_utf8(self.env.text).ok()?;
        let arms = &self.united.as_ref()?.arms;
        let anchored = |arm: &Arm| arm.flat && arm.anchor(&self.instances).is_some();
        if !arms.iter().all(anchored) || !(all_rows(&query.body) || self.hold_key(arms)?) {
            return None;
        }
        let amounts = Amounts::of(query);
        let mut made = Combination::default();
        if let Some(by) = &query.order_by {
            let OrderByKind::Expressions(by) = &by.kind else {
                return None;
            };
            made.order = by
                .iter()
                .map(|by| self.united_key(by, arms))
                .collect::<Option<_>>()?;
        }
        if made.order.is_empty() && amounts.is_nothing() {
            return Some(Across::Rows);
        }
        (made.limit, made.offset) = amounts.both(self)?;
        if let Some(insert) = amounts.for_shards(self)? {
            let range = places::places(self.env.text, self.tokens)?.amounts?;
            made.edits.push(DrawEdit {
                at: TextAnchor::of(range.start, self.env.slots),
                remove: range.len(),
                insert: EditPart::Text(insert),
            });
        }
        Some(Across::Combined(Box::new(made)))
    }

    /// Is the whole key in every row, in the same columns of every arm?
    fn hold_key(&self, arms: &[Arm]) -> Option<bool> {
        let mut all: Vec<Vec<Vec<usize>>> = Vec::with_capacity(arms.len());
        for arm in arms {
            let keys = &self.instances.get(arm.anchor(&self.instances)?)?.keys;
            let closure = self.base.closure(arm.context);
            let places = |key: &Node| -> Vec<usize> {
                let tied = |(_, node): &(String, Option<Node>)| {
                    node.is_some_and(|node| closure.tied(*key, node))
                };
                let columns = arm.columns.iter().enumerate();
                columns.filter(|(_, c)| tied(c)).map(|(at, _)| at).collect()
            };
            all.push(keys.iter().map(places).collect());
        }
        let first = all.first()?;
        let same = |(n, places): (usize, &Vec<usize>)| {
            places.iter().any(|at| {
                let here = |its: &Vec<Vec<usize>>| its.get(n).is_some_and(|p| p.contains(at));
                all.iter().all(here) && self.one_type(arms, *at).is_some()
            })
        };
        let widths = all.iter().all(|keys| keys.len() == first.len());
        Some(!first.is_empty() && widths && first.iter().enumerate().all(same))
    }

    /// The type that a column has in every arm.
    fn one_type(&self, arms: &[Arm], at: usize) -> Option<u32> {
        let of = |arm: &Arm| Some(self.base.type_of(arm.columns.get(at)?.1?));
        let first = of(arms.first()?)?;
        (first != 0 && arms.iter().all(|arm| of(arm) == Some(first))).then_some(first)
    }

    fn united_key(&self, by: &OrderByExpr, arms: &[Arm]) -> Option<SortKey> {
        let columns = &arms.first()?.columns;
        let at = match &by.expr {
            Expr::Identifier(name) => {
                let name = folded(name);
                let mut named = columns.iter().enumerate().filter(|(_, c)| c.0 == name);
                let (at, _) = named.next()?;
                named.next().is_none().then_some(at)?
            }
            expr => ordinal(expr)?.checked_sub(1)?,
        };
        let type_oid = self.one_type(arms, at)?;
        let by_bytes = arms.iter().all(|arm| {
            let node = arm.columns.get(at).and_then(|c| c.1);
            node.is_some_and(|node| self.base.collation_of(node).by_bytes)
        });
        // what a send function would have to say stands in no column
        let (reading, None) = self.reading(type_oid, by_bytes)? else {
            return None;
        };
        let value = Source {
            place: Place::Visible(at),
            reading,
        };
        sort_key(by, value)
    }
}
