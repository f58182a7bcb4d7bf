//! Expressions of a wanted type over what is in sight, values, and conditions. None can fail: nothing is divided by, casts always
//! fit, numbers stay small.

use super::super::oracle::Value;
use super::super::shop::TENANTS;
use super::{Generator, Relation, Type};

use Type::{Big, Bool, Date, Float, Int, Numeric, Other, Text, Timestamp, Timestamptz, Uuid};

pub(super) const ALL: [Type; 10] = [
    Int,
    Big,
    Numeric,
    Float,
    Text,
    Bool,
    Date,
    Timestamp,
    Timestamptz,
    Uuid,
];

const WORDS: [&str; 9] = [
    "apple", "Apple", "äpfel", "zebra", "Zoo", "_under", "", "coop", "a",
];

impl Generator {
    /// A literal, or a parameter that stands for it.
    pub(super) fn value(&mut self, text: String, oid: u32) -> String {
        let quoted = !matches!(oid, 20 | 23);
        let literal = if quoted {
            format!("'{text}'")
        } else {
            text.clone()
        };
        if self.dice.chance(50) {
            return literal;
        }
        self.values.push(Value {
            literal,
            text: Some(text),
            // in a declared type or in one that the server finds
            oid: if self.dice.chance(50) { oid } else { 0 },
        });
        format!("$[{}]", self.values.len() - 1)
    }

    fn constant_text(&mut self, kind: Type) -> (String, u32) {
        let n = self.dice.below(6);
        match kind {
            Int => (n.to_string(), 23),
            Big => ((1 + self.dice.below(TENANTS)).to_string(), 20),
            Numeric => (format!("{}.{:02}", n * 30, 25 * (n % 4)), 1700),
            Float => (format!("{}", n as f64 * 50.0 - 99.5), 701),
            Text | Other => (self.dice.one(&WORDS).to_owned(), 25),
            Bool => (self.dice.one(&["true", "false"]).to_owned(), 16),
            Date => (format!("2024-0{}-1{n}", 1 + n % 3), 1082),
            Timestamp => (format!("2024-03-0{} 12:00:00", 1 + n), 1114),
            Timestamptz => (format!("2024-03-0{} 12:00:00+00", 1 + n), 1184),
            Uuid => (
                format!("00000000-0000-4000-8000-{:012}", self.dice.below(26)),
                2950,
            ),
        }
    }

    /// For comparisons, where the other side gives the type.
    fn bare(&mut self, kind: Type) -> String {
        let (text, oid) = self.constant_text(kind);
        match kind {
            // a quoted date is read as the other side's type; so is a parameter without a type
            Date | Timestamp | Timestamptz | Uuid | Text => {
                let value = self.value(text, oid);
                if value.starts_with("$[") && self.dice.chance(30) {
                    format!("{value}::{}", name(kind))
                } else {
                    value
                }
            }
            _ => self.constant_of(&text, oid, kind),
        }
    }

    pub(super) fn constant(&mut self, kind: Type) -> String {
        let (text, oid) = self.constant_text(kind);
        self.constant_of(&text, oid, kind)
    }

    fn constant_of(&mut self, text: &str, oid: u32, kind: Type) -> String {
        let value = self.value(text.to_owned(), oid);
        format!("{value}::{}", name(kind))
    }

    pub(super) fn columns_of(&self, sight: &[Relation], kind: Type) -> Vec<String> {
        let columns = sight.iter().flat_map(|relation| {
            let named = |c: &super::Column| format!("{}.{}", relation.alias, c.name);
            relation
                .columns
                .iter()
                .filter(move |c| c.kind == kind)
                .map(named)
        });
        columns.collect()
    }

    pub(super) fn column(&mut self, sight: &[Relation], kind: Type) -> String {
        let columns = self.columns_of(sight, kind);
        match self.pick(&columns) {
            Some(column) => column,
            None => self.constant(kind),
        }
    }

    /// A type of which there is a column, so that something varies.
    pub(super) fn kind(&mut self, sight: &[Relation]) -> Type {
        let here: Vec<Type> = sight
            .iter()
            .flat_map(|r| r.columns.iter().map(|c| c.kind))
            .filter(|k| *k != Other)
            .collect();
        self.pick(&here).unwrap_or(Int)
    }

