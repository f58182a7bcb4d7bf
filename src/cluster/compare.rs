//! One shard's schema against the home shard's. A difference that changes what is stored or answered is an error; one
//! that fails loudly or only costs time is a warning. It knows nothing of servers: catalogs are values.

use super::finding::{Finding, Severity, Subject};
use crate::catalog::shape::{ColumnShape, Constraint, TableShape};
use crate::catalog::{Catalog, QualifiedName};
use crate::config::Database;
use crate::shard::ShardId;
use std::collections::{BTreeMap, BTreeSet};

/// Names listed in one finding; the rest is counted.
const NAMES_MAX: usize = 8;

const DIFFERENT_ANSWERS: &str =
    "the same statement would store or answer something else on each shard";
const FAILS_THERE: &str = "statements that need it fail on that shard";

/// What differs on `shard`, seen from the home shard.
#[must_use]
pub fn compare(
    home: &Catalog,
    other: &Catalog,
    database: &Database,
    shard: ShardId,
) -> Vec<Finding> {
    let name = database
        .shards
        .get(shard.index())
        .map_or("?", |shard| shard.name.as_str());
    let comparison = Comparison {
        home,
        other,
        mapped: mapped(home, database),
        shard: name,
        same_major: home.shape.server_version / 10_000 == other.shape.server_version / 10_000,
    };
    let mut findings = comparison.tables();
    findings.extend(comparison.user_types());
    findings.extend(comparison.views());
    findings.extend(comparison.shadows());
    findings.extend(comparison.functions());
    findings.extend(comparison.parts());
    findings.extend(comparison.settings());
    findings
}

/// Tables that live on several shards: those of the map and what inherits from them.
fn mapped(home: &Catalog, database: &Database) -> BTreeMap<QualifiedName, Subject> {
    let sharded = database.tables.iter().enumerate();
    let sharded = sharded.map(|(index, table)| {
        (
            QualifiedName::new(&table.schema, &table.name),
            Subject::Table(index),
        )
    });
    let reference = database.reference_tables.iter().enumerate();
    let reference = reference.map(|(index, (schema, name))| {
        (
            QualifiedName::new(schema, name),
            Subject::ReferenceTable(index),
        )
    });
    let mut mapped: BTreeMap<QualifiedName, Subject> = sharded.chain(reference).collect();
    for name in home.shape.tables.keys() {
        let place = home
            .ancestors(name)
            .iter()
            .find_map(|parent| mapped.get(parent))
            .cloned();
        if let Some(place) = place {
            mapped.entry(name.clone()).or_insert(place);
        }
    }
    mapped
}

struct Comparison<'a> {
    home: &'a Catalog,
    other: &'a Catalog,
    mapped: BTreeMap<QualifiedName, Subject>,
    shard: &'a str,
    /// texts of definitions of different major versions differ without meaning anything else
    same_major: bool,
}

