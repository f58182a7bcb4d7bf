//! Expressions: what they call, and their subqueries. An expression kind that PostgreSQL does not have, or whose inside
//! is not looked into here, is not understood.

use super::predicate::{column, resolve};
use super::query::Ctes;
use super::scope::{Resolved, SYSTEM_COLUMNS, Scope, folded, schema_and_name};
use super::{Analyzer, ContextId, Outcome, Trouble};
use crate::catalog::FunctionKind;
use crate::config::DeclaredFunction;
use crate::sql::statement::FunctionUse;
use sqlparser::ast::{
    AccessExpr, BinaryOperator, CeilFloorKind, DataType, DateTimeField, Expr, Function,
    FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, OrderByExpr, Query,
    Subscript, Visit, Visitor, WindowFrameBound, WindowSpec, WindowType, visit_expressions,
};
use std::ops::ControlFlow;

/// Types whose values name objects of one server's catalog.
const OBJECT_TYPES: [&str; 11] = [
    "regclass",
    "regproc",
    "regprocedure",
    "regtype",
    "regrole",
    "regnamespace",
    "regoper",
    "regoperator",
    "regconfig",
    "regdictionary",
    "regcollation",
];

impl Analyzer<'_> {
    pub(super) fn expr<'q>(
        &mut self,
        expr: &'q Expr,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        let mut open = vec![expr];
        while let Some(expr) = open.pop() {
            self.one(expr, &mut open, scope, ctes, context)?;
        }
        Ok(())
    }

    pub(super) fn exprs<'q>(
        &mut self,
        exprs: &'q [Expr],
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        exprs
            .iter()
            .try_for_each(|expr| self.expr(expr, scope, ctes, context))
    }

    /// Looks at one node; its operands are put on `open`.
    fn one<'q>(
        &mut self,
        expr: &'q Expr,
        open: &mut Vec<&'q Expr>,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        use Expr as E;
        match expr {
            E::Identifier(_) | E::CompoundIdentifier(_) => self.column_use(expr, scope),
            E::BinaryOp { left, op, right } => {
                self.operator(op);
                self.compared(left, op, right, scope);
            }
            E::AnyOp { compare_op, .. } | E::AllOp { compare_op, .. } => self.operator(compare_op),
            E::Cast { data_type, .. } => self.cast_to(data_type),
            E::InList { expr, list, .. } => {
                if let Some(node) = column(expr, scope) {
                    // for the parameters among them
                    self.constants(list, self.base.type_of(node));
                }
            }
            E::InSubquery { subquery, .. } | E::Exists { subquery, .. } => {
                self.run_for(false, |this| this.subquery(subquery, scope, ctes, context))?;
            }
            E::Subquery(subquery) => {
                self.run_for(true, |this| this.subquery(subquery, scope, ctes, context))?;
            }
            E::Substring { .. } => self.calls(None, "substring"),
            E::Function(function) => self.function(function, scope, ctes, context)?,
            E::CompoundFieldAccess { access_chain, .. } => self.access(access_chain, open),
            _ => {}
        }
        if operands(expr, open) {
            Ok(())
        } else {
            Err(Trouble::Unsupported("an expression"))
        }
    }

    fn column_use(&mut self, expr: &Expr, scope: &Scope<'_>) {
        let parts: Vec<String> = match expr {
            Expr::Identifier(name) => vec![folded(name)],
            Expr::CompoundIdentifier(parts) => parts.iter().map(folded).collect(),
            _ => return,
        };
        let Some(name) = parts.last() else { return };
        if SYSTEM_COLUMNS.contains(&name.as_str()) {
            self.not_concatenable
                .get_or_insert_with(|| format!("the system column {name}"));
            self.notes.obstacle(|| format!("the system column {name}"));
        }
        let resolved = resolve(expr, scope);
        self.notes.whole_rows |= !matches!(resolved, Some(Resolved::Node(_)))
            && scope.has_relation(name)
            || matches!(resolved, Some(Resolved::NoSuchColumn));
        match resolved {
            // `t.f` is `f(t)` when t has no column f (hazard 15)
            Some(Resolved::NoSuchColumn) if !SYSTEM_COLUMNS.contains(&name.as_str()) => {
                self.calls(None, name);
            }
            Some(Resolved::Opaque)
                if parts.len() > 1 && self.env.catalog.functions.contains_key(name) =>
            {
                self.calls(None, name);
            }
            Some(Resolved::Missing) if parts.len() == 1 && is_value_keyword(name) => {
                self.calls(None, name);
            }
            Some(Resolved::Missing) if scope.has_relation(name) => {}
            _ => self.sees(name),
        }
    }

    /// A parameter compared with a column has the column's type.
    fn compared(&mut self, left: &Expr, op: &BinaryOperator, right: &Expr, scope: &Scope<'_>) {
        use BinaryOperator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        if !matches!(op, Eq | NotEq | Lt | Gt | LtEq | GtEq) {
            return;
        }
        for (one, other) in [(left, right), (right, left)] {
            if let Some(node) = column(one, scope) {
                let type_oid = self.base.type_of(node);
                self.note_if_param(other, type_oid);
            }
        }
    }

    pub(super) fn operator(&mut self, op: &BinaryOperator) {
        let users = |name: &str| self.env.catalog.user_operators.contains(name);
        let opaque = match op {
            BinaryOperator::Custom(name) => users(name),
            BinaryOperator::PGCustomBinaryOperator(parts) => {
                parts.last().is_some_and(|name| users(name))
            }
            other => users(&other.to_string()),
        };
        if opaque {
            self.opaque_expression = true;
            self.calls(None, "operator of the user");
        }
    }

    pub(super) fn cast_to(&mut self, data_type: &DataType) {
        let data_type = match data_type {
            DataType::Array(sqlparser::ast::ArrayElemTypeDef::SquareBracket(element, _)) => element,
            other => other,
        };
        if matches!(data_type, DataType::Regclass) {
            self.calls(Some("pg_catalog"), "to_regclass");
        }
        let DataType::Custom(name, _) = data_type else {
            return;
        };
        let Some((_, name)) = schema_and_name(name) else {
            return;
        };
        if OBJECT_TYPES.contains(&name.as_str()) {
            self.calls(Some("pg_catalog"), "to_regclass");
        }
        if self
            .env
            .catalog
            .user_types
            .keys()
            .any(|user| user.name == name)
        {
            self.opaque_expression = true;
        }
    }

    pub(super) fn calls(&mut self, schema: Option<&str>, name: &str) {
        self.calls_with(schema, name, None);
    }

    fn calls_with(&mut self, schema: Option<&str>, name: &str, arguments: Option<usize>) {
        self.functions.insert(FunctionUse {
            schema: schema.map(str::to_owned),
            name: name.to_owned(),
            arguments,
        });
    }

    fn access<'q>(&mut self, chain: &'q [AccessExpr], open: &mut Vec<&'q Expr>) {
        for access in chain {
            match access {
                // `(row).f` may be a field or a function
                AccessExpr::Dot(Expr::Identifier(name)) => {
                    let name = folded(name);
                    if self.env.catalog.functions.contains_key(&name) {
                        self.calls(None, &name);
                    }
                }
                AccessExpr::Dot(other) => open.push(other),
                AccessExpr::Subscript(Subscript::Index { index }) => open.push(index),
                AccessExpr::Subscript(Subscript::Slice {
                    lower_bound,
                    upper_bound,
                    stride,
                }) => {
                    open.extend(lower_bound.iter().chain(upper_bound).chain(stride));
                }
            }
        }
    }

    /// A subquery of an expression: it sees what holds outside; what holds inside stays there.
    fn subquery<'q>(
        &mut self,
        query: &'q Query,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        self.subqueries = true;
        let inside = self.base.child(context);
        self.inner += 1;
        let outcome = self.query(query, ctes, Some(scope), inside);
        self.inner -= 1;
        outcome.map(|_| ())
    }

    fn function<'q>(
        &mut self,
        function: &'q Function,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        if !matches!(function.parameters, FunctionArguments::None) {
            return Err(Trouble::Unsupported("a function with two argument lists"));
        }
        let Some((schema, name)) = schema_and_name(&function.name) else {
            return Err(Trouble::Unsupported("a function's name"));
        };
        let arguments = match &function.args {
            FunctionArguments::List(list) => Some(list.args.len()),
            _ => None,
        };
        self.calls_with(schema.as_deref(), &name, arguments);
        self.own_level(function, scope)?;
        match &function.args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => {
                self.run_for(true, |this| this.subquery(query, scope, ctes, context))?;
            }
            FunctionArguments::List(list) => {
                self.key_argument(&name, &list.args);
                self.arguments(&list.args, scope, ctes, context)?;
                for clause in &list.clauses {
                    match clause {
                        FunctionArgumentClause::OrderBy(order) => {
                            self.order(order, scope, ctes, context)?;
                        }
                        _ => return Err(Trouble::Unsupported("a clause in a function call")),
                    }
                }
            }
        }
        self.order(&function.within_group, scope, ctes, context)?;
        if let Some(filter) = &function.filter {
            self.expr(filter, scope, ctes, context)?;
        }
        match &function.over {
            Some(WindowType::WindowSpec(spec)) => self.window(spec, scope, ctes, context),
            _ => Ok(()),
        }
    }

    pub(super) fn arguments<'q>(
        &mut self,
        args: &'q [FunctionArg],
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        for arg in args {
            let (FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg)) = arg;
            match arg {
                FunctionArgExpr::Expr(expr) => self.expr(expr, scope, ctes, context)?,
                FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::Wildcard => {}
                FunctionArgExpr::WildcardWithOptions(_) => {
                    return Err(Trouble::Unsupported("options of *"));
                }
            }
        }
        Ok(())
    }

    /// The key value given to a function that is declared with a key argument.
    pub(super) fn key_argument(&mut self, name: &str, args: &[FunctionArg]) {
        let Some(DeclaredFunction::KeyArgument(position)) = self.env.database.functions.get(name)
        else {
            return;
        };
        let key_type = match self.env.database.keyspaces.as_slice() {
            [keyspace] => keyspace.types.first().copied(),
            _ => None,
        };
        let argument = position.checked_sub(1).and_then(|at| args.get(at));
        let value = match (argument, key_type) {
            (Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(expr))), Some(key_type)) => {
                self.constant(expr, key_type.oid())
            }
            _ => None,
        };
        self.key_arguments
            .push(value.and_then(|values| values.into_iter().next()));
    }

    pub(super) fn order<'q>(
        &mut self,
        order: &'q [OrderByExpr],
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        order
            .iter()
            .try_for_each(|by| self.expr(&by.expr, scope, ctes, context))
    }

    pub(super) fn window<'q>(
        &mut self,
        spec: &'q WindowSpec,
        scope: &Scope<'_>,
        ctes: &Ctes<'q>,
        context: ContextId,
    ) -> Outcome<()> {
        self.exprs(&spec.partition_by, scope, ctes, context)?;
        self.order(&spec.order_by, scope, ctes, context)?;
        let Some(frame) = &spec.window_frame else {
            return Ok(());
        };
        for bound in std::iter::once(&frame.start_bound).chain(&frame.end_bound) {
            if let WindowFrameBound::Preceding(Some(expr))
            | WindowFrameBound::Following(Some(expr)) = bound
            {
                self.expr(expr, scope, ctes, context)?;
            }
        }
        Ok(())
    }

    /// The first aggregate or window function of an expression; functions that are not known count as such.
    pub(super) fn aggregate_in(&self, expr: &Expr) -> Option<String> {
        let mut search = Search {
            analyzer: self,
            queries: 0,
            windows: true,
        };
        expr.visit(&mut search).break_value()
    }

    /// An aggregate or a window function in what a window function is given, or in its window.
    pub(super) fn aggregate_within(&self, function: &Function) -> bool {
        let mut search = Search {
            analyzer: self,
            queries: 0,
            windows: true,
        };
        function.args.visit(&mut search).is_break()
            || function.filter.visit(&mut search).is_break()
            || function.over.visit(&mut search).is_break()
    }

    /// The same without window functions.
    pub(super) fn plain_aggregate_in(&self, expr: &Expr) -> bool {
        let mut search = Search {
            analyzer: self,
            queries: 0,
            windows: false,
        };
        expr.visit(&mut search).is_break()
    }

    /// An aggregate of nothing but an outer query's columns belongs to that query: it would be grouped without a sign.
    fn own_level(&self, function: &Function, scope: &Scope<'_>) -> Outcome<()> {
        if scope.parent.is_none() || function.over.is_some() || self.aggregates(function).is_none()
        {
            return Ok(());
        }
        let (mut columns, mut own) = (false, false);
        let _: ControlFlow<()> = visit_expressions(&function.args, |expr| {
            if matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_)) {
                columns = true;
                own |= scope.is_own(expr);
            }
            ControlFlow::Continue(())
        });
        if columns && !own {
            Err(Trouble::Unsupported("an aggregate of an outer query"))
        } else {
            Ok(())
        }
    }

    fn aggregates(&self, function: &Function) -> Option<String> {
        let (_, name) = schema_and_name(&function.name)?;
        let overloads = self.env.catalog.functions.get(&name);
        let kind = |kind| matches!(kind, FunctionKind::Aggregate | FunctionKind::Window);
        let aggregate = match overloads {
            Some(overloads) => overloads.iter().any(|f| kind(f.kind)),
            None => !is_syntax(&name),
        };
        (aggregate
            || function.over.is_some()
            || function.filter.is_some()
            || !function.within_group.is_empty())
        .then_some(name)
    }
}

