//! What of the session's statements a server must have under the client's own names before a statement runs there: the one
//! that an EXECUTE of the extended protocol names, all where `pg_prepared_statements` is asked. It pins: a server shared with
//! others could have the names of others.

use super::Session;
use super::named::One;
use super::statements::refused;
use crate::catalog::lingering;
use crate::exec::brought::{Brought, How};
use crate::exec::executor::Placement;
use crate::exec::failure::{Failure, Report};
use crate::exec::held::Pin;
use crate::exec::job::Prepared;
use crate::exec::relay::RelayError;
use crate::route::{Command, Merge, Plan, Routing};
use bytes::Bytes;
use std::time::Instant;

const REASON: &str = "statements prepared by name";

/// As the session stood when the message came: what comes behind it is not there yet.
pub(super) enum Bring {
    All(Vec<Brought>),
    One(Brought),
    /// nothing of this name
    Not(Bytes),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    /// an EXECUTE is described as what it names
    Parsed,
    Bound,
}

impl Session {
    /// What has to be brought first, if anything.
    pub(super) fn needs_there(
        &self,
        when: When,
        prepared: &Prepared,
    ) -> Result<Option<Bring>, Report> {
        let Some(plan) = prepared.planned.statements.first() else {
            return Ok(None);
        };
        if plan.effects.asks_statements || self.may_execute_unseen(plan) {
            return Ok((when == When::Bound).then(|| self.all_statements()));
        }
        let Command::ExecutePrepared(name) = &plan.command else {
            return Ok(None);
        };
        let Some((name, found)) = self.statements.get_one(name.as_bytes()) else {
            let name = name.as_bytes();
            let mut brought = self.exec.held.iter().flat_map(|held| &held.brought);
            let stale = brought.find(|brought| brought.name == name);
            return Ok(stale.map(|stale| Bring::Not(stale.name.clone())));
        };
        self.refuse_execute(plan, &found.prepared)?;
        Ok(Some(Bring::One(self.as_brought(name, found))))
    }

    /// Within a function an EXECUTE may name what the session has prepared by SQL.
    pub(super) fn may_execute_unseen(&self, plan: &Plan) -> bool {
        let one = self.exec.snapshot.database.shards.len() == 1;
        one && self.by_sql.is_some() && plan.effects.pins == Some(lingering::REASON)
    }

    pub(super) fn all_statements(&self) -> Bring {
        let all = self.statements.in_order();
        Bring::All(
            all.into_iter()
                .map(|(name, one)| self.as_brought(name, one))
                .collect(),
        )
    }

    pub(super) fn as_brought(&self, name: &Bytes, one: &One) -> Brought {
        let One { prepared, number } = one;
        let by_sql = self.by_sql.as_ref().and_then(|by_sql| by_sql.get(name));
        let how = match by_sql {
            Some((prepare, body)) if prepared.client_text == *body => How::Sql(prepare.clone()),
            _ => How::Protocol {
                text: prepared.client_text.clone(),
                types: prepared.types.clone(),
            },
        };
        let name = name.clone();
        Brought {
            name,
            how,
            number: *number,
        }
    }

    /// On the home shard it runs as it stands there: what belongs elsewhere, or what pgshunt itself has to know of, does not.
    fn refuse_execute(&self, plan: &Plan, prepared: &Prepared) -> Result<(), Report> {
        let Some(inner) = prepared.planned.statements.first() else {
            return Ok(());
        };
        let kept_here = prepared.local
            || inner.effects.ddl.is_some()
            || super::settings::is_setting(inner)
            || matches!(
                inner.command,
                Command::ExecutePrepared(_) | Command::Prepare(_)
            );
        if kept_here {
            return Err(refused(
                "EXECUTE of a statement that pgshunt answers itself",
            ));
        }
        let several = self.exec.snapshot.database.shards.len() > 1;
        let at_home = matches!(inner.routing, Routing::Home | Routing::AnyShard);
        if several && (!at_home || plan.merge == Merge::Everywhere) {
            return Err(refused(
                "EXECUTE by the extended protocol of a statement that is not on the home shard",
            ));
        }
        Ok(())
    }

    pub(super) async fn bring_statements(&mut self, bring: Bring) -> Result<(), Failure> {
        if self.exec.has_failed() {
            return Ok(());
        }
        let wants = match &bring {
            Bring::All(wanted) => !wanted.is_empty(),
            Bring::One(_) => true,
            Bring::Not(_) => false,
        };
        if wants {
            self.exec.guard_pin(REASON)?;
        }
        let home = self.exec.snapshot.database.home;
        let index = self.exec.acquire(home, Placement::Primary).await?;
        let held = &mut self.exec.held[index];
        if wants {
            let since = Instant::now();
            let reason = REASON;
            held.pin.get_or_insert(Pin { reason, since });
            held.opaque = true;
        }
        let brought = match &bring {
            Bring::All(wanted) => held.bring_all(wanted).await,
            Bring::One(wanted) => held.bring_one(wanted).await,
            Bring::Not(name) => held.take_back(name).await,
        };
        self.after_bringing(index, brought)
    }

    /// No server has a statement of this name that was brought there.
    pub(super) async fn take_back(&mut self, name: &[u8]) -> Result<(), Failure> {
        for index in (0..self.exec.held.len()).rev() {
            let taken = self.exec.held[index].take_back(name).await;
            self.after_bringing(index, taken)?;
        }
        Ok(())
    }

    fn after_bringing(
        &mut self,
        index: usize,
        brought: Result<Option<Bytes>, RelayError>,
    ) -> Result<(), Failure> {
        match brought {
            Ok(None) => Ok(()),
            Ok(Some(error)) => {
                self.exec.client.show_error(&error);
                self.exec.note_failure();
                Err(Failure::Shown)
            }
            Err(error) => Err(self.exec.lost(index, &error)),
        }
    }
}
