//! What runs functions without naming them: views, row security, checks of domains, operators, casts. A function that
//! uses one of these which calls something volatile is volatile itself, whatever it declares.

use super::functions::Functions;
use super::rows::{Oid, Rows};
use std::collections::HashSet;

pub struct Hidden<'a> {
    rows: &'a Rows,
    /// views, whose rows are made when they are read; a materialized view stands for itself
    plain: HashSet<Oid>,
}

/// What is known to call something volatile so far.
pub struct Round<'a> {
    pub relations: HashSet<Oid>,
    /// of functions, and of these relations and types: words that a body may hold
    pub names: HashSet<&'a str>,
    pub operators: Vec<&'a str>,
    /// to make a value of theirs is to run such a check
    pub types: HashSet<Oid>,
    pub casts: bool,
}

impl<'a> Hidden<'a> {
    pub fn new(rows: &'a Rows) -> Self {
        let plain = rows.relations.iter().filter(|row| row.kind == "v");
        Self {
            rows,
            plain: plain.map(|row| row.oid).collect(),
        }
    }

    pub fn now(&self, functions: &Functions<'a>) -> Round<'a> {
        let rows = self.rows;
        let types = self.types(functions);
        let domains = rows.types.iter();
        let domains = domains.filter(|row| functions.any_volatile(&row.check_calls));
        let relations = self.relations(functions, domains.count() > 0);
        let mut names = functions.volatile_names();
        let named = rows.relations.iter();
        let named = named.filter(|row| relations.contains(&row.oid));
        names.extend(named.map(|row| row.name.as_str()));
        let named = rows.types.iter().filter(|row| types.contains(&row.oid));
        names.extend(named.map(|row| row.name.as_str()));
        let operators = rows.operators.iter();
        let operators = operators.filter(|row| functions.any_volatile(&[row.function]));
        Round {
            relations,
            names,
            operators: operators.map(|row| row.name.as_str()).collect(),
            types,
            casts: functions.casts_write(&rows.casts),
        }
    }

    /// Domains whose check writes, what stands on them, and every type that may hold one; what a cast that writes makes.
    fn types(&self, functions: &Functions<'_>) -> HashSet<Oid> {
        let rows = &self.rows.types;
        let checked = rows.iter();
        let checked = checked.filter(|row| functions.any_volatile(&row.check_calls));
        let mut found: HashSet<Oid> = checked.map(|row| row.oid).collect();
        let casts = self.rows.casts.iter();
        let casts = casts.filter(|row| functions.any_volatile(&[row.function]));
        found.extend(casts.map(|row| row.target));
        if found.is_empty() {
            return found;
        }
        loop {
            let known = found.len();
            let names: HashSet<String> = rows
                .iter()
                .filter(|row| found.contains(&row.oid))
                .map(|row| format!("_{}", row.name))
                .collect();
            for row in rows {
                if row.kind == "c" || found.contains(&row.base) || names.contains(&row.name) {
                    found.insert(row.oid);
                }
            }
            if found.len() == known {
                return found;
            }
        }
    }

    /// Tables whose row security writes, and views that do or that read these.
    fn relations(&self, functions: &Functions<'_>, domains: bool) -> HashSet<Oid> {
        let guards = self.rows.behaviours.iter();
        let guards = guards.filter(|row| functions.any_volatile(&row.calls));
        let mut found: HashSet<Oid> = guards.map(|row| row.relation).collect();
        let views = self.rows.views.iter();
        let views: Vec<_> = views
            .filter(|row| self.plain.contains(&row.relation))
            .collect();
        loop {
            let known = found.len();
            for view in &views {
                let writes = view.locks
                    || domains && view.checks_domains
                    || functions.any_volatile(&view.calls)
                    || view.reads.iter().any(|oid| found.contains(oid));
                if writes {
                    found.insert(view.relation);
                }
            }
            if found.len() == known {
                return found;
            }
        }
    }
}
