//! The map's tables against the home shard's schema: the key columns are what the keyspace says, and what Postgres
//! promises within one server is pointed out where it no longer holds over several.

use crate::catalog::shape::{Constraint, ConstraintKind, TableShape};
use crate::catalog::{Catalog, Column, ColumnDefault, QualifiedName, Relation, RelationKind};
use crate::cluster::finding::{Finding, Subject};
use crate::config::{Database, DeclaredFunction, ShardedTable};
use crate::shard::KeyType;

pub fn check(database: &Database, home: &Catalog) -> Vec<Finding> {
    let tables = Tables { database, home };
    let mut findings = Vec::new();
    for (index, table) in database.tables.iter().enumerate() {
        findings.extend(tables.sharded(index, table));
    }
    for index in 0..database.reference_tables.len() {
        findings.extend(tables.reference(index));
    }
    findings.extend(tables.unlisted());
    findings.extend(tables.functions());
    findings
}

struct Tables<'a> {
    database: &'a Database,
    home: &'a Catalog,
}

impl Tables<'_> {
    fn sharded(&self, index: usize, table: &ShardedTable) -> Vec<Finding> {
        let name = QualifiedName::new(&table.schema, &table.name);
        let relation = match self.table(&name, &Subject::Table(index)) {
            Ok(relation) => relation,
            Err(finding) => return vec![*finding],
        };
        let mut findings: Vec<Finding> = (0..table.key.len())
            .flat_map(|position| self.key_column(index, position, relation))
            .collect();
        findings.extend(self.parents(index, table, &name));
        if let Some(shape) = self.home.shape.tables.get(&name) {
            findings.extend(per_shard_uniqueness(index, table, relation, shape));
            let foreign = shape
                .constraints
                .iter()
                .filter(|constraint| constraint.kind == ConstraintKind::ForeignKey);
            findings.extend(foreign.filter_map(|key| self.foreign_key(index, table, &name, key)));
            findings.extend(draws(index, table, relation, shape));
        }
        findings
    }

    /// The map's table, or why it cannot be one.
    fn table(&self, name: &QualifiedName, place: &Subject) -> Result<&Relation, Box<Finding>> {
        let Some(relation) = self.home.relations.get(name) else {
            // a new cluster begins empty: the tables are made through pgshunt
            let finding = Finding::warning("table_missing", place.clone())
                .found(format!("no table {name} on the home shard"))
                .expected("every table of the map to exist")
                .degrades("nothing can be read or written there until CREATE TABLE, which goes to every shard");
            return Err(Box::new(finding));
        };
        match relation.kind {
            RelationKind::Table | RelationKind::PartitionedTable => Ok(relation),
            kind => Err(Box::new(
                Finding::error("table_kind", place.clone())
                    .found(format!("{name} is a {}", kind_name(kind)))
                    .expected("a table")
                    .degrades("only tables can be listed; views are looked through by themselves"),
            )),
        }
    }

    fn key_column(&self, index: usize, position: usize, relation: &Relation) -> Vec<Finding> {
        let place = Subject::KeyColumn(index, position);
        let table = &self.database.tables[index];
        let key = &table.key[position];
        let Some(column) = relation.column(key) else {
            let columns: Vec<&str> = relation
                .columns
                .iter()
                .map(|column| column.name.as_str())
                .collect();
            return vec![
                Finding::error("key_missing", place)
                    .found(format!(
                        "no column {key} in {}.{}",
                        table.schema, table.name
                    ))
                    .expected(format!("one of {}", columns.join(", ")))
                    .degrades("its rows cannot be placed"),
            ];
        };
        let keyspace = self.database.keyspaces.get(table.keyspace);
        let wanted = keyspace.and_then(|keyspace| keyspace.types.get(position));
        let mut findings = Vec::new();
        findings.extend(wanted.and_then(|wanted| self.key_type(&place, column, *wanted)));
        if !column.collation_deterministic {
            findings.push(
                Finding::error("key_collation", place.clone())
                    .found(format!("{key} has a nondeterministic collation"))
                    .expected("a deterministic one")
                    .degrades("equal keys of different bytes would lie on different shards"),
            );
        }
        findings.extend(key_default(&place, column));
        findings
    }

    fn key_type(&self, place: &Subject, column: &Column, wanted: KeyType) -> Option<Finding> {
        let (oids, expected) = type_of(wanted);
        let found = self.type_name(column.type_oid);
        if !oids.contains(&column.type_oid) {
            let finding = Finding::error("key_type", place.clone()).expected(expected);
            return Some(
                finding
                    .found(format!("{} is {found}", column.name))
                    .degrades("only the key type's own equality says where a row lies; citext and char(n) have another"),
            );
        }
        let rounds = matches!(
            wanted,
            KeyType::Numeric | KeyType::Timestamp | KeyType::TimestampTz
        );
        (rounds && column.type_modifier >= 0).then(|| {
            Finding::error("key_rounded", place.clone())
                .found(format!("{} is {found} with a precision", column.name))
                .expected(format!("{expected} without one"))
                .degrades("the value stored may be another than the one in the statement, and lie on another shard")
        })
    }

    fn type_name(&self, oid: u32) -> String {
        let user = self
            .home
            .user_types
            .iter()
            .find(|(_, known)| **known == oid);
        match (user, oid) {
            (Some((name, _)), _) => name.to_string(),
            (None, 16) => "boolean".to_owned(),
            (None, 1042) => "char(n)".to_owned(),
            (None, 700) => "real".to_owned(),
            (None, 701) => "double precision".to_owned(),
            (None, 3802) => "jsonb".to_owned(),
            (None, oid) => {
                let known = ALL_KEY_TYPES
                    .iter()
                    .map(|key| type_of(*key))
                    .find(|(oids, _)| oids.contains(&oid));
                known.map_or_else(
                    || format!("of the type with OID {oid}"),
                    |(_, name)| name.to_owned(),
                )
            }
        }
    }

    /// A statement on the parent reads the child's rows: it has to be spread in the same way.
    fn parents(&self, index: usize, table: &ShardedTable, name: &QualifiedName) -> Vec<Finding> {
        let ancestors = self.home.ancestors(name);
        let stray = ancestors.iter().filter(|parent| {
            let listed = self.listed(parent);
            !listed
                .is_some_and(|listed| listed.keyspace == table.keyspace && listed.key == table.key)
        });
        stray
            .map(|parent| {
                Finding::error("parent_unlisted", Subject::Table(index))
                    .found(format!("{name} is a child of {parent}, which the map does not place by the same key"))
                    .expected(format!("{parent} listed with the same keyspace and key; its children follow it"))
                    .degrades(format!("a query on {parent} would see one shard's rows as if they were all"))
            })
            .collect()
    }

    fn listed(&self, name: &QualifiedName) -> Option<&ShardedTable> {
        self.database
            .tables
            .iter()
            .find(|table| table.schema == name.schema && table.name == name.name)
    }

    fn is_reference(&self, wanted: &QualifiedName) -> bool {
        self.database
            .reference_tables
            .iter()
            .any(|(schema, name)| *schema == wanted.schema && *name == wanted.name)
    }

    fn foreign_key(
        &self,
        index: usize,
        table: &ShardedTable,
        name: &QualifiedName,
        key: &Constraint,
    ) -> Option<Finding> {
        let (target, columns) = key.target.as_ref()?;
        let colocated = self.listed(target).is_some_and(|other| {
            let pairs = || table.key.iter().zip(&other.key);
            let tied = |(mine, theirs): (&String, &String)| {
                key.columns
                    .iter()
                    .zip(columns)
                    .any(|(from, to)| from == mine && to == theirs)
            };
            other.keyspace == table.keyspace && pairs().all(tied)
        });
        (!colocated && !self.is_reference(target))
            .then(|| across(Subject::Table(index), name, key, target))
    }

    fn reference(&self, index: usize) -> Vec<Finding> {
        let (schema, name) = &self.database.reference_tables[index];
        let name = QualifiedName::new(schema, name);
        if let Err(finding) = self.table(&name, &Subject::ReferenceTable(index)) {
            return vec![*finding];
        }
        let shape = self.home.shape.tables.get(&name);
        let foreign = shape.into_iter().flat_map(|shape| &shape.constraints);
        let stray = foreign.filter_map(|key| {
            let (target, _) = key.target.as_ref()?;
            (!self.is_reference(target))
                .then(|| across(Subject::ReferenceTable(index), &name, key, target))
        });
        stray.collect()
    }

    /// Tables of the home shard that point at rows which lie elsewhere.
    fn unlisted(&self) -> Vec<Finding> {
        let unlisted = self.home.shape.tables.iter().filter(|(name, _)| {
            let mut family = self.home.ancestors(name);
            family.push((*name).clone());
            family
                .iter()
                .all(|name| self.listed(name).is_none() && !self.is_reference(name))
        });
        let stray = unlisted.flat_map(|(name, shape)| {
            shape.constraints.iter().filter_map(move |key| {
                let (target, _) = key.target.as_ref()?;
                self.listed(target)
                    .map(|_| across(Subject::Schema, name, key, target))
            })
        });
        stray.collect()
    }

    fn functions(&self) -> Vec<Finding> {
        let mut names: Vec<_> = self.database.functions.iter().collect();
        names.sort_by_key(|(name, _)| name.as_str());
        names
            .into_iter()
            .filter_map(|(name, declared)| self.function(name, *declared))
            .collect()
    }

    fn function(&self, name: &str, declared: DeclaredFunction) -> Option<Finding> {
        let place = Subject::Function(name.to_owned());
        let overloads = self
            .home
            .functions
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let Some(most) = overloads
            .iter()
            .map(|function| usize::from(function.argument_count))
            .max()
        else {
            let finding =
                Finding::warning("function_missing", place).found(format!("no function {name}"));
            return Some(
                finding
                    .expected("a function of the home shard")
                    .degrades("the declaration means nothing"),
            );
        };
        match declared {
            DeclaredFunction::KeyArgument(position) if position == 0 || position > most => Some(
                Finding::error("function_argument", place)
                    .found(format!("{name} has at most {most} arguments"))
                    .expected(format!(
                        "the position of its key argument from 1 to {most}, not {position}"
                    ))
                    .degrades("calls of it cannot be routed"),
            ),
            _ => None,
        }
    }
}

