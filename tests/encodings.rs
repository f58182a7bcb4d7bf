//! Every client encoding, byte for byte: what PostgreSQL sends and takes at a connection of its own it sends and takes
//! through pgshunt, in texts, literals, parameters, names of columns, errors and copies.

mod support {
    pub mod cluster;
    pub mod raw;
    pub mod town;
}

use std::fmt::Write as _;
use support::cluster::Proxy;
use support::raw::{self, Raw};
use support::town::{Map, Town};

/// Those that PostgreSQL has for clients of a UTF8 database, with characters of each: some of theirs contain the bytes of a
/// backslash, a quote or a letter.
const ENCODINGS: [(&str, &str); 38] = [
    ("UTF8", "aé漢😀ソ表"),
    ("BIG5", "功許蓋中文a"),
    ("EUC_CN", "中文汉字a"),
    ("EUC_JP", "漢字ソ表a"),
    ("EUC_JIS_2004", "漢字ソ表a"),
    ("EUC_KR", "한국어a"),
    ("EUC_TW", "中文功許a"),
    ("GB18030", "中文汉字é😀a"),
    ("GBK", "中文汉字誠a"),
    ("ISO_8859_5", "Привет"),
    ("ISO_8859_6", "مرحبا"),
    ("ISO_8859_7", "Γειά"),
    ("ISO_8859_8", "שלום"),
    ("JOHAB", "한국어a"),
    ("KOI8R", "Привет"),
    ("KOI8U", "Привіт"),
    ("LATIN1", "äöüßé"),
    ("LATIN2", "ąćęłń"),
    ("LATIN3", "ĉĝĥĵŝ"),
    ("LATIN4", "āčēģī"),
    ("LATIN5", "ğışçö"),
    ("LATIN6", "āčēģī"),
    ("LATIN7", "āčēģī"),
    ("LATIN8", "ŵŷäöü"),
    ("LATIN9", "€äöü"),
    ("LATIN10", "ăâîșț"),
    ("SJIS", "漢字ソ表能a"),
    ("SHIFT_JIS_2004", "漢字ソ表能a"),
    ("UHC", "한국어a"),
    ("WIN866", "Привет"),
    ("WIN874", "สวัสดี"),
    ("WIN1250", "ąćęłń"),
    ("WIN1251", "Привет"),
    ("WIN1252", "€äöüß"),
    ("WIN1253", "Γειά"),
    ("WIN1254", "ğışçö"),
    ("WIN1256", "مرحبا"),
    ("WIN1258", "äöüßé"),
];

/// All that is said in one answer, byte for byte, but for the numbers of lines in PostgreSQL's source.
fn said(client: &mut Raw, sent: &[u8]) -> String {
    client.send(sent).expect("sent");
    let mut all = String::new();
    loop {
        let message = client.receive().expect("a message");
        let _ = writeln!(all, "{} {:02x?}", message.tag as char, message.body);
        if matches!(message.tag, b'Z' | b'G') {
            return all;
        }
    }
}

/// A simple query of bytes.
fn query(parts: &[&[u8]]) -> Vec<u8> {
    let mut body = parts.concat();
    body.push(0);
    raw::message(b'Q', &body)
}

fn batch(sql: &[u8], value: &[u8]) -> Vec<u8> {
    let mut parse = vec![0];
    parse.extend(sql);
    parse.extend([0, 0, 0]);
    let mut bytes = raw::message(b'P', &parse);
    bytes.extend(raw::message(b'D', b"S\0"));
    let mut bind = vec![0, 0, 0, 0, 0, 1];
    bind.extend((value.len() as u32).to_be_bytes());
    bind.extend(value);
    bind.extend([0, 0]);
    bytes.extend(raw::message(b'B', &bind));
    bytes.extend(raw::execute("", 0));
    bytes.extend(raw::sync());
    bytes
}

