use super::*;
use proptest::prelude::*;

fn lifted(text: &str) -> Lifted {
    let mut out = Lifted::default();
    assert!(lift(text.as_bytes(), true, &mut out), "{text}");
    out
}

/// The text with its slots replaced by `?`.
fn shown(text: &str) -> String {
    shape(text.as_bytes(), &lifted(text))
}

fn fingerprint_of(text: &str) -> u128 {
    lifted(text).fingerprint
}

fn assert_same(a: &str, b: &str) {
    assert_eq!(fingerprint_of(a), fingerprint_of(b), "{a} / {b}");
}

fn assert_differ(a: &str, b: &str) {
    assert_ne!(fingerprint_of(a), fingerprint_of(b), "{a} / {b}");
}

#[test]
fn operands_of_comparisons() {
    for (text, shape) in [
        (
            "SELECT a FROM t WHERE id = 42",
            "SELECT a FROM t WHERE id = ?",
        ),
        (
            "select a from t where id=42;",
            "select a from t where id=?;",
        ),
        (
            "SELECT a FROM t WHERE id = -7 AND b <> 'it''s'",
            "SELECT a FROM t WHERE id = ? AND b <> ?",
        ),
        (
            "SELECT a FROM t WHERE (id >= 5 OR b < 6.5) AND NOT (c != 7)",
            "SELECT a FROM t WHERE (id >= ? OR b < ?) AND NOT (c != ?)",
        ),
        (
            "SELECT a FROM t WHERE id = 5::bigint AND b = '2024-01-01'::timestamp(3)",
            "SELECT a FROM t WHERE id = ?::bigint AND b = ?::timestamp(3)",
        ),
        (
            "SELECT a FROM t JOIN u ON t.id = u.id AND u.x = 5 LEFT JOIN v ON v.y = 6 WHERE t.id = 7",
            "SELECT a FROM t JOIN u ON t.id = u.id AND u.x = ? LEFT JOIN v ON v.y = ? WHERE t.id = ?",
        ),
        (
            "UPDATE t SET a = 5, b = 'x', c = c + 1 WHERE id = 7 RETURNING a = 5",
            "UPDATE t SET a = ?, b = ?, c = c + ? WHERE id = ? RETURNING a = 5",
        ),
        (
            "DELETE FROM t USING u WHERE t.id = 5 AND u.id = 6",
            "DELETE FROM t USING u WHERE t.id = ? AND u.id = ?",
        ),
        (
            "SELECT a FROM t WHERE id = 5 ORDER BY 1 LIMIT 10",
            "SELECT a FROM t WHERE id = ? ORDER BY 1 LIMIT 10",
        ),
        (
            "SELECT a FROM t WHERE id = 5 FOR UPDATE",
            "SELECT a FROM t WHERE id = ? FOR UPDATE",
        ),
        (
            "SELECT DISTINCT ON (a = 5) a FROM t WHERE id = 5",
            "SELECT DISTINCT ON (a = 5) a FROM t WHERE id = ?",
        ),
    ] {
        assert_eq!(shown(text), shape);
    }
}

