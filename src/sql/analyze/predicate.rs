//! Conditions to facts: the conjuncts of WHERE, ON and HAVING that say something of keys. NOT never narrows, and an OR only by
//! what each of its alternatives says of the same columns.

use super::facts::Alternatives;
use super::query::Ctes;
use super::scope::{Resolved, Scope, folded};
use super::{Analyzer, ContextId, Node, Outcome};
use crate::sql::statement::ValueSource;
use sqlparser::ast::{BinaryOperator, Expr, Query, Value};

impl Analyzer<'_> {
    /// Every row that matters satisfies this condition.
    pub(super) fn filter<'q>(
        &mut self,
        condition: &'q Expr,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        for condition in conjuncts(condition) {
            let before = self.base.constants_of(context);
            self.conjunct(condition, scope, ctes, context)?;
            // values and ranges say it all, but for an OR of several columns
            let found = self.base.constants_of(context) > before;
            if !found || is_or(condition) {
                self.note_filters(condition, found, scope, context);
            }
        }
        Ok(())
    }

    fn conjunct<'q>(
        &mut self,
        condition: &'q Expr,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        match condition {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Eq,
                right,
            } => {
                self.operator(&BinaryOperator::Eq);
                return self.equality(left, right, scope, ctes, context);
            }
            Expr::InList {
                expr,
                list,
                negated: false,
            } => self.in_list(expr, list, scope, context),
            Expr::AnyOp {
                left,
                compare_op: BinaryOperator::Eq,
                right,
                ..
            } => {
                if let Expr::Subquery(query) = unwrap(right) {
                    return self.in_subquery(left, query, scope, ctes, context);
                }
                if let Some(node) = column(left, scope)
                    && let Some(values) = self.array(right, self.base.type_of(node))
                {
                    self.base.constant(context, node, values);
                }
            }
            Expr::InSubquery {
                expr,
                subquery,
                negated: false,
            } => {
                return self.in_subquery(expr, subquery, scope, ctes, context);
            }
            Expr::Exists {
                subquery,
                negated: false,
            } if self.is_flat(subquery) => {
                return self.semijoin(subquery, scope, ctes, context).map(|_| ());
            }
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => self.alternatives(condition, scope, context),
            Expr::BinaryOp { .. } | Expr::Between { .. } => {
                self.note_ranges(condition, scope, context);
            }
            // as `=`, when the other side is certainly not NULL
            Expr::IsNotDistinctFrom(left, right) => {
                for (one, other) in [(left, right), (right, left)] {
                    if let (Some(node), true) = (column(one, scope), is_literal(other)) {
                        self.equals_constant(node, other, context);
                    }
                }
            }
            _ => {}
        }
        self.expr(condition, scope, ctes, context)
    }

    /// HAVING of a query that is grouped by expressions: a column has one value in all rows of a group, so what is said of it
    /// there holds for the rows.
    pub(super) fn having<'q>(
        &mut self,
        condition: &'q Expr,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        for condition in conjuncts(condition) {
            match condition {
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Eq,
                    right,
                } if !is_subquery(left) && !is_subquery(right) => {
                    self.conjunct(condition, scope, ctes, context)?;
                }
                Expr::InList { negated: false, .. } => {
                    self.conjunct(condition, scope, ctes, context)?;
                }
                Expr::Between { .. } | Expr::BinaryOp { .. } => {
                    self.note_ranges(condition, scope, context);
                    self.expr(condition, scope, ctes, context)?;
                }
                other => self.expr(other, scope, ctes, context)?,
            }
        }
        Ok(())
    }

    fn equality<'q>(
        &mut self,
        left: &'q Expr,
        right: &'q Expr,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        match (unwrap(left), unwrap(right)) {
            (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == b.len() => {
                for (a, b) in a.iter().zip(b) {
                    self.equal_operands(a, b, scope, context);
                }
            }
            (one, Expr::Subquery(query)) | (Expr::Subquery(query), one)
                if column(one, scope).is_some() =>
            {
                return self.scalar_subquery(one, query, scope, ctes, context);
            }
            (a, b) => self.equal_operands(a, b, scope, context),
        }
        self.expr(left, scope, ctes, context)?;
        self.expr(right, scope, ctes, context)
    }

    fn equal_operands(&mut self, a: &Expr, b: &Expr, scope: &Scope<'_>, context: ContextId) {
        match (column(a, scope), column(b, scope)) {
            (Some(left), Some(right)) => {
                self.note_lookup([(unwrap(a), left), (unwrap(b), right)], scope);
                self.base.equal(context, left, right);
            }
            (Some(node), None) => self.equals_constant(node, b, context),
            (None, Some(node)) => self.equals_constant(node, a, context),
            (None, None) => {}
        }
    }

    fn equals_constant(&mut self, node: Node, value: &Expr, context: ContextId) {
        self.note_if_param(value, self.base.type_of(node));
        if let Some(values) = self.constant(value, self.base.type_of(node)) {
            self.base.constant(context, node, values);
        }
    }

    fn in_list(&mut self, expr: &Expr, list: &[Expr], scope: &Scope<'_>, context: ContextId) {
        match unwrap(expr) {
            Expr::Tuple(columns) => {
                for (at, one) in columns.iter().enumerate() {
                    let Some(node) = column(one, scope) else {
                        continue;
                    };
                    let element = |row: &Expr| match row {
                        Expr::Tuple(row) if row.len() == columns.len() => row
                            .get(at)
                            .and_then(|e| self.constant(e, self.base.type_of(node))),
                        _ => None,
                    };
                    let values: Option<Vec<Vec<ValueSource>>> = list.iter().map(element).collect();
                    if let Some(values) = values {
                        self.base.constant(context, node, values.concat());
                    }
                }
            }
            one => {
                let Some(node) = column(one, scope) else {
                    return;
                };
                if let Some(values) = self.constants(list, self.base.type_of(node)) {
                    self.base.constant(context, node, values);
                }
            }
        }
    }

    /// `k = 1 OR k IN (2, 3) OR (k = 4 AND …)`: one of the values of all of them.
    fn alternatives(&mut self, condition: &Expr, scope: &Scope<'_>, context: ContextId) {
        let mut open = vec![condition];
        let mut common: Option<Said> = None;
        while let Some(condition) = open.pop() {
            match condition {
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Or,
                    right,
                } => open.extend([right.as_ref(), left.as_ref()]),
                Expr::Nested(inner) => open.push(inner),
                one => {
                    let said = self.said(one, scope);
                    let said = common.take().map_or_else(|| said.clone(), |c| c.or(&said));
                    if said.values.is_empty() && said.equal.is_empty() {
                        return;
                    }
                    common = Some(said);
                }
            }
        }
        let Some(Said { values, equal }) = common else {
            return;
        };
        for (node, values) in values {
            self.base.constant(context, node, values);
        }
        for (a, b) in equal {
            self.base.equal(context, a, b);
        }
    }

    /// What the conjuncts of one alternative say.
    fn said(&mut self, condition: &Expr, scope: &Scope<'_>) -> Said {
        let mut said = Said::default();
        let mut open = vec![condition];
        while let Some(condition) = open.pop() {
            let (operand, values) = match condition {
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::And,
                    right,
                } => {
                    open.extend([right.as_ref(), left.as_ref()]);
                    continue;
                }
                Expr::Nested(inner) => {
                    open.push(inner);
                    continue;
                }
                Expr::BinaryOp {
                    left,
                    op: BinaryOperator::Eq,
                    right,
                } => match (column(left, scope), column(right, scope)) {
                    (Some(a), Some(b)) => {
                        said.equal.push((a.min(b), a.max(b)));
                        continue;
                    }
                    (Some(_), None) => (left, std::slice::from_ref(right.as_ref())),
                    _ => (right, std::slice::from_ref(left.as_ref())),
                },
                Expr::InList {
                    expr,
                    list,
                    negated: false,
                } => (expr, list.as_slice()),
                other => {
                    for (node, range) in self.ranges(other, scope) {
                        said.add_range(node, range);
                    }
                    continue;
                }
            };
            if let Some(node) = column(operand, scope)
                && said.has_room(node)
                && let Some(values) = self.constants(values, self.base.type_of(node))
            {
                said.values.push((node, values));
            }
        }
        said.equal.truncate(SAID_MAX);
        said
    }

    /// `column IN (SELECT …)`: a row that matters has a witness in the subquery, so what holds there holds here.
    fn in_subquery<'q>(
        &mut self,
        expr: &'q Expr,
        query: &'q Query,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        self.expr(expr, scope, ctes, context)?;
        let operands: Vec<&Expr> = match unwrap(expr) {
            Expr::Tuple(operands) => operands.iter().collect(),
            one => vec![one],
        };
        let columns = self.semijoin(query, scope, ctes, context)?;
        for (operand, out) in operands.iter().zip(columns) {
            if let (Some(a), Some(b)) = (column(operand, scope), out) {
                self.base.equal(context, a, b);
            }
        }
        Ok(())
    }

    /// Analyses a subquery that every row that matters has a witness in; its columns as nodes of this context.
    fn semijoin<'q>(
        &mut self,
        query: &'q Query,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<Vec<Option<Node>>> {
        self.subqueries = true;
        self.inner += 1;
        let columns = self.run_for(false, |this| {
            this.joined_query(query, ctes, Some(scope), context)
        });
        self.inner -= 1;
        Ok(columns?
            .map(|columns| columns.into_iter().map(|column| column.node).collect())
            .unwrap_or_default())
    }

    /// `column = (SELECT …)`: what is known of the one row flows out; nothing flows in, as a second row is an error.
    fn scalar_subquery<'q>(
        &mut self,
        one: &'q Expr,
        query: &'q Query,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        self.expr(one, scope, ctes, context)?;
        self.subqueries = true;
        let inside = self.base.child(context);
        self.inner += 1;
        let columns = self.run_for(true, |this| this.query(query, ctes, Some(scope), inside));
        self.inner -= 1;
        let out = columns?.and_then(|columns| columns.first().and_then(|column| column.node));
        if let (Some(node), Some(out)) = (column(one, scope), out)
            && let Some(values) = self.base.own_closure(inside).known(out)
            && self.base.type_of(node) == self.base.type_of(out)
        {
            self.base.constant(context, node, values);
        }
        Ok(())
    }
}

