//! Query blocks, CTEs, set operations: which facts flow into a subquery and which flow out of it.
//! A block is *flat* when each of its rows is a row of its joins and nothing looks at several: facts then flow both ways.
//! Out of other blocks flow the values of their columns; into them only what their columns allow (grouped ones).

use super::combine::united::{self, Arm, United};
use super::facts::Alternatives;
use super::predicate::{column, unwrap};
use super::scope::{Rel, Scope, folded, schema_and_name};
use super::{Amounts, Analyzer, ContextId, Node, Outcome, Trouble};
use crate::sql::statement::{IntoTarget, Overriding};
use sqlparser::ast::{
    Cte, Distinct, Expr, GroupByExpr, LimitClause, NamedWindowExpr, OrderBy, OrderByKind, Query,
    Select, SelectFlavor, SelectItem, SelectItemQualifiedWildcardKind as Kind, SetExpr,
    SetOperator, SetQuantifier, Statement, Value, WildcardAdditionalOptions, WindowType, With,
};
use std::cell::Cell;
use std::rc::Rc;

/// The CTEs that a place sees, innermost first.
pub type Ctes<'q> = Option<Rc<CteNode<'q>>>;

pub struct CteNode<'q> {
    name: String,
    pub def: CteDef<'q>,
    pub uses: Cell<usize>,
    pub before: Ctes<'q>,
}

pub enum CteDef<'q> {
    /// analysed anew at every use
    Inline {
        query: &'q Query,
        names: Vec<String>,
    },
    /// analysed once: recursive and data-modifying ones
    Bound(Option<Vec<BoundColumn>>),
    /// WITH RECURSIVE may name what comes later
    Forward,
}

#[derive(Clone)]
pub struct BoundColumn {
    pub name: String,
    pub type_oid: u32,
    pub values: Option<Alternatives>,
}

impl<'q> CteNode<'q> {
    pub fn find(&self, name: &str) -> Option<&CteNode<'q>> {
        let mut at = self;
        loop {
            if at.name == name {
                return Some(at);
            }
            at = at.before.as_deref()?;
        }
    }
}

pub struct OutColumn {
    pub name: String,
    pub node: Option<Node>,
    /// a condition on this column from outside may be applied inside
    pub pushable: bool,
}

/// None when the columns are not known.
pub type Columns = Option<Vec<OutColumn>>;

const CTES_MAX: usize = 100;

