//! A parsed statement to Facts: which relations it touches, what is proven of their keys, what it calls. Walks the tree
//! by allow-list: a node that is not known here makes the statement "not understood", never a guess. It does not know
//! what will be done with the facts.

mod combine;
mod constant;
mod expr;
mod facts;
mod filter;
mod from;
mod gather;
mod groups;
mod lookup;
mod predicate;
mod query;
mod range;
mod returned;
mod scope;
mod write;

use super::lift::Span;
use super::parse::Parsed;
use super::statement::{
    Facts, FunctionUse, IntoTarget, KeyProof, KeyTuple, Placement, Touched, ValueSource, Verb,
    WriteFacts,
};
use super::tokens::{Token, TokenKind};
use crate::catalog::{Catalog, QualifiedName, Relation};
use crate::config::Database;
use crate::shard::KeyspaceKind;
use combine::united::United;
use combine::{Across, Amounts};
pub use expr::is_syntax;
use facts::{Alternatives, Closure, ContextId, FactBase, Node};
pub use gather::{Needed, OnCopies, says_only};
pub use lookup::Lookup;
use smallvec::SmallVec;
use sqlparser::ast::Statement;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the meaning of a text depends on.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    pub catalog: &'a Catalog,
    pub database: &'a Database,
    pub search_path: &'a [String],
    pub text: &'a [u8],
    pub slots: &'a [Span],
    /// types of `$1`, `$2`, … as declared by the client; 0 or missing is undeclared
    pub declared: &'a [u32],
    pub scs: bool,
    /// the client's text is the servers', byte for byte
    pub same_encoding: bool,
}

/// Why there are no facts.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// not understood: treated as what could not be parsed
    Unsupported(&'static str),
    /// understood, and not to be run
    Refused { message: String, hint: &'static str },
}

type Outcome<T> = Result<T, Trouble>;

/// More combinations of key values than this are not spelled out.
const TUPLES_MAX: usize = 4_096;
/// Blocks of one statement, CTEs counted at every use.
const BLOCKS_MAX: usize = 1_500;
const NODES_MAX: usize = 200_000;

/// One relation at one place, while the analysis runs.
struct Instance {
    table: QualifiedName,
    placement: Placement,
    context: ContextId,
    keys: Vec<Node>,
    columns: Vec<(String, Option<Node>)>,
    /// in the FROM of the outermost block, on no nullable side
    anchors: bool,
    primary_only: bool,
    row_security: bool,
}

struct Analyzer<'e> {
    env: Env<'e>,
    /// of the statement alone
    tokens: &'e [Token],
    /// where the outermost SELECT is in memory, to be known again, and its LIMIT
    main: Option<(usize, Amounts)>,
    across: Option<Across>,
    /// the outermost set operation
    united: Option<United>,
    base: FactBase,
    instances: Vec<Instance>,
    functions: HashSet<FunctionUse>,
    key_arguments: Vec<Option<ValueSource>>,
    /// offsets of `$n` at places where its type is plain, and the types there
    params: HashMap<usize, (HashSet<usize>, HashSet<u32>)>,
    /// names that were understood, as whatever
    seen: HashSet<String>,
    /// > 0 inside expressions' subqueries, CTEs and other places that are not the outermost FROM
    inner: usize,
    /// > 0 inside a view's definition, where slots and parameters mean nothing
    in_view: usize,
    top: ContextId,
    blocks: usize,
    opaque_expression: bool,
    locking: bool,
    modifying_cte: bool,
    limited: bool,
    limited_within: bool,
    subqueries: bool,
    notes: gather::Notes,
    groupings: groups::Groupings,
    into: Option<IntoTarget>,
    not_concatenable: Option<String>,
    /// the clause for which rows of several shards are not simply one after another
    together: Option<String>,
    write: Option<WriteFacts>,
    verb: Verb,
}

/// The facts of one parsed statement; `tokens` are those of the statement alone.
pub fn analyze(parsed: &Parsed, tokens: &[Token], env: Env<'_>) -> Outcome<Facts> {
    let mut base = FactBase::default();
    let top = base.root();
    let mut analyzer = Analyzer {
        env,
        tokens,
        main: None,
        across: None,
        united: None,
        base,
        instances: Vec::new(),
        functions: HashSet::new(),
        key_arguments: Vec::new(),
        params: HashMap::new(),
        seen: HashSet::new(),
        inner: 0,
        in_view: 0,
        top,
        blocks: 0,
        opaque_expression: false,
        locking: false,
        modifying_cte: false,
        limited: false,
        limited_within: false,
        subqueries: false,
        groupings: groups::Groupings::default(),
        notes: gather::Notes::default(),
        into: None,
        not_concatenable: None,
        together: None,
        write: None,
        verb: Verb::Select,
    };
    analyzer.statement(&parsed.statement, parsed.overriding)?;
    analyzer.cross_check(tokens)?;
    Ok(analyzer.finish(tokens))
}

