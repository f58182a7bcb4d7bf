//! Whole queries: plain ones, DISTINCT, groups, windows, set operations, and the WITH before them.

use super::expression::{ALL, name};
use super::{Column, Generator, Query, Relation, Type};

use Type::{Big, Bool, Float, Int, Numeric, Other, Text, Uuid};

impl Generator {
    /// With columns of these types, or of any.
    pub(super) fn query(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        match self.dice.below(20) {
            0..=7 => self.plain(want, depth, outer),
            8..=12 => self.grouped(want, depth, outer),
            13..=14 => self.aggregated(want, depth, outer),
            15..=16 => self.windowed(want, depth, outer),
            17..=18 => self.set_operation(want, depth, outer),
            _ => self.distinct_on(want, depth, outer),
        }
    }

    fn types(&mut self, want: Option<&[Type]>, sight: &[Relation]) -> Vec<Type> {
        match want {
            Some(types) => types.to_vec(),
            None => (0..=self.dice.below(4)).map(|_| self.kind(sight)).collect(),
        }
    }

    fn selected(&mut self, list: &[(String, Type)]) -> (String, Vec<Column>) {
        let mut texts = Vec::new();
        let mut columns = Vec::new();
        for (expression, kind) in list {
            let name = self.alias("o");
            texts.push(format!("{expression} AS {name}"));
            columns.push(Column { name, kind: *kind });
        }
        (texts.join(", "), columns)
    }

    fn filter(&mut self, sight: &[Relation], outer: &[Relation], depth: u32) -> String {
        let mut text = String::new();
        if self.dice.chance(60) {
            text = format!(" WHERE {}", self.condition(sight, depth.min(2)));
            if !outer.is_empty() && self.dice.chance(60) {
                text = format!("{text} AND {}", self.correlation(sight, outer));
            } else if self.dice.chance(30) {
                text = format!("{text} AND {}", self.condition(sight, depth.min(1)));
            }
        }
        text
    }

    fn plain(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let (from, sight) = self.from(depth, outer);
        let types = self.types(want, &sight);
        let mut list: Vec<(String, Type)> = types
            .into_iter()
            .map(|kind| (self.expression(&sight, kind, depth), kind))
            .collect();
        let tenant = self.tenant_of(&sight, &mut list, want.is_none());
        let (selected, columns) = self.selected(&list);
        let filter = self.filter(&sight, outer, depth);
        let distinct = self.dice.chance(20);
        let keep = if distinct { "DISTINCT " } else { "" };
        let hidden = if distinct {
            Vec::new()
        } else {
            let kind = self.kind(&sight);
            vec![self.expression(&sight, kind, 1)]
        };
        Query {
            text: format!("SELECT {keep}{selected} FROM {from}{filter}"),
            hidden,
            ties: if distinct { None } else { ties(&sight) },
            tenant: tenant.map(|n| columns[n].name.clone()),
            columns,
        }
    }

    /// Puts the tenant's column into the list, half of the time.
    fn tenant_of(
        &mut self,
        sight: &[Relation],
        list: &mut Vec<(String, Type)>,
        free: bool,
    ) -> Option<usize> {
        let keys: Vec<String> = sight
            .iter()
            .filter_map(|r| Some(format!("{}.{}", r.alias, r.tenant.as_ref()?)))
            .collect();
        let key = self.pick(&keys)?;
        if !free || self.dice.chance(50) {
            return None;
        }
        list.push((key, Big));
        Some(list.len() - 1)
    }

    fn aggregate(&mut self, sight: &[Relation], kind: Type, nested: bool) -> (String, Type) {
        let filter = if self.dice.chance(20) {
            format!(" FILTER (WHERE {})", self.condition(sight, 0))
        } else {
            String::new()
        };
        let (call, kind) = self.call(sight, kind, nested);
        (call.replace('~', &filter), kind)
    }

