//! What one shard's schema looks like as texts that can be held against another shard's, part by part. It knows what was
//! found, not what a difference means (`cluster::compare` does).

use super::QualifiedName;
use std::collections::BTreeMap;

/// Texts are Postgres's own (`pg_get_expr`, `pg_get_constraintdef`, ...), made under one fixed search_path and settings,
/// so that equal definitions are equal texts on servers of one major version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shape {
    /// version of the server, as `server_version_num`
    pub server_version: u32,
    pub tables: BTreeMap<QualifiedName, TableShape>,
    /// views and materialized views: definition
    pub views: BTreeMap<QualifiedName, String>,
    /// functions outside pg_catalog, by `name(argument types)`
    pub functions: BTreeMap<QualifiedName, String>,
    /// domains, enums, composites, ranges outside pg_catalog: what they are made of
    pub types: BTreeMap<QualifiedName, String>,
    /// operators outside pg_catalog, by `name(left, right)`: the function
    pub operators: BTreeMap<QualifiedName, String>,
    /// collations outside pg_catalog
    pub collations: BTreeMap<QualifiedName, String>,
    /// extensions: version
    pub extensions: BTreeMap<String, String>,
    /// `ALTER ROLE … SET`, `ALTER DATABASE … SET`, by role ("" for all): the settings
    pub role_settings: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TableShape {
    /// kind, persistence, row security
    pub storage: String,
    pub columns: Vec<ColumnShape>,
    /// primary key, unique, foreign key, check and exclusion constraints; the names do not count
    pub constraints: Vec<Constraint>,
    /// unique indexes that are no constraint
    pub unique_indexes: Vec<Constraint>,
    /// other indexes: only speed
    pub indexes: Vec<String>,
    /// triggers, rules and row security policies: name and definition
    pub behaviour: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ColumnShape {
    pub name: String,
    /// type with its modifiers, NOT NULL, collation, default, identity
    pub text: String,
    pub type_oid: u32,
    /// may the role that loaded this draw from the column's sequence
    pub may_draw: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Constraint {
    pub kind: ConstraintKind,
    pub definition: String,
    /// the columns it is about, in order; empty where an expression is among them
    pub columns: Vec<String>,
    /// for foreign keys: the table referred to and its columns
    pub target: Option<(QualifiedName, Vec<String>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConstraintKind {
    PrimaryKey,
    Unique,
    ForeignKey,
    Check,
    Exclusion,
    Other,
}