    pub(super) fn expression(&mut self, sight: &[Relation], kind: Type, depth: u32) -> String {
        if depth == 0 || self.dice.chance(45) {
            return self.column(sight, kind);
        }
        let depth = depth - 1;
        match self.dice.below(12) {
            0 => {
                let (a, b) = (self.expression(sight, kind, depth), self.constant(kind));
                format!("coalesce({a}, {b})")
            }
            1 => {
                let condition = self.condition(sight, depth);
                let (a, b) = (
                    self.expression(sight, kind, depth),
                    self.expression(sight, kind, depth),
                );
                let other = self.pick(&[format!(" ELSE {b}"), String::new()]);
                format!(
                    "CASE WHEN {condition} THEN {a}{} END",
                    other.unwrap_or_default()
                )
            }
            2 => {
                let (a, b) = (self.expression(sight, kind, depth), self.constant(kind));
                format!("nullif({a}, {b})")
            }
            3 if kind != Bool && kind != Uuid => {
                let (a, b) = (self.column(sight, kind), self.column(sight, kind));
                let name = self.dice.one(&["greatest", "least"]);
                format!("{name}({a}, {b})")
            }
            4 if depth > 0 => self.scalar(sight, kind),
            _ => self.own(sight, kind, depth),
        }
    }

    /// What only this type has.
    fn own(&mut self, sight: &[Relation], kind: Type, depth: u32) -> String {
        let n = self.dice.below(9);
        let a = self.expression(sight, kind, depth);
        match kind {
            Int => match n {
                0 => format!("({a} + {})", self.bare(Int)),
                1 => format!("({a} - {})", self.column(sight, Int)),
                2 => format!("length({})", self.column(sight, Text)),
                3 => format!("abs({a})"),
                4 => format!("({a} % 3)"),
                5 => format!("cardinality(ARRAY[{a}, {}])", self.column(sight, Int)),
                6 => format!("(ARRAY[{a}, {}])[2]", self.column(sight, Int)),
                7 => format!("jsonb_array_length(jsonb_build_array({a}, 1))"),
                _ => format!("extract(month FROM {})::int", self.column(sight, Date)),
            },
            Big => match n {
                0 => format!("({a} + {})", self.column(sight, Int)),
                1 => format!("({a} % 5)"),
                2 => format!("{}::bigint", self.expression(sight, Int, depth)),
                3 => {
                    let (from, to) = (self.column(sight, Date), self.column(sight, Date));
                    format!("({from} - {to})::bigint")
                }
                4 => {
                    let (from, to) = (self.column(sight, Timestamp), self.constant(Timestamp));
                    format!("extract(day FROM ({from} - {to}))::bigint")
                }
                _ => format!("(- {a})"),
            },
            Numeric => match n {
                0 => format!("({a} * 2)"),
                1 => format!("({a} + 1.25)"),
                2 => format!("round({a} / 4, 2)"),
                _ => format!("({a} - {})", self.column(sight, Numeric)),
            },
            Float => match n {
                0 => format!("({a} / 2)"),
                1 => format!("({a} + 0.5)"),
                _ => format!("({}::float8 + 1)", self.column(sight, Int)),
            },
            Text => match n {
                0 => format!("({a} || {})", self.column(sight, Text)),
                1 => format!("upper({a})"),
                2 => format!("left({a}, 2)"),
                3 => format!("({}::text)", self.column(sight, Int)),
                4 => format!("concat({a}, '-', {})", self.column(sight, Big)),
                5 => format!("(jsonb_build_object('k', {a}) ->> 'k')"),
                6 => format!(
                    "array_to_string(ARRAY[{a}, {}], '/')",
                    self.column(sight, Text)
                ),
                7 => format!("({a} COLLATE \"C\")"),
                _ => format!("replace({a}, 'o', '0')"),
            },
            Bool => format!("({})", self.condition(sight, depth)),
            Date => format!("({a} + {})", self.bare(Int)),
            Timestamp => match n {
                0 => format!("date_trunc('day', {a})"),
                1 => format!(
                    "({a} + make_interval(hours => {}))",
                    self.column(sight, Int)
                ),
                2 => format!(
                    "({a} + ({} - {}))",
                    self.column(sight, Timestamp),
                    self.constant(Timestamp)
                ),
                _ => format!("({a} + interval '36 hours')"),
            },
            Timestamptz => match n {
                0 => format!("date_trunc('hour', {a}, 'UTC')"),
                _ => format!("({a} - interval '90 minutes')"),
            },
            Uuid | Other => a,
        }
    }

    /// A subquery with one value: an aggregate, often of the row's own tenant.
    fn scalar(&mut self, sight: &[Relation], kind: Type) -> String {
        let (from, inner) = self.from(0, &[]);
        let correlation = self.correlation(&inner, sight);
        let argument = self.column(&inner, kind);
        let text = match kind {
            Bool => format!("bool_or({argument})"),
            Uuid => format!("(min({argument}::text))::uuid"),
            Int if self.dice.chance(50) => "count(*)::int".to_owned(),
            Big if self.dice.chance(50) => {
                let of = self.column(&inner, Int);
                format!("sum({of})")
            }
            Numeric | Float if self.dice.chance(50) => format!("sum({argument})"),
            _ => format!("{}({argument})", self.dice.one(&["min", "max"])),
        };
        format!("( SELECT {text} FROM {from} WHERE {correlation} )")
    }

