//! What the shards cannot answer each for itself is answered in a scratch database, exactly as one PostgreSQL answers it:
//! every statement here runs at one plain database and through pgshunt over two shards. And what must not be answered, what
//! fails half-way, and what is bounded.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::sync::OnceLock;
use std::time::{Duration, Instant};
use support::cluster::Proxy;
use support::raw::{Answer, Column, Raw, execute, message, parse, query, sync};
use support::town::Town;

const TABLES: &str = "\
keyspaces:
  - name: by_user
    type: bigint
    hash: { buckets: 64 }
  - name: by_shop
    type: integer
    hash: { buckets: 64 }
tables:
  - { name: users, keyspace: by_user, key: id }
  - { name: posts, keyspace: by_user, key: user_id }
  - { name: shops, keyspace: by_shop, key: id }
  - { name: guarded, keyspace: by_user, key: id }
  - { name: twins, keyspace: by_user, key: id }
  - { name: visits, keyspace: by_user, key: id }
reference_tables: [countries]
functions: { shout: pure }
";

const SCHEMA: &str = "\
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE place AS (street text, mood mood);
CREATE DOMAIN percent AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE users (id bigint PRIMARY KEY, name text COLLATE \"und-x-icu\", country text, mood mood, moods mood[], home place,
  share percent, score numeric(10,2), ratio float8, born date, joined timestamptz, tags text[], doc jsonb, waits interval);
CREATE TABLE posts (user_id bigint, id bigint, title text NOT NULL, likes int, PRIMARY KEY (user_id, id));
CREATE TABLE shops (id int PRIMARY KEY, owner bigint, town text);
CREATE TABLE countries (code text PRIMARY KEY, name text);
CREATE TABLE notes (id int PRIMARY KEY, user_id bigint, body text);
CREATE TABLE guarded (id bigint PRIMARY KEY, v text);
CREATE TABLE twins (id bigint, n int PRIMARY KEY);
CREATE TABLE visits (id bigint PRIMARY KEY, place int, note text, n int);
CREATE INDEX ON visits (place);
CREATE INDEX ON visits (note);
CREATE VIEW named AS SELECT id, name, mood FROM users WHERE name IS NOT NULL;
CREATE VIEW busy AS SELECT u.id, u.name, count(p.id) AS posts FROM users u LEFT JOIN posts p ON p.user_id = u.id GROUP BY u.id;
CREATE VIEW noted AS SELECT n.id, c.name FROM notes n, countries c;
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE FUNCTION secret() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';";

struct House {
    town: Town,
    proxy: Proxy,
}

fn house() -> &'static House {
    static HOUSE: OnceLock<House> = OnceLock::new();
    HOUSE.get_or_init(|| {
        let town = Town::start("gather", 2, 1);
        // first the shards: their types must have the same numbers
        for answer in town.on_primaries(SCHEMA) {
            answer.ok();
        }
        town.superuser(0, 0, "postgres")
            .ask("CREATE DATABASE plain OWNER app")
            .ok();
        let mut plain = Raw::connect(town.port(0, 0), "app", "plain").expect("the one Postgres");
        plain.ask(SCHEMA).ok();
        town.catch_up();
        let proxy = Proxy::start(&town.cluster.map_with(TABLES));
        let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
        load(&mut sharded, &mut plain);
        House { town, proxy }
    })
}

fn load(sharded: &mut Raw, plain: &mut Raw) {
    let mut both = |sql: &str| {
        sharded.ask(sql).ok();
        plain.ask(sql).ok();
    };
    let names = [
        "Zoë",
        "adam",
        "Äpfel",
        "Bob",
        "éva",
        "Eva",
        "zorn",
        "",
        "Ångström",
        "a b",
    ];
    let moods = ["'sad'", "'ok'", "'happy'", "NULL"];
    for id in 1..=40 {
        let name = match id % 11 {
            10 => "NULL".to_owned(),
            n => format!("'{}'", names[n]),
        };
        let country = ["'de'", "'fr'", "'pe'", "'xx'", "NULL"][id % 5];
        both(&format!(
            "INSERT INTO users VALUES ({id}, {name}, {country}, {}, {}, {}, {}, {}.25, {}, '2000-01-{:02}', \
             '2024-01-01 00:00:00+00'::timestamptz + interval '{id} hours', '{{x,y{id}}}', '{{\"n\": {id}}}', '{id} days -3 hours')",
            moods[id % 4],
            if id % 3 == 0 {
                "NULL".to_owned()
            } else {
                "'{sad,happy}'".to_owned()
            },
            if id % 6 == 0 {
                "NULL".to_owned()
            } else {
                format!("'(\"street {id}\",ok)'")
            },
            id % 100,
            id * 7 % 13,
            ["'NaN'", "1.5", "'-Infinity'", "0.1", "-0.0"][id % 5],
            1 + id % 28,
        ));
        for post in 1..=(id % 4) {
            both(&format!(
                "INSERT INTO posts VALUES ({id}, {post}, 'post {post} of {id}', {})",
                (id * post) % 6
            ));
        }
    }
    for id in 1..=9 {
        both(&format!(
            "INSERT INTO shops VALUES ({id}, {}, 'town {}')",
            id * 4,
            id % 3
        ));
        both(&format!(
            "INSERT INTO notes VALUES ({id}, {}, 'note {id}')",
            id * 3
        ));
    }
    both(
        "INSERT INTO countries VALUES ('de', 'Germany'), ('fr', 'France'), ('pe', 'Peru'), ('zz', 'Nowhere')",
    );
}

