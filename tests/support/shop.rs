//! The tables that the tests of tenants and of random queries ask about: a shop for many tenants, with a column of every common
//! type, NULLs everywhere, text that a collation orders otherwise than bytes do, devices by a key of their own, countries on
//! every shard, notes at home. Sums of its floats are exact in any order, so that every sum has one answer.
#![allow(dead_code, reason = "each test file uses its part")]

use super::oracle::Setting;
use super::town::Dice;

pub const TENANTS: u64 = 14;

const HASHES: &str = "\
keyspaces:
  - { name: by_tenant, type: bigint, hash: { buckets: 64 } }
  - { name: by_device, type: uuid, hash: { buckets: 64 } }
tables:
  - { name: tenants, keyspace: by_tenant, key: id }
  - { name: members, keyspace: by_tenant, key: tenant_id }
  - { name: projects, keyspace: by_tenant, key: tenant_id }
  - { name: tasks, keyspace: by_tenant, key: tenant_id }
  - { name: invoices, keyspace: by_tenant, key: tenant_id }
  - { name: events, keyspace: by_tenant, key: tenant_id }
  - { name: devices, keyspace: by_device, key: id }
reference_tables: [countries]
";
const RANGES: &str = "\
keyspaces:
  - { name: by_tenant, type: bigint, ranges: BY_RANGE }
  - { name: by_device, type: uuid, hash: { buckets: 64 } }
tables:
  - { name: tenants, keyspace: by_tenant, key: id }
  - { name: members, keyspace: by_tenant, key: tenant_id }
  - { name: projects, keyspace: by_tenant, key: tenant_id }
  - { name: tasks, keyspace: by_tenant, key: tenant_id }
  - { name: invoices, keyspace: by_tenant, key: tenant_id }
  - { name: events, keyspace: by_tenant, key: tenant_id }
  - { name: devices, keyspace: by_device, key: id }
reference_tables: [countries]
";

/// Its databases order text by ICU, while their `lc_collate` says C.
pub fn setting<'a>(name: &'a str, ways: &'a [usize]) -> Setting<'a> {
    Setting {
        name,
        tables: HASHES,
        schema: include_str!("../oracle/shop-schema.sql"),
        database: "LOCALE_PROVIDER icu ICU_LOCALE 'en-US' TEMPLATE template0",
        ways,
        replicas: 0,
    }
}

/// The same, with neighbouring tenants on one shard.
pub fn ranged<'a>(name: &'a str, ways: &'a [usize]) -> Setting<'a> {
    Setting {
        tables: RANGES,
        ..setting(name, ways)
    }
}

/// Writes that change what is read and leave its size as it is.
pub const WRITES: [&str; 6] = [
    "UPDATE members SET level = coalesce(level, 0) + 1, score = score + 0.5 WHERE tenant_id = $1",
    "UPDATE tasks SET done = NOT done, priority = coalesce(priority, 3) WHERE tenant_id = $1",
    "UPDATE invoices SET amount = amount + 1.25 WHERE tenant_id = $1",
    "UPDATE events SET kind = upper(kind) WHERE tenant_id = $1",
    "UPDATE countries SET area = area + 1 WHERE code <> 'x$1'",
    "UPDATE notes SET rating = coalesce(rating, 0) + 1 WHERE tenant_id = $1",
];

/// INSERTs of one row each, the same in every run.
pub fn rows() -> Vec<String> {
    let mut shop = Shop { dice: Dice(20_240) };
    let mut rows = shop.elsewhere();
    for tenant in 1..=TENANTS {
        rows.push(shop.tenant(tenant));
        // some have nothing at all
        if tenant % 7 != 0 {
            shop.belongings(tenant, &mut rows);
        }
    }
    rows
}

struct Shop {
    dice: Dice,
}

const WORDS: [&str; 16] = [
    "apple", "Apple", "äpfel", "zebra", "Zoo", "_under", "-dash", "Éclair", "eclair", "co op",
    "coop", "co-op", "ß", "ss", "", "O''Hara",
];

impl Shop {
    /// NULL now and then.
    fn maybe(&mut self, value: String) -> String {
        if self.dice.chance(18) {
            "NULL".into()
        } else {
            value
        }
    }

    fn word(&mut self) -> String {
        let word = format!("'{}'", self.dice.one(&WORDS));
        self.maybe(word)
    }

    fn number(&mut self, below: u64) -> String {
        let number = self.dice.below(below).to_string();
        self.maybe(number)
    }

    fn money(&mut self) -> String {
        let money = format!("{}.{:02}", self.dice.below(200), 25 * self.dice.below(4));
        self.maybe(money)
    }

    fn float(&mut self) -> String {
        let quarters = self.dice.below(4000) as f64 / 4.0 - 300.0;
        let special = ["'NaN'", "'Infinity'", "'-Infinity'"];
        let float = match self.dice.below(40) {
            n @ 0..=2 => special[n as usize].to_owned(),
            _ => quarters.to_string(),
        };
        self.maybe(float)
    }

    fn date(&mut self) -> String {
        let (month, day) = (1 + self.dice.below(3), 1 + self.dice.below(28));
        let date = format!("'2024-{month:02}-{day:02}'");
        self.maybe(date)
    }

    fn moment(&mut self, zone: &str) -> String {
        let (day, hour) = (1 + self.dice.below(9), self.dice.below(24));
        let moment = format!("'2024-03-{day:02} {hour:02}:30:00.125{zone}'");
        self.maybe(moment)
    }

    fn bool(&mut self) -> String {
        let value = self.dice.one(&["true", "false"]).to_owned();
        self.maybe(value)
    }

