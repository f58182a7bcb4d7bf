//! What the shards cannot answer each for itself: may Postgres answer it on copies of the tables, in a scratch database,
//! and what has to be copied? What is not certain to be the same there is refused.

use super::Statement;
use super::data::{is_sharded, tuples};
use super::functions::Calls;
use crate::catalog::{QualifiedName, Relation, RelationKind};
use crate::config::Database;
use crate::route::{Access, Gather, Gathered, Keys, Merge, Plan, Refusal, Routing, Source};
use crate::sql::analyze::{Needed, is_reference, says_only, sharded_index};
use crate::sql::filter::{Known, Partner};
use crate::sql::statement::{Facts, Placement, Touched};
use std::sync::Arc;

/// A table that stands in the statement more often is read as a whole.
const USES_MAX: usize = 8;
/// They answer by the name of the database they run in.
const OF_DATABASE: [&str; 2] = ["current_database", "current_catalog"];

impl Statement<'_> {
    /// The plan as far as the shards can answer by themselves; where they cannot, the statement is gathered.
    pub(super) fn or_gathered(
        &self,
        facts: &Facts,
        calls: &Calls,
        plan: &mut Plan,
        pushed: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let refusal = match (&pushed, plan.multi_refusal.take()) {
            (Ok(()), None) => return Ok(()),
            (Ok(()), Some(refusal)) => refusal,
            (Err(refusal), _) => refusal.clone(),
        };
        let by_key = pushed.is_ok();
        match self.gathered(facts, calls, &refusal) {
            Ok(gather) => {
                if !by_key {
                    plan.routing = Routing::AllShards;
                }
                if !facts.opaque_expression {
                    plan.access = Access::Read;
                }
                plan.because.clone_from(&gather.why);
                plan.merge = Merge::Gather(Arc::new(gather));
                Ok(())
            }
            Err(obstacle) => {
                let said = refusal.message.contains(&obstacle);
                let refusal = Refusal {
                    message: if said {
                        refusal.message
                    } else {
                        format!("{}, and {obstacle} cannot be gathered", refusal.message)
                    },
                    ..refusal
                };
                if by_key {
                    plan.multi_refusal = Some(refusal);
                    Ok(())
                } else {
                    Err(refusal)
                }
            }
        }
    }

    /// What to copy, or what stands against it.
    fn gathered(&self, facts: &Facts, calls: &Calls, refusal: &Refusal) -> Result<Gather, String> {
        if let Some(obstacle) = clause(facts).or_else(|| called(facts, calls)) {
            return Err(obstacle);
        }
        let mut gather = Gather {
            tables: Vec::new(),
            views: facts.on_copies.views.clone(),
            primary_only: facts.touched.iter().any(|t| t.primary_only),
            joins: facts.touched.len() > 1,
            why: refusal.message.clone(),
        };
        let mut under_views = Vec::new();
        for touched in &facts.touched {
            if touched.row_security {
                return Err(format!("row security of \"{}\"", touched.table.name));
            }
            let relation = self.relation(&touched.table)?;
            if relation.kind == RelationKind::View {
                under_views.extend(relation.depends_on.iter().cloned());
                self.view(&touched.table, relation, &mut gather)?;
            } else {
                let needed = &facts.on_copies.needed;
                add(
                    &touched.table,
                    relation,
                    source(touched.placement),
                    needed,
                    &mut gather,
                )?;
            }
        }
        narrow(facts, self.context.database, &mut gather, &under_views);
        for table in &mut gather.tables {
            let lookups = facts.on_copies.lookups.iter();
            let of_table = lookups.filter(|(name, _)| *name == table.table);
            table.lookups = of_table.map(|(_, lookup)| lookup.clone()).collect();
        }
        gather.tables.sort_by(|a, b| a.table.cmp(&b.table));
        gather.joins |= gather.tables.len() > 1;
        if facts.touched.iter().any(is_sharded) {
            Ok(gather)
        } else {
            Err("a statement without sharded tables".to_owned())
        }
    }

    fn relation(&self, name: &QualifiedName) -> Result<&Relation, String> {
        let relation = self.context.catalog.relations.get(name);
        let system = matches!(name.schema.as_str(), "pg_catalog" | "information_schema");
        match relation {
            Some(_) if system => Err(format!("the system's own \"{}\"", name.name)),
            Some(relation) if relation.volatile => Err(format!(
                "\"{}\", which may write when it is read,",
                name.name
            )),
            Some(relation) => Ok(relation),
            None => Err(format!(
                "\"{}\", which the catalog does not have,",
                name.name
            )),
        }
    }

    /// A view that was not looked through: of home and reference tables.
    fn view(
        &self,
        name: &QualifiedName,
        view: &Relation,
        gather: &mut Gather,
    ) -> Result<(), String> {
        if says_only(&view.definition) {
            return Err("ONLY".to_owned());
        }
        gather.views.push(name.clone());
        for base in &view.depends_on {
            if self.context.catalog.relations.contains_key(base) {
                let relation = self.relation(base)?;
                if relation.has_row_security {
                    return Err(format!("row security of \"{}\"", base.name));
                }
                let source = match sharded_index(&self.env(), base) {
                    Some(_) => Source::Sharded,
                    None if is_reference(&self.env(), base) => Source::Reference,
                    None => Source::Home,
                };
                add(base, relation, source, &Needed::All, gather)?;
            }
        }
        Ok(())
    }
}