    /// `~` is where FILTER goes.
    fn call(&mut self, sight: &[Relation], kind: Type, only: bool) -> (String, Type) {
        let n = self.dice.below(8);
        let a = self.expression(sight, kind, 1);
        let call = match kind {
            Int => match n {
                0 => "count(*)~::int".to_owned(),
                1 => format!("bit_or({a})~"),
                2 => {
                    let any = self.kind(sight);
                    let any = self.column(sight, any);
                    format!("count(DISTINCT {any})~::int")
                }
                3 => format!("percentile_disc(0.5) WITHIN GROUP (ORDER BY {a})~"),
                _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
            },
            Big => match n {
                0..=1 => "count(*)~".to_owned(),
                2 => {
                    let int = self.column(sight, Int);
                    format!("sum({int})~")
                }
                3 => {
                    let any = self.kind(sight);
                    let any = self.expression(sight, any, 1);
                    format!("count(DISTINCT {any})~")
                }
                4 => {
                    let any = self.kind(sight);
                    let any = self.column(sight, any);
                    format!("count({any})~")
                }
                5 => format!("sum({a})~::bigint"),
                _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
            },
            Numeric => match n {
                0..=1 => format!("sum({a})~"),
                2 => format!("round(avg({a})~, 2)"),
                3 => format!("sum(DISTINCT {a})~"),
                4 => format!("coalesce(sum({a})~, 0.00)"),
                _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
            },
            Float => match n {
                0..=1 => format!("sum({a})~"),
                2 => format!("percentile_cont(0.5) WITHIN GROUP (ORDER BY {a})~"),
                _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
            },
            Text => match n {
                0 => format!("string_agg({a}, ',' ORDER BY {a})~"),
                1 => format!("string_agg(DISTINCT {a}, '+')~"),
                _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
            },
            Bool => format!("{}({a})~", self.dice.one(&["bool_and", "bool_or", "every"])),
            Uuid => format!("(max({a}::text)~)::uuid"),
            _ => format!("{}({a})~", self.dice.one(&["min", "max"])),
        };
        if only || self.dice.chance(80) {
            return (call, kind);
        }
        let looked_at = match (kind, n) {
            (Int | Big | Numeric, 0..=1) => format!("avg({a})~"),
            (Int | Big | Numeric, 2) => format!("stddev_samp({a})~"),
            (Int | Big, 3) => format!("sum({a})~ / nullif(count({a})~, 0)"),
            (Float, 0..=1) => format!("avg({a})~"),
            (_, 4) => format!("json_agg({a} ORDER BY {a})~"),
            (_, 5) => format!("array_agg(DISTINCT {a})~"),
            (_, 6) => format!("jsonb_agg({a} ORDER BY {a} DESC NULLS LAST)~"),
            _ => format!("array_agg({a} ORDER BY {a} NULLS FIRST)~"),
        };
        (looked_at, Other)
    }

    fn aggregated(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let (from, sight) = self.from(depth, outer);
        let list: Vec<(String, Type)> = self
            .types(want, &sight)
            .into_iter()
            .map(|kind| self.aggregate(&sight, kind, want.is_some()))
            .collect();
        let (selected, columns) = self.selected(&list);
        let filter = self.filter(&sight, outer, depth);
        let having = if self.dice.chance(15) {
            format!(" HAVING count(*) > {}", self.dice.below(4))
        } else {
            String::new()
        };
        Query {
            text: format!("SELECT {selected} FROM {from}{filter}{having}"),
            columns,
            hidden: Vec::new(),
            // one row at most
            ties: Some(vec!["count(*)".to_owned()]),
            tenant: None,
        }
    }

    fn grouped(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let (from, sight) = self.from(depth, outer);
        let mut keys: Vec<(String, Type)> = Vec::new();
        let tenant = self.tenant_of(&sight, &mut keys, true);
        for _ in 0..=self.dice.below(2) {
            let kind = self.kind(&sight);
            let key = if self.dice.chance(60) {
                self.column(&sight, kind)
            } else {
                // a column in it: GROUP BY a constant would be an ordinal, and a parameter is never equal to itself there
                self.simple(&sight, kind)
            };
            keys.push((key, kind));
        }
        keys.dedup_by(|a, b| a.0 == b.0);
        let list = self.grouped_list(want, &sight, &keys);
        let (selected, columns) = self.selected(&list);
        let filter = self.filter(&sight, outer, depth);
        let texts: Vec<String> = keys.iter().map(|(text, _)| text.clone()).collect();
        let sets = self.dice.chance(12);
        let group = if sets {
            self.sets(&texts)
        } else {
            texts.join(", ")
        };
        let having = if self.dice.chance(25) {
            let kind = ALL[self.dice.below(4) as usize];
            let (call, kind) = self.aggregate(&sight, kind, true);
            let than = self.constant(kind);
            format!(
                " HAVING {call} {} {than}",
                self.dice.one(&[">", "<=", "<>"])
            )
        } else {
            String::new()
        };
        let tenant = tenant.and_then(|n| list.iter().position(|(text, _)| *text == keys[n].0));
        Query {
            text: format!("SELECT {selected} FROM {from}{filter} GROUP BY {group}{having}"),
            hidden: vec!["count(*)".to_owned(), format!("min({})", texts[0])]
                .into_iter()
                .filter(|h| !h.starts_with("min") || !matches!(keys[0].1, Bool | Uuid))
                .collect(),
            ties: (!sets).then_some(texts),
            tenant: tenant.filter(|_| !sets).map(|n| columns[n].name.clone()),
            columns,
        }
    }

