//! Names of columns to nodes, by the rules of SQL's scopes: the innermost block first, USING's merged columns before the
//! tables they come from. What it cannot say for certain it calls opaque.

use super::facts::Node;
use sqlparser::ast::{Ident, ObjectName, ObjectNamePart};

/// A relation in FROM under the name by which the block knows it.
pub struct Rel {
    pub alias: String,
    /// for tables without an alias: `schema.table.column` is another way to say it
    pub schema: Option<String>,
    /// None when the columns are not known (functions, aliases of joins)
    pub columns: Option<Vec<(String, Option<Node>)>>,
    pub is_table: bool,
}

pub struct Scope<'p> {
    pub parent: Option<&'p Scope<'p>>,
    pub rels: Vec<Rel>,
    /// columns of USING and NATURAL: the node that the bare name means
    pub merged: Vec<(String, Option<Node>)>,
    /// those of them that come from columns of different types
    pub mixed: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolved {
    Node(Node),
    /// there is or may be such a column, but nothing can be said of it
    Opaque,
    /// `relation.name` where the relation has no such column: a function call in disguise
    NoSuchColumn,
    Missing,
}

pub const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "xmax", "cmin", "cmax", "tableoid"];

impl<'p> Scope<'p> {
    pub fn new(parent: Option<&'p Scope<'p>>) -> Self {
        Self {
            parent,
            rels: Vec::new(),
            merged: Vec::new(),
            mixed: Vec::new(),
        }
    }

    pub fn bare(&self, name: &str) -> Resolved {
        if let Some((_, node)) = self.merged.iter().find(|(merged, _)| merged == name) {
            return node.map_or(Resolved::Opaque, Resolved::Node);
        }
        let mut found = None;
        for rel in &self.rels {
            match rel.column(name) {
                Resolved::Missing => {}
                Resolved::Node(node) if found.is_none() => found = Some(Resolved::Node(node)),
                _ => found = Some(Resolved::Opaque),
            }
        }
        match (found, self.parent) {
            (Some(resolved), _) => resolved,
            (None, Some(parent)) => parent.bare(name),
            (None, None) => Resolved::Missing,
        }
    }

    /// A merged column whose type is not simply that of the node it means.
    pub fn is_mixed(&self, name: &str) -> bool {
        self.mixed.iter().any(|mixed| mixed == name)
            || self.parent.is_some_and(|parent| parent.is_mixed(name))
    }

    pub fn qualified(&self, schema: Option<&str>, relation: &str, name: &str) -> Resolved {
        let named = |rel: &&Rel| {
            rel.alias == relation && (schema.is_none() || rel.schema.as_deref() == schema)
        };
        let mut candidates = self.rels.iter().filter(named);
        match (candidates.next(), candidates.next(), self.parent) {
            (Some(rel), None, _) => match rel.column(name) {
                Resolved::Missing => Resolved::NoSuchColumn,
                resolved => resolved,
            },
            (Some(_), Some(_), _) => Resolved::Opaque,
            (None, _, Some(parent)) => parent.qualified(schema, relation, name),
            (None, _, None) => Resolved::Missing,
        }
    }

    /// Is it certainly a column of this very block?
    pub fn is_own(&self, expr: &sqlparser::ast::Expr) -> bool {
        use sqlparser::ast::Expr;
        let names = |rel: &Rel, name: &str| {
            rel.columns
                .as_ref()
                .is_some_and(|columns| columns.iter().any(|(column, _)| column == name))
        };
        match expr {
            Expr::Identifier(name) => {
                let name = folded(name);
                self.merged.iter().any(|(merged, _)| *merged == name)
                    || self.rels.iter().any(|rel| names(rel, &name))
            }
            Expr::CompoundIdentifier(parts) => {
                let relation = parts
                    .len()
                    .checked_sub(2)
                    .and_then(|at| parts.get(at))
                    .map(folded);
                relation.is_some_and(|relation| self.rels.iter().any(|rel| rel.alias == relation))
            }
            _ => false,
        }
    }

    /// Is it a relation's name here (a whole-row reference)?
    pub fn has_relation(&self, name: &str) -> bool {
        self.rels.iter().any(|rel| rel.alias == name)
            || self.parent.is_some_and(|parent| parent.has_relation(name))
    }
}

impl Rel {
    fn column(&self, name: &str) -> Resolved {
        if self.is_table && SYSTEM_COLUMNS.contains(&name) {
            return Resolved::Opaque;
        }
        let Some(columns) = &self.columns else {
            return Resolved::Opaque;
        };
        let mut same = columns.iter().filter(|(column, _)| column == name);
        match (same.next(), same.next()) {
            (None, _) => Resolved::Missing,
            (Some((_, Some(node))), None) => Resolved::Node(*node),
            _ => Resolved::Opaque,
        }
    }
}

/// An identifier as Postgres stores it.
pub fn folded(ident: &Ident) -> String {
    let name = crate::sql::name::truncate(&ident.value);
    if ident.quote_style.is_some() {
        name.to_owned()
    } else {
        name.to_ascii_lowercase()
    }
}

/// `[schema.]name`; None for longer names and names with calls in them.
pub fn schema_and_name(name: &ObjectName) -> Option<(Option<String>, String)> {
    let mut parts = name.0.iter().map(|part| match part {
        ObjectNamePart::Identifier(ident) => Some(folded(ident)),
        ObjectNamePart::Function(_) => None,
    });
    match (parts.next(), parts.next(), parts.next()) {
        (Some(Some(name)), None, _) => Some((None, name)),
        (Some(Some(schema)), Some(Some(name)), None) => Some((Some(schema), name)),
        _ => None,
    }
}
