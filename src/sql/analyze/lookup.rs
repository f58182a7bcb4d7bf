//! Columns by which a subquery looks for rows anew for each row of the query around it: on copies of the tables it needs an
//! index for that, as it does on the tables. EXISTS and IN are joined as a whole and need none.

use super::facts::Node;
use super::scope::Scope;
use super::{Analyzer, Instance, Outcome};
use crate::catalog::QualifiedName;
use sqlparser::ast::Expr;
use std::fmt;

/// An index that a table's copy needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub columns: Vec<String>,
    /// values may be longer than an ordered index takes
    pub by_hash: bool,
}

#[derive(Debug, Default)]
pub struct Lookups {
    /// the block that is looked at is run for each row of another
    row_by_row: bool,
    nodes: Vec<Node>,
}

/// Types of fixed length: integers, oid, floats, dates and times, uuid.
const SHORT: [u32; 11] = [20, 21, 23, 26, 700, 701, 1082, 1083, 1114, 1184, 2950];
/// numeric, text, varchar, char(n)
const LONG: [u32; 4] = [1700, 25, 1043, 1042];

impl Analyzer<'_> {
    /// Walks a subquery; `row_by_row`: it is run for each row of the block it stands in.
    pub(super) fn run_for<T>(
        &mut self,
        row_by_row: bool,
        walk: impl FnOnce(&mut Self) -> Outcome<T>,
    ) -> Outcome<T> {
        let before = std::mem::replace(&mut self.notes.lookups.row_by_row, row_by_row);
        let outcome = walk(self);
        self.notes.lookups.row_by_row = before;
        outcome
    }

    /// Two columns are equal: is one of them this block's, and the other that of one around it?
    pub(super) fn note_lookup(&mut self, sides: [(&Expr, Node); 2], scope: &Scope<'_>) {
        if !self.notes.lookups.row_by_row {
            return;
        }
        let [a, b] = sides.map(|(expr, node)| (scope.is_own(expr), node));
        match (a, b) {
            ((true, node), (false, _)) | ((false, _), (true, node)) => {
                self.notes.lookups.nodes.push(node);
            }
            _ => {}
        }
    }

    /// The indexes that tables need, where their primary key does not serve.
    pub(super) fn lookups(&self) -> Vec<(QualifiedName, Lookup)> {
        let mut all = Vec::new();
        for instance in &self.instances {
            if let Some(lookup) = self.lookup(instance) {
                let lookup = (instance.table.clone(), lookup);
                if !all.contains(&lookup) {
                    all.push(lookup);
                }
            }
        }
        all
    }

    fn lookup(&self, instance: &Instance) -> Option<Lookup> {
        let key = &self.env.catalog.relations.get(&instance.table)?.primary_key;
        let nodes = &self.notes.lookups.nodes;
        let sought = instance.columns.iter().filter_map(|(column, node)| {
            let node = (*node).filter(|node| nodes.contains(node))?;
            Some((column, self.base.type_of(node)))
        });
        let sought: Vec<(&String, u32)> = sought.collect();
        if sought
            .iter()
            .any(|(column, _)| Some(*column) == key.first())
        {
            return None;
        }
        let short = sought.iter().filter(|(_, oid)| SHORT.contains(oid));
        let columns: Vec<String> = short.map(|(column, _)| (*column).clone()).collect();
        if !columns.is_empty() {
            return Some(Lookup {
                columns,
                by_hash: false,
            });
        }
        let (column, _) = sought.iter().find(|(_, oid)| LONG.contains(oid))?;
        Some(Lookup {
            columns: vec![(*column).clone()],
            by_hash: true,
        })
    }
}

impl fmt::Display for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "with an index on ({})", self.columns.join(", "))
    }
}
