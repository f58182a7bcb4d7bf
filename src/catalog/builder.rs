//! Catalogs in a few lines, for tests that have no server. The system's functions come from a list taken from a real one
//! (`builtins.txt`); tables and functions are what the test says. It knows no shard map.

use super::{
    Catalog, Column, ColumnDefault, Function, FunctionKind, QualifiedName, Relation, RelationKind,
    Volatility,
};

/// Names may be `name` (schema public) or `schema.name`.
#[derive(Clone, Debug)]
pub struct CatalogBuilder {
    catalog: Catalog,
    oid: u32,
}

/// volatility, kind, `s` for sets, number of arguments, names
const BUILTINS: &str = include_str!("builtins.txt");

const TYPES: [(&str, u32); 36] = [
    ("bool", 16),
    ("boolean", 16),
    ("bytea", 17),
    ("\"char\"", 18),
    ("name", 19),
    ("bigint", 20),
    ("int8", 20),
    ("smallint", 21),
    ("int2", 21),
    ("integer", 23),
    ("int", 23),
    ("int4", 23),
    ("text", 25),
    ("oid", 26),
    ("json", 114),
    ("real", 700),
    ("float4", 700),
    ("double precision", 701),
    ("float8", 701),
    ("money", 790),
    ("inet", 869),
    ("integer[]", 1007),
    ("text[]", 1009),
    ("bigint[]", 1016),
    ("char", 1042),
    ("varchar", 1043),
    ("date", 1082),
    ("time", 1083),
    ("timestamp", 1114),
    ("timestamptz", 1184),
    ("interval", 1186),
    ("numeric", 1700),
    ("uuid", 2950),
    ("uuid[]", 2951),
    ("jsonb", 3802),
    ("int4range", 3904),
];

impl Default for CatalogBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl CatalogBuilder {
    /// The system's functions, the schema `public`, the default search_path.
    #[must_use]
    pub fn new() -> Self {
        let mut catalog = Catalog {
            version: 1,
            default_search_path: vec!["$user".to_owned(), "public".to_owned()],
            ..Catalog::default()
        };
        for schema in ["pg_catalog", "information_schema", "public"] {
            catalog.schemas.insert(schema.to_owned());
        }
        for line in BUILTINS.lines() {
            add_builtins(&mut catalog, line);
        }
        Self {
            catalog,
            oid: 16_384,
        }
    }

    /// A table of columns `(name, type)` and its primary key. A type this list does not know (and `numeric(10,2)`'s
    /// typmod is cut off) gets an oid of its own, as a user's type would.
    #[must_use]
    pub fn table(mut self, name: &str, columns: &[(&str, &str)], primary_key: &[&str]) -> Self {
        let name = self.qualified(name);
        let mut relation = self.relation(RelationKind::Table);
        for (column, type_name) in columns {
            let not_null = primary_key.contains(column);
            let type_oid = self.type_oid(type_name);
            relation.columns.push(Column {
                name: (*column).to_owned(),
                type_oid,
                type_modifier: -1,
                not_null,
                collation_deterministic: true,
                collates_by_bytes: false,
                default: ColumnDefault::None,
            });
        }
        relation.primary_key = primary_key
            .iter()
            .map(|column| (*column).to_owned())
            .collect();
        self.catalog.relations.insert(name, relation);
        self
    }

    /// A view: its columns, its definition, the base relations and user functions it depends on.
    #[must_use]
    pub fn view(
        self,
        name: &str,
        columns: &[(&str, &str)],
        definition: &str,
        depends_on: &[&str],
    ) -> Self {
        let depends_on: Vec<QualifiedName> = depends_on.iter().map(|name| split(name)).collect();
        self.table(name, columns, &[]).alter(name, |relation| {
            relation.kind = RelationKind::View;
            definition.clone_into(&mut relation.definition);
            relation.depends_on = depends_on;
        })
    }

    /// Changes a relation that is there; one that is not is left alone.
    #[must_use]
    pub fn alter(mut self, name: &str, change: impl FnOnce(&mut Relation)) -> Self {
        if let Some(relation) = self.catalog.relations.get_mut(&split(name)) {
            change(relation);
        }
        self
    }

    /// What an INSERT that leaves the column out stores.
    #[must_use]
    pub fn default(self, table: &str, column: &str, default: ColumnDefault) -> Self {
        self.alter(table, |relation| {
            for found in relation
                .columns
                .iter_mut()
                .filter(|found| found.name == column)
            {
                found.default = default.clone();
            }
        })
    }