/// Puts the operands of a node on `open`; false for nodes that are not known. What `one` looks into itself has none here.
fn operands<'q>(expr: &'q Expr, open: &mut Vec<&'q Expr>) -> bool {
    use Expr as E;
    match expr {
        E::Identifier(_) | E::CompoundIdentifier(_) | E::Value(_) | E::TypedString(_) => {}
        E::Wildcard(_) | E::QualifiedWildcard(..) => {}
        E::Exists { .. } | E::Subquery(_) | E::Function(_) => {}
        E::BinaryOp { left, right, .. }
        | E::AnyOp { left, right, .. }
        | E::AllOp { left, right, .. }
        | E::IsDistinctFrom(left, right)
        | E::IsNotDistinctFrom(left, right) => open.extend([right.as_ref(), left.as_ref()]),
        E::InList { expr, list, .. } => {
            open.push(expr);
            open.extend(list);
        }
        E::Between {
            expr, low, high, ..
        } => open.extend([high.as_ref(), low.as_ref(), expr.as_ref()]),
        E::GroupingSets(sets) | E::Cube(sets) | E::Rollup(sets) => {
            open.extend(sets.iter().flatten());
        }
        E::Tuple(elements) => open.extend(elements),
        E::Array(array) => open.extend(&array.elem),
        E::Case {
            operand,
            conditions,
            else_result,
            ..
        } => {
            open.extend(operand.as_deref());
            let whens = conditions.iter();
            open.extend(whens.flat_map(|when| [&when.condition, &when.result]));
            open.extend(else_result.as_deref());
        }
        other => return one_operand(other, open) || special_syntax(other, open),
    }
    true
}