fn across(
    place: Subject,
    name: &QualifiedName,
    key: &Constraint,
    target: &QualifiedName,
) -> Finding {
    Finding::warning("foreign_key_across", place)
        .found(format!("{name}: {}", key.definition))
        .expected(format!("{target} to lie on the same shard: tied by the key, or a reference table"))
        .degrades("the constraint sees its own shard only and turns away rows whose target lies elsewhere; drop it")
}

/// Unique within each shard, but not over all of them, unless the key is part of it.
fn per_shard_uniqueness(
    index: usize,
    table: &ShardedTable,
    relation: &Relation,
    shape: &TableShape,
) -> Vec<Finding> {
    let unique = shape.constraints.iter().chain(&shape.unique_indexes);
    let unique = unique.filter(|constraint| {
        matches!(
            constraint.kind,
            ConstraintKind::PrimaryKey | ConstraintKind::Unique | ConstraintKind::Exclusion
        )
    });
    let loose =
        unique.filter(|constraint| !table.key.iter().all(|key| constraint.columns.contains(key)));
    loose
        .map(|constraint| {
            let counted = constraint.columns.iter().find(|name| {
                relation.column(name).is_some_and(|column| column.default.sequence().is_some())
            });
            let degrades = match counted {
                Some(column) => format!("each shard counts {column} for itself: the same value appears on several shards"),
                None => "the same value can be stored on several shards".to_owned(),
            };
            Finding::warning("unique_per_shard", Subject::Table(index))
                .found(format!("{}.{}: {}", table.schema, table.name, constraint.definition))
                .expected(format!("the key ({}) among its columns", table.key.join(", ")))
                .degrades(degrades)
        })
        .collect()
}