/// More facts of one alternative than this are left out.
const SAID_MAX: usize = 16;

/// What holds where a condition does.
#[derive(Clone, Default)]
struct Said {
    values: Vec<(Node, Alternatives)>,
    equal: Vec<(Node, Node)>,
}

impl Said {
    fn has_room(&self, node: Node) -> bool {
        self.values.len() < SAID_MAX && self.values.iter().all(|(known, _)| *known != node)
    }

    /// A range, within those already said of the same column; values say more.
    fn add_range(&mut self, node: Node, range: Alternatives) {
        let known = self.values.iter_mut().find(|(known, _)| *known == node);
        let Some((_, known)) = known else {
            if self.values.len() < SAID_MAX {
                self.values.push((node, range));
            }
            return;
        };
        if let ([ValueSource::Between(a)], [ValueSource::Between(b)]) = (&known[..], &range[..]) {
            let both: Vec<_> = a.iter().chain(b.iter()).cloned().collect();
            *known = vec![ValueSource::Between(both.into())];
        }
    }

    /// What holds where the one or the other does.
    fn or(mut self, other: &Self) -> Self {
        self.values.retain_mut(|(node, values)| {
            let found = other.values.iter().find(|(known, _)| known == node);
            found.is_some_and(|(_, more)| {
                values.extend(more.iter().cloned());
                true
            })
        });
        self.equal.retain(|pair| other.equal.contains(pair));
        self
    }
}