fn one_operand<'q>(expr: &'q Expr, open: &mut Vec<&'q Expr>) -> bool {
    use Expr as E;
    match expr {
        E::IsFalse(e)
        | E::IsNotFalse(e)
        | E::IsTrue(e)
        | E::IsNotTrue(e)
        | E::IsNull(e)
        | E::IsNotNull(e)
        | E::IsUnknown(e)
        | E::IsNotUnknown(e)
        | E::Nested(e) => open.push(e),
        E::IsNormalized { expr, .. }
        | E::IsJson { expr, .. }
        | E::UnaryOp { expr, .. }
        | E::Collate { expr, .. }
        | E::Extract { expr, .. }
        | E::InSubquery { expr, .. }
        | E::Cast {
            expr, format: None, ..
        } => open.push(expr),
        E::Interval(interval) => open.push(&interval.value),
        E::CompoundFieldAccess { root, .. } => open.push(root),
        _ => return false,
    }
    true
}

/// What the SQL standard spells in words.
fn special_syntax<'q>(expr: &'q Expr, open: &mut Vec<&'q Expr>) -> bool {
    use Expr as E;
    const NO_FIELD: CeilFloorKind = CeilFloorKind::DateTimeField(DateTimeField::NoDateTime);
    match expr {
        E::Ceil { expr, field } | E::Floor { expr, field } if *field == NO_FIELD => open.push(expr),
        E::Like {
            expr,
            pattern,
            escape_char,
            ..
        }
        | E::ILike {
            expr,
            pattern,
            escape_char,
            ..
        }
        | E::SimilarTo {
            expr,
            pattern,
            escape_char,
            ..
        } => {
            open.extend([pattern.as_ref(), expr.as_ref()]);
            open.extend(escape_char.as_deref());
        }
        E::AtTimeZone {
            timestamp,
            time_zone,
        } => open.extend([time_zone.as_ref(), timestamp.as_ref()]),
        E::Position { expr, r#in } => open.extend([r#in.as_ref(), expr.as_ref()]),
        E::Substring {
            expr,
            substring_from,
            substring_for,
            ..
        } => {
            open.push(expr);
            open.extend(substring_from.as_deref());
            open.extend(substring_for.as_deref());
        }
        E::Trim {
            trim_what,
            expr,
            trim_characters,
            ..
        } => {
            open.push(expr);
            open.extend(trim_what.as_deref());
            open.extend(trim_characters.iter().flatten());
        }
        E::Overlay {
            expr,
            overlay_what,
            overlay_from,
            overlay_for,
        } => {
            open.extend([overlay_from.as_ref(), overlay_what.as_ref(), expr.as_ref()]);
            open.extend(overlay_for.as_deref());
        }
        _ => return false,
    }
    true
}

