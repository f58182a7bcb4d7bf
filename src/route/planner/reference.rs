//! Writes to reference tables run on every shard, so their outcome must be the same on each: nothing volatile, no default
//! that a server computes, no trigger, no LIMIT (hazard 22).

use super::Statement;
use super::data::is_sharded;
use super::functions::Calls;
use crate::catalog::{ColumnDefault, Relation};
use crate::route::{Merge, Plan, Refusal, Routing};
use crate::sql::statement::{Facts, Placement, Touched, Verb, WriteFacts};

impl Statement<'_> {
    pub(super) fn write_reference(
        &self,
        facts: &Facts,
        calls: &Calls,
        write: &WriteFacts,
        target: &Touched,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let name = &target.table.name;
        if let Some(reason) = self.may_differ(facts, calls, write, target) {
            return Err(Refusal::unsupported(
                format!(
                    "a write to the reference table \"{name}\" would not be the same on every shard: {reason}"
                ),
                "Compute the value in the application and write it as a literal or parameter.",
            ));
        }
        plan.routing = Routing::AllShards;
        plan.merge = Merge::Everywhere;
        plan.because = format!("\"{name}\" is a reference table: every shard has it");
        Ok(())
    }

    fn may_differ(
        &self,
        facts: &Facts,
        calls: &Calls,
        write: &WriteFacts,
        target: &Touched,
    ) -> Option<String> {
        if let Some(other) = facts
            .touched
            .iter()
            .find(|t| is_sharded(t) || t.placement == Placement::Home)
        {
            return Some(format!(
                "it reads \"{}\", which is not the same on every shard",
                other.table.name
            ));
        }
        if let Some(function) = calls.opaque.as_ref().or(calls.not_immutable.as_ref()) {
            return Some(format!("{function}() is not immutable"));
        }
        if facts.opaque_expression {
            return Some("it uses a user's operator, type or view".to_owned());
        }
        if facts.limited {
            return Some("LIMIT and the like may choose other rows".to_owned());
        }
        let relation = self.context.catalog.relations.get(&target.table)?;
        if relation.has_triggers {
            return Some("the table has triggers".to_owned());
        }
        self.computed_default(facts, write, relation)
    }

    fn computed_default(
        &self,
        facts: &Facts,
        write: &WriteFacts,
        relation: &Relation,
    ) -> Option<String> {
        let defaulted: Vec<&String> = match (&write.insert, facts.verb) {
            (Some(insert), Verb::Insert) => insert.defaulted.iter().collect(),
            // SET column = DEFAULT is not told apart: the word decides
            _ if self
                .tokens
                .iter()
                .any(|token| token.is_word(self.text, "default")) =>
            {
                write.assigned.iter().map(|(column, _)| column).collect()
            }
            _ => Vec::new(),
        };
        let merge = facts.verb == Verb::Merge
            && relation
                .columns
                .iter()
                .any(|column| computed(&column.default));
        if merge {
            return Some("MERGE may use a default that the server computes".to_owned());
        }
        let column = defaulted.into_iter().find(|name| {
            relation
                .column(name)
                .is_some_and(|column| computed(&column.default))
        })?;
        Some(format!(
            "the default of \"{column}\" is computed by each server"
        ))
    }
}

fn computed(default: &ColumnDefault) -> bool {
    *default == ColumnDefault::Volatile || default.sequence().is_some()
}