    fn one(&mut self, of: &[&str]) -> String {
        let value = self.dice.one(of).to_owned();
        self.maybe(value)
    }

    fn elsewhere(&mut self) -> Vec<String> {
        let mut rows: Vec<String> = [
            "('de', 'Germany', 357.5, 'Europe')",
            "('fr', 'France', 551.75, 'Europe')",
            "('pe', 'Peru', 1285.25, 'America')",
            "('zz', NULL, NULL, NULL)",
            "('ci', 'Côte d''Ivoire', 322.5, 'Africa')",
        ]
        .map(|row| format!("INSERT INTO countries VALUES {row}"))
        .into();
        for id in 1..=9 {
            let (tenant, word, rating, date) = (
                self.number(TENANTS + 2),
                self.word(),
                self.money(),
                self.date(),
            );
            rows.push(format!(
                "INSERT INTO notes VALUES ({id}, {tenant}, {word}, {rating}, {date})"
            ));
        }
        for n in 0..26_u64 {
            let high = self.dice.next() >> 32;
            let id = format!("{high:08x}-0000-4000-8000-{n:012x}");
            let (tenant, label) = (self.number(TENANTS + 2), self.word());
            let (weight, seen, slot) = (self.float(), self.moment("+00"), self.number(6));
            rows.push(format!(
                "INSERT INTO devices VALUES ('{id}', {tenant}, {label}, {weight}, {seen}, {slot})"
            ));
        }
        rows
    }

    fn tenant(&mut self, id: u64) -> String {
        let plan = self.one(&["'trial'", "'small'", "'large'"]);
        let country = self.one(&["'de'", "'fr'", "'pe'", "'xx'"]);
        let settings = self.one(&[
            r#"'{"theme": "dark", "seats": 3}'"#,
            r#"'{"theme": "light"}'"#,
            "'[]'",
        ]);
        let (name, opened) = (self.word(), self.date());
        let (budget, active) = (self.money(), self.bool());
        format!(
            "INSERT INTO tenants VALUES ({id}, {name}, {plan}, {country}, {opened}, {settings}, {budget}, {active})"
        )
    }

    fn belongings(&mut self, tenant: u64, rows: &mut Vec<String>) {
        for id in 1..=3 + self.dice.below(3) {
            rows.push(self.member(tenant, id));
        }
        for n in 0..=self.dice.below(4) {
            let (title, budget) = (self.word(), self.money());
            let tags = self.one(&["'{a,b}'", "'{}'", "'{b,NULL}'", "'{c}'"]);
            let (starts, lead, open) = (self.date(), self.number(5), self.bool());
            rows.push(format!(
                "INSERT INTO projects VALUES ({tenant}, 'p{n}', {title}, {budget}, {tags}, {starts}, {lead}, {open})"
            ));
        }
        for id in 1..=4 + self.dice.below(5) {
            rows.push(self.task(tenant, id));
        }
        for id in 1..=self.dice.below(5) {
            let (amount, issued) = (self.money(), self.date());
            let rate = self.one(&["1.0", "1.00", "0.190", "0.19", "7"]);
            let doc = self.one(&["'\\x00ff'", "'\\x'", "'\\xdeadbeef'"]);
            let kind = self.one(&["'bill'", "'credit'", "'a'"]);
            rows.push(format!(
                "INSERT INTO invoices VALUES ({tenant}, {id}, {amount}, {rate}, {issued}, {doc}, {kind})"
            ));
        }
        for id in 1..=self.dice.below(6) {
            rows.push(self.event(tenant, id));
        }
    }

    fn member(&mut self, tenant: u64, id: u64) -> String {
        let (name, score) = (self.word(), self.float());
        let email = self.one(&["'a@b'", "'zoe@example.com'", "'Ann@x.org'"]);
        let (joined, seen) = (self.moment("+00"), self.moment(""));
        let (level, boss) = (self.number(5), self.number(4));
        format!(
            "INSERT INTO members VALUES ({tenant}, {id}, {name}, {email}, {joined}, {seen}, {score}, {level}, {boss})"
        )
    }

    fn task(&mut self, tenant: u64, id: u64) -> String {
        let (project, member) = (self.one(&["'p0'", "'p1'", "'p2'", "'p9'"]), self.number(6));
        let (title, done, due) = (self.word(), self.bool(), self.date());
        let effort = self.one(&["'90 minutes'", "'2 hours'", "'5 minutes'"]);
        let at = self.one(&["'08:15'", "'23:59:59.5'", "'00:00'"]);
        let priority = self.number(4);
        let weight = self.one(&["0.5", "1.25", "-3", "8"]);
        format!(
            "INSERT INTO tasks VALUES ({tenant}, {id}, {project}, {member}, {title}, {done}, {effort}, {due}, {at}, {priority}, {weight})"
        )
    }

    fn event(&mut self, tenant: u64, id: u64) -> String {
        let kind = self.one(&["'login'", "'Logout'", "'error'", "'view'"]);
        let at = self.moment("+00");
        let data = self.one(&[r#"'{"a": 1}'"#, r#"'{"a":  2, "b": [1,2]}'"#, "'null'"]);
        let payload = self.one(&[
            r#"'{"n": 1}'"#,
            r#"'{"n": 2, "t": "x"}'"#,
            r#"'{"t": "y"}'"#,
        ]);
        let host = self.one(&["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]);
        let nums = self.one(&["'{1,2}'", "'{}'", "'{3,NULL}'"]);
        format!(
            "INSERT INTO events VALUES ({tenant}, {id}, {kind}, {at}, {data}, {payload}, {host}, {nums})"
        )
    }
}
