use super::*;
use proptest::prelude::*;

fn texts(text: &str) -> Vec<&str> {
    texts_with(text, true)
}

fn texts_with(text: &str, scs: bool) -> Vec<&str> {
    let tokens = tokenize(text.as_bytes(), scs).unwrap();
    tokens.iter().map(|token| &text[token.span()]).collect()
}

fn kinds(text: &str) -> Vec<TokenKind> {
    tokenize(text.as_bytes(), true)
        .unwrap()
        .iter()
        .map(|token| token.kind)
        .collect()
}

fn refused(text: &str) -> ScanError {
    tokenize(text.as_bytes(), true).unwrap_err()
}

#[test]
fn words_numbers_and_punctuation() {
    assert_eq!(
        texts("SELECT a$1,t.b_é FROM t WHERE x=$2;"),
        [
            "SELECT", "a$1", ",", "t", ".", "b_é", "FROM", "t", "WHERE", "x", "=", "$2", ";"
        ]
    );
    assert_eq!(
        texts("a[1:2]::int f(x:=1,y=>2)"),
        [
            "a", "[", "1", ":", "2", "]", "::", "int", "f", "(", "x", ":=", "1", ",", "y", "=>",
            "2", ")"
        ]
    );
}

#[test]
fn numbers() {
    use NumberKind::*;
    for (text, kind) in [
        ("0", Integer),
        ("123456789012345678901234567890", Integer),
        ("1.", Decimal),
        (".5", Decimal),
        ("1.5e-10", Decimal),
        ("1e5", Decimal),
        ("1.e5", Decimal),
        ("0x1F", Special),
        ("0b_1", Special),
        ("1_000", Special),
        ("1_0.2_5e1_0", Special),
    ] {
        assert_eq!(kinds(text), [TokenKind::Number(kind)], "{text}");
    }
    assert_eq!(texts("1..2"), ["1", "..", "2"]);
    assert_eq!(texts("1.5..2"), ["1.5", "..", "2"]);
    assert_eq!(texts("1.5.3"), ["1.5", ".3"]);
    assert_eq!(texts("a.5"), ["a", ".5"]);
    assert_eq!(texts("1+2-3"), ["1", "+", "2", "-", "3"]);
    for text in [
        "1a", "1.5a", "1e", "1e+", "1.e", "1é", "1__0", "1_", "0x", "0xg", "0b12", "0o8", "$1a",
        "1_000a",
    ] {
        refused(text);
    }
}

#[test]
fn parameters() {
    assert_eq!(kinds("$1$2"), [TokenKind::Param(1), TokenKind::Param(2)]);
    assert_eq!(kinds("$2147483647"), [TokenKind::Param(2_147_483_647)]);
    assert_eq!(refused("$4294967297"), ScanError::ParameterNumber { at: 0 });
}

#[test]
fn operators_end_before_comments() {
    assert_eq!(texts("1+/*x*/2"), ["1", "+", "2"]);
    assert_eq!(texts("1+--x\n2"), ["1", "+", "2"]);
    assert_eq!(texts("1 */* x */ 2"), ["1", "*", "2"]);
    assert_eq!(texts("a<>/**/b"), ["a", "<>", "b"]);
    assert_eq!(texts("1---2\n-3"), ["1", "-", "3"]);
}

#[test]
fn only_operators_with_special_characters_end_in_a_sign() {
    assert_eq!(texts("a=-1"), ["a", "=", "-", "1"]);
    assert_eq!(texts("a<=+-1"), ["a", "<=", "+", "-", "1"]);
    assert_eq!(texts("a@-1"), ["a", "@-", "1"]);
    assert_eq!(texts("a?-|b"), ["a", "?-|", "b"]);
    assert_eq!(texts("a|+-+b"), ["a", "|+-+", "b"]);
    assert_eq!(texts("+-+a"), ["+", "-", "+", "a"]);
    assert_eq!(texts("*+@b"), ["*+@", "b"]);
    assert_eq!(
        refused(&"*".repeat(64)),
        ScanError::OperatorTooLong { at: 0 }
    );
}

