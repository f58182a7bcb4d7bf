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

/// Where the numbers of sessions begin. No process of Linux has a larger one: whoever gives such a number to
/// `pg_terminate_backend()` or `pg_cancel_backend()` hits nobody, least of all a stranger's server.
const NO_PROCESS: u32 = 1 << 22;

/// Issues the keys of one instance. Numbers come round again after two thousand million logins.
#[derive(Debug, Default)]
pub struct BackendKeys {
    issued: AtomicU32,
}

impl BackendKeys {
    pub fn issue(&self, protocol_minor: u16) -> BackendKey {
        let count = self.issued.fetch_add(1, Ordering::Relaxed);
        // drivers expect a process id: a positive number of 32 bits with a sign
        let pid = NO_PROCESS + 1 + count % (i32::MAX as u32 - NO_PROCESS);
        let pid = i32::try_from(pid).unwrap_or(i32::MAX);
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
        assert_eq!((old.pid, new.pid), (4_194_305, 4_194_306));
        assert_ne!(keys.issue(2).secret, new.secret);
        assert!(same_secret(&old.secret, &old.secret.clone()));
        assert!(!same_secret(&old.secret, &new.secret));
    }

    #[test]
    fn numbers_are_no_process_also_when_they_come_round() {
        let keys = BackendKeys {
            issued: AtomicU32::new(i32::MAX as u32 - NO_PROCESS - 1),
        };
        assert_eq!(keys.issue(0).pid, i32::MAX);
        assert_eq!(keys.issue(0).pid, 4_194_305);
        keys.issued.store(u32::MAX, Ordering::Relaxed);
        for _ in 0..4 {
            assert!(keys.issue(0).pid > 4_194_304);
        }
    }
}
