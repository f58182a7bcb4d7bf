//! Scratch databases that nobody needs any more: those of a schema that is no longer in force, those that were never finished, those of
//! users and numbers that the map no longer has. Only where nobody is in them: who has one in use is connected to it, and PostgreSQL
//! drops no database under its users.

use super::{ScratchError, State, Workshop, state};
use std::collections::HashSet;

/// Dropping one costs its server a checkpoint: the others have time until the next look.
const DROPPED_MAX: usize = 8;

/// Of this database, with nobody in them.
const ABANDONED: &str = "SELECT d.datname::text, pg_catalog.shobj_description(d.oid, 'pg_database') \
    FROM pg_catalog.pg_database d WHERE d.datname LIKE 'pgshunt\\_scratch\\_%' \
    AND pg_catalog.starts_with(pg_catalog.shobj_description(d.oid, 'pg_database'), $1) \
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity a WHERE a.datid = d.oid) ORDER BY 1";

const BYTES: &str = "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_database_size(oid)), 0)::bigint FROM pg_catalog.pg_database \
    WHERE datname LIKE 'pgshunt\\_scratch\\_%' AND (pg_catalog.has_database_privilege(oid, 'CONNECT') \
    OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'))";

/// One that nobody is in.
#[derive(Clone, Debug)]
pub struct Abandoned {
    pub name: String,
    pub state: State,
}

impl Abandoned {
    /// `kept` are names that may be asked for again.
    #[must_use]
    pub fn is_rubbish(&self, fingerprint: u64, kept: &HashSet<String>) -> bool {
        let current = State::Finished { fingerprint };
        self.state != current || !kept.contains(&self.name)
    }
}

impl Workshop<'_> {
    /// What all scratch databases of this server have on disk.
    pub async fn bytes(&self) -> Result<u64, ScratchError> {
        let client = self.control.client(self.address).await?;
        let bytes: i64 = client.query_one(BYTES, &[]).await?.try_get(0)?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }

    pub async fn abandoned(&self) -> Result<Vec<Abandoned>, ScratchError> {
        let client = self.control.client(self.address).await?;
        let rows = client.query(ABANDONED, &[&self.mark()]).await?;
        let abandoned = |row: &tokio_postgres::Row| {
            Ok(Abandoned {
                name: row.try_get(0)?,
                state: state(row.try_get(1)?),
            })
        };
        rows.iter().map(abandoned).collect()
    }

    /// Drops what is rubbish and still nobody's, and counts it.
    pub async fn drop_rubbish(&self, rubbish: &[Abandoned]) -> Result<usize, ScratchError> {
        let mut dropped = 0;
        for abandoned in rubbish.iter().take(DROPPED_MAX) {
            if self.remove(&abandoned.name).await? {
                tracing::info!(scratch = abandoned.name, "dropped: nobody needs it");
                dropped += 1;
            }
        }
        Ok(dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_current_and_wanted_stays() {
        let kept = HashSet::from(["a".to_owned()]);
        let rubbish = |name: &str, state| {
            let name = name.to_owned();
            Abandoned { name, state }.is_rubbish(7, &kept)
        };
        assert!(!rubbish("a", State::Finished { fingerprint: 7 }));
        assert!(rubbish("a", State::Finished { fingerprint: 8 }));
        assert!(rubbish("a", State::Unfinished));
        assert!(rubbish("b", State::Finished { fingerprint: 7 }));
    }

    #[test]
    fn comments_say_whose_and_how_far() {
        assert_eq!(
            state("pgshunt scratch database of a, schema b, schema 00000000000000ff"),
            State::Finished { fingerprint: 255 }
        );
        assert_eq!(
            state("pgshunt scratch database of a, unfinished"),
            State::Unfinished
        );
        assert_eq!(state("schema 00ff"), State::Unfinished);
        assert_eq!(state(""), State::Unfinished);
    }
}
