//! Rows of the catalog queries to a `Catalog`. Pure: everything that needs a server has been asked before.

use super::functions::Functions;
use super::rows::{
    ColumnRow, ConstraintRow, IndexRow, Oid, RelationRow, Rows, SettingRow, TypeRow, ViewRow,
};
use super::views::Views;
use crate::catalog::shape::{ColumnShape, Constraint, ConstraintKind, TableShape};
use crate::catalog::{
    Catalog, Column, ColumnDefault, QualifiedName, Relation, RelationKind, Shape, parse_search_path,
};
use std::collections::{BTreeMap, HashMap};

pub fn catalog(rows: Rows) -> Catalog {
    let functions = Functions::new(&rows);
    let names = relation_names(&rows.relations);
    let mut relations = relations(&rows, &functions);
    look_through_views(&rows, &functions, &names, &mut relations);
    let (default_search_path, role_search_paths) = search_paths(&rows);
    Catalog {
        lingering: crate::catalog::lingering::Lingering::default(),
        version: 0,
        casts_write: functions.casts_write(&rows.casts),
        functions: functions.catalog(),
        default_search_path,
        role_search_paths,
        schemas: rows.schemas.iter().map(|row| row.name.clone()).collect(),
        user_types: rows
            .types
            .iter()
            .map(|row| (QualifiedName::new(&row.schema, &row.name), row.oid))
            .collect(),
        user_operators: rows
            .operators
            .iter()
            .filter(|row| !functions.is_builtin(row.function))
            .map(|row| row.name.clone())
            .collect(),
        shape: shape(&rows, &names),
        relations: relations
            .into_iter()
            .filter_map(|(oid, made)| Some((names.get(&oid)?.clone(), made)))
            .collect(),
    }
}

fn relation_names(rows: &[RelationRow]) -> HashMap<Oid, QualifiedName> {
    rows.iter()
        .map(|row| (row.oid, QualifiedName::new(&row.schema, &row.name)))
        .collect()
}

fn relations(rows: &Rows, functions: &Functions<'_>) -> HashMap<Oid, Relation> {
    let domains: HashMap<Oid, &TypeRow> = rows
        .types
        .iter()
        .filter(|row| row.kind == "d")
        .map(|row| (row.oid, row))
        .collect();
    let mut relations: HashMap<Oid, Relation> = rows
        .relations
        .iter()
        .map(|row| (row.oid, relation(row)))
        .collect();
    for row in &rows.columns {
        if let Some(relation) = relations.get_mut(&row.relation) {
            relation.columns = row
                .columns
                .iter()
                .map(|column| self::column(column, functions, &domains))
                .collect();
        }
    }
    for row in rows.behaviours.iter().filter(|row| row.acts) {
        if let Some(relation) = relations.get_mut(&row.relation) {
            relation.has_triggers = true;
        }
    }
    relations
}

fn relation(row: &RelationRow) -> Relation {
    Relation {
        oid: row.oid,
        kind: match row.kind.as_str() {
            "r" => RelationKind::Table,
            "p" => RelationKind::PartitionedTable,
            "v" => RelationKind::View,
            "m" => RelationKind::MaterializedView,
            "S" => RelationKind::Sequence,
            "f" => RelationKind::Foreign,
            _ => RelationKind::Other,
        },
        columns: Vec::new(),
        primary_key: row.primary_key.clone(),
        unlogged: row.unlogged,
        has_row_security: row.row_security,
        has_triggers: false,
        parents: row
            .parents
            .iter()
            .map(|(schema, name)| QualifiedName::new(schema, name))
            .collect(),
        depends_on: Vec::new(),
        definition: String::new(),
        volatile: false,
    }
}

fn column(row: &ColumnRow, functions: &Functions<'_>, domains: &HashMap<Oid, &TypeRow>) -> Column {
    Column {
        name: row.name.clone(),
        type_oid: row.type_oid,
        type_modifier: row.type_modifier,
        not_null: row.not_null,
        collation_deterministic: row.deterministic,
        collates_by_bytes: row.by_bytes,
        default: default(row, functions, domains),
    }
}

/// What an INSERT that leaves the column out stores. Where that is not certain it is `Volatile`.
fn default(
    row: &ColumnRow,
    functions: &Functions<'_>,
    domains: &HashMap<Oid, &TypeRow>,
) -> ColumnDefault {
    let sequence = row.draws.as_ref().filter(|_| row.draws_count == 1);
    let sequence = sequence.map(|(schema, name)| QualifiedName::new(schema, name));
    if !row.generated.is_empty() {
        return ColumnDefault::Generated;
    }
    match row.identity.as_str() {
        "a" => return sequence.map_or(ColumnDefault::Volatile, ColumnDefault::IdentityAlways),
        "d" => return sequence.map_or(ColumnDefault::Volatile, ColumnDefault::IdentityByDefault),
        _ => {}
    }
    let Some(expression) = &row.expression else {
        return domain_default(row.type_oid, functions, domains);
    };
    match sequence {
        Some(sequence) if is_nextval(expression) => ColumnDefault::Serial(sequence),
        _ => classified(row.impure, &row.calls, functions),
    }
}

