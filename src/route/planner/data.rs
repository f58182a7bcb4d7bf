//! SELECT, UPDATE, DELETE: from facts to routing. What several shards would have to look at together is refused, at
//! planning when no key is named, at execution when the named keys lie on several shards.

use super::Statement;
use super::functions::{Calls, calls, is_clock};
use super::relations;
use crate::catalog::lingering::REASON;
use crate::route::{Access, Command, Ddl, KeyTuple, Plan, Refusal, Routing};
use crate::sql::analyze::{Trouble, analyze};
use crate::sql::clock;
use crate::sql::parse::{NotParsed, with_parsed};
use crate::sql::statement::{Facts, IntoTarget, KeyProof, Placement, Touched, Verb};
use crate::sql::tokens::Token;

impl Statement<'_> {
    pub(super) fn data(&self, command: Command) -> Plan {
        let length = self.tokens.last().map_or(0, |last| last.end)
            - self.tokens.first().map_or(0, |first| first.start);
        if length > self.context.parsed_bytes_max {
            return self.not_parsed(
                command,
                &format!("it is longer than parsed_bytes_max ({length} bytes)"),
            );
        }
        let env = self.env();
        let named =
            !self.context.single() && clock::names_time(self.text, self.tokens, env.slots, env.scs);
        let facts = with_parsed(self.text, self.tokens, env.scs, |parsed| {
            let facts = analyze(parsed, self.tokens, env)?;
            let several = env.database.shards.len() > 1;
            let mut asked = facts.functions.iter().filter(|f| is_clock(f)).peekable();
            let asks = named || asked.peek().is_some();
            // a user's now() may be anything
            let own = asked.all(|f| {
                let schema = f.schema.as_deref();
                let mut called = env
                    .catalog
                    .functions_called(env.search_path, schema, &f.name);
                called.all(|function| function.builtin)
            });
            let clocks = (several && asks && own)
                .then(|| clock::calls(&parsed.statement, self.text, self.tokens, env.slots))
                .flatten();
            Ok((facts, clocks))
        });
        match facts {
            Ok(Ok((facts, clocks))) => {
                let mut plan = self.by_facts(command, &facts, named);
                // some of them may be literals
                plan.effects.clock |= clocks.is_some();
                plan.clocks = clocks.map(Into::into);
                plan
            }
            Ok(Err(Trouble::Unsupported(what))) => {
                self.not_parsed(command, &format!("{what} is not understood"))
            }
            Ok(Err(Trouble::Refused { message, hint })) => {
                let mut plan = self.context.blank(command);
                plan.refusal = Some(Refusal::unsupported(message, hint));
                plan
            }
            Err(error @ (NotParsed::Syntax(_) | NotParsed::TooDeep(_) | NotParsed::Unclear(_))) => {
                self.not_parsed(command, &error.to_string())
            }
        }
    }

    /// A statement that is not understood is a write. With several shards it runs at home when none of its words is a name
    /// that matters; else it is refused.
    pub(super) fn not_parsed(&self, command: Command, why: &str) -> Plan {
        let mut plan = self.context.blank(command);
        plan.because = format!("not analysed: {why}");
        if self.names_what_lingers() {
            plan.effects.pins = Some(REASON);
            plan.effects.opaque = true;
        }
        if let Some(name) = relations::name_that_matters(self) {
            plan.refusal = Some(Refusal::unsupported(
                format!("the statement could not be analysed ({why}), and it names \"{name}\""),
                "Name the shard: /* pgshunt: shard=… */ or SET pgshunt.shard.",
            ));
        }
        plan
    }

    /// In a text that is not understood, a word is enough.
    pub(super) fn names_what_lingers(&self) -> bool {
        let named = |token: &Token| {
            let name = token.bytes(self.text).to_ascii_lowercase();
            let name = name.strip_prefix(b"\"").unwrap_or(&name);
            name.starts_with(b"pg_advisory_lock")
                || name.starts_with(b"pg_try_advisory_lock")
                || name.starts_with(b"set_config")
        };
        let stored = |pair: &[Token]| {
            let is = |n: usize, word: &str| pair.get(n).is_some_and(|t| t.is_word(self.text, word));
            is(0, "into") && (is(1, "temp") || is(1, "temporary"))
        };
        self.tokens.iter().any(named) || self.tokens.windows(2).any(stored)
    }

    fn by_facts(&self, command: Command, facts: &Facts, names_time: bool) -> Plan {
        let mut calls = calls(&facts.functions, &self.context);
        calls.names_time = names_time;
        let mut plan = self.context.blank(command);
        plan.access = if self.context.catalog.casts_write {
            Access::Write
        } else {
            access(facts, &calls)
        };
        plan.effects.pins = calls.pins;
        if calls.pins.is_some() {
            // a replica could not be kept when something is written
            plan.access = Access::Write;
        }
        plan.effects.clock = calls.clock.is_some();
        plan.effects.names_time = calls.names_time;
        plan.effects.opaque = calls.user_volatile;
        if facts.into.is_some() {
            plan.effects.ddl = Some(Ddl::Data);
        }
        if self.context.single() {
            "the only shard".clone_into(&mut plan.because);
            if facts.into.as_ref().is_some_and(|into| into.temporary) {
                plan.effects.pins = Some("temporary table");
            }
            return plan;
        }
        let decision = match facts.verb {
            Verb::Select => self.select(facts, &calls, &mut plan),
            _ => self.write(facts, &calls, &mut plan),
        };
        if let Err(refusal) = decision {
            plan.refusal = Some(refusal);
        }
        plan
    }

    fn select(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        self.modifying_cte(facts)?;
        self.into(facts, plan)?;
        if facts.touched.iter().any(is_sharded) {
            return self.select_sharded(facts, calls, plan);
        }
        self.unsharded(facts, calls, plan)
    }

    /// Nothing of it is sharded: home, or any shard when every shard has it all.
    fn unsharded(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        if let Some(name) = &calls.opaque {
            return Err(opaque(name));
        }
        let home = facts
            .touched
            .iter()
            .find(|t| t.placement == Placement::Home);
        if let Some(home) = home {
            plan.because = format!("{} lives on the home shard", home.table.name);
        } else if facts.into.is_some() {
            "its result is stored".clone_into(&mut plan.because);
        } else if calls.declared_key {
            return self.by_key_argument(facts, plan);
        } else if let Some(name) = calls
            .sequence
            .as_ref()
            .or(calls.server.as_ref())
            .or(calls.pins.and(calls.volatile.as_ref()))
        {
            plan.because = format!("{name}() asks the home shard");
        } else if calls.declared_home {
            "a function is declared to run on the home shard".clone_into(&mut plan.because);
        } else if facts.locking || facts.modifying_cte {
            "locks are taken on the home shard".clone_into(&mut plan.because);
        } else {
            plan.routing = Routing::AnyShard;
            "nothing of it is sharded".clone_into(&mut plan.because);
        }
        Ok(())
    }

    fn by_key_argument(&self, facts: &Facts, plan: &mut Plan) -> Result<(), Refusal> {
        let tuples: Option<Vec<KeyTuple>> = facts
            .key_arguments
            .iter()
            .map(|value| value.clone().map(|value| KeyTuple::from_iter([value])))
            .collect();
        match tuples {
            Some(tuples) if !tuples.is_empty() && self.context.database.keyspaces.len() == 1 => {
                plan.routing = Routing::ByKey {
                    keyspace: 0,
                    tuples,
                };
                plan.multi_refusal = Some(Refusal::unsupported(
                    "functions declared with a key argument are called for several shards",
                    "Call them one by one.",
                ));
                "a function is declared with a key argument".clone_into(&mut plan.because);
                Ok(())
            }
            _ => Err(Refusal::unsupported(
                "a function that is declared with a key argument is called without a plain key value",
                "Give it a literal or a parameter.",
            )),
        }
    }

    fn select_sharded(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        let pushed = self.pushed(facts, calls, plan);
        self.or_gathered(facts, calls, plan, pushed)
    }

    /// What each shard can answer for its own rows.
    fn pushed(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        let keyspace = self.one_keyspace(facts)?;
        self.no_home(facts)?;
        no_sequences(calls)?;
        let merge = Self::merge(facts, calls).map_err(|reason| self.several(&reason, facts));
        let Some(tuples) = tuples(facts.touched.iter()) else {
            plan.merge = merge?;
            plan.routing = Routing::AllShards;
            "each shard answers for its own rows".clone_into(&mut plan.because);
            return Ok(());
        };
        plan.routing = Routing::ByKey { keyspace, tuples };
        "the key of every sharded table is given".clone_into(&mut plan.because);
        match merge {
            Ok(merge) => plan.merge = merge,
            Err(refusal) => plan.multi_refusal = Some(refusal),
        }
        Ok(())
    }

    fn several(&self, reason: &str, facts: &Facts) -> Refusal {
        let unproven = facts
            .touched
            .iter()
            .find(|t| is_sharded(t) && t.proof == KeyProof::Unproven)
            .or_else(|| facts.touched.iter().find(|t| is_sharded(t)));
        Refusal::unsupported(
            format!(
                "{reason} over several shards {}",
                self.context.shard_names()
            ),
            self.name_the_key(unproven),
        )
    }

    fn name_the_key(&self, touched: Option<&Touched>) -> String {
        let Some((touched, Placement::Sharded(index))) = touched.map(|t| (t, t.placement)) else {
            return "Name the shard: /* pgshunt: shard=… */".to_owned();
        };
        let keys = self
            .context
            .database
            .tables
            .get(index)
            .map(|table| table.key.join(" = … AND "))
            .unwrap_or_default();
        format!(
            "Name the key of \"{}\": … WHERE {keys} = …",
            touched.table.name
        )
    }

    /// UPDATE, DELETE, INSERT and MERGE.
    fn write(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        let Some(write) = &facts.write else {
            return Err(Refusal::unsupported(
                "the statement's target is not known",
                "Name the shard: /* pgshunt: shard=… */",
            ));
        };
        self.modifying_cte(facts)?;
        let Some(target) = facts.touched.get(write.target) else {
            return Err(Refusal::unsupported(
                "the statement's target is not known",
                "Name the shard: /* pgshunt: shard=… */",
            ));
        };
        match target.placement {
            Placement::Home => self.write_home(facts, calls, plan),
            Placement::Reference => self.write_reference(facts, calls, write, target, plan),
            Placement::Sharded(_) => {
                let keyspace = self.one_keyspace(facts)?;
                self.no_home(facts)?;
                no_sequences(calls)?;
                match (facts.verb, &write.insert) {
                    (Verb::Insert, Some(insert)) => {
                        self.insert_sharded(facts, write, insert, keyspace, plan)
                    }
                    (Verb::Merge, _) => Err(Refusal::unsupported(
                        format!("MERGE into the sharded table \"{}\"", target.table.name),
                        "Use INSERT … ON CONFLICT, or name the shard: /* pgshunt: shard=… */",
                    )),
                    _ => self.change_sharded(facts, target, keyspace, plan),
                }
            }
        }
    }

    fn change_sharded(
        &self,
        facts: &Facts,
        target: &Touched,
        keyspace: usize,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let word = if facts.verb == Verb::Update {
            "UPDATE"
        } else {
            "DELETE"
        };
        let Some(tuples) = tuples(facts.touched.iter()) else {
            return Err(Refusal::unsupported(
                format!(
                    "{word} on several shards {}: not every sharded table's key is given",
                    self.context.shard_names()
                ),
                self.name_the_key(facts.touched.iter().find(|t| t.proof == KeyProof::Unproven)),
            ));
        };
        self.key_stays(facts, target, &tuples)?;
        plan.routing = Routing::ByKey { keyspace, tuples };
        "the key of every sharded table is given".clone_into(&mut plan.because);
        plan.multi_refusal = Some(Refusal::unsupported(
            format!("{word} of rows on several shards"),
            "Change the rows of one shard at a time; writes that span shards come with two-phase commit.",
        ));
        Ok(())
    }

    /// A changed key may belong on another shard.
    pub(super) fn key_stays(
        &self,
        facts: &Facts,
        target: &Touched,
        tuples: &[KeyTuple],
    ) -> Result<(), Refusal> {
        let (Some(write), Placement::Sharded(index)) = (&facts.write, target.placement) else {
            return Ok(());
        };
        let Some(table) = self.context.database.tables.get(index) else {
            return Ok(());
        };
        for (column, value) in &write.assigned {
            let Some(at) = table.key.iter().position(|key| key == column) else {
                continue;
            };
            let same = match (value, tuples) {
                (Some(value), [only]) => only.get(at) == Some(value),
                _ => false,
            };
            if !same {
                return Err(Refusal::unsupported(
                    format!("the shard key \"{column}\" is assigned: the row might have to move"),
                    "Delete the row and insert it with its new key.",
                ));
            }
        }
        Ok(())
    }

    fn write_home(&self, facts: &Facts, calls: &Calls, plan: &mut Plan) -> Result<(), Refusal> {
        if let Some(sharded) = facts.touched.iter().find(|t| is_sharded(t)) {
            return Err(self.crosses(&sharded.table.name, facts));
        }
        if let Some(name) = &calls.opaque {
            return Err(opaque(name));
        }
        "its table lives on the home shard".clone_into(&mut plan.because);
        Ok(())
    }

    fn one_keyspace(&self, facts: &Facts) -> Result<usize, Refusal> {
        let mut only: Option<(usize, &str)> = None;
        for touched in &facts.touched {
            let Placement::Sharded(index) = touched.placement else {
                continue;
            };
            let Some(table) = self.context.database.tables.get(index) else {
                continue;
            };
            match only {
                Some((keyspace, other)) if keyspace != table.keyspace => {
                    return Err(Refusal::unsupported(
                        format!(
                            "\"{other}\" and \"{}\" are sharded by different keyspaces",
                            table.name
                        ),
                        "Read them one after the other, or name the shard: /* pgshunt: shard=… */",
                    ));
                }
                _ => only = Some((table.keyspace, &table.name)),
            }
        }
        Ok(only.map_or(0, |(keyspace, _)| keyspace))
    }

    fn no_home(&self, facts: &Facts) -> Result<(), Refusal> {
        match facts
            .touched
            .iter()
            .find(|t| t.placement == Placement::Home)
        {
            Some(home) => Err(self.crosses(&home.table.name, facts)),
            None => Ok(()),
        }
    }

    fn crosses(&self, name: &str, facts: &Facts) -> Refusal {
        let sharded = facts
            .touched
            .iter()
            .find(|t| is_sharded(t))
            .map_or("", |t| t.table.name.as_str());
        let home = facts
            .touched
            .iter()
            .find(|t| t.placement == Placement::Home)
            .map_or(name, |t| t.table.name.as_str());
        Refusal::unsupported(
            format!("\"{home}\" lives on the home shard only, \"{sharded}\" is sharded"),
            format!(
                "Make \"{home}\" a reference table or shard it with \"{sharded}\", or read them one after the other."
            ),
        )
    }

    /// What a CTE writes is seen only where it is sharded or at home.
    fn modifying_cte(&self, facts: &Facts) -> Result<(), Refusal> {
        let shared = facts
            .touched
            .iter()
            .find(|t| t.placement == Placement::Reference);
        match shared {
            Some(shared) if facts.modifying_cte => Err(Refusal::unsupported(
                format!(
                    "a data-modifying CTE together with the reference table \"{}\"",
                    shared.table.name
                ),
                "Use two statements.",
            )),
            _ if facts.modifying_cte
                && facts.touched.iter().any(|t| t.proof == KeyProof::Unproven) =>
            {
                Err(Refusal::unsupported(
                    "a data-modifying CTE without the key of every sharded table",
                    self.name_the_key(facts.touched.iter().find(|t| t.proof == KeyProof::Unproven)),
                ))
            }
            _ => Ok(()),
        }
    }

    fn into(&self, facts: &Facts, plan: &mut Plan) -> Result<(), Refusal> {
        match &facts.into {
            None => Ok(()),
            Some(IntoTarget { temporary: true }) if !facts.touched.iter().any(is_sharded) => {
                plan.effects.pins = Some("temporary table");
                plan.effects.ddl = None;
                Ok(())
            }
            Some(_) => Err(stored_result("SELECT INTO")),
        }
    }
}

