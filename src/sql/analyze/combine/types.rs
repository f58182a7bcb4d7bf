//! Types of expressions, as far as they are certain: columns, numbers, arithmetic on them, CASE, COALESCE, casts.

use crate::sql::analyze::Analyzer;
use crate::sql::analyze::predicate::unwrap;
use crate::sql::analyze::scope::{Scope, schema_and_name};
use sqlparser::ast::{
    BinaryOperator, DataType, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    UnaryOperator, Value,
};

const INT2: u32 = 21;
const INT4: u32 = 23;
const INT8: u32 = 20;
const NUMERIC: u32 = 1700;
const DATE: u32 = 1082;
const TIMESTAMP: u32 = 1114;
const TIMESTAMPTZ: u32 = 1184;

/// Expressions nested deeper are not looked into.
const DEPTH_MAX: usize = 40;

impl Analyzer<'_> {
    pub(super) fn inferred(&self, expr: &Expr, scope: &Scope<'_>) -> Option<u32> {
        self.inferred_at(expr, scope, 0)
    }

    fn inferred_at(&self, expr: &Expr, scope: &Scope<'_>, depth: usize) -> Option<u32> {
        if depth > DEPTH_MAX {
            return None;
        }
        let inner = |expr: &Expr| self.inferred_at(expr, scope, depth + 1);
        match unwrap(expr) {
            Expr::Value(value) => match &value.value {
                Value::Number(digits, _) => Some(of_number(digits)),
                _ => None,
            },
            Expr::UnaryOp {
                op: UnaryOperator::Minus | UnaryOperator::Plus,
                expr,
            } if !is_edge(expr) => inner(expr).filter(|oid| is_number(*oid)),
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Plus
                    | BinaryOperator::Minus
                    | BinaryOperator::Multiply
                    | BinaryOperator::Divide
                    | BinaryOperator::Modulo,
                right,
            } => wider(inner(left)?, inner(right)?),
            Expr::Cast {
                data_type,
                format: None,
                ..
            } => of_cast(data_type),
            Expr::Case {
                conditions,
                else_result,
                ..
            } => {
                let results = conditions.iter().map(|when| &when.result);
                common(results.chain(else_result.as_deref()), inner)
            }
            Expr::Function(function) => self.of_function(function, scope, depth),
            other => self.typed(other, scope).map(|typed| typed.oid),
        }
    }

    fn of_function(&self, function: &Function, scope: &Scope<'_>, depth: usize) -> Option<u32> {
        let FunctionArguments::List(list) = &function.args else {
            return None;
        };
        let (schema, name) = schema_and_name(&function.name)?;
        let arguments: Option<Vec<&Expr>> = list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
                _ => None,
            })
            .collect();
        let arguments = arguments?;
        let inner = |expr: &Expr| self.inferred_at(expr, scope, depth + 1);
        if schema.is_none() && name == "coalesce" {
            return common(arguments.into_iter(), inner);
        }
        let plain = function.over.is_none() && function.filter.is_none();
        if !plain || !self.is_system(function, None) {
            return None;
        }
        match (name.as_str(), arguments.as_slice()) {
            ("date_trunc", [_, of]) => {
                inner(of).filter(|oid| matches!(*oid, TIMESTAMP | TIMESTAMPTZ))
            }
            ("date", [of]) => inner(of)
                .filter(|oid| matches!(*oid, DATE | TIMESTAMP | TIMESTAMPTZ))
                .map(|_| DATE),
            _ => None,
        }
    }
}

/// The type of CASE and COALESCE: NULLs aside.
fn common<'e>(
    exprs: impl Iterator<Item = &'e Expr>,
    inferred: impl Fn(&Expr) -> Option<u32>,
) -> Option<u32> {
    let mut found: Option<u32> = None;
    for expr in exprs {
        let null = matches!(unwrap(expr), Expr::Value(value) if value.value == Value::Null);
        if null {
            continue;
        }
        let oid = inferred(expr)?;
        found = Some(match found {
            None => oid,
            Some(before) if before == oid => oid,
            Some(before) => wider(before, oid)?,
        });
    }
    found
}

/// One more than a type's greatest number. Behind a minus it is the least of that type, else it is of the next type.
fn is_edge(expr: &Expr) -> bool {
    let Expr::Value(value) = unwrap(expr) else {
        return false;
    };
    match &value.value {
        Value::Number(digits, _) => {
            let number = digits.parse::<u64>();
            number.is_ok_and(|n| n == 1 << 31 || n == 1 << 63)
        }
        _ => false,
    }
}

fn of_number(digits: &str) -> u32 {
    if digits.parse::<i32>().is_ok() {
        INT4
    } else if digits.parse::<i64>().is_ok() {
        INT8
    } else {
        NUMERIC
    }
}

fn is_number(oid: u32) -> bool {
    matches!(oid, INT2 | INT4 | INT8 | NUMERIC)
}

fn wider(a: u32, b: u32) -> Option<u32> {
    let rank = |oid| [INT2, INT4, INT8, NUMERIC].iter().position(|of| *of == oid);
    Some(if rank(a)? >= rank(b)? { a } else { b })
}

fn of_cast(data_type: &DataType) -> Option<u32> {
    match data_type {
        DataType::Numeric(_) | DataType::Decimal(_) => Some(NUMERIC),
        DataType::BigInt(None) | DataType::Int8(None) => Some(INT8),
        DataType::Integer(None) | DataType::Int(None) | DataType::Int4(None) => Some(INT4),
        DataType::SmallInt(None) | DataType::Int2(None) => Some(INT2),
        DataType::Date => Some(DATE),
        _ => None,
    }
}