/// A column without a default takes its domain's, or that of the domain below.
fn domain_default(
    mut oid: Oid,
    functions: &Functions<'_>,
    domains: &HashMap<Oid, &TypeRow>,
) -> ColumnDefault {
    while let Some(domain) = domains.get(&oid) {
        if domain.has_default {
            return classified(domain.default_impure, &domain.default_calls, functions);
        }
        oid = domain.base;
    }
    ColumnDefault::None
}

fn classified(impure: bool, calls: &[Oid], functions: &Functions<'_>) -> ColumnDefault {
    if impure || !functions.all_immutable(calls) {
        ColumnDefault::Volatile
    } else {
        ColumnDefault::Immutable
    }
}

/// Exactly `nextval('…'::regclass)`, as Postgres writes the default of a serial column. An implicit cast to the
/// column's type does not show in the text and changes no value.
fn is_nextval(expression: &str) -> bool {
    let name = expression
        .strip_prefix("nextval('")
        .and_then(|rest| rest.strip_suffix("'::regclass)"));
    name.is_some_and(|name| !name.replace("''", "").contains('\''))
}

fn look_through_views(
    rows: &Rows,
    functions: &Functions<'_>,
    names: &HashMap<Oid, QualifiedName>,
    relations: &mut HashMap<Oid, Relation>,
) {
    let is_plain = |view: &&ViewRow| {
        relations
            .get(&view.relation)
            .is_some_and(|r| r.kind == RelationKind::View)
    };
    let plain = rows
        .views
        .iter()
        .filter(is_plain)
        .map(|view| (view.relation, view))
        .collect();
    let views = Views::new(functions, names, plain, &rows.behaviours, &rows.types);
    for view in &rows.views {
        let Some(relation) = relations.get_mut(&view.relation) else {
            continue;
        };
        let found = views.look_through(view);
        relation.depends_on = found.depends_on;
        relation.volatile = found.volatile && relation.kind == RelationKind::View;
        relation.definition = view.definition.clone().unwrap_or_default();
    }
    for (oid, relation) in relations {
        relation.volatile |= views.is_guarded(*oid);
    }
}

/// The database's own `search_path` and those of roles. The role that asked may have one of its own: then the server's
/// is not to be seen, and Postgres's default stands in for it.
fn search_paths(rows: &Rows) -> (Vec<String>, HashMap<String, Vec<String>>) {
    let mut roles: HashMap<String, Vec<String>> = HashMap::new();
    for row in &rows.settings {
        if let Some(path) = setting(row, "search_path").and_then(parse_search_path) {
            roles.insert(row.role.clone(), path);
        }
    }
    let of_all = roles.remove("");
    let session = rows
        .session
        .as_ref()
        .filter(|session| !roles.contains_key(&session.role));
    let of_session = session.and_then(|session| parse_search_path(&session.search_path));
    let default = of_all
        .or(of_session)
        .unwrap_or_else(|| vec!["$user".to_owned(), "public".to_owned()]);
    (default, roles)
}

fn setting<'a>(row: &'a SettingRow, name: &str) -> Option<&'a str> {
    let pairs = row
        .settings
        .iter()
        .filter_map(|setting| setting.split_once('='));
    pairs
        .rev()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value)
}

fn shape(rows: &Rows, names: &HashMap<Oid, QualifiedName>) -> Shape {
    let views = rows
        .views
        .iter()
        .filter_map(|row| Some((names.get(&row.relation)?.clone(), row.definition.clone()?)));
    let functions = rows.functions.iter().filter_map(|row| {
        let name = format!("{}({})", row.name, row.signature.as_ref()?);
        Some((QualifiedName::new(&row.schema, name), row.digest.clone()?))
    });
    let operators = rows.operators.iter().map(|row| {
        let side = |name: &Option<String>| name.clone().unwrap_or_else(|| "NONE".to_owned());
        let name = format!("{}({}, {})", row.name, side(&row.left), side(&row.right));
        (QualifiedName::new(&row.schema, name), row.calls.clone())
    });
    let types = rows.types.iter().map(|row| {
        (
            QualifiedName::new(&row.schema, &row.name),
            row.definition.clone().unwrap_or_default(),
        )
    });
    let collations = rows.collations.iter().map(|row| {
        (
            QualifiedName::new(&row.schema, &row.name),
            row.definition.clone(),
        )
    });
    Shape {
        server_version: rows
            .session
            .as_ref()
            .map_or(0, |session| session.server_version),
        tables: tables(rows, names),
        views: views.collect(),
        functions: functions.collect(),
        types: types.collect(),
        operators: operators.collect(),
        collations: collations.collect(),
        extensions: rows
            .extensions
            .iter()
            .map(|row| (row.name.clone(), row.version.clone()))
            .collect(),
        role_settings: role_settings(&rows.settings),
    }
}

