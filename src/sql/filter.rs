//! What holds for the rows of a table that matter to a statement, in a form that can be asked where these rows are. Plain data:
//! found by the analysis, kept by the plan, written as SQL with the values of an execution by `route::gather`.

use crate::catalog::QualifiedName;
use crate::sql::statement::{ColumnValues, ValueSource};
use std::fmt;

/// All that is known of the rows of one use of a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// each of these columns has one of its values
    pub values: Vec<ColumnValues>,
    pub filters: Vec<Filter>,
    pub partners: Vec<Partner>,
}

/// A condition on the columns of one table that means the same on its shard as in the statement, and cannot fail there.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub parts: Vec<FilterPart>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FilterPart {
    Text(String),
    /// of the table, without quotes
    Column(String),
    Value {
        source: ValueSource,
        form: Form,
    },
}

/// What a value has to look like for the condition to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// a value of this type
    Of(u32),
    /// of a LIKE: no escapes
    Pattern,
    /// a number of so many characters, without an exponent
    Number { most: usize },
}

/// Every row that matters has a row of another table beside it, on the same shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Partner {
    pub table: QualifiedName,
    /// pairs of columns that are equal: this table's, the other's
    pub pairs: Vec<(String, String)>,
    /// of the other's rows
    pub known: Known,
    /// and they are of one of the groups that these leave
    pub groups: Option<Groups>,
}

/// Rows of a table, grouped; each group is on one shard.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    pub by: Vec<String>,
    /// these rows only: None for all
    pub only: Option<Filter>,
    /// a condition on the group's aggregates
    pub having: Filter,
}

impl Known {
    /// Any row may matter.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.values.is_empty() && self.filters.is_empty() && self.partners.is_empty()
    }
}

/// Digits, perhaps with a point.
pub fn is_plain_number(digits: &str, most: usize) -> bool {
    let mut bytes = digits.bytes();
    let plain = bytes.all(|byte| byte.is_ascii_digit() || byte == b'.');
    plain && digits.len() <= most && digits.bytes().filter(|byte| *byte == b'.').count() < 2
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.iter().map(ToString::to_string);
        let filters = self.filters.iter().map(ToString::to_string);
        let partners = self.partners.iter().map(ToString::to_string);
        let all: Vec<String> = values.chain(filters).chain(partners).collect();
        f.write_str(&all.join(" and "))
    }
}

impl fmt::Display for ColumnValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values: Vec<String> = self.values.iter().map(ToString::to_string).collect();
        let range = |value: &ValueSource| matches!(value, ValueSource::Between(_));
        let is = if self.values.iter().any(range) {
            "in"
        } else {
            "="
        };
        let values = if values.is_empty() {
            "nothing".to_owned()
        } else {
            values.join(" | ")
        };
        write!(f, "{} {is} {values}", self.column)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &self.parts {
            match part {
                FilterPart::Text(text) => f.write_str(text)?,
                FilterPart::Column(name) => f.write_str(name)?,
                FilterPart::Value { source, .. } => write!(f, "{source}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(only) = &self.only {
            write!(f, "where {only} ")?;
        }
        write!(
            f,
            "grouped by {} having {}",
            self.by.join(", "),
            self.having
        )
    }
}

impl fmt::Display for Partner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ours, theirs): (Vec<&str>, Vec<&str>) = self
            .pairs
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .unzip();
        let (ours, theirs) = (ours.join(", "), theirs.join(", "));
        write!(f, "({ours}) in {}({theirs})", self.table.name)?;
        match &self.groups {
            None => write!(f, " where {}", self.known),
            Some(groups) => write!(f, " {groups}"),
        }
    }
}