/// A key that is left out of an INSERT is drawn by the control user.
fn draws(
    index: usize,
    table: &ShardedTable,
    relation: &Relation,
    shape: &TableShape,
) -> Vec<Finding> {
    let columns = shape
        .columns
        .iter()
        .filter(|column| table.key.contains(&column.name) && !column.may_draw);
    let sequence = |name: &str| {
        relation
            .column(name)
            .and_then(|column| column.default.sequence())
    };
    columns
        .filter_map(|column| Some((column, sequence(&column.name)?)))
        .map(|(column, sequence)| {
            Finding::warning("sequence_forbidden", Subject::Table(index))
                .found(format!("the control user may not draw from {sequence}"))
                .expected(format!(
                    "GRANT USAGE ON SEQUENCE {} to it",
                    sequence.quoted()
                ))
                .degrades(format!(
                    "an INSERT that leaves {} out is refused",
                    column.name
                ))
        })
        .collect()
}

fn key_default(place: &Subject, column: &Column) -> Option<Finding> {
    match column.default {
        ColumnDefault::Generated => Some(
            Finding::error("key_generated", place.clone())
                .found(format!("{} is a generated column", column.name))
                .expected("a column whose value is in the statement")
                .degrades("an INSERT does not say where its row belongs"),
        ),
        ColumnDefault::Volatile => Some(
            Finding::warning("key_default", place.clone())
                .found(format!(
                    "{} has a default that only the server knows",
                    column.name
                ))
                .expected("an identity, a serial, or no default")
                .degrades("an INSERT that leaves it out is refused"),
        ),
        _ => None,
    }
}

const ALL_KEY_TYPES: [KeyType; 9] = [
    KeyType::SmallInt,
    KeyType::Integer,
    KeyType::BigInt,
    KeyType::Text,
    KeyType::Uuid,
    KeyType::Date,
    KeyType::Timestamp,
    KeyType::TimestampTz,
    KeyType::Numeric,
];

/// OIDs of the column types that a key type stands for, and its name.
fn type_of(key: KeyType) -> (&'static [u32], &'static str) {
    match key {
        KeyType::SmallInt => (&[21], "smallint"),
        KeyType::Integer => (&[23], "integer"),
        KeyType::BigInt => (&[20], "bigint"),
        KeyType::Text => (&[25, 1043], "text or varchar"),
        KeyType::Uuid => (&[2950], "uuid"),
        KeyType::Date => (&[1082], "date"),
        KeyType::Timestamp => (&[1114], "timestamp"),
        KeyType::TimestampTz => (&[1184], "timestamptz"),
        KeyType::Numeric => (&[1700], "numeric"),
    }
}

fn kind_name(kind: RelationKind) -> &'static str {
    match kind {
        RelationKind::Table => "table",
        RelationKind::PartitionedTable => "partitioned table",
        RelationKind::View => "view",
        RelationKind::MaterializedView => "materialized view",
        RelationKind::Sequence => "sequence",
        RelationKind::Foreign => "foreign table",
        RelationKind::Other => "relation of another kind",
    }
}