#[test]
fn strings() {
    use TokenKind::*;
    assert_eq!(
        kinds(r"'a''b' E'a\'b' e'\\' N'x' b'01' X'1f' U&'\0061' $$a$$ $t$ $$ $t$"),
        [
            String,
            EString,
            EString,
            NationalString,
            BitString,
            BitString,
            UnicodeString,
            DollarString,
            DollarString
        ]
    );
    assert_eq!(texts(r"'a\' b"), [r"'a\'", "b"]);
    assert_eq!(texts_with(r"'a\' b'", false), [r"'a\' b'"]);
    assert_eq!(texts_with(r"N'a\' b'", false), [r"N'a\' b'"]);
    // a doubled quote in a bit string is two strings
    assert_eq!(kinds("B'0''1'"), [BitString, String]);
    assert_eq!(texts("fe'x'"), ["fe", "'x'"]);
    assert_eq!(texts("a$$b$$"), ["a$$b$$"]);
    assert_eq!(texts("$a$ $b$ $a $a$"), ["$a$ $b$ $a $a$"]);
    assert_eq!(texts("$b$a$b$$a$c$a$"), ["$b$a$b$", "$a$c$a$"]);
    assert_eq!(texts("u&a u&\"d\\0061\""), ["u", "&", "a", "u&\"d\\0061\""]);
    for text in [
        "'a", "E'a\\'", "$$a$", "B'0", "\"a", "\"\"", "U&\"\"", "U&'x",
    ] {
        refused(text);
    }
    assert_eq!(
        tokenize(b"U&'x'", false).unwrap_err(),
        ScanError::UnsafeUnicodeString { at: 0 }
    );
}

#[test]
fn strings_go_on_after_a_newline() {
    let continued = |text: &str| {
        let tokens = tokenize(text.as_bytes(), true).unwrap();
        (tokens.len(), tokens[0].continued)
    };
    assert_eq!(continued("'a'\n'b'"), (1, true));
    assert_eq!(continued("'a' -- c\n \t -- 'd'\r'b'"), (1, true));
    assert_eq!(continued("E'a'\n'\\'b'"), (1, true));
    assert_eq!(continued("B'0'\n'1'"), (1, true));
    assert_eq!(continued("'a' 'b'"), (2, false));
    assert_eq!(continued("'a'\n/* c */'b'"), (2, false));
    assert_eq!(continued("'a'\nE'b'"), (2, false));
    assert_eq!(continued("'a'\n- 'b'"), (3, false));
}

#[test]
fn comments_nest() {
    assert_eq!(texts("a/* /* */ */b"), ["a", "b"]);
    assert_eq!(texts("a/*/**/*/b"), ["a", "b"]);
    assert_eq!(texts("a/***/b--c"), ["a", "b"]);
    assert_eq!(
        refused("a /* /* */"),
        ScanError::UnterminatedComment { at: 2 }
    );
    assert_eq!(refused("/*/"), ScanError::UnterminatedComment { at: 0 });
}

#[test]
fn stray_characters() {
    for text in ["\\", "{", "}", "$", "$a", "\0", "\x01", "a $ b"] {
        assert!(matches!(refused(text), ScanError::Stray { .. }), "{text}");
    }
}

#[test]
fn values_of_strings() {
    let value = |text: &str, scs| {
        let tokens = tokenize(text.as_bytes(), scs).unwrap();
        string_value(text.as_bytes(), &tokens[0], scs)
            .map(|value| std::string::String::from_utf8(value).unwrap())
    };
    for (text, scs, expected) in [
        ("''", true, Some("")),
        ("'it''s'", true, Some("it's")),
        (r"'a\n'", true, Some(r"a\n")),
        (r"'a\n'", false, Some("a\n")),
        (
            r"E'\'\\\b\101\x41\u0041\U00000041\q'",
            true,
            Some("'\\\u{8}AAAAq"),
        ),
        (r"E'\ud800'", true, None),
        ("'a' -- c\n 'b'", true, Some("ab")),
        ("E'a'\n'\\tb'", true, Some("a\tb")),
        ("$$a'b$$", true, Some("a'b")),
        ("$t$$$$t$", true, Some("$$")),
        ("N'x'", true, Some("x")),
        ("U&'x'", true, None),
        ("x", true, None),
    ] {
        assert_eq!(value(text, scs).as_deref(), expected, "{text}");
    }
}

#[test]
fn statements_are_split_at_semicolons() {
    let statements = |text: &str| -> Vec<std::string::String> {
        let tokens = tokenize(text.as_bytes(), true).unwrap();
        split(text.as_bytes(), &tokens)
            .into_iter()
            .map(|piece| text[piece.span].to_owned())
            .collect()
    };
    assert!(statements("").is_empty());
    assert!(statements(" ;; /* */ ; -- x").is_empty());
    assert_eq!(
        statements("SELECT 1; ;SELECT ';' ; "),
        ["SELECT 1", "SELECT ';'"]
    );
    let rule = "CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)";
    assert_eq!(statements(&format!("{rule}; SELECT 3")), [rule, "SELECT 3"]);
    let routine = "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 2 THEN 3 END; SELECT x.end; END";
    assert_eq!(
        statements(&format!("{routine}; SELECT 3")),
        [routine, "SELECT 3"]
    );
    assert_eq!(
        statements("BEGIN; SELECT 1; END; SELECT 2"),
        ["BEGIN", "SELECT 1", "END", "SELECT 2"]
    );
}

