//! Asks one server where it stands, again and again: one task a server, one question a time. It reports to the shard and
//! judges nothing.

use super::control::{ControlClient, ControlError, ControlPools, words};
use super::health::{PrimaryReport, PrimaryState, Receiver, ReplicaReport, ReplicaState};
use crate::config::ServerAddress;
use crate::consistency::{Position, WalLayout, Xid};
use std::time::{Duration, Instant};
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Row, Statement};
use xxhash_rust::xxh3::xxh3_64;

/// A server that does not answer within this is down.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// What does not change while the server runs.
const IDENTITY: &str = "SELECT (pg_catalog.pg_control_system()).system_identifier, \
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_block_size'), \
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size')";

/// The same for both roles, since roles change. The replay position stands before the timeline: a standby never moves to
/// a timeline that does not hold what it has replayed, so a timeline seen later holds for a position seen before. The
/// transaction bound is of the statement's own snapshot, which is older than all of these on a standby and newer than the
/// question on a primary.
const POSITION: &str = "SELECT in_recovery, \
    CASE WHEN in_recovery THEN pg_catalog.pg_last_wal_replay_lsn() \
         ELSE pg_catalog.pg_current_wal_insert_lsn() END, \
    CASE WHEN NOT in_recovery \
         THEN pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()) END, \
    (SELECT pid IS NOT NULL FROM pg_catalog.pg_stat_wal_receiver), \
    (SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver), \
    CASE WHEN in_recovery THEN pg_catalog.pg_is_wal_replay_paused() ELSE false END, \
    pg_catalog.current_setting('synchronous_standby_names') <> '', \
    CASE WHEN in_recovery THEN pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) \
         ELSE pg_catalog.txid_snapshot_xmax(pg_catalog.txid_current_snapshot()) END \
    FROM (SELECT pg_catalog.pg_is_in_recovery() AS in_recovery) AS role";

/// Where the timeline branched off, all the way back. Not everyone may read it.
const FORK: &str = "SELECT pg_catalog.pg_read_file($1, 0, 1048576, true)";

#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error("{}", words(.0))]
    Server(#[from] tokio_postgres::Error),
    #[error("no answer within {ANSWER_MAX:?}")]
    TimedOut,
    #[error("an answer pgshunt does not understand: {0}")]
    Unreadable(&'static str),
}

/// One answer, in the words of the role the server is meant to have.
pub enum Answer {
    Primary(PrimaryReport),
    Replica(ReplicaReport),
}

/// The sampler's end of one server.
pub struct Probe {
    address: ServerAddress,
    primary: bool,
    link: Option<Link>,
}

/// A connection and what was learned on it. While it lives, the server was not restarted.
struct Link {
    client: ControlClient,
    since: Instant,
    system_id: u64,
    layout: WalLayout,
    position: Statement,
    /// of the timeline: hash of its history file, None where it may not be read
    fork: Option<(u32, Option<u64>)>,
}

/// A row of `POSITION`.
struct Reading {
    in_recovery: bool,
    lsn: Option<u64>,
    timeline: Option<u32>,
    receiver: Receiver,
    paused: bool,
    synchronous: bool,
    xid: Option<Xid>,
}

impl Probe {
    #[must_use]
    pub fn primary(address: ServerAddress) -> Self {
        Self {
            address,
            primary: true,
            link: None,
        }
    }

    #[must_use]
    pub fn replica(address: ServerAddress) -> Self {
        Self {
            address,
            primary: false,
            link: None,
        }
    }

    /// Gives its connection up.
    pub fn leave(&mut self) {
        self.link = None;
    }

    /// One question, over the connection at hand or a new one. After an error the connection is given up.
    pub async fn ask(&mut self, pools: &ControlPools) -> Result<Answer, SampleError> {
        let answer = tokio::time::timeout(ANSWER_MAX, self.try_ask(pools)).await;
        let answer = answer.unwrap_or(Err(SampleError::TimedOut));
        if answer.is_err() {
            self.link = None;
        }
        answer
    }

    async fn try_ask(&mut self, pools: &ControlPools) -> Result<Answer, SampleError> {
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(Link::open(pools, &self.address).await?),
        };
        let asked_at = Instant::now();
        let row = link.client.query_one(&link.position, &[]).await?;
        let answered_at = Instant::now();
        let reading = Reading::of(&row)?;
        let fork = link.fork(reading.known_timeline()).await?;
        Ok(if self.primary {
            Answer::Primary(PrimaryReport {
                asked_at,
                state: link.primary_state(&reading, fork)?,
            })
        } else {
            Answer::Replica(ReplicaReport {
                asked_at,
                answered_at,
                since: link.since,
                system_id: link.system_id,
                state: link.replica_state(&reading, fork),
            })
        })
    }
}

