//! A small typed table, and how it becomes rows of the wire in text or binary. It does not know what is in it.

use pgwire::api::Type;
use pgwire::api::results::{DataRowEncoder, FieldFormat, FieldInfo, QueryResponse};
use pgwire::error::PgWireResult;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    Bool,
    Int4,
    Int8,
    Float8,
    Text,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub name: Cow<'static, str>,
    pub kind: ColumnType,
}

/// A cell of another kind than its column's is shown as NULL.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    Null,
    Bool(bool),
    Int4(i32),
    Int8(i64),
    Float8(f64),
    Text(String),
}

pub type Row = Vec<Cell>;

impl ColumnType {
    fn wire(self) -> (Type, i16) {
        match self {
            Self::Bool => (Type::BOOL, 1),
            Self::Int4 => (Type::INT4, 4),
            Self::Int8 => (Type::INT8, 8),
            Self::Float8 => (Type::FLOAT8, 8),
            Self::Text => (Type::TEXT, -1),
        }
    }
}

impl Column {
    #[must_use]
    pub const fn of(name: &'static str, kind: ColumnType) -> Self {
        Self {
            name: Cow::Borrowed(name),
            kind,
        }
    }
}

/// The description of the columns, each in the format the client asked for.
#[must_use]
pub fn fields(columns: &[Column], format: impl Fn(usize) -> FieldFormat) -> Vec<FieldInfo> {
    let field = |(at, column): (usize, &Column)| {
        let (kind, size) = column.kind.wire();
        FieldInfo::new(column.name.to_string(), None, None, kind, format(at)).with_type_size(size)
    };
    columns.iter().enumerate().map(field).collect()
}

pub fn response(
    columns: &[Column],
    rows: Vec<Row>,
    format: impl Fn(usize) -> FieldFormat,
) -> PgWireResult<QueryResponse> {
    let schema = Arc::new(fields(columns, format));
    let mut encoder = DataRowEncoder::new(Arc::clone(&schema));
    let mut encoded = Vec::with_capacity(rows.len());
    for row in &rows {
        for (at, column) in columns.iter().enumerate() {
            encode(
                &mut encoder,
                column.kind,
                row.get(at).unwrap_or(&Cell::Null),
            )?;
        }
        encoded.push(Ok(encoder.take_row()));
    }
    Ok(QueryResponse::new(schema, futures::stream::iter(encoded)))
}

fn encode(encoder: &mut DataRowEncoder, kind: ColumnType, cell: &Cell) -> PgWireResult<()> {
    match (kind, cell) {
        (ColumnType::Bool, Cell::Bool(value)) => encoder.encode_field(value),
        (ColumnType::Int4, Cell::Int4(value)) => encoder.encode_field(value),
        (ColumnType::Int8, Cell::Int8(value)) => encoder.encode_field(value),
        (ColumnType::Float8, Cell::Float8(value)) => encoder.encode_field(value),
        (ColumnType::Text, Cell::Text(value)) => encoder.encode_field(value),
        _ => encoder.encode_field(&None::<String>),
    }
}

impl From<bool> for Cell {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self::Int8(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Int8(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Cell {
    fn from(value: u32) -> Self {
        Self::Int8(value.into())
    }
}

impl From<i32> for Cell {
    fn from(value: i32) -> Self {
        Self::Int8(value.into())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// Milliseconds, to the microsecond.
#[must_use]
pub fn ms(duration: impl Into<Option<Duration>>) -> Cell {
    let rounded = |d: Duration| Cell::Float8((d.as_secs_f64() * 1e6).round() / 1e3);
    duration.into().map_or(Cell::Null, rounded)
}

/// Seconds, to the millisecond.
#[must_use]
pub fn seconds(duration: impl Into<Option<Duration>>) -> Cell {
    let rounded = |d: Duration| Cell::Float8((d.as_secs_f64() * 1e3).round() / 1e3);
    duration.into().map_or(Cell::Null, rounded)
}