impl Analyzer<'_> {
    fn statement(
        &mut self,
        statement: &Statement,
        overriding: super::statement::Overriding,
    ) -> Outcome<()> {
        match statement {
            Statement::Query(query) => self.top_query(query, overriding),
            other => self
                .modification(other, overriding, &None, None)
                .map(|_| ()),
        }
    }

    /// Every word that stands where a relation would and names a sharded table must have been understood.
    fn cross_check(&self, tokens: &[Token]) -> Outcome<()> {
        const BEFORE: [&str; 8] = [
            "from", "join", "into", "update", "using", "table", "only", "merge",
        ];
        for (n, token) in tokens.iter().enumerate() {
            let Some(name) = super::name::identifier(self.env.text, token) else {
                continue;
            };
            if self.seen.contains(&name) || !is_sharded_name(&self.env, &name) {
                continue;
            }
            let qualified = n > 1 && tokens[n - 1].kind == TokenKind::Dot;
            let before = if qualified {
                n.checked_sub(3)
            } else {
                n.checked_sub(1)
            };
            let looks = |at: usize| {
                BEFORE
                    .iter()
                    .any(|word| tokens[at].is_word(self.env.text, word))
            };
            if before.is_some_and(looks) {
                return Err(Trouble::Unsupported(
                    "a table's name at a place that was not understood",
                ));
            }
        }
        Ok(())
    }

    fn finish(mut self, tokens: &[Token]) -> Facts {
        let unsafe_params = self.unsafe_params(tokens);
        let on_copies = self.on_copies(tokens);
        let closures: Vec<Closure> = self
            .instances
            .iter()
            .map(|i| self.base.closure(i.context))
            .collect();
        let anchors = self.anchor_keys();
        let instances = std::mem::take(&mut self.instances);
        let found = gather::Found {
            instances: &instances,
            closures: &closures,
            unsafe_params: &unsafe_params,
        };
        let touched = instances.iter().enumerate().map(|(at, instance)| Touched {
            table: instance.table.clone(),
            placement: instance.placement,
            proof: proof(&self.env, instance, &closures[at], &unsafe_params),
            tied: tied(instance, &closures[at], anchors[at].as_deref()),
            primary_only: instance.primary_only,
            row_security: instance.row_security,
            known: self.holds_for(at, &found),
        });
        let touched: Vec<Touched> = touched.collect();
        let mut functions: Vec<FunctionUse> = self.functions.into_iter().collect();
        functions.sort_by(|a, b| a.name.cmp(&b.name));
        let mut write = self.write;
        if let Some(write) = &mut write {
            write.forget(&unsafe_params);
        }
        let (together, combination) = match self.across {
            Some(Across::Rows) => (None, None),
            Some(Across::Combined(made)) => (self.together, Some(Arc::from(made))),
            None => (self.together, None),
        };
        let forget = |value: Option<ValueSource>| value.filter(|v| !uses(v, &unsafe_params));
        Facts {
            verb: self.verb,
            touched,
            functions,
            key_arguments: self.key_arguments.into_iter().map(forget).collect(),
            opaque_expression: self.opaque_expression,
            locking: self.locking,
            modifying_cte: self.modifying_cte,
            into: self.into,
            not_concatenable: self.not_concatenable,
            together,
            combination,
            write,
            limited: self.limited,
            limited_within: self.limited_within,
            subqueries: self.subqueries,
            on_copies,
        }
    }

    /// For each instance the keys of the relation that it has to be tied to: of its arm in a set operation.
    fn anchor_keys(&self) -> Vec<Option<Vec<Node>>> {
        let is_anchor = |i: &Instance| i.anchors && matches!(i.placement, Placement::Sharded(_));
        let only = self.instances.iter().position(is_anchor);
        let anchor = |at: usize| match &self.united {
            None => only,
            Some(united) => {
                let mut arms = united.arms.iter();
                let arm = arms.find(|arm| arm.instances.contains(&at))?;
                arm.anchor(&self.instances)
            }
        };
        let keys = |at| Some(self.instances.get(anchor(at)?)?.keys.clone());
        (0..self.instances.len()).map(keys).collect()
    }

    /// Parameters whose type the client left open and that also stand where their type is not plain: what they mean to
    /// Postgres is not known here (`k = $1 AND x = $1::float8`).
    fn unsafe_params(&self, tokens: &[Token]) -> HashSet<usize> {
        let mut counts: HashMap<usize, usize> = HashMap::new();
        for token in tokens {
            if let TokenKind::Param(n) = token.kind {
                *counts.entry(n as usize).or_default() += 1;
            }
        }
        let declared = |n: usize| {
            n > 0
                && self
                    .env
                    .declared
                    .get(n - 1)
                    .is_some_and(|&oid| oid != 0 && oid != 705)
        };
        let plain = |n: usize, count: usize| {
            self.params
                .get(&n)
                .is_some_and(|(places, types)| places.len() == count && types.len() == 1)
        };
        counts
            .into_iter()
            .filter(|&(n, count)| !declared(n) && !plain(n, count))
            .map(|(n, _)| n)
            .collect()
    }

    fn count_block(&mut self) -> Outcome<()> {
        self.blocks += 1;
        if self.blocks > BLOCKS_MAX || self.base.nodes() > NODES_MAX {
            return Err(Trouble::Unsupported("so many subqueries"));
        }
        Ok(())
    }

    fn sees(&mut self, name: &str) {
        if !self.seen.contains(name) {
            self.seen.insert(name.to_owned());
        }
    }
}

