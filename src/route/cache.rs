//! The plan cache: lifted text and context to plan, bounded, one lookup a query. It does not know what a plan is, nor
//! what the context is made of; whoever fills it puts everything into the context that changes a plan's meaning.

use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Below so many entries a part, one lock does.
const PART_ENTRIES_MIN: usize = 128;
const PARTS_MAX: usize = 16;

/// Fingerprint and context to plan.
type Part<V> = Mutex<LruCache<(u128, u64), Arc<V>>>;

/// Least recently used plans go first. Parts have their own locks, so that sessions seldom meet; a lookup holds one of
/// them for one hash lookup.
pub struct PlanCache<V> {
    parts: Box<[Part<V>]>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl<V> PlanCache<V> {
    /// At most `entries_max` plans (at least one), to within the rounding to equal parts.
    pub fn new(entries_max: usize) -> Self {
        let parts = (entries_max / PART_ENTRIES_MIN).clamp(1, PARTS_MAX);
        let entries = NonZeroUsize::new(entries_max / parts).unwrap_or(NonZeroUsize::MIN);
        Self {
            parts: (0..parts)
                .map(|_| Mutex::new(LruCache::new(entries)))
                .collect(),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub fn get(&self, fingerprint: u128, context: u64) -> Option<Arc<V>> {
        let found = self
            .part(fingerprint)
            .and_then(|part| part.lock().get(&(fingerprint, context)).cloned());
        let counter = if found.is_some() {
            &self.hits
        } else {
            &self.misses
        };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Replaces what was there; the plan that is driven out is dropped outside of the lock.
    pub fn insert(&self, fingerprint: u128, context: u64, plan: Arc<V>) {
        let driven_out = self
            .part(fingerprint)
            .map(|part| part.lock().push((fingerprint, context), plan));
        drop(driven_out);
    }

    pub fn clear(&self) {
        for part in &self.parts {
            part.lock().clear();
        }
    }

    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    fn part(&self, fingerprint: u128) -> Option<&Part<V>> {
        self.parts
            .get((fingerprint >> 64) as usize % self.parts.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_found_under_its_text_and_context_only() {
        let cache = PlanCache::new(10);
        cache.insert(1, 7, Arc::new("plan"));
        assert_eq!(cache.get(1, 7).as_deref(), Some(&"plan"));
        assert_eq!(cache.get(1, 8), None);
        assert_eq!(cache.get(2, 7), None);
        assert_eq!((cache.hits(), cache.misses()), (1, 2));
    }

    #[test]
    fn the_least_recently_used_plan_goes_first() {
        let cache = PlanCache::new(2);
        cache.insert(1, 0, Arc::new(1));
        cache.insert(2, 0, Arc::new(2));
        cache.get(1, 0);
        cache.insert(3, 0, Arc::new(3));
        assert!(cache.get(1, 0).is_some());
        assert!(cache.get(2, 0).is_none());
        assert_eq!(cache.len(), 2);
    }

    #[test]
    fn it_never_grows_past_its_bound() {
        for entries_max in [0, 1, 100, 1000, 5000] {
            let cache = PlanCache::new(entries_max);
            for text in 0..20_000_u128 {
                cache.insert(
                    text.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
                    0,
                    Arc::new(()),
                );
            }
            assert!(cache.len() <= entries_max.max(1), "{entries_max}");
            cache.clear();
            assert!(cache.is_empty());
        }
    }

    #[test]
    fn sessions_may_use_it_at_once() {
        let cache = PlanCache::new(4096);
        std::thread::scope(|scope| {
            for session in 0..8_u128 {
                let cache = &cache;
                scope.spawn(move || {
                    for text in 0..1000_u128 {
                        cache.insert(text << 64 | session, 0, Arc::new(session));
                        let found = cache.get(text << 64 | session, 0);
                        // another session may have driven it out by now
                        assert!(found.is_none_or(|found| *found == session));
                    }
                });
            }
        });
    }
}
