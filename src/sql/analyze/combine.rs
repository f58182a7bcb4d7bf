//! The outermost SELECT seen from several shards: whether each shard's own rows are part of the answer, and how they go
//! together. Clause by clause; what is not proven here gives no combination, and the clause that stands in the way keeps
//! its name.

mod amounts;
mod grouped;
mod places;
mod types;
pub(super) mod united;

use super::facts::Closure;
use super::predicate::{column, resolve, unwrap};
use super::query::{group_exprs, item_expr, item_name, ordinal};
use super::scope::{Resolved, Scope, folded, schema_and_name};
use super::{Analyzer, Node};
use crate::sql::combine::{Combination, Place, Reading, SortKey, Source, equality, reading};
use crate::sql::edit::{DrawEdit, EditPart, TextAnchor};
use crate::sql::name;
use crate::sql::statement::Placement;
use crate::sql::tokens::Token;
pub(super) use amounts::Amounts;
use places::Places;
use sqlparser::ast::{
    Distinct, Expr, Function, OrderByExpr, OrderBySort, Select, SelectItem, WindowType,
    visit_expressions,
};
use std::ops::ControlFlow;

/// What several shards make of the outermost SELECT.
#[derive(Debug)]
pub(super) enum Across {
    /// their rows are the answer
    Rows,
    Combined(Box<Combination>),
}

/// What is known of an expression's values.
#[derive(Clone, Copy, Debug)]
struct Typed {
    oid: u32,
    by_bytes: bool,
    deterministic: bool,
}

/// One block while it is looked at.
struct Block<'a, 's> {
    select: &'a Select,
    order: &'a [OrderByExpr],
    scope: &'a Scope<'s>,
    closure: Closure,
    /// of the relation that all others are tied to; empty when nothing is sharded
    keys: Vec<Node>,
    places: Places,
    /// no `*`: each item of the list is one column
    counted: bool,
}

/// What is added to the select list.
#[derive(Default)]
struct Hidden {
    columns: Vec<Vec<EditPart>>,
}

impl Hidden {
    fn add(&mut self, parts: Vec<EditPart>) -> Place {
        let known = self.columns.iter().position(|column| *column == parts);
        Place::Hidden(known.unwrap_or_else(|| {
            self.columns.push(parts);
            self.columns.len() - 1
        }))
    }

    fn edits(&self, at: TextAnchor) -> Vec<DrawEdit> {
        let edit = |insert| DrawEdit {
            at,
            remove: 0,
            insert,
        };
        let mut edits = Vec::new();
        for (n, column) in self.columns.iter().enumerate() {
            edits.push(edit(EditPart::Text(", ".to_owned())));
            edits.extend(column.iter().cloned().map(edit));
            // a name of its own: an ORDER BY must not come to mean this column
            edits.push(edit(EditPart::Text(format!(" AS \"pgshunt {n}\""))));
        }
        edits
    }
}