struct Pair {
    sharded: Raw,
    plain: Raw,
}

fn pair() -> Pair {
    let house = house();
    Pair {
        sharded: Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt"),
        plain: Raw::connect(house.town.port(0, 0), "app", "plain").expect("the one Postgres"),
    }
}

/// Types that users made have numbers of their own in each database.
fn columns(answer: &Answer) -> Option<Vec<Column>> {
    let mut columns = answer.columns.clone();
    for column in columns.iter_mut().flatten() {
        column.type_oid = column.type_oid.min(16_384);
    }
    columns
}

#[track_caller]
fn same(sql: &str, here: &Answer, there: &Answer) {
    assert_eq!(
        here.code(),
        there.code(),
        "{sql}\n{:?}\n{:?}",
        here.error,
        there.error
    );
    if here.error.is_some() {
        return;
    }
    assert_eq!(columns(here), columns(there), "{sql}");
    assert_eq!(here.tags, there.tags, "{sql}");
    assert_eq!(here.rows, there.rows, "{sql}");
}

impl Pair {
    /// The same answer in the simple and in the extended protocol.
    #[track_caller]
    fn same(&mut self, sql: &str) {
        same(sql, &self.sharded.ask(sql), &self.plain.ask(sql));
        let here = self.sharded.extended(sql, &[], &[]).expect("pgshunt");
        let there = self
            .plain
            .extended(sql, &[], &[])
            .expect("the one Postgres");
        same(sql, &here, &there);
    }

    #[track_caller]
    fn both(&mut self, sql: &str) {
        same(sql, &self.sharded.ask(sql), &self.plain.ask(sql));
    }
}

