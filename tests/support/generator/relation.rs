//! What stands in FROM: tables, views, subqueries, CTEs, VALUES, functions, and joins of every kind between them.

use super::{Column, Generator, Relation, Type};

use Type::{Big, Bool, Date, Float, Int, Numeric, Text, Timestamp, Timestamptz, Uuid};

/// Name, columns, the columns that are unique, the tenant's column.
type Known = (
    &'static str,
    &'static [(&'static str, Type)],
    &'static [&'static str],
    Option<&'static str>,
);

const KNOWN: [Known; 12] = [
    (
        "tenants",
        &[
            ("id", Big),
            ("name", Text),
            ("opened", Date),
            ("budget", Numeric),
            ("active", Bool),
            ("country", Text),
        ],
        &["id"],
        Some("id"),
    ),
    (
        "members",
        &[
            ("tenant_id", Big),
            ("id", Int),
            ("name", Text),
            ("joined", Timestamptz),
            ("seen", Timestamp),
            ("score", Float),
            ("level", Int),
            ("boss", Int),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
    (
        "projects",
        &[
            ("tenant_id", Big),
            ("code", Text),
            ("title", Text),
            ("budget", Numeric),
            ("starts", Date),
            ("lead", Int),
            ("open", Bool),
        ],
        &["tenant_id", "code"],
        Some("tenant_id"),
    ),
    (
        "tasks",
        &[
            ("tenant_id", Big),
            ("id", Big),
            ("project", Text),
            ("member", Int),
            ("title", Text),
            ("done", Bool),
            ("due", Date),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
    (
        "invoices",
        &[
            ("tenant_id", Big),
            ("id", Int),
            ("amount", Numeric),
            ("issued", Date),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
    (
        "events",
        &[
            ("tenant_id", Big),
            ("id", Big),
            ("kind", Text),
            ("at", Timestamptz),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
    (
        "devices",
        &[
            ("id", Uuid),
            ("tenant_id", Big),
            ("label", Text),
            ("weight", Float),
            ("seen", Timestamptz),
            ("slot", Int),
        ],
        &["id"],
        Some("tenant_id"),
    ),
    (
        "countries",
        &[("name", Text), ("area", Float), ("continent", Text)],
        &["code"],
        None,
    ),
    (
        "notes",
        &[
            ("id", Int),
            ("tenant_id", Big),
            ("body", Text),
            ("rating", Numeric),
            ("written", Date),
        ],
        &["id"],
        Some("tenant_id"),
    ),
    (
        "open_tasks",
        &[
            ("tenant_id", Big),
            ("id", Big),
            ("title", Text),
            ("member", Int),
            ("due", Date),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
    (
        "task_totals",
        &[("tenant_id", Big), ("n", Big), ("latest", Date)],
        &["tenant_id"],
        Some("tenant_id"),
    ),
    (
        "people",
        &[
            ("tenant_id", Big),
            ("tenant", Text),
            ("id", Int),
            ("name", Text),
            ("level", Int),
        ],
        &["tenant_id", "id"],
        Some("tenant_id"),
    ),
];

impl Generator {
    pub(super) fn table(&mut self) -> (String, Relation) {
        // tables of one tenant are joined most
        let n = match self.dice.below(10) {
            0..=6 => self.dice.below(6),
            _ => self.dice.below(KNOWN.len() as u64),
        };
        let (name, columns, unique, tenant) = KNOWN[n as usize];
        let alias = self.alias("t");
        let column = |(name, kind): &(&str, Type)| Column {
            name: (*name).to_owned(),
            kind: *kind,
        };
        let text = match self.dice.below(12) {
            0 => format!("public.{name} AS {alias}"),
            _ => format!("{name} {alias}"),
        };
        let relation = Relation {
            columns: columns.iter().map(column).collect(),
            unique: unique.iter().map(|u| (*u).to_owned()).collect(),
            tenant: tenant.map(str::to_owned),
            alias,
        };
        (text, relation)
    }

    fn relation(&mut self, depth: u32, outer: &[Relation]) -> (String, Relation) {
        if let (Some(cte), true) = (self.pick(&self.ctes.clone()), self.dice.chance(55)) {
            let alias = self.alias("c");
            let text = format!("{} {alias}", cte.alias);
            return (text, Relation { alias, ..cte });
        }
        match self.dice.below(16) {
            0..=2 if depth > 0 => self.derived(depth - 1, outer),
            3 => self.listed(),
            _ => self.table(),
        }
    }

    /// A subquery, with a LIMIT where its order is total.
    fn derived(&mut self, depth: u32, outer: &[Relation]) -> (String, Relation) {
        let query = self.query(None, depth, outer);
        let mut end = String::new();
        if self.dice.chance(20) {
            end = self.totally_ordered(&query).unwrap_or_default();
            if !end.is_empty() {
                end += &self.limit();
            }
        }
        let alias = self.alias("d");
        let text = format!("( {}{end} ) {alias}", query.text);
        let relation = Relation {
            alias,
            columns: query.columns,
            unique: Vec::new(),
            tenant: query.tenant,
        };
        (text, relation)
    }

    fn listed(&mut self) -> (String, Relation) {
        let alias = self.alias("v");
        let int = |name: &str| Column {
            name: name.to_owned(),
            kind: Int,
        };
        let (text, columns) = if self.dice.chance(50) {
            let to = 2 + self.dice.below(5);
            (
                format!("generate_series(1, {to}) {alias}(n)"),
                vec![int("n")],
            )
        } else {
            let text = format!("(VALUES (1, 'a'), (2, 'Zoo'), (3, NULL)) {alias}(n, w)");
            let word = Column {
                name: "w".to_owned(),
                kind: Text,
            };
            (text, vec![int("n"), word])
        };
        let relation = Relation {
            alias,
            columns,
            unique: vec!["n".to_owned()],
            tenant: None,
        };
        (text, relation)
    }

    /// A FROM list and what it brings into sight.
    pub(super) fn from(&mut self, depth: u32, outer: &[Relation]) -> (String, Vec<Relation>) {
        let (mut text, first) = self.relation(depth, &[]);
        let mut seen = vec![first];
        // what an ON after a comma may not name
        let mut apart = 0;
        while seen.len() < 3 && self.dice.chance(45) {
            let (relation, right) = self.relation(depth, &[]);
            let kind = self.dice.below(14);
            if kind == 0 {
                text = format!("{text}, {relation}");
                apart = seen.len();
                seen.push(right);
                continue;
            }
            if kind == 1 && depth > 0 {
                let mut visible = seen.clone();
                visible.extend_from_slice(outer);
                let (lateral, right) = self.derived(depth - 1, &visible);
                let join = self.dice.one(&["JOIN", "LEFT JOIN"]);
                text = format!("{text} {join} LATERAL {lateral} ON true");
                seen.push(right);
                continue;
            }
            let join = self.dice.one(&[
                "JOIN",
                "JOIN",
                "JOIN",
                "INNER JOIN",
                "LEFT JOIN",
                "LEFT JOIN",
                "LEFT OUTER JOIN",
                "RIGHT JOIN",
                "FULL JOIN",
            ]);
            let on = self.on(&seen[apart..], &right, join == "FULL JOIN", depth);
            text = format!("{text} {join} {relation} {on}");
            seen.push(right);
        }
        (text, seen)
    }

    fn on(&mut self, left: &[Relation], right: &Relation, full: bool, depth: u32) -> String {
        let near = left.last().expect("something on the left");
        if let (Some(a), Some(b)) = (&near.tenant, &right.tenant) {
            // USING needs the column once on the left
            let once = left.iter().filter(|r| has(r, a)).count() == 1;
            if a == b && once && self.dice.chance(15) {
                return format!("USING ({a})");
            }
        }
        let mut on = self.equality(near, right);
        if full {
            return format!("ON {on}");
        }
        if self.dice.chance(30) {
            let mut visible = left.to_vec();
            visible.push(right.clone());
            let more = self.condition(&visible, depth.min(1));
            on = format!("{on} AND {more}");
        }
        format!("ON {on}")
    }

    /// Mostly by tenant; else any two columns of types that compare.
    fn equality(&mut self, left: &Relation, right: &Relation) -> String {
        if let (Some(a), Some(b)) = (&left.tenant, &right.tenant)
            && self.dice.chance(75)
        {
            let equal = format!("{}.{a} = {}.{b}", left.alias, right.alias);
            let shared = |name: &&str| number(left, name) && number(right, name);
            let second = ["id", "member"].into_iter().find(shared);
            return match second {
                Some(name) if name != a && self.dice.chance(25) => {
                    format!("{equal} AND {}.{name} = {}.{name}", left.alias, right.alias)
                }
                _ if self.dice.chance(20) => {
                    format!("{}.{b} = {}.{a}", right.alias, left.alias)
                }
                _ => equal,
            };
        }
        let mut pairs = Vec::new();
        for a in &left.columns {
            for b in &right.columns {
                let numbers = matches!(a.kind, Int | Big) && matches!(b.kind, Int | Big);
                if (a.kind == b.kind && a.kind != Type::Other && a.kind != Bool) || numbers {
                    pairs.push(format!(
                        "{}.{} = {}.{}",
                        left.alias, a.name, right.alias, b.name
                    ));
                }
            }
        }
        self.pick(&pairs).unwrap_or_else(|| "true".to_owned())
    }
}

fn has(relation: &Relation, name: &str) -> bool {
    relation.columns.iter().any(|c| c.name == name)
}

fn number(relation: &Relation, name: &str) -> bool {
    let columns = &mut relation.columns.iter();
    columns.any(|c| c.name == name && matches!(c.kind, Int | Big))
}