    /// An expression around a column without values in it, so that it can be written twice.
    fn simple(&mut self, sight: &[Relation], kind: Type) -> String {
        let column = self.column(sight, kind);
        match kind {
            Int | Big => format!("({column} % 3)"),
            Text => format!("upper({column})"),
            Numeric => format!("({column} * 2)"),
            Type::Timestamp => format!("date_trunc('day', {column})"),
            Bool => format!("({column} IS NULL)"),
            _ => column,
        }
    }

    fn grouped_list(
        &mut self,
        want: Option<&[Type]>,
        sight: &[Relation],
        keys: &[(String, Type)],
    ) -> Vec<(String, Type)> {
        if let Some(types) = want {
            let wanted = types.iter().map(|&kind| {
                let key = keys.iter().find(|(_, k)| *k == kind).cloned();
                key.filter(|_| self.dice.chance(50))
                    .unwrap_or_else(|| self.aggregate(sight, kind, true))
            });
            return wanted.collect();
        }
        let mut list: Vec<(String, Type)> = Vec::new();
        for key in keys {
            if self.dice.chance(80) {
                list.push(key.clone());
            }
        }
        for _ in 0..=self.dice.below(2) {
            let kind = self.kind(sight);
            list.push(self.aggregate(sight, kind, false));
        }
        list
    }

    fn sets(&mut self, keys: &[String]) -> String {
        let all = keys.join(", ");
        match self.dice.below(3) {
            0 => format!("ROLLUP ({all})"),
            1 => format!("CUBE ({all})"),
            _ => format!("GROUPING SETS (({all}), ({}), ())", keys[0]),
        }
    }

    fn windowed(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let (from, sight) = self.from(depth, outer);
        let types = self.types(want, &sight);
        let mut list: Vec<(String, Type)> = types
            .into_iter()
            .map(|kind| match kind {
                Int | Big | Numeric | Text | Float if self.dice.chance(60) => {
                    (self.over(&sight, kind), kind)
                }
                _ => (self.expression(&sight, kind, 1), kind),
            })
            .collect();
        if want.is_none() {
            list.push((self.over(&sight, Big), Big));
        }
        let (selected, columns) = self.selected(&list);
        let filter = self.filter(&sight, outer, depth);
        Query {
            text: format!("SELECT {selected} FROM {from}{filter}"),
            columns,
            hidden: Vec::new(),
            ties: ties(&sight),
            tenant: None,
        }
    }

    fn over(&mut self, sight: &[Relation], kind: Type) -> String {
        let partition = if self.dice.chance(60) {
            let kind = self.kind(sight);
            format!("PARTITION BY {} ", self.column(sight, kind))
        } else {
            String::new()
        };
        let a = self.column(sight, kind);
        let by = self.kind(sight);
        let by = format!("{}{}", self.column(sight, by), self.direction());
        let loose = format!("({partition}ORDER BY {by})");
        let Some(keys) = ties(sight).filter(|_| self.dice.chance(60)) else {
            // rows that tie get the same
            return match kind {
                Int => format!("rank() OVER {loose}::int"),
                Big => match self.dice.below(3) {
                    0 => format!("dense_rank() OVER {loose}"),
                    1 => format!("count(*) OVER {loose}"),
                    _ => format!("rank() OVER {loose}"),
                },
                Numeric | Float => format!("sum({a}) OVER {loose}"),
                _ => format!("max({a}) OVER {loose}"),
            };
        };
        let window = format!("({partition}ORDER BY {by}, {}", keys.join(", "));
        let frame = " ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING";
        match kind {
            Int => match self.dice.below(3) {
                0 => format!("row_number() OVER {window})::int"),
                1 => format!("ntile(3) OVER {window})"),
                _ => format!("lag({a}) OVER {window})"),
            },
            Big => format!("row_number() OVER {window})"),
            Numeric => format!("sum({a}) OVER {window}{frame})"),
            Float => format!("lead({a}) OVER {window})"),
            _ => format!("first_value({a}) OVER {window})"),
        }
    }

