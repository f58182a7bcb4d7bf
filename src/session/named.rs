//! The session's prepared statements by name, the unnamed one among them, and in which order they were made.

use super::FastMap;
use crate::exec::job::Prepared;
use bytes::Bytes;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Most clients that are idle have none.
#[derive(Default)]
pub struct NamedStatements(Option<Box<Inner>>);

#[derive(Default)]
struct Inner {
    all: FastMap<Bytes, One>,
    made: u64,
}

/// One of them; a later one has a higher number.
pub struct One {
    pub prepared: Arc<Prepared>,
    pub number: u64,
}

impl NamedStatements {
    #[must_use]
    pub fn get(&self, name: &[u8]) -> Option<&Arc<Prepared>> {
        self.get_one(name).map(|(_, one)| &one.prepared)
    }

    #[must_use]
    pub fn get_one(&self, name: &[u8]) -> Option<(&Bytes, &One)> {
        self.0.as_ref()?.all.get_key_value(name)
    }

    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        self.get_one(name).is_some()
    }

    /// A new one, or the same planned anew.
    pub fn insert(&mut self, name: Bytes, prepared: Arc<Prepared>) {
        let Inner { all, made } = &mut **self.0.get_or_insert_default();
        match all.entry(name) {
            Entry::Occupied(mut there) => there.get_mut().prepared = prepared,
            Entry::Vacant(place) => {
                let number = *made;
                *made += 1;
                place.insert(One { prepared, number });
            }
        }
    }

    /// That of the next new one.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.made)
    }

    pub fn remove(&mut self, name: &[u8]) {
        if let Some(inner) = &mut self.0 {
            inner.all.remove(name);
        }
    }

    pub fn clear(&mut self) {
        if let Some(inner) = &mut self.0 {
            inner.all.clear();
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |inner| inner.all.len())
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that have a name, as they were made.
    #[must_use]
    pub fn in_order(&self) -> Vec<(&Bytes, &One)> {
        let all = self.0.iter().flat_map(|inner| &inner.all);
        let mut named: Vec<_> = all.filter(|(name, _)| !name.is_empty()).collect();
        named.sort_unstable_by_key(|(_, one)| one.number);
        named
    }
}