impl Link {
    async fn open(pools: &ControlPools, address: &ServerAddress) -> Result<Self, SampleError> {
        let client = pools.client(address).await?;
        let since = Instant::now();
        let row = client.query_one(IDENTITY, &[]).await?;
        let size = |column: usize| -> Result<u64, SampleError> {
            let value: i64 = row.try_get(column)?;
            u64::try_from(value).map_err(|_| SampleError::Unreadable("a size below zero"))
        };
        let system_id: i64 = row.try_get(0)?;
        let layout = WalLayout {
            page: size(1)?,
            segment: size(2)?,
        };
        let position = client.prepare(POSITION).await?;
        Ok(Self {
            client,
            since,
            system_id: system_id.cast_unsigned(),
            layout,
            position,
            fork: None,
        })
    }

    fn primary_state(
        &self,
        reading: &Reading,
        fork: Option<u64>,
    ) -> Result<PrimaryState, SampleError> {
        if reading.in_recovery {
            return Ok(PrimaryState::InRecovery);
        }
        let (Some(lsn), Some(timeline)) = (reading.lsn, reading.timeline) else {
            return Err(SampleError::Unreadable("a primary without a position"));
        };
        let position = Position {
            system_id: self.system_id,
            timeline,
            lsn: self.layout.normalise(lsn),
            xid: reading.xid,
        };
        Ok(PrimaryState::Writing {
            position,
            fork,
            synchronous: reading.synchronous,
        })
    }

    fn replica_state(&self, reading: &Reading, fork: Option<u64>) -> ReplicaState {
        if !reading.in_recovery {
            return ReplicaState::Writing;
        }
        ReplicaState::Replaying {
            lsn: reading.lsn.map(|raw| self.layout.normalise(raw)),
            xid: reading.xid,
            receiver: reading.receiver,
            fork,
            paused: reading.paused,
        }
    }

    /// Asked once for each timeline. Timeline 1 has no history.
    async fn fork(&mut self, timeline: Option<u32>) -> Result<Option<u64>, SampleError> {
        let Some(timeline) = timeline.filter(|t| *t > 1) else {
            return Ok(None);
        };
        match self.fork {
            Some((known, hash)) if known == timeline => Ok(hash),
            _ => {
                let path = format!("pg_wal/{timeline:08X}.history");
                let hash = match self.client.query_one(FORK, &[&path]).await {
                    Ok(row) => row
                        .try_get::<_, Option<String>>(0)?
                        .map(|t| xxh3_64(t.as_bytes())),
                    // not allowed, or not text: then the number has to do
                    Err(error) if error.as_db_error().is_some() => None,
                    Err(error) => return Err(error.into()),
                };
                self.fork = Some((timeline, hash));
                Ok(hash)
            }
        }
    }
}

impl Reading {
    fn of(row: &Row) -> Result<Self, SampleError> {
        let lsn: Option<PgLsn> = row.try_get(1)?;
        let file: Option<String> = row.try_get(2)?;
        let receives: Option<bool> = row.try_get(3)?;
        let received: Option<i32> = row.try_get(4)?;
        Ok(Self {
            in_recovery: row.try_get(0)?,
            lsn: lsn.map(u64::from),
            timeline: file.as_deref().map(timeline_of).transpose()?,
            receiver: match (receives, received.and_then(|t| u32::try_from(t).ok())) {
                (Some(true), Some(timeline)) if timeline > 0 => Receiver::Timeline(timeline),
                (Some(true), _) => Receiver::Hidden,
                _ => Receiver::None,
            },
            paused: row.try_get(5)?,
            synchronous: row.try_get(6)?,
            xid: u64::try_from(row.try_get::<_, i64>(7)?).ok().map(Xid),
        })
    }

    fn known_timeline(&self) -> Option<u32> {
        match self.receiver {
            Receiver::Timeline(timeline) => Some(timeline),
            _ => self.timeline,
        }
    }
}

/// A WAL file's name begins with its timeline in eight hexadecimal digits.
fn timeline_of(file: &str) -> Result<u32, SampleError> {
    file.get(..8)
        .and_then(|digits| u32::from_str_radix(digits, 16).ok())
        .ok_or(SampleError::Unreadable("the name of a WAL file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wal_file_names_its_timeline() {
        assert_eq!(timeline_of("0000001A0000000100000002").ok(), Some(26));
        assert!(timeline_of("0000").is_err());
        assert!(timeline_of("nonsense").is_err());
    }
}
