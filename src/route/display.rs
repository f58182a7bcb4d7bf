//! Plans as text: what `pgshunt explain` shows and what the plan cases compare.

use super::{Access, Amount, Combination, Command, Merge, Plan, Routing, Targets, ValueSource};
use crate::config::Database;
use crate::shard::{KeyValue, ShardId};
use crate::sql::combine::{Fold, Place, SortKey};
use std::fmt;

impl Plan {
    /// One line a statement, with names instead of numbers, and the reasons below it.
    #[must_use]
    pub fn describe(&self, database: &Database) -> String {
        if let Some(refusal) = &self.refusal {
            let hint = refusal
                .hint
                .as_deref()
                .map(|hint| format!("\n  hint: {hint}"))
                .unwrap_or_default();
            return format!("refused {}: {}{hint}", refusal.code.0, refusal.message);
        }
        let mut line = self.way(database);
        match self.told_merge() {
            Merge::Single => {}
            merge => line.push_str(&format!(", {merge}")),
        }
        if let Some(draw) = &self.draw {
            line.push_str(&format!(", draws {} from {}", draw.rows, draw.sequence));
        }
        if let Some(pin) = self.effects.pins {
            line.push_str(&format!(", pins: {pin}"));
        }
        if self.effects.ddl.is_some() {
            line.push_str(", ddl");
        }
        if self.effects.opaque {
            line.push_str(", opaque");
        }
        if let Some(refusal) = &self.multi_refusal {
            line.push_str(&format!("; on several shards refused: {}", refusal.message));
        }
        line
    }
}

impl Plan {
    /// Reading or writing, and by what the shards are known. Of EXPLAIN it is that of the statement it explains.
    #[must_use]
    pub fn way(&self, database: &Database) -> String {
        let access = match &self.command {
            Command::Explain(explain) => explain.access,
            _ => self.access,
        };
        format!("{access} {}", self.routing.describe(database))
    }

    /// Of EXPLAIN it is that of the statement it explains, unless a shard was named for it.
    #[must_use]
    pub fn told_merge(&self) -> &Merge {
        match &self.command {
            Command::Explain(explain) if !matches!(self.routing, Routing::Hinted(_)) => {
                &explain.merge
            }
            _ => &self.merge,
        }
    }
}

impl Targets {
    /// The names of the shards, "any shard" for none.
    #[must_use]
    pub fn names(&self, database: &Database) -> Vec<String> {
        let name = |shard: &ShardId| match database.shards.get(shard.index()) {
            Some(shard) => shard.name.clone(),
            None => format!("#{}", shard.0),
        };
        match self {
            Self::None => vec!["any shard".to_owned()],
            Self::One(shard) => vec![name(shard)],
            Self::Many(shards) => shards.iter().map(name).collect(),
        }
    }
}

impl Routing {
    #[must_use]
    pub fn describe(&self, database: &Database) -> String {
        let shard = |at: usize| {
            database
                .shards
                .get(at)
                .map_or_else(|| format!("#{at}"), |shard| shard.name.clone())
        };
        match self {
            Self::Unsharded => "only shard".to_owned(),
            Self::Home => "home".to_owned(),
            Self::AnyShard => "any shard".to_owned(),
            Self::AllShards => "all shards".to_owned(),
            Self::Hinted(id) => format!("shard {} by hint", shard(id.index())),
            Self::Local => "pgshunt itself".to_owned(),
            Self::ByKey { keyspace, tuples } => {
                let name = database
                    .keyspaces
                    .get(*keyspace)
                    .map_or("?", |keyspace| keyspace.name.as_str());
                let ranges = tuples.iter().flatten();
                let ranges = ranges.filter(|v| matches!(v, ValueSource::Between(_)));
                let word = if ranges.count() > 0 { "in" } else { "=" };
                let tuples: Vec<String> = tuples
                    .iter()
                    .take(16)
                    .map(|tuple| tuple_text(tuple))
                    .collect();
                format!(
                    "{name} {word} {}",
                    if tuples.is_empty() {
                        "nothing".to_owned()
                    } else {
                        tuples.join(" | ")
                    }
                )
            }
        }
    }
}

fn tuple_text(tuple: &[ValueSource]) -> String {
    let sources: Vec<String> = tuple.iter().map(ToString::to_string).collect();
    match sources.as_slice() {
        [one] => one.clone(),
        several => format!("({})", several.join(", ")),
    }
}

impl fmt::Display for ValueSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(n) => write!(f, "literal {}", n + 1),
            Self::Param(n) => write!(f, "${n}"),
            Self::ArrayParam(n) => write!(f, "any of ${n}"),
            Self::ArraySlot(n) => write!(f, "any of literal {}", n + 1),
            Self::Between(limits) => {
                for (n, limit) in limits.iter().enumerate() {
                    let and = if n == 0 { "" } else { " and " };
                    write!(f, "{and}{} {}", limit.operator(), limit.value)?;
                }
                Ok(())
            }
            Self::Fixed(KeyValue::Int(value)) => write!(f, "{value}"),
            Self::Fixed(KeyValue::Text(text)) => write!(f, "'{}'", String::from_utf8_lossy(text)),
            Self::Fixed(other) => write!(f, "{other}"),
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

