//! pgshunt's account of a statement over shards: what its plan is, what was measured, and which of PostgreSQL's answers
//! belongs where. No I/O; `route::explain` gives it its form.

use super::Asked;
use crate::config::Database;
use crate::exec::gather::Reading;
use crate::exec::measure::{Measured, Meter};
use crate::route::explain::{Group, PLAN, Part, Shown, TIME, Value, WHOLE_TIME, figures};
use crate::route::{Access, Explain, Gather, Merge, Plan, Routing, Targets};
use crate::shard::ShardId;
use bytes::Bytes;
use std::time::Duration;

/// Of a statement so many characters are shown.
const STATEMENT_MAX: usize = 4096;

/// PostgreSQL's answers.
pub(super) enum Answer {
    /// of the EXPLAIN as it stands, by the one shard, or the last of all
    Whole {
        shard: Option<ShardId>,
        rows: Vec<Bytes>,
    },
    Each(Vec<(ShardId, Vec<Bytes>)>),
    Gathered {
        tables: Vec<Table>,
        scratch: Option<Vec<Bytes>>,
    },
}

impl Answer {
    pub fn whole(self) -> Option<Vec<Bytes>> {
        match self {
            Self::Whole { rows, .. } => Some(rows),
            _ => None,
        }
    }
}

/// How a shard reads a table, or several at once.
pub(super) struct Table {
    shard: ShardId,
    /// their numbers
    tables: Vec<usize>,
    statement: String,
    rows: Vec<Bytes>,
}

/// The answers to what one shard would be asked.
pub(super) fn tables(
    gather: &Gather,
    reading: &Reading<'_>,
    rows: impl Iterator<Item = Vec<Bytes>>,
) -> Vec<Table> {
    let number = |table| gather.tables.iter().position(|t| t == table);
    let each = reading.texts.iter().zip(rows);
    each.map(|((tables, text), rows)| Table {
        shard: reading.shard,
        tables: tables.iter().filter_map(|table| number(*table)).collect(),
        statement: text.clone(),
        rows,
    })
    .collect()
}

pub(super) struct Account<'a> {
    pub plan: &'a Plan,
    pub explain: &'a Explain,
    pub asked: &'a Asked,
    pub database: &'a Database,
    pub measured: Option<&'a Measured>,
}