impl Analyzer<'_> {
    /// None: the rows of several shards do not go together.
    pub(super) fn across(
        &self,
        select: &Select,
        order: &[OrderByExpr],
        amounts: &Amounts,
        scope: &Scope<'_>,
        context: super::ContextId,
    ) -> Option<Across> {
        std::str::from_utf8(self.env.text).ok()?;
        if select.into.is_some() || select.projection.is_empty() {
            return None;
        }
        let places = places::places(self.env.text, self.tokens)?;
        let anchor = self
            .instances
            .iter()
            .find(|i| i.anchors && matches!(i.placement, Placement::Sharded(_)))?;
        let star = |item: &SelectItem| item_expr(item).is_none();
        let block = Block {
            select,
            order,
            scope,
            closure: self.base.closure(context),
            keys: anchor.keys.clone(),
            places,
            counted: !select.projection.iter().any(star),
        };
        if !self.windows_by_key(&block)? {
            return None;
        }
        let aggregates = self.has_aggregates(&block);
        let grouped = !group_exprs(select).is_empty();
        if !grouped && (aggregates || select.having.is_some()) || grouped && !self.by_key(&block)? {
            return self.partial(&block, amounts);
        }
        self.rows(&block, amounts)
    }

    /// Each shard's rows are rows of the answer; what is left is to order, to make distinct, to count.
    fn rows(&self, block: &Block<'_, '_>, amounts: &Amounts) -> Option<Across> {
        let mut made = Combination::default();
        let mut hidden = Hidden::default();
        made.distinct = self.distinct(block, &mut hidden)?;
        for by in block.order {
            made.order.push(self.sort_key(block, by, &mut hidden)?);
        }
        if block.order.is_empty() && !made.distinct && amounts.is_nothing() {
            return Some(Across::Rows);
        }
        self.finish_rows(block, amounts, &hidden, made)
    }

    fn finish_rows(
        &self,
        block: &Block<'_, '_>,
        amounts: &Amounts,
        hidden: &Hidden,
        mut made: Combination,
    ) -> Option<Across> {
        let slots = self.env.slots;
        made.hidden = hidden.columns.len();
        made.edits = hidden.edits(TextAnchor::of(block.places.list_end, slots));
        (made.limit, made.offset) = amounts.both(self)?;
        if let Some(insert) = amounts.for_shards(self)? {
            let range = block.places.amounts.clone()?;
            made.edits.push(DrawEdit {
                at: TextAnchor::of(range.start, slots),
                remove: range.len(),
                insert: EditPart::Text(insert),
            });
        }
        Some(Across::Combined(Box::new(made)))
    }

    /// Are all key columns among these?
    fn holds_key(block: &Block<'_, '_>, nodes: &[Node]) -> bool {
        let held = |key: &Node| nodes.iter().any(|node| block.closure.tied(*key, *node));
        !block.keys.is_empty() && block.keys.iter().all(held)
    }

    /// Is every group on one shard? None when that cannot be said.
    fn by_key(&self, block: &Block<'_, '_>) -> Option<bool> {
        let mut nodes = Vec::new();
        for expr in group_exprs(block.select) {
            if matches!(
                expr,
                Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
            ) {
                return None;
            }
            let grouping = self.grouping_expr(block, expr)?;
            nodes.extend(column(grouping, block.scope));
        }
        Some(Self::holds_key(block, &nodes))
    }

    /// What an element of GROUP BY means: an ordinal, a column of the input, else a name of the output.
    fn grouping_expr<'a>(&self, block: &Block<'a, '_>, expr: &'a Expr) -> Option<&'a Expr> {
        if let Some(at) = ordinal(expr) {
            return block
                .counted
                .then(|| item_expr(block.select.projection.get(at.checked_sub(1)?)?))
                .flatten();
        }
        match (expr, resolve(expr, block.scope)) {
            (Expr::Identifier(_), Some(Resolved::Missing)) => self.named_item(block, expr),
            (Expr::Identifier(_), Some(Resolved::Node(_))) => Some(expr),
            (Expr::Identifier(_), _) => None,
            _ => Some(expr),
        }
    }

    /// The item of the select list that an identifier names.
    fn named_item<'a>(&self, block: &Block<'a, '_>, expr: &Expr) -> Option<&'a Expr> {
        let Expr::Identifier(name) = expr else {
            return None;
        };
        let name = folded(name);
        let mut items = block.select.projection.iter();
        items.find_map(|item| match item {
            SelectItem::ExprWithAlias { expr, alias } if folded(alias) == name => Some(expr),
            SelectItem::UnnamedExpr(expr) if item_name(expr).as_deref() == Some(&name) => {
                Some(expr)
            }
            _ => None,
        })
    }

    /// Windows look at rows of one shard only when they are partitioned by the key. None when that cannot be said.
    fn windows_by_key(&self, block: &Block<'_, '_>) -> Option<bool> {
        if !block.select.named_window.is_empty() {
            return None;
        }
        let mut fine = true;
        let mut look = |expr: &Expr| {
            if let Expr::Function(Function {
                over: Some(over), ..
            }) = expr
            {
                fine &= match over {
                    WindowType::WindowSpec(spec) => {
                        let by = spec.partition_by.iter();
                        let nodes: Vec<Node> =
                            by.filter_map(|expr| column(expr, block.scope)).collect();
                        Self::holds_key(block, &nodes)
                    }
                    WindowType::NamedWindow(_) => false,
                };
            }
            ControlFlow::<()>::Continue(())
        };
        for expr in block.select.projection.iter().filter_map(item_expr) {
            let _ = visit_expressions(expr, &mut look);
        }
        for by in block.order {
            let _ = visit_expressions(&by.expr, &mut look);
        }
        Some(fine)
    }

    /// An aggregate that is no window function, anywhere in this block.
    fn has_aggregates(&self, block: &Block<'_, '_>) -> bool {
        let items = block.select.projection.iter().filter_map(item_expr);
        let order = block.order.iter().map(|by| &by.expr);
        items.chain(order).any(|expr| self.plain_aggregate_in(expr))
    }

    /// Is DISTINCT left to do over the shards' distinct rows? None when it cannot be done.
    fn distinct(&self, block: &Block<'_, '_>, hidden: &mut Hidden) -> Option<bool> {
        let nodes = |exprs: &[Expr]| -> Vec<Node> {
            let nodes = exprs.iter().filter_map(|e| column(e, block.scope));
            nodes.collect()
        };
        match &block.select.distinct {
            None | Some(Distinct::All) => Some(false),
            Some(Distinct::On(exprs)) => Self::holds_key(block, &nodes(exprs)).then_some(false),
            Some(Distinct::Distinct) => {
                let columns = self.out_columns(block.select, block.scope);
                let out: Vec<Node> = columns.iter().flatten().filter_map(|c| c.node).collect();
                if Self::holds_key(block, &out) {
                    return Some(false);
                }
                if !block.counted {
                    return None;
                }
                for (at, item) in block.select.projection.iter().enumerate() {
                    let typed = self.known(block, item_expr(item)?)?;
                    if let Some(function) = equality(typed.oid, typed.deterministic)? {
                        hidden.add(self.item_sent(block, at, function)?);
                    }
                }
                Some(true)
            }
        }
    }

    fn sort_key(
        &self,
        block: &Block<'_, '_>,
        by: &OrderByExpr,
        hidden: &mut Hidden,
    ) -> Option<SortKey> {
        let (expr, item) = self.ordered_by(block, by)?;
        if item.is_none() && !self.is_distinct_column(block, expr)? {
            return None;
        }
        let value = self.source(block, expr, item, hidden)?;
        sort_key(by, value)
    }

    /// With DISTINCT, a column that is not selected must not be: Postgres refuses to sort by it, and would not if it were
    /// added. None when that cannot be said.
    fn is_distinct_column(&self, block: &Block<'_, '_>, expr: &Expr) -> Option<bool> {
        if !matches!(block.select.distinct, Some(Distinct::Distinct)) {
            return Some(true);
        }
        let node = column(bare(expr), block.scope)?;
        let columns = self.out_columns(block.select, block.scope)?;
        Some(columns.iter().any(|column| column.node == Some(node)))
    }

    /// The expression that an element of ORDER BY stands for, and its place in the select list where it is counted.
    fn ordered_by<'a>(
        &self,
        block: &Block<'a, '_>,
        by: &'a OrderByExpr,
    ) -> Option<(&'a Expr, Option<usize>)> {
        let items = &block.select.projection;
        let expr = &by.expr;
        if let Expr::Value(_) = expr {
            let at = ordinal(expr)?.checked_sub(1)?;
            return block
                .counted
                .then(|| Some((item_expr(items.get(at)?)?, Some(at))))
                .flatten();
        }
        let (mut found, mut unsure) = (None, false);
        for (at, item) in items.iter().enumerate() {
            let its = match item {
                SelectItem::ExprWithAlias { expr, alias } => Some((expr, Some(folded(alias)))),
                SelectItem::UnnamedExpr(expr) => Some((expr, item_name(expr))),
                _ => None,
            };
            let Some((its, name)) = its else { continue };
            if let Expr::Identifier(wanted) = expr {
                let wanted = folded(wanted);
                let named = if let Some(name) = name {
                    name == wanted
                } else {
                    unsure |= self.may_be_named(block, at, &wanted);
                    false
                };
                if named && found.is_none() {
                    found = Some((its, block.counted.then_some(at)));
                }
            } else if found.is_none() && unwrap(its) == unwrap(expr) {
                found = Some((its, block.counted.then_some(at)));
            }
        }
        if found.is_none() && unsure {
            return None;
        }
        Some(found.unwrap_or((expr, None)))
    }

    /// Could Postgres call this item so? It takes a name from within the expression, or one of its own words.
    fn may_be_named(&self, block: &Block<'_, '_>, at: usize, wanted: &str) -> bool {
        const WORDS: [&str; 24] = [
            "?column?",
            "case",
            "exists",
            "array",
            "row",
            "bool",
            "int2",
            "int4",
            "int8",
            "float4",
            "float8",
            "numeric",
            "bpchar",
            "char",
            "varchar",
            "varbit",
            "bit",
            "timetz",
            "timestamptz",
            "timezone",
            "btrim",
            "ltrim",
            "rtrim",
            "pg_collation_for",
        ];
        let items = &block.places.items;
        let Some(tokens) = items
            .get(at)
            .filter(|_| items.len() == block.select.projection.len())
            .and_then(|item| self.tokens.get(item.clone()))
        else {
            return true;
        };
        let says = |token: &Token| {
            name::identifier(self.env.text, token).is_some_and(|name| name == wanted)
        };
        WORDS.contains(&wanted) || tokens.iter().any(says)
    }

    /// How values of this type are compared here, where they are as the servers have them.
    fn reading(&self, oid: u32, by_bytes: bool) -> Option<(Reading, Option<&'static str>)> {
        reading(oid, by_bytes && self.env.same_encoding)
    }

    /// Where a shard's row has this value in a form that can be compared.
    fn source(
        &self,
        block: &Block<'_, '_>,
        expr: &Expr,
        item: Option<usize>,
        hidden: &mut Hidden,
    ) -> Option<Source> {
        let typed = self.known(block, expr)?;
        let (reading, function) = self.reading(typed.oid, typed.by_bytes)?;
        let same = |other: &SelectItem| {
            item_expr(other).is_some_and(|other| {
                let node = column(other, block.scope);
                node.is_some() && node == column(bare(expr), block.scope)
            })
        };
        let shown = || {
            let at = block.select.projection.iter().position(same);
            at.filter(|_| block.counted)
        };
        let place = match (function, item.or_else(shown)) {
            (None, Some(at)) => Place::Visible(at),
            (None, None) => hidden.add(vec![EditPart::Text(spelled(bare(expr))?)]),
            (Some(function), Some(at)) => hidden.add(self.item_sent(block, at, function)?),
            (Some(function), None) => hidden.add(sent(function, &spelled(expr)?)),
        };
        Some(Source { place, reading })
    }

    /// What a send function gives of an item of the select list.
    fn item_sent(&self, block: &Block<'_, '_>, at: usize, function: &str) -> Option<Vec<EditPart>> {
        let item = block.select.projection.get(at)?;
        if let Some(name) = item_expr(item).and_then(spelled) {
            return Some(sent(function, &name));
        }
        if block.places.items.len() != block.select.projection.len() {
            return None;
        }
        let mut tokens = block.places.items.get(at)?.clone();
        if let SelectItem::ExprWithAlias { .. } = item {
            tokens.end -= 1;
            let last = self.tokens.get(tokens.end.checked_sub(1)?)?;
            tokens.end -= usize::from(last.is_word(self.env.text, "as"));
        }
        let last = self.tokens.get(tokens.end.checked_sub(1)?)?;
        let slots = self.env.slots;
        Some(vec![
            EditPart::Text(format!("pg_catalog.{function}(")),
            EditPart::Copy {
                from: TextAnchor::of(self.tokens.get(tokens.start)?.start, slots),
                to: TextAnchor::of(last.end, slots),
            },
            EditPart::Text(")".to_owned()),
        ])
    }

    /// The type of an expression of this block, aggregates among them, where it is certain.
    fn known(&self, block: &Block<'_, '_>, expr: &Expr) -> Option<Typed> {
        self.typed(expr, block.scope).or_else(|| {
            Some(Typed {
                oid: self.resulting(block, expr)?,
                by_bytes: false,
                deterministic: false,
            })
        })
    }

    /// The type of an expression, where it is certain.
    fn typed(&self, expr: &Expr, scope: &Scope<'_>) -> Option<Typed> {
        let expr = unwrap(expr);
        if let Expr::Collate { expr, collation } = expr {
            let inner = self.typed(expr, scope)?;
            let name = schema_and_name(collation)?;
            let system = name
                .0
                .as_deref()
                .is_none_or(|schema| schema == "pg_catalog");
            let by_bytes = system && matches!(name.1.as_str(), "C" | "POSIX");
            return (by_bytes && matches!(inner.oid, 25 | 1043)).then_some(Typed {
                by_bytes,
                deterministic: true,
                ..inner
            });
        }
        if let Expr::Identifier(name) = expr
            && scope.is_mixed(&folded(name))
        {
            return None;
        }
        let node = column(expr, scope)?;
        let collation = self.base.collation_of(node);
        let oid = self.base.type_of(node);
        (oid != 0).then_some(Typed {
            oid,
            by_bytes: collation.by_bytes,
            deterministic: collation.deterministic,
        })
    }
}

