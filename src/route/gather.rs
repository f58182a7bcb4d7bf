//! What has to be brought together in a scratch database before a statement can run there: which columns of which tables,
//! and from where. Plain data.

use super::{ColumnValues, ParamValue, ValueSource, Values};
use crate::catalog::QualifiedName;
use crate::shard::KeyValue;
use std::fmt;

#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// in the order in which they are read
    pub tables: Vec<Gathered>,
    /// views that the statement names: the client needs the right to read them, too
    pub views: Vec<QualifiedName>,
    /// a table among them is not the same on a replica
    pub primary_only: bool,
    /// what keeps the shards from answering for themselves
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    pub table: QualifiedName,
    /// those the statement may look at, and the primary key
    pub columns: Vec<String>,
    /// fewer than the table has
    pub partly: bool,
    pub source: Source,
    /// only rows with these values matter
    pub only: Vec<ColumnValues>,
}

/// Which shards hold the rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// each of the statement's shards has some
    Sharded,
    /// every shard has all of them
    Reference,
    Home,
}

impl Gather {
    /// What is asked of the rows of each table, as SQL; None for all of them.
    #[must_use]
    pub fn conditions(&self, values: &dyn Values) -> Vec<Option<String>> {
        self.tables.iter().map(|t| t.condition(values)).collect()
    }
}

impl Gathered {
    fn condition(&self, values: &dyn Values) -> Option<String> {
        let known: Vec<String> = self
            .only
            .iter()
            .filter_map(|column| column_condition(column, values))
            .collect();
        (!known.is_empty()).then(|| known.join(" AND "))
    }
}

/// `"column" IN (…)`; None where a value cannot be written with certainty.
fn column_condition(column: &ColumnValues, values: &dyn Values) -> Option<String> {
    let mut texts = Vec::new();
    for source in &column.values {
        if let Some(text) = value_text(source, column.type_oid, values)? {
            texts.push(text);
        }
    }
    if texts.is_empty() {
        return Some("false".to_owned());
    }
    let name = column.column.replace('"', "\"\"");
    Some(format!("\"{name}\" IN ({})", texts.join(", ")))
}

/// One value as SQL; Some(None) for NULL, which equals nothing.
fn value_text(source: &ValueSource, type_oid: u32, values: &dyn Values) -> Option<Option<String>> {
    match source {
        ValueSource::Slot(n) => {
            let text = std::str::from_utf8(values.slot(*n)?).ok()?;
            Some(Some(text.to_owned()))
        }
        ValueSource::Fixed(KeyValue::Int(value)) => Some(Some(value.to_string())),
        ValueSource::Fixed(KeyValue::Text(text)) if text.is_ascii() => quoted(text),
        ValueSource::Param(n) => match values.param(*n)? {
            ParamValue::Null => Some(None),
            ParamValue::Text(text) => quoted(text),
            ParamValue::Binary(oid, bytes) => binary(oid, bytes, type_oid),
        },
        ValueSource::Fixed(_) | ValueSource::ArrayParam(_) | ValueSource::ArraySlot(_) => None,
    }
}

fn quoted(text: &[u8]) -> Option<Option<String>> {
    let text = std::str::from_utf8(text).ok()?;
    // a backslash means what the session's settings say
    (!text.contains('\\')).then(|| Some(format!("'{}'", text.replace('\'', "''"))))
}

fn binary(oid: u32, bytes: &[u8], type_oid: u32) -> Option<Option<String>> {
    let integer = |oid| matches!(oid, 20 | 21 | 23);
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

impl fmt::Display for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        write!(f, "gathered: {}", tables.join("; "))
    }
}

impl fmt::Display for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table.schema != "public" {
            write!(f, "{}.", self.table.schema)?;
        }
        f.write_str(&self.table.name)?;
        if self.partly {
            write!(f, "({})", self.columns.join(", "))?;
        }
        for (n, column) in self.only.iter().enumerate() {
            let values: Vec<String> = column.values.iter().map(ToString::to_string).collect();
            let word = if n == 0 { "where" } else { "and" };
            write!(f, " {word} {} = {}", column.column, values.join(" | "))?;
        }
        f.write_str(match self.source {
            Source::Sharded => "",
            Source::Reference => " from one shard",
            Source::Home => " from home",
        })
    }
}
