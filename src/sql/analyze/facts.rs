//! Equalities that hold for the rows that matter. A context is a place of the statement (the WHERE and inner joins of a
//! block, the nullable side of an outer join, a subquery); it sees its own facts and those of the contexts around it,
//! never those within. Knows columns only as numbered nodes.

use crate::sql::filter::Filter;
use crate::sql::statement::{Limit, ValueSource};
use std::collections::HashMap;

/// One column of one relation at one place of the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Node(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContextId(usize);

/// Possible values of a node; empty when nothing matches.
pub type Alternatives = Vec<ValueSource>;

#[derive(Debug, Default)]
struct Context {
    parent: Option<ContextId>,
    equalities: Vec<(Node, Node)>,
    constants: Vec<(Node, Alternatives)>,
    filters: Vec<Filtered>,
}

/// A condition on the columns of one relation.
#[derive(Clone, Debug)]
pub struct Filtered {
    /// which, in the order in which the analysis met them
    pub instance: usize,
    /// not true of a row that an outer join has made up
    pub strict: bool,
    pub filter: Filter,
}

#[derive(Debug, Default)]
pub struct FactBase {
    contexts: Vec<Context>,
    /// type of each node, 0 when it is not known
    types: Vec<u32>,
    /// of nodes that are text: how their column collates
    collations: HashMap<Node, Collation>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collation {
    pub by_bytes: bool,
    pub deterministic: bool,
}

impl FactBase {
    pub fn node(&mut self, type_oid: u32) -> Node {
        self.types.push(type_oid);
        Node(u32::try_from(self.types.len() - 1).unwrap_or(u32::MAX))
    }

    /// A column whose collation is known.
    pub fn collated(&mut self, type_oid: u32, collation: Collation) -> Node {
        let node = self.node(type_oid);
        if matches!(type_oid, 25 | 1043) {
            self.collations.insert(node, collation);
        }
        node
    }

    pub fn collation_of(&self, node: Node) -> Collation {
        self.collations.get(&node).copied().unwrap_or_default()
    }

    pub fn type_of(&self, node: Node) -> u32 {
        self.types.get(node.0 as usize).copied().unwrap_or(0)
    }

    pub fn nodes(&self) -> usize {
        self.types.len()
    }

    pub fn root(&mut self) -> ContextId {
        self.contexts.push(Context::default());
        ContextId(self.contexts.len() - 1)
    }

    pub fn child(&mut self, parent: ContextId) -> ContextId {
        self.contexts.push(Context {
            parent: Some(parent),
            ..Context::default()
        });
        ContextId(self.contexts.len() - 1)
    }

    /// The two are equal by their type's own equality. Columns of different types say nothing (hazard 11).
    pub fn equal(&mut self, context: ContextId, a: Node, b: Node) {
        if same_type(self.type_of(a), self.type_of(b)) {
            self.contexts[context.0].equalities.push((a, b));
        }
    }

    pub fn constant(&mut self, context: ContextId, node: Node, values: Alternatives) {
        self.contexts[context.0].constants.push((node, values));
    }

    pub fn filter(&mut self, context: ContextId, filtered: Filtered) {
        self.contexts[context.0].filters.push(filtered);
    }

    /// How many values and ranges have been found so far.
    pub fn constants_of(&self, context: ContextId) -> usize {
        self.contexts[context.0].constants.len()
    }

    /// The conditions that every row of a relation fulfils that matters. The relation stands in this context: what is said
    /// further out is said of rows that an outer join may have made up.
    pub fn filters(&self, context: ContextId, instance: usize) -> Vec<&Filtered> {
        let mut found = Vec::new();
        let mut at = Some(context);
        while let Some(id) = at {
            let here = self.contexts[id.0].filters.iter();
            found.extend(here.filter(|f| f.instance == instance && (id == context || f.strict)));
            at = self.contexts[id.0].parent;
        }
        found
    }

    /// Is the one context the other, or around it?
    pub fn is_around(&self, outer: ContextId, inner: ContextId) -> bool {
        let mut at = Some(inner);
        while let Some(id) = at {
            if id == outer {
                return true;
            }
            at = self.contexts[id.0].parent;
        }
        false
    }

    /// All that a context sees.
    pub fn closure(&self, context: ContextId) -> Closure {
        let mut closure = Closure::default();
        let mut at = Some(context);
        while let Some(id) = at {
            self.gather(id, &mut closure);
            at = self.contexts[id.0].parent;
        }
        closure
    }

    /// What holds by the context's own facts alone, whatever is around it.
    pub fn own_closure(&self, context: ContextId) -> Closure {
        let mut closure = Closure::default();
        self.gather(context, &mut closure);
        closure
    }

