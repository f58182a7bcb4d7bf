//! What scratch databases may have on disk in all, other instances' on the same server among them. What they have is measured now and
//! then; what was brought since is counted on top, twice, for a row on disk is longer than on the wire and its key stands there again.

use super::lending::Scratches;
use crate::catalog::QualifiedName;
use crate::exec::backend::Backend;
use crate::exec::failure::Report;
use crate::wire::sqlstate::SqlState;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Others fill the disk, too: a figure older than this is not relied on.
const MEASURED_MAX: Duration = Duration::from_secs(10);
/// Of the bound: nothing is measured again for less than this part of it.
const GRAIN: u64 = 64;

/// Invisible rows in a scratch database before they are taken away.
const LITTER_MAX: u64 = 1 << 20;

/// Tables of a scratch database where rows were left behind, invisible.
#[derive(Debug, Default)]
pub struct Litter {
    bytes: u64,
    tables: BTreeSet<QualifiedName>,
}

impl Litter {
    pub fn add(&mut self, table: &QualifiedName, bytes: u64) {
        if bytes > 0 && !self.tables.contains(table) {
            self.tables.insert(table.clone());
        }
        self.bytes += bytes;
    }

    /// What takes them away, when it is worth it; not a word of them is left then.
    pub fn swept(&mut self) -> Option<String> {
        if self.bytes <= LITTER_MAX {
            return None;
        }
        let Self { tables, .. } = std::mem::take(self);
        let names: Vec<String> = tables.iter().map(QualifiedName::quoted).collect();
        let names = names.join(", ");
        Some(format!(
            "BEGIN READ WRITE;GRANT TRUNCATE ON TABLE {names} TO CURRENT_USER;TRUNCATE {names};\
             REVOKE TRUNCATE ON TABLE {names} FROM CURRENT_USER;COMMIT"
        ))
    }
}

pub struct Disk {
    bytes_max: u64,
    measured: Mutex<Option<(Instant, u64)>>,
    since: AtomicU64,
    /// one measures for all
    measuring: tokio::sync::Mutex<()>,
}

impl Disk {
    pub fn new(bytes_max: u64) -> Self {
        Self {
            bytes_max,
            measured: Mutex::default(),
            since: AtomicU64::new(0),
            measuring: tokio::sync::Mutex::default(),
        }
    }

    pub fn note(&self, bytes: u64) {
        self.since.fetch_add(2 * bytes, Ordering::Relaxed);
    }

    /// By all that is known there may be no room left.
    pub fn is_in_doubt(&self) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        let measured = self.measured.lock().map_or(0, |(_, bytes)| bytes);
        measured.saturating_add(since) > self.bytes_max && since > self.bytes_max / GRAIN
    }

    fn is_old(&self) -> bool {
        let measured = self.measured.lock();
        measured.is_none_or(|(at, _)| at.elapsed() > MEASURED_MAX)
    }

    fn is_full(&self) -> bool {
        self.measured
            .lock()
            .is_some_and(|(_, bytes)| bytes > self.bytes_max)
    }

    /// When it cannot be measured, the last figure stands.
    async fn measure(&self, backend: &Backend) {
        let since = self.since.load(Ordering::Relaxed);
        match backend.scratch_workshop().bytes().await {
            Ok(bytes) => {
                *self.measured.lock() = Some((Instant::now(), bytes));
                self.since.fetch_sub(since, Ordering::Relaxed);
            }
            Err(error) => tracing::debug!(%error, "scratch databases could not be measured"),
        }
    }
}

impl Scratches {
    /// Before a statement begins to gather.
    pub async fn find_room(&self, backend: &Backend) -> Result<(), Report> {
        if self.disk.is_old() {
            let _one = self.disk.measuring.lock().await;
            if self.disk.is_old() {
                self.disk.measure(backend).await;
            }
        }
        if self.disk.is_full() {
            let _one = self.disk.measuring.lock().await;
            backend.drop_old_scratches().await;
            self.disk.measure(backend).await;
        }
        self.verdict()
    }

    /// While rows come.
    pub async fn measure_again(&self, backend: &Backend) -> Result<(), Report> {
        let _one = self.disk.measuring.lock().await;
        if self.disk.is_in_doubt() {
            self.disk.measure(backend).await;
        }
        self.verdict()
    }

    fn verdict(&self) -> Result<(), Report> {
        if !self.disk.is_full() {
            return Ok(());
        }
        Err(Report::new(
            SqlState::CONFIGURATION_LIMIT_EXCEEDED,
            "scratch databases have more on disk than gather_disk_bytes_max",
        )
        .hint("limits.gather_disk_bytes_max in the shard map bounds them, those of other instances included. Try again later, narrow the statement by the shard key, or ask for fewer columns."))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn litter_is_taken_away_when_there_is_enough() {
        let table = QualifiedName::new("public", "t");
        let mut litter = Litter::default();
        litter.add(&table, LITTER_MAX);
        assert_eq!(litter.swept(), None);
        litter.add(&table, 1);
        assert!(
            litter
                .swept()
                .unwrap()
                .contains("TRUNCATE \"public\".\"t\";")
        );
        assert_eq!(litter.swept(), None);
    }

    #[test]
    fn what_came_since_is_doubted_not_refused() {
        let disk = Disk::new(6_400);
        assert!(disk.is_old() && !disk.is_full());
        disk.note(3_000);
        assert!(!disk.is_in_doubt());
        disk.note(300);
        assert!(disk.is_in_doubt() && !disk.is_full());
        *disk.measured.lock() = Some((Instant::now(), 6_350));
        disk.since.store(100, Ordering::Relaxed);
        // too little to look again
        assert!(!disk.is_in_doubt());
        disk.note(1);
        assert!(disk.is_in_doubt() && !disk.is_old());
        *disk.measured.lock() = Some((Instant::now(), 6_401));
        assert!(disk.is_full());
    }
}
