//! Groups whose rows lie on several shards: each shard gives partial results, which go together where that is exact.
//! Float sums are not (their order counts), and a type must be certain.

use super::places::closing;
use super::{Across, Amounts, Block, Hidden, spelled};
use crate::catalog::FunctionKind;
use crate::sql::analyze::predicate::{column, unwrap};
use crate::sql::analyze::query::{group_exprs, item_expr};
use crate::sql::analyze::scope::schema_and_name;
use crate::sql::analyze::{Analyzer, Node};
use crate::sql::combine::{
    Aggregate, Combination, Fold, Groups, Place, Reading, SortKey, Source, equality,
};
use crate::sql::edit::{DrawEdit, EditPart, TextAnchor};
use sqlparser::ast::{
    DuplicateTreatment, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    OrderByExpr, Select,
};

/// A call of one of the system's aggregates with one argument.
struct Call<'a> {
    name: String,
    /// None: `*`
    argument: Option<&'a Expr>,
    distinct: bool,
}

/// A grouping column, where the shards' rows have it, and for comparing it.
struct GroupColumn {
    /// None: an expression
    node: Option<Node>,
    /// which an item of the select list is, too
    item: Option<usize>,
    place: Place,
    sortable: Option<Source>,
}

impl Analyzer<'_> {
    pub(super) fn partial(&self, block: &Block<'_, '_>, amounts: &Amounts) -> Option<Across> {
        let select = block.select;
        let plain = select.distinct.is_none()
            && select.having.is_none()
            && block.counted
            && !self.has_window(select);
        if !plain || block.places.items.len() != select.projection.len() {
            return None;
        }
        let mut hidden = Hidden::default();
        let groups = self.group_columns(block, &mut hidden)?;
        let mut aggregates = Vec::new();
        for (at, item) in select.projection.iter().enumerate() {
            let expr = item_expr(item)?;
            let node = column(expr, block.scope);
            let grouped = |group: &GroupColumn| {
                group.item == Some(at) || node.is_some() && group.node == node
            };
            if groups.iter().any(grouped) || matches!(unwrap(expr), Expr::Value(_)) {
                continue;
            }
            let place = Place::Visible(at);
            let fold = self.fold(block, at, expr, &mut hidden)?;
            aggregates.push(Aggregate { place, fold });
        }
        let order = self.group_order(block, &groups, &aggregates)?;
        let (limit, offset) = amounts.both(self)?;
        let slots = self.env.slots;
        let mut edits = hidden.edits(TextAnchor::of(block.places.list_end, slots));
        let places = &block.places;
        if let Some(range) = places.order.clone().or_else(|| places.amounts.clone()) {
            edits.push(DrawEdit {
                at: TextAnchor::of(range.start, slots),
                remove: range.len(),
                insert: EditPart::Text(amounts.only_checked(self)?),
            });
        }
        Some(Across::Combined(Box::new(Combination {
            edits,
            hidden: hidden.columns.len(),
            order,
            distinct: false,
            groups: Some(Groups {
                keys: groups.iter().map(|group| group.place).collect(),
                aggregates,
            }),
            limit,
            offset,
        })))
    }

    /// GROUP BY as columns whose equality is that of their bytes.
    fn group_columns(
        &self,
        block: &Block<'_, '_>,
        hidden: &mut Hidden,
    ) -> Option<Vec<GroupColumn>> {
        let mut groups = Vec::new();
        for expr in group_exprs(block.select) {
            let expr = self.grouping_expr(block, expr)?;
            let node = column(expr, block.scope);
            let typed = self.known(block, expr)?;
            let shown = shown(block.select, |item| match node {
                Some(_) => column(item, block.scope) == node,
                None => unwrap(item) == unwrap(expr),
            });
            if node.is_none() {
                let item = shown?;
                let place = match equality(typed.oid, typed.deterministic)? {
                    None => Place::Visible(item),
                    Some(function) => hidden.add(self.item_sent(block, item, function)?),
                };
                let reading = self.reading(typed.oid, typed.by_bytes);
                groups.push(GroupColumn {
                    node,
                    item: shown,
                    place,
                    sortable: reading.map(|(reading, _)| Source { place, reading }),
                });
                continue;
            }
            let place = match (equality(typed.oid, typed.deterministic)?, shown) {
                (None, Some(at)) => Place::Visible(at),
                (None, None) => hidden.add(vec![EditPart::Text(spelled(expr)?)]),
                (Some(function), _) => hidden.add(super::sent(function, &spelled(expr)?)),
            };
            let reading = self.reading(typed.oid, typed.by_bytes);
            groups.push(GroupColumn {
                node,
                item: shown,
                place,
                sortable: reading.map(|(reading, _)| Source { place, reading }),
            });
        }
        Some(groups)
    }

    fn group_order(
        &self,
        block: &Block<'_, '_>,
        groups: &[GroupColumn],
        aggregates: &[Aggregate],
    ) -> Option<Vec<SortKey>> {
        let one = |by: &OrderByExpr| {
            let (expr, item) = self.ordered_by(block, by)?;
            let node = column(expr, block.scope);
            let group = groups.iter().find(|group| {
                node.is_some() && group.node == node || item.is_some() && group.item == item
            });
            let value = match (group, item) {
                (Some(group), _) => group.sortable?,
                (None, Some(at)) => {
                    let place = Place::Visible(at);
                    let made = aggregates.iter().find(|made| made.place == place)?;
                    sortable(made)
                }
                (None, None) => return None,
            };
            super::sort_key(by, value)
        };
        block.order.iter().map(one).collect()
    }

    /// How partial results of this item become its result.
    fn fold(
        &self,
        block: &Block<'_, '_>,
        at: usize,
        expr: &Expr,
        hidden: &mut Hidden,
    ) -> Option<Fold> {
        let call = self.call(block, expr)?;
        let typed = || call.argument.and_then(|a| self.inferred(a, block.scope));
        let whole = |oid| matches!(oid, 20 | 21 | 23);
        match call.name.as_str() {
            "count" => Some(Fold::AddInteger),
            "sum" => match typed()? {
                21 | 23 => Some(Fold::AddInteger),
                20 | 1700 => Some(Fold::AddNumeric),
                _ => None,
            },
            "avg" => {
                let reading = match typed()? {
                    21 | 23 => Reading::Integer,
                    20 | 1700 => Reading::Numeric,
                    _ => return None,
                };
                let place = hidden.add(self.called_as(block, at, "sum")?);
                let count = hidden.add(self.called_as(block, at, "count")?);
                let sum = Source { place, reading };
                Some(Fold::Average { sum, count })
            }
            "min" | "max" => {
                let source = self.extreme(block, at, call.argument?, hidden)?;
                Some(if call.name == "min" {
                    Fold::Least(source)
                } else {
                    Fold::Greatest(source)
                })
            }
            "bool_and" | "every" => Some(Fold::And),
            "bool_or" => Some(Fold::Or),
            "bit_and" if whole(typed()?) => Some(Fold::BitAnd),
            "bit_or" if whole(typed()?) => Some(Fold::BitOr),
            "bit_xor" if whole(typed()?) => Some(Fold::BitXor),
            _ => None,
        }
    }

    /// min() and max(): what to compare the shards' results by.
    fn extreme(
        &self,
        block: &Block<'_, '_>,
        at: usize,
        argument: &Expr,
        hidden: &mut Hidden,
    ) -> Option<Source> {
        let by_bytes = self
            .typed(argument, block.scope)
            .is_some_and(|t| t.by_bytes);
        let oid = self.inferred(argument, block.scope)?;
        let (reading, function) = self.reading(oid, by_bytes)?;
        let place = match function {
            None => Place::Visible(at),
            Some(function) => {
                let (from, to) = self.call_anchors(block, at, false)?;
                hidden.add(vec![
                    EditPart::Text(format!("pg_catalog.{function}(")),
                    EditPart::Copy { from, to },
                    EditPart::Text(")".to_owned()),
                ])
            }
        };
        Some(Source { place, reading })
    }

    /// The item's call under another name: its arguments and FILTER as they stand in the text.
    fn called_as(&self, block: &Block<'_, '_>, at: usize, name: &str) -> Option<Vec<EditPart>> {
        let (from, to) = self.call_anchors(block, at, true)?;
        Some(vec![
            EditPart::Text(format!("pg_catalog.{name}")),
            EditPart::Copy { from, to },
        ])
    }

    /// From the call's name (or its arguments) to the end of its arguments or FILTER.
    fn call_anchors(
        &self,
        block: &Block<'_, '_>,
        at: usize,
        arguments: bool,
    ) -> Option<(TextAnchor, TextAnchor)> {
        let item = block.places.items.get(at)?.clone();
        let (text, tokens) = (self.env.text, self.tokens);
        let is_open = |n: &usize| {
            let token = tokens.get(*n);
            token.is_some_and(|t| t.kind == crate::sql::tokens::TokenKind::ParenOpen)
        };
        let open = item.clone().find(is_open)?;
        let mut close = closing(tokens, open)?;
        let filter = tokens.get(close + 1);
        if close + 1 < item.end && filter.is_some_and(|t| t.is_word(text, "filter")) {
            close = closing(tokens, close + 2)?;
        }
        // a call, not an expression in parentheses
        if open == item.start || close >= item.end {
            return None;
        }
        let first = if arguments { open } else { item.start };
        let slots = self.env.slots;
        Some((
            TextAnchor::of(tokens.get(first)?.start, slots),
            TextAnchor::of(tokens.get(close)?.end, slots),
        ))
    }

    /// The type of what an aggregate, a row number or plain arithmetic gives.
    pub(super) fn resulting(&self, block: &Block<'_, '_>, expr: &Expr) -> Option<u32> {
        let expr = unwrap(expr);
        let Expr::Function(function) = expr else {
            return self.inferred(expr, block.scope);
        };
        if function.over.is_some() {
            let (_, name) = schema_and_name(&function.name)?;
            let numbers = matches!(name.as_str(), "row_number" | "rank" | "dense_rank");
            return (numbers && self.is_system(function, None)).then_some(20);
        }
        let Some(call) = self.call(block, expr) else {
            return self.inferred(expr, block.scope);
        };
        let of_argument = || self.inferred(call.argument?, block.scope);
        match (call.name.as_str(), call.name == "count") {
            (_, true) => Some(20),
            ("sum", _) => match of_argument()? {
                21 | 23 => Some(20),
                20 | 1700 => Some(1700),
                float @ (700 | 701) => Some(float),
                _ => None,
            },
            ("avg", _) => match of_argument()? {
                20 | 21 | 23 | 1700 => Some(1700),
                700 | 701 => Some(701),
                _ => None,
            },
            ("min" | "max", _) => of_argument().filter(|oid| !matches!(oid, 25 | 1043)),
            _ => None,
        }
    }

    fn call<'a>(&self, block: &Block<'_, '_>, expr: &'a Expr) -> Option<Call<'a>> {
        let Expr::Function(function) = expr else {
            return None;
        };
        let plain = matches!(function.parameters, FunctionArguments::None)
            && function.over.is_none()
            && function.null_treatment.is_none()
            && function.within_group.is_empty()
            && !function.uses_odbc_syntax;
        if !plain || !self.is_system(function, Some(FunctionKind::Aggregate)) {
            return None;
        }
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        let [FunctionArg::Unnamed(argument)] = list.args.as_slice() else {
            return None;
        };
        let argument = match argument {
            FunctionArgExpr::Expr(expr) => Some(expr),
            FunctionArgExpr::Wildcard => None,
            _ => return None,
        };
        let (_, name) = schema_and_name(&function.name)?;
        let distinct = list.duplicate_treatment == Some(DuplicateTreatment::Distinct);
        // once is as good as often, or the same value is on one shard only
        let idempotent = matches!(
            name.as_str(),
            "min" | "max" | "bool_and" | "bool_or" | "every" | "bit_and" | "bit_or"
        );
        let apart = || {
            let node = argument.and_then(|argument| column(argument, block.scope));
            node.is_some_and(|node| Self::holds_key(block, &[node]))
        };
        let fine = list.clauses.is_empty() && (!distinct || idempotent || apart());
        fine.then_some(Call {
            name,
            argument,
            distinct,
        })
        .filter(|call| !(call.distinct && call.argument.is_none()))
    }

    pub(super) fn is_system(&self, function: &Function, kind: Option<FunctionKind>) -> bool {
        let Some((schema, name)) = schema_and_name(&function.name) else {
            return false;
        };
        let path = self.env.search_path;
        let mut found = self
            .env
            .catalog
            .functions_called(path, schema.as_deref(), &name)
            .peekable();
        found.peek().is_some()
            && found.all(|f| f.schema == "pg_catalog" && kind.is_none_or(|kind| f.kind == kind))
    }
}

/// Where an aggregate's result can be compared in the finished row.
fn sortable(made: &Aggregate) -> Source {
    let place = made.place;
    let reading = match made.fold {
        Fold::AddInteger | Fold::BitAnd | Fold::BitOr | Fold::BitXor => Reading::Integer,
        Fold::AddNumeric | Fold::Average { .. } => Reading::Numeric,
        Fold::And | Fold::Or => Reading::Boolean,
        // the column that was compared goes along with the one that was chosen
        Fold::Least(source) | Fold::Greatest(source) => return source,
    };
    Source { place, reading }
}

fn shown(select: &Select, is: impl Fn(&Expr) -> bool) -> Option<usize> {
    let mut items = select.projection.iter();
    items.position(|item| item_expr(item).is_some_and(&is))
}