    fn gather(&self, id: ContextId, closure: &mut Closure) {
        let context = &self.contexts[id.0];
        for &(a, b) in &context.equalities {
            closure.join(a, b);
        }
        closure.constants.extend(context.constants.iter().cloned());
    }
}

fn same_type(a: u32, b: u32) -> bool {
    let plain = |oid| if oid == 1043 { 25 } else { oid };
    a != 0 && plain(a) == plain(b)
}

/// Classes of equal nodes and the values they may have.
#[derive(Debug, Default)]
pub struct Closure {
    parents: HashMap<Node, Node>,
    constants: Vec<(Node, Alternatives)>,
}

impl Closure {
    fn find(&self, mut node: Node) -> Node {
        while let Some(&up) = self.parents.get(&node) {
            node = up;
        }
        node
    }

    fn join(&mut self, a: Node, b: Node) {
        let (a, b) = (self.find(a), self.find(b));
        if a != b {
            self.parents.insert(a.max(b), a.min(b));
        }
    }

    pub fn tied(&self, a: Node, b: Node) -> bool {
        self.find(a) == self.find(b)
    }

    /// The fewest values known of a node.
    pub fn values(&self, node: Node) -> Option<&Alternatives> {
        self.said_of(node)
            .filter(|values| !values.iter().any(is_range))
            .min_by_key(|v| weight(v))
    }

    /// The same; where no values are known, between which limits they are.
    pub fn known(&self, node: Node) -> Option<Alternatives> {
        if let Some(values) = self.values(node) {
            return Some(values.clone());
        }
        let one_range = |values: &'_ Alternatives| match values.as_slice() {
            [ValueSource::Between(limits)] => Some(limits.clone()),
            _ => None,
        };
        let limits: Vec<Limit> = self
            .said_of(node)
            .filter_map(one_range)
            .flat_map(|limits| limits.to_vec())
            .collect();
        if limits.is_empty() {
            return self.said_of(node).min_by_key(|v| v.len()).cloned();
        }
        Some(vec![ValueSource::Between(limits.into())])
    }

    fn said_of(&self, node: Node) -> impl Iterator<Item = &Alternatives> {
        let class = self.find(node);
        self.constants
            .iter()
            .filter(move |(n, _)| self.find(*n) == class)
            .map(|(_, values)| values)
    }
}

fn is_range(value: &ValueSource) -> bool {
    matches!(value, ValueSource::Between(_))
}

/// Fixed and single values first: arrays may turn out long.
fn weight(values: &Alternatives) -> usize {
    let array =
        |v: &&ValueSource| matches!(v, ValueSource::ArrayParam(_) | ValueSource::ArraySlot(_));
    values.len() + 1000 * values.iter().filter(array).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::statement::End;

    #[test]
    fn facts_of_a_nullable_side_do_not_leave_it() {
        let mut base = FactBase::default();
        let (outer, a, b) = (base.root(), base.node(20), base.node(20));
        let nullable = base.child(outer);
        base.equal(nullable, a, b);
        base.constant(nullable, b, vec![ValueSource::Slot(0)]);
        assert!(base.closure(outer).values(a).is_none());
        assert!(base.closure(nullable).values(a).is_some());
    }

    #[test]
    fn limits_of_one_class_hold_together_and_values_say_more() {
        let limit = |end, at| {
            let limit = Limit {
                end,
                inclusive: true,
                value: ValueSource::Slot(at),
            };
            vec![ValueSource::Between([limit].into())]
        };
        let mut base = FactBase::default();
        let (context, a, b) = (base.root(), base.node(20), base.node(20));
        base.equal(context, a, b);
        base.constant(context, a, limit(End::Low, 0));
        base.constant(context, b, limit(End::High, 1));
        let closure = base.closure(context);
        assert!(closure.values(a).is_none());
        let known = closure.known(a).unwrap();
        assert!(matches!(&known[..], [ValueSource::Between(limits)] if limits.len() == 2));
        base.constant(context, b, vec![ValueSource::Slot(2)]);
        let closure = base.closure(context);
        assert_eq!(closure.known(a), Some(vec![ValueSource::Slot(2)]));
    }

    #[test]
    fn facts_flow_inwards() {
        let mut base = FactBase::default();
        let (outer, a, b) = (base.root(), base.node(20), base.node(20));
        let nullable = base.child(outer);
        base.constant(outer, a, vec![ValueSource::Slot(0)]);
        base.equal(nullable, a, b);
        assert_eq!(
            base.closure(nullable).values(b),
            Some(&vec![ValueSource::Slot(0)])
        );
    }

    #[test]
    fn columns_of_different_types_say_nothing() {
        let mut base = FactBase::default();
        let (context, a, b) = (base.root(), base.node(20), base.node(701));
        base.equal(context, a, b);
        base.constant(context, b, vec![ValueSource::Slot(0)]);
        assert!(base.closure(context).values(a).is_none());
    }
}
