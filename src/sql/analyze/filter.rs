//! Conditions on one table's columns that may be asked where its rows are. By allow-list: only what cannot fail for any row,
//! whose truth depends on nothing but the row and the text, and on no collation's rules. Of a condition on several tables, what
//! it says of each one.

use super::facts::Filtered;
use super::predicate::{conjuncts, resolve, unwrap};
use super::scope::{Resolved, Scope, folded};
use super::{Analyzer, ContextId, Node};
use crate::shard::KeyValue;
use crate::sql::filter::{Filter, FilterPart, Form, is_plain_number};
use crate::sql::parse::offset;
use crate::sql::statement::ValueSource;
use sqlparser::ast::{
    BinaryOperator, DateTimeField, Expr, FunctionArg, FunctionArgExpr, FunctionArguments,
    TypedString, UnaryOperator, Value, ValueWithSpan, visit_expressions,
};
use std::ops::ControlFlow;

const BOOL: u32 = 16;
const TEXT: u32 = 25;
const FLOATS: [u32; 2] = [700, 701];
const BPCHAR: u32 = 1042;
const VARCHAR: u32 = 1043;
const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;
const NUMERIC: u32 = 1700;
const UUID: u32 = 2950;

/// Of a number in the text.
const DIGITS_MAX: usize = 30;
/// So short that no sum of two is too great for an integer.
const ADDED_DIGITS_MAX: usize = 9;
/// Of intervals in the text.
const UNITS: [&str; 7] = ["year", "month", "week", "day", "hour", "minute", "second"];
/// Expressions nested deeper, and conditions longer than this are not asked.
const DEPTH_MAX: usize = 30;
const PARTS_MAX: usize = 600;
/// Of a condition that looks at more tables, nothing is asked.
const TABLES_MAX: usize = 8;

/// A value of a row, or of the text.
struct Scalar {
    parts: Vec<FilterPart>,
    kind: Kind,
    /// NULL where all the table's columns are
    strict: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// of a column, or computed from one
    Column { oid: u32, collation: Texts },
    /// a literal or a parameter that is what it is compared with
    Given,
    /// a number in the text
    Number,
    /// a date or timestamp made of constants
    Time,
}

/// How far texts compare by their bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Texts {
    ByBytes,
    /// equal when their bytes are
    Equal,
    Otherwise,
}

/// A condition.
struct Truth {
    parts: Vec<FilterPart>,
    /// not true where all the table's columns are NULL
    strict: bool,
    /// NULL there
    null: bool,
}

/// Makes conditions on one relation.
struct Maker<'m, 'e> {
    analyzer: &'m mut Analyzer<'e>,
    scope: &'m Scope<'m>,
    instance: usize,
    depth: usize,
    /// of a group's rows
    aggregates: bool,
}

impl Analyzer<'_> {
    /// What a condition says of the relations it looks at, each for itself. Of some columns values are `found`: of a single one
    /// there is no more to say.
    pub(super) fn note_filters(
        &mut self,
        condition: &Expr,
        found: bool,
        scope: &Scope<'_>,
        context: ContextId,
    ) {
        if self.env.database.shards.len() < 2 {
            return;
        }
        let columns = columns_in(condition, scope);
        if found && columns.len() < 2 {
            return;
        }
        for instance in self.owners(&columns) {
            let Some(truth) = Maker::of(self, scope, instance).implied(condition) else {
                continue;
            };
            let strict = truth.strict;
            if let Some(filter) = as_filter(truth) {
                let filtered = Filtered {
                    instance,
                    strict,
                    filter,
                };
                self.base.filter(context, filtered);
            }
        }
    }

    /// All of a condition on this relation's rows.
    pub(super) fn exact_filter(
        &mut self,
        condition: &Expr,
        scope: &Scope<'_>,
        instance: usize,
    ) -> Option<Filter> {
        as_filter(Maker::of(self, scope, instance).truth(condition)?)
    }

    /// What a HAVING says of groups of this relation's rows.
    pub(super) fn group_filter(
        &mut self,
        having: &Expr,
        scope: &Scope<'_>,
        instance: usize,
    ) -> Option<Filter> {
        let mut maker = Maker::of(self, scope, instance);
        maker.aggregates = true;
        as_filter(maker.implied(having)?)
    }

    /// The relations that have these columns; none when they are many.
    fn owners(&self, columns: &[Node]) -> Vec<usize> {
        let mut found = Vec::new();
        for (instance, _) in columns.iter().filter_map(|node| self.owner(*node)) {
            if !found.contains(&instance) {
                found.push(instance);
            }
        }
        if found.len() > TABLES_MAX {
            found.clear();
        }
        found
    }

    /// Not one that another text of the same shape may have otherwise.
    fn is_fixed(&self, literal: &ValueWithSpan) -> bool {
        offset(literal.span).is_some_and(|at| self.slot_at(at).is_none())
    }

    /// The relation that has this column, and the column's name there.
    pub(super) fn owner(&self, node: Node) -> Option<(usize, &str)> {
        // a relation's columns are numbered one after the other
        self.instances
            .iter()
            .enumerate()
            .find_map(|(at, instance)| {
                let first = instance.columns.first()?.1?;
                let column = usize::try_from(node.0.checked_sub(first.0)?).ok()?;
                let (name, known) = instance.columns.get(column)?;
                (*known == Some(node)).then_some((at, name.as_str()))
            })
    }
}

