use super::explain::Format;
use super::*;
use crate::sql::tokens::tokenize;
use proptest::prelude::*;

fn of(text: &str) -> Command {
    let tokens = tokenize(text.as_bytes(), true).unwrap();
    classify(text.as_bytes(), &tokens, true)
}

/// The text of a range of tokens.
fn part(text: &str, range: Range<usize>) -> &str {
    let tokens = tokenize(text.as_bytes(), true).unwrap();
    let tokens = &tokens[range];
    &text[tokens[0].start..tokens[tokens.len() - 1].end]
}

fn other(word: &str) -> Command {
    Command::Other(word.to_owned())
}

fn set(name: &str, values: &[&str]) -> Command {
    let value = SettingValue::List(values.iter().map(|value| (*value).to_owned()).collect());
    Command::Set(Setting {
        name: name.to_owned(),
        local: false,
        value,
    })
}

fn set_default(name: &str) -> Command {
    Command::Set(Setting {
        name: name.to_owned(),
        local: false,
        value: SettingValue::Default,
    })
}

#[test]
fn queries_and_dml() {
    let query = Command::Query { into: None };
    for text in [
        "SELECT 1",
        "values (1)",
        "TABLE t",
        "((SELECT 1))",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
        "WITH x AS (SELECT 1) TABLE x",
    ] {
        assert_eq!(of(text), query, "{text}");
    }
    assert_eq!(
        of("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x"),
        Command::Insert
    );
    assert_eq!(
        of("WITH \"update\" AS (SELECT 1), update AS (SELECT 2) DELETE FROM t"),
        Command::Delete
    );
    assert_eq!(of("Insert into t values (1)"), Command::Insert);
    assert_eq!(
        of("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE"),
        Command::Merge
    );
    assert_eq!(of(""), Command::Empty);
    assert_eq!(of("foo bar"), other("foo"));
    assert_eq!(of("'x'"), other(""));
}

#[test]
fn select_into_makes_a_table() {
    let into = |temporary| Command::Query {
        into: Some(Into { temporary }),
    };
    assert_eq!(of("SELECT a INTO t FROM u"), into(false));
    assert_eq!(of("SELECT a INTO TEMP t FROM u"), into(true));
    assert_eq!(
        of("SELECT a INTO LOCAL TEMPORARY TABLE t FROM u"),
        into(true)
    );
    assert_eq!(
        of("WITH x AS (SELECT 1) SELECT * INTO pg_temp.t FROM x"),
        into(true)
    );
    assert_eq!(of("SELECT a AS into FROM u"), Command::Query { into: None });
}

