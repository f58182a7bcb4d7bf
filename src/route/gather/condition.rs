//! What is known of a column's values, as SQL for the shard that is read. Only what means there what it means in the statement.

use crate::route::{ColumnValues, ParamValue, ValueSource, Values};
use crate::shard::{KeyType, KeyValue};
use crate::sql::array;
use crate::sql::filter::{Filter, FilterPart, Form, Groups, Known, Partner, is_plain_number};
use crate::sql::name::quote_ident;
use crate::sql::statement::Limit;

/// What is known of a table's rows; None where nothing can be written of it.
pub fn of(known: &Known, values: &dyn Values) -> Option<String> {
    said(known, &Place::default(), values)
}

/// That a row has these beside it.
pub fn beside(partners: &[Partner], values: &dyn Values) -> Vec<String> {
    let place = Place::default();
    let all = partners.iter();
    all.filter_map(|p| partner(p, &place, values)).collect()
}

/// How columns are named: bare in the outermost query, with the name of their table in those within.
#[derive(Default)]
struct Place {
    depth: usize,
}

impl Place {
    fn column(&self, name: &str) -> String {
        let column = quote_ident(name);
        match self.depth {
            0 => column,
            depth => format!("pgshunt_{depth}.{column}"),
        }
    }
}

fn said(known: &Known, place: &Place, values: &dyn Values) -> Option<String> {
    let columns = known.values.iter().filter_map(|c| one_of(c, place, values));
    let filters = known
        .filters
        .iter()
        .filter_map(|f| filter(f, place, values));
    let partners = known
        .partners
        .iter()
        .filter_map(|p| partner(p, place, values));
    let all: Vec<String> = columns.chain(filters).chain(partners).collect();
    (!all.is_empty()).then(|| all.join(" AND "))
}

fn partner(partner: &Partner, place: &Place, values: &dyn Values) -> Option<String> {
    let inner = Place {
        depth: place.depth + 1,
    };
    let condition = match &partner.groups {
        None => format!("WHERE {}", said(&partner.known, &inner, values)?),
        Some(groups) => of_groups(groups, &inner, values)?,
    };
    let ours: Vec<String> = partner.pairs.iter().map(|(a, _)| place.column(a)).collect();
    let theirs: Vec<String> = partner.pairs.iter().map(|(_, b)| inner.column(b)).collect();
    Some(format!(
        "({}) IN (SELECT {} FROM {} AS pgshunt_{} {condition})",
        ours.join(", "),
        theirs.join(", "),
        partner.table.quoted(),
        inner.depth
    ))
}

fn of_groups(groups: &Groups, place: &Place, values: &dyn Values) -> Option<String> {
    let only = match &groups.only {
        Some(only) => format!("WHERE {} ", filter(only, place, values)?),
        None => String::new(),
    };
    let by: Vec<String> = groups
        .by
        .iter()
        .map(|column| place.column(column))
        .collect();
    let having = filter(&groups.having, place, values)?;
    Some(format!("{only}GROUP BY {} HAVING {having}", by.join(", ")))
}

fn filter(filter: &Filter, place: &Place, values: &dyn Values) -> Option<String> {
    let mut said = String::new();
    for part in &filter.parts {
        match part {
            FilterPart::Text(text) => said.push_str(text),
            FilterPart::Column(name) => said.push_str(&place.column(name)),
            FilterPart::Value { source, form } => said.push_str(&formed(source, *form, values)?),
        }
    }
    Some(said)
}

/// A value that has the form it needs: one that the servers would refuse is not asked for.
fn formed(source: &ValueSource, form: Form, values: &dyn Values) -> Option<String> {
    let literal = match source {
        ValueSource::Slot(n) => Some(std::str::from_utf8(values.slot(*n)?).ok()?),
        _ => None,
    };
    let type_oid = match form {
        Form::Number { most } => {
            let text = literal?;
            let digits = text.strip_prefix('-').unwrap_or(text);
            return is_plain_number(digits, most).then(|| text.to_owned());
        }
        Form::Pattern => 25,
        Form::Of(1042) => 25,
        Form::Of(type_oid) => type_oid,
    };
    if let Some(text) = literal {
        let inner = text
            .strip_prefix('\'')
            .and_then(|text| text.strip_suffix('\''));
        let inner = match inner {
            Some(inner) if !inner.contains('\\') => inner.replace("''", "'"),
            Some(_) => return None,
            None if is_integer(type_oid) || type_oid == 1700 => text.to_owned(),
            None => return None,
        };
        let valid = KeyType::of_oid(type_oid)?.parse_text(inner.as_bytes());
        valid.ok()?;
    }
    Some(value_text(source, type_oid, values)?.unwrap_or_else(|| "NULL".to_owned()))
}

