//! Numbers within their bounds: pool, consistency and limits. Every bound that is accepted is one the program can keep.

use super::{Bounds, ConsistencySettings, Limits, Pins, PoolMode, PoolSettings, UserPool};
use crate::config::error::Problems;
use crate::config::file::{
    BoundsFile, ConsistencyFile, LevelFile, LimitsFile, PinFile, PoolFile, PoolModeFile,
    UserPoolFile,
};
use crate::config::place::At;
use crate::consistency::Level;
use std::ops::RangeInclusive;
use std::time::Duration;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const YEAR_MS: u64 = 365 * DAY_MS;

impl Problems {
    pub(super) fn number(
        &mut self,
        name: &str,
        written: &At<u64>,
        bounds: RangeInclusive<u64>,
    ) -> u64 {
        if !bounds.contains(&written.value) {
            let expected = format!("{} to {}", bounds.start(), bounds.end());
            self.add(
                written.place,
                format!("`{name}: {}`", written.value),
                expected,
            );
        }
        written.value
    }

    pub(super) fn count(
        &mut self,
        name: &str,
        written: &At<u64>,
        bounds: RangeInclusive<u64>,
    ) -> usize {
        usize::try_from(self.number(name, written, bounds)).unwrap_or(usize::MAX)
    }

    fn millis(&mut self, name: &str, written: &At<u64>, bounds: RangeInclusive<u64>) -> Duration {
        Duration::from_millis(self.number(name, written, bounds))
    }

    /// A time that need not be bounded.
    fn time(&mut self, name: &str, written: Option<&At<u64>>) -> Option<Duration> {
        written.map(|written| self.millis(name, written, 1..=YEAR_MS))
    }
}

/// Of a user or a database.
pub(super) fn bounds(written: &BoundsFile, problems: &mut Problems) -> Bounds {
    let clients = written.clients_max.as_ref();
    Bounds {
        clients_max: clients.map(|n| problems.count("clients_max", n, 0..=1_000_000)),
        query_max: problems.time("query_ms_max", written.query_ms_max.as_ref()),
        transaction_max: problems.time("transaction_ms_max", written.transaction_ms_max.as_ref()),
        transaction_idle_max: problems.time(
            "transaction_idle_ms_max",
            written.transaction_idle_ms_max.as_ref(),
        ),
        client_idle_max: problems.time("client_idle_ms_max", written.client_idle_ms_max.as_ref()),
    }
}

/// Of everybody; how many there may be is `limits.clients_max`.
fn bounds_of_all(written: &LimitsFile, problems: &mut Problems) -> Bounds {
    let alike = BoundsFile {
        clients_max: None,
        query_ms_max: written.query_ms_max.clone(),
        transaction_ms_max: written.transaction_ms_max.clone(),
        transaction_idle_ms_max: written.transaction_idle_ms_max.clone(),
        client_idle_ms_max: written.client_idle_ms_max.clone(),
    };
    bounds(&alike, problems)
}

pub(super) fn user_pool(written: &UserPoolFile, problems: &mut Problems) -> UserPool {
    let size = written.size.as_ref();
    UserPool {
        size: size.map(|n| problems.count("size", n, 1..=10_000)),
        wait_max: problems.time("wait_ms_max", written.wait_ms_max.as_ref()),
    }
}

pub(super) fn pool(written: &PoolFile, problems: &mut Problems) -> PoolSettings {
    let size = problems.count("size", &written.size, 1..=10_000);
    let size_min = problems.count("size_min", &written.size_min, 0..=10_000);
    if size_min > size {
        problems.add(
            written.size_min.place,
            format!("`size_min: {size_min}` with `size: {size}`"),
            "no more than size",
        );
    }
    PoolSettings {
        mode: match written.mode {
            PoolModeFile::Transaction => PoolMode::Transaction,
            PoolModeFile::Session => PoolMode::Session,
        },
        size,
        size_min,
        waiters_max: problems.count("waiters_max", &written.waiters_max, 0..=1_000_000),
        wait_max: problems.millis("wait_ms_max", &written.wait_ms_max, 1..=DAY_MS),
        connect_timeout: problems.millis("connect_ms_max", &written.connect_ms_max, 1..=DAY_MS),
        idle_max: problems.millis("idle_ms_max", &written.idle_ms_max, 1..=YEAR_MS),
        lifetime_max: problems.millis("lifetime_ms_max", &written.lifetime_ms_max, 1_000..=YEAR_MS),
        prepared_max: problems.count("prepared_max", &written.prepared_max, 1..=100_000),
        pipeline_max: problems.count("pipeline_max", &written.pipeline_max, 1..=1_000),
        pipeline_time_max: problems.millis("pipeline_ms_max", &written.pipeline_ms_max, 1..=60_000),
        pins: match written.pin {
            PinFile::Allow => Pins::Allowed,
            PinFile::Refuse => Pins::Refused,
        },
        verify: written.verify,
    }
}