impl fmt::Display for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Combine(combination) => return combined(combination, f),
            Self::Gather(gather) => return gather.fmt(f),
            Self::Single => "one answer",
            Self::Concatenate => "rows concatenated",
            Self::Everywhere => "in a transaction on every shard",
            Self::EverywhereOutsideTransaction => "on one shard after another",
        })
    }
}

/// "rows merged by 2 keys, 1 of them hidden, distinct, first 10 after 5"
fn combined(made: &Combination, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if made.is_plain() {
        return f.write_str("rows concatenated");
    }
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    match (&made.groups, made.order.len()) {
        (Some(groups), _) if groups.keys.is_empty() => f.write_str("partial results combined")?,
        (Some(groups), _) => {
            let n = groups.keys.len();
            write!(f, "groups of {n} column{} combined", plural(n))?;
        }
        (None, 0) => f.write_str("rows put together")?,
        (None, n) => write!(f, "rows merged by {n} key{}", plural(n))?,
    }
    if made.groups.is_some() && !made.order.is_empty() {
        f.write_str(", sorted")?;
    }
    if made.hidden > 0 {
        write!(f, ", {} hidden column{}", made.hidden, plural(made.hidden))?;
    }
    if made.distinct {
        f.write_str(", distinct")?;
    }
    if let Some(limit) = made.limit {
        write!(f, ", limit {limit}")?;
    }
    if let Some(offset) = made.offset {
        write!(f, ", offset {offset}")?;
    }
    Ok(())
}

impl Combination {
    /// What is done with the shards' rows, in the order in which it is done.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let mut steps = Vec::new();
        let keys: Vec<String> = self.order.iter().map(sort_key).collect();
        match &self.groups {
            Some(groups) => {
                let folds: Vec<&str> = groups.aggregates.iter().map(|a| fold(a.fold)).collect();
                let by: Vec<String> = groups.keys.iter().map(|key| place(*key)).collect();
                steps.push(match (by.is_empty(), folds.is_empty()) {
                    (true, _) => format!("combine partial results ({})", folds.join(", ")),
                    (false, true) => format!("combine groups by {}", by.join(", ")),
                    (false, false) => {
                        format!("combine groups by {} ({})", by.join(", "), folds.join(", "))
                    }
                });
                if !keys.is_empty() {
                    steps.push(format!("sort by {}", keys.join(", ")));
                }
            }
            None if keys.is_empty() => steps.push("append".to_owned()),
            None => steps.push(format!("merge by {}", keys.join(", "))),
        }
        if self.distinct {
            steps.push("distinct".to_owned());
        }
        steps.extend(self.offset.map(|offset| format!("offset {offset}")));
        steps.extend(self.limit.map(|limit| format!("limit {limit}")));
        steps
    }
}

/// Columns of a shard's row count from one.
fn place(place: Place) -> String {
    match place {
        Place::Visible(n) => format!("column {}", n + 1),
        Place::Hidden(n) => format!("hidden column {}", n + 1),
    }
}

fn sort_key(key: &SortKey) -> String {
    let mut text = place(key.value.place);
    if key.descending {
        text.push_str(" DESC");
    }
    if key.nulls_first != key.descending {
        text.push_str(if key.nulls_first {
            " NULLS FIRST"
        } else {
            " NULLS LAST"
        });
    }
    text
}

fn fold(fold: Fold) -> &'static str {
    match fold {
        Fold::AddInteger | Fold::AddNumeric => "add",
        Fold::Average { .. } => "average",
        Fold::Least(_) => "least",
        Fold::Greatest(_) => "greatest",
        Fold::And => "and",
        Fold::Or => "or",
        Fold::BitAnd => "bit and",
        Fold::BitOr => "bit or",
        Fold::BitXor => "bit xor",
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(rows) => write!(f, "{rows}"),
            Self::Param(n) => write!(f, "${n}"),
        }
    }
}

impl fmt::Display for Routing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsharded => f.write_str("only shard"),
            Self::Home => f.write_str("home"),
            Self::AnyShard => f.write_str("any shard"),
            Self::AllShards => f.write_str("all shards"),
            Self::Hinted(shard) => write!(f, "shard #{} by hint", shard.0),
            Self::Local => f.write_str("pgshunt itself"),
            Self::ByKey { keyspace, tuples } => {
                let tuples: Vec<String> = tuples
                    .iter()
                    .take(16)
                    .map(|tuple| tuple_text(tuple))
                    .collect();
                write!(f, "keyspace #{keyspace} = {}", tuples.join(" | "))
            }
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Some(refusal) => write!(f, "refused {}: {}", refusal.code.0, refusal.message),
            None => write!(f, "{} {}, {}", self.access, self.routing, self.merge),
        }
    }
}