impl Analyzer<'_> {
    /// The outermost statement that begins like a query.
    pub(super) fn top_query(&mut self, query: &Query, overriding: Overriding) -> Outcome<()> {
        if let SetExpr::Insert(statement)
        | SetExpr::Update(statement)
        | SetExpr::Delete(statement)
        | SetExpr::Merge(statement) = query.body.as_ref()
        {
            let (ctes, made) = self.with(query.with.as_ref(), &None)?;
            self.modification(statement, overriding, &ctes, None)?;
            return self.unused(&made);
        }
        self.together = self.several_rows_reason(query);
        let top = self.top;
        if let (Some(_), SetExpr::Select(select)) = (&self.together, query.body.as_ref())
            && query.with.as_ref().is_none_or(|with| !with.recursive)
            && query.locks.is_empty()
        {
            self.main = Some((address(select), Amounts::of(query)));
        }
        let simple = query.with.as_ref().is_none_or(|with| !with.recursive)
            && query.locks.is_empty()
            && matches!(query.body.as_ref(), SetExpr::SetOperation { .. });
        if simple {
            self.united = Some(United {
                at: united::address(&query.body),
                arms: Vec::new(),
            });
        }
        self.query(query, &None, None, top)?;
        if simple {
            self.across = self.across_arms(query);
        }
        Ok(())
    }

    /// The clause that looks at rows of several shards together.
    fn several_rows_reason(&self, query: &Query) -> Option<String> {
        let text = |clause: &str| Some(clause.to_owned());
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            return text("WITH RECURSIVE");
        }
        if query.order_by.is_some() {
            return text("ORDER BY");
        }
        match &query.limit_clause {
            Some(
                LimitClause::LimitOffset { limit: Some(_), .. }
                | LimitClause::OffsetCommaLimit { .. },
            ) => return text("LIMIT"),
            Some(_) => return text("OFFSET"),
            None => {}
        }
        if query.fetch.is_some() {
            return text("FETCH FIRST");
        }
        if !query.locks.is_empty() {
            return text("FOR UPDATE or FOR SHARE");
        }
        match query.body.as_ref() {
            SetExpr::Select(select) => self.select_reason(select),
            SetExpr::Query(inner) => self.several_rows_reason(inner),
            SetExpr::SetOperation { op, .. } => Some(op.to_string()),
            _ => text("VALUES"),
        }
    }

    fn select_reason(&self, select: &Select) -> Option<String> {
        let text = |clause: &str| Some(clause.to_owned());
        match &select.distinct {
            None | Some(Distinct::All) => {}
            Some(_) => return text("DISTINCT"),
        }
        if grouped(select) {
            return text("GROUP BY");
        }
        if select.having.is_some() {
            return text("HAVING");
        }
        if select.into.is_some() {
            return text("INTO");
        }
        let name = select
            .projection
            .iter()
            .filter_map(item_expr)
            .find_map(|expr| self.aggregate_in(expr));
        name.map(|name| format!("{name}()"))
    }

    /// Does every row of this query stand for one row of its FROM?
    pub(super) fn is_flat(&self, query: &Query) -> bool {
        if query.limit_clause.is_some() || query.fetch.is_some() || !query.locks.is_empty() {
            return false;
        }
        let aggregate = |expr: &Expr| self.aggregate_in(expr).is_some();
        match &query.order_by {
            Some(OrderBy {
                kind: OrderByKind::Expressions(by),
                ..
            }) if by.iter().any(|by| aggregate(&by.expr)) => return false,
            Some(OrderBy {
                kind: OrderByKind::All(_),
                ..
            }) => return false,
            _ => {}
        }
        match query.body.as_ref() {
            SetExpr::Select(select) => {
                matches!(select.distinct, None | Some(Distinct::All))
                    && !grouped(select)
                    && select.having.is_none()
                    && select
                        .projection
                        .iter()
                        .filter_map(item_expr)
                        .all(|expr| self.aggregate_in(expr).is_none())
            }
            SetExpr::Query(inner) => self.is_flat(inner),
            _ => false,
        }
    }

    /// A query that is joined with what is around it: a derived table, a CTE at its use, the witness of an IN.
    /// Its columns come back as nodes of `context`.
    pub(super) fn joined_query<'q>(
        &mut self,
        query: &'q Query,
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<Columns> {
        if self.is_flat(query) {
            return self.query(query, ctes, outer, context);
        }
        let inside = self.base.child(context);
        let columns = self.query(query, ctes, outer, inside)?;
        let own = self.base.own_closure(inside);
        let carry = |column: OutColumn| {
            let Some(inner) = column.node else {
                return column;
            };
            let node = self.base.node(self.base.type_of(inner));
            self.note_carried(query, node, inner);
            if column.pushable {
                self.base.equal(inside, node, inner);
            }
            if let Some(values) = own.known(inner) {
                self.base.constant(context, node, values);
            }
            OutColumn {
                node: Some(node),
                ..column
            }
        };
        Ok(columns.map(|columns| columns.into_iter().map(carry).collect()))
    }

    /// One query in its context.
    pub(super) fn query<'q>(
        &mut self,
        query: &'q Query,
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<Columns> {
        self.count_block()?;
        if query.for_clause.is_some()
            || query.settings.is_some()
            || query.format_clause.is_some()
            || !query.pipe_operators.is_empty()
        {
            return Err(Trouble::Unsupported("a clause of the query"));
        }
        let (ctes, made) = self.with(query.with.as_ref(), ctes)?;
        self.locking |= !query.locks.is_empty();
        let order = self.order_by(query.order_by.as_ref())?;
        let mut columns = match query.body.as_ref() {
            SetExpr::Select(select) => self.select(select, order, &ctes, outer, context)?,
            body => {
                let scope = Scope::new(outer);
                self.order(order, &scope, &ctes, context)?;
                self.body(body, &ctes, outer, context)?
            }
        };
        if self.limit(query, &ctes, outer, context)? {
            columns
                .iter_mut()
                .flatten()
                .for_each(|column| column.pushable = false);
        }
        self.unused(&made)?;
        Ok(columns)
    }

    fn order_by<'q>(
        &self,
        order: Option<&'q OrderBy>,
    ) -> Outcome<&'q [sqlparser::ast::OrderByExpr]> {
        match order {
            None => Ok(&[]),
            Some(OrderBy {
                kind: OrderByKind::Expressions(by),
                interpolate: None,
            }) => Ok(by),
            Some(_) => Err(Trouble::Unsupported("ORDER BY ALL")),
        }
    }

    /// Walks LIMIT, OFFSET and FETCH; true when there is one.
    fn limit<'q>(
        &mut self,
        query: &'q Query,
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<bool> {
        let scope = Scope::new(outer);
        match &query.limit_clause {
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                for expr in limit
                    .iter()
                    .chain(offset.iter().map(|offset| &offset.value))
                {
                    self.expr(expr, &scope, ctes, context)?;
                }
            }
            Some(_) => return Err(Trouble::Unsupported("a LIMIT")),
            None => {}
        }
        if let Some(quantity) = query
            .fetch
            .as_ref()
            .and_then(|fetch| fetch.quantity.as_ref())
        {
            self.expr(quantity, &scope, ctes, context)?;
        }
        let limited = query.limit_clause.is_some() || query.fetch.is_some();
        self.limited |= limited;
        self.limited_within |= limited && !self.is_main(query.body.as_ref());
        Ok(limited)
    }

    fn body<'q>(
        &mut self,
        body: &'q SetExpr,
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<Columns> {
        match body {
            SetExpr::Select(select) => self.select(select, &[], ctes, outer, context),
            SetExpr::Query(query) => self.query(query, ctes, outer, context),
            SetExpr::SetOperation {
                op, set_quantifier, ..
            } => {
                let known = matches!(
                    op,
                    SetOperator::Union | SetOperator::Except | SetOperator::Intersect
                );
                if !known
                    || !matches!(
                        set_quantifier,
                        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None
                    )
                {
                    return Err(Trouble::Unsupported("a set operation"));
                }
                self.set_operation(body, ctes, outer, context)
            }
            SetExpr::Values(values) => {
                let scope = Scope::new(outer);
                for row in &values.rows {
                    self.exprs(row, &scope, ctes, context)?;
                }
                let width = values.rows.first().map_or(0, |row| row.len());
                let column = |n| OutColumn {
                    name: format!("column{}", n + 1),
                    node: None,
                    pushable: false,
                };
                Ok(Some((0..width).map(column).collect()))
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => self.returned(statement, ctes, context),
            SetExpr::Table(_) => Err(Trouble::Unsupported("TABLE")),
        }
    }

    /// A data-modifying CTE: what is known of the rows it returns flows out.
    fn returned<'q>(
        &mut self,
        statement: &'q Statement,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<Columns> {
        self.modifying_cte = true;
        let inside = self.base.root();
        self.inner += 1;
        let columns = self.modification(statement, Overriding::Nothing, ctes, Some(inside));
        self.inner -= 1;
        let columns = columns?;
        let own = self.base.own_closure(inside);
        let carry = |column: OutColumn| {
            let Some(inner) = column.node else {
                return column;
            };
            let node = self.base.node(self.base.type_of(inner));
            if let Some(values) = own.known(inner) {
                self.base.constant(context, node, values);
            }
            OutColumn {
                node: Some(node),
                pushable: false,
                ..column
            }
        };
        Ok(columns.map(|columns| columns.into_iter().map(carry).collect()))
    }

    /// Every branch is a context of its own; a column of the whole may have what any branch gives it.
    fn set_operation<'q>(
        &mut self,
        body: &'q SetExpr,
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<Columns> {
        let united = self.is_united(body);
        let mut branches = Vec::new();
        let mut open = vec![body];
        while let Some(branch) = open.pop() {
            match branch {
                SetExpr::SetOperation {
                    op: SetOperator::Union | SetOperator::Except | SetOperator::Intersect,
                    left,
                    right,
                    ..
                } => {
                    open.extend([right.as_ref(), left.as_ref()]);
                }
                SetExpr::SetOperation { .. } => {
                    return Err(Trouble::Unsupported("a set operation"));
                }
                leaf => branches.push(leaf),
            }
        }
        let mut all: Vec<(ContextId, Columns)> = Vec::with_capacity(branches.len());
        for branch in branches {
            self.count_block()?;
            let inside = self.base.child(context);
            let columns = if united {
                self.arm(branch, ctes, inside)
            } else {
                self.inner += 1;
                let columns = self.body(branch, ctes, outer, inside);
                self.inner -= 1;
                columns
            };
            all.push((inside, columns?));
        }
        Ok(self.united(&all, context))
    }

    /// An arm of the outermost set operation: like an outermost query, for itself.
    fn arm<'q>(
        &mut self,
        branch: &'q SetExpr,
        ctes: &Ctes<'q>,
        inside: ContextId,
    ) -> Outcome<Columns> {
        let begun = self.instances.len();
        let top = std::mem::replace(&mut self.top, inside);
        let columns = self.body(branch, ctes, None, inside);
        self.top = top;
        let columns = columns?;
        let reason = match branch {
            SetExpr::Select(select) => self.select_reason(select),
            SetExpr::Query(query) => self.several_rows_reason(query),
            _ => Some(String::new()),
        };
        let arm = Arm::new(
            begun..self.instances.len(),
            inside,
            reason.is_none(),
            &columns,
        );
        if let Some(united) = &mut self.united {
            united.arms.push(arm);
        }
        Ok(columns)
    }

    fn united(&mut self, branches: &[(ContextId, Columns)], context: ContextId) -> Columns {
        let first = branches.first()?.1.as_ref()?;
        let closures: Vec<_> = branches
            .iter()
            .map(|(inside, _)| self.base.own_closure(*inside))
            .collect();
        let mut united = Vec::with_capacity(first.len());
        for (at, column) in first.iter().enumerate() {
            let inner = |branch: &(ContextId, Columns)| {
                branch
                    .1
                    .as_ref()
                    .and_then(|c| c.get(at))
                    .and_then(|c| c.node.map(|n| (n, c.pushable)))
            };
            let Some((head, _)) = inner(&branches[0]) else {
                united.push(OutColumn {
                    name: column.name.clone(),
                    node: None,
                    pushable: false,
                });
                continue;
            };
            let type_oid = self.base.type_of(head);
            let same = branches
                .iter()
                .all(|b| inner(b).is_some_and(|(n, _)| self.base.type_of(n) == type_oid));
            let node = self.base.node(if same { type_oid } else { 0 });
            for branch in branches {
                if let Some((n, true)) = inner(branch) {
                    self.base.equal(branch.0, node, n);
                }
            }
            let values: Option<Vec<Alternatives>> = branches
                .iter()
                .zip(&closures)
                .map(|(b, closure)| inner(b).and_then(|(n, _)| closure.known(n)))
                .collect();
            if let Some(values) = values.filter(|_| same) {
                self.base.constant(context, node, values.concat());
            }
            united.push(OutColumn {
                name: column.name.clone(),
                node: Some(node),
                pushable: true,
            });
        }
        Some(united)
    }

    fn select<'q>(
        &mut self,
        select: &'q Select,
        order: &'q [sqlparser::ast::OrderByExpr],
        ctes: &Ctes<'q>,
        outer: Option<&Scope<'_>>,
        context: ContextId,
    ) -> Outcome<Columns> {
        foreign_clauses(select)?;
        let mut scope = Scope::new(outer);
        self.from(&select.from, &mut scope, ctes, context)?;
        let scope = scope;
        if let Some(condition) = &select.selection {
            self.filter(condition, &scope, ctes, context)?;
        }
        for item in &select.projection {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr, &scope, ctes, context)?;
                }
                SelectItem::Wildcard(options) => plain_wildcard(options)?,
                SelectItem::QualifiedWildcard(Kind::ObjectName(_), options) => {
                    plain_wildcard(options)?;
                }
                SelectItem::QualifiedWildcard(Kind::Expr(expr), options) => {
                    plain_wildcard(options)?;
                    self.expr(expr, &scope, ctes, context)?;
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(Trouble::Unsupported("a list of aliases"));
                }
            }
        }
        self.aliases_seen(select);
        self.tail(select, order, &scope, ctes, context)?;
        if let Some((main, amounts)) = self.main
            && main == address(select)
        {
            self.across = self.across(select, order, &amounts, &scope, context);
        }
        if let Some(into) = &select.into {
            self.into = Some(IntoTarget {
                temporary: into.temporary,
            });
        }
        Ok(self.out_columns(select, &scope))
    }

    fn aliases_seen(&mut self, select: &Select) {
        for item in &select.projection {
            if let SelectItem::ExprWithAlias { alias, .. } = item {
                self.sees(&folded(alias));
            }
        }
    }

    fn tail<'q>(
        &mut self,
        select: &'q Select,
        order: &'q [sqlparser::ast::OrderByExpr],
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        match &select.group_by {
            GroupByExpr::Expressions(exprs, modifiers) if modifiers.is_empty() => {
                self.exprs(exprs, scope, ctes, context)?;
            }
            _ => return Err(Trouble::Unsupported("GROUP BY ALL")),
        }
        match &select.having {
            Some(having) if grouped_plainly(select) => {
                self.having(having, scope, ctes, context)?;
            }
            Some(having) => self.expr(having, scope, ctes, context)?,
            None => {}
        }
        self.note_grouping(select, scope);
        if let Some(Distinct::On(exprs)) = &select.distinct {
            self.limited = true;
            let main = self
                .main
                .as_ref()
                .is_some_and(|main| main.0 == address(select));
            self.limited_within |= !main;
            self.exprs(exprs, scope, ctes, context)?;
        }
        for window in &select.named_window {
            if let NamedWindowExpr::WindowSpec(spec) = &window.1 {
                self.window(spec, scope, ctes, context)?;
            }
        }
        self.order(order, scope, ctes, context)
    }

    fn is_main(&self, body: &SetExpr) -> bool {
        let main = self.main.as_ref().map(|main| main.0);
        matches!(body, SetExpr::Select(select) if main == Some(address(select)))
            || self.is_united(body)
    }

    pub(super) fn out_columns(&self, select: &Select, scope: &Scope<'_>) -> Columns {
        let grouping = self.grouping(select, scope);
        let mut columns = Vec::new();
        for (at, item) in select.projection.iter().enumerate() {
            let out = |name: String, node: Option<Node>| OutColumn {
                name,
                node,
                pushable: grouping.lets_in(at, node),
            };
            let all = |rel: &Rel| -> Option<Vec<OutColumn>> {
                let columns = rel.columns.as_ref()?.iter();
                Some(
                    columns
                        .map(|(name, node)| out(name.clone(), *node))
                        .collect(),
                )
            };
            match item {
                SelectItem::UnnamedExpr(expr) => {
                    columns.push(out(item_name(expr)?, grouping.node(expr, scope)));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    columns.push(out(folded(alias), grouping.node(expr, scope)));
                }
                SelectItem::Wildcard(_) if scope.merged.is_empty() => {
                    for rel in &scope.rels {
                        columns.extend(all(rel)?);
                    }
                }
                SelectItem::QualifiedWildcard(Kind::ObjectName(name), _) => {
                    let (schema, name) = schema_and_name(name)?;
                    let named = |rel: &&Rel| {
                        rel.alias == name && (schema.is_none() || rel.schema == schema)
                    };
                    columns.extend(all(scope.rels.iter().find(named)?)?);
                }
                _ => return None,
            }
        }
        Some(columns)
    }

    fn grouping(&self, select: &Select, scope: &Scope<'_>) -> Grouping {
        let groups = group_exprs(select);
        let mut exprs = select.projection.iter().filter_map(item_expr);
        let partitions = self.partitions(select, scope);
        // a window function counts as an aggregate: past others than those, nothing is pushed
        let aggregated = groups.is_empty() && exprs.any(|e| self.aggregate_in(e).is_some());
        let closed = matches!(select.distinct, Some(Distinct::On(_)))
            || partitions.is_none() && (aggregated || self.has_window(select));
        Grouping {
            sets: groups.iter().any(is_set),
            closed,
            partitions: partitions.unwrap_or_default(),
            grouped: !groups.is_empty(),
            ordinals: groups.iter().filter_map(ordinal).collect(),
            nodes: groups.iter().filter_map(|e| column(e, scope)).collect(),
        }
    }

    /// The columns by which each window is partitioned, where each stands alone in the select list: a condition on a column
    /// that is among all of them takes whole partitions away. None where it is not as simple.
    fn partitions(&self, select: &Select, scope: &Scope<'_>) -> Option<Vec<Vec<Node>>> {
        if !select.named_window.is_empty() || grouped(select) {
            return None;
        }
        let mut partitions = Vec::new();
        for expr in select.projection.iter().filter_map(item_expr) {
            if self.aggregate_in(expr).is_none() {
                continue;
            }
            let Expr::Function(function) = unwrap(expr) else {
                return None;
            };
            let Some(WindowType::WindowSpec(spec)) = &function.over else {
                return None;
            };
            if spec.window_name.is_some() || self.aggregate_within(function) {
                return None;
            }
            let columns = spec.partition_by.iter().filter_map(|e| column(e, scope));
            partitions.push(columns.collect());
        }
        Some(partitions)
    }

    pub(super) fn has_window(&self, select: &Select) -> bool {
        let window = |expr: &Expr| {
            let found = sqlparser::ast::visit_expressions(expr, |expr| match expr {
                Expr::Function(function) if function.over.is_some() => {
                    std::ops::ControlFlow::Break(())
                }
                _ => std::ops::ControlFlow::Continue(()),
            });
            found.is_break()
        };
        !select.named_window.is_empty()
            || select.projection.iter().filter_map(item_expr).any(window)
    }

    /// The CTEs of a WITH on top of those already seen, and the new ones.
    fn with<'q>(
        &mut self,
        with: Option<&'q With>,
        ctes: &Ctes<'q>,
    ) -> Outcome<(Ctes<'q>, Vec<Rc<CteNode<'q>>>)> {
        let mut seen = ctes.clone();
        let mut made = Vec::new();
        let Some(with) = with else {
            return Ok((seen, made));
        };
        if with.cte_tables.len() > CTES_MAX {
            return Err(Trouble::Unsupported("so many CTEs"));
        }
        if with.recursive {
            for cte in &with.cte_tables {
                seen = Some(node(folded(&cte.alias.name), CteDef::Forward, &seen));
            }
        }
        for cte in &with.cte_tables {
            if cte.from.is_some() {
                return Err(Trouble::Unsupported("a CTE"));
            }
            let name = folded(&cte.alias.name);
            self.sees(&name);
            let def = self.definition(cte, &name, with.recursive, &seen)?;
            let new = node(name, def, &seen);
            made.push(Rc::clone(&new));
            seen = Some(new);
        }
        Ok((seen, made))
    }

    fn definition<'q>(
        &mut self,
        cte: &'q Cte,
        name: &str,
        recursive: bool,
        seen: &Ctes<'q>,
    ) -> Outcome<CteDef<'q>> {
        let names: Vec<String> = cte
            .alias
            .columns
            .iter()
            .map(|column| folded(&column.name))
            .collect();
        match cte.query.body.as_ref() {
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => {
                let context = self.base.root();
                let columns = self.query(&cte.query, seen, None, context)?;
                Ok(CteDef::Bound(self.bind(columns, context, &names)))
            }
            SetExpr::SetOperation {
                op: SetOperator::Union,
                left,
                right,
                ..
            } if recursive && cte.query.with.is_none() => {
                self.recursive(&cte.query, left, right, name, names, seen)
            }
            _ => Ok(CteDef::Inline {
                query: &cte.query,
                names,
            }),
        }
    }

    /// What the first branch gives a column is assumed of the CTE within the second branch, and kept when that gives the
    /// same; else the second branch is looked at again without it.
    fn recursive<'q>(
        &mut self,
        query: &'q Query,
        left: &'q SetExpr,
        right: &'q SetExpr,
        name: &str,
        names: Vec<String>,
        seen: &Ctes<'q>,
    ) -> Outcome<CteDef<'q>> {
        if query.order_by.is_some() || query.limit_clause.is_some() {
            return Err(Trouble::Unsupported(
                "a recursive CTE with ORDER BY or LIMIT",
            ));
        }
        self.inner += 1;
        let outcome = self.recursive_branches(left, right, name, &names, seen);
        self.inner -= 1;
        outcome.map(CteDef::Bound)
    }

    fn recursive_branches<'q>(
        &mut self,
        left: &'q SetExpr,
        right: &'q SetExpr,
        name: &str,
        names: &[String],
        seen: &Ctes<'q>,
    ) -> Outcome<Option<Vec<BoundColumn>>> {
        let first = self.base.root();
        let columns = self.body(left, seen, None, first)?;
        let Some(mut assumed) = self.bind(columns, first, names) else {
            let itself = Some(node(name.to_owned(), CteDef::Bound(None), seen));
            let context = self.base.root();
            self.body(right, &itself, None, context)?;
            return Ok(None);
        };
        loop {
            let instances = self.instances.len();
            let itself = Some(node(
                name.to_owned(),
                CteDef::Bound(Some(assumed.clone())),
                seen,
            ));
            let context = self.base.root();
            let columns = self.body(right, &itself, None, context)?;
            let given = self.bind(columns, context, &[]).unwrap_or_default();
            let mut held = true;
            for (at, column) in assumed.iter_mut().enumerate() {
                let same = given
                    .get(at)
                    .is_some_and(|g| g.values == column.values && g.type_oid == column.type_oid);
                if column.values.is_some() && !same {
                    column.values = None;
                    held = false;
                }
            }
            if held {
                return Ok(Some(assumed));
            }
            self.instances.truncate(instances);
        }
    }

    fn bind(
        &self,
        columns: Columns,
        context: ContextId,
        names: &[String],
    ) -> Option<Vec<BoundColumn>> {
        let own = self.base.own_closure(context);
        let mut bound: Vec<BoundColumn> = columns?
            .into_iter()
            .map(|column| BoundColumn {
                name: column.name,
                type_oid: column.node.map_or(0, |node| self.base.type_of(node)),
                values: column.node.and_then(|node| own.known(node)),
            })
            .collect();
        for (column, name) in bound.iter_mut().zip(names) {
            column.name.clone_from(name);
        }
        Some(bound)
    }

    /// CTEs that nothing refers to are still looked at: Postgres checks them too.
    fn unused(&mut self, made: &[Rc<CteNode<'_>>]) -> Outcome<()> {
        for cte in made {
            if let (CteDef::Inline { query, .. }, 0) = (&cte.def, cte.uses.get()) {
                let context = self.base.root();
                self.inner += 1;
                let outcome = self.query(query, &cte.before, None, context);
                self.inner -= 1;
                outcome?;
            }
        }
        Ok(())
    }

    pub(super) fn returning<'q>(
        &mut self,
        items: Option<&'q Vec<SelectItem>>,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<Columns> {
        let mut columns = Vec::new();
        for item in items.into_iter().flatten() {
            match item {
                SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                    self.expr(expr, scope, ctes, context)?;
                    let name = match item {
                        SelectItem::ExprWithAlias { alias, .. } => Some(folded(alias)),
                        _ => item_name(expr),
                    };
                    let Some(name) = name else { return Ok(None) };
                    columns.push(OutColumn {
                        name,
                        node: column(expr, scope),
                        pushable: false,
                    });
                }
                SelectItem::Wildcard(options) => {
                    plain_wildcard(options)?;
                    for rel in &scope.rels {
                        let Some(all) = &rel.columns else {
                            return Ok(None);
                        };
                        columns.extend(all.iter().map(|(name, node)| OutColumn {
                            name: name.clone(),
                            node: *node,
                            pushable: false,
                        }));
                    }
                }
                SelectItem::QualifiedWildcard(Kind::ObjectName(_), options) => {
                    plain_wildcard(options)?;
                    return Ok(None);
                }
                _ => return Err(Trouble::Unsupported("RETURNING")),
            }
        }
        Ok(Some(columns))
    }
}