#[test]
fn comments_belong_to_the_statement_they_stand_before_or_in() {
    let text = "/* a */ SELECT 1 /* b */; /* c */ SELECT 2; -- d";
    let tokens = tokenize(text.as_bytes(), true).unwrap();
    let segments: Vec<_> = split(text.as_bytes(), &tokens)
        .into_iter()
        .map(|piece| &text[piece.segment])
        .collect();
    assert_eq!(
        segments,
        ["/* a */ SELECT 1 /* b */", " /* c */ SELECT 2; -- d"]
    );
}

#[test]
fn long_texts_take_linear_time() {
    let started = std::time::Instant::now();
    for piece in [
        "+", "-+", "=+", "'a'\n", "'a' ", "$a$", "/*", "/**/", "*/", "--\n", "1.", "1..", "\"a\"",
        "$1", "(", "x;", "_", "e'",
    ] {
        let text = piece.repeat(400_000 / piece.len());
        for scs in [true, false] {
            if let Ok(tokens) = tokenize(text.as_bytes(), scs) {
                split(text.as_bytes(), &tokens);
            }
        }
    }
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}

const SALAD: [&str; 44] = [
    "'", "''", "\"", "\"\"", "$", "$$", "$a$", "$1", "E'", "N'", "U&'", "U&\"", "B'", "X'", "\\",
    "\\'", "--", "/*", "*/", "\n", " ", "+", "-", "*", "/", "@", "=", "<", ".", "..", ":", "::",
    ":=", "1", "e", "0x", "_", "a", "é", "(", ")", ";", ",", "[",
];

fn salad() -> impl Strategy<Value = std::string::String> {
    proptest::collection::vec(proptest::sample::select(SALAD.to_vec()), 0..30)
        .prop_map(|parts| parts.concat())
}

fn assert_tiles(text: &[u8], scs: bool) -> Result<(), TestCaseError> {
    let mut scanner = Scanner::new(text, scs);
    let mut end = 0;
    while let Ok(Some(lexeme)) = scanner.next_lexeme() {
        let (start, next) = match lexeme {
            Lexeme::Token(token) => (token.start, token.end),
            Lexeme::Comment { start, end } => (start, end),
        };
        prop_assert!(start >= end && next > start && next <= text.len());
        prop_assert!(
            text[end..start]
                .iter()
                .all(|byte| b" \t\n\r\x0b\x0c".contains(byte))
        );
        end = next;
    }
    if tokenize(text, scs).is_ok() {
        prop_assert!(
            text[end..]
                .iter()
                .all(|byte| b" \t\n\r\x0b\x0c".contains(byte))
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn tokens_tile_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..100), scs in any::<bool>()) {
        assert_tiles(&text, scs)?;
    }

    #[test]
    fn tokens_tile_sql(text in salad(), scs in any::<bool>()) {
        assert_tiles(text.as_bytes(), scs)?;
    }

    /// A token is found again when the text is scanned from its start.
    #[test]
    fn scanning_has_no_memory(text in salad(), scs in any::<bool>()) {
        if let Ok(tokens) = tokenize(text.as_bytes(), scs) {
            for (n, token) in tokens.iter().enumerate() {
                let rest = tokenize(&text.as_bytes()[token.start..], scs).unwrap();
                prop_assert_eq!(rest.len(), tokens.len() - n);
                prop_assert_eq!(rest[0].end, token.end - token.start);
                prop_assert_eq!(rest[0].kind, token.kind);
            }
        }
    }

    #[test]
    fn splitting_any_bytes(text in salad()) {
        if let Ok(tokens) = tokenize(text.as_bytes(), true) {
            let pieces = split(text.as_bytes(), &tokens);
            for pair in pieces.windows(2) {
                prop_assert!(pair[0].span.end < pair[1].span.start);
                prop_assert!(pair[0].segment.end <= pair[1].segment.start);
            }
        }
    }

    #[test]
    fn string_values_of_any_bytes(text in proptest::collection::vec(any::<u8>(), 0..60), scs in any::<bool>()) {
        let quoted = [b"E'", &text[..], b"'"].concat();
        for token in tokenize(&quoted, scs).unwrap_or_default() {
            string_value(&quoted, &token, scs);
        }
    }
}
