//! A portal in a scratch database that has given some of its rows: the database stays with the client's transaction until the
//! portal ends, PostgreSQL keeps the rows, and each portion passes through as it comes.

use super::lending::{Lent, Parking};
use super::{Stop, cleaned};
use crate::consistency::Level;
use crate::exec::backend::Backend;
use crate::exec::cancel::send_cancel;
use crate::exec::executor::{Done, Executor};
use crate::exec::failure::{Failure, Report};
use crate::exec::job::Job;
use crate::pool::outstanding::{Fate, Reply};
use crate::route::{Merge, Targets};
use crate::wire::build;
use crate::wire::sqlstate::SqlState;
use std::sync::Arc;
use std::time::Instant;

/// The portal of what is asked about a cursor.
const ASKING: &[u8] = b"pgshunt/ask";

pub struct Parked {
    lent: Option<Lent>,
    backend: Arc<Backend>,
    _parking: Option<Parking>,
}

/// What a portal there is asked.
#[derive(Clone, Copy, Debug)]
pub enum More<'a> {
    /// the next rows of this portal
    Execute { portal: &'a [u8], rows: i32 },
    /// a statement about its cursor, as a simple query
    Simple(&'a [u8]),
    /// and by the extended protocol: the formats of its result are those of this body of a Bind
    Bound { text: &'a [u8], rest: &'a [u8] },
    /// what its result looks like
    Described { text: &'a [u8], rest: &'a [u8] },
}

impl Parked {
    /// It may have more rows.
    #[must_use]
    pub fn suspended(&self) -> bool {
        let lent = self.lent.as_ref();
        lent.is_some_and(|lent| lent.scratch.suspended)
    }
}

impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parked")
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        if let Some(lent) = self.lent.take() {
            let_go(self.backend.clone(), lent);
        }
    }
}

/// Empties a scratch database and gives it back, while the client goes on; where it is not known to be clean it is closed.
pub(super) fn let_go(backend: Arc<Backend>, lent: Lent) {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return;
    };
    if !lent.scratch.server.in_step() {
        let (pid, secret) = (lent.scratch.server.pid, lent.scratch.server.secret);
        let address = backend.topology.address(lent.scratch.member).clone();
        drop(lent);
        runtime.spawn(async move { send_cancel(&address, pid, secret).await });
        return;
    }
    let cleaning = backend.scratches.cleaning();
    runtime.spawn(async move {
        if let Some(lent) = cleaned(lent).await {
            backend.scratches.give_back(lent);
        }
        drop(cleaning);
    });
}

impl Executor {
    /// Runs a job that leaves a portal in its scratch database.
    pub async fn run_parked(
        &mut self,
        job: &Job,
        level: Level,
        parking: Parking,
    ) -> Result<(Done, Parked), Failure> {
        self.guard_failed()?;
        let (Merge::Gather(gather), Targets::Many(shards)) = (&job.merge, &job.targets) else {
            return Err(gone().into());
        };
        let result = self.gather_rows(job, gather, shards, level).await;
        self.clock = Instant::now();
        self.reconcile(None);
        match result {
            Ok((done, mut lent)) => {
                self.forget_scratch(&mut lent).await;
                let parked = Parked {
                    lent: Some(lent),
                    backend: self.backend.clone(),
                    _parking: Some(parking),
                };
                Ok((done, parked))
            }
            Err(failure) => {
                self.note_failure();
                Err(failure)
            }
        }
    }

    /// Goes on with it. After a failure nothing can be done with it any more.
    pub async fn ask_parked(
        &mut self,
        parked: &mut Parked,
        more: More<'_>,
    ) -> Result<Done, Failure> {
        self.guard_failed()?;
        let result = self.more_of(parked, more).await;
        self.clock = Instant::now();
        self.client.expects_more = false;
        if result.is_err() {
            self.note_failure();
            *parked = Parked {
                lent: None,
                backend: self.backend.clone(),
                _parking: None,
            };
        }
        result
    }

    async fn more_of(&mut self, parked: &mut Parked, more: More<'_>) -> Result<Done, Failure> {
        // lost with the future, should that be given up
        let Some(mut lent) = parked.lent.take() else {
            return Err(gone().into());
        };
        self.aim_cancel_at(&lent.scratch).await?;
        let ours_after = compose(more, &mut lent.scratch.server);
        let passed = self.pass_answer(&mut lent.scratch, ours_after).await;
        self.forget_scratch(&mut lent).await;
        parked.lent = Some(lent);
        let answer = match passed {
            Ok(answer) => answer,
            Err(Stop::Failed(failure)) => return Err(failure),
            Err(_) => return Err(gone().into()),
        };
        if let Some(lent) = &mut parked.lent {
            lent.scratch.suspended = answer.suspended;
        }
        if answer.error.is_some() {
            return Err(Failure::Shown);
        }
        if let Some(own) = answer.own_error {
            self.client.show_error(&own);
            return Err(Failure::Shown);
        }
        Ok(Done {
            rows: answer.rows,
            shards: 1,
            ..Done::default()
        })
    }

    /// A cancel request no longer reaches the scratch database. Waits for one that is under way.
    async fn forget_scratch(&mut self, lent: &mut Lent) {
        let server = &mut lent.scratch.server;
        let mut target = self.cancel.lock().await;
        target.running.retain(|(_, pid, _)| *pid != server.pid);
        if target.doubtful.contains(&server.pid) {
            server.taint("a cancel request may still be on its way");
        }
    }
}

/// After how many descriptions ours comes, as `Translation` wants it.
fn compose(more: More<'_>, server: &mut crate::pool::server::Server) -> Option<usize> {
    let (text, rest) = match more {
        More::Execute { portal, rows } => {
            server.ask(Reply::Execute, Fate::Forward, |out| {
                build::execute(out, portal, rows);
            });
            server.sync();
            return None;
        }
        More::Simple(text) => {
            server.query(text, Fate::Forward);
            return None;
        }
        More::Bound { text, rest } | More::Described { text, rest } => (text, rest),
    };
    server.parse_unnamed(0, text, &[], Fate::Skip);
    server.unnamed = None;
    server.ask(Reply::Bind, Fate::Skip, |out| {
        build::bind(out, ASKING, b"", rest);
    });
    server.ask(Reply::DescribePortal, Fate::Forward, |out| {
        build::named(out, b'D', b'P', ASKING);
    });
    let executes = matches!(more, More::Bound { .. });
    if executes {
        server.ask(Reply::Execute, Fate::Forward, |out| {
            build::execute(out, ASKING, 0);
        });
    }
    server.ask(Reply::Close(None), Fate::Skip, |out| {
        build::named(out, b'C', b'P', ASKING);
    });
    server.sync();
    // what is asked for here is shown as it is where nothing else is
    executes.then_some(0)
}

fn gone() -> Report {
    Report::new(
        SqlState::NOT_IN_PREREQUISITE_STATE,
        "the portal's scratch database is gone",
    )
}