    fn set_operation(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let types: Vec<Type> = if let Some(types) = want {
            types.to_vec()
        } else {
            let mut types = vec![Big];
            for _ in 0..=self.dice.below(2) {
                types.push(ALL[self.dice.below(ALL.len() as u64) as usize]);
            }
            types
        };
        let first = self.plain(Some(&types), depth.min(1), outer);
        let mut text = format!("( {} )", cast(&first));
        for _ in 0..=self.dice.below(2) {
            let next = self.query(Some(&types), depth.saturating_sub(1), outer);
            let word = self.dice.one(&[
                "UNION",
                "UNION ALL",
                "UNION ALL",
                "INTERSECT",
                "EXCEPT",
                "EXCEPT ALL",
                "INTERSECT ALL",
            ]);
            text = format!("{text} {word} ( {} )", next.text);
        }
        Query {
            text,
            columns: first.columns,
            hidden: Vec::new(),
            ties: None,
            tenant: None,
        }
    }

    fn distinct_on(&mut self, want: Option<&[Type]>, depth: u32, outer: &[Relation]) -> Query {
        let (from, sight) = self.from(depth.min(1), outer);
        let Some(keys) = ties(&sight) else {
            return self.plain(want, depth, outer);
        };
        let kind = self.kind(&sight);
        let on = self.column(&sight, kind);
        let list: Vec<(String, Type)> = self
            .types(want, &sight)
            .into_iter()
            .map(|kind| (self.column(&sight, kind), kind))
            .collect();
        let (selected, columns) = self.selected(&list);
        let filter = self.filter(&sight, outer, depth);
        let name = self.alias("d");
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let inner = format!(
            "SELECT DISTINCT ON ({on}) {selected} FROM {from}{filter} ORDER BY {on}{}, {}",
            self.direction(),
            keys.join(", ")
        );
        Query {
            text: format!("SELECT {} FROM ( {inner} ) {name}", names.join(", ")),
            columns,
            hidden: Vec::new(),
            ties: None,
            tenant: None,
        }
    }

    pub(super) fn with(&mut self) -> String {
        let mut parts = Vec::new();
        let mut recursive = false;
        for _ in 0..=self.dice.below(2) {
            let name = self.alias("w");
            if self.dice.chance(20) {
                recursive = true;
                let (from, sight) = self.from(0, &[]);
                let start = self.column(&sight, Int);
                let step = 1 + self.dice.below(2);
                parts.push(format!(
                    "{name}(n) AS ( SELECT {start} FROM {from} UNION SELECT n + {step} FROM {name} WHERE n < 6 )"
                ));
                let n = Column {
                    name: "n".to_owned(),
                    kind: Int,
                };
                self.ctes.push(Relation {
                    alias: name,
                    columns: vec![n],
                    unique: vec!["n".to_owned()],
                    tenant: None,
                });
                continue;
            }
            let query = self.query(None, 1, &[]);
            let how = self
                .dice
                .one(&["AS", "AS", "AS MATERIALIZED", "AS NOT MATERIALIZED"]);
            parts.push(format!("{name} {how} ( {} )", query.text));
            self.ctes.push(Relation {
                alias: name,
                columns: query.columns,
                unique: Vec::new(),
                tenant: query.tenant,
            });
        }
        let word = if recursive { "WITH RECURSIVE" } else { "WITH" };
        format!("{word} {} ", parts.join(", "))
    }
}

/// A first branch decides the columns' types: literals must not leave them open.
fn cast(query: &Query) -> String {
    let columns: Vec<String> = query
        .columns
        .iter()
        .map(|c| format!("{}::{} AS {}", c.name, name(c.kind), c.name))
        .collect();
    format!("SELECT {} FROM ( {} ) s", columns.join(", "), query.text)
}

/// The unique columns of everything in sight, over which the order of the rows of a join is total.
fn ties(sight: &[Relation]) -> Option<Vec<String>> {
    let mut keys = Vec::new();
    for relation in sight {
        if relation.unique.is_empty() {
            return None;
        }
        keys.extend(
            relation
                .unique
                .iter()
                .map(|u| format!("{}.{u}", relation.alias)),
        );
    }
    Some(keys)
}
