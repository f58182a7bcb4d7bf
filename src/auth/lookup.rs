//! Passwords of users that the shard map does not list, as their database stores them. Answers are kept for a time, those
//! for users that do not exist too, and apart: a flood of invented names neither reaches the database each time nor
//! pushes out the users there are. One question at a time.

use super::users::Secret;
use crate::config::AuthQuery;
use async_trait::async_trait;
use lru::LruCache;
use parking_lot::Mutex;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// No role of PostgreSQL has a longer name.
const NAME_BYTES_MAX: usize = 63;
/// A wrong proof asks for the password anew, unless it was asked for within this.
const FRESH: Duration = Duration::from_secs(1);
/// A question that failed is not asked again before this is over, nor written to the log.
const FAILED_PAUSE: Duration = Duration::from_secs(1);

/// Asks a database; bounded in time by whoever implements it.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// A password as stored. None for a user that does not exist, `Some(None)` for one without a password.
    async fn stored(&self, user: &str) -> Result<Option<Option<String>>, String>;
}

pub struct Lookup {
    database: String,
    source: Box<dyn SecretSource>,
    answers: Mutex<Answers>,
    /// one question at a time
    turn: tokio::sync::Mutex<()>,
    time: Duration,
    /// of the last verifier that was found, 0 before
    iterations: AtomicUsize,
}

struct Answers {
    known: LruCache<String, (Instant, Secret)>,
    unknown: LruCache<String, Instant>,
    failed: Option<Instant>,
}

impl Lookup {
    #[must_use]
    pub fn new(database: &str, settings: &AuthQuery, source: Box<dyn SecretSource>) -> Self {
        let bound = NonZeroUsize::new(settings.cache_max).unwrap_or(NonZeroUsize::MIN);
        Self {
            database: database.to_owned(),
            source,
            answers: Mutex::new(Answers {
                // grows with what is in it
                known: sized(bound),
                unknown: sized(bound),
                failed: None,
            }),
            turn: tokio::sync::Mutex::default(),
            time: settings.cache_time,
            iterations: AtomicUsize::new(0),
        }
    }

    /// Of the verifiers here: an exchange with a user that does not exist has as many.
    pub fn iterations(&self) -> Option<usize> {
        let last = self.iterations.load(Ordering::Relaxed);
        (last > 0).then_some(last)
    }

    /// None for a user that does not exist, and when the database cannot be asked.
    pub async fn secret(&self, user: &str) -> Option<Secret> {
        if user.len() > NAME_BYTES_MAX {
            return None;
        }
        if let Some(answer) = self.remembered(user) {
            return answer;
        }
        let _turn = self.turn.lock().await;
        if let Some(answer) = self.remembered(user) {
            return answer;
        }
        match self.source.stored(user).await {
            Ok(stored) => self.note(user, stored.map(|stored| self.read(user, stored))),
            Err(error) => {
                tracing::error!(database = %self.database, "auth_query failed, users that are not listed cannot log in: {error}");
                self.answers.lock().failed = Some(Instant::now());
                None
            }
        }
    }

    /// The user has shown a wrong proof: perhaps the password is a new one.
    pub fn doubt(&self, user: &str) {
        let mut answers = self.answers.lock();
        let old = |since: &Instant| since.elapsed() > FRESH;
        if answers
            .known
            .peek(user)
            .is_some_and(|(since, _)| old(since))
        {
            answers.known.pop(user);
        }
        if answers.unknown.peek(user).is_some_and(old) {
            answers.unknown.pop(user);
        }
    }

    /// `Some(None)` is an answer: no.
    fn remembered(&self, user: &str) -> Option<Option<Secret>> {
        let mut answers = self.answers.lock();
        let current = |since: &Instant| since.elapsed() < self.time;
        if let Some((since, secret)) = answers.known.get(user)
            && current(since)
        {
            return Some(Some(secret.clone()));
        }
        if answers.unknown.get(user).is_some_and(current) {
            return Some(None);
        }
        let failed = answers.failed;
        failed
            .is_some_and(|since| since.elapsed() < FAILED_PAUSE)
            .then_some(None)
    }

    fn note(&self, user: &str, secret: Option<Secret>) -> Option<Secret> {
        let now = Instant::now();
        let mut answers = self.answers.lock();
        answers.failed = None;
        if let Some(secret) = &secret {
            answers.unknown.pop(user);
            let answer = (now, secret.clone());
            answers.known.put(user.to_owned(), answer);
        } else {
            answers.known.pop(user);
            answers.unknown.put(user.to_owned(), now);
        }
        secret
    }