/// Rows that cannot matter stay where they are: those that none of the table's uses looks at.
fn narrow(facts: &Facts, database: &Database, gather: &mut Gather, under: &[QualifiedName]) {
    let tables = gather.tables.iter_mut();
    for table in tables.filter(|t| !under.contains(&t.table)) {
        let uses = || facts.touched.iter().filter(|t| t.table == table.table);
        let mut only: Vec<Known> = uses().map(|t| t.known.clone()).collect();
        only.dedup();
        // of several uses, what they have in common: as alternatives, partners would be looked for row by row
        let mut partners: Vec<Vec<Partner>> = only
            .iter_mut()
            .map(|known| std::mem::take(&mut known.partners))
            .collect();
        let mut common = partners.pop().unwrap_or_default();
        common.retain(|partner| partners.iter().all(|other| other.contains(partner)));
        table.partners = common;
        only.dedup();
        if only.len() <= USES_MAX && !only.iter().any(Known::is_nothing) {
            table.only = only;
        }
        table.keys = keys(uses(), database);
    }
}

/// The keys of all its uses, where each says some.
fn keys<'f>(uses: impl Iterator<Item = &'f Touched>, database: &Database) -> Option<Keys> {
    let uses: Vec<&Touched> = uses.collect();
    let Placement::Sharded(index) = uses.first()?.placement else {
        return None;
    };
    Some(Keys {
        keyspace: database.tables.get(index)?.keyspace,
        tuples: tuples(uses.into_iter())?,
    })
}

fn source(placement: Placement) -> Source {
    match placement {
        Placement::Sharded(_) => Source::Sharded,
        Placement::Reference => Source::Reference,
        Placement::Home => Source::Home,
    }
}

/// The clause that would act on the copies.
fn clause(facts: &Facts) -> Option<String> {
    if facts.locking {
        Some("FOR UPDATE or FOR SHARE".to_owned())
    } else if facts.modifying_cte {
        Some("a data-modifying CTE".to_owned())
    } else if facts.into.is_some() {
        Some("INTO".to_owned())
    } else {
        facts.on_copies.obstacle.clone()
    }
}

/// The function that would answer otherwise there.
fn called(facts: &Facts, calls: &Calls) -> Option<String> {
    let of_database = facts
        .functions
        .iter()
        .map(|function| &function.name)
        .find(|name| OF_DATABASE.contains(&name.as_str()));
    let named = [
        &calls.sequence,
        &calls.opaque,
        &calls.volatile,
        &calls.server,
    ];
    let found = named.into_iter().flatten().next().or(of_database);
    if let Some(name) = found {
        return Some(format!("{name}()"));
    }
    (calls.declared_home || calls.declared_key || calls.pins.is_some())
        .then(|| "a function that is declared to run elsewhere".to_owned())
}

fn add(
    name: &QualifiedName,
    relation: &Relation,
    source: Source,
    needed: &Needed,
    gather: &mut Gather,
) -> Result<(), String> {
    if !matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable
    ) {
        return Err(format!("\"{}\", which is no plain table,", name.name));
    }
    let is_needed = |column: &String| match needed {
        Needed::All => true,
        Needed::Named(words) => words.contains(column) || relation.primary_key.contains(column),
    };
    let all: Vec<String> = relation.columns.iter().map(|c| c.name.clone()).collect();
    let mut columns: Vec<String> = all.iter().filter(|c| is_needed(c)).cloned().collect();
    if columns.is_empty() {
        // its rows are counted
        columns.extend(all.first().cloned());
    }
    let Some(known) = gather.tables.iter_mut().find(|known| known.table == *name) else {
        gather.tables.push(Gathered {
            table: name.clone(),
            partly: columns.len() < all.len(),
            columns,
            source,
            keys: None,
            only: Vec::new(),
            partners: Vec::new(),
            lookups: Vec::new(),
        });
        return Ok(());
    };
    if columns.len() > known.columns.len() {
        known.partly = columns.len() < all.len();
        known.columns = columns;
    }
    Ok(())
}
