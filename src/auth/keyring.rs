//! What clients have shown at their logins, for as long as servers may have to be dialled for them: while a client of the
//! user is connected, and for a time after the last one has left, in which its pools may still be refilled.

use super::passing::LoginKeys;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Users without a client whose keys are kept; of those with one there are as many as clients at most.
const LEFT_MAX: usize = 10_000;

#[derive(Default)]
pub struct KeyRing {
    entries: Mutex<HashMap<Holder, Entry>>,
}

/// A user of a database of the shard map.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    pub database: String,
    pub user: String,
}

struct Entry {
    keys: Arc<LoginKeys>,
    /// connected
    clients: usize,
    /// without clients, they are forgotten then
    until: Instant,
}

/// A client that is connected; its user's keys stay as long as this does.
pub struct Present {
    ring: Arc<KeyRing>,
    holder: Holder,
    keep: Duration,
}

impl Drop for Present {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut entries = self.ring.entries.lock();
        if let Some(entry) = entries.get_mut(&self.holder) {
            entry.clients = entry.clients.saturating_sub(1);
            entry.until = now + self.keep;
        }
    }
}

impl KeyRing {
    /// Takes what a client has just shown; `keep` is how long it stays after the last client. True when it is news.
    pub fn bring(
        self: &Arc<Self>,
        holder: Holder,
        keys: LoginKeys,
        keep: Duration,
    ) -> (Present, bool) {
        let now = Instant::now();
        let mut entries = self.entries.lock();
        let known = entries.get(&holder);
        let before = known.map_or(0, |entry| entry.clients);
        let news = !known.is_some_and(|entry| entry.keys.are(&keys));
        if before == 0 && entries.len() >= LEFT_MAX {
            make_room(&mut entries, now);
        }
        entries.insert(
            holder.clone(),
            Entry {
                keys: Arc::new(keys),
                clients: before + 1,
                until: now + keep,
            },
        );
        drop(entries);
        let present = Present {
            ring: self.clone(),
            holder,
            keep,
        };
        (present, news)
    }

    #[must_use]
    pub fn keys(&self, holder: &Holder) -> Option<Arc<LoginKeys>> {
        let entries = self.entries.lock();
        entries.get(holder).map(|entry| entry.keys.clone())
    }

    /// Forgets what is no longer needed.
    pub fn sweep(&self, now: Instant) {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.clients > 0 || entry.until > now);
    }
}

/// The user that has been away longest goes, if there are too many of those.
fn make_room(entries: &mut HashMap<Holder, Entry>, now: Instant) {
    entries.retain(|_, entry| entry.clients > 0 || entry.until > now);
    let away = || entries.iter().filter(|(_, entry)| entry.clients == 0);
    if away().count() < LEFT_MAX {
        return;
    }
    let oldest = away().min_by_key(|(_, entry)| entry.until);
    if let Some(holder) = oldest.map(|(holder, _)| holder.clone()) {
        entries.remove(&holder);
    }
}

#[cfg(test)]
mod tests {
    use super::super::md5::Md5Hash;
    use super::*;

    fn holder(user: &str) -> Holder {
        Holder {
            database: "social".into(),
            user: user.into(),
        }
    }

    fn keys() -> LoginKeys {
        LoginKeys::Md5(Md5Hash::mock())
    }

    #[test]
    fn keys_stay_while_a_client_is_there_and_a_little_longer() {
        let ring = Arc::new(KeyRing::default());
        let keep = Duration::from_secs(60);
        let shown = keys();
        let (first, news) = ring.bring(holder("app"), shown.clone(), keep);
        assert!(news);
        let (third, news) = ring.bring(holder("app"), shown, keep);
        assert!(!news);
        drop(third);
        let (second, news) = ring.bring(holder("app"), keys(), keep);
        assert!(news);
        let far = Instant::now() + Duration::from_secs(3600);
        drop(first);
        ring.sweep(far);
        assert!(ring.keys(&holder("app")).is_some());
        drop(second);
        ring.sweep(Instant::now());
        assert!(ring.keys(&holder("app")).is_some());
        ring.sweep(far);
        assert!(ring.keys(&holder("app")).is_none());
        assert!(ring.keys(&holder("other")).is_none());
    }

    #[test]
    fn users_without_clients_are_bounded() {
        let ring = Arc::new(KeyRing::default());
        let (connected, _) = ring.bring(holder("connected"), keys(), Duration::ZERO);
        for n in 0..LEFT_MAX + 50 {
            drop(ring.bring(holder(&n.to_string()), keys(), Duration::from_secs(60)));
        }
        assert!(ring.entries.lock().len() <= LEFT_MAX + 1);
        assert!(ring.keys(&holder("connected")).is_some());
        assert!(ring.keys(&holder("0")).is_none());
        drop(connected);
    }
}