fn is_or(condition: &Expr) -> bool {
    let or = BinaryOperator::Or;
    matches!(condition, Expr::BinaryOp { op, .. } if *op == or)
}

/// What an AND of conditions consists of, in the order written.
pub(super) fn conjuncts(condition: &Expr) -> Vec<&Expr> {
    let mut open = vec![condition];
    let mut found = Vec::new();
    while let Some(condition) = open.pop() {
        match condition {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::And,
                right,
            } => open.extend([right.as_ref(), left.as_ref()]),
            Expr::Nested(inner) => open.push(inner),
            other => found.push(other),
        }
    }
    found
}

/// A value in the text, or a cast of one: not NULL, and no parameter, which may be NULL.
fn is_literal(expr: &Expr) -> bool {
    match unwrap(expr) {
        Expr::Value(value) => matches!(
            value.value,
            Value::Number(..) | Value::SingleQuotedString(_)
        ),
        Expr::Cast { expr, .. } => is_literal(expr),
        _ => false,
    }
}

fn is_subquery(expr: &Expr) -> bool {
    matches!(unwrap(expr), Expr::Subquery(_))
}

pub(super) fn unwrap(mut expr: &Expr) -> &Expr {
    while let Expr::Nested(inner) = expr {
        expr = inner;
    }
    expr
}

/// The node of an expression that is nothing but a column.
pub(super) fn column(expr: &Expr, scope: &Scope<'_>) -> Option<Node> {
    match resolve(unwrap(expr), scope)? {
        Resolved::Node(node) => Some(node),
        _ => None,
    }
}

pub(super) fn resolve(expr: &Expr, scope: &Scope<'_>) -> Option<Resolved> {
    match expr {
        Expr::Identifier(name) => Some(scope.bare(&folded(name))),
        Expr::CompoundIdentifier(parts) => Some(match parts.as_slice() {
            [relation, name] => scope.qualified(None, &folded(relation), &folded(name)),
            [schema, relation, name] => {
                scope.qualified(Some(&folded(schema)), &folded(relation), &folded(name))
            }
            _ => Resolved::Opaque,
        }),
        _ => None,
    }
}