/// Every row of it in one order only.
const STATEMENTS: &[&str] = &[
    "SELECT name, id FROM users ORDER BY name, id",
    "SELECT name, id FROM users ORDER BY name COLLATE \"C\" DESC NULLS LAST, id LIMIT 7 OFFSET 3",
    "SELECT * FROM users ORDER BY id",
    "SELECT DISTINCT name FROM users ORDER BY name",
    "SELECT DISTINCT ON (country) country, id FROM users ORDER BY country, name DESC, id",
    "SELECT count(DISTINCT name), count(*), count(name) FROM users",
    "SELECT country, string_agg(name, '|' ORDER BY name, id) FROM users GROUP BY country ORDER BY country",
    "SELECT array_agg(id ORDER BY name, id DESC) FILTER (WHERE mood = 'ok') FROM users",
    "SELECT json_agg(u ORDER BY id) FROM users u WHERE id < 5",
    "SELECT percentile_cont(0.3) WITHIN GROUP (ORDER BY likes), percentile_disc(0.5) WITHIN GROUP (ORDER BY title), mode() WITHIN GROUP (ORDER BY likes) FROM posts",
    "SELECT avg(score), stddev(score), sum(ratio) FILTER (WHERE id % 5 = 1), max(ratio), min(born) FROM users",
    "SELECT id, rank() OVER (PARTITION BY country ORDER BY score DESC), sum(score) OVER (ORDER BY id ROWS 2 PRECEDING) FROM users ORDER BY id",
    "SELECT country, mood, count(*), grouping(country, mood) FROM users GROUP BY GROUPING SETS ((country), (mood), ()) ORDER BY 1, 2, 4, 3",
    "SELECT country, mood, count(*) FROM users GROUP BY ROLLUP (country, mood) ORDER BY 1, 2, 3",
    "SELECT country FROM users GROUP BY country HAVING count(*) > 7 AND max(name) > 'b' ORDER BY 1",
    "SELECT country FROM users UNION SELECT code FROM countries ORDER BY 1",
    "SELECT country FROM users INTERSECT SELECT code FROM countries ORDER BY 1",
    "SELECT code FROM countries EXCEPT SELECT country FROM users ORDER BY 1",
    "SELECT id FROM users EXCEPT ALL SELECT user_id FROM posts ORDER BY 1",
    "WITH best AS (SELECT user_id, max(likes) AS likes FROM posts GROUP BY user_id) SELECT u.name, b.likes FROM users u JOIN best b ON b.user_id = u.id ORDER BY u.id",
    "WITH RECURSIVE chain(id, depth) AS (SELECT id, 1 FROM users WHERE id = 1 UNION ALL SELECT u.id, c.depth + 1 FROM chain c JOIN users u ON u.id = c.id * 2) SELECT * FROM chain ORDER BY 1",
    "SELECT u.id, p.title FROM users u, LATERAL (SELECT title FROM posts WHERE likes >= u.score ORDER BY likes, title LIMIT 1) p ORDER BY 1",
    "SELECT id, (SELECT count(*) FROM posts p WHERE p.likes = u.id) FROM users u ORDER BY id",
    "SELECT id FROM users WHERE score > (SELECT avg(score) FROM users) ORDER BY id",
    "SELECT s.town, u.name FROM shops s JOIN users u ON u.id = s.owner ORDER BY s.id",
    "SELECT a.id, b.id FROM users a JOIN users b ON a.id = b.id + 1 AND a.country < b.country ORDER BY 1",
    "SELECT n.body, u.name FROM notes n LEFT JOIN users u ON u.id = n.user_id ORDER BY n.id",
    "SELECT c.code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code ORDER BY 1, 2",
    "SELECT code FROM countries c WHERE NOT EXISTS (SELECT FROM users u WHERE u.country = c.code) ORDER BY 1",
    "SELECT code FROM countries WHERE code NOT IN (SELECT country FROM users WHERE country IS NOT NULL) ORDER BY 1",
    "SELECT code, u.id FROM countries c FULL JOIN users u ON u.country = c.code ORDER BY 1, 2",
    "SELECT code, id FROM countries RIGHT JOIN users ON country = code ORDER BY 2, 1",
    "SELECT * FROM countries FULL JOIN (SELECT country AS code, count(*) FROM users GROUP BY 1) x USING (code) ORDER BY code",
    "SELECT name, count(*) FROM named GROUP BY name ORDER BY name",
    "SELECT * FROM busy ORDER BY id",
    "SELECT count(*) FROM noted, users",
    "SELECT u.id, u.name, count(p.*) FROM users u LEFT JOIN posts p ON p.user_id < u.id GROUP BY u.id ORDER BY u.id",
    "SELECT mood, moods, home, (home).street, share FROM users ORDER BY mood, share, id",
    "SELECT unnest(moods) AS m, count(*) FROM users GROUP BY 1 ORDER BY 1",
    "SELECT mood::text, max(mood) FROM users WHERE mood >= 'ok'::mood GROUP BY mood ORDER BY 1",
    "SELECT waits, justify_hours(waits) FROM users ORDER BY waits DESC, id LIMIT 3",
    "SELECT doc->>'n' FROM users ORDER BY (doc->>'n')::int DESC LIMIT 4",
    "SELECT shout(name) FROM users WHERE name <> '' ORDER BY shout(name), id LIMIT 5",
    "SELECT id FROM users WHERE born > now() - interval '1000 years' ORDER BY id",
    "SELECT current_user, session_user, count(*) FROM users",
    "SELECT to_char(joined, 'TZ'), joined FROM users ORDER BY joined DESC LIMIT 2",
    "SELECT count(*) FROM users u, posts p",
    "SELECT 1/(count(*) - 40) FROM users",
    "TABLE posts ORDER BY user_id, id",
    "WITH x AS (TABLE posts) TABLE x ORDER BY user_id, id",
    // groups that their shard can tell
    "SELECT name FROM users WHERE id IN (SELECT user_id FROM posts GROUP BY user_id HAVING count(*) > 2) ORDER BY name, id",
    "SELECT u.name, p.title FROM users u JOIN posts p ON p.user_id = u.id WHERE u.id IN (SELECT user_id FROM posts \
     WHERE likes > 3 GROUP BY user_id HAVING sum(likes) > 10 AND max(id) < 1000) ORDER BY u.name, u.id, p.id",
    "SELECT u.name, g.n, g.m FROM users u JOIN (SELECT user_id, count(*) AS n, max(title) AS m FROM posts GROUP BY 1 \
     HAVING avg(likes) BETWEEN 2 AND 6) g ON g.user_id = u.id ORDER BY u.name, u.id",
    "SELECT u.name, g.n FROM users u LEFT JOIN (SELECT user_id, likes, count(*) AS n FROM posts GROUP BY user_id, likes \
     HAVING count(likes) <> 1 OR min(id) = 2) g ON g.user_id = u.id ORDER BY u.name, u.id, g.n",
    "SELECT name FROM users WHERE id NOT IN (SELECT user_id FROM posts GROUP BY user_id HAVING min(likes) < 3) ORDER BY name, id",
    "SELECT name, (SELECT max(p.title) FROM posts p WHERE p.user_id = u.id GROUP BY p.user_id HAVING count(*) > 1) FROM users u ORDER BY 1, 2",
    "WITH g AS MATERIALIZED (SELECT user_id FROM posts GROUP BY user_id HAVING count(*) > 2) \
     SELECT u.name, (SELECT count(*) FROM posts) FROM users u JOIN g ON g.user_id = u.id ORDER BY u.name, u.id",
    "SELECT nosuch FROM users ORDER BY 1",
    "SELECT sum(name) FROM users",
    "COPY (SELECT id, name FROM users ORDER BY name, id) TO STDOUT (FORMAT csv, HEADER)",
];