/// `"column" IN (…)` and the like; None where a value cannot be written with certainty.
fn one_of(column: &ColumnValues, place: &Place, values: &dyn Values) -> Option<String> {
    let name = place.column(&column.column);
    let text = |source: &ValueSource| value_text(source, column.type_oid, values);
    let (mut single, mut alternatives) = (Vec::new(), Vec::new());
    for source in &column.values {
        match source {
            ValueSource::Between(limits) => {
                let limit = |l: &Limit| {
                    let value = text(&l.value)?.unwrap_or_else(|| "NULL".to_owned());
                    Some(format!("{name} {} {value}", l.operator()))
                };
                let limits: Option<Vec<String>> = limits.iter().map(limit).collect();
                alternatives.push(limits?.join(" AND "));
            }
            ValueSource::ArraySlot(_) | ValueSource::ArrayParam(_) => {
                let array = text(source)?.unwrap_or_else(|| "NULL".to_owned());
                alternatives.push(format!("{name} = ANY ({array})"));
            }
            source => single.extend(text(source)?),
        }
    }
    if !single.is_empty() {
        alternatives.push(format!("{name} IN ({})", single.join(", ")));
    }
    Some(match alternatives.as_slice() {
        [] => "false".to_owned(),
        [one] => one.clone(),
        several => format!("({})", several.join(" OR ")),
    })
}

/// One value as SQL; Some(None) for NULL, which equals nothing.
fn value_text(source: &ValueSource, type_oid: u32, values: &dyn Values) -> Option<Option<String>> {
    match source {
        ValueSource::Slot(n) | ValueSource::ArraySlot(n) => {
            let text = std::str::from_utf8(values.slot(*n)?).ok()?;
            is_steady(text, type_oid).then(|| Some(text.to_owned()))
        }
        ValueSource::Fixed(KeyValue::Int(value)) => Some(Some(value.to_string())),
        ValueSource::Fixed(KeyValue::Text(text)) if text.is_ascii() => quoted(text),
        ValueSource::Param(n) => match values.param(*n)? {
            ParamValue::Null => Some(None),
            // the parameter's type may be wider than the column's
            ParamValue::Text(text) if is_integer(type_oid) => {
                let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
                Some(Some(number.to_string()))
            }
            ParamValue::Text(text) => {
                let steady = is_steady(std::str::from_utf8(text).ok()?, type_oid);
                steady.then(|| quoted(text))?
            }
            ParamValue::Binary(oid, bytes) => binary(oid, bytes, type_oid),
        },
        ValueSource::Fixed(value) => fixed(value, type_oid).map(Some),
        ValueSource::ArrayParam(n) => match values.param(*n)? {
            ParamValue::Null => Some(None),
            ParamValue::Text(text) => {
                let steady = is_steady(std::str::from_utf8(text).ok()?, type_oid);
                let array = steady.then(|| quoted(text))??;
                if !is_integer(type_oid) {
                    return Some(array);
                }
                // their own type is not known here
                let integers = array::parse_text(text)?
                    .into_iter()
                    .flatten()
                    .all(|element| {
                        let text = std::str::from_utf8(&element).ok();
                        text.is_some_and(|text| text.parse::<i64>().is_ok())
                    });
                integers.then(|| array.map(|array| array + "::pg_catalog.int8[]"))
            }
            ParamValue::Binary(..) => None,
        },
        ValueSource::Between(_) => None,
    }
}

fn is_integer(type_oid: u32) -> bool {
    matches!(type_oid, 20 | 21 | 23)
}

/// Dates by name (`today`) say another thing a moment later.
fn is_steady(text: &str, type_oid: u32) -> bool {
    let by_name = |byte: u8| byte.is_ascii_alphabetic() && !matches!(byte, b'T' | b'Z');
    !matches!(type_oid, 1082 | 1114 | 1184) || !text.bytes().any(by_name)
}

/// A value known when the statement was planned, where its text means the same under all settings.
fn fixed(value: &KeyValue, type_oid: u32) -> Option<String> {
    let shown = value.to_string();
    // years of four digits after Christ
    let plain = shown.as_bytes().get(4) == Some(&b'-') && !shown.ends_with("BC");
    match (value, type_oid) {
        (KeyValue::Date(_), _) if plain => Some(format!("'{shown}'::pg_catalog.date")),
        (KeyValue::Timestamp(_), 1114) if plain => Some(format!("'{shown}'::pg_catalog.timestamp")),
        (KeyValue::Timestamp(_), 1184) if plain => {
            Some(format!("'{shown}+00'::pg_catalog.timestamptz"))
        }
        (KeyValue::Numeric(_), _) if shown.bytes().all(|b| b.is_ascii_digit() || b == b'.') => {
            Some(shown)
        }
        (KeyValue::Uuid(_), _) => Some(format!("'{shown}'::pg_catalog.uuid")),
        _ => None,
    }
}

