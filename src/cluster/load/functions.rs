//! What can be known of functions: how volatile they really are and whether their bodies can read our tables. A textual
//! body is not parsed: a word in it that names a volatile function is taken as a call of it. That errs towards the
//! primary only.

use super::hidden::{Hidden, Round};
use super::rows::{CastRow, FunctionRow, Oid, Rows};
use crate::catalog::unseen::runs_unseen;
use crate::catalog::{Function, FunctionKind, Volatility};
use std::collections::{HashMap, HashSet};

/// Extensions whose functions read none of the user's tables, whatever their language.
const PURE_EXTENSIONS: [&str; 15] = [
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "unaccent",
    "uuid-ossp",
    "vector",
];

/// Volatile functions that are handlers of the system; in a body these are ordinary words.
const NEVER_CALLED: [&str; 2] = ["bernoulli", "system"];

pub struct Functions<'a> {
    rows: &'a [FunctionRow],
    by_oid: HashMap<Oid, usize>,
    volatility: Vec<Volatility>,
}

impl<'a> Functions<'a> {
    pub fn new(rows: &'a Rows) -> Self {
        let by_oid = rows
            .functions
            .iter()
            .enumerate()
            .map(|(index, row)| (row.oid, index))
            .collect();
        let volatility = rows.functions.iter().map(declared).collect();
        let mut functions = Self {
            rows: &rows.functions,
            by_oid,
            volatility,
        };
        functions.look_through_aggregates();
        functions.look_through_bodies(&Hidden::new(rows));
        functions
    }

    /// Any statement may use a cast without naming it.
    pub fn casts_write(&self, casts: &[CastRow]) -> bool {
        casts
            .iter()
            .any(|row| !row.named && self.volatility(row.function) == Volatility::Volatile)
    }

    pub fn row(&self, oid: Oid) -> Option<&'a FunctionRow> {
        self.by_oid.get(&oid).map(|index| &self.rows[*index])
    }

    /// A function nobody knows is volatile.
    pub fn volatility(&self, oid: Oid) -> Volatility {
        self.by_oid
            .get(&oid)
            .map_or(Volatility::Volatile, |index| self.volatility[*index])
    }

    pub fn any_volatile(&self, calls: &[Oid]) -> bool {
        calls
            .iter()
            .any(|oid| self.volatility(*oid) == Volatility::Volatile)
    }

    pub fn all_immutable(&self, calls: &[Oid]) -> bool {
        calls
            .iter()
            .all(|oid| self.volatility(*oid) == Volatility::Immutable)
    }

    pub fn is_builtin(&self, oid: Oid) -> bool {
        self.row(oid).is_some_and(builtin)
    }

    /// By unqualified name, each name's overloads in an order of their own.
    pub fn catalog(&self) -> HashMap<String, Vec<Function>> {
        let mut named: HashMap<String, Vec<Function>> = HashMap::new();
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_unstable_by_key(|index| self.rows[*index].oid);
        for index in order {
            let row = &self.rows[index];
            named.entry(row.name.clone()).or_default().push(Function {
                schema: row.schema.clone(),
                volatility: self.volatility[index],
                kind: kind(&row.kind),
                builtin: builtin(row),
                argument_count: row.arguments,
                returns_set: row.returns_set,
            });
        }
        named
    }

    fn look_through_aggregates(&mut self) {
        for index in 0..self.rows.len() {
            let supports = self.rows[index].supports.iter().filter(|oid| **oid != 0);
            let worst = supports
                .map(|oid| self.volatility(*oid))
                .max()
                .unwrap_or(Volatility::Immutable);
            self.volatility[index] = self.volatility[index].max(worst);
        }
    }

    /// Until nothing changes, as a function may call a function that calls a volatile one. Every round but the last
    /// makes at least one function volatile, so the rounds end.
    fn look_through_bodies(&mut self, hidden: &Hidden<'_>) {
        let mut words: HashMap<usize, HashSet<String>> = HashMap::new();
        for (index, row) in self.rows.iter().enumerate().filter(|(_, row)| !row.system) {
            let body = row.source.as_deref().unwrap_or_default();
            if row.source.is_some() && runs_unseen(&row.language, body) {
                self.volatility[index] = Volatility::Volatile;
            }
            words.insert(index, self::words(body));
        }
        loop {
            let round = hidden.now(self);
            let found: Vec<usize> = words
                .iter()
                .filter(|(index, _)| self.volatility[**index] != Volatility::Volatile)
                .filter(|(index, words)| self.hides_volatile(**index, words, &round))
                .map(|(index, _)| *index)
                .collect();
            if found.is_empty() {
                return;
            }
            for index in found {
                self.volatility[index] = Volatility::Volatile;
            }
        }
    }

    fn hides_volatile(&self, index: usize, words: &HashSet<String>, round: &Round<'_>) -> bool {
        let row = &self.rows[index];
        let textual = row.source.as_deref().filter(|_| !row.is_system_language());
        row.locks
            || self.any_volatile(&row.calls)
            || row.reads.iter().any(|oid| round.relations.contains(oid))
            || words.iter().any(|word| round.names.contains(word.as_str()))
            || row.types.iter().any(|oid| round.types.contains(oid))
            || textual.is_some_and(|body| {
                round.casts || round.operators.iter().any(|name| body.contains(name))
            })
    }

    pub fn volatile_names(&self) -> HashSet<&'a str> {
        let rows = self.rows.iter().zip(&self.volatility);
        rows.filter(|(_, volatility)| **volatility == Volatility::Volatile)
            .map(|(row, _)| row.name.as_str())
            .filter(|name| !NEVER_CALLED.contains(name))
            .collect()
    }
}

fn words(body: &str) -> HashSet<String> {
    body.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

fn builtin(row: &FunctionRow) -> bool {
    let of_system =
        row.system && ["pg_catalog", "information_schema"].contains(&row.schema.as_str());
    let of_extension = row
        .extension
        .as_deref()
        .is_some_and(|name| PURE_EXTENSIONS.contains(&name));
    (of_system || of_extension) && !Function::runs_queries(&row.name)
}

/// As it calls itself; what runs a query that it is given may call anything.
fn declared(row: &FunctionRow) -> Volatility {
    let reads_rows = row.name.contains("_to_xml") && !row.name.ends_with("_to_xmlschema");
    if row.system && reads_rows && Function::runs_queries(&row.name) {
        return Volatility::Volatile;
    }
    match row.volatility.as_str() {
        "i" => Volatility::Immutable,
        "s" => Volatility::Stable,
        _ => Volatility::Volatile,
    }
}

fn kind(kind: &str) -> FunctionKind {
    match kind {
        "a" => FunctionKind::Aggregate,
        "w" => FunctionKind::Window,
        "p" => FunctionKind::Procedure,
        _ => FunctionKind::Function,
    }
}