#[test]
fn gathered_answers_are_those_of_one_postgres() {
    let mut pair = pair();
    for sql in STATEMENTS {
        if sql.starts_with("COPY") {
            pair.both(sql);
        } else {
            pair.same(sql);
        }
    }
}

/// Without an index on the copies each of these would take half a minute.
#[test]
fn what_is_looked_for_row_by_row_is_found_by_an_index() {
    let Pair {
        mut sharded,
        mut plain,
    } = pair();
    let rows = "SELECT i, i % 2000, 'note ' || i % 2000 || repeat('x', (i % 7 / 6) * 9000), i % 11 \
        FROM generate_series(1, 20000) i";
    plain.ask(&format!("INSERT INTO visits {rows}")).ok();
    for shard in [0, 1] {
        let half = format!("INSERT INTO visits {rows} WHERE i % 2 = {shard}");
        house().town.direct(shard, 0).ask(&half).ok();
    }
    house().town.catch_up();
    for raw in [&mut sharded, &mut plain] {
        raw.ask("SET statement_timeout = '8s'").ok();
    }
    for sql in [
        "SELECT count(*), sum(n) FROM visits v WHERE n > (SELECT avg(n) FROM visits o WHERE o.place = v.place)",
        "SELECT sum(n) FROM visits v WHERE n = (SELECT max(n) FROM visits o WHERE o.note = v.note AND o.id <> v.id)",
        "SELECT v.id, x.id FROM visits v, LATERAL (SELECT id FROM visits o WHERE v.place = o.place ORDER BY n DESC, id LIMIT 1) x \
         ORDER BY v.id LIMIT 50",
        "SELECT sum(cardinality(ARRAY(SELECT o.n FROM visits o WHERE (o.place = v.place)))) FROM visits v",
    ] {
        same(sql, &sharded.ask(sql), &plain.ask(sql));
    }
}

#[test]
fn session_settings_hold_in_the_scratch_database() {
    let mut pair = pair();
    for set in [
        "SET TimeZone = 'Asia/Tokyo'",
        "SET DateStyle = 'SQL, DMY'",
        "SET extra_float_digits = 0",
        "SET bytea_output = 'escape'",
        "SET search_path = pg_catalog, public",
    ] {
        pair.both(set);
    }
    pair.same("SELECT id, joined, born, ratio, moods FROM users ORDER BY joined DESC LIMIT 9");
    pair.both("BEGIN");
    pair.both("SET LOCAL TimeZone = 'America/Lima'");
    pair.both("SELECT id, joined FROM users ORDER BY joined DESC LIMIT 3");
    pair.both("ROLLBACK");
    pair.same("SELECT id, joined FROM users ORDER BY joined DESC LIMIT 3");
}

#[test]
fn a_transaction_sees_its_own_writes() {
    let mut pair = pair();
    for begin in ["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"] {
        pair.both(begin);
        pair.both("INSERT INTO users (id, name, moods) VALUES (1001, 'mine', '{ok}')");
        pair.both("SELECT name, moods FROM users ORDER BY name, id");
        pair.both("SELECT u.name, p.title, n.body FROM users u LEFT JOIN posts p ON p.likes = u.id LEFT JOIN notes n ON n.id = u.id ORDER BY u.name, u.id, 2, 3");
        pair.both("SAVEPOINT s");
        pair.both("SELECT 1/(count(*) - 41) FROM users");
        pair.both("ROLLBACK TO s");
        pair.both("SELECT count(*) FROM users");
        pair.both("ROLLBACK");
        pair.both("SELECT count(*) FROM users");
    }
}

