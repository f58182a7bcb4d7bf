//! Keyspaces: every bucket, range and value has one shard, none has two, and none in the middle is forgotten.

use super::build::{Names, Resolver};
use super::database::plural;
use crate::config::error::alternatives;
use crate::config::file::{
    HashFile, HashFunctionFile, KeyspaceFile, ListFile, PlacementFile, RangeFile,
};
use crate::config::place::{At, Place};
use crate::shard::{KeyError, KeyType, KeyValue, Keyspace, KeyspaceKind, ShardId};
use std::collections::HashMap;

const BUCKETS_MAX: u64 = 65_536;
const COLUMNS_MAX: usize = 32;

impl Resolver<'_> {
    pub(super) fn keyspaces(
        &mut self,
        written: &[At<KeyspaceFile>],
        shards: &[&str],
    ) -> Vec<Keyspace> {
        let mut seen = Names::new("keyspace");
        let mut keyspaces = Vec::with_capacity(written.len());
        for keyspace in written.iter().map(|keyspace| &keyspace.value) {
            self.word(&keyspace.name, "a keyspace name");
            seen.note(&keyspace.name, &mut self.problems);
            let types = self.types(keyspace);
            let kind = self.kind(keyspace, &types, shards);
            keyspaces.push(Keyspace {
                name: keyspace.name.value.clone(),
                types,
                kind,
            });
        }
        keyspaces
    }

    fn types(&mut self, written: &KeyspaceFile) -> Vec<KeyType> {
        let names = &written.types.value.0;
        if names.is_empty() || names.len() > COLUMNS_MAX {
            self.problems.add(
                written.types.place,
                plural(names.len(), "type"),
                format!("1 to {COLUMNS_MAX} types"),
            );
        }
        let mut types = Vec::with_capacity(names.len());
        for name in names {
            let key_type = KeyType::of_name(&name.value);
            if key_type.is_none() {
                self.unknown_type(name, written.types.place);
            }
            // Its columns still count, so that tables are checked against the right number.
            types.push(key_type.unwrap_or(KeyType::Text));
        }
        types
    }

    fn unknown_type(&mut self, name: &At<String>, list: Place) {
        let place = if name.place.is_known() {
            name.place
        } else {
            list
        };
        let found = format!("type `{}`", name.value.escape_debug());
        let expected = alternatives(KeyType::names());
        let hint = match name.value.as_str() {
            "int2" => "its name here is `smallint`",
            "int" | "int4" | "serial" => "its name here is `integer`",
            "int8" | "bigserial" => "its name here is `bigint`",
            "decimal" => "its name here is `numeric`",
            "char" | "bpchar" | "character" | "citext" => {
                "two texts that differ may be equal in this type"
            }
            "real" | "float4" | "float8" | "double precision" => {
                "floating point values are not exact"
            }
            _ => return self.problems.add(place, found, expected),
        };
        self.problems.add_hinted(place, found, expected, hint);
    }

    fn kind(&mut self, written: &KeyspaceFile, types: &[KeyType], shards: &[&str]) -> KeyspaceKind {
        match (&written.hash, &written.ranges, &written.list) {
            (Some(hash), None, None) => self.hash(&hash.value, shards),
            (None, Some(ranges), None) => {
                let key_type =
                    self.single(written.name.value.as_str(), types, ranges.place, "ranges");
                KeyspaceKind::Range {
                    ranges: self.ranges(ranges, key_type, shards),
                }
            }
            (None, None, Some(list)) => {
                let key_type = self.single(written.name.value.as_str(), types, list.place, "list");
                KeyspaceKind::List {
                    values: self.list(list, key_type, shards),
                }
            }
            (hash, ranges, list) => {
                let given = usize::from(hash.is_some())
                    + usize::from(ranges.is_some())
                    + usize::from(list.is_some());
                let found = format!(
                    "{given} of `hash`, `ranges` and `list` in keyspace `{}`",
                    written.name.value
                );
                self.problems
                    .add(written.name.place, found, "exactly one of them");
                KeyspaceKind::HashXxh3 {
                    buckets: Vec::new(),
                }
            }
        }
    }

    fn single(
        &mut self,
        keyspace: &str,
        types: &[KeyType],
        place: Place,
        what: &str,
    ) -> Option<KeyType> {
        if types.len() > 1 {
            let found = format!("`{what}` for the composite key of keyspace `{keyspace}`");
            self.problems.add(
                place,
                found,
                "`hash`; ranges and lists have a key of one column",
            );
            return None;
        }
        types.first().copied()
    }

    fn hash(&mut self, written: &HashFile, shards: &[&str]) -> KeyspaceKind {
        let problems_before = self.problems.0.len();
        let count = self
            .problems
            .count("buckets", &written.buckets, 1..=BUCKETS_MAX);
        let buckets = if self.problems.0.len() > problems_before {
            Vec::new()
        } else if let Some(placement) = &written.placement {
            self.placement(placement, count, shards)
        } else {
            self.spread(&written.buckets, count, shards.len())
        };
        match written.function {
            HashFunctionFile::Xxh3 => KeyspaceKind::HashXxh3 { buckets },
            HashFunctionFile::Postgres => KeyspaceKind::HashPostgres { buckets },
        }
    }

    /// Evenly and in order: with 2 shards the first half of the buckets is the first shard's.
    fn spread(&mut self, written: &At<u64>, count: usize, shards: usize) -> Vec<ShardId> {
        if count < shards {
            self.problems.add(
                written.place,
                format!("`buckets: {count}` for {shards} shards"),
                format!("at least {shards}"),
            );
        }
        (0..count)
            .map(|bucket| shard_id(bucket * shards / count))
            .collect()
    }

    fn placement(
        &mut self,
        written: &At<Vec<At<PlacementFile>>>,
        count: usize,
        shards: &[&str],
    ) -> Vec<ShardId> {
        let mut owners: Vec<Option<(ShardId, Place)>> = vec![None; count];
        for entry in written.value.iter().map(|entry| &entry.value) {
            let shard = self
                .known(&entry.shard, "shard", shards)
                .map_or(ShardId(0), shard_id);
            for (first, last) in self.bucket_spans(&entry.buckets, count) {
                self.claim(&mut owners, first, last, (shard, entry.buckets.place));
            }
        }
        self.uncovered(written.place, &owners);
        owners
            .into_iter()
            .map(|owner| owner.map_or(ShardId(0), |(shard, _)| shard))
            .collect()
    }

    /// `7`, `0-511` or `0-255,512-767`; both ends included.
    fn bucket_spans(&mut self, written: &At<String>, count: usize) -> Vec<(usize, usize)> {
        let mut spans = Vec::new();
        for part in written.value.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let bounds = number(first)
                .zip(number(last))
                .filter(|(first, last)| first <= last && *last < count);
            if let Some(span) = bounds {
                spans.push(span);
            } else {
                let expected = format!("buckets of 0-{} as `7`, `0-5` or `0-5,8-9`", count - 1);
                self.problems.add(
                    written.place,
                    format!("`{}`", part.escape_debug()),
                    expected,
                );
            }
        }
        spans
    }

    fn claim(
        &mut self,
        owners: &mut [Option<(ShardId, Place)>],
        first: usize,
        last: usize,
        owner: (ShardId, Place),
    ) {
        let mut twice = None;
        for (bucket, slot) in owners.iter_mut().enumerate().take(last + 1).skip(first) {
            match slot {
                Some((_, place)) => twice = twice.or(Some((bucket, *place))),
                None => *slot = Some(owner),
            }
        }
        if let Some((bucket, place)) = twice {
            self.problems.add(
                owner.1,
                format!(
                    "bucket {bucket} a second time (first in line {})",
                    place.line
                ),
                "each bucket on one shard",
            );
        }
    }

    fn uncovered(&mut self, place: Place, owners: &[Option<(ShardId, Place)>]) {
        let Some(first) = owners.iter().position(Option::is_none) else {
            return;
        };
        let missing = owners.iter().filter(|owner| owner.is_none()).count();
        let run = owners[first..]
            .iter()
            .take_while(|owner| owner.is_none())
            .count();
        let span = if run == 1 {
            first.to_string()
        } else {
            format!("{first}-{}", first + run - 1)
        };
        let more = if missing > run {
            format!(" and {} more", missing - run)
        } else {
            String::new()
        };
        self.problems.add(
            place,
            format!("no shard for buckets {span}{more}"),
            "every bucket on one shard",
        );
    }

    fn ranges(
        &mut self,
        written: &At<Vec<At<RangeFile>>>,
        key_type: Option<KeyType>,
        shards: &[&str],
    ) -> Vec<(Option<KeyValue>, Option<KeyValue>, ShardId)> {
        if written.value.is_empty() {
            self.problems
                .add(written.place, "an empty list", "at least one range");
        }
        let problems_before = self.problems.0.len();
        let mut ranges: Vec<Range<'_>> = written
            .value
            .iter()
            .map(|range| self.range(&range.value, key_type, shards))
            .collect();
        // Neighbours only mean something when every bound was understood.
        if self.problems.0.len() == problems_before {
            ranges.sort_by(|a, b| a.from.cmp(&b.from));
            for pair in ranges.windows(2) {
                self.neighbours(&pair[0], &pair[1]);
            }
        }
        ranges
            .into_iter()
            .map(|range| (range.from, range.to, range.shard))
            .collect()
    }

    fn range<'a>(
        &mut self,
        written: &'a RangeFile,
        key_type: Option<KeyType>,
        shards: &[&str],
    ) -> Range<'a> {
        let shard = self
            .known(&written.shard, "shard", shards)
            .map_or(ShardId(0), shard_id);
        let from = written
            .from
            .as_ref()
            .and_then(|from| self.value(from, key_type));
        let to = written.to.as_ref().and_then(|to| self.value(to, key_type));
        if let (Some(low), Some(high), Some(place)) = (&from, &to, &written.to)
            && low >= high
        {
            self.problems.add(
                place.place,
                format!(
                    "an empty range: `to: {}` is not after its `from`",
                    place.value
                ),
                "`from` before `to`",
            );
        }
        Range {
            written,
            from,
            to,
            shard,
        }
    }

    fn neighbours(&mut self, left: &Range<'_>, right: &Range<'_>) {
        let place = right
            .written
            .from
            .as_ref()
            .map_or(right.written.shard.place, |from| from.place);
        let before = left.written.shard.place.line;
        let (Some(end), Some(start)) = (&left.to, &right.from) else {
            let found = format!("a range that overlaps the one in line {before}");
            self.problems.add(
                place,
                found,
                "ranges side by side; only the first has no `from`, only the last no `to`",
            );
            return;
        };
        let shown =
            |at: &Option<At<String>>| at.as_ref().map_or("", |at| at.value.as_str()).to_owned();
        if start < end {
            let found = format!(
                "a range from `{}` that overlaps the one to `{}` in line {before}",
                shown(&right.written.from),
                shown(&left.written.to)
            );
            self.problems.add(
                place,
                found,
                "ranges side by side: `from` is the first key, `to` the first key after the range",
            );
        } else if end < start {
            let found = format!(
                "no range for keys from `{}` to `{}`",
                shown(&left.written.to),
                shown(&right.written.from)
            );
            self.problems.add(
                place,
                found,
                format!("`from` to be the `to` of the range before it (line {before})"),
            );
        }
    }

    fn list(
        &mut self,
        written: &At<Vec<At<ListFile>>>,
        key_type: Option<KeyType>,
        shards: &[&str],
    ) -> HashMap<KeyValue, ShardId> {
        let mut places: HashMap<KeyValue, Place> = HashMap::new();
        let mut values = HashMap::new();
        for entry in written.value.iter().map(|entry| &entry.value) {
            let shard = self
                .known(&entry.shard, "shard", shards)
                .map_or(ShardId(0), shard_id);
            for written in &entry.values.value {
                let Some(value) = self.value(written, key_type) else {
                    continue;
                };
                if let Some(first) = places.insert(value.clone(), written.place) {
                    let found = format!(
                        "the value `{}` a second time (first in line {})",
                        written.value, first.line
                    );
                    self.problems
                        .add(written.place, found, "each value on one shard");
                }
                values.insert(value, shard);
            }
        }
        if written
            .value
            .iter()
            .all(|entry| entry.value.values.value.is_empty())
        {
            self.problems
                .add(written.place, "no value", "at least one value");
        }
        values
    }

    fn value(&mut self, written: &At<String>, key_type: Option<KeyType>) -> Option<KeyValue> {
        let key_type = key_type?;
        match key_type.parse_text(written.value.as_bytes()) {
            Ok(value) => Some(value),
            Err(error) => {
                let form = match (key_type, error) {
                    (KeyType::TimestampTz, KeyError::Ambiguous) => {
                        " in ISO form with its offset, as 2026-01-01 00:00:00+00"
                    }
                    (KeyType::Date | KeyType::Timestamp, KeyError::Ambiguous) => {
                        " in ISO form, as 2026-01-01"
                    }
                    _ => "",
                };
                self.problems.add(
                    written.place,
                    format!("`{}`", written.value.escape_debug()),
                    format!("a value of type {key_type}{form}"),
                );
                None
            }
        }
    }
}

struct Range<'a> {
    written: &'a RangeFile,
    from: Option<KeyValue>,
    to: Option<KeyValue>,
    shard: ShardId,
}

fn number(text: &str) -> Option<usize> {
    let text = text.trim();
    text.bytes()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// There are at most 1024 shards; more were refused.
fn shard_id(index: usize) -> ShardId {
    ShardId(u16::try_from(index).unwrap_or(u16::MAX))
}