pub(super) fn consistency(
    written: &ConsistencyFile,
    problems: &mut Problems,
) -> ConsistencySettings {
    let sample_busy = problems.millis("sample_busy_ms", &written.sample_busy_ms, 1..=60_000);
    let sample_idle = problems.millis("sample_idle_ms", &written.sample_idle_ms, 1..=60_000);
    if sample_idle < sample_busy {
        let found = format!(
            "`sample_idle_ms: {}` with `sample_busy_ms: {}`",
            sample_idle.as_millis(),
            sample_busy.as_millis()
        );
        problems.add(
            written.sample_idle_ms.place,
            found,
            "no less than sample_busy_ms",
        );
    }
    ConsistencySettings {
        level: match written.level.value {
            LevelFile::Eventual => Level::Eventual,
            LevelFile::BoundedMs(millis) => Level::Bounded(millis),
            LevelFile::Session => Level::Session,
            LevelFile::Strong => Level::Strong,
        },
        sample_busy,
        sample_idle,
        lag_max: problems.millis("lag_ms_max", &written.lag_ms_max, 1..=YEAR_MS),
        sessions_max: problems.count("sessions_max", &written.sessions_max, 1..=100_000_000),
    }
}

pub(super) fn limits(written: &LimitsFile, problems: &mut Problems) -> Limits {
    let connections = written.server_connections_max.as_ref();
    Limits {
        server_connections_max: connections
            .map(|n| problems.count("server_connections_max", n, 1..=100_000)),
        clients_max: problems.count("clients_max", &written.clients_max, 1..=1_000_000),
        login_max: problems.millis("login_ms_max", &written.login_ms_max, 100..=600_000),
        message_bytes_max: problems.count(
            "message_bytes_max",
            &written.message_bytes_max,
            16_384..=1 << 30,
        ),
        parsed_bytes_max: problems.count(
            "parsed_bytes_max",
            &written.parsed_bytes_max,
            1_024..=64 << 20,
        ),
        plans_max: problems.count("plans_max", &written.plans_max, 1..=1_000_000),
        combine_bytes_max: problems.count(
            "combine_bytes_max",
            &written.combine_bytes_max,
            65_536..=1 << 36,
        ),
        portal_bytes_max: problems.count(
            "portal_bytes_max",
            &written.portal_bytes_max,
            65_536..=1 << 36,
        ),
        client_prepared_max: problems.count(
            "client_prepared_max",
            &written.client_prepared_max,
            1..=1_000_000,
        ),
        drain_max: problems.millis("drain_ms_max", &written.drain_ms_max, 0..=DAY_MS),
        queries_max: problems.count("queries_max", &written.queries_max, 1..=100_000),
        notify_bytes_max: problems.count(
            "notify_bytes_max",
            &written.notify_bytes_max,
            16_384..=1 << 32,
        ),
        gather_bytes_max: problems.number(
            "gather_bytes_max",
            &written.gather_bytes_max,
            0..=1 << 50,
        ),
        gather_connections_max: problems.count(
            "gather_connections_max",
            &written.gather_connections_max,
            1..=1_000,
        ),
        bounds: bounds_of_all(written, problems),
        gather_disk_bytes_max: problems.number(
            "gather_disk_bytes_max",
            &written.gather_disk_bytes_max,
            0..=1 << 50,
        ),
    }
}
