//! One time for all servers of a statement, or of a transaction: that of the server which the transaction reached first, or
//! wrote on (hazard 22).

use super::executor::{Executor, Placement};
use super::failure::{Failure, Report};
use super::transaction::Transaction;
use crate::consistency::Level;
use crate::pool::outstanding::Fate;
use crate::route::{Access, Targets};
use crate::shard::ShardId;
use crate::sql::clock::Times;
use crate::wire::sqlstate::SqlState;

const NOW: &str = "SELECT pg_catalog.concat_ws(',', \
    pg_catalog.to_char(pg_catalog.timezone('UTC', pg_catalog.now()), 'YYYY-MM-DD HH24:MI:SS.US'), \
    pg_catalog.to_char(LOCALTIMESTAMP, 'YYYY-MM-DD HH24:MI:SS.US'))";

impl Executor {
    /// The time that is to stand in a statement; None where each server may take its own, or where no time is that of all.
    pub async fn time_for(
        &mut self,
        targets: &Targets,
        access: Access,
        level: Level,
    ) -> Result<Option<Times>, Failure> {
        let Some(shard) = self.whose_time(targets, access) else {
            return Ok(None);
        };
        let transaction = self.transaction.as_ref();
        let replica = transaction.is_none_or(Transaction::replica_can_serve);
        let placement = if replica && access == Access::Read {
            Placement::ReplicaIfFresh(level)
        } else {
            Placement::Primary
        };
        let index = self.acquire(shard, placement).await?;
        let answer = match self.held[index].run(NOW, Fate::Capture).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.lost(index, &error)),
        };
        self.still_wanted()?;
        if let Some(error) = answer.own_error {
            self.client.show_error(&error);
            return Err(Failure::Shown);
        }
        self.held[index].read = true;
        if let Some(tx) = &mut self.transaction {
            tx.time_of = Some(shard);
        } else {
            self.let_idle_servers_go().await;
        }
        let said = answer.captured.first().map_or(&b""[..], |said| said);
        let said = String::from_utf8_lossy(said);
        let Some((utc, local)) = said.split_once(',') else {
            return Err(Report::new(
                SqlState::INTERNAL_ERROR,
                "a server did not say what time it is",
            )
            .into());
        };
        Ok(Some(Times {
            utc: utc.to_owned(),
            local: local.to_owned(),
        }))
    }

    fn whose_time(&self, targets: &Targets, access: Access) -> Option<ShardId> {
        // a query would end what the batch has begun
        if self.held.iter().any(|h| h.batch_open) || self.has_failed() {
            return None;
        }
        let home = self.snapshot.database.home;
        let one = match targets {
            Targets::One(shard) => Some(*shard),
            Targets::Many(_) | Targets::None => None,
        };
        if self.transaction.is_none() {
            let first = || match targets {
                Targets::Many(shards) => shards.first().copied().unwrap_or(home),
                _ => home,
            };
            return one.is_none().then(first);
        }
        if one.is_some_and(|shard| !self.is_joined_elsewhere(shard)) {
            return None;
        }
        let owner = self.owner_of_time(one.filter(|_| access == Access::Write))?;
        match one {
            // it has this time itself
            Some(shard) if shard == owner => None,
            // what else it writes would have another
            Some(_) if access == Access::Write => None,
            _ => Some(owner),
        }
    }

    fn is_joined_elsewhere(&self, shard: ShardId) -> bool {
        self.held
            .iter()
            .any(|h| h.in_transaction && h.shard != shard)
    }

    /// Whose time is that of the whole transaction, if there is such a server: what another has written may have its own
    /// time in it (defaults, triggers).
    fn owner_of_time(&self, candidate: Option<ShardId>) -> Option<ShardId> {
        let tx = self.transaction.as_ref()?;
        let writers = || {
            let stamped = self.held.iter().filter(|h| h.in_transaction && h.stamped);
            stamped.map(|h| h.shard)
        };
        let first = tx.joined_first.unwrap_or(self.snapshot.database.home);
        let owner = tx
            .time_of
            .or_else(|| writers().next())
            .or(candidate)
            .unwrap_or(first);
        writers().all(|shard| shard == owner).then_some(owner)
    }

    /// One transaction has one `now()`: servers that began at different moments would give several.
    pub(super) fn guard_clock(&mut self, shard: ShardId, access: Access) -> Result<(), Failure> {
        let candidate = (access == Access::Write).then_some(shard);
        let own = !self.is_joined_elsewhere(shard) || self.owner_of_time(candidate) == Some(shard);
        if !own {
            return Err(Report::new(
                SqlState::FEATURE_NOT_SUPPORTED,
                "now() and other clocks in a transaction over several shards",
            )
            .hint("Pass the time as a value: one for the whole transaction.")
            .into());
        }
        if let Some(tx) = &mut self.transaction {
            tx.time_of = Some(shard);
        }
        Ok(())
    }
}
