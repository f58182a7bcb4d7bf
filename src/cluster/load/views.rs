//! Views looked through: which base relations and functions a view stands on, and whether reading it may write. It goes
//! by the parsed definitions, never by their text.

use super::functions::Functions;
use super::rows::{BehaviourRow, Oid, TypeRow, ViewRow};
use crate::catalog::{QualifiedName, Volatility};
use std::collections::{BTreeSet, HashMap, HashSet};

pub struct Views<'a> {
    functions: &'a Functions<'a>,
    names: &'a HashMap<Oid, QualifiedName>,
    /// views whose rows are made when they are read; a materialized view stands for itself
    plain: HashMap<Oid, &'a ViewRow>,
    /// tables whose row security calls something volatile
    guarded: HashSet<Oid>,
    /// some domain of this database has a volatile check
    volatile_domains: bool,
}

#[derive(Default)]
pub struct LookedThrough {
    pub depends_on: Vec<QualifiedName>,
    pub volatile: bool,
}

enum Node {
    Relation(Oid),
    Function(Oid),
}

impl<'a> Views<'a> {
    pub fn new(
        functions: &'a Functions<'a>,
        names: &'a HashMap<Oid, QualifiedName>,
        plain: HashMap<Oid, &'a ViewRow>,
        behaviours: &[BehaviourRow],
        types: &[TypeRow],
    ) -> Self {
        let guards = behaviours
            .iter()
            .filter(|row| functions.any_volatile(&row.calls));
        let guarded = guards.map(|row| row.relation).collect();
        let volatile_domains = types
            .iter()
            .any(|row| functions.any_volatile(&row.check_calls));
        Self {
            functions,
            names,
            plain,
            guarded,
            volatile_domains,
        }
    }

    pub fn is_guarded(&self, relation: Oid) -> bool {
        self.guarded.contains(&relation)
    }

    /// Everything below this view; each relation and function is visited once.
    pub fn look_through(&self, view: &ViewRow) -> LookedThrough {
        let mut found = BTreeSet::new();
        let mut volatile = self.writes(view);
        let mut seen: HashSet<(bool, Oid)> = HashSet::from([(true, view.relation)]);
        let mut open = children(&view.reads, &view.calls);
        while let Some(node) = open.pop() {
            let key = match node {
                Node::Relation(oid) => (true, oid),
                Node::Function(oid) => (false, oid),
            };
            if seen.insert(key) {
                volatile |= self.visit(&node, &mut found, &mut open);
            }
        }
        LookedThrough {
            depends_on: found.into_iter().collect(),
            volatile,
        }
    }

    /// Adds what this node stands on; true when it makes reading a write.
    fn visit(
        &self,
        node: &Node,
        found: &mut BTreeSet<QualifiedName>,
        open: &mut Vec<Node>,
    ) -> bool {
        match node {
            Node::Relation(oid) => {
                if let Some(view) = self.plain.get(oid) {
                    open.extend(children(&view.reads, &view.calls));
                    self.writes(view)
                } else {
                    found.extend(self.names.get(oid).cloned());
                    self.is_guarded(*oid)
                }
            }
            Node::Function(oid) => {
                if let Some(row) = self.functions.row(*oid).filter(|row| !row.system) {
                    found.insert(QualifiedName::new(&row.schema, &row.name));
                    open.extend(children(&row.reads, &row.calls));
                }
                self.functions.volatility(*oid) == Volatility::Volatile
            }
        }
    }

    fn writes(&self, view: &ViewRow) -> bool {
        view.locks || (view.checks_domains && self.volatile_domains)
    }
}

fn children(reads: &[Oid], calls: &[Oid]) -> Vec<Node> {
    let relations = reads.iter().copied().map(Node::Relation);
    relations
        .chain(calls.iter().copied().map(Node::Function))
        .collect()
}
