//! One piece of work for one destination: what to send, where to, and what it leaves behind.

use super::copy::Asked;
use super::merge::Run;
use super::relay::{RelayError, settle};
use super::transaction::{ALL, Kind};
use crate::pool::outstanding::{Fate, Reply};
use crate::pool::server::{Answer, Server};
use crate::route::pace::Short;
use crate::route::{Access, Effects, Merge, Part, PlannedText, Targets};
use crate::sql::clock::Moved;
use crate::vars::reset_statement;
use crate::wire::build;
use bytes::{Bytes, BytesMut};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

/// The first number that a type made by a user can have.
const FIRST_OWN_TYPE: u32 = 16_384;

/// A statement a client has parsed.
#[derive(Debug)]
pub struct Prepared {
    /// of the text, its parameter types and the settings it was parsed under
    pub id: u128,
    /// on servers; empty for the unnamed statement
    pub name: Box<str>,
    /// false: the client's unnamed statement
    pub named: bool,
    pub client_text: Bytes,
    /// with the parameters of drawn keys
    pub server_text: Bytes,
    pub types: Vec<u32>,
    /// parameters at the end that are ours
    pub hidden: usize,
    pub planned: Arc<PlannedText>,
    /// as several shards are asked, whose rows are then combined
    pub combined: Option<Arc<Prepared>>,
    /// with the time as further parameters, in the place of its clocks: for several servers
    pub timed: Option<Arc<Prepared>>,
    /// what it was planned under, and what it was parsed under
    pub context: u64,
    pub settings: u64,
    /// the portal's results are decided here when the statement is pgshunt's own business
    pub local: bool,
    /// what the client was told of its result (`wire::message::result_hash`); 0 when it has not asked
    pub result: AtomicU64,
    /// what it was told of its parameters, which stay of these types
    pub told_types: OnceLock<Box<[u32]>>,
}

impl Prepared {
    /// The types of its parameters when it is parsed again. What a database has made itself has other numbers on other
    /// shards.
    #[must_use]
    pub fn types_again(&self, shards: usize) -> Vec<u32> {
        let Some(told) = self.told_types.get() else {
            return self.types.clone();
        };
        let mut types = told.to_vec();
        types.truncate(types.len().saturating_sub(self.hidden));
        for (n, oid) in types.iter_mut().enumerate() {
            if shards > 1 && *oid >= FIRST_OWN_TYPE {
                *oid = self.types.get(n).copied().unwrap_or(0);
            }
        }
        types
    }

    /// The same as the unnamed statement, with other parameter types.
    #[must_use]
    pub fn unnamed(&self, types: Vec<u32>) -> Arc<Self> {
        Arc::new(Self {
            id: self.id,
            name: Box::default(),
            named: false,
            client_text: self.client_text.clone(),
            server_text: self.server_text.clone(),
            types,
            planned: self.planned.clone(),
            combined: self.combined.clone(),
            timed: None,
            result: AtomicU64::new(0),
            told_types: OnceLock::new(),
            ..*self
        })
    }
}

/// One message of an extended batch, resolved.
#[derive(Debug, Clone)]
pub enum Step {
    Parse(Arc<Prepared>),
    Bind {
        portal: Bytes,
        prepared: Arc<Prepared>,
        rest: Bytes,
    },
    DescribeStatement(Arc<Prepared>),
    /// Describe or Execute of a portal, Close of a portal: the client's own bytes
    Portal {
        reply: Reply,
        frame: Bytes,
    },
    CloseStatement,
    /// a portal of ours, if it is there
    CloseQuietly(Bytes),
}

/// What ends a batch on the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Sync,
    /// answers are wanted, the implicit transaction goes on
    Flush,
}