impl Comparison<'_> {
    fn error(&self, code: &'static str, place: &Subject) -> Finding {
        Finding::error(code, place.clone()).on(self.shard)
    }

    fn warning(&self, code: &'static str) -> Finding {
        Finding::warning(code, Subject::Schema).on(self.shard)
    }

    /// An error, unless the servers' versions word the same thing in different ways.
    fn text_error(&self, code: &'static str, place: &Subject) -> Finding {
        let mut finding = self.error(code, place).degrades(DIFFERENT_ANSWERS);
        if !self.same_major {
            finding.severity = Severity::Warning;
            "the major versions differ, which may be all there is to it"
                .clone_into(&mut finding.degrades);
        }
        finding
    }

    fn tables(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut absent = Vec::new();
        for (name, home) in &self.home.shape.tables {
            match (self.other.shape.tables.get(name), self.mapped.get(name)) {
                (Some(other), Some(place)) => findings.extend(self.table(name, home, other, place)),
                (None, Some(place)) => findings.push(
                    self.error("table_missing", place)
                        .found(format!("no table {name}"))
                        .expected("the table as it is on the home shard")
                        .degrades("its rows of this shard cannot be stored or found"),
                ),
                (None, None) => absent.push(name.to_string()),
                (Some(_), None) => {}
            }
        }
        if !absent.is_empty() {
            findings.push(
                self.warning("unlisted_table_missing")
                    .found(format!("none of the home shard's tables {}", listed(&absent)))
                    .degrades("they are read and written on the home shard; DDL on them fails on this shard"),
            );
        }
        findings
    }

    fn table(
        &self,
        name: &QualifiedName,
        home: &TableShape,
        other: &TableShape,
        place: &Subject,
    ) -> Vec<Finding> {
        let mut findings = self.columns(name, home, other, place);
        if home.storage != other.storage {
            findings.push(
                self.error("table_kind", place)
                    .found(format!("{name} is {}", other.storage))
                    .expected(&home.storage)
                    .degrades(DIFFERENT_ANSWERS),
            );
        }
        findings.extend(self.constraints(name, &home.constraints, &other.constraints, place));
        findings.extend(self.constraints(name, &home.unique_indexes, &other.unique_indexes, place));
        findings.extend(self.behaviour(name, home, other, place));
        let missing: Vec<String> = home
            .indexes
            .iter()
            .filter(|index| !other.indexes.contains(index))
            .cloned()
            .collect();
        if !missing.is_empty() {
            findings.push(
                self.warning("index_missing")
                    .found(format!("{name} without the indexes {}", listed(&missing)))
                    .degrades("queries that use them are slow on this shard"),
            );
        }
        findings
    }

    /// Columns by position, as `SELECT *`, COPY and INSERT without a column list see them.
    fn columns(
        &self,
        name: &QualifiedName,
        home: &TableShape,
        other: &TableShape,
        place: &Subject,
    ) -> Vec<Finding> {
        let names = |table: &TableShape| {
            table
                .columns
                .iter()
                .map(|c| c.name.clone())
                .collect::<Vec<_>>()
        };
        let (wanted, there) = (names(home), names(other));
        if wanted != there {
            let finding = self.error("columns", place).degrades(DIFFERENT_ANSWERS);
            let found = format!("{name} has the columns ({})", there.join(", "));
            return vec![
                finding
                    .found(found)
                    .expected(format!("({})", wanted.join(", "))),
            ];
        }
        let pairs = home.columns.iter().zip(&other.columns);
        pairs
            .filter_map(|(home, other)| self.column(name, home, other, place))
            .collect()
    }

    fn column(
        &self,
        table: &QualifiedName,
        home: &ColumnShape,
        other: &ColumnShape,
        place: &Subject,
    ) -> Option<Finding> {
        let column = &home.name;
        if home.text != other.text {
            let finding = self.text_error("column", place);
            return Some(
                finding
                    .found(format!("{table}.{column} is {}", other.text))
                    .expected(&home.text),
            );
        }
        if home.type_oid != other.type_oid && !self.is_domain(home.type_oid) {
            let finding = self.error("type_oid", place);
            return Some(
                finding
                    .found(format!("{table}.{column} has the type OID {}", other.type_oid))
                    .expected(format!("{} as on the home shard ({})", home.type_oid, home.text))
                    .degrades(
                        "drivers remember types by OID and would misread this shard's rows; create the type through \
                         pgshunt on fresh databases, or dump and restore the shard with the home shard's OIDs",
                    ),
            );
        }
        None
    }

    /// Rows carry the OID of a domain's base type, never the domain's own.
    fn is_domain(&self, oid: u32) -> bool {
        let name = self
            .home
            .user_types
            .iter()
            .find(|(_, known)| **known == oid)
            .map(|(name, _)| name);
        let definition = name.and_then(|name| self.home.shape.types.get(name));
        definition.is_some_and(|definition| definition.starts_with("domain over "))
    }

    fn constraints(
        &self,
        name: &QualifiedName,
        home: &[Constraint],
        other: &[Constraint],
        place: &Subject,
    ) -> Vec<Finding> {
        let lacks = home.iter().filter(|constraint| !holds(other, constraint));
        let lacks = lacks.map(|constraint| {
            let finding = self.text_error("constraint_missing", place);
            finding
                .found(format!("{name} without it"))
                .expected(&constraint.definition)
        });
        let extra = other.iter().filter(|constraint| !holds(home, constraint));
        let extra = extra.map(|constraint| {
            let finding = self.text_error("constraint_extra", place);
            finding
                .found(format!("{name} with {}", constraint.definition))
                .expected("the constraints of the home shard, no others")
        });
        lacks.chain(extra).collect()
    }

    fn behaviour(
        &self,
        name: &QualifiedName,
        home: &TableShape,
        other: &TableShape,
        place: &Subject,
    ) -> Vec<Finding> {
        let parts: BTreeSet<&String> = home
            .behaviour
            .keys()
            .chain(other.behaviour.keys())
            .collect();
        let differ = parts
            .into_iter()
            .filter(|part| home.behaviour.get(*part) != other.behaviour.get(*part));
        let text = |table: &TableShape, part: &String| {
            table
                .behaviour
                .get(part)
                .cloned()
                .unwrap_or_else(|| "nothing of this name".to_owned())
        };
        differ
            .map(|part| {
                let finding = self.text_error("behaviour", place);
                finding
                    .found(format!("{name}, {part}: {}", text(other, part)))
                    .expected(text(home, part))
            })
            .collect()
    }

    fn user_types(&self) -> Vec<Finding> {
        let used = self
            .mapped
            .keys()
            .filter_map(|name| self.home.relations.get(name));
        let used: BTreeSet<u32> = used
            .flat_map(|relation| relation.columns.iter().map(|c| c.type_oid))
            .collect();
        let mut findings = Vec::new();
        let mut moved = Vec::new();
        for (name, oid) in &self.home.user_types {
            let (home, other) = (
                self.home.shape.types.get(name),
                self.other.shape.types.get(name),
            );
            if other.is_some() && home != other {
                let finding = self.text_error("type", &Subject::Schema);
                let text = |definition: Option<&String>| definition.cloned().unwrap_or_default();
                findings.push(
                    finding
                        .found(format!("type {name}: {}", text(other)))
                        .expected(text(home)),
                );
            }
            let differs = self
                .other
                .user_types
                .get(name)
                .is_some_and(|there| there != oid);
            if differs && !used.contains(oid) && !self.is_domain(*oid) {
                moved.push(name.to_string());
            }
        }
        if !moved.is_empty() {
            findings.push(
                self.warning("unused_type_oid")
                    .found(format!("other OIDs than on the home shard for the types {}", listed(&moved)))
                    .degrades("no column of a table of the map has them; values made of them may be misread by drivers"),
            );
        }
        findings
    }

    fn views(&self) -> Vec<Finding> {
        let reads_mapped = |name: &QualifiedName| {
            let view = self.home.relations.get(name);
            view.is_some_and(|view| {
                view.depends_on
                    .iter()
                    .any(|below| self.mapped.contains_key(below))
            })
        };
        let views: BTreeMap<QualifiedName, String> = self
            .home
            .shape
            .views
            .iter()
            .filter(|(name, _)| reads_mapped(name))
            .map(|(n, d)| (n.clone(), d.clone()))
            .collect();
        self.texts("view", &views, &self.other.shape.views)
    }

    /// A missing function fails loudly, unless another overload takes its place.
    fn functions(&self) -> Vec<Finding> {
        let (home, other) = (&self.home.shape.functions, &self.other.shape.functions);
        let lacks = unlike_overloads(home, other).into_iter().map(|name| {
            self.error("function_overload", &Subject::Schema)
                .found(format!("no function {name}, but others of its name"))
        });
        let extra = unlike_overloads(other, home).into_iter().map(|name| {
            self.error("function_overload", &Subject::Schema)
                .found(format!("a function {name} that the home shard lacks"))
        });
        let overloads = lacks.chain(extra).map(|finding| {
            finding
                .expected("the same overloads on every shard")
                .degrades("a call may mean another function on this shard")
        });
        overloads
            .chain(self.texts("function", home, other))
            .collect()
    }

    /// A relation the home shard lacks may stand before the one that is meant, in the order of the search_path.
    fn shadows(&self) -> Vec<Finding> {
        let views = self.home.shape.views.keys();
        let names: BTreeSet<&str> = self
            .mapped
            .keys()
            .chain(views)
            .map(|name| name.name.as_str())
            .collect();
        let extra = self
            .other
            .relations
            .keys()
            .filter(|name| !self.home.relations.contains_key(*name));
        let mut shadows: Vec<&QualifiedName> = extra
            .filter(|name| names.contains(name.name.as_str()))
            .collect();
        shadows.sort_unstable();
        let same_schema = |name: &QualifiedName| self.mapped.keys().any(|mapped| mapped == name);
        shadows
            .into_iter()
            .filter(|name| !same_schema(name))
            .map(|name| {
                self.error("shadow", &Subject::Schema)
                    .found(format!("a relation {name} that the home shard lacks"))
                    .expected(format!("no other relation of the name {}", name.name))
                    .degrades("statements that do not name the schema may mean it on this shard")
            })
            .collect()
    }

    fn parts(&self) -> Vec<Finding> {
        let (home, other) = (&self.home.shape, &self.other.shape);
        let mut findings = self.texts("operator", &home.operators, &other.operators);
        findings.extend(self.texts("collation", &home.collations, &other.collations));
        let names: BTreeSet<&String> = home
            .extensions
            .keys()
            .chain(other.extensions.keys())
            .collect();
        let text =
            |version: Option<&String>| version.map_or("not installed", String::as_str).to_owned();
        for name in names {
            let (wanted, there) = (home.extensions.get(name), other.extensions.get(name));
            if wanted != there {
                let finding = self
                    .warning("extension")
                    .found(format!("extension {name} {}", text(there)));
                findings.push(
                    finding
                        .expected(text(wanted))
                        .degrades("what it brings may be missing or act otherwise on this shard"),
                );
            }
        }
        findings
    }

    fn settings(&self) -> Vec<Finding> {
        let (home, other) = (
            &self.home.shape.role_settings,
            &self.other.shape.role_settings,
        );
        let roles: BTreeSet<&String> = home.keys().chain(other.keys()).collect();
        let text =
            |settings: Option<&String>| settings.cloned().unwrap_or_else(|| "none".to_owned());
        let differ = roles
            .into_iter()
            .filter(|role| home.get(*role) != other.get(*role));
        differ
            .map(|role| {
                let whose = if role.is_empty() {
                    "all roles".to_owned()
                } else {
                    format!("role {role}")
                };
                self.warning("role_settings")
                    .found(format!("settings of {whose}: {}", text(other.get(role))))
                    .expected(text(home.get(role)))
                    .degrades("sessions of that role begin with other settings on this shard")
            })
            .collect()
    }

    /// Definitions by name: other texts are errors, missing ones fail loudly.
    fn texts(
        &self,
        kind: &'static str,
        home: &BTreeMap<QualifiedName, String>,
        other: &BTreeMap<QualifiedName, String>,
    ) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut absent = Vec::new();
        for (name, text) in home {
            match other.get(name) {
                None => absent.push(name.to_string()),
                Some(there) if there != text => {
                    let finding = self.text_error(kind, &Subject::Schema);
                    findings.push(
                        finding
                            .found(format!("{kind} {name}: {}", one_line(there)))
                            .expected(one_line(text)),
                    );
                }
                Some(_) => {}
            }
        }
        if !absent.is_empty() {
            let finding = self
                .warning("object_missing")
                .found(format!("no {kind} {}", listed(&absent)));
            findings.push(
                finding
                    .expected("the same as on the home shard")
                    .degrades(FAILS_THERE),
            );
        }
        findings
    }
}

/// Functions of `here` that `there` lacks while it has others of the same name.
fn unlike_overloads<'a>(
    here: &'a BTreeMap<QualifiedName, String>,
    there: &BTreeMap<QualifiedName, String>,
) -> Vec<&'a QualifiedName> {
    let base = |name: &QualifiedName| {
        let end = name.name.find('(').unwrap_or(name.name.len());
        QualifiedName::new(&name.schema, &name.name[..end])
    };
    let known: BTreeSet<QualifiedName> = there.keys().map(base).collect();
    here.keys()
        .filter(|name| !there.contains_key(*name) && known.contains(&base(name)))
        .collect()
}

fn holds(constraints: &[Constraint], wanted: &Constraint) -> bool {
    constraints.iter().any(|constraint| {
        constraint.kind == wanted.kind && constraint.definition == wanted.definition
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn listed(names: &[String]) -> String {
    let shown = names
        .iter()
        .take(NAMES_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
