//! Literals, casts of literals and parameters to value sources, where their meaning as a value of the key's type is
//! certain (hazards 11, 12, 14). "Not certain" is None.

use super::Analyzer;
use crate::shard::{KeyError, KeyType};
use crate::sql::parse::offset;
use crate::sql::statement::ValueSource;
use sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType, ExactNumberInfo, Expr, TimezoneInfo, TypedString,
    UnaryOperator, Value, ValueWithSpan,
};

const INTEGERS: [u32; 3] = [20, 21, 23];
const NUMERIC: u32 = 1700;
const TEXTS: [u32; 2] = [25, 1043];

impl Analyzer<'_> {
    /// The values that `column_of_type = expression` allows; empty for NULL, which equals nothing.
    pub(super) fn constant(&mut self, expr: &Expr, type_oid: u32) -> Option<Vec<ValueSource>> {
        KeyType::of_oid(type_oid)?;
        match expr {
            Expr::Nested(inner) => self.constant(inner, type_oid),
            Expr::Value(value) => self.plain(value, type_oid, false),
            Expr::UnaryOp {
                op: UnaryOperator::Minus,
                expr,
            } => match expr.as_ref() {
                Expr::Value(value) if matches!(value.value, Value::Number(..)) => {
                    self.plain(value, type_oid, true)
                }
                _ => None,
            },
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => self.cast(expr, data_type, type_oid),
            Expr::TypedString(TypedString {
                data_type,
                value,
                uses_odbc_syntax: false,
            }) => {
                let to = type_oid_of(data_type)?;
                let same = to == type_oid;
                same.then(|| self.plain(value, type_oid, false))?
            }
            _ => None,
        }
    }

    fn plain(
        &mut self,
        value: &ValueWithSpan,
        type_oid: u32,
        negative: bool,
    ) -> Option<Vec<ValueSource>> {
        let at = offset(value.span)?;
        match &value.value {
            Value::Null => Some(Vec::new()),
            Value::Number(digits, _) => {
                let whole = digits.bytes().all(|byte| byte.is_ascii_digit());
                if !(INTEGERS.contains(&type_oid) && whole || type_oid == NUMERIC) {
                    return None;
                }
                let sign = if negative { "-" } else { "" };
                self.literal(at, negative, type_oid, format!("{sign}{digits}").as_bytes())
            }
            Value::SingleQuotedString(text) if !negative && !text.contains('\u{fffd}') => {
                self.literal(at, false, type_oid, text.as_bytes())
            }
            Value::Placeholder(name) if !negative => self.param(name, at, type_oid),
            _ => None,
        }
    }

    /// A slot where the literal was lifted, else the value itself.
    fn literal(
        &self,
        at: usize,
        negative: bool,
        type_oid: u32,
        text: &[u8],
    ) -> Option<Vec<ValueSource>> {
        if let Some(slot) = self.slot_at(at) {
            let signed = self.env.slots.get(slot).is_some_and(|span| span.start < at);
            return (signed == negative).then(|| vec![ValueSource::Slot(slot)]);
        }
        match KeyType::of_oid(type_oid)?.parse_text(text) {
            Ok(value) => Some(vec![ValueSource::Fixed(value)]),
            // an integer that no value of the column's type equals
            Err(KeyError::Invalid) if INTEGERS.contains(&type_oid) && is_integer(text) => {
                Some(Vec::new())
            }
            Err(_) => None,
        }
    }

    pub(super) fn slot_at(&self, at: usize) -> Option<usize> {
        if self.in_view > 0 {
            return None;
        }
        let before = self.env.slots.partition_point(|slot| slot.start <= at);
        before
            .checked_sub(1)
            .filter(|&slot| self.env.slots.get(slot).is_some_and(|slot| at < slot.end))
    }

    fn param(&mut self, name: &str, at: usize, type_oid: u32) -> Option<Vec<ValueSource>> {
        let n = param_number(name)?;
        self.note_param(n, at, type_oid);
        fits(self.declared(n), type_oid).then(|| vec![ValueSource::Param(n)])
    }

    fn declared(&self, n: usize) -> u32 {
        n.checked_sub(1)
            .and_then(|at| self.env.declared.get(at))
            .copied()
            .unwrap_or(0)
    }

    /// `$n` stands here as a value of this very type.
    pub(super) fn note_param(&mut self, n: usize, at: usize, type_oid: u32) {
        let (places, types) = self.params.entry(n).or_default();
        places.insert(at);
        types.insert(if type_oid == 1043 { 25 } else { type_oid });
    }

    /// Notes the parameter, if it is one, as compared with or assigned to a column of this type.
    pub(super) fn note_if_param(&mut self, expr: &Expr, type_oid: u32) {
        let Expr::Value(value) = expr else { return };
        if let (Value::Placeholder(name), Some(at)) = (&value.value, offset(value.span))
            && let Some(n) = param_number(name)
        {
            self.note_param(n, at, type_oid);
        }
    }

    fn cast(
        &mut self,
        inner: &Expr,
        data_type: &DataType,
        type_oid: u32,
    ) -> Option<Vec<ValueSource>> {
        let to = type_oid_of(data_type)?;
        let family = to == type_oid || TEXTS.contains(&to) && TEXTS.contains(&type_oid);
        let integers = INTEGERS.contains(&to) && INTEGERS.contains(&type_oid);
        if !(family || integers) {
            return None;
        }
        if let Expr::Value(value) = inner
            && let Value::Placeholder(name) = &value.value
        {
            let (n, at) = (param_number(name)?, offset(value.span)?);
            self.note_param(n, at, to);
            let declared = self.declared(n);
            return (fits(declared, to) || TEXTS.contains(&declared))
                .then(|| vec![ValueSource::Param(n)]);
        }
        self.constant(inner, type_oid)
    }

    /// The values of `= ANY (expression)`.
    pub(super) fn array(&mut self, expr: &Expr, type_oid: u32) -> Option<Vec<ValueSource>> {
        KeyType::of_oid(type_oid)?;
        match expr {
            Expr::Nested(inner) => self.array(inner, type_oid),
            Expr::Array(array) => self.constants(&array.elem, type_oid),
            Expr::Value(value) => self.array_value(value, type_oid, false),
            Expr::Cast {
                kind: CastKind::Cast | CastKind::DoubleColon,
                expr,
                data_type,
                format: None,
            } => {
                let DataType::Array(ArrayElemTypeDef::SquareBracket(element, _)) = data_type else {
                    return None;
                };
                let to = type_oid_of(element)?;
                let same = to == type_oid || TEXTS.contains(&to) && TEXTS.contains(&type_oid);
                match expr.as_ref() {
                    _ if !same => None,
                    Expr::Array(array) => self.constants(&array.elem, type_oid),
                    Expr::Value(value) => self.array_value(value, type_oid, true),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    pub(super) fn constants(
        &mut self,
        elements: &[Expr],
        type_oid: u32,
    ) -> Option<Vec<ValueSource>> {
        let mut values = Vec::with_capacity(elements.len());
        let mut all = true;
        for element in elements {
            match self.constant(element, type_oid) {
                Some(found) => values.extend(found),
                None => all = false,
            }
        }
        if !all {
            // the list has another common type, and its parameters with it
            for element in elements {
                self.note_if_param(element, u32::MAX);
            }
        }
        all.then_some(values)
    }

    fn array_value(
        &mut self,
        value: &ValueWithSpan,
        type_oid: u32,
        cast: bool,
    ) -> Option<Vec<ValueSource>> {
        let at = offset(value.span)?;
        match &value.value {
            Value::Null => Some(Vec::new()),
            Value::Placeholder(name) => {
                let n = param_number(name)?;
                // a type of its own, so that an array and a plain use of one parameter do not agree
                self.note_param(n, at, type_oid | 0x8000_0000);
                let declared = self.declared(n);
                let known = element_of(declared).is_some_and(|element| fits(element, type_oid));
                let texts = cast && TEXTS.contains(&declared);
                (declared == 0 || declared == 705 || known || texts)
                    .then(|| vec![ValueSource::ArrayParam(n)])
            }
            Value::SingleQuotedString(text) => {
                if let Some(slot) = self.slot_at(at) {
                    return Some(vec![ValueSource::ArraySlot(slot)]);
                }
                let key_type = KeyType::of_oid(type_oid)?;
                let elements = crate::sql::array::parse_text(text.as_bytes())?;
                let fixed = |text: Vec<u8>| key_type.parse_text(&text).ok().map(ValueSource::Fixed);
                elements.into_iter().flatten().map(fixed).collect()
            }
            _ => None,
        }
    }
}

/// NULL as written, whatever it is cast to.
pub(super) fn is_null(expr: &Expr) -> bool {
    match expr {
        Expr::Nested(inner) | Expr::Cast { expr: inner, .. } => is_null(inner),
        Expr::Value(value) => matches!(value.value, Value::Null),
        _ => false,
    }
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

pub(super) fn param_number(name: &str) -> Option<usize> {
    name.strip_prefix('$')?.parse().ok()
}

/// May a parameter declared so stand for a key of this type, with the key type's own equality?
fn fits(declared: u32, type_oid: u32) -> bool {
    let integer = INTEGERS.contains(&declared);
    match declared {
        0 | 705 => true,
        _ if declared == type_oid => true,
        _ if INTEGERS.contains(&type_oid) || type_oid == NUMERIC => integer,
        _ => TEXTS.contains(&declared) && TEXTS.contains(&type_oid),
    }
}

/// Element type of the built-in array types of key types.
fn element_of(array: u32) -> Option<u32> {
    Some(match array {
        1005 => 21,
        1007 => 23,
        1016 => 20,
        1009 => 25,
        1015 => 1043,
        2951 => 2950,
        1182 => 1082,
        1115 => 1114,
        1185 => 1184,
        1231 => 1700,
        _ => return None,
    })
}

/// Types without modifiers that a key may have: a modifier may change the value.
pub(super) fn type_oid_of(data_type: &DataType) -> Option<u32> {
    Some(match data_type {
        DataType::SmallInt(None) | DataType::Int2(None) => 21,
        DataType::Int(None) | DataType::Integer(None) | DataType::Int4(None) => 23,
        DataType::BigInt(None) | DataType::Int8(None) => 20,
        DataType::Text => 25,
        DataType::Varchar(None) | DataType::CharacterVarying(None) => 1043,
        DataType::Uuid => 2950,
        DataType::Date => 1082,
        DataType::Timestamp(None, TimezoneInfo::None | TimezoneInfo::WithoutTimeZone) => 1114,
        DataType::Timestamp(None, TimezoneInfo::WithTimeZone | TimezoneInfo::Tz) => 1184,
        DataType::Numeric(ExactNumberInfo::None) | DataType::Decimal(ExactNumberInfo::None) => {
            NUMERIC
        }
        _ => return None,
    })
}