    /// The column's collation is "C".
    #[must_use]
    pub fn by_bytes(self, table: &str, column: &str) -> Self {
        self.alter(table, |relation| {
            let mut columns = relation.columns.iter_mut();
            if let Some(found) = columns.find(|found| found.name == column) {
                found.collates_by_bytes = true;
            }
        })
    }

    /// `serial`: the column draws from `<table>_<column>_seq`, which is added.
    #[must_use]
    pub fn serial(mut self, table: &str, column: &str) -> Self {
        let mut sequence = split(table);
        sequence.name = format!("{}_{column}_seq", sequence.name);
        let relation = self.relation(RelationKind::Sequence);
        self.catalog.relations.insert(sequence.clone(), relation);
        self.default(table, column, ColumnDefault::Serial(sequence))
    }

    /// A user's function, whose body is unknown.
    #[must_use]
    pub fn function(mut self, name: &str, volatility: Volatility, argument_count: u16) -> Self {
        let name = self.qualified(name);
        self.catalog
            .functions
            .entry(name.name)
            .or_default()
            .push(Function {
                schema: name.schema,
                volatility,
                kind: FunctionKind::Function,
                builtin: false,
                argument_count,
                returns_set: false,
            });
        self
    }

    #[must_use]
    pub fn user_type(mut self, name: &str) -> Self {
        self.type_oid(name);
        self
    }

    #[must_use]
    pub fn build(self) -> Catalog {
        self.catalog
    }

    fn qualified(&mut self, name: &str) -> QualifiedName {
        let name = split(name);
        self.catalog.schemas.insert(name.schema.clone());
        name
    }

    fn relation(&mut self, kind: RelationKind) -> Relation {
        Relation {
            oid: self.next_oid(),
            kind,
            columns: Vec::new(),
            primary_key: Vec::new(),
            unlogged: false,
            has_row_security: false,
            has_triggers: false,
            parents: Vec::new(),
            depends_on: Vec::new(),
            definition: String::new(),
            volatile: false,
        }
    }

    fn type_oid(&mut self, name: &str) -> u32 {
        let bare = name.split('(').next().unwrap_or(name);
        if let Some((_, oid)) = TYPES.iter().find(|(known, _)| *known == bare) {
            return *oid;
        }
        let oid = self.next_oid();
        *self.catalog.user_types.entry(split(bare)).or_insert(oid)
    }

    fn next_oid(&mut self) -> u32 {
        self.oid += 1;
        self.oid
    }
}

fn split(name: &str) -> QualifiedName {
    let (schema, name) = name.split_once('.').unwrap_or(("public", name));
    QualifiedName::new(schema, name)
}

fn add_builtins(catalog: &mut Catalog, line: &str) {
    let mut words = line.split(' ');
    let (volatility, kind) = (words.next(), words.next());
    let (set, arguments) = (
        words.next(),
        words.next().and_then(|count| count.parse().ok()),
    );
    for name in words {
        catalog
            .functions
            .entry(name.to_owned())
            .or_default()
            .push(Function {
                schema: "pg_catalog".to_owned(),
                volatility: match volatility {
                    Some("i") => Volatility::Immutable,
                    Some("s") => Volatility::Stable,
                    _ => Volatility::Volatile,
                },
                kind: match kind {
                    Some("a") => FunctionKind::Aggregate,
                    Some("w") => FunctionKind::Window,
                    Some("p") => FunctionKind::Procedure,
                    _ => FunctionKind::Function,
                },
                builtin: !Function::runs_queries(name),
                argument_count: arguments.unwrap_or(0),
                returns_set: set == Some("s"),
            });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_takes_a_few_lines() {
        let catalog = CatalogBuilder::new()
            .table(
                "users",
                &[("id", "bigint"), ("name", "text"), ("mood", "mood")],
                &["id"],
            )
            .serial("users", "id")
            .view(
                "names",
                &[("name", "text")],
                "SELECT users.name FROM public.users",
                &["users"],
            )
            .build();
        let users = &catalog.relations[&QualifiedName::new("public", "users")];
        let sequence = users
            .column("id")
            .and_then(|column| column.default.sequence());
        assert_eq!(
            sequence,
            Some(&QualifiedName::new("public", "users_id_seq"))
        );
        assert_eq!(
            users.column("mood").map(|column| column.type_oid > 16_384),
            Some(true)
        );
        let names = &catalog.relations[&QualifiedName::new("public", "names")];
        assert_eq!(names.depends_on, [QualifiedName::new("public", "users")]);
        assert!(
            catalog.functions["generate_series"]
                .iter()
                .all(|function| function.returns_set)
        );
        assert!(
            catalog.functions["count"]
                .iter()
                .all(|function| function.kind == FunctionKind::Aggregate)
        );
    }
}
