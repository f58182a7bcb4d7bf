//! A plan and the values of one execution to shards. Values are read exactly as Postgres would read them; what depends on
//! session settings narrows nothing, what Postgres would refuse goes to a server that words the error.

mod range;

use super::{Command, KeyTuple, ParamValue, Plan, Refusal, Routing, Targets, ValueSource, Values};
use crate::config::Database;
use crate::shard::{KeyError, KeyType, KeyValue, Keyspace, ShardId, ShardSet, Unmapped};
use crate::sql::array;
use crate::wire::sqlstate::SqlState;
use range::between;
use smallvec::SmallVec;
use std::borrow::Cow;

/// More key values in one execution than this are not looked at one by one.
const KEYS_MAX: usize = 100_000;

type Found = SmallVec<[KeyValue; 1]>;

/// Why there are no values.
enum Miss {
    /// no shard needs to be left out, none can be
    Ambiguous,
    /// Postgres will refuse it
    Invalid,
    /// NULL where a key is stored
    NullKey,
}

impl From<KeyError> for Miss {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Invalid => Self::Invalid,
            KeyError::Ambiguous => Self::Ambiguous,
        }
    }
}

impl Plan {
    /// The shards this execution is for.
    pub fn resolve(&self, values: &dyn Values, database: &Database) -> Result<Targets, Refusal> {
        match &self.routing {
            Routing::Unsharded => Ok(Targets::One(ShardId(0))),
            Routing::Home => Ok(Targets::One(database.home)),
            Routing::AnyShard | Routing::Local => Ok(Targets::None),
            Routing::AllShards => Ok(all_shards(database)),
            Routing::Hinted(shard) => Ok(Targets::One(*shard)),
            Routing::ByKey { keyspace, tuples } => match database.keyspaces.get(*keyspace) {
                Some(keyspace) => self.by_key(keyspace, tuples, values, database),
                None => Err(Refusal::new(
                    SqlState::INTERNAL_ERROR,
                    "the plan names a keyspace that does not exist".to_owned(),
                    None,
                )),
            },
        }
    }

    fn by_key(
        &self,
        keyspace: &Keyspace,
        tuples: &[KeyTuple],
        values: &dyn Values,
        database: &Database,
    ) -> Result<Targets, Refusal> {
        let execution = Execution {
            values,
            stores: matches!(self.command.explained(), Command::Insert),
            key_lengths: &self.key_lengths,
        };
        let mut shards: SmallVec<[ShardId; 8]> = SmallVec::new();
        for tuple in tuples {
            match execution.tuple_shards(keyspace, tuple, &mut shards) {
                Ok(()) => {}
                Err(Stop::TooLong(most)) => return Err(too_long(most)),
                Err(Stop::Miss(Miss::Ambiguous)) => return Ok(all_shards(database)),
                Err(Stop::Miss(Miss::Invalid)) => return Ok(Targets::One(database.home)),
                Err(Stop::Miss(Miss::NullKey)) => return Err(null_key(&keyspace.name)),
                Err(Stop::Unmapped(message)) => return Err(unmapped(message)),
            }
        }
        shards.sort_unstable();
        shards.dedup();
        Ok(match shards.as_slice() {
            [] => Targets::None,
            [one] => Targets::One(*one),
            _ => Targets::Many(shards),
        })
    }
}

/// The shards that may hold rows with one of these keys; None for all of them.
pub(super) fn narrowed(
    keyspace: &Keyspace,
    tuples: &[KeyTuple],
    values: &dyn Values,
) -> Option<ShardSet> {
    let execution = Execution {
        values,
        stores: false,
        key_lengths: &[],
    };
    let mut shards = ShardSet::new();
    for tuple in tuples {
        execution.tuple_shards(keyspace, tuple, &mut shards).ok()?;
    }
    shards.sort_unstable();
    Some(shards)
}

/// What a plan is executed with.
struct Execution<'a> {
    values: &'a dyn Values,
    /// the keys are those of rows to be stored
    stores: bool,
    /// characters that each key column takes, where it is bounded
    key_lengths: &'a [Option<u32>],
}