fn as_filter(truth: Truth) -> Option<Filter> {
    (truth.parts.len() <= PARTS_MAX).then(|| Filter {
        parts: joined(truth.parts),
    })
}

/// The columns that an expression names.
fn columns_in(expr: &Expr, scope: &Scope<'_>) -> Vec<Node> {
    let mut found = Vec::new();
    let _: ControlFlow<()> = visit_expressions(expr, |expr| {
        if let Some(Resolved::Node(node)) = resolve(expr, scope)
            && !found.contains(&node)
        {
            found.push(node);
        }
        ControlFlow::Continue(())
    });
    found
}

impl<'m, 'e> Maker<'m, 'e> {
    fn of(analyzer: &'m mut Analyzer<'e>, scope: &'m Scope<'m>, instance: usize) -> Self {
        Self {
            analyzer,
            scope,
            instance,
            depth: 0,
            aggregates: false,
        }
    }

    /// A condition that holds wherever this one does: all of it, or what is left of it for this relation.
    fn implied(&mut self, expr: &Expr) -> Option<Truth> {
        if let Some(truth) = self.truth(expr) {
            return Some(truth);
        }
        match unwrap(expr) {
            Expr::BinaryOp {
                op: BinaryOperator::And,
                ..
            } => {
                let all = conjuncts(expr);
                let known: Vec<Truth> = all.into_iter().filter_map(|e| self.implied(e)).collect();
                (!known.is_empty()).then(|| connected(known, " AND "))
            }
            Expr::BinaryOp {
                op: BinaryOperator::Or,
                ..
            } => {
                let all = alternatives(expr);
                let known: Option<Vec<Truth>> = all.into_iter().map(|e| self.implied(e)).collect();
                Some(connected(known?, " OR "))
            }
            _ => None,
        }
    }

    /// The condition itself, true, false and NULL for the same rows.
    fn truth(&mut self, expr: &Expr) -> Option<Truth> {
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let truth = self.truth_of(unwrap(expr));
        self.depth -= 1;
        truth
    }

    fn truth_of(&mut self, expr: &Expr) -> Option<Truth> {
        use BinaryOperator::{And, Eq, Gt, GtEq, Lt, LtEq, NotEq, Or};
        match expr {
            Expr::BinaryOp {
                left,
                op: op @ (And | Or),
                right,
            } => {
                let both = vec![self.truth(left)?, self.truth(right)?];
                Some(connected(both, if *op == And { " AND " } else { " OR " }))
            }
            Expr::UnaryOp {
                op: UnaryOperator::Not,
                expr,
            } => {
                let inner = self.truth(expr)?;
                Some(Truth {
                    parts: surrounded("NOT (", inner.parts, ")"),
                    strict: inner.null,
                    null: inner.null,
                })
            }
            Expr::BinaryOp {
                left,
                op: op @ (Eq | NotEq | Lt | LtEq | Gt | GtEq),
                right,
            } => self.comparison(left, right, &op.to_string()),
            Expr::Between {
                expr,
                negated,
                low,
                high,
            } if !self.analyzer.may_be_symmetric() => {
                let above = self.comparison(expr, low, ">=")?;
                let below = self.comparison(expr, high, "<=")?;
                let both = connected(vec![above, below], " AND ");
                Some(negated_if(*negated, both))
            }
            Expr::InList {
                expr,
                list,
                negated,
            } => self.listed(expr, list, *negated),
            Expr::Like {
                negated,
                any: false,
                expr,
                pattern,
                escape_char: None,
            } => self.like(expr, pattern, *negated),
            other => self.tested(other),
        }
    }

