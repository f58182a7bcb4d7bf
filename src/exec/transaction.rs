//! The client's transaction as pgshunt sees it: begun when the client says so, on a server when one is needed.

use super::listening::Wish;
use crate::route::{Command, Ddl, Isolation};
use crate::shard::ShardId;
use crate::sql::name::quote_ident;
use crate::vars::Vars;

/// What a server that joins the transaction later has to hear, in the order in which it was said.
#[derive(Clone, Debug)]
pub enum Heard {
    /// with the session's settings as they were then
    Savepoint { name: String, vars: Vars },
    /// of `name`; RESET ALL has the name `ALL`
    Setting {
        name: String,
        kind: Kind,
        statement: String,
    },
    /// no server hears it
    Wish(Wish),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Set,
    SetLocal,
    Reset,
}

/// The name under which RESET ALL is kept.
pub const ALL: &str = "*";

/// What the transaction has said of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    Nothing,
    Reset,
    Set(&'a str),
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
    pub deferrable: Option<bool>,
    /// as it came down a chain, which a failure does not take back
    pub inherited: Option<Characteristics>,
    pub failed: bool,
    /// a server that took part is gone: only ROLLBACK is left
    pub lost: bool,
    /// settings as they were when it began
    pub vars_before: Vars,
    pub heard: Vec<Heard>,
    /// a statement for every shard ran: what is committed is committed one shard after another
    pub everywhere: bool,
    /// DDL ran: the catalog is loaded again after the commit
    pub ddl: Option<Ddl>,
    /// the server that took part first
    pub joined_first: Option<ShardId>,
    /// whose time the client has seen, or may have
    pub time_of: Option<ShardId>,
    /// where there are several shards
    pub cursors: Option<Box<super::cursors::Cursors>>,
}

/// What SET TRANSACTION is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Characteristics {
    pub read_only: Option<bool>,
    pub isolation: Option<Isolation>,
    pub deferrable: Option<bool>,
}

impl Transaction {
    #[must_use]
    pub fn new(opened: Opened, vars: &Vars) -> Self {
        Self {
            opened,
            read_only: None,
            isolation: None,
            deferrable: None,
            inherited: None,
            failed: false,
            lost: false,
            vars_before: vars.clone(),
            heard: Vec::new(),
            everywhere: false,
            ddl: None,
            joined_first: None,
            time_of: None,
            cursors: None,
        }
    }