impl Execution<'_> {
    fn tuple_shards(
        &self,
        keyspace: &Keyspace,
        tuple: &KeyTuple,
        shards: &mut ShardSet,
    ) -> Result<(), Stop> {
        let (values, stores) = (self.values, self.stores);
        let unmapped = |unmapped: Unmapped| Stop::Unmapped(unmapped.to_string());
        if let ([source], [key_type], []) = (&tuple[..], &keyspace.types[..], self.key_lengths) {
            if let ValueSource::Between(limits) = source {
                let between = between(keyspace, limits, *key_type, values).map_err(Stop::Miss)?;
                between.iter().for_each(|shard| add(shards, *shard));
                return Ok(());
            }
            let found = source_values(source, *key_type, values, stores).map_err(Stop::Miss)?;
            if found.len() > KEYS_MAX {
                return Err(Stop::Miss(Miss::Ambiguous));
            }
            for value in &found {
                let shard = keyspace.locate(std::slice::from_ref(value));
                add(shards, shard.map_err(unmapped)?);
            }
            return Ok(());
        }
        let mut columns: SmallVec<[Found; 1]> = SmallVec::new();
        let mut combinations = 1_usize;
        for (n, (source, key_type)) in tuple.iter().zip(&keyspace.types).enumerate() {
            let found = source_values(source, *key_type, values, stores).map_err(Stop::Miss)?;
            if let Some(most) = self.key_lengths.get(n).copied().flatten()
                && found.iter().any(|value| characters(value) > most as usize)
            {
                return Err(Stop::TooLong(most));
            }
            combinations = combinations.saturating_mul(found.len());
            columns.push(found);
        }
        if combinations > KEYS_MAX {
            return Err(Stop::Miss(Miss::Ambiguous));
        }
        let mut key: SmallVec<[KeyValue; 2]> = SmallVec::new();
        for n in 0..combinations {
            let mut rest = n;
            key.clear();
            for column in &columns {
                key.push(column[rest % column.len()].clone());
                rest /= column.len();
            }
            add(shards, keyspace.locate(&key).map_err(unmapped)?);
        }
        Ok(())
    }
}

fn add(shards: &mut ShardSet, shard: ShardId) {
    if !shards.contains(&shard) {
        shards.push(shard);
    }
}

enum Stop {
    Miss(Miss),
    /// characters that the column takes
    TooLong(u32),
    Unmapped(String),
}

fn all_shards(database: &Database) -> Targets {
    let shards: SmallVec<[ShardId; 8]> = (0..database.shards.len())
        .filter_map(|n| u16::try_from(n).ok())
        .map(ShardId)
        .collect();
    match shards.as_slice() {
        [one] => Targets::One(*one),
        _ => Targets::Many(shards),
    }
}

/// An INSERT without a key, whatever says so.
#[must_use]
pub fn null_key(keyspace: &str) -> Refusal {
    Refusal::new(
        SqlState::NOT_NULL_VIOLATION,
        format!("null value in a shard key of keyspace \"{keyspace}\""),
        Some("A row's key says which shard holds the row: give it a value.".to_owned()),
    )
}

/// Postgres would cut blanks off the end, and then the key is another.
fn too_long(most: u32) -> Refusal {
    Refusal::new(
        SqlState("22001"),
        format!("value too long for type character varying({most})"),
        Some("It is a shard key: also blanks at its end must fit.".to_owned()),
    )
}

fn unmapped(message: String) -> Refusal {
    Refusal::new(
        SqlState::CHECK_VIOLATION,
        message,
        Some("Add a range or list entry for it to the keyspace in the shard map.".to_owned()),
    )
}

/// Of a text; in a client encoding of one byte a character, its bytes.
fn characters(value: &KeyValue) -> usize {
    match value {
        KeyValue::Text(text) => std::str::from_utf8(text).map_or(text.len(), |t| t.chars().count()),
        _ => 0,
    }
}

