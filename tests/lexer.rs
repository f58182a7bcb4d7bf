//! Our tokens against those of a real server: its syntax errors quote the token they stumble over, and after CHECKPOINT
//! it stumbles over every token. Runs when PGSHUNT_TEST_POSTGRES holds a connection string of any PostgreSQL 15 server
//! (`host=127.0.0.1 port=5432 user=postgres`); without it there is nothing to compare with and the test says so.

use pgshunt::sql::tokens::{NumberKind, ScanError, Scanner, Token, TokenKind};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use tokio_postgres::{Client, NoTls};

const PARTS: [&str; 58] = [
    "'", "''", "\"", "\"\"", "$", "$$", "$a$", "$1", "E'", "e'", "N'", "U&'", "u&\"", "B'", "X'",
    "\\", "\\'", "--", "/*", "*/", "\n", "\r", "\t", " ", "+", "-", "*", "/", "@", "=", "<", ">",
    "!", "~", "#", "^", "&", "|", "`", "?", "%", ".", "..", ":", ":=", "=>", "1", "20", "e", "E+",
    "x", "_", "a$", "é", "(", "]", ",", "{",
];

#[tokio::test]
async fn tokens_are_those_of_the_server() {
    let Ok(address) = std::env::var("PGSHUNT_TEST_POSTGRES") else {
        eprintln!("skipped: PGSHUNT_TEST_POSTGRES is not set");
        return;
    };
    let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
    tokio::spawn(connection);
    for scs in [true, false] {
        let set =
            format!("SET standard_conforming_strings = {scs}; SET escape_string_warning = off");
        client.batch_execute(&set).await.unwrap();
        let mut random = StdRng::seed_from_u64(15);
        for _ in 0..4000 {
            let count = random.random_range(1..14);
            let text: String = (0..count)
                .filter_map(|_| PARTS.choose(&mut random))
                .copied()
                .collect();
            compare(&client, &text, scs).await;
        }
    }
}

/// What the server's lexer makes of the beginning of a text.
#[derive(Debug, PartialEq)]
enum Seen {
    Token(String),
    End,
    /// the lexer itself refuses it
    Refused(String),
}

async fn compare(client: &Client, text: &str, scs: bool) {
    let mut at = 0;
    loop {
        let rest = &text[at..];
        let ours = Scanner::new(rest.as_bytes(), scs).next_token();
        if let Ok(Some(Token {
            kind: TokenKind::Semicolon,
            end,
            ..
        })) = ours
        {
            at += end;
            continue;
        }
        let theirs = ask(client, rest).await;
        match (ours, theirs) {
            (Ok(None), Seen::End) => return,
            (Ok(Some(token)), Seen::Token(theirs)) => {
                let written = &rest[token.span()];
                // N'…' is a keyword and a string to the server; UESCAPE looks one token ahead
                let expected = if token.kind == TokenKind::NationalString {
                    &written[..1]
                } else {
                    written
                };
                assert_eq!(expected, theirs, "in {text:?} at {at}, {token:?}");
                at += token.end;
            }
            (Ok(Some(token)), Seen::Refused(message)) => {
                let is_special = token.kind == TokenKind::Number(NumberKind::Special);
                let is_escape = ["escape", "Unicode", "UESCAPE", "byte sequence", "backslash"];
                let looks_ahead = matches!(
                    token.kind,
                    TokenKind::UnicodeString | TokenKind::UnicodeIdent
                );
                let known = (is_special && message.contains("junk"))
                    || is_escape.iter().any(|word| message.contains(word));
                assert!(
                    known || looks_ahead,
                    "in {text:?} at {at}: {token:?}, the server says {message}"
                );
                if !looks_ahead {
                    return;
                }
                at += token.end;
            }
            (Err(ScanError::Stray { .. }), Seen::Token(theirs)) => {
                assert!(theirs.chars().count() == 1, "in {text:?} at {at}: {theirs}");
                return;
            }
            (Err(_), Seen::Refused(_)) => return,
            // the server has read the N, not yet the string
            (Err(ScanError::UnterminatedString { .. }), Seen::Token(theirs))
                if theirs.eq_ignore_ascii_case("n") =>
            {
                return;
            }
            (ours, theirs) => panic!("in {text:?} at {at}: {ours:?}, the server sees {theirs:?}"),
        }
    }
}

async fn ask(client: &Client, text: &str) -> Seen {
    let Err(error) = client.simple_query(&format!("CHECKPOINT {text}")).await else {
        return Seen::End;
    };
    let message = error
        .as_db_error()
        .map(|error| error.message().to_owned())
        .unwrap_or_default();
    if message == "syntax error at end of input" {
        return Seen::End;
    }
    match message
        .strip_prefix("syntax error at or near \"")
        .and_then(|rest| rest.strip_suffix('"'))
    {
        Some(token) => Seen::Token(token.to_owned()),
        None => Seen::Refused(message),
    }
}