    fn read(&self, user: &str, stored: Option<String>) -> Secret {
        let Some(stored) = stored else {
            return Secret::default();
        };
        let secret = Secret::stored(&stored);
        if let Some(verifier) = secret.as_ref().and_then(|secret| secret.scram.as_ref()) {
            self.iterations
                .store(verifier.iterations(), Ordering::Relaxed);
        }
        secret.unwrap_or_else(|| {
            tracing::warn!(database = %self.database, user, "auth_query gave a password that is neither a SCRAM-SHA-256 verifier nor an md5 hash");
            Secret::default()
        })
    }
}

/// With this bound, and no room taken before it is needed.
fn sized<V>(bound: NonZeroUsize) -> LruCache<String, V> {
    let mut cache = LruCache::unbounded();
    cache.resize(bound);
    cache
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[derive(Clone, Default)]
    struct Asked(Arc<AtomicUsize>);

    #[async_trait]
    impl SecretSource for Asked {
        async fn stored(&self, user: &str) -> Result<Option<Option<String>>, String> {
            self.0.fetch_add(1, Ordering::SeqCst);
            match user {
                "app" => Ok(Some(Some("md50123456789abcdef0123456789abcdef".into()))),
                "odd" => Ok(Some(Some("plain".into()))),
                "bare" => Ok(Some(None)),
                "broken" => Err("no such table".into()),
                _ => Ok(None),
            }
        }
    }

    fn lookup(time: Duration) -> (Lookup, Asked) {
        let asked = Asked::default();
        let settings = AuthQuery {
            login: None,
            query: String::new(),
            cache_max: 2,
            cache_time: time,
        };
        (
            Lookup::new("social", &settings, Box::new(asked.clone())),
            asked,
        )
    }

    #[tokio::test]
    async fn answers_are_kept_for_a_time_those_of_strangers_too() {
        let (lookup, asked) = lookup(Duration::from_secs(60));
        for _ in 0..3 {
            assert!(lookup.secret("app").await.is_some_and(|s| s.md5.is_some()));
            assert!(lookup.secret("eve").await.is_none());
        }
        assert_eq!(asked.0.load(Ordering::SeqCst), 2);
        for stranger in ["a", "b", "c", "d"] {
            assert!(lookup.secret(stranger).await.is_none());
        }
        assert_eq!(asked.0.load(Ordering::SeqCst), 6);
        assert!(lookup.secret("app").await.is_some());
        assert_eq!(
            asked.0.load(Ordering::SeqCst),
            6,
            "strangers push out nobody"
        );
        let answers = lookup.answers.lock();
        assert_eq!((answers.known.len(), answers.unknown.len()), (1, 2));
    }

    #[tokio::test]
    async fn without_a_time_every_login_asks() {
        let (lookup, asked) = lookup(Duration::ZERO);
        lookup.secret("app").await;
        lookup.secret("app").await;
        assert_eq!(asked.0.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_no_secret_and_failures_rest() {
        let (lookup, asked) = lookup(Duration::from_secs(60));
        for user in ["odd", "bare"] {
            let secret = lookup.secret(user).await.unwrap();
            assert!(secret.md5.is_none() && secret.scram.is_none(), "{user}");
        }
        assert!(lookup.secret("broken").await.is_none());
        assert!(lookup.secret("broken").await.is_none());
        assert!(lookup.secret("eve").await.is_none());
        assert_eq!(asked.0.load(Ordering::SeqCst), 3);
        assert!(lookup.secret(&"x".repeat(64)).await.is_none());
        assert_eq!(asked.0.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_wrong_proof_asks_again_but_not_at_once() {
        let (lookup, asked) = lookup(Duration::from_secs(60));
        lookup.secret("app").await;
        lookup.doubt("app");
        lookup.secret("app").await;
        assert_eq!(asked.0.load(Ordering::SeqCst), 1);
        if let Some((since, _)) = lookup.answers.lock().known.get_mut("app") {
            *since -= FRESH * 2;
        }
        lookup.doubt("app");
        lookup.secret("app").await;
        assert_eq!(asked.0.load(Ordering::SeqCst), 2);
    }
}
