//! What a check found, in words an operator can act on, and the part of the shard map it is about. It judges nothing.

use super::topology::ServerId;
use crate::config::Database;
use crate::shard::ShardId;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// answers would be wrong or a shard cannot be served
    Error,
    /// works, with less than one could have
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// stable word for scripts and tests: `key_type`, `primary_down`, ...
    pub code: &'static str,
    pub subject: Subject,
    /// name of the shard it was found on
    pub shard: Option<String>,
    pub found: String,
    pub expected: String,
    /// what does not work, or what would be wrong
    pub degrades: String,
}

/// The part of the shard map that a finding is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Database,
    /// member 0 is the primary, n is replica n-1
    Server {
        shard: ShardId,
        member: u16,
    },
    /// index into `Database::tables`
    Table(usize),
    /// index into `Database::tables`, index into its `key`
    KeyColumn(usize, usize),
    /// index into `Database::reference_tables`
    ReferenceTable(usize),
    /// name in `Database::functions`
    Function(String),
    /// of the schema, not of the map: what is named in `found`
    Schema,
}

/// Everything found, the errors first.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub errors: Vec<Finding>,
    pub warnings: Vec<Finding>,
}

/// A primary that is down stops its own shard only.
pub const PRIMARY_DOWN: &str = "primary_down";

impl Report {
    #[must_use]
    pub fn new(findings: Vec<Finding>) -> Self {
        let (errors, warnings) = findings
            .into_iter()
            .partition(|finding| finding.severity == Severity::Error);
        Self { errors, warnings }
    }

    /// True when serving would mean wrong answers; a shard whose primary is down does not count.
    #[must_use]
    pub fn forbids_serving(&self) -> bool {
        self.errors
            .iter()
            .any(|finding| finding.code != PRIMARY_DOWN)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.errors.iter().chain(&self.warnings)
    }
}

impl Finding {
    #[must_use]
    pub fn error(code: &'static str, subject: Subject) -> Self {
        Self {
            severity: Severity::Error,
            code,
            subject,
            shard: None,
            found: String::new(),
            expected: String::new(),
            degrades: String::new(),
        }
    }

    #[must_use]
    pub fn warning(code: &'static str, subject: Subject) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, subject)
        }
    }

    #[must_use]
    pub fn on(mut self, shard: &str) -> Self {
        self.shard = Some(shard.to_owned());
        self
    }

    #[must_use]
    pub fn found(mut self, text: impl Into<String>) -> Self {
        self.found = text.into();
        self
    }

    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        self.expected = text.into();
        self
    }

    #[must_use]
    pub fn degrades(mut self, text: impl Into<String>) -> Self {
        self.degrades = text.into();
        self
    }
}

impl Finding {
    /// One line for the operator: place in the shard map, severity and code, what it is about, what was found.
    #[must_use]
    pub fn line(&self, database: &Database) -> String {
        let severity = if self.severity == Severity::Error {
            "error"
        } else {
            "warning"
        };
        let (place, subject) = (
            self.subject.locate(database),
            self.subject.describe(database),
        );
        let shard = self
            .shard
            .as_ref()
            .filter(|_| !matches!(self.subject, Subject::Server { .. }));
        let shard = shard.map_or_else(String::new, |shard| format!(", on shard {shard}"));
        format!(
            "{place}: {severity} {}: {subject}{shard}: {}",
            self.code,
            self.text()
        )
    }

    fn text(&self) -> String {
        let mut text = format!("found {}", self.found);
        for (label, part) in [("; expected ", &self.expected), ("; ", &self.degrades)] {
            if !part.is_empty() {
                text.push_str(label);
                text.push_str(part);
            }
        }
        text
    }
}

impl Subject {
    /// Where the shard map speaks of it: `shard-map.yaml:12:7`.
    #[must_use]
    pub fn locate(&self, database: &Database) -> String {
        let positions = &database.positions;
        let place = match self {
            Self::Database | Self::Schema => positions.database,
            Self::Server {
                member: ServerId::SCRATCH,
                ..
            } => positions.scratch_server,
            Self::Server { shard, member } => match member.checked_sub(1) {
                None => positions.primary(*shard),
                Some(replica) => positions.replica(*shard, usize::from(replica)),
            },
            Self::Table(index) => positions.table(*index),
            Self::KeyColumn(index, column) => positions.key_column(*index, *column),
            Self::ReferenceTable(index) => positions.reference_table(*index),
            Self::Function(name) => positions.functions.get(name).copied().unwrap_or_default(),
        };
        positions.show(place)
    }

    /// The part of the map in words: `table public.users, key column id`.
    #[must_use]
    pub fn describe(&self, database: &Database) -> String {
        let table = |index: &usize| {
            let found = database.tables.get(*index);
            found.map_or_else(String::new, |table| {
                format!("table {}.{}", table.schema, table.name)
            })
        };
        match self {
            Self::Database | Self::Schema => format!("database {}", database.name),
            Self::Server {
                member: ServerId::SCRATCH,
                ..
            } => "scratch server".to_owned(),
            Self::Server { shard, member } => server(database, *shard, *member),
            Self::Table(index) => table(index),
            Self::KeyColumn(index, column) => {
                let name = database
                    .tables
                    .get(*index)
                    .and_then(|table| table.key.get(*column));
                format!(
                    "{}, key column {}",
                    table(index),
                    name.map_or("", String::as_str)
                )
            }
            Self::ReferenceTable(index) => database
                .reference_tables
                .get(*index)
                .map_or_else(String::new, |(schema, name)| {
                    format!("reference table {schema}.{name}")
                }),
            Self::Function(name) => format!("function {name}"),
        }
    }
}

fn server(database: &Database, shard: ShardId, member: u16) -> String {
    let Some(found) = database.shards.get(shard.index()) else {
        return String::new();
    };
    let (role, address) = match member.checked_sub(1) {
        None => ("primary", Some(&found.primary)),
        Some(replica) => ("replica", found.replicas.get(usize::from(replica))),
    };
    let address = address.map_or_else(String::new, |address| {
        format!(" {}:{}", address.host, address.port)
    });
    format!("shard {}, {role}{address}", found.name)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = if self.severity == Severity::Error {
            "error"
        } else {
            "warning"
        };
        write!(f, "{severity} {}: ", self.code)?;
        if let Some(shard) = &self.shard {
            write!(f, "on shard {shard}: ")?;
        }
        f.write_str(&self.text())
    }
}