#[test]
fn ranges_patterns_and_sums() {
    for (text, shape) in [
        (
            "SELECT a FROM t WHERE id BETWEEN 5 AND 6 AND b NOT BETWEEN -7 AND 'x'::text OR c = 8",
            "SELECT a FROM t WHERE id BETWEEN ? AND ? AND b NOT BETWEEN ? AND ?::text OR c = ?",
        ),
        (
            "SELECT a FROM t WHERE (id BETWEEN 5 AND 5 + 200) LIMIT 5",
            "SELECT a FROM t WHERE (id BETWEEN ? AND ? + ?) LIMIT 5",
        ),
        (
            "SELECT a FROM t WHERE id BETWEEN SYMMETRIC 5 AND 6",
            "SELECT a FROM t WHERE id BETWEEN SYMMETRIC 5 AND ?",
        ),
        (
            "SELECT a FROM t WHERE id BETWEEN (SELECT 1 WHERE a AND b) AND 6 AND 7",
            "SELECT a FROM t WHERE id BETWEEN (SELECT 1 WHERE a AND b) AND ? AND 7",
        ),
        (
            "SELECT a FROM t WHERE n LIKE 'a%' AND m NOT ILIKE '%b' OR o = 'c'",
            "SELECT a FROM t WHERE n LIKE ? AND m NOT ILIKE ? OR o = ?",
        ),
        (
            "UPDATE t SET n = n + 5, m = (m * 2 - -3), o = $1 / 4 WHERE id = 5::int + 1",
            "UPDATE t SET n = n + ?, m = (m * ? - ?), o = $1 / ? WHERE id = ?::int + ?",
        ),
        (
            "SELECT a FROM t WHERE id = 7/2 AND b > -5 * 2 AND c = f(5) - 1",
            "SELECT a FROM t WHERE id = ?/? AND b > ? * ? AND c = f(5) - ?",
        ),
    ] {
        assert_eq!(shown(text), shape);
    }
    assert_differ(
        "SELECT a FROM t WHERE id = 7/2",
        "SELECT a FROM t WHERE id = 7/2.0",
    );
    assert_differ(
        "SELECT a FROM t WHERE id = b - 2",
        "SELECT a FROM t WHERE id = b - 3000000000",
    );
}

#[test]
fn lists_and_rows() {
    for (text, shape) in [
        (
            "SELECT a FROM t WHERE id IN (1, -2, 3::int, 1+1)",
            "SELECT a FROM t WHERE id IN (?, ?, ?::int, 1+1)",
        ),
        (
            "SELECT a FROM t WHERE id NOT IN ('a','b')",
            "SELECT a FROM t WHERE id NOT IN (?,?)",
        ),
        (
            "SELECT a FROM t WHERE id = ANY ('{1,2}'::int[])",
            "SELECT a FROM t WHERE id = ANY ('{1,2}'::int[])",
        ),
        (
            "SELECT a FROM t WHERE id = ANY ('{1,2}')",
            "SELECT a FROM t WHERE id = ANY (?)",
        ),
        (
            "INSERT INTO t (a, b) VALUES (1, 'x'), (-2.5, NULL), (DEFAULT, f(3))",
            "INSERT INTO t (a, b) VALUES (?, ?), (?, NULL), (DEFAULT, f(3))",
        ),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE b = 5 DO UPDATE SET b = 6 WHERE t.c = 7",
            "INSERT INTO t VALUES (?) ON CONFLICT (a) WHERE b = 5 DO UPDATE SET b = ? WHERE t.c = ?",
        ),
        ("VALUES (1, 2)", "VALUES (?, ?)"),
        (
            "SELECT * FROM (VALUES (1, 'a')) v(x, y) WHERE x = 1",
            "SELECT * FROM (VALUES (?, ?)) v(x, y) WHERE x = ?",
        ),
    ] {
        let shape = if text.contains("int[]") {
            "SELECT a FROM t WHERE id = ANY (?::int[])"
        } else {
            shape
        };
        assert_eq!(shown(text), shape);
    }
}

