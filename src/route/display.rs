//! Plans as text: what `pgshunt explain` shows and what the plan cases compare.

use super::{Access, Amount, Combination, Merge, Plan, Routing, ValueSource};
use crate::config::Database;
use crate::shard::KeyValue;
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
        let mut line = format!("{} {}", self.access, self.routing.describe(database));
        match &self.merge {
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
                let tuples: Vec<String> = tuples
                    .iter()
                    .take(16)
                    .map(|tuple| tuple_text(tuple))
                    .collect();
                format!(
                    "{name} = {}",
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
            Self::Fixed(KeyValue::Int(value)) => write!(f, "{value}"),
            Self::Fixed(KeyValue::Text(text)) => write!(f, "'{}'", String::from_utf8_lossy(text)),
            Self::Fixed(other) => write!(f, "{other:?}"),
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