fn address(select: &Select) -> usize {
    std::ptr::from_ref(select).addr()
}

/// What may be said of a block's columns from outside.
struct Grouping {
    /// GROUPING SETS, ROLLUP, CUBE: a column may be NULL where its rows have a value
    sets: bool,
    /// its rows depend on each other
    closed: bool,
    grouped: bool,
    ordinals: Vec<usize>,
    nodes: Vec<Node>,
    /// of each window function
    partitions: Vec<Vec<Node>>,
}

impl Grouping {
    fn node(&self, expr: &Expr, scope: &Scope<'_>) -> Option<Node> {
        column(expr, scope).filter(|_| !self.sets)
    }

    /// May a condition on this column be applied before grouping?
    fn lets_in(&self, at: usize, node: Option<Node>) -> bool {
        let by = self.ordinals.contains(&(at + 1)) || node.is_some_and(|n| self.nodes.contains(&n));
        let whole = |columns: &Vec<Node>| node.is_some_and(|n| columns.contains(&n));
        !self.closed && !self.sets && (!self.grouped || by) && self.partitions.iter().all(whole)
    }
}

fn node<'q>(name: String, def: CteDef<'q>, before: &Ctes<'q>) -> Rc<CteNode<'q>> {
    Rc::new(CteNode {
        name,
        def,
        uses: Cell::new(0),
        before: before.clone(),
    })
}

