//! What has to be brought together in a scratch database before a statement can run there: which columns of which tables,
//! and from where. Plain data.

use crate::catalog::QualifiedName;
use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gather {
    /// in the order in which they are read
    pub tables: Vec<Gathered>,
    /// views that the statement names: the client needs the right to read them, too
    pub views: Vec<QualifiedName>,
    /// a table among them is not the same on a replica
    pub primary_only: bool,
    /// what keeps the shards from answering for themselves
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    pub table: QualifiedName,
    /// those the statement may look at, and the primary key
    pub columns: Vec<String>,
    /// fewer than the table has
    pub partly: bool,
    pub source: Source,
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
        f.write_str(match self.source {
            Source::Sharded => "",
            Source::Reference => " from one shard",
            Source::Home => " from home",
        })
    }
}