impl Account<'_> {
    pub fn of(&self, answer: &Answer) -> Shown {
        let mut shown = Shown {
            heading: format!("pgshunt: {}", self.plan.describe(self.database)),
            group: self.about(),
            parts: Vec::new(),
        };
        match answer {
            Answer::Whole { shard, rows } if self.plan.merge == Merge::Single => {
                shown.heading = self.one_shard(*shard);
                shown.parts.push(Part {
                    answer: rows.clone(),
                    ..Part::default()
                });
            }
            Answer::Whole { rows, .. } => self.everywhere(rows, &mut shown),
            Answer::Each(answers) => self.each(answers, &mut shown),
            Answer::Gathered { tables, scratch } => {
                self.gathered(tables, scratch.as_deref(), &mut shown);
            }
        }
        shown
    }

    fn about(&self) -> Group {
        let plan = match self.asked.targets {
            Targets::Many(_) => self.plan.describe(self.database),
            _ => self.way(),
        };
        let mut group = vec![(PLAN, text(plan))];
        if !self.plan.because.is_empty() {
            group.push(("Because", text(self.plan.because.clone())));
        }
        let names = self.asked.targets.names(self.database);
        if self.asked.targets != Targets::None {
            group.push(("Shards", Value::List(names.into_iter().map(text).collect())));
        }
        group
    }

    fn name(&self, shard: ShardId) -> String {
        Targets::One(shard).names(self.database).concat()
    }

    /// By what one shard is known.
    fn way(&self) -> String {
        let access = self.explain.access;
        match (&self.plan.routing, self.explain.draws, self.explain.analyze) {
            (Routing::Hinted(_), ..) => format!("{access}, named by hint or setting"),
            (_, true, true) => format!("{access} by a drawn key"),
            (_, true, false) => format!("{access} by a key that will be drawn"),
            _ => self.plan.way(self.database),
        }
    }

    /// "pgshunt: shard s2 (read by_user = 107)"
    fn one_shard(&self, shard: Option<ShardId>) -> String {
        let shard = shard.map_or_else(String::new, |shard| self.name(shard));
        if self.explain.draws && !self.explain.analyze {
            let way = self.way();
            return format!("pgshunt: {way} (the plan is shard {shard}'s)");
        }
        format!("pgshunt: shard {shard} ({})", self.way())
    }

    /// Every shard has run it, one after the other; the last one's answer is there.
    fn everywhere(&self, rows: &[Bytes], shown: &mut Shown) {
        let mut shards = Vec::new();
        let mut last = None;
        for part in self.measured.iter().flat_map(|measured| &measured.parts) {
            let name = self.name(part.shard);
            let group = vec![("Shard", text(name.clone())), (TIME, time(part.time))];
            shards.push(Value::Group(group));
            last = Some(name);
        }
        let last = last.unwrap_or_default();
        shown.group.retain(|(name, _)| *name != "Shards");
        shown.group.push(("Shards", Value::List(shards)));
        self.measured_by(
            &format!("the statement ran once on every shard; the plan is that of shard {last}"),
            shown,
        );
        shown.parts.push(Part {
            heading: Some(format!("Shard {last}")),
            group: vec![("Shard", text(last))],
            answer: rows.to_vec(),
        });
    }

    fn each(&self, answers: &[(ShardId, Vec<Bytes>)], shown: &mut Shown) {
        if let Merge::Combine(made) = &self.explain.merge {
            if self.asked.edited != self.asked.statement {
                shown
                    .group
                    .push(("Statement", statement(&self.asked.edited)));
            }
            let mut step = vec![("Step", text(made.steps().join(", ")))];
            if let Some(measured) = self.measured {
                step.extend(taken(&measured.sent, measured.combining));
            }
            shown
                .group
                .push(("Steps", Value::List(vec![Value::Group(step)])));
        }
        if self.measured.is_some() {
            self.measured_by(
                match self.plan.access {
                    Access::Read => {
                        "the statement ran once for these figures; the shards' plans are of a second run, by EXPLAIN ANALYZE"
                    }
                    Access::Write => {
                        "the statement ran once for these figures, and not again for the shards' plans, which are estimates"
                    }
                },
                shown,
            );
        }
        for (n, (shard, rows)) in answers.iter().enumerate() {
            let part = self.measured.and_then(|measured| measured.parts.get(n));
            let found = part.map(|part| taken(&part.taken, part.time));
            shown.parts.push(self.part(*shard, None, found, rows));
        }
    }

    fn gathered(&self, tables: &[Table], scratch: Option<&[Bytes]>, shown: &mut Shown) {
        if let Merge::Gather(gather) = &self.explain.merge {
            let named = gather.tables.iter().map(|table| text(table.to_string()));
            shown.group.push(("Tables", Value::List(named.collect())));
        }
        shown.group.push(("Steps", Value::List(self.steps())));
        if self.measured.is_some() {
            self.measured_by(
                "the statement ran once, in the scratch database, whose plan is of that run; the shards' plans are estimates, their times those of taking their rows, one after the other",
                shown,
            );
        }
        for table in tables {
            let found = self.measured.map(|measured| {
                let parts = measured.parts.iter().filter(|part| {
                    let number = part.table.unwrap_or(usize::MAX);
                    part.shard == table.shard && table.tables.contains(&number)
                });
                let (mut sum, mut time) = (Meter::default(), Duration::ZERO);
                for part in parts {
                    sum = Meter::of(sum.rows + part.taken.rows, sum.bytes + part.taken.bytes);
                    time += part.time;
                }
                taken(&sum, time)
            });
            let asked = Some(table.statement.as_str());
            shown
                .parts
                .push(self.part(table.shard, asked, found, &table.rows));
        }
        if let Some(rows) = scratch {
            shown.parts.push(Part {
                heading: Some("Scratch database".to_owned()),
                group: vec![("Database", text("scratch database"))],
                answer: rows.to_vec(),
            });
        }
    }

    /// What gathering is made of.
    fn steps(&self) -> Vec<Value> {
        let mut copy = vec![("Step", text("copy the tables into a scratch database"))];
        let mut then = vec![("Step", text("run the statement there"))];
        match self.measured {
            Some(measured) => {
                let sum = measured.parts.iter().fold((0, 0), |(rows, bytes), part| {
                    (rows + part.taken.rows, bytes + part.taken.bytes)
                });
                copy.extend(taken(&Meter::of(sum.0, sum.1), measured.filled));
                then.push((TIME, time(measured.total.saturating_sub(measured.filled))));
            }
            None => then.push((
                PLAN,
                text("made when the tables are there: EXPLAIN ANALYZE shows it"),
            )),
        }
        vec![Value::Group(copy), Value::Group(then)]
    }

    /// One shard's answer to one text.
    fn part(
        &self,
        shard: ShardId,
        asked: Option<&str>,
        found: Option<Group>,
        rows: &[Bytes],
    ) -> Part {
        let name = self.name(shard);
        let mut heading = format!("Shard {name}");
        let mut group = vec![("Shard", text(name))];
        if let Some(asked) = asked {
            let asked = statement(asked.as_bytes());
            if let Value::Text(text) = &asked {
                heading.push_str(&format!(": {text}"));
            }
            group.push(("Statement", asked));
        }
        if let Some(found) = found {
            heading.push_str(&format!("  {}", figures(&found)));
            group.extend(found);
        }
        Part {
            heading: Some(heading),
            group,
            answer: rows.to_vec(),
        }
    }

    fn measured_by(&self, how: &str, shown: &mut Shown) {
        shown
            .group
            .push(("Measured", text(format!("by pgshunt: {how}"))));
        if let Some(measured) = self.measured {
            shown.group.push((WHOLE_TIME, time(measured.total)));
        }
    }
}

fn text(text: impl Into<String>) -> Value {
    Value::Text(text.into())
}

fn statement(bytes: &[u8]) -> Value {
    let all = String::from_utf8_lossy(bytes);
    let all = all.trim();
    if all.len() <= STATEMENT_MAX {
        return text(all);
    }
    let shown: String = all.chars().take(STATEMENT_MAX).collect();
    text(format!("{shown} ..."))
}

/// Milliseconds, as PostgreSQL writes them.
fn time(time: Duration) -> Value {
    Value::Number(format!("{:.3}", time.as_secs_f64() * 1000.0))
}

fn taken(meter: &Meter, spent: Duration) -> Group {
    vec![
        ("Rows", Value::Number(meter.rows.to_string())),
        ("Bytes", Value::Number(meter.bytes.to_string())),
        (TIME, time(spent)),
    ]
}