#[test]
fn parameters_and_binary_results() {
    let mut pair = pair();
    let sql = "SELECT id, mood, share FROM users WHERE score > $1 AND mood >= $2 ORDER BY name, id LIMIT $3";
    let values = [Some("3"), Some("ok"), Some("6")];
    let here = pair.sharded.extended(sql, &[], &values).expect("pgshunt");
    let there = pair
        .plain
        .extended(sql, &[], &values)
        .expect("the one Postgres");
    same(sql, &here, &there);
    // Describe before Bind, then results in binary, with and without a description of the portal
    for describe in [true, false] {
        for (sql, refused) in [
            (
                "SELECT id, mood, score, born FROM users ORDER BY name, id",
                false,
            ),
            ("SELECT moods FROM users ORDER BY name, id", true),
        ] {
            let ask = |raw: &mut Raw| {
                raw.send(&[parse("a", sql, &[]), message(b'D', b"Sa\0"), sync()].concat())
                    .expect("sent");
                let described = raw.until_ready().expect("a description").ok();
                let mut bytes = message(b'B', b"\0a\0\0\0\0\0\0\x01\0\x01");
                if describe {
                    bytes.extend(message(b'D', b"P\0"));
                }
                bytes.extend([execute("", 0), message(b'C', b"Sa\0"), sync()].concat());
                raw.send(&bytes).expect("sent");
                let answer = raw.until_ready().expect("an answer");
                (described, answer)
            };
            let (here_first, here) = ask(&mut pair.sharded);
            let (there_first, there) = ask(&mut pair.plain);
            assert_eq!(columns(&here_first), columns(&there_first), "{sql}");
            if refused {
                assert_eq!(here.code(), "0A000", "{here:?}");
                pair.sharded
                    .send(&[message(b'C', b"Sa\0"), sync()].concat())
                    .expect("sent");
                pair.sharded.until_ready().expect("ready").ok();
            } else {
                assert_eq!(here.messages, there.messages, "{sql}");
                same(sql, &here, &there);
            }
        }
    }
}

#[test]
fn types_and_tables_have_the_home_shards_numbers() {
    let mut pair = pair();
    let gathered = pair
        .sharded
        .ask("SELECT mood, moods, home, share FROM users ORDER BY name")
        .ok();
    let mut home = house().town.direct(0, 0);
    let direct = home.ask("SELECT mood, moods, home, share FROM users").ok();
    assert_eq!(gathered.columns, direct.columns);
}

#[test]
fn what_would_act_on_the_copies_is_refused() {
    let mut pair = pair();
    for sql in [
        "SELECT ctid, name FROM users ORDER BY name",
        "SELECT tableoid::regclass FROM users ORDER BY 1",
        "SELECT name FROM users ORDER BY name FOR UPDATE",
        "SELECT name FROM ONLY users ORDER BY name",
        "SELECT name FROM users TABLESAMPLE SYSTEM (50) ORDER BY name",
        "SELECT random(), name FROM users ORDER BY name",
        "SELECT secret(), name FROM users ORDER BY name",
        "SELECT current_database(), count(*) FROM users",
        "SELECT count(*) FROM users, pg_class",
        "SELECT pg_backend_pid(), count(*) FROM users",
        "CREATE TABLE copy AS SELECT name FROM users ORDER BY name",
    ] {
        let answer = pair.sharded.ask(sql);
        assert_eq!(answer.code(), "0A000", "{sql}: {answer:?}");
        let error = answer.error.expect("an error");
        assert!(!error.hint.is_empty(), "{sql}: {error:?}");
    }
    pair.both("BEGIN");
    let clock = pair
        .sharded
        .ask("SELECT count(*), clock_timestamp() FROM users");
    assert_eq!(clock.code(), "0A000");
    pair.sharded.ask("ROLLBACK").ok();
}