/// EXECUTE by SQL.
#[derive(Debug, Clone)]
pub struct Execution {
    pub prepared: Arc<Prepared>,
    /// in the name that the statement has on servers
    pub text: Bytes,
    /// characters before that name, and how many more it has than the client's
    pub place: usize,
    pub longer: usize,
    /// characters that the client wrote before the statement itself, in its PREPARE
    pub before: usize,
    /// there is more to go wrong than the statement, in the first so many characters
    pub own_words: usize,
}

impl Execution {
    /// The server has the statement, or an error in the answer says why it cannot.
    pub async fn make_ready(
        &self,
        server: &mut Server,
        answer: &mut Answer,
    ) -> Result<(), RelayError> {
        let prepared = &self.prepared;
        if server.prepare(
            prepared.id,
            &prepared.server_text,
            &prepared.types,
            Fate::Skip,
        ) {
            server.sync();
            settle(server, answer).await?;
        }
        Ok(())
    }

    /// Where the client has written what an error is about: here, or in the statement as it was prepared.
    #[must_use]
    pub fn place_of(&self, at: usize) -> usize {
        if at > self.own_words {
            at + self.before
        } else if at > self.place {
            at.saturating_sub(self.longer).max(self.place)
        } else {
            at
        }
    }
}

#[derive(Debug, Clone)]
pub enum Ask {
    Simple(Bytes),
    /// EXECUTE of a statement that the server may not have yet
    Execute(Box<Execution>),
    /// a FunctionCall message, as it came
    Function(Bytes),
    Batch {
        steps: Vec<Step>,
        end: End,
    },
}

impl Ask {
    /// Appends the messages to what the server is sent.
    pub fn compose(&self, server: &mut Server) {
        match self {
            Self::Simple(text) => server.query(text, Fate::Forward),
            Self::Execute(execution) => server.query(&execution.text, Fate::Forward),
            Self::Function(frame) => {
                server.ask(Reply::Query, Fate::Forward, |out| {
                    out.extend_from_slice(frame);
                });
            }
            Self::Batch { steps, end } => {
                for step in steps {
                    compose_step(step, server);
                }
                match end {
                    End::Sync => server.sync(),
                    End::Flush => server.flush_request(),
                }
            }
        }
    }
}

fn ensure(prepared: &Prepared, server: &mut Server, fate: Fate) -> bool {
    if prepared.named {
        return server.prepare(prepared.id, &prepared.server_text, &prepared.types, fate);
    }
    if fate == Fate::Skip && server.unnamed == Some(prepared.id) {
        return false;
    }
    server.parse_unnamed(prepared.id, &prepared.server_text, &prepared.types, fate);
    true
}

pub(super) fn compose_step(step: &Step, server: &mut Server) {
    match step {
        Step::Parse(prepared) => {
            if !ensure(prepared, server, Fate::Forward) {
                server.synthesize(Bytes::from_static(b"1\0\0\0\x04"));
            }
        }
        Step::Bind {
            portal,
            prepared,
            rest,
        } => {
            ensure(prepared, server, Fate::Skip);
            server.ask(Reply::Bind, Fate::Forward, |out| {
                build::bind(out, portal, prepared.name.as_bytes(), rest);
            });
        }
        Step::DescribeStatement(prepared) => {
            ensure(prepared, server, Fate::Skip);
            let reply = Reply::DescribeStatement {
                hidden: prepared.hidden,
            };
            server.ask(reply, Fate::Forward, |out| {
                build::named(out, b'D', b'S', prepared.name.as_bytes());
            });
        }
        Step::Portal { reply, frame } => {
            server.ask(*reply, Fate::Forward, |out: &mut BytesMut| {
                out.extend_from_slice(frame);
            });
        }
        Step::CloseStatement => server.synthesize(Bytes::from_static(b"3\0\0\0\x04")),
        Step::CloseQuietly(portal) => {
            server.ask(Reply::Close(None), Fate::Skip, |out| {
                build::named(out, b'C', b'P', portal);
            });
        }
    }
}

