//! LIMIT, OFFSET and FETCH FIRST of the outermost SELECT: plain numbers and parameters, and what the shards are told
//! instead. Each shard sends limit + offset rows; negative numbers are left for it to refuse, in its own words and order.

use super::super::Analyzer;
use super::super::predicate::unwrap;
use crate::sql::combine::Amount;
use crate::sql::tokens::TokenKind;
use sqlparser::ast::{Expr, LimitClause, Query, Value};

/// Below this two amounts can be added.
const LARGE: &str = "4611686018427387904";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// not there, ALL or NULL
    Nothing,
    Amount(Amount),
    /// an expression, or with what this file does not do
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Amounts {
    limit: Written,
    offset: Written,
}

impl Amounts {
    pub fn of(query: &Query) -> Self {
        let mut amounts = Self {
            limit: Written::Nothing,
            offset: Written::Nothing,
        };
        match &query.limit_clause {
            None => {}
            Some(LimitClause::LimitOffset {
                limit,
                offset,
                limit_by,
            }) if limit_by.is_empty() => {
                amounts.limit = limit.as_ref().map_or(Written::Nothing, written);
                amounts.offset = offset
                    .as_ref()
                    .map_or(Written::Nothing, |offset| written(&offset.value));
            }
            Some(_) => amounts.limit = Written::Other,
        }
        if let Some(fetch) = &query.fetch {
            amounts.limit = if fetch.with_ties || fetch.percent {
                Written::Other
            } else {
                let one = Written::Amount(Amount::Fixed(1));
                fetch.quantity.as_ref().map_or(one, written)
            };
        }
        amounts
    }

    pub fn is_nothing(&self) -> bool {
        *self
            == Self {
                limit: Written::Nothing,
                offset: Written::Nothing,
            }
    }

    /// Limit and offset; None when they are not known to be what they look like.
    pub(super) fn both(&self, analyzer: &Analyzer<'_>) -> Option<(Option<Amount>, Option<Amount>)> {
        let one = |written| match written {
            Written::Nothing => Some(None),
            Written::Amount(Amount::Param(n)) if !analyzer.counts_rows(n) => None,
            Written::Amount(amount) => Some(Some(amount)),
            Written::Other => None,
        };
        Some((one(self.limit)?, one(self.offset)?))
    }

    /// What stands in the place of these clauses in the shards' text; None when they stay as they are.
    pub(super) fn for_shards(&self, analyzer: &Analyzer<'_>) -> Option<Option<String>> {
        let (limit, offset) = self.both(analyzer)?;
        let text = match (limit, offset) {
            (_, None) => return Some(None),
            (None, Some(Amount::Fixed(_))) => String::new(),
            (None, Some(offset)) => checked(&sql(offset)),
            (Some(Amount::Fixed(limit)), Some(Amount::Fixed(offset))) => {
                match limit.checked_add(offset) {
                    Some(rows) if i64::try_from(rows).is_ok() => format!("LIMIT {rows}"),
                    _ => String::new(),
                }
            }
            (Some(limit), Some(offset)) => {
                let (l, o) = (sql(limit), sql(offset));
                format!(
                    "LIMIT CASE WHEN {l} < 0 THEN {l} WHEN {l} < {LARGE} AND coalesce({o}, 0) < {LARGE} \
                     THEN {l} + coalesce({o}, 0) END {}",
                    checked(&o)
                )
            }
        };
        Some(Some(text))
    }
}

impl Amounts {
    /// For shards that send all they have, and refuse negative numbers.
    pub(super) fn only_checked(&self, analyzer: &Analyzer<'_>) -> Option<String> {
        let (limit, offset) = self.both(analyzer)?;
        let given = |amount| match amount {
            Some(Amount::Param(_)) => amount.map(sql),
            _ => None,
        };
        let limit = given(limit)
            .map(|limit| format!("LIMIT CASE WHEN {limit} < 0 THEN {limit} END "))
            .unwrap_or_default();
        let offset = given(offset).map(|offset| checked(&offset));
        Some(limit + &offset.unwrap_or_default())
    }
}

/// An offset of nothing that is refused when it is negative.
fn checked(offset: &str) -> String {
    format!("OFFSET CASE WHEN {offset} < 0 THEN {offset} ELSE 0 END")
}

fn sql(amount: Amount) -> String {
    match amount {
        Amount::Fixed(rows) => format!("{rows}::pg_catalog.int8"),
        Amount::Param(n) => format!("${n}::pg_catalog.int8"),
    }
}

fn written(expr: &Expr) -> Written {
    let Expr::Value(value) = unwrap(expr) else {
        return Written::Other;
    };
    match &value.value {
        Value::Null => Written::Nothing,
        Value::Number(digits, _) => match digits.parse::<u64>() {
            Ok(rows) if i64::try_from(rows).is_ok() => Written::Amount(Amount::Fixed(rows)),
            _ => Written::Other,
        },
        Value::Placeholder(name) => name
            .strip_prefix('$')
            .and_then(|n| n.parse().ok())
            .map_or(Written::Other, |n| Written::Amount(Amount::Param(n))),
        _ => Written::Other,
    }
}

impl Analyzer<'_> {
    /// A parameter that is read as a bigint or a narrower integer: declared so, or used nowhere else.
    fn counts_rows(&self, n: usize) -> bool {
        let declared = n.checked_sub(1).and_then(|at| self.env.declared.get(at));
        match declared.copied().unwrap_or(0) {
            20 | 21 | 23 => true,
            0 | 705 => {
                let mut uses = self.tokens.iter();
                uses.by_ref()
                    .filter(|t| matches!(t.kind, TokenKind::Param(its) if its as usize == n))
                    .count()
                    == 1
            }
            _ => false,
        }
    }
}