    /// Ties a subquery to what is around it, or does not.
    pub(super) fn correlation(&mut self, inner: &[Relation], outer: &[Relation]) -> String {
        let keys = |relations: &[Relation]| -> Vec<String> {
            let key = |r: &Relation| Some(format!("{}.{}", r.alias, r.tenant.as_ref()?));
            relations.iter().filter_map(key).collect()
        };
        let (a, b) = (self.pick(&keys(inner)), self.pick(&keys(outer)));
        match (a, b) {
            (Some(a), Some(b)) if self.dice.chance(65) => {
                let more = if self.dice.chance(40) {
                    format!(" AND {}", self.condition(inner, 0))
                } else {
                    String::new()
                };
                format!("{a} = {b}{more}")
            }
            _ => {
                let mut visible = inner.to_vec();
                if self.dice.chance(30) {
                    visible.extend_from_slice(outer);
                }
                self.condition(&visible, 0)
            }
        }
    }

    pub(super) fn condition(&mut self, sight: &[Relation], depth: u32) -> String {
        if depth > 0 {
            match self.dice.below(12) {
                0 => {
                    let (a, b) = (
                        self.condition(sight, depth - 1),
                        self.condition(sight, depth - 1),
                    );
                    return format!("({a} OR {b})");
                }
                1 => {
                    let (a, b) = (
                        self.condition(sight, depth - 1),
                        self.condition(sight, depth - 1),
                    );
                    return format!("{a} AND {b}");
                }
                2 => return format!("NOT ({})", self.condition(sight, depth - 1)),
                3..=5 => return self.nested(sight, depth - 1),
                _ => {}
            }
        }
        if self.dice.chance(25) {
            return self.about_tenant(sight);
        }
        self.comparison(sight, depth)
    }

    fn about_tenant(&mut self, sight: &[Relation]) -> String {
        let keys: Vec<String> = sight
            .iter()
            .filter_map(|r| Some(format!("{}.{}", r.alias, r.tenant.as_ref()?)))
            .collect();
        let Some(key) = self.pick(&keys) else {
            return self.comparison(sight, 0);
        };
        let (a, b) = (self.bare(Big), self.bare(Big));
        match self.dice.below(13) {
            0..=2 => format!("{key} = {a}"),
            3 => format!("{key} IN ({a}, {b})"),
            4 => {
                let (low, high) = (self.dice.below(TENANTS), self.dice.below(TENANTS));
                let array = self.value(format!("{{{low},{high}}}"), 1016);
                format!("{key} = ANY ({array})")
            }
            5 => format!("({key} = {a} OR {key} = {b})"),
            6 => format!("{key} BETWEEN {a} AND {b}"),
            9 => format!("{key} BETWEEN SYMMETRIC {a} AND {b}"),
            10 => format!("{key} IS NOT DISTINCT FROM {a}"),
            11..=12 => self.of_a_group(&key),
            7 => format!("{key} > {a}"),
            _ => format!("{key} <> {a}"),
        }
    }

    /// One of those whose rows together are so.
    fn of_a_group(&mut self, key: &str) -> String {
        let (from, relation) = self.table();
        let Some(tenant) = &relation.tenant else {
            return format!("{key} IS NOT NULL");
        };
        let (tenant, sight) = (format!("{}.{tenant}", relation.alias), [relation.clone()]);
        let not = self.dice.one(&["", "", "", "NOT "]);
        let filter = match self.dice.below(3) {
            0 => format!(" WHERE {}", self.comparison(&sight, 0)),
            _ => String::new(),
        };
        let more = match self.dice.below(4) {
            0 => {
                let kind = self.kind(&sight);
                format!(", {}", self.column(&sight, kind))
            }
            _ => String::new(),
        };
        let kind = [Int, Numeric, Date, Big][self.dice.below(4) as usize];
        let column = self.column(&sight, kind);
        let (call, kind) = match self.dice.below(4) {
            0 => ("count(*)".to_owned(), Big),
            1 => (format!("count({column})"), Big),
            2 if matches!(kind, Int | Numeric) => (format!("avg({column})"), Numeric),
            2 => (format!("min({column})"), kind),
            _ => (format!("max({column})"), kind),
        };
        let operator = self.dice.one(&[">", "<=", "<>", ">="]);
        let than = self.constant(kind);
        format!(
            "{key} {not}IN ( SELECT {tenant} FROM {from}{filter} GROUP BY {tenant}{more} HAVING {call} {operator} {than} )"
        )
    }