/// Functions for large objects, whose descriptors end with their transaction: lo_open, lo_close, loread, lowrite, lo_lseek,
/// lo_creat, lo_tell, lo_unlink, lo_create, lo_truncate, the last three with 64 bits, lo_from_bytea, lo_get, lo_put.
const LARGE_OBJECTS: [u32; 17] = [
    952, 953, 954, 955, 956, 957, 958, 964, 715, 1004, 3170, 3171, 3172, 3457, 3458, 3459, 3460,
];

#[derive(Debug, Clone)]
pub struct Job {
    pub ask: Ask,
    pub access: Access,
    pub targets: Targets,
    pub merge: Merge,
    pub effects: Effects,
    /// with `Merge::Combine` on several shards
    pub combine: Option<Arc<Run>>,
    /// rows are asked for in portions (Execute with a limit)
    pub limited: bool,
    /// settings it changes, if it succeeds
    pub settings: Vec<Setting>,
    /// false: statements are only parsed and described, nothing runs
    pub executes: bool,
    /// another text than the client's is sent: where its places are there
    pub moved: Option<Arc<Moved>>,
    /// `Merge::Gather`: what is asked of each table
    pub parts: Option<Box<[Part]>>,
    /// it may be run again, and on a server that it shares with others; how long it takes on average
    pub shares: Option<Short>,
}

/// What a SET or RESET does to the session's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    Set {
        name: String,
        statement: String,
    },
    /// SET LOCAL: until the end of the transaction
    Local {
        name: String,
        statement: String,
    },
    Reset(String),
    ResetAll,
}

impl Setting {
    /// As a transaction keeps it for servers that join later.
    #[must_use]
    pub fn heard(&self) -> (&str, Kind, String) {
        match self {
            Self::Set { name, statement } => (name, Kind::Set, statement.clone()),
            Self::Local { name, statement } => (name, Kind::SetLocal, statement.clone()),
            Self::Reset(name) => (name, Kind::Reset, reset_statement(name)),
            Self::ResetAll => (ALL, Kind::Reset, "RESET ALL".to_owned()),
        }
    }
}

impl Job {
    /// A FunctionCall message: it may do anything, and leave anything, unless it is one of libpq's for large objects.
    #[must_use]
    pub fn function(frame: Bytes, shard: crate::shard::ShardId) -> Self {
        let oid = frame
            .get(5..9)
            .and_then(|oid| <[u8; 4]>::try_from(oid).ok());
        let known = oid.is_some_and(|oid| LARGE_OBJECTS.contains(&u32::from_be_bytes(oid)));
        Self {
            ask: Ask::Function(frame),
            access: Access::Write,
            targets: Targets::One(shard),
            merge: Merge::Single,
            effects: Effects {
                pins: (!known).then_some("function call message"),
                opaque: !known,
                ..Effects::default()
            },
            combine: None,
            limited: false,
            settings: Vec::new(),
            executes: true,
            moved: None,
            parts: None,
            shares: None,
        }
    }

    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.settings.is_empty()
    }

    /// Statements are only parsed, described and closed: nothing of it stays on the server that it could not do without.
    #[must_use]
    pub fn only_describes(&self) -> bool {
        match &self.ask {
            Ask::Batch { steps, .. } => steps.iter().all(|step| {
                matches!(
                    step,
                    Step::Parse(_) | Step::DescribeStatement(_) | Step::CloseStatement
                )
            }),
            _ => false,
        }
    }

    /// How a COPY FROM STDIN in it ends.
    #[must_use]
    pub fn copy_asked(&self) -> Asked {
        match self.ask {
            Ask::Batch { end: End::Sync, .. } => Asked::BeforeSync,
            _ => Asked::Plainly,
        }
    }

    #[must_use]
    pub fn keeps_batch_open(&self) -> bool {
        matches!(
            self.ask,
            Ask::Batch {
                end: End::Flush,
                ..
            }
        )
    }
}