    /// What the next one of a chain is to be. What a failed transaction had said of itself went with its failure, unless only a
    /// savepoint's part has failed.
    #[must_use]
    pub fn passes_on(&self) -> Option<Characteristics> {
        if self.failed && self.savepoints() == 0 {
            return self.inherited;
        }
        Some(Characteristics {
            read_only: self.read_only,
            isolation: self.isolation,
            deferrable: self.deferrable,
        })
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

    /// The statement that opens it on a server.
    #[must_use]
    pub fn begin(&self) -> String {
        let mut sql = String::from("BEGIN");
        match self.isolation {
            Some(Isolation::ReadUncommitted) => sql.push_str(" ISOLATION LEVEL READ UNCOMMITTED"),
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
        match self.deferrable {
            Some(true) => sql.push_str(" DEFERRABLE"),
            Some(false) => sql.push_str(" NOT DEFERRABLE"),
            None => {}
        }
        sql
    }

    /// What a server that joins late has to hear after it: settings, which can fail, and savepoints.
    #[must_use]
    pub fn missed(&self) -> String {
        let mut sql = String::new();
        for heard in &self.heard {
            if !sql.is_empty() && !matches!(heard, Heard::Wish(_)) {
                sql.push(';');
            }
            match heard {
                Heard::Wish(_) => {}
                Heard::Savepoint { name, .. } => {
                    sql.push_str("SAVEPOINT ");
                    sql.push_str(&quote_ident(name));
                }
                Heard::Setting { statement, .. } => sql.push_str(statement),
            }
        }
        sql
    }

    /// Reads may go to a replica: nothing can be written here, and a replica can do this isolation level.
    #[must_use]
    pub fn replica_can_serve(&self) -> bool {
        self.opened == Opened::ByClient
            && self.read_only == Some(true)
            && self.isolation != Some(Isolation::Serializable)
            && self.deferrable != Some(true)
    }

    /// A setting was changed on all servers that take part. What it replaces need not be said again.
    pub fn note_setting(&mut self, name: &str, kind: Kind, statement: &str) {
        let since = self
            .heard
            .iter()
            .rposition(|h| matches!(h, Heard::Savepoint { .. }))
            .map_or(0, |n| n + 1);
        // a role depends on the session authorization before it
        let replaces = name != ALL && name != "role" && name != "session_authorization";
        let mut n = 0;
        self.heard.retain(|h| {
            n += 1;
            let same = matches!(h, Heard::Setting { name: its, kind: of, .. } if its == name && *of == kind);
            !(n > since && replaces && same)
        });
        self.heard.push(Heard::Setting {
            name: name.to_owned(),
            kind,
            statement: statement.to_owned(),
        });
    }

    /// What holds for a setting, as far as this transaction has said something of it.
    #[must_use]
    pub fn said_of(&self, setting: &str) -> Said<'_> {
        for heard in self.heard.iter().rev() {
            match heard {
                Heard::Setting {
                    name,
                    kind,
                    statement,
                } if name == setting => {
                    return match kind {
                        Kind::Reset => Said::Reset,
                        Kind::Set | Kind::SetLocal => Said::Set(statement),
                    };
                }
                Heard::Setting { name, .. } if name == ALL => return Said::Reset,
                _ => {}
            }
        }
        Said::Nothing
    }

    /// Where a savepoint stands among what was heard, the innermost of that name first, and the settings it has kept.
    #[must_use]
    pub fn savepoint(&self, wanted: &str) -> Option<(usize, &Vars)> {
        let mut latest_first = self.heard.iter().enumerate().rev();
        latest_first.find_map(|(n, heard)| match heard {
            Heard::Savepoint { name, vars } if name == wanted => Some((n, vars)),
            _ => None,
        })
    }

    /// How many savepoints there are.
    #[must_use]
    pub fn savepoints(&self) -> usize {
        let is_savepoint = |heard: &&Heard| matches!(heard, Heard::Savepoint { .. });
        self.heard.iter().filter(is_savepoint).count()
    }

    /// Which one from the outermost, counted from one, is the innermost of this name.
    #[must_use]
    pub fn savepoint_number(&self, name: &str) -> Option<usize> {
        let (place, _) = self.savepoint(name)?;
        let is_savepoint = |heard: &&Heard| matches!(heard, Heard::Savepoint { .. });
        Some(self.heard[..place].iter().filter(is_savepoint).count() + 1)
    }

    /// ROLLBACK TO the savepoint at this place.
    pub fn back_to(&mut self, place: usize) {
        self.heard.truncate(place + 1);
        self.failed = false;
    }

    /// RELEASE of the savepoint at this place: what was set since stays.
    pub fn release(&mut self, place: usize) {
        let mut n = 0;
        self.heard.retain(|h| {
            n += 1;
            n <= place || !matches!(h, Heard::Savepoint { .. })
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_comer_hears_everything_it_missed() {
        let mut tx = Transaction::new(Opened::ByClient, &Vars::default());
        tx.isolation = Some(Isolation::RepeatableRead);
        tx.read_only = Some(true);
        tx.note_setting("work_mem", Kind::SetLocal, "SET LOCAL work_mem = '1MB'");
        savepoint(&mut tx, "a\"b");
        tx.note_setting("work_mem", Kind::SetLocal, "SET LOCAL work_mem = '2MB'");
        tx.note_setting("work_mem", Kind::SetLocal, "SET LOCAL work_mem = '3MB'");
        assert_eq!(
            tx.begin(),
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
        );
        assert_eq!(
            tx.missed(),
            "SET LOCAL work_mem = '1MB';SAVEPOINT \"a\"\"b\";SET LOCAL work_mem = '3MB'"
        );
        let (place, _) = tx.savepoint("a\"b").unwrap();
        tx.back_to(place);
        assert_eq!(
            tx.said_of("work_mem"),
            Said::Set("SET LOCAL work_mem = '1MB'")
        );
        tx.release(place);
        assert!(tx.savepoint("a\"b").is_none());
    }

    fn savepoint(tx: &mut Transaction, name: &str) {
        tx.heard.push(Heard::Savepoint {
            name: name.into(),
            vars: Vars::default(),
        });
    }

    #[test]
    fn what_a_transaction_says_of_settings_is_kept_in_order() {
        let mut tx = Transaction::new(Opened::ByClient, &Vars::default());
        assert_eq!(tx.said_of("a.b"), Said::Nothing);
        tx.note_setting("a.b", Kind::SetLocal, "SET LOCAL a.b = 1");
        tx.note_setting("a.b", Kind::Set, "SET a.b = 2");
        assert_eq!(tx.said_of("a.b"), Said::Set("SET a.b = 2"));
        tx.note_setting("a.b", Kind::SetLocal, "SET LOCAL a.b = 3");
        assert_eq!(tx.missed(), "SET a.b = 2;SET LOCAL a.b = 3");
        tx.note_setting("a.b", Kind::Reset, "RESET a.b");
        assert_eq!(tx.said_of("a.b"), Said::Reset);
        tx.note_setting("c.d", Kind::Set, "SET c.d = 3");
        tx.note_setting(ALL, Kind::Reset, "RESET ALL");
        assert_eq!(tx.said_of("c.d"), Said::Reset);
    }

    #[test]
    fn a_released_savepoint_leaves_what_was_set_since() {
        let mut tx = Transaction::new(Opened::ByClient, &Vars::default());
        savepoint(&mut tx, "a");
        tx.note_setting("x.y", Kind::SetLocal, "SET LOCAL x.y = 1");
        savepoint(&mut tx, "b");
        tx.note_setting("x.y", Kind::SetLocal, "SET LOCAL x.y = 2");
        let (place, _) = tx.savepoint("a").unwrap();
        tx.release(place);
        assert_eq!(tx.missed(), "SET LOCAL x.y = 1;SET LOCAL x.y = 2");
    }
}