fn uses(value: &ValueSource, unsafe_params: &HashSet<usize>) -> bool {
    match value {
        ValueSource::Param(n) | ValueSource::ArrayParam(n) => unsafe_params.contains(n),
        ValueSource::Between(limits) => limits.iter().any(|l| uses(&l.value, unsafe_params)),
        ValueSource::Slot(_) | ValueSource::Fixed(_) | ValueSource::ArraySlot(_) => false,
    }
}

impl WriteFacts {
    fn forget(&mut self, unsafe_params: &HashSet<usize>) {
        use super::statement::InsertedKey;
        for (_, value) in &mut self.assigned {
            if value.as_ref().is_some_and(|v| uses(v, unsafe_params)) {
                *value = None;
            }
        }
        let Some(insert) = &mut self.insert else {
            return;
        };
        let rows = insert.rows.iter_mut().chain(insert.selected.iter_mut());
        for key in rows.flatten() {
            let hidden = match key {
                InsertedKey::Value(value) => uses(value, unsafe_params),
                InsertedKey::AnyOf(values) => values.iter().any(|v| uses(v, unsafe_params)),
                _ => false,
            };
            if hidden {
                *key = InsertedKey::Unknown;
            }
        }
    }
}

fn proof(
    env: &Env<'_>,
    instance: &Instance,
    closure: &Closure,
    unsafe_params: &HashSet<usize>,
) -> KeyProof {
    let Placement::Sharded(table) = instance.placement else {
        return KeyProof::NotSharded;
    };
    let by_range = is_by_range(env, table);
    let mut tuples: Vec<KeyTuple> = vec![SmallVec::new()];
    for &key in &instance.keys {
        let known = if by_range {
            closure.known(key)
        } else {
            closure.values(key).cloned()
        };
        let Some(values) = known else {
            return KeyProof::Unproven;
        };
        if values.iter().any(|v| uses(v, unsafe_params))
            || values.len().saturating_mul(tuples.len()) > TUPLES_MAX
        {
            return KeyProof::Unproven;
        }
        tuples = product(&tuples, &values);
    }
    if instance.keys.is_empty() {
        KeyProof::Unproven
    } else {
        KeyProof::Tuples(tuples)
    }
}

/// Neighbouring keys of the table are on the same shard.
fn is_by_range(env: &Env<'_>, table: usize) -> bool {
    let keyspace = env.database.tables.get(table).map(|table| table.keyspace);
    let keyspace = keyspace.and_then(|at| env.database.keyspaces.get(at));
    keyspace.is_some_and(|keyspace| matches!(keyspace.kind, KeyspaceKind::Range { .. }))
}

fn tied(instance: &Instance, closure: &Closure, keys: Option<&[Node]>) -> bool {
    let Some(keys) = keys else { return false };
    keys.len() == instance.keys.len()
        && keys
            .iter()
            .zip(&instance.keys)
            .all(|(&a, &b)| closure.tied(a, b))
}

fn product(tuples: &[KeyTuple], values: &Alternatives) -> Vec<KeyTuple> {
    let mut longer = Vec::with_capacity(tuples.len() * values.len());
    for tuple in tuples {
        for value in values {
            let mut next = tuple.clone();
            next.push(value.clone());
            longer.push(next);
        }
    }
    longer
}

/// The sharded table that a relation is, itself or as its child.
pub fn sharded_index(env: &Env<'_>, name: &QualifiedName) -> Option<usize> {
    let mut at = name.clone();
    for _ in 0..32 {
        let found = env
            .database
            .tables
            .iter()
            .position(|t| t.schema == at.schema && t.name == at.name);
        if found.is_some() {
            return found;
        }
        at = env.catalog.relations.get(&at)?.parents.first()?.clone();
    }
    None
}

pub fn is_reference(env: &Env<'_>, name: &QualifiedName) -> bool {
    let is = |name: &QualifiedName| {
        env.database
            .reference_tables
            .iter()
            .any(|(s, n)| *s == name.schema && *n == name.name)
    };
    is(name)
        || env
            .catalog
            .relations
            .get(name)
            .is_some_and(|relation| relation.parents.iter().any(is))
}

/// A table that is sharded, or something that looks through to one.
pub fn reaches_sharded(env: &Env<'_>, name: &QualifiedName, relation: &Relation) -> bool {
    sharded_index(env, name).is_some()
        || relation
            .depends_on
            .iter()
            .any(|base| sharded_index(env, base).is_some())
}

/// Could this bare name, in some schema, be sharded data?
pub fn is_sharded_name(env: &Env<'_>, name: &str) -> bool {
    env.database.tables.iter().any(|table| table.name == name)
        || env
            .catalog
            .relations
            .iter()
            .any(|(q, relation)| q.name == name && reaches_sharded(env, q, relation))
}