    /// What asks whether something is NULL or true, and a column that is a condition by itself.
    fn tested(&mut self, expr: &Expr) -> Option<Truth> {
        let (inner, test) = match expr {
            Expr::IsNull(inner) => (inner, " IS NULL"),
            Expr::IsNotNull(inner) => (inner, " IS NOT NULL"),
            Expr::IsTrue(inner) => (inner, " IS TRUE"),
            Expr::IsFalse(inner) => (inner, " IS FALSE"),
            Expr::IsNotTrue(inner) => (inner, " IS NOT TRUE"),
            Expr::IsNotFalse(inner) => (inner, " IS NOT FALSE"),
            column => {
                let found = self.scalar(column)?;
                let is_bool = matches!(found.kind, Kind::Column { oid: BOOL, .. });
                return is_bool.then_some(Truth {
                    parts: found.parts,
                    strict: found.strict,
                    null: found.strict,
                });
            }
        };
        let of_null = matches!(expr, Expr::IsNull(_) | Expr::IsNotNull(_));
        let (parts, null) = if of_null {
            // of any type
            let column = self.column(unwrap(inner))?;
            (column.parts, true)
        } else {
            let truth = self.truth(inner)?;
            (truth.parts, truth.null)
        };
        let is_positive = matches!(
            expr,
            Expr::IsNotNull(_) | Expr::IsTrue(_) | Expr::IsFalse(_)
        );
        Some(Truth {
            parts: surrounded("((", parts, &format!("){test})")),
            strict: is_positive && null,
            null: false,
        })
    }

    fn comparison(&mut self, left: &Expr, right: &Expr, operator: &str) -> Option<Truth> {
        if !self.analyzer.is_own(operator) {
            return None;
        }
        let equality = matches!(operator, "=" | "<>");
        let (a, b) = self.sides(left, right)?;
        if !comparable(a.kind, b.kind, equality) {
            return None;
        }
        let null = a.strict || b.strict;
        let mut parts = vec![text("(")];
        parts.extend(a.parts);
        parts.push(text(&format!(" {operator} ")));
        parts.extend(b.parts);
        parts.push(text(")"));
        Some(Truth {
            parts,
            strict: null,
            null,
        })
    }

    /// Both operands; what is only a literal or a parameter is of the other's type.
    fn sides(&mut self, left: &Expr, right: &Expr) -> Option<(Scalar, Scalar)> {
        let (a, b) = (self.scalar(left), self.scalar(right));
        match (a, b) {
            (Some(a), Some(b)) => Some((a, b)),
            (Some(a), None) => {
                let b = self.given(right, &a)?;
                Some((a, b))
            }
            (None, Some(b)) => {
                let a = self.given(left, &b)?;
                Some((a, b))
            }
            (None, None) => None,
        }
    }

    fn listed(&mut self, expr: &Expr, list: &[Expr], negated: bool) -> Option<Truth> {
        if !self.analyzer.is_own("=") || list.is_empty() {
            return None;
        }
        let left = self.scalar(expr)?;
        let mut parts = vec![text("(")];
        parts.extend(left.parts.iter().cloned());
        parts.push(text(if negated { " NOT IN (" } else { " IN (" }));
        for (n, element) in list.iter().enumerate() {
            if n > 0 {
                parts.push(text(", "));
            }
            let value = match self.scalar(element) {
                Some(value) if matches!(value.kind, Kind::Number | Kind::Time) => value,
                Some(_) => return None,
                None => self.given(element, &left)?,
            };
            if !comparable(left.kind, value.kind, true) {
                return None;
            }
            parts.extend(value.parts);
        }
        parts.push(text("))"));
        Some(Truth {
            parts,
            strict: left.strict,
            null: left.strict,
        })
    }