/// Without parentheses and COLLATE: a collation does not change the value.
fn bare(expr: &Expr) -> &Expr {
    match unwrap(expr) {
        Expr::Collate { expr, .. } => bare(expr),
        other => other,
    }
}

fn sort_key(by: &OrderByExpr, value: Source) -> Option<SortKey> {
    let descending = match by.options.sort {
        None | Some(OrderBySort::Asc) => false,
        Some(OrderBySort::Desc) => true,
        Some(OrderBySort::Using(_)) => return None,
    };
    if by.with_fill.is_some() {
        return None;
    }
    Some(SortKey {
        value,
        descending,
        nulls_first: by.options.nulls_first.unwrap_or(descending),
    })
}

/// A column's name as SQL text.
fn spelled(expr: &Expr) -> Option<String> {
    let quoted = |ident| name::quote_ident(&folded(ident));
    match unwrap(expr) {
        Expr::Identifier(name) => Some(quoted(name)),
        Expr::CompoundIdentifier(parts) => {
            let parts: Vec<String> = parts.iter().map(quoted).collect();
            Some(parts.join("."))
        }
        _ => None,
    }
}

fn sent(function: &str, argument: &str) -> Vec<EditPart> {
    vec![EditPart::Text(format!("pg_catalog.{function}({argument})"))]
}
