//! Names to relations and functions by PostgreSQL's rules. It does not know what a session's `search_path` is nor what
//! "$user" stands for: the caller gives the path as real schema names.

use super::{Catalog, Function, QualifiedName, Relation};

const SYSTEM: &str = "pg_catalog";

impl Catalog {
    /// The relation a name means. pg_catalog is searched first unless the path lists it; schemas that do not exist are
    /// passed over; pg_temp is ignored, as a session with temporary tables holds its own server.
    #[must_use]
    pub fn resolve(
        &self,
        search_path: &[String],
        schema: Option<&str>,
        name: &str,
    ) -> Option<(QualifiedName, &Relation)> {
        if let Some(schema) = schema {
            return self.relation_in(schema, name);
        }
        searched(search_path).find_map(|schema| self.relation_in(schema, name))
    }

    fn relation_in(&self, schema: &str, name: &str) -> Option<(QualifiedName, &Relation)> {
        let name = QualifiedName::new(schema, name);
        self.relations.get(&name).map(|relation| (name, relation))
    }

    /// Every overload that a call by this name may mean. Which of them it is depends on the argument types; the caller
    /// takes the worst of them.
    pub fn functions_called<'a>(
        &'a self,
        search_path: &'a [String],
        schema: Option<&'a str>,
        name: &str,
    ) -> impl Iterator<Item = &'a Function> {
        let overloads = self
            .functions
            .get(name)
            .map(Vec::as_slice)
            .unwrap_or_default();
        overloads.iter().filter(move |function| match schema {
            Some(schema) => function.schema == schema,
            None => searched(search_path).any(|schema| function.schema == schema),
        })
    }

    /// Whoever calls this function without another schema's name means one of PostgreSQL's own.
    #[must_use]
    pub fn is_systems_own(&self, name: &str) -> bool {
        let mut overloads = self.functions.get(name).into_iter().flatten();
        overloads.all(|function| function.schema == "pg_catalog")
    }

    /// Every table this one inherits from or is a partition of, nearest first.
    #[must_use]
    pub fn ancestors(&self, name: &QualifiedName) -> Vec<QualifiedName> {
        let mut found: Vec<QualifiedName> = Vec::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for parent in self
                .relations
                .get(next)
                .map(|relation| &relation.parents)
                .into_iter()
                .flatten()
            {
                if parent != name && !found.contains(parent) {
                    found.push(parent.clone());
                    open.push(parent);
                }
            }
        }
        found
    }

    /// The `search_path` a fresh connection of this role has, "$user" replaced by the role's name.
    #[must_use]
    pub fn search_path_of(&self, role: &str) -> Vec<String> {
        let path = self
            .role_search_paths
            .get(role)
            .unwrap_or(&self.default_search_path);
        path.iter()
            .map(|schema| {
                if schema == "$user" {
                    role.to_owned()
                } else {
                    schema.clone()
                }
            })
            .collect()
    }
}

/// The schemas in the order in which they are searched.
fn searched(search_path: &[String]) -> impl Iterator<Item = &str> {
    let first = (!search_path.iter().any(|schema| schema == SYSTEM)).then_some(SYSTEM);
    first
        .into_iter()
        .chain(search_path.iter().map(String::as_str))
        .filter(|schema| *schema != "pg_temp")
}

/// The value of `search_path` as a list of names, "$user" left as it is; None where Postgres refuses the list.
/// Unquoted names are folded to lower case, names over 63 bytes are cut as Postgres does.
#[must_use]
pub fn parse_search_path(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = trim(text);
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let (name, after) = if rest.starts_with('"') {
            quoted_name(rest)?
        } else {
            plain_name(rest)?
        };
        names.push(cut(name));
        rest = trim(after);
        if rest.is_empty() {
            return Some(names);
        }
        rest = trim(rest.strip_prefix(',')?);
    }
}

fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
}

fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut rest = text.strip_prefix('"')?;
    loop {
        let (part, after) = rest.split_once('"')?;
        name.push_str(part);
        match after.strip_prefix('"') {
            Some(after) => {
                name.push('"');
                rest = after;
            }
            None => return Some((name, after)),
        }
    }
}