    fn like(&mut self, expr: &Expr, pattern: &Expr, negated: bool) -> Option<Truth> {
        let operator = if negated { "!~~" } else { "~~" };
        if !self.analyzer.is_own(operator) {
            return None;
        }
        let left = self.scalar(expr)?;
        let Kind::Column { oid, collation } = left.kind else {
            return None;
        };
        if !is_text(oid) || collation == Texts::Otherwise {
            return None;
        }
        let source = match unwrap(pattern) {
            Expr::Value(value) if is_string(&value.value) || is_plain(&left) && oid != BPCHAR => {
                one(self.analyzer.constant(pattern, TEXT)?)?
            }
            _ => return None,
        };
        if matches!(&source, ValueSource::Fixed(KeyValue::Text(pattern)) if pattern.contains(&b'\\'))
        {
            return None;
        }
        let mut parts = vec![text("(")];
        parts.extend(left.parts);
        parts.push(text(if negated { " NOT LIKE " } else { " LIKE " }));
        parts.push(FilterPart::Value {
            source,
            form: Form::Pattern,
        });
        parts.push(text(")"));
        Some(Truth {
            parts,
            strict: left.strict,
            null: left.strict,
        })
    }

    /// A value whose type is known by itself.
    fn scalar(&mut self, expr: &Expr) -> Option<Scalar> {
        if self.depth > DEPTH_MAX {
            return None;
        }
        self.depth += 1;
        let scalar = self.scalar_of(unwrap(expr));
        self.depth -= 1;
        scalar
    }

