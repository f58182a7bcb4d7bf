//! Random statements over users, posts (both by user), countries (everywhere) and notes (at home). Each is built around
//! something that decides where it goes: a key, a join, an aggregate, an order. Keys are parameters, so that one statement can
//! be asked with literals and with a Bind.

use super::town::Dice;

pub struct Statement {
    /// with `$1`, `$2`, …
    pub text: String,
    pub values: Vec<Option<String>>,
    literals: Vec<String>,
    /// its rows come in one order only
    pub ordered: bool,
}

impl Statement {
    /// With the values in the text.
    pub fn literal(&self) -> String {
        let mut text = self.text.clone();
        for (n, literal) in self.literals.iter().enumerate().rev() {
            text = text.replace(&format!("${}", n + 1), literal);
        }
        text
    }
}

pub struct Statements {
    dice: Dice,
    values: Vec<Option<String>>,
    literals: Vec<String>,
}

const KEYS: u64 = 48;

impl Statements {
    pub fn new(seed: u64) -> Self {
        Self {
            dice: Dice(seed),
            values: Vec::new(),
            literals: Vec::new(),
        }
    }

    pub fn next(&mut self) -> Statement {
        self.values.clear();
        self.literals.clear();
        let (text, ordered) = match self.dice.below(100) {
            0..=29 => self.rows(),
            30..=44 => self.aggregate(),
            45..=54 => self.nested(),
            55..=66 => (self.insert(), false),
            67..=76 => (self.update(), false),
            77..=83 => (self.delete(), false),
            84..=89 => (self.elsewhere(), false),
            _ => (self.mistake(), false),
        };
        self.statement(text, ordered)
    }

    /// Only values that the text uses, numbered without gaps.
    fn statement(&self, text: String, ordered: bool) -> Statement {
        let mut statement = Statement {
            text,
            ordered,
            values: Vec::new(),
            literals: Vec::new(),
        };
        for n in 1..=self.values.len() {
            let old = format!("${n}");
            let used = statement.text.match_indices(&old).any(|(at, _)| {
                !statement.text[at + old.len()..].starts_with(|c: char| c.is_ascii_digit())
            });
            if used {
                statement.values.push(self.values[n - 1].clone());
                statement.literals.push(self.literals[n - 1].clone());
                let new = format!("${}", statement.values.len());
                if new != old {
                    statement.text = statement.text.replace(&old, &new);
                }
            }
        }
        statement
    }

    // ---- values ----------------------------------------------------------------------------------