pub(super) fn group_exprs(select: &Select) -> &[Expr] {
    match &select.group_by {
        GroupByExpr::Expressions(exprs, _) => exprs,
        GroupByExpr::All(_) => &[],
    }
}

fn grouped(select: &Select) -> bool {
    !group_exprs(select).is_empty() || matches!(select.group_by, GroupByExpr::All(_))
}

fn is_set(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::GroupingSets(_) | Expr::Cube(_) | Expr::Rollup(_)
    )
}

/// By expressions alone: there is no group without a row, and none that is NULL where its rows are not.
fn grouped_plainly(select: &Select) -> bool {
    let groups = group_exprs(select);
    !groups.is_empty() && !groups.iter().any(is_set)
}

pub(super) fn ordinal(expr: &Expr) -> Option<usize> {
    match unwrap(expr) {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn item_expr(item: &SelectItem) -> Option<&Expr> {
    match item {
        SelectItem::UnnamedExpr(expr)
        | SelectItem::ExprWithAlias { expr, .. }
        | SelectItem::ExprWithAliases { expr, .. } => Some(expr),
        _ => None,
    }
}

/// The name Postgres gives a column; None when it is not sure here.
pub(super) fn item_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(folded(name)),
        Expr::CompoundIdentifier(parts) => parts.last().map(folded),
        Expr::Function(function) => schema_and_name(&function.name).map(|(_, name)| name),
        Expr::Value(_) | Expr::BinaryOp { .. } => Some("?column?".to_owned()),
        Expr::Case {
            else_result: None, ..
        } => Some("case".to_owned()),
        Expr::Exists { .. } => Some("exists".to_owned()),
        _ => None,
    }
}