#[test]
fn transactions() {
    let none = TransactionModes::default();
    for text in [
        "BEGIN",
        "begin work",
        "BEGIN TRANSACTION",
        "START TRANSACTION",
    ] {
        assert_eq!(of(text), Command::Begin(none));
    }
    let modes = TransactionModes {
        isolation: Some(Isolation::RepeatableRead),
        read_only: Some(true),
        deferrable: Some(false),
    };
    assert_eq!(
        of("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY NOT DEFERRABLE"),
        Command::Begin(modes)
    );
    assert_eq!(
        of("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY, NOT DEFERRABLE"),
        Command::SetTransaction(modes)
    );
    assert_eq!(
        of("SET LOCAL TRANSACTION READ WRITE"),
        Command::SetTransaction(TransactionModes {
            read_only: Some(false),
            ..none
        })
    );
    let serializable = TransactionModes {
        isolation: Some(Isolation::Serializable),
        ..none
    };
    assert_eq!(
        of("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        Command::SessionCharacteristics(serializable)
    );
    assert_eq!(
        of("SET TRANSACTION SNAPSHOT 'x'"),
        Command::SetTransactionSnapshot
    );
    assert_eq!(of("END"), Command::Commit { chain: false });
    assert_eq!(of("COMMIT WORK AND CHAIN"), Command::Commit { chain: true });
    assert_eq!(
        of("ABORT TRANSACTION AND NO CHAIN"),
        Command::Rollback { chain: false }
    );
    assert_eq!(
        of("ROLLBACK WORK TO SAVEPOINT \"A\""),
        Command::RollbackToSavepoint("A".into())
    );
    assert_eq!(
        of("ROLLBACK TO A"),
        Command::RollbackToSavepoint("a".into())
    );
    assert_eq!(of("SAVEPOINT a"), Command::Savepoint("a".into()));
    assert_eq!(
        of("RELEASE SAVEPOINT a"),
        Command::ReleaseSavepoint("a".into())
    );
    assert_eq!(
        of("RELEASE savepoint"),
        Command::ReleaseSavepoint("savepoint".into())
    );
    assert_eq!(
        of("PREPARE TRANSACTION 'g''1'"),
        Command::PrepareTransaction("g'1".into())
    );
    assert_eq!(
        of("COMMIT PREPARED 'g'"),
        Command::CommitPrepared("g".into())
    );
    assert_eq!(
        of("ROLLBACK PREPARED 'g'"),
        Command::RollbackPrepared("g".into())
    );
    for text in [
        "COMMIT x",
        "BEGIN ISOLATION",
        "RELEASE",
        "ROLLBACK TO",
        "SAVEPOINT 1",
    ] {
        assert!(matches!(of(text), Command::Other(_)), "{text}");
    }
}

#[test]
fn settings() {
    assert_eq!(of("SET work_mem = '4MB'"), set("work_mem", &["4MB"]));
    assert_eq!(
        of("SET SESSION Search_Path TO a, \"B\", 'c d'"),
        set("search_path", &["a", "B", "c d"])
    );
    assert_eq!(of("SET \"TimeZone\" = UTC"), set("timezone", &["utc"]));
    assert_eq!(
        of("SET SESSION \"TimeZone\" = 'UTC'"),
        set("timezone", &["UTC"])
    );
    assert_eq!(
        of("SET extra_float_digits=-1"),
        set("extra_float_digits", &["-1"])
    );
    assert_eq!(of("SET a.b TO on"), set("a.b", &["on"]));
    assert_eq!(of("SET a.b TO E'\\x41'"), set("a.b", &["A"]));
    assert_eq!(of("SET x TO DEFAULT"), set_default("x"));
    assert_eq!(of("SET TIME ZONE -7"), set("timezone", &["-7"]));
    assert_eq!(of("SET TIME ZONE LOCAL"), set_default("timezone"));
    assert!(matches!(
        of("SET TIME ZONE INTERVAL '1' HOUR TO MINUTE"),
        Command::Set(Setting {
            value: SettingValue::Opaque,
            ..
        })
    ));
    assert_eq!(of("SET NAMES 'UTF8'"), set("client_encoding", &["UTF8"]));
    assert_eq!(of("SET NAMES"), set_default("client_encoding"));
    assert_eq!(of("SET ROLE Bob"), set("role", &["bob"]));
    assert_eq!(of("SET role = 'Bob'"), set("role", &["Bob"]));
    assert_eq!(of("SET ROLE NONE"), set("role", &["none"]));
    assert_eq!(
        of("SET SESSION AUTHORIZATION 'Bob'"),
        set("session_authorization", &["Bob"])
    );
    assert_eq!(
        of("SET SESSION SESSION AUTHORIZATION DEFAULT"),
        set_default("session_authorization")
    );
    assert_eq!(of("SET SCHEMA 'x'"), set("search_path", &["x"]));
    assert_eq!(
        of("SET XML OPTION DOCUMENT"),
        set("xmloption", &["document"])
    );
    let local = Setting {
        name: "role".into(),
        local: true,
        value: SettingValue::List(vec!["bob".into()]),
    };
    assert_eq!(of("SET LOCAL ROLE bob"), Command::Set(local));
    assert_eq!(of("SET CONSTRAINTS ALL DEFERRED"), other("set"));
    for text in ["SET", "SET x", "SET x = ", "SET x 5", "SET ROLE"] {
        let malformed = of(text);
        let opaque = matches!(
            &malformed,
            Command::Set(Setting {
                value: SettingValue::Opaque,
                ..
            })
        );
        assert!(opaque || malformed == other("set"), "{text}");
    }
}

#[test]
fn our_own_settings() {
    let own = |value: Option<&str>, local| Command::SetLocal {
        name: "session".into(),
        value: value.map(str::to_owned),
        local,
    };
    assert_eq!(
        of("SET pgshunt.session = 'user-42'"),
        own(Some("user-42"), false)
    );
    assert_eq!(of("SET LOCAL PGSHUNT.Session TO x"), own(Some("x"), true));
    assert_eq!(of("SET pgshunt.session TO DEFAULT"), own(None, false));
    assert_eq!(of("RESET pgshunt.session"), own(None, false));
    assert_eq!(of("SHOW pgshunt.token"), Command::ShowLocal("token".into()));
}

#[test]
fn reset_show_discard() {
    assert_eq!(of("RESET ALL"), Command::ResetAll);
    assert_eq!(of("RESET TIME ZONE"), Command::Reset("timezone".into()));
    assert_eq!(
        of("RESET SESSION AUTHORIZATION"),
        Command::Reset("session_authorization".into())
    );
    assert_eq!(of("RESET role"), Command::Reset("role".into()));
    assert_eq!(of("SHOW ALL"), Command::Show("all".into()));
    assert_eq!(
        of("SHOW TRANSACTION ISOLATION LEVEL"),
        Command::Show("transaction_isolation".into())
    );
    assert_eq!(
        of("SHOW Server_Version"),
        Command::Show("server_version".into())
    );
    assert_eq!(of("DISCARD ALL"), Command::Discard(Discard::All));
    assert_eq!(
        of("DISCARD TEMPORARY"),
        Command::Discard(Discard::Temporary)
    );
    assert_eq!(of("DISCARD x"), other("discard"));
}

#[test]
fn copy() {
    let text = "COPY public.\"T\" (a, \"B\") FROM STDIN WITH (FORMAT csv) WHERE a > 5";
    let Command::Copy(copy) = of(text) else {
        panic!()
    };
    assert_eq!(copy.direction, CopyDirection::In);
    assert_eq!(copy.endpoint, CopyEndpoint::Client);
    assert_eq!(part(text, copy.options), "WITH (FORMAT csv) WHERE a > 5");
    let columns = Some(vec!["a".to_owned(), "B".to_owned()]);
    assert_eq!(
        copy.subject,
        CopySubject::Table {
            schema: Some("public".into()),
            name: "T".into(),
            columns
        }
    );

    let text = "COPY (SELECT (a) FROM t) TO stdout";
    let Command::Copy(copy) = of(text) else {
        panic!()
    };
    assert_eq!(
        (copy.direction, copy.endpoint),
        (CopyDirection::Out, CopyEndpoint::Client)
    );
    let CopySubject::Query(query) = copy.subject else {
        panic!()
    };
    assert_eq!(part(text, query), "SELECT (a) FROM t");
    assert!(copy.options.is_empty());

    let ends = |text: &str| match of(text) {
        Command::Copy(copy) => Some((copy.direction, copy.endpoint)),
        _ => None,
    };
    assert_eq!(
        ends("COPY BINARY t FROM stdout"),
        Some((CopyDirection::In, CopyEndpoint::Client))
    );
    assert_eq!(
        ends("COPY t TO '/tmp/x'"),
        Some((CopyDirection::Out, CopyEndpoint::File))
    );
    assert_eq!(
        ends("COPY t FROM PROGRAM 'cat'"),
        Some((CopyDirection::In, CopyEndpoint::Program))
    );
    assert_eq!(ends("COPY t"), None);
    assert_eq!(ends("COPY t (a FROM stdin"), None);
}

#[test]
fn explain() {
    let explained = |text: &str| match of(text) {
        Command::Explain(words) => (words.analyze, part(text, words.statement).to_owned()),
        command => panic!("{command:?}"),
    };
    let plain = |analyze| (analyze, "SELECT 1".to_owned());
    assert_eq!(explained("EXPLAIN SELECT 1"), plain(false));
    assert_eq!(explained("EXPLAIN ANALYZE VERBOSE SELECT 1"), plain(true));
    assert_eq!(
        explained("EXPLAIN (COSTS OFF, ANALYZE) SELECT 1"),
        plain(true)
    );
    assert_eq!(
        explained("EXPLAIN (ANALYZE, TIMING OFF) SELECT 1"),
        plain(true)
    );
    assert_eq!(explained("EXPLAIN (ANALYZE off) SELECT 1"), plain(false));
    assert_eq!(
        explained("EXPLAIN (ANALYZE 'false', FORMAT json) SELECT 1"),
        plain(false)
    );
    assert_eq!(
        explained("EXPLAIN (SELECT 1)"),
        (false, "(SELECT 1)".to_owned())
    );
}

#[test]
fn options_of_explain() {
    let words = |text: &str| match of(text) {
        Command::Explain(words) => (words.with, words.without, words.format),
        command => panic!("{command:?}"),
    };
    let expected =
        |with: &str, without: &str, format| (with.to_owned(), without.to_owned(), format);
    assert_eq!(
        words("EXPLAIN SELECT 1"),
        expected("EXPLAIN", "EXPLAIN", Format::Text)
    );
    assert_eq!(
        words("explain analyze verbose SELECT 1"),
        expected(
            "EXPLAIN (analyze, verbose)",
            "EXPLAIN (verbose)",
            Format::Text
        )
    );
    assert_eq!(
        words("EXPLAIN (ANALYZE, TIMING off, BUFFERS, wal, FORMAT JSON) SELECT 1"),
        expected(
            "EXPLAIN (ANALYZE, TIMING off, BUFFERS, wal, FORMAT JSON)",
            "EXPLAIN (BUFFERS, FORMAT JSON)",
            Format::Json
        )
    );
    assert_eq!(
        words("EXPLAIN (\"analyze\" 'off', costs  off,FORMAT 'yaml') SELECT 1"),
        expected(
            "EXPLAIN (\"analyze\" 'off', costs  off, FORMAT 'yaml')",
            "EXPLAIN (costs  off, FORMAT 'yaml')",
            Format::Yaml
        )
    );
    assert_eq!(words("EXPLAIN (format xml, format json").2, Format::Json);
    // an upper case string is no format to PostgreSQL, either
    assert_eq!(words("EXPLAIN (FORMAT 'JSON') SELECT 1").2, Format::Text);
}

#[test]
fn prepared_statements_cursors_and_channels() {
    let text = "PREPARE \"P\" (int, numeric(5,2)) AS SELECT 1";
    let Command::Prepare { name, statement } = of(text) else {
        panic!()
    };
    assert_eq!((name.as_str(), part(text, statement)), ("P", "SELECT 1"));
    assert_eq!(of("EXECUTE p(1)"), Command::Execute { name: "p".into() });
    assert_eq!(of("DEALLOCATE PREPARE ALL"), Command::Deallocate(None));
    assert_eq!(
        of("DEALLOCATE prepare"),
        Command::Deallocate(Some("prepare".into()))
    );
    assert_eq!(
        of("DEALLOCATE \"all\""),
        Command::Deallocate(Some("all".into()))
    );
    let text = "DECLARE c NO SCROLL CURSOR WITH HOLD FOR SELECT 1";
    let Command::Declare { name, hold, query } = of(text) else {
        panic!()
    };
    assert_eq!(
        (name.as_str(), hold, part(text, query)),
        ("c", true, "SELECT 1")
    );
    assert!(matches!(
        of("DECLARE c CURSOR FOR SELECT 1"),
        Command::Declare { hold: false, .. }
    ));
    assert_eq!(of("CLOSE ALL"), Command::CloseCursor(None));
    assert_eq!(of("LISTEN a"), Command::Listen("a".into()));
    assert_eq!(of("UNLISTEN *"), Command::Unlisten(None));
    assert_eq!(of("NOTIFY a, 'x'"), Command::Notify("a".into()));
}

#[test]
fn ddl() {
    let ddl = |text: &str| match of(text) {
        Command::Ddl(ddl) => (ddl.object, ddl.outside_transaction, ddl.temporary),
        command => panic!("{command:?}"),
    };
    for (text, object, outside, temporary) in [
        ("CREATE TABLE t (a int)", "table", false, false),
        ("CREATE LOCAL TEMP TABLE t (a int)", "table", false, true),
        (
            "CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1",
            "view",
            false,
            true,
        ),
        ("CREATE TABLE pg_temp.t (a int)", "table", false, true),
        (
            "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)",
            "index",
            true,
            false,
        ),
        ("CREATE INDEX i ON t (concurrently)", "index", false, false),
        ("DROP INDEX CONCURRENTLY i", "index", true, false),
        ("CREATE DATABASE d", "database", true, false),
        ("ALTER DATABASE d SET TABLESPACE x", "database", true, false),
        (
            "ALTER DATABASE d SET work_mem = 5",
            "database",
            false,
            false,
        ),
        ("ALTER SYSTEM SET work_mem = 5", "system", true, false),
        (
            "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
            "table",
            true,
            false,
        ),
        (
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
            "materialized view",
            false,
            false,
        ),
        (
            "CREATE FOREIGN DATA WRAPPER w",
            "foreign data",
            false,
            false,
        ),
        (
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON t EXECUTE FUNCTION f()",
            "trigger",
            false,
            false,
        ),
        ("GRANT SELECT ON t TO x", "select", false, false),
        ("CREATE", "", false, false),
    ] {
        assert_eq!(ddl(text), (object.to_owned(), outside, temporary), "{text}");
    }
}

#[test]
fn maintenance() {
    let outside = |text: &str| match of(text) {
        Command::Maintenance {
            outside_transaction,
            ..
        } => outside_transaction,
        command => panic!("{command:?}"),
    };
    for text in [
        "VACUUM",
        "VACUUM (FULL) t",
        "REINDEX DATABASE d",
        "REINDEX SCHEMA s",
        "REINDEX INDEX CONCURRENTLY i",
        "REINDEX (CONCURRENTLY) TABLE t",
        "CLUSTER",
        "CLUSTER VERBOSE",
    ] {
        assert!(outside(text), "{text}");
    }
    for text in [
        "ANALYZE t",
        "REINDEX (VERBOSE) TABLE t",
        "CLUSTER t",
        "REFRESH MATERIALIZED VIEW CONCURRENTLY v",
        "CHECKPOINT",
    ] {
        assert!(!outside(text), "{text}");
    }
}

const SALAD: [&str; 60] = [
    "SET",
    "LOCAL",
    "SESSION",
    "TIME",
    "ZONE",
    "ROLE",
    "NAMES",
    "TO",
    "=",
    "DEFAULT",
    "pgshunt",
    ".",
    "x",
    "'y'",
    "-",
    "5",
    ",",
    "RESET",
    "SHOW",
    "ALL",
    "COPY",
    "(",
    ")",
    "FROM",
    "STDIN",
    "PROGRAM",
    "EXPLAIN",
    "ANALYZE",
    "SELECT",
    "INTO",
    "TEMP",
    "WITH",
    "AS",
    "INSERT",
    "PREPARE",
    "TRANSACTION",
    "EXECUTE",
    "DEALLOCATE",
    "DECLARE",
    "CURSOR",
    "HOLD",
    "FOR",
    "BEGIN",
    "READ",
    "ONLY",
    "ISOLATION",
    "LEVEL",
    "COMMIT",
    "AND",
    "CHAIN",
    "ROLLBACK",
    "SAVEPOINT",
    "CREATE",
    "INDEX",
    "CONCURRENTLY",
    "REINDEX",
    "CLUSTER",
    "AUTHORIZATION",
    "CHARACTERISTICS",
    "UNLISTEN",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn any_words_are_some_command(words in proptest::collection::vec(proptest::sample::select(SALAD.to_vec()), 0..12)) {
        let text = words.join(" ");
        let tokens = tokenize(text.as_bytes(), true).unwrap();
        let ranges = match classify(text.as_bytes(), &tokens, true) {
            Command::Explain(words) => vec![words.statement],
            Command::Prepare { statement, .. } => vec![statement],
            Command::Declare { query, .. } => vec![query],
            Command::Copy(copy) => match copy.subject {
                CopySubject::Query(query) => vec![query, copy.options],
                CopySubject::Table { .. } => vec![copy.options],
            },
            _ => vec![],
        };
        for range in ranges {
            prop_assert!(range.start <= range.end && range.end <= tokens.len());
        }
    }
}