#[test]
fn rights_are_those_of_the_client() {
    let house = house();
    house.town.as_superuser("REVOKE ALL ON guarded FROM app");
    house.town.as_superuser(
        "CREATE VIEW seen AS SELECT v FROM guarded; CREATE VIEW unseen AS SELECT v FROM guarded",
    );
    // what was done past pgshunt may be read on a replica
    house.town.catch_up();
    // the catalog is loaded again after DDL
    let mut pair = pair();
    pair.sharded.ask("CREATE TABLE noticed (a int)").ok();
    let answer = pair.sharded.ask("SELECT v FROM guarded ORDER BY v");
    assert_eq!(answer.code(), "42501", "{answer:?}");
    // a view of what the user may not read himself, and one he may not read at all
    house
        .town
        .as_superuser("GRANT SELECT ON seen TO app; REVOKE ALL ON unseen FROM app");
    house.town.catch_up();
    let answer = pair.sharded.ask("SELECT v FROM seen ORDER BY v");
    assert_eq!(answer.code(), "0A000", "{answer:?}");
    house.town.as_superuser("GRANT ALL ON guarded TO app");
    house.town.catch_up();
    pair.sharded.ask("SELECT v FROM guarded ORDER BY v").ok();
    pair.sharded.ask("SELECT v FROM seen ORDER BY v").ok();
    let answer = pair.sharded.ask("SELECT v FROM unseen ORDER BY v");
    assert_eq!(answer.code(), "42501", "{answer:?}");
}

/// A role that may read some columns reads those, at one snapshot, and no others; in a transaction, too.
#[test]
fn rights_to_single_columns_are_enough() {
    let house = house();
    let rights = "CREATE ROLE reader LOGIN;";
    let grants = "GRANT SELECT (id, name, country) ON users TO reader; GRANT SELECT (user_id, id, likes) ON posts TO reader;\
        GRANT SELECT (code) ON countries TO reader";
    for shard in 0..2 {
        house.town.superuser(shard, 0, "postgres").ask(rights).ok();
    }
    house.town.as_superuser(grants);
    house.town.superuser(0, 0, "plain").ask(grants).ok();
    house.town.catch_up();
    let map = house.town.cluster.map_with(TABLES).replace(
        "{ name: app, auth: trust }",
        "{ name: app, auth: trust }\n  - { name: reader, auth: trust }",
    );
    let proxy = Proxy::start(&map);
    let mut pair = Pair {
        sharded: Raw::connect(proxy.port(), "reader", "social").expect("pgshunt"),
        plain: Raw::connect(house.town.port(0, 0), "reader", "plain").expect("the one Postgres"),
    };
    for sql in [
        "SELECT name, id FROM users ORDER BY name, id",
        "SELECT country, string_agg(name, ',' ORDER BY name, id) FROM users GROUP BY country ORDER BY 1",
        "SELECT u.name, p.likes FROM users u JOIN posts p ON p.likes = u.id ORDER BY u.id, p.likes, p.user_id",
        "SELECT code, u.id FROM countries c LEFT JOIN users u ON u.country = c.code ORDER BY 1, 2",
        "SELECT count(DISTINCT name) FROM users WHERE id > 20",
        // one column too many
        "SELECT name, mood FROM users ORDER BY name, id",
        "SELECT p.title FROM users u, posts p ORDER BY 1",
        "SELECT * FROM countries c LEFT JOIN users u ON u.country = c.code ORDER BY 1, 2",
    ] {
        pair.same(sql);
        for isolation in ["READ COMMITTED", "REPEATABLE READ"] {
            let begin = format!("BEGIN ISOLATION LEVEL {isolation}");
            pair.both(&begin);
            let (here, there) = (pair.sharded.ask(sql), pair.plain.ask(sql));
            // there the lock has to come before the snapshot, and locking takes the right to the table
            if isolation == "READ COMMITTED" || here.code() != "42501" {
                same(sql, &here, &there);
            }
            pair.both("ROLLBACK");
        }
    }
}

