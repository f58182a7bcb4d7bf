//! Statements of a session that stand on a server under the client's own names. A server that is asked for them by name, or which
//! there are, must have just these. All of it is said in messages of the extended protocol, so that a batch that is open stays so.

use super::held::Held;
use super::relay::{RelayError, settle};
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::{Answer, Server, Status};
use crate::wire::build;
use bytes::Bytes;

const NAMES: &[u8] = b"SELECT name FROM pg_catalog.pg_prepared_statements";

/// A statement as it is brought to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brought {
    pub name: Bytes,
    pub how: How,
    /// which of the session's it is, in the order in which they were made
    pub number: u64,
}

/// How the client has made it: `pg_prepared_statements` shows that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// a PREPARE, as it was written
    Sql(Bytes),
    /// a Parse
    Protocol { text: Bytes, types: Vec<u32> },
}

impl Held {
    /// The server's statements are these, and those it has made itself; its error, if it has one. One that cannot be made any
    /// more (its table is gone) is left out, where that undoes no transaction. `prepare_time` tells in which order they come.
    pub async fn bring_all(&mut self, wanted: &[Brought]) -> Result<Option<Bytes>, RelayError> {
        let brought = self
            .bring(wanted, |brought| wanted.contains(brought))
            .await?;
        if brought.is_none() || self.batch_open || self.server.status() != Status::Idle {
            return Ok(brought);
        }
        for one in wanted {
            self.bring_one(one).await?;
        }
        Ok(None)
    }

    /// It has this one, too.
    pub async fn bring_one(&mut self, wanted: &Brought) -> Result<Option<Bytes>, RelayError> {
        if self.brought.contains(wanted) {
            return Ok(None);
        }
        let stays = |brought: &Brought| brought.name != wanted.name;
        self.bring(std::slice::from_ref(wanted), stays).await
    }

    /// It has none of this name any more.
    pub async fn take_back(&mut self, name: &[u8]) -> Result<Option<Bytes>, RelayError> {
        let Some(place) = self.brought.iter().position(|brought| brought.name == name) else {
            return Ok(None);
        };
        let brought = self.brought.swap_remove(place);
        let answer = self.ask_quietly(|server| close(server, &brought.name));
        Ok(answer.await?.own_error)
    }

    async fn bring(
        &mut self,
        wanted: &[Brought],
        stays: impl Fn(&Brought) -> bool,
    ) -> Result<Option<Bytes>, RelayError> {
        let answer = self.ask_quietly(|server| run(server, NAMES, Fate::Capture));
        let answer = answer.await?;
        if answer.own_error.is_some() {
            return Ok(answer.own_error);
        }
        let there = answer.captured;
        self.brought.retain(|brought| there.contains(&brought.name));
        let mut gone: Vec<Bytes> = Vec::new();
        for brought in self.brought.extract_if(.., |brought| !stays(brought)) {
            gone.push(brought.name);
        }
        // what the pool has prepared here is nobody's business, and is prepared again when it is wanted
        let pools = there.iter().filter(|name| is_pools(name)).cloned();
        gone.extend(pools);
        let lacks = |one: &&Brought| !self.brought.contains(one);
        let come: Vec<&Brought> = wanted.iter().filter(lacks).collect();
        // what a bringing that has failed has left there
        let left = come.iter().filter(|one| there.contains(&one.name));
        gone.extend(left.map(|one| one.name.clone()));
        if gone.is_empty() && come.is_empty() {
            return Ok(None);
        }
        self.server.forget_prepared();
        self.brought.extend(come.iter().copied().cloned());
        let answer = self.ask_quietly(|server| {
            for name in &gone {
                close(server, name);
            }
            for one in &come {
                make(server, one);
            }
        });
        let error = answer.await?.own_error;
        if error.is_some() {
            // those before the one that failed may be there
            self.brought.retain(|brought| !come.contains(&brought));
        }
        Ok(error)
    }

    /// Asks in messages of our own, and waits for the answers. A batch that is open stays so: a Sync would commit what it has
    /// done.
    pub async fn ask_quietly(
        &mut self,
        ask: impl FnOnce(&mut Server),
    ) -> Result<Answer, RelayError> {
        let server = &mut *self.server;
        ask(server);
        if self.batch_open {
            server.flush_request();
        } else {
            server.sync();
        }
        server.unnamed = None;
        let mut answer = Answer::default();
        settle(server, &mut answer).await?;
        self.batch_failed |= self.batch_open && answer.own_error.is_some();
        Ok(answer)
    }
}

fn close(server: &mut Server, name: &[u8]) {
    server.ask(Reply::Close(None), Fate::Skip, |out| {
        build::named(out, b'C', b'S', name);
    });
}

fn make(server: &mut Server, brought: &Brought) {
    match &brought.how {
        How::Sql(prepare) => run(server, prepare, Fate::Skip),
        How::Protocol { text, types } => {
            server.ask(Reply::Parse(0), Fate::Skip, |out| {
                build::parse(out, &brought.name, text, types);
            });
        }
    }
}

fn run(server: &mut Server, sql: &[u8], fate: Fate) {
    server.parse_unnamed(0, sql, &[], Fate::Skip);
    server.ask(Reply::Bind, Fate::Skip, |out| {
        build::bind(out, b"", b"", &[0; 6]);
    });
    server.ask(Reply::Execute, fate, |out| build::execute(out, b"", 0));
}

/// Named as `statement_name` does.
fn is_pools(name: &[u8]) -> bool {
    name.strip_prefix(b"pgshunt_")
        .is_some_and(|id| id.len() == 32 && id.iter().all(u8::is_ascii_hexdigit))
}