fn role_settings(rows: &[SettingRow]) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, BTreeMap<&str, &str>> = BTreeMap::new();
    for row in rows {
        let pairs = row
            .settings
            .iter()
            .filter_map(|setting| setting.split_once('='));
        settings.entry(row.role.clone()).or_default().extend(pairs);
    }
    let text = |pairs: BTreeMap<&str, &str>| {
        pairs
            .iter()
            .map(|(name, value)| format!("{name} = {value}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    settings
        .into_iter()
        .map(|(role, pairs)| (role, text(pairs)))
        .collect()
}

fn tables(rows: &Rows, names: &HashMap<Oid, QualifiedName>) -> BTreeMap<QualifiedName, TableShape> {
    let mut tables: HashMap<Oid, TableShape> = rows
        .relations
        .iter()
        .filter(|row| !row.system && ["r", "p", "f"].contains(&row.kind.as_str()))
        .map(|row| {
            (
                row.oid,
                TableShape {
                    storage: storage(row),
                    ..TableShape::default()
                },
            )
        })
        .collect();
    for row in &rows.columns {
        if let Some(table) = tables.get_mut(&row.relation) {
            table.columns = row.columns.iter().map(column_shape).collect();
        }
    }
    for row in &rows.constraints {
        if let Some(table) = tables.get_mut(&row.relation) {
            table.constraints.push(constraint(row, names));
        }
    }
    for row in &rows.indexes {
        if let Some(table) = tables.get_mut(&row.relation) {
            index(row, table);
        }
    }
    for row in &rows.behaviours {
        if let Some(table) = tables.get_mut(&row.relation) {
            table
                .behaviour
                .insert(row.name.clone(), row.definition.clone());
        }
    }
    tables
        .into_iter()
        .filter_map(|(oid, table)| Some((names.get(&oid)?.clone(), sorted(table))))
        .collect()
}

fn sorted(mut table: TableShape) -> TableShape {
    table.constraints.sort_unstable();
    table.constraints.dedup();
    table.unique_indexes.sort_unstable();
    table.indexes.sort_unstable();
    table
}

fn storage(row: &RelationRow) -> String {
    let kind = match row.kind.as_str() {
        "p" => "partitioned table",
        "f" => "foreign table",
        _ => "table",
    };
    let mut text = kind.to_owned();
    for (is, word) in [
        (row.unlogged, " unlogged"),
        (row.row_security, " row security"),
        (row.force_row_security, " forced row security"),
    ] {
        if is {
            text.push_str(word);
        }
    }
    for (schema, name) in &row.parents {
        text.push_str(&format!(" inherits {schema}.{name}"));
    }
    text
}

fn column_shape(row: &ColumnRow) -> ColumnShape {
    let mut text = row.type_name.clone();
    if let Some(collation) = &row.collation {
        text.push_str(&format!(" COLLATE {collation}"));
    }
    if row.not_null {
        text.push_str(" NOT NULL");
    }
    match (
        row.identity.as_str(),
        row.generated.as_str(),
        &row.expression,
    ) {
        ("a", _, _) => text.push_str(" GENERATED ALWAYS AS IDENTITY"),
        ("d", _, _) => text.push_str(" GENERATED BY DEFAULT AS IDENTITY"),
        (_, "", Some(expression)) => text.push_str(&format!(" DEFAULT {expression}")),
        (_, _, Some(expression)) => text.push_str(&format!(" GENERATED ALWAYS AS ({expression})")),
        _ => {}
    }
    ColumnShape {
        name: row.name.clone(),
        text,
        type_oid: row.type_oid,
        may_draw: row.may_draw.unwrap_or(true),
    }
}

fn constraint(row: &ConstraintRow, names: &HashMap<Oid, QualifiedName>) -> Constraint {
    let kind = match row.kind.as_str() {
        "p" => ConstraintKind::PrimaryKey,
        "u" => ConstraintKind::Unique,
        "f" => ConstraintKind::ForeignKey,
        "c" => ConstraintKind::Check,
        "x" => ConstraintKind::Exclusion,
        _ => ConstraintKind::Other,
    };
    let target = names
        .get(&row.target)
        .map(|name| (name.clone(), row.target_columns.clone()));
    Constraint {
        kind,
        definition: row.definition.clone(),
        columns: row.columns.clone(),
        target,
    }
}

fn index(row: &IndexRow, table: &mut TableShape) {
    if row.is_unique {
        table.unique_indexes.push(Constraint {
            kind: ConstraintKind::Unique,
            definition: row.definition.clone(),
            columns: row.columns.clone(),
            target: None,
        });
    } else {
        table.indexes.push(row.definition.clone());
    }
}