pub(super) fn stored_result(what: &str) -> Refusal {
    Refusal::unsupported(
        format!("{what} stores a result that every shard would have to hold"),
        "Create the table first, then INSERT … SELECT.",
    )
}

pub(super) fn is_sharded(touched: &Touched) -> bool {
    matches!(touched.placement, Placement::Sharded(_))
}

pub(super) fn opaque(name: &str) -> Refusal {
    Refusal::unsupported(
        format!("what the function {name}() reads is not known"),
        format!(
            "Declare it in the shard map (functions: {name}: pure, home or key_argument), or name the shard: /* pgshunt: shard=… */"
        ),
    )
}

fn no_sequences(calls: &Calls) -> Result<(), Refusal> {
    match &calls.sequence {
        Some(name) => Err(Refusal::unsupported(
            format!("{name}() in a statement on sharded tables: every shard has its own sequence"),
            "Ask for the value first (SELECT nextval(…) runs on the home shard) and write it as a literal or parameter.",
        )),
        None => Ok(()),
    }
}

/// Every possible key of the sharded relations; None when one's is not proven.
pub(super) fn tuples<'f>(touched: impl Iterator<Item = &'f Touched>) -> Option<Vec<KeyTuple>> {
    let mut all: Vec<KeyTuple> = Vec::new();
    for touched in touched {
        match &touched.proof {
            KeyProof::NotSharded => {}
            KeyProof::Unproven => return None,
            KeyProof::Tuples(tuples) if all.is_empty() => all.clone_from(tuples),
            KeyProof::Tuples(tuples) => {
                for tuple in tuples {
                    // long lists are the same list nearly always; resolving copes with repeated keys
                    if all.len() > 64 || !all.contains(tuple) {
                        all.push(tuple.clone());
                    }
                }
            }
        }
    }
    Some(all)
}

fn access(facts: &Facts, calls: &Calls) -> Access {
    let pure = facts.verb == Verb::Select
        && !facts.locking
        && !facts.modifying_cte
        && facts.into.is_none()
        && !facts.opaque_expression
        && calls.volatile.is_none()
        && !facts.touched.iter().any(|t| t.primary_only);
    if pure { Access::Read } else { Access::Write }
}