/// The columns are looked at under a lock, also where the role cannot lock the table by name.
#[test]
fn a_table_that_changes_while_single_columns_are_read() {
    let town = Town::start("gather-columns", 2, 0);
    town.on_primaries("CREATE TABLE things (k bigint PRIMARY KEY, v int, w text)");
    for shard in 0..2 {
        let roles = "CREATE ROLE reader LOGIN";
        town.superuser(shard, 0, "postgres").ask(roles).ok();
    }
    town.as_superuser("GRANT SELECT (k, v) ON things TO reader");
    let tables = "keyspaces: [{ name: by_key, type: bigint, hash: { buckets: 8 } }]\ntables: [{ name: things, keyspace: by_key, key: k }]\n";
    let map = town.cluster.map_with(tables).replace(
        "{ name: app, auth: trust }",
        "{ name: app, auth: trust }\n  - { name: reader, auth: trust }",
    );
    let proxy = Proxy::start(&map);
    let connect = |user| Raw::connect(proxy.port(), user, "social").expect("pgshunt");
    for k in 0..50 {
        let sql = format!("INSERT INTO things VALUES ({k}, {k}, 'w')");
        connect("app").ask(&sql).ok();
    }
    let median = "SELECT percentile_disc(0.5) WITHIN GROUP (ORDER BY v), count(*) FROM things";
    assert_eq!(connect("reader").ask(median).ok().value(), "24");
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            let mut app = connect("app");
            for n in 0..12 {
                let to = ["bigint", "int"][n % 2];
                app.ask(&format!("ALTER TABLE things ALTER v TYPE {to}"))
                    .ok();
            }
        });
        let mut reader = connect("reader");
        let mut right = 0;
        while !changes.is_finished() {
            let answer = reader.ask(median);
            match answer.code() {
                "" => {
                    assert_eq!(answer.rows[0][1].as_deref(), Some("50"), "{answer:?}");
                    assert_eq!(answer.value(), "24");
                    right += 1;
                }
                // the schema changed twice meanwhile
                code => assert_eq!(code, "0A000", "{answer:?}"),
            }
        }
        println!("{right} right answers");
    });
    assert_eq!(connect("reader").ask(median).ok().value(), "24");
}

#[test]
fn rows_that_one_postgres_could_not_hold_are_refused() {
    let house = house();
    let mut pair = pair();
    for id in 1..20 {
        pair.sharded
            .ask(&format!("INSERT INTO twins VALUES ({id}, {})", id % 2));
    }
    let answer = pair
        .sharded
        .ask("SELECT n, count(*) OVER () FROM twins ORDER BY n");
    assert_eq!(answer.code(), "0A000", "{answer:?}");
    house.town.on_primaries("TRUNCATE twins");
    // pgshunt knows of no write that a replica would have to show
    house.town.catch_up();
    assert_eq!(
        pair.sharded.ask("SELECT count(*) FROM twins").ok().value(),
        "0"
    );
}

#[test]
fn a_changed_schema_is_noticed() {
    let house = house();
    let mut sharded = Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt");
    sharded.ask("CREATE TABLE changing (a int, b int)").ok();
    let home = "SELECT c.a, c.b, (SELECT count(*) FROM users) FROM changing c ORDER BY c.a";
    sharded.ask("INSERT INTO changing VALUES (1, 2)").ok();
    assert_eq!(sharded.ask(home).ok().rows.len(), 1);
    // through pgshunt
    sharded
        .ask("ALTER TABLE changing ALTER b TYPE text USING b::text || '!'")
        .ok();
    let changed = sharded.ask(home).ok();
    assert_eq!(changed.rows[0][1].as_deref(), Some("2!"));
    // and past it: noticed before a row is read
    house
        .town
        .on_primaries("ALTER TABLE changing ALTER a TYPE real");
    house.town.catch_up();
    let changed = sharded.ask(home).ok();
    assert_eq!(changed.columns.expect("columns")[0].type_oid, 700);
    house.town.on_primaries("ALTER TABLE changing DROP b");
    house.town.catch_up();
    let gone = sharded.ask(home);
    assert!(["0A000", "42703"].contains(&gone.code()), "{gone:?}");
    let rest = "SELECT c.a, (SELECT count(*) FROM users) FROM changing c ORDER BY c.a";
    assert_eq!(sharded.ask(rest).ok().rows.len(), 1);
}

#[test]
fn a_cancel_request_and_a_lost_scratch_database_end_one_statement_only() {
    let house = house();
    let mut sharded = Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt");
    sharded.ask("SELECT count(DISTINCT name) FROM users").ok();
    let slow = "SELECT count(*), sum(a.id + b.id + c.id + d.id + e.id) FROM users a, users b, users c, users d, users e, users f";
    for (act, code) in [("pg_cancel_backend", "57014"), ("pg_terminate_backend", "")] {
        sharded.send(&query(slow)).expect("sent");
        let mut root = house.town.superuser(0, 0, "postgres");
        house.town.eventually("the scratch database works", || {
            let sql = format!("SELECT {act}(pid) FROM pg_stat_activity WHERE datname LIKE 'pgshunt_scratch_%' AND query LIKE 'SELECT count(%sum(a.id%' AND state = 'active'");
            !root.ask(&sql).ok().rows.is_empty()
        });
        let answer = sharded.until_ready().expect("still connected");
        assert!(answer.error.is_some(), "{answer:?}");
        if !code.is_empty() {
            assert_eq!(answer.code(), code, "{answer:?}");
        }
        assert_eq!(
            sharded
                .ask("SELECT count(DISTINCT id) FROM users")
                .ok()
                .value(),
            "40"
        );
    }
    // the protocol's own cancel request
    sharded.send(&query(slow)).expect("sent");
    std::thread::sleep(Duration::from_millis(700));
    cancel(house.proxy.port(), &sharded);
    let answer = sharded.until_ready().expect("still connected");
    assert_eq!(answer.code(), "57014", "{answer:?}");
    assert_eq!(
        sharded
            .ask("SELECT count(DISTINCT id) FROM users")
            .ok()
            .value(),
        "40"
    );
}

