//! Subqueries that group one table's rows by its shard key and keep some of the groups by their aggregates. A group is on one
//! shard, so the shard can tell which are kept: rows of the others, and what is joined with them, stay where they are.

use super::facts::Node;
use super::gather::{Found, is_safe};
use super::predicate::resolve;
use super::query::group_exprs;
use super::scope::{Resolved, Scope};
use super::{Analyzer, Instance};
use crate::sql::filter::{Groups, Known, Partner};
use crate::sql::statement::Placement;
use sqlparser::ast::{Expr, Query, Select, SetExpr};

/// The rows of one relation, grouped.
#[derive(Debug)]
struct Grouping {
    instance: usize,
    groups: Groups,
}

#[derive(Debug, Default)]
pub struct Groupings {
    all: Vec<Grouping>,
    /// a column of a subquery's result where it is joined, and the column within that it is
    carried: Vec<(Node, Node)>,
}

impl Analyzer<'_> {
    /// A block has been looked at.
    pub(super) fn note_grouping(&mut self, select: &Select, scope: &Scope<'_>) {
        let Some(having) = &select.having else { return };
        if self.env.database.shards.len() < 2 {
            return;
        }
        let Some(instance) = self.only_table(scope) else {
            return;
        };
        let named = |expr: &Expr| match resolve(expr, scope) {
            Some(Resolved::Node(node)) => {
                let (owner, name) = self.owner(node)?;
                (owner == instance).then(|| name.to_owned())
            }
            _ => None,
        };
        let by: Option<Vec<String>> = group_exprs(select).iter().map(named).collect();
        let Some(by) = by.filter(|by| !by.is_empty()) else {
            return;
        };
        // the aggregates are those of exactly these rows
        let only = match &select.selection {
            Some(condition) => match self.exact_filter(condition, scope, instance) {
                Some(filter) => Some(filter),
                None => return,
            },
            None => None,
        };
        let Some(having) = self.group_filter(having, scope, instance) else {
            return;
        };
        let groups = Groups { by, only, having };
        self.groupings.all.push(Grouping { instance, groups });
    }

    /// The one relation of a block, if it is a sharded table.
    fn only_table(&self, scope: &Scope<'_>) -> Option<usize> {
        let [rel] = scope.rels.as_slice() else {
            return None;
        };
        let first = rel.columns.as_ref()?.iter().find_map(|(_, node)| *node)?;
        let (instance, _) = self.owner(first)?;
        let sharded = matches!(
            self.instances.get(instance)?.placement,
            Placement::Sharded(_)
        );
        (rel.is_table && sharded).then_some(instance)
    }

    /// The result of a query that stands by itself is joined with what is around it.
    pub(super) fn note_carried(&mut self, query: &Query, node: Node, inner: Node) {
        if matches!(query.body.as_ref(), SetExpr::Select(_)) {
            self.groupings.carried.push((node, inner));
        }
    }

    /// The groups that every row that matters belongs to, or is joined with.
    pub(super) fn groups_beside(&self, at: usize, found: &Found<'_>) -> Vec<Partner> {
        let groupings = self.groupings.all.iter();
        let partner = |grouping: &Grouping| self.group_beside(grouping, at, found);
        groupings.filter_map(partner).collect()
    }

    fn group_beside(&self, grouping: &Grouping, at: usize, found: &Found<'_>) -> Option<Partner> {
        let groups = &grouping.groups;
        let mut filters = groups.only.iter().chain([&groups.having]);
        if !filters.all(|filter| is_safe(filter, found.unsafe_params)) {
            return None;
        }
        let (ours, theirs) = (
            found.instances.get(at)?,
            found.instances.get(grouping.instance)?,
        );
        let itself = at == grouping.instance;
        if !itself && !self.are_of_one_keyspace(ours, theirs) {
            return None;
        }
        let closure = found.closures.get(at)?;
        let mut pairs = Vec::new();
        for (our, their) in ours.keys.iter().zip(&theirs.keys) {
            let (our_name, their_name) = (column_of(ours, *our)?, column_of(theirs, *their)?);
            let mut carried = self.groupings.carried.iter();
            let tied =
                itself || carried.any(|(node, inner)| inner == their && closure.tied(*our, *node));
            // a group of NULL would be found by no IN
            let is_certain =
                self.has_plain_equality(*our) && self.is_never_null(theirs, their_name);
            let is_grouped = groups.by.iter().any(|by| by == their_name);
            if !tied || !is_certain || !is_grouped {
                return None;
            }
            pairs.push((our_name.to_owned(), their_name.to_owned()));
        }
        (!pairs.is_empty()).then(|| Partner {
            table: theirs.table.clone(),
            pairs,
            known: Known::default(),
            groups: Some(groups.clone()),
        })
    }

    fn is_never_null(&self, instance: &Instance, column: &str) -> bool {
        let relation = self.env.catalog.relations.get(&instance.table);
        let mut columns = relation.into_iter().flat_map(|relation| &relation.columns);
        columns.any(|known| known.name == column && known.not_null)
    }
}

fn column_of(instance: &Instance, node: Node) -> Option<&str> {
    let mut columns = instance.columns.iter();
    let found = columns.find(|(_, known)| *known == Some(node));
    found.map(|(name, _)| name.as_str())
}
