//! What has to be brought together in a scratch database before a statement can run there: which columns of which tables,
//! and from where. Plain data.

use super::resolve::narrowed;
use super::{KeyTuple, Values};
use crate::catalog::QualifiedName;
use crate::config::Database;
use crate::shard::ShardSet;
use crate::sql::analyze::Lookup;
use crate::sql::filter::{Known, Partner};
use std::fmt;

mod condition;

#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    /// in the order in which they are read
    pub tables: Vec<Gathered>,
    /// views that the statement names: the client needs the right to read them, too
    pub views: Vec<QualifiedName>,
    /// a table among them is not the same on a replica
    pub primary_only: bool,
    /// several tables, or one that stands there more often
    pub joins: bool,
    /// what keeps the shards from answering for themselves
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Gathered {
    pub table: QualifiedName,
    /// those the statement may look at, and the primary key
    pub columns: Vec<String>,
    /// fewer than the table has
    pub partly: bool,
    pub source: Source,
    /// of a sharded table: only shards with these keys have rows that matter
    pub keys: Option<Keys>,
    /// what all rows that matter fulfil: the conditions of one of the table's uses; empty for all rows
    pub only: Vec<Known>,
    /// and the rows of other tables that all of them have beside them
    pub partners: Vec<Partner>,
    /// indexes that its copy needs, where it is large
    pub lookups: Vec<Lookup>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// index into `Database::keyspaces`
    pub keyspace: usize,
    pub tuples: Vec<KeyTuple>,
}

/// What is asked of one table in one execution.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// as SQL; None for all of its rows
    pub condition: Option<String>,
    /// the shards that may hold rows that matter; None for those of the statement
    pub shards: Option<ShardSet>,
}

/// Which shards hold the rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// each of the statement's shards has some
    Sharded,
    /// every shard has all of them
    Reference,
    Home,
}

impl Gather {
    /// What is asked of each table.
    #[must_use]
    pub fn parts(&self, values: &dyn Values, database: &Database) -> Vec<Part> {
        let part = |table: &Gathered| Part {
            condition: table.condition(values),
            shards: table.shards(values, database),
        };
        self.tables.iter().map(part).collect()
    }
}

impl Gathered {
    fn condition(&self, values: &dyn Values) -> Option<String> {
        let mut uses = Vec::with_capacity(self.only.len());
        for known in &self.only {
            let Some(said) = condition::of(known, values) else {
                // one of its uses may look at any row
                uses.clear();
                break;
            };
            if !uses.contains(&said) {
                uses.push(said);
            }
        }
        let uses = match uses.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("(({}))", several.join(") OR ("))),
        };
        let partners = condition::beside(&self.partners, values);
        let all: Vec<String> = uses.into_iter().chain(partners).collect();
        (!all.is_empty()).then(|| all.join(" AND "))
    }

    fn shards(&self, values: &dyn Values, database: &Database) -> Option<ShardSet> {
        let keys = self.keys.as_ref()?;
        let keyspace = database.keyspaces.get(keys.keyspace)?;
        narrowed(keyspace, &keys.tuples, values)
    }
}

impl fmt::Display for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables: Vec<String> = self.tables.iter().map(ToString::to_string).collect();
        write!(f, "gathered: {}", tables.join("; "))
    }
}

impl fmt::Display for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.table.schema != "public" {
            write!(f, "{}.", self.table.schema)?;
        }
        f.write_str(&self.table.name)?;
        if self.partly {
            write!(f, "({})", self.columns.join(", "))?;
        }
        for (n, known) in self.only.iter().enumerate() {
            let word = if n == 0 { "where" } else { "or" };
            write!(f, " {word} {known}")?;
        }
        for (n, partner) in self.partners.iter().enumerate() {
            let word = if n == 0 && self.only.is_empty() {
                "where"
            } else {
                "and"
            };
            write!(f, " {word} {partner}")?;
        }
        f.write_str(match self.source {
            Source::Sharded => "",
            Source::Reference => " from one shard",
            Source::Home => " from home",
        })?;
        for lookup in &self.lookups {
            write!(f, " {lookup}")?;
        }
        Ok(())
    }
}