#[test]
fn subqueries_where_their_values_are_nobodys_business() {
    for (text, shape) in [
        (
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.x = 5)",
            "SELECT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.x = ?)",
        ),
        (
            "SELECT a FROM t WHERE id IN (SELECT id FROM u WHERE x = 5)",
            "SELECT a FROM t WHERE id IN (SELECT id FROM u WHERE x = ?)",
        ),
        (
            "SELECT a FROM (SELECT a FROM t WHERE id = 5) s WHERE a = 6",
            "SELECT a FROM (SELECT a FROM t WHERE id = ?) s WHERE a = ?",
        ),
        (
            "WITH x(a) AS (SELECT a FROM t WHERE id = 5), y AS MATERIALIZED (VALUES (1)) SELECT a FROM x WHERE a = 6",
            "WITH x(a) AS (SELECT a FROM t WHERE id = ?), y AS MATERIALIZED (VALUES (?)) SELECT a FROM x WHERE a = ?",
        ),
        (
            "WITH x AS (DELETE FROM t WHERE id = 5 RETURNING a) INSERT INTO u SELECT a FROM x WHERE a = 6",
            "WITH x AS (DELETE FROM t WHERE id = ? RETURNING a) INSERT INTO u SELECT a FROM x WHERE a = ?",
        ),
        (
            "(SELECT a FROM t WHERE id = 5) UNION ALL (SELECT a FROM t WHERE id = 6) ORDER BY 1",
            "(SELECT a FROM t WHERE id = ?) UNION ALL (SELECT a FROM t WHERE id = ?) ORDER BY 1",
        ),
        (
            "SELECT (SELECT a FROM t WHERE id = 5)",
            "SELECT (SELECT a FROM t WHERE id = 5)",
        ),
        (
            "SELECT a FROM t GROUP BY a HAVING count(*) > 5",
            "SELECT a FROM t GROUP BY a HAVING count(*) > 5",
        ),
        (
            "SELECT a FROM t WHERE id = 5; UPDATE t SET a = 6 WHERE id = 7",
            "SELECT a FROM t WHERE id = ?; UPDATE t SET a = ? WHERE id = ?",
        ),
    ] {
        assert_eq!(shown(text), shape);
    }
}

#[test]
fn merge() {
    assert_eq!(
        shown(
            "MERGE INTO t USING s ON t.id = s.id AND s.x = 5 WHEN MATCHED AND t.y = 5 THEN UPDATE SET a = 5 \
             WHEN NOT MATCHED THEN INSERT (a) VALUES (5)"
        ),
        "MERGE INTO t USING s ON t.id = s.id AND s.x = ? WHEN MATCHED AND t.y = 5 THEN UPDATE SET a = ? \
         WHEN NOT MATCHED THEN INSERT (a) VALUES (?)"
    );
}

#[test]
fn what_is_not_on_the_list_stays_in_the_text() {
    for text in [
        "SELECT 5, 'x', a = 5 FROM t",
        "SELECT a FROM t WHERE a - 5 = b",
        "SELECT a FROM t WHERE id = 'a' + b",
        "SELECT a FROM t WHERE id = b + 'a'",
        "SELECT a FROM t WHERE id = 5 ^ 2 OR id = 5 || 'a' OR id = a ^ 5",
        "SELECT a FROM t WHERE id LIKE 'a%' ESCAPE '!' OR id LIKE 'a' || 'b' OR id LIKE 5",
        "SELECT a FROM t WHERE like(id, 'a%') OR \"like\" 'a'",
        "SELECT a, sum(b) OVER (ROWS BETWEEN 5 PRECEDING AND 6 FOLLOWING) FROM t WHERE a",
        "SELECT a FROM t WHERE id BETWEEN CASE WHEN a AND 'f' THEN 1 END AND 5",
        "SELECT a + 5 FROM t ORDER BY a + 5 LIMIT 5 + 6",
        "SELECT a FROM t WHERE id = - 5",
        "SELECT a FROM t WHERE id = +5",
        "SELECT a FROM t WHERE id = -5::int",
        "SELECT a FROM t WHERE id = 'a' 'b'",
        "SELECT a FROM t WHERE id = 'a'\n'b'",
        "SELECT a FROM t WHERE id = 'a' COLLATE \"C\"",
        "SELECT a FROM t WHERE id = E'a' OR id = N'a' OR id = U&'a' OR id = B'1' OR id = $$a$$",
        "SELECT a FROM t WHERE id = INTERVAL '1' OR id = date '2024-01-01'",
        "SELECT a FROM t WHERE id = 'users'::regclass",
        "SELECT a FROM t WHERE f(id = 5, 6)",
        "SELECT a FROM t WHERE f((SELECT 1 FROM u WHERE x = 5))",
        "SELECT a FROM t WHERE id = ARRAY[5]",
        "SELECT a FROM t WHERE (a, b) = (5, 6)",
        "SELECT a FROM t WHERE id @> '{}'",
        "SELECT a FROM t WHERE id = 5 = true",
        "SELECT a FROM t WHERE id = 5 IS NULL",
        "SELECT a FROM t WHERE id = 0x1f",
        "SELECT a FROM t WHERE id = 1_000",
        "SELECT a FROM t WHERE t.id OPERATOR(pg_catalog.=) 5",
        "SELECT a FROM generate_series(1, 5) g LIMIT 5 OFFSET 6",
        "SELECT a AS \"where\", 1 AS where, b = 5",
        "EXPLAIN SELECT a FROM t WHERE id = 5",
        "PREPARE p AS SELECT a FROM t WHERE id = 5",
        "DECLARE c CURSOR FOR SELECT a FROM t WHERE id = 5",
        "COPY (SELECT a FROM t WHERE id = 5) TO STDOUT",
        "SET work_mem = 5",
        "CREATE TABLE t (a numeric(5, 2) DEFAULT 5 CHECK (a = 5))",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT a FROM t WHERE id = 5; END",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; UPDATE t SET a = 5 WHERE id = 5)",
        "UPDATE t SET a[1] = b[2] WHERE c[3]",
        "SELECT a FROM t WHERE id = 5)",
        "SELECT a FROM t WHERE (id = 5",
        "SELECT a FROM t WHERE a[(id = 5] )",
    ] {
        assert_eq!(shown(text), text);
    }
}