fn plain_name(text: &str) -> Option<(String, &str)> {
    let end = text
        .find([',', ' ', '\t', '\n', '\r', '\u{b}', '\u{c}'])
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty()).then(|| (name.to_ascii_lowercase(), rest))
}

fn cut(mut name: String) -> String {
    let mut end = name.len().min(63);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.truncate(end);
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{CatalogBuilder, Volatility};

    fn path(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn found(catalog: &Catalog, search_path: &[&str], name: &str) -> Option<String> {
        catalog
            .resolve(&path(search_path), None, name)
            .map(|(name, _)| name.to_string())
    }

    #[test]
    fn the_system_schema_is_searched_first_unless_the_path_lists_it() {
        let catalog = CatalogBuilder::new()
            .table("pg_catalog.pg_class", &[], &[])
            .table("pg_class", &[], &[])
            .table("app.users", &[], &[])
            .table("users", &[], &[])
            .build();
        assert_eq!(
            found(&catalog, &["public"], "pg_class").as_deref(),
            Some("pg_catalog.pg_class")
        );
        assert_eq!(
            found(&catalog, &["public", "pg_catalog"], "pg_class").as_deref(),
            Some("public.pg_class")
        );
        assert_eq!(
            found(&catalog, &["nowhere", "app", "public"], "users").as_deref(),
            Some("app.users")
        );
        assert_eq!(found(&catalog, &["pg_temp"], "users"), None);
        assert!(
            catalog
                .resolve(&path(&["app"]), Some("public"), "users")
                .is_some()
        );
        assert!(
            catalog
                .resolve(&path(&["app"]), Some("pg_temp"), "users")
                .is_none()
        );
    }

    #[test]
    fn calls_see_every_overload_on_the_path() {
        let catalog = CatalogBuilder::new()
            .function("lower", Volatility::Volatile, 2)
            .function("app.f", Volatility::Stable, 1)
            .build();
        let names = path(&["public"]);
        let worst = catalog
            .functions_called(&names, None, "lower")
            .map(|f| f.volatility)
            .max();
        assert_eq!(worst, Some(Volatility::Volatile));
        assert_eq!(catalog.functions_called(&names, None, "f").count(), 0);
        assert_eq!(
            catalog.functions_called(&names, Some("app"), "f").count(),
            1
        );
        let random = catalog
            .functions_called(&names, None, "random")
            .map(|f| f.volatility)
            .max();
        assert_eq!(random, Some(Volatility::Volatile));
        let now = catalog
            .functions_called(&names, None, "now")
            .map(|f| f.volatility)
            .max();
        assert_eq!(now, Some(Volatility::Stable));
    }

    #[test]
    fn ancestors_are_found_at_any_depth() {
        let catalog = CatalogBuilder::new()
            .table("a", &[], &[])
            .table("b", &[], &[])
            .table("c", &[], &[])
            .alter("b", |relation| {
                relation.parents.push(QualifiedName::new("public", "a"));
            })
            .alter("c", |relation| {
                relation.parents.push(QualifiedName::new("public", "b"));
            })
            .build();
        let names: Vec<String> = catalog
            .ancestors(&QualifiedName::new("public", "c"))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(names, ["public.b", "public.a"]);
    }

    #[test]
    fn search_paths_are_read_as_postgres_does() {
        assert_eq!(
            parse_search_path("\"$user\", public"),
            Some(path(&["$user", "public"]))
        );
        assert_eq!(parse_search_path(""), Some(vec![]));
        assert_eq!(
            parse_search_path(" App ,\"A \"\"b\"\"\" "),
            Some(path(&["app", "A \"b\""]))
        );
        assert_eq!(parse_search_path("\"\""), Some(path(&[""])));
        assert_eq!(parse_search_path("a,"), None);
        assert_eq!(parse_search_path("a b"), None);
        assert_eq!(parse_search_path("\"a"), None);
    }

    #[test]
    fn a_role_may_have_a_path_of_its_own() {
        let mut catalog = CatalogBuilder::new().build();
        catalog
            .role_search_paths
            .insert("ann".to_owned(), path(&["app", "$user"]));
        assert_eq!(catalog.search_path_of("ann"), path(&["app", "ann"]));
        assert_eq!(catalog.search_path_of("bob"), path(&["bob", "public"]));
    }
}
