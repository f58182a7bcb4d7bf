//! SELECTs whose rows of several shards are put together by the proxy: what stands in the way of that whatever the clause,
//! and what to do otherwise.

use super::Statement;
use super::data::is_sharded;
use super::functions::Calls;
use crate::route::{Merge, Refusal};
use crate::sql::statement::{Facts, Placement, Touched};
use std::sync::Arc;

impl Statement<'_> {
    /// How answers of several shards become one, or the reason why they do not.
    pub(super) fn merge(facts: &Facts, calls: &Calls) -> Result<Merge, String> {
        if let (Some(clause), None) = (&facts.together, &facts.combination) {
            return Err(clause.clone());
        }
        if let Some(reason) = apart(facts, calls) {
            return Err(reason);
        }
        Ok(match &facts.combination {
            None => Merge::Combine(Arc::default()),
            Some(combination) => Merge::Combine(combination.clone()),
        })
    }
}

/// What is combined for a client is not combined within another statement.
pub(super) fn within(merge: &Merge, what: &str) -> Option<Refusal> {
    matches!(merge, Merge::Combine(made) if !made.is_plain()).then(|| {
        Refusal::unsupported(
            format!("{what} of rows that several shards have to put together"),
            "Run the query itself, or name the shard: /* pgshunt: shard=… */",
        )
    })
}

/// Why the shards' rows, whatever is done with them, are not those of one Postgres.
fn apart(facts: &Facts, calls: &Calls) -> Option<String> {
    if let Some(reason) = &facts.not_concatenable {
        return Some(reason.clone());
    }
    if facts.modifying_cte {
        return Some("a data-modifying CTE".to_owned());
    }
    if facts.locking {
        return Some("FOR UPDATE or FOR SHARE".to_owned());
    }
    if let Some(name) = calls.differs_by_shard() {
        return Some(name);
    }
    if facts.opaque_expression {
        return Some("a user's operator, type or view".to_owned());
    }
    let shared = |t: &Touched| t.placement == Placement::Reference;
    if facts.limited_within && facts.touched.iter().any(shared) {
        return Some("LIMIT in a subquery, with a reference table,".to_owned());
    }
    if let Some(touched) = facts.touched.iter().find(|t| t.row_security) {
        return Some(format!("row security of \"{}\"", touched.table.name));
    }
    untied(facts)
}

fn untied(facts: &Facts) -> Option<String> {
    let mut sharded = facts.touched.iter().filter(|t| is_sharded(t));
    let untied: Vec<&Touched> = sharded.clone().filter(|t| !t.tied).collect();
    match untied.as_slice() {
        [] => None,
        [alone] if sharded.clone().count() == 1 => Some(format!(
            "\"{}\" in a subquery, a grouped query or the optional side of an outer join",
            alone.table.name
        )),
        [one, ..] => {
            let other = sharded
                .find(|t| t.tied || t.table != one.table)
                .map_or(one.table.name.as_str(), |t| t.table.name.as_str());
            Some(format!(
                "\"{}\" that is not joined with \"{other}\" by the shard key",
                one.table.name
            ))
        }
    }
}
