//! Groups put together from partial results: one entry a group, each aggregate folded as its rows come.

use super::decimal::Decimal;
use super::key::{boolean, integer, row_key, value_key};
use super::row::{Formats, Row};
use super::{Run, Trouble};
use crate::route::combine::{Aggregate, Fold, Place};
use std::collections::HashMap;
use std::sync::Arc;

/// Of an entry and of a column besides their bytes, about.
const ENTRY: usize = 96;
const COLUMN: usize = 24;

/// A value, or NULL.
pub type Column = Option<Box<[u8]>>;

pub struct Groups {
    run: Arc<Run>,
    places: HashMap<Box<[u8]>, usize, foldhash::fast::RandomState>,
    entries: Vec<Entry>,
    bytes: usize,
    memory_max: usize,
}

struct Entry {
    /// of the first row, and of those that min() and max() chose
    columns: Vec<Column>,
    states: Vec<State>,
}

/// None: nothing but NULLs so far.
enum State {
    Integer(Option<i128>),
    Decimal(Option<Decimal>),
    Average(Option<Decimal>, i64),
    /// the key of the row that was chosen
    Chosen(Option<Vec<u8>>),
    Boolean(Option<bool>),
    /// and how many bytes wide
    Bits(Option<i64>, usize),
}

impl Groups {
    #[must_use]
    pub fn new(run: Arc<Run>, memory_max: usize) -> Self {
        Self {
            run,
            places: HashMap::default(),
            entries: Vec::new(),
            bytes: 0,
            memory_max,
        }
    }