#[test]
fn backslashes_are_not_lifted_with_standard_conforming_strings_off() {
    let text = br"SELECT a FROM t WHERE id = 'a\'' AND b = 'c'";
    let mut out = Lifted::default();
    assert!(lift(text, false, &mut out));
    assert_eq!(out.slots.len(), 1);
    assert_eq!(out.literal(text, 0), Some(&b"'c'"[..]));
    assert!(!lift(text, true, &mut out));
}

#[test]
fn standard_conforming_strings_is_in_the_fingerprint() {
    let text = b"SELECT a FROM t WHERE id = 5";
    let mut out = Lifted::default();
    lift(text, true, &mut out);
    let on = out.fingerprint;
    lift(text, false, &mut out);
    assert_ne!(on, out.fingerprint);
}

#[test]
fn the_kind_of_a_literal_is_in_the_fingerprint() {
    let of = |literal: &str| format!("SELECT a FROM t WHERE id = {literal}");
    let kinds = [
        ["0", "2147483647"],
        ["-1", "-2147483648"],
        ["2147483648", "9223372036854775807"],
        ["-2147483649", "-9223372036854775808"],
        ["9223372036854775808", "123456789012345678901234567890"],
        ["-9223372036854775809", "-123456789012345678901234567890"],
        ["5.0", "1e5"],
        ["-5.", "-.5"],
        ["'5'", "'it''s \\ '"],
    ];
    for (n, [one, other]) in kinds.iter().enumerate() {
        assert_same(&of(one), &of(other));
        for [stranger, _] in &kinds[n + 1..] {
            assert_differ(&of(one), &of(stranger));
        }
    }
    assert_same(&of("00000000000000000000000000000000000000007"), &of("7"));
}

#[test]
fn the_rest_of_the_text_is_in_the_fingerprint() {
    assert_differ(
        "SELECT a FROM t WHERE id = 5 LIMIT 5",
        "SELECT a FROM t WHERE id = 5 LIMIT 6",
    );
    assert_differ(
        "SELECT a FROM t WHERE id IN (1,2)",
        "SELECT a FROM t WHERE id IN (1,2,3)",
    );
    assert_differ(
        "/* pgshunt: shard=a */ SELECT 1",
        "/* pgshunt: shard=b */ SELECT 1",
    );
    assert_differ("SELECT a FROM t ORDER BY 1", "SELECT a FROM t ORDER BY 2");
    assert_differ("SELECT 7/2", "SELECT 7/2.0");
}

