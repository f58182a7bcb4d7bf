//! EXPLAIN: the plan of what is explained, kept beside the plan of the EXPLAIN itself. What one server answers as it
//! stands, without a sharded table in it, is left to that server.

use super::Statement;
use crate::route::{Access, Command, Effects, Explain, Merge, Plan, Routing, TextAnchor};
use crate::sql::command::explain::Explain as Options;
use crate::sql::command::{self, Command as Words};
use crate::sql::hint::Reads;
use std::ops::Range;
use std::sync::Arc;

impl Statement<'_> {
    pub(super) fn explain(&self, options: &Options) -> Plan {
        let query = self.data_within(&options.statement);
        let tokens = query.clone().unwrap_or_else(|| options.statement.clone());
        let start = self.tokens.get(tokens.start).map_or(0, |token| token.start);
        let mut plan = self.inner(tokens);
        let told = query.is_some() && !self.context.single() && is_of_several_shards(&plan);
        if !told {
            leave(&mut plan, options.analyze);
            return plan;
        }
        let only_here = if options.analyze && plan.merge == Merge::Everywhere {
            Merge::Everywhere
        } else {
            Merge::Single
        };
        let command = std::mem::replace(&mut plan.command, Command::Other);
        let merge = std::mem::replace(&mut plan.merge, only_here);
        plan.command = Command::Explain(Arc::new(Explain {
            analyze: options.analyze,
            format: options.format,
            with: options.with.clone(),
            without: options.without.clone(),
            start: TextAnchor::of(start, &self.lifted.slots),
            command,
            access: plan.access,
            merge,
            draws: plan.draw.is_some(),
        }));
        if !options.analyze {
            runs_nothing(&mut plan);
        }
        plan
    }

    /// The query or write that is explained; of DECLARE its query, as PostgreSQL has it.
    fn data_within(&self, statement: &Range<usize>) -> Option<Range<usize>> {
        let within = self.within(statement.clone());
        let strings = within.context.standard_conforming_strings;
        match command::classify(within.text, within.tokens, strings) {
            Words::Declare { query, .. } => {
                Some(statement.start + query.start..statement.start + query.end)
            }
            Words::Query { .. } | Words::Insert | Words::Update | Words::Delete | Words::Merge => {
                Some(statement.clone())
            }
            _ => None,
        }
    }
}

fn is_of_several_shards(plan: &Plan) -> bool {
    plan.refusal.is_some()
        || plan.draw.is_some()
        || plan.merge == Merge::Everywhere
        || matches!(plan.routing, Routing::ByKey { .. } | Routing::AllShards)
}

/// It goes where the statement would go, as it stands.
fn leave(plan: &mut Plan, analyze: bool) {
    if !matches!(plan.command, Command::ExecutePrepared(_)) {
        plan.command = Command::Select;
    }
    if analyze {
        return;
    }
    plan.effects = Effects::default();
    if matches!(
        plan.merge,
        Merge::Everywhere | Merge::EverywhereOutsideTransaction
    ) {
        plan.merge = Merge::Single;
        plan.routing = Routing::Home;
    }
}

/// Nothing of the statement is left when it is not run: no writing, no drawn key. It still asks where a write would go, and
/// what would be refused there for its clocks is refused.
fn runs_nothing(plan: &mut Plan) {
    plan.effects = Effects {
        clock: plan.effects.clock,
        names_time: plan.effects.names_time,
        ..Effects::default()
    };
    if plan.access == Access::Write {
        plan.access = Access::Read;
        plan.reads = Some(Reads::Primary);
    }
    if plan.draw.take().is_some() {
        plan.routing = Routing::Home;
        plan.multi_refusal = None;
    }
}