/// Looks for aggregates and window functions, not in subqueries.
struct Search<'a, 'e> {
    analyzer: &'a Analyzer<'e>,
    queries: usize,
    windows: bool,
}

impl Visitor for Search<'_, '_> {
    type Break = String;

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<String> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
        match expr {
            Expr::Function(function)
                if self.queries == 0 && (self.windows || function.over.is_none()) =>
            {
                match self.analyzer.aggregates(function) {
                    Some(name) => ControlFlow::Break(name),
                    None => ControlFlow::Continue(()),
                }
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Words that call a function without parentheses.
pub(super) fn is_value_keyword(name: &str) -> bool {
    name.starts_with("current_")
        || matches!(
            name,
            "localtime" | "localtimestamp" | "session_user" | "user" | "system_user"
        )
}

/// What looks like a function and is the grammar's own: not in pg_proc, immutable.
pub fn is_syntax(name: &str) -> bool {
    matches!(
        name,
        "coalesce"
            | "greatest"
            | "least"
            | "nullif"
            | "row"
            | "grouping"
            | "array"
            | "exists"
            | "xmlelement"
            | "xmlforest"
            | "xmlconcat"
            | "xmlpi"
            | "xmlroot"
            | "xmlparse"
            | "xmlserialize"
            | "normalize"
            | "treat"
            | "collation"
            | "cast"
            | "unnest"
    )
}