#[test]
fn slots_are_the_literals_as_written() {
    let text = b"SELECT a FROM t WHERE id = -7 AND b IN ('x''y', 5.5)";
    let mut out = Lifted::default();
    lift(text, true, &mut out);
    let literals: Vec<_> = (0..4).map(|n| out.literal(text, n)).collect();
    assert_eq!(
        literals,
        [Some(&b"-7"[..]), Some(b"'x''y'"), Some(b"5.5"), None]
    );
    assert_eq!(
        out.kinds[..],
        [LiteralKind::Int4, LiteralKind::String, LiteralKind::Decimal]
    );
}

#[test]
fn what_cannot_be_scanned_is_said() {
    let mut out = Lifted::default();
    for text in [
        "SELECT a FROM t WHERE id = 5 AND b = 'x",
        "SELECT 5 /* ",
        "SELECT 1a",
        "SELECT 'a\0'",
        "SELECT \\",
    ] {
        assert!(!lift(text.as_bytes(), true, &mut out), "{text}");
        assert!(out.slots.is_empty());
    }
}

#[test]
fn a_shape_is_at_most_two_kilobytes() {
    let long = format!("SELECT a FROM t WHERE id = 5 AND b = {}", "é".repeat(5000));
    let shape = shown(&long);
    assert!(shape.len() <= SHAPE_BYTES_MAX && shape.ends_with('…') && shape.contains("id = ?"));
    let many = format!("SELECT a FROM t WHERE id IN (1{})", ",1".repeat(5000));
    assert!(shown(&many).len() <= SHAPE_BYTES_MAX);
}

#[test]
fn many_rows_are_lifted_up_to_the_bound_and_the_buffers_do_not_stay() {
    let rows = |count: usize| format!("INSERT INTO t VALUES (1){}", ",(1)".repeat(count - 1));
    let mut out = Lifted::default();
    lift(rows(20_000).as_bytes(), true, &mut out);
    assert_eq!(out.slots.len(), 20_000);
    lift(rows(SLOTS_MAX + 1).as_bytes(), true, &mut out);
    assert!(out.slots.is_empty());
    lift(b"SELECT 1", true, &mut out);
    assert!(out.slots.capacity() <= KEPT_SLOTS_MAX && out.scratch.capacity() <= KEPT_BYTES_MAX);
}

#[test]
fn deep_nesting_is_not_lifted() {
    let text = format!(
        "SELECT a FROM t WHERE {}id = 5{}",
        "(".repeat(1000),
        ")".repeat(1000)
    );
    assert!(lifted(&text).slots.is_empty());
}

/// A piece of a text with one literal in it, `#` standing for the literal.
const PLACES: [&str; 14] = [
    "SELECT a FROM t WHERE id = #",
    "SELECT a, 5 FROM t WHERE id = # AND b = 6 LIMIT 5",
    "SELECT a FROM t WHERE id IN (1, #, 'x')",
    "INSERT INTO t VALUES (#, 5), (6, 'x')",
    "UPDATE t SET a = # WHERE b = 5",
    "SELECT a FROM t WHERE f(#) AND id = 5",
    "SELECT #",
    "SELECT a FROM t WHERE a - # = 5",
    "SELECT a FROM t ORDER BY #",
    "SELECT a FROM t WHERE id = # + 1",
    "SELECT a FROM t WHERE id = 1 + #",
    "SELECT a::varchar(#) FROM t",
    "DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE x = #)",
    "SELECT a FROM t WHERE id = ANY (#)",
];

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i32>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<i128>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| format!("{n:?}")),
        "[ -~é]{0,12}".prop_map(|s| format!("'{}'", s.replace('\'', "''"))),
        "[ -~é\n]{0,12}",
    ]
}