fn cancel(port: u16, raw: &Raw) {
    use std::io::{Read, Write};
    let mut packet = (8 + raw.secret.len() as u32 + 4).to_be_bytes().to_vec();
    packet.extend(80_877_102_u32.to_be_bytes());
    packet.extend(raw.pid.to_be_bytes());
    packet.extend(&raw.secret);
    let mut socket = std::net::TcpStream::connect(("127.0.0.1", port)).expect("pgshunt");
    socket.write_all(&packet).expect("sent");
    let _ = socket.read(&mut [0; 1]);
}

#[test]
fn a_vanished_client_stops_the_scratch_database() {
    let house = house();
    let mut sharded = Raw::connect(house.proxy.port(), "app", "social").expect("pgshunt");
    sharded
        .send(&query("SELECT count(*), max(a.id + b.id + c.id + d.id + e.id + f.id) AS vanished FROM users a, users b, users c, users d, users e, users f"))
        .expect("sent");
    let mut root = house.town.superuser(0, 0, "postgres");
    let mut working = || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS vanished%' AND state = 'active' AND pid <> pg_backend_pid()";
        root.ask(sql).ok().value() != "0"
    };
    house.town.eventually("it works", &mut working);
    drop(sharded);
    house.town.eventually("it has stopped", || !working());
}

#[test]
fn no_more_than_the_bound_is_brought_together() {
    let house = house();
    let map = house.town.cluster.map_with(TABLES);
    let map = format!("{map}\nlimits: {{ gather_bytes_max: 2000, gather_connections_max: 1 }}\n");
    let proxy = Proxy::start(&map);
    let mut sharded = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    let answer = sharded.ask("SELECT * FROM users ORDER BY name");
    assert_eq!(answer.code(), "54000", "{answer:?}");
    assert!(answer.rows.is_empty() && answer.columns.is_none());
    for _ in 0..3 {
        assert_eq!(
            sharded.ask("SELECT * FROM users ORDER BY name").code(),
            "54000"
        );
    }
    assert_eq!(
        sharded
            .ask("SELECT count(DISTINCT id) FROM shops")
            .ok()
            .value(),
        "9"
    );
}

#[test]
fn without_the_right_to_make_databases_it_is_refused() {
    let house = house();
    let map = house.town.cluster.map_with(TABLES);
    let roles = "CREATE ROLE poor LOGIN; GRANT pg_monitor, app TO poor";
    for shard in 0..2 {
        house.town.superuser(shard, 0, "postgres").ask(roles).ok();
    }
    house.town.catch_up();
    let map = map.replace("user: pgshunt }", "user: poor }").replace(
        "{ name: app, auth: trust }",
        "{ name: app, auth: trust }\n  - { name: poor, auth: trust }",
    );
    let proxy = Proxy::start(&map);
    // a role of its own: no scratch database is left over for it
    let mut sharded = Raw::connect(proxy.port(), "poor", "social").expect("pgshunt");
    let answer = sharded.ask("SELECT name FROM users ORDER BY name");
    assert_eq!(answer.code(), "0A000", "{answer:?}");
    let error = answer.error.expect("an error");
    assert!(error.hint.contains("CREATEDB"), "{error:?}");
    sharded.ask("SELECT count(*) FROM users WHERE id = 1").ok();
}

#[test]
fn many_clients_share_few_scratch_databases() {
    let house = house();
    let started = Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|n| {
            let port = house.proxy.port();
            std::thread::spawn(move || {
                let mut sharded = Raw::connect(port, "app", "social").expect("pgshunt");
                for _ in 0..10 {
                    let sql = format!("SELECT count(DISTINCT id) + {n} FROM users");
                    let answer = sharded.ask(&sql).ok();
                    assert_eq!(answer.value(), (40 + n).to_string());
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("its answers");
    }
    let mut root = house.town.superuser(0, 0, "postgres");
    let made =
        root.ask("SELECT count(*) < 12 FROM pg_database WHERE datname LIKE 'pgshunt_scratch_%'");
    assert_eq!(made.ok().value(), "t");
    assert!(started.elapsed() < Duration::from_secs(60));
}