fn plain_wildcard(options: &WildcardAdditionalOptions) -> Outcome<()> {
    let WildcardAdditionalOptions {
        opt_ilike,
        opt_exclude,
        opt_except,
        opt_replace,
        opt_rename,
        opt_alias,
        ..
    } = options;
    let plain = opt_ilike.is_none()
        && opt_exclude.is_none()
        && opt_except.is_none()
        && opt_replace.is_none()
        && opt_rename.is_none()
        && opt_alias.is_none();
    if plain {
        Ok(())
    } else {
        Err(Trouble::Unsupported("options of *"))
    }
}

/// Clauses of other databases: sqlparser reads words as these that are aliases to Postgres.
fn foreign_clauses(select: &Select) -> Outcome<()> {
    let foreign = select.select_modifiers.is_some()
        || select.top.is_some()
        || select.exclude.is_some()
        || !select.lateral_views.is_empty()
        || select.prewhere.is_some()
        || !select.connect_by.is_empty()
        || !select.cluster_by.is_empty()
        || !select.distribute_by.is_empty()
        || !select.sort_by.is_empty()
        || select.qualify.is_some()
        || select.value_table_mode.is_some()
        || select.flavor != SelectFlavor::Standard;
    if foreign {
        Err(Trouble::Unsupported("a clause of the SELECT"))
    } else {
        Ok(())
    }
}