/// The values of one source; none when nothing equals it.
fn source_values(
    source: &ValueSource,
    key_type: KeyType,
    values: &dyn Values,
    stores: bool,
) -> Result<Found, Miss> {
    match source {
        ValueSource::Fixed(value) => Ok(SmallVec::from_iter([value.clone()])),
        ValueSource::Slot(n) => literal(values.slot(*n).ok_or(Miss::Ambiguous)?, key_type),
        ValueSource::Param(n) => match values.param(*n).ok_or(Miss::Ambiguous)? {
            ParamValue::Null if stores => Err(Miss::NullKey),
            ParamValue::Null => Ok(Found::new()),
            ParamValue::Text(text) => Ok(SmallVec::from_iter([key_type.parse_text(text)?])),
            ParamValue::Binary(oid, bytes) => {
                binary(oid, bytes, key_type).map(|value| SmallVec::from_iter([value]))
            }
        },
        ValueSource::ArraySlot(n) => {
            let text = unquoted(values.slot(*n).ok_or(Miss::Ambiguous)?).ok_or(Miss::Ambiguous)?;
            array_text(&text, key_type)
        }
        ValueSource::ArrayParam(n) => match values.param(*n).ok_or(Miss::Ambiguous)? {
            ParamValue::Null => Ok(Found::new()),
            ParamValue::Text(text) => array_text(text, key_type),
            ParamValue::Binary(25 | 1043, text) => array_text(text, key_type),
            ParamValue::Binary(_, bytes) => {
                let (oid, elements) = array::parse_binary(bytes).ok_or(Miss::Ambiguous)?;
                elements
                    .into_iter()
                    .flatten()
                    .map(|element| binary(oid, element, key_type))
                    .collect()
            }
        },
        // a range is no value; where one stands for several columns, it leaves no shard out
        ValueSource::Between(_) => Err(Miss::Ambiguous),
    }
}

/// A literal as written: a number with its sign, or a quoted string.
fn literal(text: &[u8], key_type: KeyType) -> Result<Found, Miss> {
    if let Some(string) = unquoted(text) {
        return Ok(SmallVec::from_iter([key_type.parse_text(&string)?]));
    }
    let number = if text.iter().any(u8::is_ascii_whitespace) {
        let solid = text.iter().copied().filter(|b| !b.is_ascii_whitespace());
        Cow::Owned(solid.collect())
    } else {
        Cow::Borrowed(text)
    };
    match key_type.parse_text(&number) {
        Ok(value) => Ok(SmallVec::from_iter([value])),
        // an integer out of the type's range: it compares, and equals nothing
        Err(KeyError::Invalid) if is_integer(&number) => Ok(Found::new()),
        Err(error) => Err(error.into()),
    }
}

fn is_integer(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// `'it''s'` without quotes; None when it is not a plain string. Lifting leaves strings with escapes where they are.
fn unquoted(literal: &[u8]) -> Option<Cow<'_, [u8]>> {
    let inner = literal.strip_prefix(b"'")?.strip_suffix(b"'")?;
    if memchr::memchr(b'\'', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut text = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        if byte == b'\'' && bytes.next() != Some(&b'\'') {
            return None;
        }
        text.push(byte);
    }
    Some(Cow::Owned(text))
}

fn array_text(text: &[u8], key_type: KeyType) -> Result<Found, Miss> {
    let elements = array::parse_text(text).ok_or(Miss::Ambiguous)?;
    elements
        .into_iter()
        .flatten()
        .map(|element| key_type.parse_text(&element).map_err(Miss::from))
        .collect()
}

/// A binary parameter by its own type: integers of other widths and texts keep their value.
fn binary(oid: u32, bytes: &[u8], key_type: KeyType) -> Result<KeyValue, Miss> {
    let sent = match oid {
        0 | 705 => Some(key_type),
        25 | 1043 if key_type != KeyType::Text => return Ok(key_type.parse_text(bytes)?),
        _ => KeyType::of_oid(oid),
    };
    let integer = |t| matches!(t, KeyType::SmallInt | KeyType::Integer | KeyType::BigInt);
    match sent {
        Some(sent) if sent == key_type => Ok(key_type.parse_binary(bytes)?),
        Some(sent) if integer(sent) && integer(key_type) => Ok(sent.parse_binary(bytes)?),
        Some(sent) if integer(sent) && key_type == KeyType::Numeric => {
            match sent.parse_binary(bytes)? {
                KeyValue::Int(value) => Ok(key_type.parse_text(value.to_string().as_bytes())?),
                _ => Err(Miss::Ambiguous),
            }
        }
        _ => Err(Miss::Ambiguous),
    }
}

impl Refusal {
    #[must_use]
    pub fn new(code: SqlState, message: String, hint: Option<String>) -> Self {
        Self {
            code,
            message,
            hint,
        }
    }

    /// What is not proven is refused: 0A000 with what would make it work.
    #[must_use]
    pub fn unsupported(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            message.into(),
            Some(hint.into()),
        )
    }
}