    fn scalar_of(&mut self, expr: &Expr) -> Option<Scalar> {
        match expr {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.column(expr),
            Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                self.number(expr, DIGITS_MAX)
            }
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                ..
            } => self.number(expr, DIGITS_MAX),
            Expr::TypedString(_) | Expr::Cast { .. } => self.time(expr),
            Expr::BinaryOp {
                left,
                op: op @ (BinaryOperator::Plus | BinaryOperator::Minus),
                right,
            } => self.sum(left, right, op),
            Expr::Extract { field, expr, .. } => self.extracted(field, expr),
            Expr::Substring {
                expr,
                substring_from: Some(from),
                substring_for,
                ..
            } => self.substring(expr, from, substring_for.as_deref()),
            Expr::Function(function) => {
                let FunctionArguments::List(list) = &function.args else {
                    return None;
                };
                let plain = function.over.is_none()
                    && function.filter.is_none()
                    && function.within_group.is_empty()
                    && list.clauses.is_empty()
                    && list.duplicate_treatment.is_none();
                let named = function.name.to_string();
                match list.args.as_slice() {
                    [
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(one)),
                        FunctionArg::Unnamed(FunctionArgExpr::Expr(other)),
                    ] if plain && named.eq_ignore_ascii_case("coalesce") => {
                        self.coalesced(one, other)
                    }
                    [FunctionArg::Unnamed(of)] if plain && self.aggregates => {
                        self.aggregate(&named, of)
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// One that cannot fail: of a column, or `count(*)`.
    fn aggregate(&self, name: &str, of: &FunctionArgExpr) -> Option<Scalar> {
        let name = name.to_ascii_lowercase();
        if !self.analyzer.env.catalog.is_systems_own(&name) {
            return None;
        }
        let (parts, oid) = match of {
            FunctionArgExpr::Wildcard => (vec![text("*")], 0),
            FunctionArgExpr::Expr(expr) => {
                let of = self.column(unwrap(expr))?;
                let Kind::Column { oid, .. } = of.kind else {
                    return None;
                };
                (of.parts, oid)
            }
            _ => return None,
        };
        let oid = match (name.as_str(), oid) {
            ("count", _) => 20,
            ("sum", 21 | 23) => 20,
            ("sum", 20 | NUMERIC) => NUMERIC,
            ("avg", 20 | 21 | 23 | NUMERIC) => NUMERIC,
            ("min" | "max", oid) if is_number(oid) || is_date(oid) => oid,
            _ => return None,
        };
        Some(Scalar {
            parts: surrounded(&format!("pg_catalog.{name}("), parts, ")"),
            kind: Kind::Column {
                oid,
                collation: Texts::Otherwise,
            },
            strict: false,
        })
    }

    fn column(&self, expr: &Expr) -> Option<Scalar> {
        if let Expr::Identifier(name) = expr
            && self.scope.is_mixed(&folded(name))
        {
            return None;
        }
        let Some(Resolved::Node(node)) = resolve(expr, self.scope) else {
            return None;
        };
        let (instance, name) = self.analyzer.owner(node)?;
        if instance != self.instance {
            return None;
        }
        let oid = self.analyzer.base.type_of(node);
        let collation = self.analyzer.base.collation_of(node);
        let collation = match (collation.by_bytes, collation.deterministic) {
            (true, _) => Texts::ByBytes,
            (_, true) => Texts::Equal,
            _ => Texts::Otherwise,
        };
        Some(Scalar {
            parts: vec![FilterPart::Column(name.to_owned())],
            kind: Kind::Column { oid, collation },
            strict: true,
        })
    }

    /// A number in the text, with a minus or without.
    fn number(&self, expr: &Expr, most: usize) -> Option<Scalar> {
        let (value, negative) = match expr {
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => (unwrap(expr), true),
            other => (other, false),
        };
        let Expr::Value(value) = value else {
            return None;
        };
        let Value::Number(digits, _) = &value.value else {
            return None;
        };
        let at = offset(value.span)?;
        let part = match self.analyzer.slot_at(at) {
            Some(slot) => {
                let signed = self.analyzer.env.slots.get(slot)?.start < at;
                if signed != negative {
                    return None;
                }
                FilterPart::Value {
                    source: ValueSource::Slot(slot),
                    form: Form::Number { most },
                }
            }
            None if is_plain_number(digits, most) => {
                text(&format!("{}{digits}", if negative { "-" } else { "" }))
            }
            None => return None,
        };
        Some(Scalar {
            parts: surrounded("(", vec![part], ")"),
            kind: Kind::Number,
            strict: false,
        })
    }

    /// `date '2024-02-29'`, or a timestamp.
    fn time(&mut self, expr: &Expr) -> Option<Scalar> {
        let oid = match expr {
            Expr::TypedString(TypedString { data_type, .. }) | Expr::Cast { data_type, .. } => {
                super::constant::type_oid_of(data_type)?
            }
            _ => return None,
        };
        if !is_date(oid) {
            return None;
        }
        let source = one(self.analyzer.constant(expr, oid)?)?;
        if !matches!(source, ValueSource::Fixed(_)) {
            return None;
        }
        Some(Scalar {
            parts: vec![FilterPart::Value {
                source,
                form: Form::Of(oid),
            }],
            kind: Kind::Time,
            strict: false,
        })
    }

    /// Of constants only, and of few digits: a sum of columns may be too great for its type.
    fn sum(&mut self, left: &Expr, right: &Expr, op: &BinaryOperator) -> Option<Scalar> {
        let sign = op.to_string();
        if !self.analyzer.is_own(&sign) {
            return None;
        }
        let (a, b) = if let Some(a) = self.number(unwrap(left), ADDED_DIGITS_MAX) {
            (a, self.number(unwrap(right), ADDED_DIGITS_MAX)?.parts)
        } else {
            let time = self.time(unwrap(left))?;
            (time, vec![text(&self.interval(unwrap(right))?)])
        };
        let mut parts = vec![text("(")];
        parts.extend(a.parts);
        parts.push(text(&format!(" {sign} ")));
        parts.extend(b);
        parts.push(text(")"));
        Some(Scalar { parts, ..a })
    }

    /// `interval '3' month`, `interval '3 months'`: a few digits and a unit, which no setting changes.
    fn interval(&self, expr: &Expr) -> Option<String> {
        let Expr::Interval(interval) = expr else {
            return None;
        };
        let Expr::Value(value) = unwrap(&interval.value) else {
            return None;
        };
        let Value::SingleQuotedString(said) = &value.value else {
            return None;
        };
        if !self.analyzer.is_fixed(value) {
            return None;
        }
        if interval.leading_precision.is_some()
            || interval.last_field.is_some()
            || interval.fractional_seconds_precision.is_some()
        {
            return None;
        }
        let unit = match &interval.leading_field {
            Some(field) => field.to_string(),
            None => said
                .trim_start_matches(|c: char| c.is_ascii_digit())
                .trim()
                .to_owned(),
        };
        let unit = unit.to_ascii_lowercase();
        let known = UNITS.contains(&unit.strip_suffix('s').unwrap_or(&unit));
        let count: String = said.chars().take_while(char::is_ascii_digit).collect();
        let whole = interval.leading_field.is_none() || count == *said;
        (known && whole && (1..=4).contains(&count.len()))
            .then(|| format!("'{count} {unit}'::pg_catalog.interval"))
    }

    fn extracted(&mut self, field: &DateTimeField, expr: &Expr) -> Option<Scalar> {
        let of = self.column(unwrap(expr))?;
        let Kind::Column { oid, .. } = of.kind else {
            return None;
        };
        let field = match field {
            DateTimeField::Year => "year",
            DateTimeField::Month => "month",
            DateTimeField::Day => "day",
            _ => return None,
        };
        is_date(oid).then(|| Scalar {
            parts: surrounded(&format!("EXTRACT({field} FROM "), of.parts, ")"),
            kind: Kind::Column {
                oid: NUMERIC,
                collation: Texts::Otherwise,
            },
            strict: true,
        })
    }

    fn substring(&mut self, of: &Expr, from: &Expr, length: Option<&Expr>) -> Option<Scalar> {
        let of = self.column(unwrap(of))?;
        let Kind::Column { oid, collation } = of.kind else {
            return None;
        };
        let digits = |expr: &Expr| match unwrap(expr) {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => {
                    let short =
                        digits.len() < 7 && digits.bytes().all(|byte| byte.is_ascii_digit());
                    (short && self.analyzer.is_fixed(value)).then(|| digits.clone())
                }
                _ => None,
            },
            _ => None,
        };
        let mut numbers = format!(", {}", digits(from)?);
        if let Some(length) = length {
            numbers.push_str(&format!(", {}", digits(length)?));
        }
        is_text(oid).then(|| Scalar {
            parts: surrounded("pg_catalog.substring(", of.parts, &format!("{numbers})")),
            kind: Kind::Column {
                oid: TEXT,
                collation,
            },
            strict: true,
        })
    }

    /// `coalesce(column, literal)`.
    fn coalesced(&mut self, one: &Expr, other: &Expr) -> Option<Scalar> {
        let column = self.column(unwrap(one))?;
        let literal = match self.scalar(other) {
            Some(literal) if literal.kind == Kind::Number => literal,
            Some(_) => return None,
            None if is_string_or_bool(other) => self.given(other, &column)?,
            None => return None,
        };
        let Kind::Column { oid, .. } = column.kind else {
            return None;
        };
        let fits = match literal.kind {
            // of a wider type than the column's, perhaps
            Kind::Number => is_number(oid),
            _ => !is_number(oid),
        };
        let mut parts = vec![text("COALESCE(")];
        parts.extend(column.parts);
        parts.push(text(", "));
        parts.extend(literal.parts);
        parts.push(text(")"));
        fits.then_some(Scalar {
            parts,
            kind: column.kind,
            strict: false,
        })
    }

    /// A literal or a parameter, as a value of the type it is compared with.
    fn given(&mut self, expr: &Expr, with: &Scalar) -> Option<Scalar> {
        let Kind::Column { oid, .. } = with.kind else {
            return None;
        };
        let part = match unwrap(expr) {
            Expr::Value(value) if oid == BPCHAR && is_string(&value.value) => FilterPart::Value {
                source: one(self.analyzer.constant(expr, TEXT)?)?,
                form: Form::Of(BPCHAR),
            },
            Expr::Value(value) if oid == BOOL => match value.value {
                Value::Boolean(true) => text("true"),
                Value::Boolean(false) => text("false"),
                _ => return None,
            },
            // what a parameter is when it meets more than a column is not said here
            Expr::Value(value) if is_string(&value.value) || is_plain(with) => FilterPart::Value {
                source: one(self.analyzer.constant(expr, oid)?)?,
                form: Form::Of(oid),
            },
            Expr::UnaryOp { .. } | Expr::Cast { .. } if is_plain(with) => FilterPart::Value {
                source: one(self.analyzer.constant(expr, oid)?)?,
                form: Form::Of(oid),
            },
            _ => return None,
        };
        Some(Scalar {
            parts: vec![part],
            kind: Kind::Given,
            strict: false,
        })
    }
}

/// Nothing but a column.
fn is_plain(scalar: &Scalar) -> bool {
    matches!(scalar.parts.as_slice(), [FilterPart::Column(_)])
}

fn is_string(value: &Value) -> bool {
    matches!(value, Value::SingleQuotedString(_))
}

fn is_string_or_bool(expr: &Expr) -> bool {
    let Expr::Value(value) = unwrap(expr) else {
        return false;
    };
    is_string(&value.value) || matches!(value.value, Value::Boolean(_))
}

/// Do these compare without fail, the same everywhere?
fn comparable(a: Kind, b: Kind, equality: bool) -> bool {
    use Kind::{Column, Given, Number, Time};
    match (a, b) {
        (Column { oid, .. }, Column { oid: other, .. }) => {
            // two texts may have two collations
            let same = oid == other && matches!(oid, BOOL | UUID | TIMESTAMPTZ | 700 | 701);
            let dates = is_date(oid) && is_date(other);
            same || dates || is_number(oid) && is_number(other)
        }
        (Column { oid, .. }, Number) | (Number, Column { oid, .. }) => {
            is_number(oid) || FLOATS.contains(&oid)
        }
        (Column { oid, .. }, Time) | (Time, Column { oid, .. }) => is_date(oid),
        (Column { oid, collation }, Given) | (Given, Column { oid, collation }) => {
            match collation {
                _ if !is_text(oid) => true,
                Texts::ByBytes => true,
                Texts::Equal => equality,
                Texts::Otherwise => false,
            }
        }
        _ => false,
    }
}

fn is_date(oid: u32) -> bool {
    matches!(oid, DATE | TIMESTAMP)
}

fn is_text(oid: u32) -> bool {
    matches!(oid, TEXT | VARCHAR | BPCHAR)
}

fn is_number(oid: u32) -> bool {
    matches!(oid, 20 | 21 | 23 | NUMERIC)
}

/// What an OR of conditions consists of.
fn alternatives(condition: &Expr) -> Vec<&Expr> {
    let mut open = vec![condition];
    let mut found = Vec::new();
    while let Some(condition) = open.pop() {
        match unwrap(condition) {
            Expr::BinaryOp {
                left,
                op: BinaryOperator::Or,
                right,
            } => open.extend([right.as_ref(), left.as_ref()]),
            other => found.push(other),
        }
    }
    found
}

fn one(sources: Vec<ValueSource>) -> Option<ValueSource> {
    let [source] = <[ValueSource; 1]>::try_from(sources).ok()?;
    Some(source)
}

fn connected(truths: Vec<Truth>, word: &str) -> Truth {
    let any = |of: fn(&Truth) -> bool| truths.iter().any(of);
    let all = |of: fn(&Truth) -> bool| truths.iter().all(of);
    let strict = if word == " AND " {
        any(|t| t.strict)
    } else {
        all(|t| t.strict)
    };
    let null = all(|t| t.null);
    let mut parts = vec![text("(")];
    for (n, truth) in truths.into_iter().enumerate() {
        if n > 0 {
            parts.push(text(word));
        }
        parts.extend(truth.parts);
    }
    parts.push(text(")"));
    Truth {
        parts,
        strict,
        null,
    }
}

fn negated_if(negated: bool, truth: Truth) -> Truth {
    if !negated {
        return truth;
    }
    Truth {
        parts: surrounded("NOT ", truth.parts, ""),
        strict: truth.null,
        null: truth.null,
    }
}

fn surrounded(before: &str, parts: Vec<FilterPart>, after: &str) -> Vec<FilterPart> {
    let mut all = vec![text(before)];
    all.extend(parts);
    all.push(text(after));
    all
}

fn text(text: &str) -> FilterPart {
    FilterPart::Text(text.to_owned())
}

/// Texts beside each other are one.
fn joined(parts: Vec<FilterPart>) -> Vec<FilterPart> {
    let mut all: Vec<FilterPart> = Vec::with_capacity(parts.len());
    for part in parts {
        match (all.last_mut(), part) {
            (Some(FilterPart::Text(before)), FilterPart::Text(text)) => before.push_str(&text),
            (_, part) => all.push(part),
        }
    }
    all
}
