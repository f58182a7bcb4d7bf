//! Random queries over the shop, from a seed. The generator knows which answers are settled by the query alone: every
//! expression it makes has one value and one text whatever the order of rows, orders are total where a LIMIT or a frame needs
//! that, numerics that compare equal look equal, floats have exact sums. So a difference is always a fault.

mod expression;
mod query;
mod relation;

use super::oracle::{Asked, Order, Value};
use super::town::Dice;

/// Types that expressions are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    Int,
    Big,
    /// two digits after the point, always
    Numeric,
    /// a multiple of a small power of two, a NaN or an infinity, and never -0
    Float,
    Text,
    Bool,
    Date,
    Timestamp,
    Timestamptz,
    Uuid,
    /// anything that is only looked at: values that compare equal may look different, sums depend on the order
    Other,
}

#[derive(Clone, Debug)]
struct Column {
    name: String,
    kind: Type,
}

/// What may be named in an expression.
#[derive(Clone, Debug)]
struct Relation {
    alias: String,
    columns: Vec<Column>,
    /// columns whose values no two rows share; empty when nothing is known
    unique: Vec<String>,
    /// the column that holds the tenant, where there is one
    tenant: Option<String>,
}

/// A query in parentheses' worth: without ORDER BY and LIMIT, which come last.
#[derive(Clone, Debug)]
struct Query {
    text: String,
    columns: Vec<Column>,
    /// expressions that ORDER BY may name although they are not selected
    hidden: Vec<String>,
    /// expressions over which the order is total; None when that is not known
    ties: Option<Vec<String>>,
    tenant: Option<String>,
}

pub struct Generator {
    dice: Dice,
    aliases: usize,
    values: Vec<Value>,
    /// common table expressions in sight
    ctes: Vec<Relation>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            aliases: 0,
            values: Vec::new(),
            ctes: Vec::new(),
        }
    }

    pub fn next(&mut self) -> Asked {
        self.aliases = 0;
        self.values.clear();
        self.ctes.clear();
        let with = if self.dice.chance(15) {
            self.with()
        } else {
            String::new()
        };
        let depth = [0, 0, 1, 1, 2][self.dice.below(5) as usize];
        let query = self.query(None, depth, &[]);
        let (end, order) = self.end(&query);
        self.asked(format!("{with}{}{end}", query.text), order)
    }

    /// Values that ended up in no text are left out, and the others numbered without gaps.
    fn asked(&mut self, text: String, order: Order) -> Asked {
        let mut asked = Asked {
            text,
            values: Vec::new(),
            order,
        };
        for (n, value) in std::mem::take(&mut self.values).into_iter().enumerate() {
            let mark = format!("$[{n}]");
            if asked.text.contains(&mark) {
                asked.values.push(value);
                let number = format!("${}", asked.values.len());
                asked.text = asked.text.replace(&mark, &number);
            }
        }
        asked
    }

    fn alias(&mut self, prefix: &str) -> String {
        self.aliases += 1;
        format!("{prefix}{}", self.aliases)
    }

    /// One of them, or none when there are none.
    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let n = self.dice.below(from.len() as u64) as usize;
        from.get(n).cloned()
    }

    /// ORDER BY and LIMIT of a whole query, and what of the order they settle.
    fn end(&mut self, query: &Query) -> (String, Order) {
        match self.dice.below(10) {
            0..=2 => (String::new(), Order::None),
            3..=4 => self.partly_ordered(query),
            _ => match self.totally_ordered(query) {
                Some(order) => {
                    let limit = if self.dice.chance(55) {
                        self.limit()
                    } else {
                        String::new()
                    };
                    (format!("{order}{limit}"), Order::Total)
                }
                None => (String::new(), Order::None),
            },
        }
    }

    fn direction(&mut self) -> &'static str {
        self.dice.one(&[
            "",
            "",
            " DESC",
            " ASC",
            " NULLS FIRST",
            " NULLS LAST",
            " DESC NULLS LAST",
            " DESC NULLS FIRST",
        ])
    }

    fn partly_ordered(&mut self, query: &Query) -> (String, Order) {
        let sortable: Vec<usize> = (0..query.columns.len())
            .filter(|&n| query.columns[n].kind != Type::Other)
            .collect();
        let Some(first) = self.pick(&sortable) else {
            return (String::new(), Order::None);
        };
        let name = query.columns[first].name.clone();
        let name = self.pick(&[name, (first + 1).to_string()]);
        let text = format!(" ORDER BY {}{}", name.unwrap_or_default(), self.direction());
        (text, Order::By(vec![first]))
    }

    fn totally_ordered(&mut self, query: &Query) -> Option<String> {
        let mut keys = Vec::new();
        if let (Some(ties), true) = (&query.ties, self.dice.chance(50)) {
            if let (Some(hidden), true) = (self.pick(&query.hidden), self.dice.chance(60)) {
                keys.push(hidden);
            }
            keys.extend(ties.iter().cloned());
        } else {
            if query.columns.iter().any(|c| c.kind == Type::Other) {
                return None;
            }
            let ordinals = self.dice.chance(50);
            let turn = self.dice.below(query.columns.len() as u64) as usize;
            for n in 0..query.columns.len() {
                let n = (n + turn) % query.columns.len();
                keys.push(if ordinals {
                    (n + 1).to_string()
                } else {
                    query.columns[n].name.clone()
                });
            }
        }
        let keys: Vec<String> = keys
            .into_iter()
            .map(|key| format!("{key}{}", self.direction()))
            .collect();
        Some(format!(" ORDER BY {}", keys.join(", ")))
    }

    fn limit(&mut self) -> String {
        let (limit, offset) = (self.dice.below(12), self.dice.below(8));
        match self.dice.below(8) {
            0..=2 => format!(" LIMIT {limit}"),
            3 => format!(" LIMIT {limit} OFFSET {offset}"),
            4 => format!(" OFFSET {offset}"),
            5 => format!(" OFFSET {offset} ROWS FETCH NEXT {} ROWS ONLY", limit + 1),
            6 => {
                let limit = self.value(limit.to_string(), 20);
                format!(" LIMIT {limit}")
            }
            _ => format!(" LIMIT {limit} + 1 OFFSET {offset} / 2"),
        }
    }
}
