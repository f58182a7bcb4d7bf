//! The sweep that looks at the clocks of all clients: who takes longer than the shard map allows is stopped. One look at
//! everybody now and then costs less than a timer for each statement.

use super::App;
use crate::config::{Bound, ClientBounds, Config};
use crate::exec::failure::Report;
use crate::exec::overrun::{Scope, Verdict};
use crate::stats::{ClientInfo, ClientState, Doing};
use crate::wire::sqlstate::SqlState;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Pauses between two looks: a tenth of the shortest bound, but no less and no more than these.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

impl App {
    pub(super) async fn oversee(self: Arc<Self>) {
        loop {
            let shortest = self.config.load().shortest_bound();
            let pause = shortest.map_or(PAUSE_MAX, |max| (max / 10).clamp(PAUSE_MIN, PAUSE_MAX));
            tokio::time::sleep(pause).await;
            if shortest.is_some() {
                self.look_at_clocks();
            }
        }
    }

    fn look_at_clocks(&self) {
        let config = self.config.load_full();
        let mut known = HashMap::new();
        let now = Instant::now();
        let clients = self.clients.all();
        for client in &clients {
            let Some((doing, verdict)) = judge(client, &config, &mut known, now) else {
                continue;
            };
            if !client.note_overrun(doing, verdict.ends_connection()) {
                continue;
            }
            tracing::info!(
                client = client.id,
                user = %client.identity.user,
                "{}",
                verdict.report.message
            );
            let (cancels, client) = (self.cancels.clone(), client.clone());
            // a server that does not take the cancel must not hold up the others
            tokio::spawn(async move {
                let holds = || client.doing() == doing;
                cancels.overrun(client.identity.pid, verdict, holds).await;
            });
        }
    }
}

/// What holds for the clients of a user and a database.
type Known<'c> = HashMap<(&'c str, &'c str), ClientBounds>;

fn judge<'c>(
    client: &'c ClientInfo,
    config: &Config,
    known: &mut Known<'c>,
    now: Instant,
) -> Option<(Doing, Verdict)> {
    let doing = client.doing();
    let (user, database) = (&client.identity.user, &client.identity.database);
    let bounds = known
        .entry((user, database))
        .or_insert_with(|| config.client_bounds(user, database));
    let over = |bound: &Option<Bound>, since: Instant| {
        let bound = bound.as_ref()?;
        (now.saturating_duration_since(since) > bound.max).then(|| bound.clone())
    };
    let verdict = match doing.state {
        ClientState::Idle => {
            over(&bounds.client_idle, doing.since).map(|bound| client_idle(&bound))
        }
        ClientState::Active | ClientState::Waiting => over(&bounds.query, doing.since)
            .map(|bound| query(&bound))
            .or_else(|| over(&bounds.transaction, begun(client, doing)).map(|b| transaction(&b))),
        ClientState::IdleInTransaction => over(&bounds.transaction_idle, doing.since)
            .map(|bound| transaction_idle(&bound))
            .or_else(|| over(&bounds.transaction, begun(client, doing)).map(|b| transaction(&b))),
    };
    verdict.map(|verdict| (doing, verdict))
}

/// When its transaction began: with the statement itself where there is none around it.
fn begun(client: &ClientInfo, doing: Doing) -> Instant {
    client.transaction_since().unwrap_or(doing.since)
}

fn report(code: SqlState, message: &str, bound: &Bound, name: &str) -> Report {
    let Bound { max, holder } = bound;
    Report::new(code, format!("{message} more than {} ms", max.as_millis())).hint(format!(
        "{name} in the limits of {holder} in the shard map bounds it."
    ))
}

fn query(bound: &Bound) -> Verdict {
    let message = "canceling statement: it has taken";
    Verdict {
        report: report(SqlState::QUERY_CANCELED, message, bound, "query_ms_max"),
        scope: Scope::Statement,
    }
}

fn transaction(bound: &Bound) -> Verdict {
    let message = "terminating connection: its transaction has been open for";
    Verdict {
        report: report(SqlState("25P04"), message, bound, "transaction_ms_max"),
        scope: Scope::Connection,
    }
}

fn transaction_idle(bound: &Bound) -> Verdict {
    let message = "terminating connection: it has left a transaction idle for";
    Verdict {
        report: report(SqlState("25P03"), message, bound, "transaction_idle_ms_max"),
        scope: Scope::Connection,
    }
}

fn client_idle(bound: &Bound) -> Verdict {
    let message = "terminating connection: it has been idle for";
    Verdict {
        report: report(SqlState("57P05"), message, bound, "client_idle_ms_max"),
        scope: Scope::Connection,
    }
}
