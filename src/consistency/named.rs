//! Sessions by name: connections of one name share their watermarks. As many names are remembered as the configuration
//! says, those in use always; a name that is not remembered is an unknown session, which is never wrong (hazard 24).

use super::Watermarks;
use lru::LruCache;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;
use xxhash_rust::xxh3::xxh3_128;

/// Entries looked at for one that may be forgotten.
const ATTEMPTS: usize = 8;

pub struct NamedSessions {
    /// Names are kept as their hash: clients choose them, and may choose long ones. Two names of one hash would share
    /// their watermarks, and be read a little slower.
    known: Mutex<LruCache<u128, Arc<Mutex<Watermarks>>>>,
    sessions_max: usize,
}

impl NamedSessions {
    #[must_use]
    pub fn new(sessions_max: usize) -> Self {
        Self {
            known: Mutex::new(LruCache::unbounded()),
            sessions_max,
        }
    }

    /// The watermarks of this name. They stay shared for as long as anyone holds them.
    #[must_use]
    pub fn open(&self, name: &str, shards: usize, now: Instant) -> Arc<Mutex<Watermarks>> {
        let key = xxh3_128(name.as_bytes());
        let mut known = self.known.lock();
        if let Some(found) = known.get(&key) {
            return found.clone();
        }
        let marks = Watermarks::unknown(shards, now).shared();
        let entry = Arc::new(Mutex::new(marks));
        known.put(key, entry.clone());
        forget_some(&mut known, self.sessions_max);
        entry
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.known.lock().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An entry that someone holds goes to the front again: those are at most as many as there are clients.
fn forget_some(known: &mut LruCache<u128, Arc<Mutex<Watermarks>>>, sessions_max: usize) {
    for _ in 0..ATTEMPTS {
        if known.len() <= sessions_max {
            return;
        }
        let Some((key, entry)) = known.pop_lru() else {
            return;
        };
        // nobody can take another share meanwhile: that needs the lock, or a share already
        if Arc::strong_count(&entry) > 1 {
            known.put(key, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::ShardId;

    #[test]
    fn one_name_is_one_watermark() {
        let sessions = NamedSessions::new(10);
        let now = Instant::now();
        let (a, b) = (sessions.open("u", 1, now), sessions.open("u", 1, now));
        let other = sessions.open("v", 1, now);
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &other));
        assert_eq!(
            a.lock()
                .mark(ShardId(0))
                .and_then(super::super::watermarks::Mark::owed_since),
            Some(now)
        );
    }

    #[test]
    fn forgotten_names_are_unknown_again_but_never_while_in_use() {
        let sessions = NamedSessions::new(4);
        let now = Instant::now();
        let held = sessions.open("held", 1, now);
        for n in 0..100 {
            let _ = sessions.open(&n.to_string(), 1, now);
        }
        assert!(Arc::ptr_eq(&held, &sessions.open("held", 1, now)));
        assert!(sessions.len() <= 5, "{}", sessions.len());
        drop(held);
        for n in 0..100 {
            let _ = sessions.open(&n.to_string(), 1, now);
        }
        let later = now + std::time::Duration::from_secs(1);
        let again = sessions.open("held", 1, later);
        assert_eq!(
            again
                .lock()
                .mark(ShardId(0))
                .and_then(super::super::watermarks::Mark::owed_since),
            Some(later)
        );
    }

    #[test]
    fn all_in_use_is_no_reason_to_forget_one() {
        let sessions = NamedSessions::new(2);
        let now = Instant::now();
        let held: Vec<_> = (0..50)
            .map(|n| sessions.open(&n.to_string(), 1, now))
            .collect();
        for (n, entry) in held.iter().enumerate() {
            assert!(Arc::ptr_eq(entry, &sessions.open(&n.to_string(), 1, now)));
        }
    }
}