    fn parameter(&mut self, literal: String, value: Option<String>) -> String {
        self.literals.push(literal);
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn key(&mut self) -> String {
        let key = (1 + self.dice.below(KEYS)).to_string();
        self.parameter(key.clone(), Some(key))
    }

    fn few(&mut self) -> Vec<String> {
        (0..=self.dice.below(4)).map(|_| self.key()).collect()
    }

    fn array(&mut self) -> String {
        let keys: Vec<String> = (0..self.dice.below(4))
            .map(|_| (1 + self.dice.below(KEYS)).to_string())
            .collect();
        let text = format!("{{{}}}", keys.join(","));
        self.parameter(format!("'{text}'"), Some(text))
    }

    fn same_shard(&mut self) -> String {
        let key = 1 + self.dice.below(KEYS);
        self.parameter(key.to_string(), Some(key.to_string()))
    }

    // ---- predicates ------------------------------------------------------------------------------

    /// Something about a key column: often it names shards, sometimes it only looks so.
    fn about_key(&mut self, column: &str) -> String {
        if self.dice.chance(25) {
            return self.tricky(column);
        }
        match self.dice.below(24) {
            0..=7 => format!("{column} = {}", self.key()),
            8 => format!("{} = {column}", self.key()),
            9 => format!("{column} IN ({})", self.few().join(", ")),
            10 => format!("{column} = ANY ({})", self.array()),
            11 => format!(
                "{column} = ANY (ARRAY[{}]::bigint[])",
                self.few().join(", ")
            ),
            12 => format!("({column} = {} OR {column} = {})", self.key(), self.key()),
            13 => format!("{column} = {} AND {column} = {}", self.key(), self.key()),
            14 => format!("{column} = NULL"),
            15 => format!("{column} IS NULL"),
            16 => format!("{column} IS NOT DISTINCT FROM {}", self.key()),
            17 => format!("{column} BETWEEN 3 AND {}", self.key()),
            18 => format!("NOT ({column} = {})", self.key()),
            19 => format!("{column} = {}.0", 1 + self.dice.below(KEYS)),
            20 => format!("{column} = '{}'", 1 + self.dice.below(KEYS)),
            21 => format!("{column} = {} + 1", 1 + self.dice.below(KEYS)),
            22 => format!("{column} = (SELECT {}::bigint)", 1 + self.dice.below(KEYS)),
            _ => format!("{column} = {}::int", 1 + self.dice.below(KEYS)),
        }
    }

    /// Ways to write a key, or something that is none, that are easily misread.
    fn tricky(&mut self, column: &str) -> String {
        let (a, b) = (1 + self.dice.below(KEYS), 1 + self.dice.below(KEYS));
        match self.dice.below(44) {
            0 => format!("{column} = bigint '{a}'"),
            1 => format!("{column} = int8'{a}'"),
            2 => format!("{column} = {a}e0"),
            3 => format!("{column} = '{a}'::text::bigint"),
            4 => format!("{column} IN ({a}, {b}.0)"),
            5 => format!("{column} = - (-{a})"),
            6 => format!("{column} = - -{a}"),
            7 => format!("({column}, 1) = ({a}, 1)"),
            8 => format!("({column}) IN (VALUES ({a}), ({b}))"),
            9 => format!("{column} = ALL (ARRAY[{a}])"),
            10 => format!("{column} = $q${a}$q$"),
            11 => format!("{column} = U&'{a}'"),
            12 => format!("{column} = E'\\x3{}'", a % 10),
            13 => format!("{column} OPERATOR(pg_catalog.=) {a}"),
            14 => format!("({column} = {a}) IS TRUE"),
            15 => format!("NOT {column} <> {a}"),
            16 => format!("({column} = {a}) = false"),
            17 => format!("coalesce({column}, 1) = {a}"),
            18 => format!("{column} = {a} COLLATE \"C\""),
            19 => format!("{column} BETWEEN {a} AND {a}"),
            20 => format!("{column} = {a} AND false"),
            21 => format!("({column} = {a} OR false)"),
            22 => format!("({column} = {a} OR true)"),
            23 => format!("{column} = {a}/* {b} */"),
            24 => format!("{column} = {a} -- {b}\n"),
            25 => format!("{column} = /* {b} /* nested */ */ {a}"),
            26 => format!("{column} = '{}'\n'{}'", a / 10, a % 10),
            27 => format!("{column} = '  {a} '"),
            28 => format!("{column} = +{a}"),
            29 => format!("{column} = {a}::smallint"),
            30 => format!("{column} = CAST({a} AS bigint)"),
            31 => format!("{column} = CAST('{a}' AS numeric)"),
            32 => format!("{column} = {a}::float8"),
            33 => format!("{column} = {a} % 50"),
            34 => format!("{a} = {column} AND {column} = {a}"),
            35 => format!("{column} = ANY ('{{{a},NULL}}')"),
            36 => format!("{column} <> ALL ('{{{a}}}')"),
            37 => format!("{column} NOT IN ({a}, {b})"),
            38 => format!("{column} IN ({a}, NULL)"),
            39 => format!("{column} = CASE WHEN true THEN {a} ELSE {b} END"),
            40 => format!("NOT ({column} = {a} OR {column} = {b})"),
            41 => format!("{column} >= {a} AND {column} <= {a}"),
            42 => format!("{column} IS DISTINCT FROM {a}"),
            _ => format!("{column} = greatest({a}, {b})"),
        }
    }

    fn about_rest(&mut self, alias: &str) -> String {
        let column = match alias {
            "p" => self.dice.one(&[
                "p.likes > 2",
                "p.title LIKE '%1%'",
                "p.likes IS NULL",
                "p.id <= 2",
                "p.likes % 2 = 0",
            ]),
            _ => self.dice.one(&[
                "u.age > 22",
                "u.country = 'de'",
                "u.country IS NULL",
                "u.score >= 4.5",
                "u.name LIKE 'user 1%'",
                "u.born < '2000-01-15'",
                "u.age IN (21, 23)",
                "u.country IN (SELECT code FROM countries)",
            ]),
        };
        column.to_owned()
    }

    fn filter(&mut self, alias: &str, key: &str) -> String {
        match self.dice.below(10) {
            0..=4 => self.about_key(key),
            5..=6 => format!("{} AND {}", self.about_key(key), self.about_rest(alias)),
            7 => format!("{} OR {}", self.about_key(key), self.about_rest(alias)),
            8 => self.about_rest(alias),
            _ => "true".to_owned(),
        }
    }

    // ---- SELECT ----------------------------------------------------------------------------------

    fn rows(&mut self) -> (String, bool) {
        match self.dice.below(12) {
            0..=3 => {
                let columns = self.dice.one(&[
                    "*",
                    "u.id, u.name",
                    "u.*",
                    "u.id AS key, upper(u.name), u.age + 1 AS older",
                    "u.name, u.joined, u.score",
                    "DISTINCT u.country",
                    "DISTINCT ON (u.id) u.id, u.age",
                    "u",
                    "CASE WHEN u.age > 22 THEN 'a' ELSE 'b' END",
                    "'x' AS constant, 1",
                    "count(*) OVER () AS n, u.id",
                    "u.id::text || u.name",
                    "NULL AS nothing",
                ]);
                let filter = self.filter("u", "u.id");
                let distinct_on = columns.starts_with("DISTINCT ON");
                self.end(
                    format!("SELECT {columns} FROM users u WHERE {filter}"),
                    "u.id",
                    !columns.contains("DISTINCT") || distinct_on,
                )
            }
            4..=5 => {
                let filter = self.filter("p", "p.user_id");
                self.end(
                    format!("SELECT p.* FROM posts p WHERE {filter}"),
                    "p.user_id, p.id",
                    true,
                )
            }
            6..=9 => self.join(),
            10 => {
                let filter = self.filter("u", "u.id");
                let sql = format!(
                    "SELECT c.name, u.id FROM countries c JOIN users u ON u.country = c.code WHERE {filter}"
                );
                self.end(sql, "u.id", true)
            }
            _ => {
                let (a, b) = (self.filter("u", "u.id"), self.filter("u", "u.id"));
                let operator = self
                    .dice
                    .one(&["UNION", "UNION ALL", "EXCEPT", "INTERSECT"]);
                (
                    format!(
                        "SELECT u.id FROM users u WHERE {a} {operator} SELECT u.id FROM users u WHERE {b}"
                    ),
                    false,
                )
            }
        }
    }

    /// Sometimes an order that is total, and then perhaps a limit.
    fn end(&mut self, sql: String, order: &str, can_order: bool) -> (String, bool) {
        if !can_order || !self.dice.chance(40) {
            return (sql, false);
        }
        let direction = if order.contains(',') {
            ""
        } else {
            self.dice.one(&["", " DESC", " DESC NULLS LAST"])
        };
        let limit = self.dice.one(&[
            "",
            "",
            " LIMIT 3",
            " LIMIT 2 OFFSET 1",
            " OFFSET 1",
            " FETCH FIRST 2 ROWS ONLY",
            " LIMIT 0",
        ]);
        (format!("{sql} ORDER BY {order}{direction}{limit}"), true)
    }

    fn join(&mut self) -> (String, bool) {
        let from = self.dice.one(&[
            "users u JOIN posts p ON p.user_id = u.id",
            "users u JOIN posts p ON p.user_id = u.id AND p.likes > 1",
            "users u LEFT JOIN posts p ON p.user_id = u.id",
            "users u LEFT JOIN posts p ON p.user_id = u.id AND p.likes > 3",
            "posts p RIGHT JOIN users u ON p.user_id = u.id",
            "users u FULL JOIN posts p ON p.user_id = u.id",
            "users u CROSS JOIN posts p",
            "users u JOIN posts p ON p.id = u.id",
            "users u JOIN posts p USING (id)",
            "users u NATURAL JOIN posts p",
            "users u JOIN posts p ON p.user_id = u.id + 0",
            "users u JOIN posts p ON p.user_id = u.id OR p.id = 1",
            "users u LEFT JOIN countries c ON c.code = u.country JOIN posts p ON p.user_id = u.id",
            "countries c LEFT JOIN users u ON u.country = c.code LEFT JOIN posts p ON p.user_id = u.id",
            "countries c FULL JOIN users u ON u.country = c.code LEFT JOIN posts p ON p.user_id = u.id",
            "users u JOIN LATERAL (SELECT * FROM posts x WHERE x.user_id = u.id) p ON true",
            "users u LEFT JOIN posts p ON p.user_id = u.id AND u.id = 5",
            "posts p JOIN posts q ON q.user_id = p.user_id JOIN users u ON u.id = q.user_id",
            "users u JOIN posts p ON p.user_id = u.id LEFT JOIN notes n ON n.user_id = u.id",
        ]);
        let filter = match self.dice.below(6) {
            0 => self.filter("p", "p.user_id"),
            1 => format!(
                "{} AND {}",
                self.filter("u", "u.id"),
                self.about_key("p.user_id")
            ),
            _ => self.filter("u", "u.id"),
        };
        let keyed = !self.dice.chance(10);
        let sql = if keyed && self.dice.chance(20) {
            format!(
                "SELECT u.id AS a, p.id AS b, p.title FROM users u, posts p WHERE u.id = p.user_id AND ({filter})"
            )
        } else {
            format!("SELECT u.id AS a, u.name, p.id AS b, p.title FROM {from} WHERE {filter}")
        };
        self.end(
            sql,
            "a, b, p.title, p.user_id",
            !from.contains("posts q") && !from.contains("USING") && !from.contains("NATURAL"),
        )
    }

    fn aggregate(&mut self) -> (String, bool) {
        let filter = self.filter("u", "u.id");
        match self.dice.below(12) {
            0 => (
                format!("SELECT count(*) FROM users u WHERE {filter}"),
                false,
            ),
            1 => (
                format!(
                    "SELECT count(*), sum(u.age), min(u.name), max(u.born), avg(u.score) FROM users u WHERE {filter}"
                ),
                false,
            ),
            2 => (
                format!("SELECT count(DISTINCT u.country) FROM users u WHERE {filter}"),
                false,
            ),
            3 => (
                format!(
                    "SELECT u.country, count(*) FROM users u WHERE {filter} GROUP BY u.country"
                ),
                false,
            ),
            4 => (
                format!(
                    "SELECT u.id, count(p.id) FROM users u LEFT JOIN posts p ON p.user_id = u.id WHERE {filter} GROUP BY u.id"
                ),
                false,
            ),
            5 => (
                format!(
                    "SELECT u.age, max(u.score) FROM users u WHERE {filter} GROUP BY 1 HAVING count(*) > 1 ORDER BY 1"
                ),
                true,
            ),
            6 => (
                format!("SELECT array_agg(u.id ORDER BY u.id) FROM users u WHERE {filter}"),
                false,
            ),
            7 => (
                format!(
                    "SELECT u.id, u.name, sum(p.likes) FROM users u JOIN posts p ON p.user_id = u.id WHERE {filter} GROUP BY u.id ORDER BY u.id"
                ),
                true,
            ),
            8 => (
                format!(
                    "SELECT u.id, row_number() OVER (ORDER BY u.id) FROM users u WHERE {filter}"
                ),
                false,
            ),
            9 => (
                format!("SELECT coalesce(sum(u.age), 0) + 1 FROM users u WHERE {filter}"),
                false,
            ),
            10 => (
                format!("SELECT exists(SELECT 1 FROM users u WHERE {filter})"),
                false,
            ),
            _ => (
                format!(
                    "SELECT u.country, u.age, count(*) FROM users u WHERE {filter} GROUP BY ROLLUP (u.country, u.age)"
                ),
                false,
            ),
        }
    }

    fn nested(&mut self) -> (String, bool) {
        let filter = self.filter("u", "u.id");
        let key = self.key();
        let text = match self.dice.below(30) {
            0 => format!("SELECT u.id FROM users u WHERE {filter} AND EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id)"),
            1 => format!("SELECT u.id FROM users u WHERE ({filter}) AND NOT EXISTS (SELECT 1 FROM posts p WHERE p.user_id = u.id)"),
            2 => format!("SELECT u.id FROM users u WHERE u.id IN (SELECT p.user_id FROM posts p WHERE p.user_id = {key})"),
            3 => format!("SELECT u.id FROM users u WHERE u.id NOT IN (SELECT p.user_id FROM posts p) AND u.id = {key}"),
            4 => format!("SELECT u.id, (SELECT count(*) FROM posts p WHERE p.user_id = u.id) FROM users u WHERE {filter}"),
            5 => format!("SELECT u.id, (SELECT max(likes) FROM posts) FROM users u WHERE u.id = {key}"),
            6 => format!("WITH x AS (SELECT * FROM users u WHERE {filter}) SELECT x.id, p.title FROM x JOIN posts p ON p.user_id = x.id"),
            7 => format!("WITH x AS (SELECT count(*) AS n FROM users) SELECT u.id, x.n FROM users u, x WHERE u.id = {key}"),
            8 => format!("SELECT s.id FROM (SELECT * FROM users u WHERE {filter}) s WHERE s.id = {key}"),
            9 => format!("SELECT s.id FROM (SELECT u.id FROM users u ORDER BY u.id LIMIT 5) s WHERE s.id = {key}"),
            10 => format!("SELECT c.name FROM countries c WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.country = c.code AND u.id = {key})"),
            11 => "SELECT c.code FROM countries c WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.country = c.code)".to_owned(),
            12 => format!("SELECT n.body FROM notes n WHERE n.user_id IN (SELECT u.id FROM users u WHERE u.id = {key})"),
            13 => format!("WITH RECURSIVE r(n) AS (SELECT {key}::bigint UNION ALL SELECT n + 1 FROM r WHERE n < 50) SELECT u.id FROM users u JOIN r ON r.n = u.id"),
            14 => format!("WITH users AS (SELECT 1 AS id) SELECT * FROM users WHERE id = {key}"),
            15 => format!("SELECT u.id FROM users u WHERE u.id = {key} AND u.age > (SELECT avg(x.age) FROM users x)"),
            16 => format!("SELECT u.id, u.age FROM ONLY users u WHERE {filter}"),
            17 => "TABLE posts".to_owned(),
            18 => format!("SELECT id FROM users WHERE id = {key} UNION ALL (SELECT id FROM (TABLE posts) t)"),
            19 => format!("SELECT u.id FROM users u WHERE {filter} FOR UPDATE"),
            20 => format!("SELECT max(u.age) FROM users u GROUP BY u.id HAVING u.id = {key}"),
            21 => format!("WITH x AS (SELECT {key}::bigint AS k) SELECT u.id FROM users u JOIN x ON u.id = x.k"),
            22 => format!("WITH x AS (SELECT id FROM users WHERE id = {key}) SELECT p.title FROM posts p, x WHERE p.user_id = x.id"),
            23 => format!("WITH x AS (SELECT id FROM users WHERE id = {key} LIMIT 1), y AS (SELECT * FROM x) SELECT * FROM y LEFT JOIN posts p ON p.user_id = y.id"),
            24 => format!("SELECT p.title FROM posts p JOIN (SELECT id AS user_id FROM users WHERE id = {key}) u USING (user_id)"),
            25 => format!("SELECT v.k, u.name FROM (VALUES ({key}::bigint)) v(k) LEFT JOIN users u ON u.id = v.k"),
            26 => format!("SELECT * FROM (SELECT id, age FROM users UNION ALL SELECT user_id, likes FROM posts) s WHERE id = {key}"),
            27 => format!("SELECT u.id FROM users u WHERE (u.id, 1) IN (SELECT p.user_id, p.id FROM posts p) AND u.id = {key}"),
            28 => format!("SELECT u.name FROM users u WHERE u.id = {key} AND ({filter})"),
            _ => format!("SELECT id FROM users WHERE id = {key} UNION ALL SELECT id FROM posts WHERE user_id = {key} UNION ALL SELECT 0"),
        };
        (text, false)
    }

    // ---- writes ----------------------------------------------------------------------------------

    fn returning(&mut self, of: &[&str]) -> String {
        if self.dice.chance(50) {
            format!(" RETURNING {}", self.dice.one(of))
        } else {
            String::new()
        }
    }

    fn insert(&mut self) -> String {
        let key = self.key();
        let age = 20 + self.dice.below(7);
        let post = 1 + self.dice.below(6);
        let back = self.returning(&["*", "id", "id + 1 AS next, name"]);
        let back_post = self.returning(&["*", "user_id, id", "xmin IS NOT NULL AS alive"]);
        match self.dice.below(14) {
            0..=2 => format!(
                "INSERT INTO users (id, name, age) VALUES ({key}, 'new', {age}) ON CONFLICT DO NOTHING{back}"
            ),
            3 => format!(
                "INSERT INTO users VALUES ({key}, 'new', 'de', {age}, 1.5, '2001-01-01', '2024-06-01 00:00:00+00'){back}"
            ),
            4 => format!(
                "INSERT INTO users (id, name) VALUES ({key}, 'up') ON CONFLICT (id) DO UPDATE SET name = excluded.name || '!', age = users.age + 1{back}"
            ),
            5 => format!(
                "INSERT INTO users (name, id) VALUES ('a', {key}) ON CONFLICT (id) DO UPDATE SET name = 'b' WHERE users.age > 23{back}"
            ),
            6..=7 => format!(
                "INSERT INTO posts VALUES ({key}, {post}, 'title', 1), ({key}, {}, 'other', NULL) ON CONFLICT DO NOTHING{back_post}",
                post + 1
            ),
            8 => {
                let other = self.same_shard();
                format!(
                    "INSERT INTO posts (user_id, id, title) VALUES ({key}, {post}, 'x'), ({other}, {post}, 'y') ON CONFLICT DO NOTHING{back_post}"
                )
            }
            9 => format!(
                "INSERT INTO posts SELECT u.id, 9, u.name, 0 FROM users u WHERE u.id = {key} ON CONFLICT DO NOTHING{back_post}"
            ),
            10 => format!(
                "INSERT INTO posts SELECT {key}, 8, name, 0 FROM countries WHERE code = 'de' ON CONFLICT DO NOTHING{back_post}"
            ),
            11 => format!(
                "WITH i AS (INSERT INTO users (id, name) VALUES ({key}, 'cte') ON CONFLICT DO NOTHING RETURNING id) SELECT id FROM i"
            ),
            12 => format!("INSERT INTO users (name, age) VALUES ('nobody', {age})"),
            _ => format!("INSERT INTO posts (user_id, id, title) VALUES ({key}, {post}, NULL)"),
        }
    }

    fn update(&mut self) -> String {
        let key = self.key();
        let filter = self.filter("u", "u.id");
        let back = self.returning(&["*", "u.id, u.age"]);
        match self.dice.below(11) {
            0..=2 => format!("UPDATE users u SET age = age + 1 WHERE {filter}{back}"),
            3 => format!(
                "UPDATE users AS u SET name = 'n', score = score + 0.25 WHERE u.id = {key}{back}"
            ),
            4 => format!(
                "UPDATE posts SET likes = likes + 1 WHERE user_id = {key} AND id = 1 RETURNING likes"
            ),
            5 => format!(
                "UPDATE users u SET name = p.title FROM posts p WHERE p.user_id = u.id AND p.id = 1 AND u.id = {key}{back}"
            ),
            6 => format!("UPDATE users u SET id = id + 100 WHERE id = {key}{back}"),
            7 => format!("UPDATE posts SET (title, likes) = ('two', 2) WHERE user_id = {key}"),
            8 => format!(
                "UPDATE users u SET age = (SELECT count(*) FROM posts p WHERE p.user_id = u.id) WHERE u.id = {key}{back}"
            ),
            9 => {
                format!("UPDATE users u SET age = (SELECT count(*) FROM posts) WHERE u.id = {key}")
            }
            _ => format!(
                "MERGE INTO users u USING (SELECT {}::bigint AS id) v ON u.id = v.id WHEN MATCHED THEN UPDATE SET age = 1 WHEN NOT MATCHED THEN INSERT (id, name) VALUES (v.id, 'merged')",
                1 + self.dice.below(KEYS)
            ),
        }
    }

    fn delete(&mut self) -> String {
        let key = self.key();
        let filter = self.filter("p", "p.user_id");
        let back = self.returning(&["*", "p.id"]);
        match self.dice.below(6) {
            0..=1 => format!("DELETE FROM posts p WHERE p.likes = 5 AND ({filter}){back}"),
            2 => format!("DELETE FROM posts p WHERE p.user_id = {key} AND p.id > 3{back}"),
            3 => format!(
                "DELETE FROM posts p USING users u WHERE u.id = p.user_id AND u.id = {key} AND u.age = 21{back}"
            ),
            4 => format!(
                "WITH d AS (DELETE FROM posts WHERE user_id = {key} AND id = 2 RETURNING *) SELECT title, likes FROM d"
            ),
            _ => format!("DELETE FROM users WHERE id = {key} AND name LIKE '%new%' RETURNING id"),
        }
    }

    fn elsewhere(&mut self) -> String {
        let code = self.dice.one(&["'de'", "'fr'", "'pe'", "'qq'"]);
        let note = 1 + self.dice.below(8);
        match self.dice.below(12) {
            0 => format!("SELECT * FROM countries WHERE code = {code}"),
            1 => "SELECT count(*) FROM countries".to_owned(),
            2 => format!("UPDATE countries SET name = name || '.' WHERE code = {code}"),
            3 => format!("INSERT INTO countries VALUES ({code}, 'again') ON CONFLICT (code) DO UPDATE SET name = excluded.name"),
            4 => format!("INSERT INTO countries VALUES ({code}, 'twice')"),
            5 => format!("DELETE FROM countries WHERE code = {code} AND name = 'again' RETURNING code"),
            6 => format!("SELECT * FROM notes WHERE id = {note}"),
            7 => format!("INSERT INTO notes VALUES ({note}, {note}, 'n') ON CONFLICT DO NOTHING RETURNING *"),
            8 => format!("UPDATE notes SET body = body || '+' WHERE id = {note} RETURNING body"),
            9 => "SELECT 1 AS one, 'a'::text, 1.50, NULL, now() IS NOT NULL".to_owned(),
            10 => "VALUES (1, 'a'), (2, NULL)".to_owned(),
            _ => "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND relkind = 'r'".to_owned(),
        }
    }

    fn mistake(&mut self) -> String {
        let key = self.key();
        match self.dice.below(14) {
            0 => format!("SELECT 1 / (age - age) FROM users WHERE id = {key}"),
            1 => format!("SELECT nothing FROM users WHERE id = {key}"),
            2 => format!("SELECT * FROM nowhere WHERE id = {key}"),
            3 => "SELEC 1".to_owned(),
            4 => "SELECT * FROM users WHERE id = 'abc'".to_owned(),
            5 => "SELECT * FROM users WHERE id = 99999999999999999999".to_owned(),
            6 => "INSERT INTO users (id, name) VALUES (1, 'a'), (1, 'b')".to_owned(),
            7 => format!("INSERT INTO users (id, nothing) VALUES ({key}, 1)"),
            8 => format!("UPDATE users SET age = 'x' WHERE id = {key}"),
            9 => format!(
                "SELECT id FROM users u JOIN posts p ON p.user_id = u.id WHERE u.id = {key}"
            ),
            10 => format!("SELECT name, count(*) FROM users WHERE id = {key}"),
            11 => format!("SELECT nofunction(id) FROM users WHERE id = {key}"),
            12 => format!("INSERT INTO users VALUES ({key}, 'a', 'b', 1, 123456789.123)"),
            _ => format!("SELECT * FROM users WHERE id = {key} LIMIT -1"),
        }
    }
}
