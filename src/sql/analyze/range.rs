//! Comparisons to ranges: `<`, `<=`, `>`, `>=` and BETWEEN of a column and a constant, where the column's type orders its values
//! here as PostgreSQL does. Texts count only under a collation that compares bytes, and only PostgreSQL's own operators.

use super::Analyzer;
use super::constant::is_null;
use super::facts::Alternatives;
use super::predicate::{column, unwrap};
use super::scope::Scope;
use super::{ContextId, Node};
use crate::sql::statement::{End, Limit, ValueSource};
use sqlparser::ast::{BinaryOperator, Expr};

/// `>` and the like: which end of a range it is for its left operand.
fn end_of(op: &BinaryOperator) -> Option<(End, bool)> {
    Some(match op {
        BinaryOperator::Gt => (End::Low, false),
        BinaryOperator::GtEq => (End::Low, true),
        BinaryOperator::Lt => (End::High, false),
        BinaryOperator::LtEq => (End::High, true),
        _ => return None,
    })
}

fn other(end: End) -> End {
    match end {
        End::Low => End::High,
        End::High => End::Low,
    }
}

impl Analyzer<'_> {
    /// What a comparison says of a column, if that is what it is.
    pub(super) fn ranges(
        &mut self,
        condition: &Expr,
        scope: &Scope<'_>,
    ) -> Vec<(Node, Alternatives)> {
        match condition {
            Expr::BinaryOp { left, op, right } => {
                let Some((end, inclusive)) = end_of(op).filter(|_| self.is_own(&op.to_string()))
                else {
                    return Vec::new();
                };
                self.bounded(left, right, (end, inclusive), scope)
            }
            Expr::Between {
                expr,
                negated: false,
                low,
                high,
            } if self.is_own(">=") && self.is_own("<=") && !self.may_be_symmetric() => {
                let mut said = self.bounded(expr, low, (End::Low, true), scope);
                said.extend(self.bounded(expr, high, (End::High, true), scope));
                said
            }
            _ => Vec::new(),
        }
    }

    /// BETWEEN SYMMETRIC, whose limits may stand the other way round: the tree does not say which it is.
    pub(super) fn may_be_symmetric(&self) -> bool {
        const WORD: &[u8] = b"symmetric";
        let mut words = self.env.text.windows(WORD.len());
        words.any(|word| word.eq_ignore_ascii_case(WORD))
    }

    pub(super) fn note_ranges(&mut self, condition: &Expr, scope: &Scope<'_>, context: ContextId) {
        for (node, values) in self.ranges(condition, scope) {
            self.base.constant(context, node, values);
        }
    }

    /// No operator of the user has this name.
    pub(super) fn is_own(&self, operator: &str) -> bool {
        !self.env.catalog.user_operators.contains(operator)
    }

    fn bounded(
        &mut self,
        left: &Expr,
        right: &Expr,
        (end, inclusive): (End, bool),
        scope: &Scope<'_>,
    ) -> Vec<(Node, Alternatives)> {
        let (left, right, inclusive) = match (unwrap(left), unwrap(right)) {
            // rows compare by their first columns, unless these are equal
            (Expr::Tuple(a), Expr::Tuple(b)) if a.len() == b.len() => {
                match (a.first(), b.first()) {
                    (Some(a), Some(b)) => (unwrap(a), unwrap(b), true),
                    _ => return Vec::new(),
                }
            }
            (left, right) => (left, right, inclusive),
        };
        let limit = match (column(left, scope), column(right, scope)) {
            (Some(node), None) => self.limit_of(node, right, end, inclusive),
            (None, Some(node)) => self.limit_of(node, left, other(end), inclusive),
            _ => None,
        };
        limit.into_iter().collect()
    }

    fn limit_of(
        &mut self,
        node: Node,
        value: &Expr,
        end: End,
        inclusive: bool,
    ) -> Option<(Node, Alternatives)> {
        let type_oid = self.base.type_of(node);
        self.note_if_param(value, type_oid);
        if matches!(type_oid, 25 | 1043) && !self.base.collation_of(node).by_bytes {
            return None;
        }
        let found = self.constant(value, type_oid)?;
        let Ok([value]) = <[ValueSource; 1]>::try_from(found) else {
            // nothing compares with NULL; a number that no value of the type equals may still be above or below all of them
            return is_null(value).then(|| (node, Vec::new()));
        };
        let limit = Limit {
            end,
            inclusive,
            value,
        };
        Some((node, vec![ValueSource::Between([limit].into())]))
    }
}