fn quoted(text: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(text).ok()?;
    // a backslash means what the session's settings say
    (!text.contains('\\')).then(|| Some(format!("'{}'", text.replace('\'', "''"))))
}

fn binary(oid: u32, bytes: &[u8], type_oid: u32) -> Option<Option<String>> {
    let integer = is_integer;
    let text = |oid| matches!(oid, 25 | 1043);
    if text(type_oid) && (oid == 0 || text(oid)) {
        return quoted(bytes);
    }
    if !integer(type_oid) || !(oid == 0 || integer(oid)) {
        return None;
    }
    let number = match bytes {
        [_, _] => i64::from(i16::from_be_bytes(bytes.try_into().ok()?)),
        [_, _, _, _] => i64::from(i32::from_be_bytes(bytes.try_into().ok()?)),
        _ => i64::from_be_bytes(bytes.try_into().ok()?),
    };
    Some(Some(number.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::End;

    struct Given;

    impl Values for Given {
        fn slot(&self, n: usize) -> Option<&[u8]> {
            [&b"5"[..], b"'{1,2}'"].get(n).copied()
        }

        fn param(&self, n: usize) -> Option<ParamValue<'_>> {
            Some(match n {
                1 => ParamValue::Null,
                2 => ParamValue::Text(b"it's"),
                _ => ParamValue::Binary(20, b"\0\0\0\0\0\0\0\x07"),
            })
        }
    }

    fn condition(type_oid: u32, values: &[ValueSource]) -> Option<String> {
        let column = ColumnValues {
            column: "c".to_owned(),
            type_oid,
            values: values.to_vec(),
        };
        one_of(&column, &Place::default(), &Given)
    }

    fn between(limits: &[(End, bool, ValueSource)]) -> ValueSource {
        let limit = |(end, inclusive, value): &(End, bool, ValueSource)| Limit {
            end: *end,
            inclusive: *inclusive,
            value: value.clone(),
        };
        ValueSource::Between(limits.iter().map(limit).collect())
    }

    #[test]
    fn ranges_and_values_are_alternatives() {
        let range = between(&[
            (End::Low, true, ValueSource::Slot(0)),
            (End::High, false, ValueSource::Param(3)),
        ]);
        let said = condition(20, std::slice::from_ref(&range));
        assert_eq!(said.as_deref(), Some("\"c\" >= 5 AND \"c\" < 7"));
        let several = [range, ValueSource::Slot(0), ValueSource::ArraySlot(1)];
        let said = condition(20, &several);
        let expected = "(\"c\" >= 5 AND \"c\" < 7 OR \"c\" = ANY ('{1,2}') OR \"c\" IN (5))";
        assert_eq!(said.as_deref(), Some(expected));
    }

    #[test]
    fn null_is_in_no_range() {
        let range = between(&[(End::Low, true, ValueSource::Param(1))]);
        let said = condition(25, &[range, ValueSource::Param(2)]);
        let expected = "(\"c\" >= NULL OR \"c\" IN ('it''s'))";
        assert_eq!(said.as_deref(), Some(expected));
        assert_eq!(condition(20, &[]).as_deref(), Some("false"));
    }

    #[test]
    fn days_by_name_are_not_asked_for() {
        assert!(is_steady("'2024-02-29T12:00:00Z'", 1184));
        assert!(!is_steady("'now'", 1184) && !is_steady("'today'", 1082));
        assert!(is_steady("'now'", 25));
    }

    #[test]
    fn values_fixed_by_the_plan_are_written_with_their_type() {
        let fixed = |t: KeyType, text: &str| {
            let value = t.parse_text(text.as_bytes()).unwrap();
            condition(t.oid(), &[ValueSource::Fixed(value)])
        };
        let said = |t, text| fixed(t, text).unwrap_or_default();
        assert_eq!(
            said(KeyType::Date, "2024-02-29"),
            "\"c\" IN ('2024-02-29'::pg_catalog.date)"
        );
        assert_eq!(
            said(KeyType::TimestampTz, "2024-02-29 12:00:00.5+02"),
            "\"c\" IN ('2024-02-29 10:00:00.5+00'::pg_catalog.timestamptz)"
        );
        assert_eq!(said(KeyType::Numeric, "1.50"), "\"c\" IN (1.5)");
        assert_eq!(fixed(KeyType::Date, "0044-03-15 BC"), None);
        assert_eq!(fixed(KeyType::Numeric, "NaN"), None);
    }
}