    /// What it holds in memory, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// One partial result.
    pub fn take(&mut self, frame: &[u8]) -> Result<(), Trouble> {
        let run = self.run.clone();
        let Some(groups) = &run.made.groups else {
            return Err(Trouble::Unreadable);
        };
        let row = Row::read(frame)?;
        let mut key = Vec::with_capacity(32);
        for place in &groups.keys {
            let column = row.columns[row.index(*place, run.made.hidden)?];
            match column {
                None => key.push(0),
                Some(value) => {
                    key.push(1);
                    key.extend_from_slice(&value.len().to_be_bytes());
                    key.extend_from_slice(value);
                }
            }
        }
        let at = match self.places.get(key.as_slice()) {
            Some(at) => *at,
            None => self.begin(key, &row, &groups.aggregates)?,
        };
        let entry = self.entries.get_mut(at).ok_or(Trouble::Unreadable)?;
        for (aggregate, state) in groups.aggregates.iter().zip(&mut entry.states) {
            let chosen = state.fold(aggregate, &row, run.made.hidden, &run.formats)?;
            if chosen {
                choose(aggregate, &row, run.made.hidden, &mut entry.columns)?;
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        key: Vec<u8>,
        row: &Row<'_>,
        aggregates: &[Aggregate],
    ) -> Result<usize, Trouble> {
        let of = |column: Option<&[u8]>| column.map_or(0, <[u8]>::len) + COLUMN;
        let columns: usize = row.columns.iter().copied().map(of).sum();
        self.bytes += key.len() + columns + ENTRY + aggregates.len() * ENTRY;
        if self.bytes > self.memory_max {
            return Err(Trouble::TooMuch(self.memory_max));
        }
        let own = |column: Option<&[u8]>| column.map(Box::from);
        self.entries.push(Entry {
            columns: row.columns.iter().copied().map(own).collect(),
            states: aggregates.iter().map(|a| State::new(a.fold)).collect(),
        });
        let at = self.entries.len() - 1;
        self.places.insert(key.into(), at);
        Ok(at)
    }

    /// All groups, in order, without their hidden columns.
    pub fn finish(self) -> Result<Vec<Vec<Column>>, Trouble> {
        let made = &self.run.made;
        let formats = &self.run.formats;
        let Some(groups) = &made.groups else {
            return Err(Trouble::Unreadable);
        };
        let mut rows = Vec::with_capacity(self.entries.len());
        for mut entry in self.entries {
            for (aggregate, state) in groups.aggregates.iter().zip(entry.states) {
                let width = entry.columns.len();
                let at = index(aggregate.place, made.hidden, width)?;
                if let Some(value) = state.result(formats.is_binary(at))? {
                    entry.columns[at] = value.map(Vec::into_boxed_slice);
                }
            }
            let mut key = Vec::new();
            if !made.order.is_empty() {
                let row = Row {
                    columns: entry.columns.iter().map(Option::as_deref).collect(),
                };
                row_key(&row, &made.order, made.hidden, formats, &mut key)?;
            }
            let kept = entry.columns.len().saturating_sub(made.hidden);
            entry.columns.truncate(kept);
            rows.push((key, entry.columns));
        }
        if !made.order.is_empty() {
            rows.sort_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(rows.into_iter().map(|(_, columns)| columns).collect())
    }
}

fn index(place: Place, hidden: usize, width: usize) -> Result<usize, Trouble> {
    let visible = width.checked_sub(hidden).ok_or(Trouble::Unreadable)?;
    let at = match place {
        Place::Visible(at) if at < visible => at,
        Place::Hidden(at) if at < hidden => visible + at,
        _ => return Err(Trouble::Unreadable),
    };
    Ok(at)
}

/// This row's value is the one to show, with the one it was compared by.
fn choose(
    aggregate: &Aggregate,
    row: &Row<'_>,
    hidden: usize,
    columns: &mut [Column],
) -> Result<(), Trouble> {
    let (Fold::Least(source) | Fold::Greatest(source)) = aggregate.fold else {
        return Ok(());
    };
    for place in [aggregate.place, source.place] {
        let at = row.index(place, hidden)?;
        let column = columns.get_mut(at).ok_or(Trouble::Unreadable)?;
        *column = row.columns[at].map(Box::from);
    }
    Ok(())
}

impl State {
    fn new(fold: Fold) -> Self {
        match fold {
            Fold::AddInteger => Self::Integer(None),
            Fold::AddNumeric => Self::Decimal(None),
            Fold::Average { .. } => Self::Average(None, 0),
            Fold::Least(_) | Fold::Greatest(_) => Self::Chosen(None),
            Fold::And | Fold::Or => Self::Boolean(None),
            Fold::BitAnd | Fold::BitOr | Fold::BitXor => Self::Bits(None, 8),
        }
    }

    /// True when the row's own value is to be shown from now on.
    fn fold(
        &mut self,
        aggregate: &Aggregate,
        row: &Row<'_>,
        hidden: usize,
        formats: &Formats,
    ) -> Result<bool, Trouble> {
        let at = row.index(aggregate.place, hidden)?;
        let (value, binary) = (row.columns[at], formats.is_binary(at));
        match (self, aggregate.fold) {
            (Self::Average(sum, count), fold) => average(sum, count, fold, row, hidden, formats)?,
            (Self::Chosen(best), Fold::Least(source) | Fold::Greatest(source)) => {
                let Some(key) = value_key(row, source, hidden, formats)? else {
                    return Ok(false);
                };
                let least = matches!(aggregate.fold, Fold::Least(_));
                let better = best
                    .as_ref()
                    .is_none_or(|best| if least { key < *best } else { key > *best });
                if better {
                    *best = Some(key);
                }
                return Ok(better);
            }
            (state, fold) => {
                if let Some(value) = value {
                    state.add(fold, value, binary)?;
                }
            }
        }
        Ok(false)
    }

    fn add(&mut self, fold: Fold, value: &[u8], binary: bool) -> Result<(), Trouble> {
        match self {
            Self::Integer(sum) => {
                *sum = Some(sum.unwrap_or(0) + i128::from(integer(value, binary)?));
            }
            Self::Decimal(sum) => add(sum, Decimal::read(value, binary)?),
            Self::Boolean(so_far) => {
                let value = boolean(value, binary)?;
                let before = so_far.unwrap_or(value);
                *so_far = Some(match fold {
                    Fold::And => before & value,
                    _ => before | value,
                });
            }
            Self::Bits(so_far, width) => {
                let bits = integer(value, binary)?;
                *width = value.len();
                *so_far = Some(match (*so_far, fold) {
                    (None, _) => bits,
                    (Some(before), Fold::BitAnd) => before & bits,
                    (Some(before), Fold::BitOr) => before | bits,
                    (Some(before), _) => before ^ bits,
                });
            }
            Self::Average(..) | Self::Chosen(_) => {}
        }
        Ok(())
    }

    /// The column's value; None where it stays what was chosen.
    #[allow(clippy::type_complexity, reason = "a value, or NULL, or neither")]
    fn result(self, binary: bool) -> Result<Option<Option<Vec<u8>>>, Trouble> {
        Ok(Some(match self {
            Self::Chosen(_) => return Ok(None),
            Self::Integer(None) | Self::Decimal(None) | Self::Boolean(None) => None,
            Self::Bits(None, _) | Self::Average(None, _) | Self::Average(_, 0) => None,
            Self::Integer(Some(sum)) => {
                let sum = i64::try_from(sum).map_err(|_| Trouble::OutOfRange)?;
                Some(written(sum, binary, 8))
            }
            Self::Decimal(Some(sum)) => Some(sum.write(binary)),
            Self::Average(Some(sum), count) => Some(sum.divided_by(count).write(binary)),
            Self::Boolean(Some(value)) if binary => Some(vec![u8::from(value)]),
            Self::Boolean(Some(value)) => Some(if value { b"t" } else { b"f" }.to_vec()),
            Self::Bits(Some(bits), width) => Some(written(bits, binary, width)),
        }))
    }
}

fn add(sum: &mut Option<Decimal>, value: Decimal) {
    *sum = Some(match sum.take() {
        None => value,
        Some(before) => before.plus(&value),
    });
}

fn average(
    sum: &mut Option<Decimal>,
    count: &mut i64,
    fold: Fold,
    row: &Row<'_>,
    hidden: usize,
    formats: &Formats,
) -> Result<(), Trouble> {
    let Fold::Average {
        sum: source,
        count: place,
    } = fold
    else {
        return Err(Trouble::Unreadable);
    };
    let at = row.index(source.place, hidden)?;
    if let Some(value) = row.columns[at] {
        let binary = formats.is_binary(at);
        let value = match source.reading {
            crate::route::combine::Reading::Integer => {
                Decimal::from_integer(integer(value, binary)?)
            }
            _ => Decimal::read(value, binary)?,
        };
        add(sum, value);
    }
    let at = row.index(place, hidden)?;
    let rows = row.columns[at].ok_or(Trouble::Unreadable)?;
    *count = count.saturating_add(integer(rows, formats.is_binary(at))?);
    Ok(())
}

/// An integer of so many bytes in its binary format.
fn written(value: i64, binary: bool, width: usize) -> Vec<u8> {
    if !binary {
        return value.to_string().into_bytes();
    }
    let bytes = value.to_be_bytes();
    bytes[8_usize.saturating_sub(width)..].to_vec()
}