    fn comparison(&mut self, sight: &[Relation], depth: u32) -> String {
        let kind = self.kind(sight);
        let a = self.expression(sight, kind, depth.min(1));
        if matches!(kind, Date | Timestamptz) && self.dice.chance(20) {
            return self.before_now(&a);
        }
        match self.dice.below(18) {
            0 => format!("{a} IS NULL"),
            1 => format!("{a} IS NOT NULL"),
            2 if kind == Bool => a,
            3 if kind == Text => format!("{a} LIKE '%o%'"),
            13 if kind == Text => {
                format!("{a} {} 'a%'", self.dice.one(&["LIKE", "NOT LIKE", "ILIKE"]))
            }
            13 if kind == Bool => format!(
                "{a} IS {}",
                self.dice.one(&["TRUE", "NOT FALSE", "UNKNOWN"])
            ),
            14 => format!("{a} IS NOT DISTINCT FROM {}", self.constant(kind)),
            15 if kind != Bool => format!(
                "{a} {}BETWEEN SYMMETRIC {} AND {}",
                self.dice.one(&["", "NOT "]),
                self.constant(kind),
                self.constant(kind)
            ),
            16 => {
                let (b, c) = (self.column(sight, Int), self.constant(kind));
                format!("({a}, {b}) IN (({c}, 1), ({}, 3))", self.constant(kind))
            }
            4 => format!("{a} IS DISTINCT FROM {}", self.constant(kind)),
            5 => format!("{a} IN ({}, {})", self.constant(kind), self.constant(kind)),
            6 => format!(
                "{a} NOT IN ({}, {})",
                self.constant(kind),
                self.constant(kind)
            ),
            7 if kind != Bool => format!(
                "{a} BETWEEN {} AND {}",
                self.constant(kind),
                self.constant(kind)
            ),
            8 => {
                let operator = self.dice.one(&["=", "<>", "<", ">="]);
                format!("{a} {operator} {}", self.column(sight, kind))
            }
            _ => {
                let operator = self.dice.one(&["=", "<>", "<", "<=", ">", ">="]);
                format!("{a} {operator} {}", self.bare(kind))
            }
        }
    }

    /// EXISTS, IN, comparisons with a subquery's value or values.
    /// All times that there are have been long ago.
    fn before_now(&mut self, a: &str) -> String {
        let clock = self.dice.one(&[
            "now()",
            "current_date",
            "current_timestamp",
            "localtimestamp",
            "(now() - interval '1 month')",
            "transaction_timestamp()",
            "date_trunc('day', now())",
            "'today'::date",
            "timestamptz 'now'",
        ]);
        match self.dice.below(4) {
            0 => format!("{clock} < {a}"),
            1 => format!("{a} BETWEEN '1999-09-09' AND {clock}"),
            _ => format!("{a} < {clock}"),
        }
    }

    fn nested(&mut self, sight: &[Relation], depth: u32) -> String {
        let not = self.dice.one(&["", "NOT "]);
        match self.dice.below(6) {
            0..=1 => {
                let (from, inner) = self.from(depth, sight);
                let correlation = self.correlation(&inner, sight);
                format!("{not}EXISTS ( SELECT 1 FROM {from} WHERE {correlation} )")
            }
            2..=3 => {
                let kind = if self.dice.chance(60) {
                    Big
                } else {
                    self.kind(sight)
                };
                let a = self.column(sight, kind);
                let query = self.query(Some(&[kind]), 0, &[]);
                format!("{a} {not}IN ( {} )", query.text)
            }
            4 => {
                let kind = self.kind(sight);
                let a = self.column(sight, kind);
                let operator = self.dice.one(&["=", "<", ">="]);
                format!("{a} {operator} {}", self.scalar(sight, kind))
            }
            _ => {
                let kind = self.kind(sight);
                let a = self.column(sight, kind);
                let query = self.query(Some(&[kind]), 0, &[]);
                let operator = self.dice.one(&["= ANY", "<> ALL", ">= ALL", "< SOME"]);
                format!("{a} {operator} ( {} )", query.text)
            }
        }
    }
}

pub(super) fn name(kind: Type) -> &'static str {
    match kind {
        Int => "int",
        Big => "bigint",
        Numeric => "numeric(12,2)",
        Float => "float8",
        Text | Other => "text",
        Bool => "bool",
        Date => "date",
        Timestamp => "timestamp",
        Timestamptz => "timestamptz",
        Uuid => "uuid",
    }
}
