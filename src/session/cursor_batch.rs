//! Where a bound statement about cursors goes: to the server that has the cursor, or to what is kept here. A batch may use
//! cursors that it has declared itself.

use super::Session;
use super::bound::Bound;
use super::cursor_steps::{Asked, CursorStep};
use super::cursors::Whose;
use crate::exec::Failure;
use crate::exec::job::Prepared;
use crate::route::{Command, Plan, Targets};
use crate::sql::command::cursor::CursorWords;
use bytes::Bytes;
use std::sync::Arc;

/// Where it goes.
pub(super) enum Bindings {
    Here(Arc<Asked>),
    Targets(Targets),
    Anywhere,
}

impl Session {
    pub(super) fn is_about_cursors(&self, plan: &Plan) -> bool {
        matches!(plan.command, Command::Cursor | Command::DeclareOver) && self.knows_cursors()
    }

    pub(super) fn bind_cursor(
        &mut self,
        plan: &Plan,
        prepared: &Arc<Prepared>,
        bound: &Bound<'_>,
        rest: Bytes,
    ) -> Result<Bindings, Failure> {
        let (words, query) = self.cursor_words(&prepared.client_text)?;
        let whose = match &words {
            CursorWords::Declare { name, .. } => {
                let targets = self.targets_of(plan, bound)?;
                let shard = match targets {
                    Targets::Many(_) => None,
                    Targets::One(shard) => Some(shard),
                    Targets::None => Some(self.any_shard()),
                };
                self.room_for_cursors()?;
                let whose = shard.map_or(Whose::Ours, Whose::Server);
                if self.whose_declared(name) == Whose::Unknown {
                    self.gathering.declared.push((name.clone(), whose));
                    whose
                } else {
                    // its Execute will say so
                    Whose::Ours
                }
            }
            CursorWords::Close(None) => {
                let all = self.cursors().map(|cursor| cursor.name.clone());
                let closed: Vec<_> = all.map(|name| (name, Whose::Unknown)).collect();
                self.gathering.declared.extend(closed);
                Whose::Ours
            }
            CursorWords::Fetch { name, .. } | CursorWords::Move { name, .. } => {
                self.bound_cursor(name)?
            }
            CursorWords::Close(Some(name)) => {
                let whose = self.bound_cursor(name)?;
                let closed = (name.clone(), Whose::Unknown);
                self.gathering.declared.push(closed);
                whose
            }
        };
        Ok(match whose {
            Whose::Ours => Bindings::Here(Arc::new(Asked {
                words,
                query,
                prepared: prepared.clone(),
                rest,
            })),
            Whose::Server(shard) => Bindings::Targets(Targets::One(shard)),
            Whose::Portal | Whose::Unknown => Bindings::Anywhere,
        })
    }

    /// Whose cursor this will be when the batch has come so far.
    pub(super) fn whose_declared(&self, name: &str) -> Whose {
        let mut latest_first = self.gathering.declared.iter().rev();
        match latest_first.find(|(its, _)| its == name) {
            Some((_, whose)) => *whose,
            None => self.whose_cursor(name),
        }
    }

    fn bound_cursor(&self, name: &str) -> Result<Whose, Failure> {
        Ok(match self.whose_declared(name) {
            Whose::Portal => self.whose(name)?,
            whose => whose,
        })
    }

    /// A FETCH that is described as a statement: no server knows a cursor that is kept here.
    pub(super) fn described_here(
        &self,
        prepared: &Arc<Prepared>,
    ) -> Result<Option<Arc<Asked>>, Failure> {
        let (words, query) = self.cursor_words(&prepared.client_text)?;
        let ours = match &words {
            CursorWords::Fetch { name, .. } => self.whose_declared(name) == Whose::Ours,
            _ => false,
        };
        let asked = || Asked {
            words,
            query,
            prepared: prepared.clone(),
            rest: Bytes::from_static(&[0; 6]),
        };
        Ok(ours.then(|| Arc::new(asked())))
    }

    /// What is to be noted once a server has run it.
    pub(super) fn after_cursor(
        &self,
        prepared: &Prepared,
        targets: &Targets,
    ) -> Result<Option<CursorStep>, Failure> {
        let (words, _) = self.cursor_words(&prepared.client_text)?;
        Ok(match (words, targets) {
            (CursorWords::Declare { name, hold, .. }, Targets::One(shard)) => {
                let shard = *shard;
                Some(CursorStep::Declared { name, hold, shard })
            }
            (CursorWords::Close(Some(name)), _) => Some(CursorStep::Closed(name)),
            _ => None,
        })
    }
}
