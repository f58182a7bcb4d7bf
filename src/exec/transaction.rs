//! The client's transaction as pgshunt sees it: begun when the client says so, on a server when one is needed.

use crate::route::{Command, Isolation};
use crate::vars::Vars;

#[derive(Clone, Debug)]
pub struct Savepoint {
    pub name: String,
    pub vars: Vars,
}

/// Who opened the transaction block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// BEGIN
    ByClient,
    /// a query of several statements, or one statement for every shard
    Implicitly,
}

#[derive(Clone, Debug)]
pub struct Transaction {
    pub opened: Opened,
    pub read_only: Option<bool>,
    pub isolation: Option<Isolation>,
    pub deferrable: bool,
    pub failed: bool,
    /// a server that took part is gone: only ROLLBACK is left
    pub lost: bool,
    pub savepoints: Vec<Savepoint>,
    pub vars_before: Vars,
    /// SET LOCAL statements, for servers that join later
    pub locals: Vec<String>,
    /// a statement for every shard ran: what is committed is committed one shard after another
    pub everywhere: bool,
    /// DDL ran: the catalog is loaded again after the commit
    pub ddl: bool,
    /// a cursor was declared on this shard
    pub cursor: Option<crate::shard::ShardId>,
}

impl Transaction {
    #[must_use]
    pub fn new(opened: Opened, vars: &Vars) -> Self {
        Self {
            opened,
            read_only: None,
            isolation: None,
            deferrable: false,
            failed: false,
            lost: false,
            savepoints: Vec::new(),
            vars_before: vars.clone(),
            locals: Vec::new(),
            everywhere: false,
            ddl: false,
            cursor: None,
        }
    }

    /// The transaction a BEGIN opens.
    #[must_use]
    pub fn of(command: &Command, vars: &Vars) -> Self {
        let mut tx = Self::new(Opened::ByClient, vars);
        if let Command::Begin {
            read_only,
            isolation,
            deferrable,
        } = command
        {
            tx.read_only = *read_only;
            tx.isolation = *isolation;
            tx.deferrable = *deferrable;
        }
        tx
    }

    /// The statement that opens it on a server, with everything a late-comer has missed.
    #[must_use]
    pub fn opening(&self) -> String {
        let mut sql = String::from("BEGIN");
        match self.isolation {
            Some(Isolation::ReadCommitted) => sql.push_str(" ISOLATION LEVEL READ COMMITTED"),
            Some(Isolation::RepeatableRead) => sql.push_str(" ISOLATION LEVEL REPEATABLE READ"),
            Some(Isolation::Serializable) => sql.push_str(" ISOLATION LEVEL SERIALIZABLE"),
            None => {}
        }
        match self.read_only {
            Some(true) => sql.push_str(" READ ONLY"),
            Some(false) => sql.push_str(" READ WRITE"),
            None => {}
        }
        if self.deferrable {
            sql.push_str(" DEFERRABLE");
        }
        for local in &self.locals {
            sql.push(';');
            sql.push_str(local);
        }
        for savepoint in &self.savepoints {
            sql.push_str(";SAVEPOINT ");
            sql.push_str(&quote_ident(&savepoint.name));
        }
        sql
    }

    /// Reads may go to a replica: nothing can be written here, and a replica can do this isolation level.
    #[must_use]
    pub fn replica_can_serve(&self) -> bool {
        self.opened == Opened::ByClient
            && self.read_only == Some(true)
            && self.isolation != Some(Isolation::Serializable)
            && !self.deferrable
    }

    /// Where a savepoint stands in the stack, the innermost of that name first.
    #[must_use]
    pub fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|s| s.name == name)
    }
}

/// An identifier as it is written in SQL.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_comer_hears_everything_it_missed() {
        let mut tx = Transaction::new(Opened::ByClient, &Vars::default());
        tx.isolation = Some(Isolation::RepeatableRead);
        tx.read_only = Some(true);
        tx.locals.push("SET LOCAL work_mem = '1MB'".into());
        tx.savepoints.push(Savepoint {
            name: "a\"b".into(),
            vars: Vars::default(),
        });
        assert_eq!(
            tx.opening(),
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;SET LOCAL work_mem = '1MB';SAVEPOINT \"a\"\"b\""
        );
    }
}