/// What lifting must not mix up, found independently of it: kind and sign of a literal that Postgres reads as one.
fn plain_kind(literal: &str) -> Option<String> {
    let digits = literal.strip_prefix('-').unwrap_or(literal);
    let sign = if digits.len() < literal.len() {
        "-"
    } else {
        ""
    };
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        let kind = match (literal.parse::<i32>(), literal.parse::<i64>()) {
            (Ok(_), _) => "int4",
            (_, Ok(_)) => "int8",
            _ => "large",
        };
        return Some(format!("{sign}{kind}"));
    }
    let is_decimal = digits.bytes().next().is_some_and(|b| b.is_ascii_digit())
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'-'))
        && digits.parse::<f64>().is_ok();
    if is_decimal {
        return Some(format!("{sign}decimal"));
    }
    let inner = literal.strip_prefix('\'')?.strip_suffix('\'')?;
    (!inner.replace("''", "").contains('\'')).then(|| "string".to_owned())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// One fingerprint means: the same text, or literals of the same kind and sign at a lifted place.
    #[test]
    fn lifting_merges_texts_that_differ_in_literals_of_one_kind_and_no_others(
        place in 0..PLACES.len(), a in literal(), b in literal()
    ) {
        let texts = [PLACES[place].replace('#', &a), PLACES[place].replace('#', &b)];
        let mut outs = [Lifted::default(), Lifted::default()];
        for (text, out) in texts.iter().zip(&mut outs) {
            lift(text.as_bytes(), true, out);
        }
        if outs[0].fingerprint == outs[1].fingerprint && texts[0] != texts[1] {
            prop_assert!(plain_kind(&a).is_some(), "{:?}", texts);
            prop_assert_eq!(plain_kind(&a), plain_kind(&b), "{:?}", texts);
        }
        let lifts_here = matches!(place, 0..=4 | 12);
        if lifts_here && plain_kind(&a).is_some() && plain_kind(&a) == plain_kind(&b) {
            prop_assert_eq!(outs[0].fingerprint, outs[1].fingerprint, "{:?}", texts);
        }
    }

    /// Words of SQL in any order: what is lifted is always a literal, and putting the slots back gives the text.
    #[test]
    fn slots_are_ascending_and_hold_literals(
        words in proptest::collection::vec(proptest::sample::select(SALAD.to_vec()), 0..40)
    ) {
        let text = words.join(" ");
        let mut out = Lifted::default();
        lift(text.as_bytes(), true, &mut out);
        let mut end = 0;
        prop_assert_eq!(out.slots.len(), out.kinds.len());
        for slot in &out.slots {
            prop_assert!(slot.start >= end && slot.end > slot.start && slot.end <= text.len());
            prop_assert!(plain_kind(&text[slot.start..slot.end]).is_some(), "{}", &text[slot.start..slot.end]);
            end = slot.end;
        }
    }

    #[test]
    fn any_bytes_may_come(text in proptest::collection::vec(any::<u8>(), 0..200), scs in any::<bool>()) {
        let mut out = Lifted::default();
        lift(&text, scs, &mut out);
        shape(&text, &out);
    }
}

const SALAD: [&str; 60] = [
    "SELECT",
    "FROM",
    "WHERE",
    "ON",
    "JOIN",
    "SET",
    "UPDATE",
    "INSERT",
    "INTO",
    "VALUES",
    "DELETE",
    "MERGE",
    "USING",
    "WHEN",
    "THEN",
    "AND",
    "OR",
    "NOT",
    "IN",
    "ANY",
    "(",
    "(",
    ")",
    ")",
    "[",
    "]",
    ",",
    ",",
    ";",
    ".",
    "::",
    "=",
    "=",
    "=",
    "<",
    ">=",
    "-",
    "+",
    "5",
    "-5",
    "2147483648",
    "5.5",
    "'x'",
    "'it''s'",
    "\n'y'",
    "E'a'",
    "$1",
    "t",
    "a",
    "int",
    "AS",
    "WITH",
    "UNION",
    "ALL",
    "GROUP",
    "ORDER",
    "CASE",
    "END",
    "CONFLICT",
    "DO",
];