/// The bytes of a text in this encoding, from PostgreSQL itself.
fn encoded(town: &Town, text: &str, encoding: &str) -> Vec<u8> {
    let sql = format!("SELECT encode(convert_to('{text}', '{encoding}'), 'hex')");
    let answer = town.direct(0, 0).ask(&sql).ok();
    let hex = answer.value().to_owned();
    (0..hex.len() / 2)
        .map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hexadecimal"))
        .collect()
}

#[test]
fn every_encoding_passes_byte_for_byte() {
    let town = Town::start("encodings", 1, 0);
    town.on_primaries("CREATE TABLE words (n serial, word text)");
    let proxy = Proxy::start(&Map::of(&town, 1, 0).pool("size: 2, verify: true").text());
    let mut other = Raw::connect(proxy.port(), "app", "social").expect("pgshunt");
    for (encoding, text) in ENCODINGS {
        let word = encoded(&town, text, encoding);
        let w = &word[..];
        let asked: Vec<Vec<u8>> = vec![
            query(&[b"SELECT '", w, b"' AS a, 1 AS b"]),
            query(&[b"SELECT '", w, b"', 1 AS \"", w, b"\""]),
            query(&[
                b"SELECT '",
                w,
                b"'; SELECT 2 /* ",
                w,
                b" */; SELECT '",
                w,
                b"' AS c",
            ]),
            query(&[
                b"SELECT n > 0, word FROM words WHERE word = '",
                w,
                b"' AND 1 = 1",
            ]),
            query(&[b"INSERT INTO words (word) VALUES ('", w, b"'), ('x')"]),
            query(&[
                b"SELECT word, length(word) FROM words WHERE word = '",
                w,
                b"'",
            ]),
            query(&[b"SELECT $$", w, b"$$, $q$", w, b"$q$ -- ", w, b"\n, 3"]),
            query(&[b"SELECT \"", w, b"\" FROM words"]),
            query(&[
                b"DO $$ BEGIN RAISE NOTICE '",
                w,
                b"'; RAISE EXCEPTION 'no ",
                w,
                b"'; END $$",
            ]),
            query(&[b"COPY words (word) FROM STDIN"]),
            batch(
                b"SELECT $1::text, length($1), word FROM words WHERE word = $1",
                w,
            ),
            batch(
                &[b"SELECT '", w, b"' || $1::text AS \"", w, b"\""].concat(),
                w,
            ),
            batch(b"INSERT INTO words (word) VALUES ($1)", w),
            query(&[b"COPY words (word) TO STDOUT"]),
            query(&[b"SET application_name = '", w, b"'"]),
            query(&[b"SELECT word FROM words WHERE word = E'\\\\", w, b"'"]),
            query(&[b"PREPARE p AS SELECT '", w, b"', $1::text"]),
            query(&[b"EXECUTE p('", w, b"')"]),
            query(&[b"DEALLOCATE p"]),
            query(&[b"SELECT '", &w[..1], b"' || 'x'"]),
        ];
        let mut answers = Vec::new();
        for port in [town.port(0, 0), proxy.port()] {
            town.on_primaries("TRUNCATE words RESTART IDENTITY");
            let mut client =
                Raw::connect_with(port, "app", "social", &[("client_encoding", encoding)])
                    .expect("a client");
            let mut given = Vec::new();
            for sent in &asked {
                let mut answer = said(&mut client, sent);
                if answer.contains("\nG ") || answer.starts_with("G ") {
                    let line = [w, b"\n"].concat();
                    let mut copied = raw::message(b'd', &line);
                    copied.extend(raw::message(b'd', b"\\.\n"));
                    copied.extend(raw::message(b'c', b""));
                    answer.push_str(&said(&mut client, &copied));
                }
                given.push(answer);
                if port == proxy.port() {
                    // in its own encoding, on the servers between
                    assert_eq!(other.ask("SELECT 'é😀'").ok().value(), "é😀");
                }
            }
            answers.push(given);
        }
        for (n, sent) in asked.iter().enumerate() {
            assert_eq!(
                answers[0][n],
                answers[1][n],
                "{encoding}: {}",
                String::from_utf8_lossy(sent)
            );
        }
    }
    let log = proxy.log();
    assert!(!log.contains("not as a fresh one"), "{log}");
}
