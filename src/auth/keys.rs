//! The keys under which clients may cancel: a number that names the session, a secret that proves it.

use std::sync::atomic::{AtomicU32, Ordering};
use subtle::ConstantTimeEq;

/// Protocol 3.0 has room for 4 bytes; since 3.2 PostgreSQL gives 32, and so do we.
const SECRET_SHORT: usize = 4;
const SECRET_LONG: usize = 32;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendKey {
    pub pid: i32,
    pub secret: Vec<u8>,
}

/// Issues the keys of one instance. Numbers come round again after two thousand million logins.
#[derive(Debug, Default)]
pub struct BackendKeys {
    issued: AtomicU32,
}

impl BackendKeys {
    pub fn issue(&self, protocol_minor: u16) -> BackendKey {
        let count = self.issued.fetch_add(1, Ordering::Relaxed);
        // 1..=i32::MAX: drivers expect a process id
        let pid = i32::try_from(count % (i32::MAX as u32)).unwrap_or(0) + 1;
        let length = if protocol_minor >= 2 {
            SECRET_LONG
        } else {
            SECRET_SHORT
        };
        let secret = rand::random::<[u8; SECRET_LONG]>()[..length].to_vec();
        BackendKey { pid, secret }
    }
}

/// Compares secrets without telling by its time how much of them agrees.
pub fn same_secret(ours: &[u8], theirs: &[u8]) -> bool {
    ours.ct_eq(theirs).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_long_as_the_protocol_allows_and_differ() {
        let keys = BackendKeys::default();
        let (old, new) = (keys.issue(0), keys.issue(2));
        assert_eq!((old.secret.len(), new.secret.len()), (4, 32));
        assert_eq!((old.pid, new.pid), (1, 2));
        assert_ne!(keys.issue(2).secret, new.secret);
        assert!(same_secret(&old.secret, &old.secret.clone()));
        assert!(!same_secret(&old.secret, &new.secret));
    }

    #[test]
    fn numbers_stay_positive_when_they_come_round() {
        let keys = BackendKeys {
            issued: AtomicU32::new(u32::MAX - 1),
        };
        for _ in 0..4 {
            assert!(keys.issue(0).pid > 0);
        }
    }
}
