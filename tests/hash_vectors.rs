//! Shard keys against PostgreSQL itself, on a private server: texts mean what `x::type` means there, binary forms are read
//! as they are sent, and the partition hash is the one of `satisfies_hash_partition`.
//!
//! The server is made by `initdb` in a temporary folder, as an unprivileged user, on a Unix socket only, and stopped at the
//! end. Its programs are found by PG_BIN, PATH or the newest /usr/lib/postgresql/*/bin; without them the test fails.

use bytes::BytesMut;
use pgshunt::shard::{KeyError, KeyType, KeyValue, Keyspace, KeyspaceKind, ShardId};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokio_postgres::Client;
use tokio_postgres::types::{IsNull, ToSql, Type};

const VALUES_PER_TYPE: usize = 4000;
const BINARIES_PER_TYPE: usize = 1000;
const TYPES: [KeyType; 9] = [
    KeyType::SmallInt,
    KeyType::Integer,
    KeyType::BigInt,
    KeyType::Text,
    KeyType::Uuid,
    KeyType::Date,
    KeyType::Timestamp,
    KeyType::TimestampTz,
    KeyType::Numeric,
];

#[tokio::test]
async fn keys_are_what_postgres_says() {
    let server = Server::start();
    let client = server.connect().await;
    prepare(&client).await;
    let mut rng = StdRng::seed_from_u64(20_260_101);
    for key_type in TYPES {
        let mut texts = EDGES
            .iter()
            .map(|text| (*text).to_owned())
            .collect::<Vec<_>>();
        texts.extend((0..VALUES_PER_TYPE).map(|_| random_text(key_type, &mut rng)));
        compare_texts(&client, key_type, &texts).await;
        compare_hashes(&client, &[key_type], &texts, &mut rng).await;
        compare_binaries(&client, key_type, &mut rng).await;
    }
    for types in COMPOSITES {
        let texts: Vec<String> = (0..VALUES_PER_TYPE * types.len())
            .map(|i| random_text(types[i % types.len()], &mut rng))
            .collect();
        compare_hashes(&client, types, &texts, &mut rng).await;
    }
}

const COMPOSITES: &[&[KeyType]] = &[
    &[KeyType::BigInt, KeyType::Text],
    &[KeyType::Uuid, KeyType::Date, KeyType::SmallInt],
    &[KeyType::Numeric, KeyType::TimestampTz],
    &[
        KeyType::Text,
        KeyType::Text,
        KeyType::Timestamp,
        KeyType::Integer,
    ],
];

/// For each type a function that sends a text's value in binary form (hex), or NULL when the text is refused.
async fn prepare(client: &Client) {
    for key_type in TYPES {
        let send = send_function(key_type);
        let sql = format!(
            "CREATE FUNCTION try_{key_type}(v text) RETURNS text LANGUAGE plpgsql AS $$
             BEGIN RETURN encode({send}(v::{key_type}), 'hex');
             EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$"
        );
        client.batch_execute(&sql).await.unwrap();
    }
}

fn send_function(key_type: KeyType) -> &'static str {
    match key_type {
        KeyType::SmallInt => "int2send",
        KeyType::Integer => "int4send",
        KeyType::BigInt => "int8send",
        KeyType::Text => "textsend",
        KeyType::Uuid => "uuid_send",
        KeyType::Date => "date_send",
        KeyType::Timestamp => "timestamp_send",
        KeyType::TimestampTz => "timestamptz_send",
        KeyType::Numeric => "numeric_send",
    }
}

async fn compare_texts(client: &Client, key_type: KeyType, texts: &[String]) {
    let sql = format!(
        "SELECT try_{key_type}(v) FROM unnest($1::text[]) WITH ORDINALITY t(v, n) ORDER BY n"
    );
    let rows = client.query(&sql, &[&texts]).await.unwrap();
    let mut proven = 0;
    let mut wrong = Vec::new();
    for (text, row) in texts.iter().zip(rows) {
        let sent = row.get::<_, Option<&str>>(0).map(unhex);
        let ours = key_type.parse_text(text.as_bytes());
        match (&ours, &sent) {
            (Ok(value), Some(bytes)) if key_type.parse_binary(bytes).as_ref() == Ok(value) => {}
            (Err(KeyError::Invalid), None) | (Err(KeyError::Ambiguous), _) => {}
            _ => wrong.push(format!("{text:?}: we say {ours:?}, PostgreSQL {sent:?}")),
        }
        proven += usize::from(ours.is_ok());
    }
    assert!(
        wrong.is_empty(),
        "{key_type}: {} texts read differently:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(20)].join("\n")
    );
    assert!(
        proven > VALUES_PER_TYPE / 4,
        "too few valid texts of {key_type}: {proven}"
    );
}

/// Random bytes as a binary parameter: the receive function and we accept the same, and read the same.
async fn compare_binaries(client: &Client, key_type: KeyType, rng: &mut StdRng) {
    let sql = format!("SELECT {}($1::{key_type})", send_function(key_type));
    let statement = client.prepare(&sql).await.unwrap();
    for _ in 0..BINARIES_PER_TYPE {
        let bytes = random_bytes(key_type, rng);
        let ours = key_type.parse_binary(&bytes);
        let theirs = client.query_one(&statement, &[&Raw(bytes.clone())]).await;
        match (ours, theirs) {
            (Ok(value), Ok(row)) => {
                let sent: Vec<u8> = row.get(0);
                assert_eq!(
                    key_type.parse_binary(&sent),
                    Ok(value),
                    "{key_type} {bytes:?}"
                );
            }
            (Err(KeyError::Invalid), Err(_)) => {}
            (ours, theirs) => {
                panic!("{key_type} {bytes:?}: we say {ours:?}, PostgreSQL {theirs:?}")
            }
        }
    }
}

fn random_bytes(key_type: KeyType, rng: &mut StdRng) -> Vec<u8> {
    let width = match key_type {
        KeyType::SmallInt => 2,
        KeyType::Integer | KeyType::Date => 4,
        KeyType::BigInt | KeyType::Timestamp | KeyType::TimestampTz => 8,
        KeyType::Uuid => 16,
        KeyType::Text => return valid_text(key_type, rng).into_bytes(),
        KeyType::Numeric => return random_numeric_bytes(rng),
    };
    let width = if rng.random_ratio(1, 10) {
        rng.random_range(0..20)
    } else {
        width
    };
    (0..width).map(|_| rng.random()).collect()
}

/// Mostly well formed, with scales that hide digits, weights off the point, and now and then a wrong word.
fn random_numeric_bytes(rng: &mut StdRng) -> Vec<u8> {
    let count: u16 = rng.random_range(0..6);
    let sign = *[0, 0, 0x4000, 0x4000, 0xC000, 0xD000, 0xF000, 0x8000]
        .choose(rng)
        .unwrap();
    let weight: i16 = rng.random_range(-4..4);
    let scale = *[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 13, 0x3FFF, 0x4000]
        .choose(rng)
        .unwrap();
    let mut words = vec![count, weight.cast_unsigned(), sign, scale];
    words.extend((0..count).map(|_| *[0, 1, 10, 1234, 5678, 9999].choose(rng).unwrap()));
    if rng.random_ratio(1, 20) {
        let at = rng.random_range(0..words.len());
        words[at] = 10_000;
    }
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    bytes.truncate(bytes.len() - usize::from(rng.random_ratio(1, 30)));
    bytes
}

/// Bytes that go to the server as they are.
#[derive(Debug)]
struct Raw(Vec<u8>);

impl ToSql for Raw {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Every bucket we compute must be the one remainder that `satisfies_hash_partition` agrees to.
async fn compare_hashes(client: &Client, types: &[KeyType], texts: &[String], rng: &mut StdRng) {
    let columns: Vec<String> = types
        .iter()
        .enumerate()
        .map(|(i, t)| format!("c{i} {t}"))
        .collect();
    let names: Vec<String> = (0..types.len()).map(|i| format!("c{i}")).collect();
    let create = format!(
        "DROP TABLE IF EXISTS h; CREATE TABLE h ({}) PARTITION BY HASH ({})",
        columns.join(", "),
        names.join(", ")
    );
    client.batch_execute(&create).await.unwrap();

    let mut question = Question {
        columns: vec![Vec::new(); types.len()],
        moduli: Vec::new(),
        remainders: Vec::new(),
    };
    for key in texts.chunks_exact(types.len()) {
        question.add(
            types,
            key,
            *[1, 2, 3, 16, 64, 1000, 4093, 32_749].choose(rng).unwrap(),
        );
    }
    let misplaced = question.ask(client, types).await;
    assert!(
        misplaced.is_empty(),
        "{types:?}: {} keys elsewhere, first {:?}",
        misplaced.len(),
        misplaced[0]
    );
    assert!(
        question.moduli.len() > VALUES_PER_TYPE / 8,
        "too few valid keys of {types:?}: {}",
        question.moduli.len()
    );
}

struct Question {
    columns: Vec<Vec<String>>,
    moduli: Vec<i32>,
    remainders: Vec<i32>,
}

impl Question {
    fn add(&mut self, types: &[KeyType], key: &[String], modulus: i32) {
        let parsed = types
            .iter()
            .zip(key)
            .map(|(t, text)| t.parse_text(text.as_bytes()));
        let Ok(values) = parsed.collect::<Result<Vec<KeyValue>, _>>() else {
            return;
        };
        let kind = KeyspaceKind::HashPostgres {
            buckets: (0..modulus as u16).map(ShardId).collect(),
        };
        let keyspace = Keyspace {
            name: "h".into(),
            types: types.to_vec(),
            kind,
        };
        self.remainders
            .push(keyspace.locate(&values).unwrap().0.into());
        self.moduli.push(modulus);
        for (column, text) in self.columns.iter_mut().zip(key) {
            column.push(text.clone());
        }
    }

    async fn ask(&self, client: &Client, types: &[KeyType]) -> Vec<String> {
        let mut arrays = String::new();
        let mut names = String::new();
        let mut values = String::new();
        for (i, key_type) in types.iter().enumerate() {
            write!(arrays, ", ${}::text[]", i + 3).unwrap();
            write!(names, ", v{i}").unwrap();
            write!(values, ", v{i}::{key_type}").unwrap();
        }
        let sql = format!(
            "SELECT row(m, r{names})::text FROM unnest($1::int[], $2::int[]{arrays}) t(m, r{names})
             WHERE NOT satisfies_hash_partition('h'::regclass, m, r{values})"
        );
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.moduli, &self.remainders];
        parameters.extend(
            self.columns
                .iter()
                .map(|column| column as &(dyn ToSql + Sync)),
        );
        client
            .query(&sql, &parameters)
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect()
    }
}

/// Tried for every type.
const EDGES: &[&str] = &[
    "",
    " ",
    "0",
    "-0",
    "+0",
    " 7 ",
    "\t7\n",
    "\u{b}7\u{c}",
    "007",
    "32767",
    "32768",
    "-32768",
    "-32769",
    "2147483647",
    "2147483648",
    "-2147483648",
    "-2147483649",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775808",
    "-9223372036854775809",
    "1.0",
    ".5",
    "5.",
    ".",
    "1e3",
    "1E-3",
    "1e",
    "1e+",
    "1 e3",
    "1e 3",
    "--1",
    "+-1",
    "- 1",
    "1,000",
    "1_000",
    "0x1f",
    "NaN",
    "nan",
    " NaN ",
    "+NaN",
    "inf",
    "Infinity",
    "-Infinity",
    "+infinity",
    "-inf",
    "infinit",
    "1e131071",
    "1e131072",
    "1e-16383",
    "1e-16384",
    "0e200000",
    "0e-20000",
    "0e1000000000",
    "0e-1000000000",
    "1e2147483647",
    "1e99999999999999999999",
    "0.00000",
    "-0.0001",
    "9999.9999",
    "99990000",
    "1e1073741823",
    "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}",
    "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
    "2024-02-29",
    "2023-02-29",
    "2024-2-9",
    "999-01-01",
    "0001-01-01",
    "0000-01-01",
    "0001-01-01 BC",
    "4714-11-24 BC",
    "4714-11-23 BC",
    "4713-01-01 bc",
    "5874897-12-31",
    "5874898-01-01",
    "294276-12-31",
    "294277-01-01",
    "infinity BC",
    "infinity",
    "-infinity",
    " -Infinity ",
    "epoch",
    "tomorrow",
    "now",
    "2024-01-01 24:00:00",
    "2024-01-01 24:00:00.000001",
    "2024-01-01 23:59:60",
    "2024-01-01 23:59:60.5",
    "2024-01-01 23:59:61",
    "2024-01-01 23:60:00",
    "2024-01-01 25:00:00",
    "2024-01-01 00:00:00.0000005",
    "2024-01-01 00:00:00.0000015",
    "2024-01-01 00:00:00.9999995",
    "2024-01-01 00:00:00.",
    "2024-01-01T00:00",
    "2024-01-01t7:5:3Z",
    "2024-01-01 00:00:00z",
    "2024-01-01 00:00:00+00",
    "2024-01-01 00:00:00 +05:30",
    "2024-01-01 00:00:00-0330",
    "2024-01-01 00:00:00+15:59:59",
    "2024-01-01 00:00:00+16",
    "2024-01-01 00:00:00+5",
    "2024-01-01 00:00:00+530",
    "2024-01-01 00:00:00+05:60",
    "2024-01-01 00:00:00+00 BC",
    "2024-01-01 00:00:00 BC",
    "2024-01-01 BC 00:00:00",
    "2024-01-01BC",
    "2024-01-01 00:00:00BC",
    "2024-01-01  00:00:00",
    "2024-01-01 00:00:00+05 foo",
    "4714-11-24 00:00:00+00 BC",
    "4714-11-24 00:00:00+01 BC",
    "4714-11-23 23:00:00-01 BC",
    "294276-12-31 23:59:59.999999+00",
    "294276-12-31 23:59:59.9999999+00",
    "294277-01-01 00:00:00+01",
    "294276-12-31 23:59:59-01",
    "294276-12-31 24:00:00+00",
    "5874897-12-31 00:00:00+00",
    "2024-01-01T 00:00:00",
    "2024-01-01 T00:00:00",
    "2024-01-01 00:00:00 Z",
    "2024-01-01 Z",
    "2024-01-01+01",
    "20240101",
    "20240101T000000",
    "2024/01/01",
    "01-02-2024",
    "2024-001",
];

fn random_text(key_type: KeyType, rng: &mut StdRng) -> String {
    let mut text = valid_text(key_type, rng);
    if rng.random_ratio(1, 4) {
        mutate(&mut text, rng);
    }
    if rng.random_ratio(1, 20) && key_type != KeyType::Text {
        text = format!(
            "{}{text}{}",
            " ".repeat(rng.random_range(0..3)),
            ["", " ", "\t", "\n"].choose(rng).unwrap()
        );
    }
    text
}

fn valid_text(key_type: KeyType, rng: &mut StdRng) -> String {
    match key_type {
        KeyType::SmallInt => spell_integer(rng.random_range(-40_000..40_000), rng),
        KeyType::Integer => spell_integer(i128::from(rng.random::<i32>()) * 11 / 10, rng),
        KeyType::BigInt => {
            let shift = rng.random_range(0..64);
            spell_integer(i128::from(rng.random::<i64>() >> shift) * 11 / 10, rng)
        }
        KeyType::Text => (0..rng.random_range(0..40))
            .map(|_| {
                *['a', 'Z', '0', ' ', '\'', '"', '\\', 'ß', '東', '\u{1F600}']
                    .choose(rng)
                    .unwrap()
            })
            .collect(),
        KeyType::Uuid => spell_uuid(rng),
        KeyType::Date => spell_date(rng),
        KeyType::Timestamp => spell_timestamp(rng, 3),
        KeyType::TimestampTz => spell_timestamp(rng, 9),
        KeyType::Numeric => spell_numeric(rng),
    }
}

fn spell_integer(n: i128, rng: &mut StdRng) -> String {
    let sign = if n < 0 {
        "-"
    } else {
        *["", "", "+"].choose(rng).unwrap()
    };
    let zeros = if rng.random_ratio(1, 10) { "000" } else { "" };
    format!("{sign}{zeros}{}", n.unsigned_abs())
}

fn spell_uuid(rng: &mut StdRng) -> String {
    let mut text = String::new();
    let hyphens = rng.random::<u8>();
    for i in 0..8 {
        let group = rng.random::<u16>();
        text += &if rng.random() {
            format!("{group:04x}")
        } else {
            format!("{group:04X}")
        };
        if i < 7 && hyphens & 1 << i != 0 {
            text.push('-');
        }
    }
    if rng.random_ratio(1, 4) {
        format!("{{{text}}}")
    } else {
        text
    }
}

fn spell_date(rng: &mut StdRng) -> String {
    let year = match rng.random_range(0..10) {
        0 => rng.random_range(0..10_000),
        1 => rng.random_range(0..5_900_000),
        _ => rng.random_range(1900..2100),
    };
    let last_day = if rng.random_ratio(1, 10) { 31 } else { 28 };
    let (month, day) = (rng.random_range(1..13), rng.random_range(1..=last_day));
    let era = if rng.random_ratio(1, 12) { " BC" } else { "" };
    if rng.random_ratio(1, 8) {
        format!("{year:04}-{month}-{day}{era}")
    } else {
        format!("{year:04}-{month:02}-{day:02}{era}")
    }
}

/// With an offset in `offset_tenths` of ten.
fn spell_timestamp(rng: &mut StdRng, offset_tenths: u32) -> String {
    let date = spell_date(rng);
    let (date, era) = date
        .strip_suffix(" BC")
        .map_or((date.as_str(), ""), |date| (date, " BC"));
    if rng.random_ratio(1, 20) {
        return format!("{date}{era}");
    }
    let separator = [" ", " ", "T", "t", "  "].choose(rng).unwrap();
    let mut text = format!(
        "{date}{separator}{:02}:{:02}",
        rng.random_range(0..25),
        rng.random_range(0..60)
    );
    if rng.random_ratio(9, 10) {
        write!(text, ":{:02}", rng.random_range(0..61)).unwrap();
        if rng.random_ratio(2, 3) {
            let digits = rng.random_range(1..10);
            write!(
                text,
                ".{:0digits$}",
                rng.random_range(0..10_u64.pow(digits as u32))
            )
            .unwrap();
        }
    }
    if rng.random_ratio(offset_tenths, 10) {
        text += &spell_offset(rng);
    }
    text + era
}

fn spell_offset(rng: &mut StdRng) -> String {
    let sign = ["+", "-", " +", " -"].choose(rng).unwrap();
    let (hours, minutes, seconds) = (
        rng.random_range(0..17),
        rng.random_range(0..61),
        rng.random_range(0..61),
    );
    match rng.random_range(0..6) {
        0 => "Z".into(),
        1 => " Z".into(),
        2 => format!("{sign}{hours:02}:{minutes:02}"),
        3 => format!("{sign}{hours:02}{minutes:02}"),
        4 => format!("{sign}{hours:02}:{minutes:02}:{seconds:02}"),
        _ => format!("{sign}{hours:02}"),
    }
}

fn spell_numeric(rng: &mut StdRng) -> String {
    let mut digits = |most: usize| -> String {
        let count = rng.random_range(0..=most);
        (0..count)
            .map(|_| *['0', '0', '0', '1', '5', '9'].choose(rng).unwrap())
            .collect()
    };
    let (whole, fraction) = (digits(12), digits(12));
    let whole = if whole.is_empty() && fraction.is_empty() {
        "0".into()
    } else {
        whole
    };
    let point = if fraction.is_empty() && rng.random() {
        ""
    } else {
        "."
    };
    let sign = ["", "", "-", "+"].choose(rng).unwrap();
    let exponent = if rng.random_ratio(1, 3) {
        format!("e{}", rng.random_range(-40..40))
    } else {
        String::new()
    };
    match rng.random_range(0..40) {
        0 => ["NaN", "Infinity", "-inf", "+INF"]
            .choose(rng)
            .unwrap()
            .to_string(),
        _ => format!("{sign}{whole}{point}{fraction}{exponent}"),
    }
}

/// One character more, less or other.
fn mutate(text: &mut String, rng: &mut StdRng) {
    let mut chars: Vec<char> = text.chars().collect();
    let at = rng.random_range(0..=chars.len());
    let new = *"0123456789+-.:eETZ BCx_{}ab/"
        .chars()
        .collect::<Vec<_>>()
        .choose(rng)
        .unwrap();
    match rng.random_range(0..3) {
        0 => chars.insert(at, new),
        1 if at < chars.len() => chars[at] = new,
        2 if at < chars.len() => drop(chars.remove(at)),
        _ => {}
    }
    *text = chars.into_iter().collect();
}

fn unhex(hex: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

/// A private PostgreSQL, gone when dropped.
struct Server {
    folder: tempfile::TempDir,
    bin: PathBuf,
    /// the user it runs as, when we are root
    user: Option<(u32, u32)>,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("pgshunt-hash")
            .tempdir_in("/tmp")
            .expect("a temporary folder");
        let user = unprivileged_user(folder.path());
        let server = Self {
            folder,
            bin: postgres_programs(),
            user,
        };
        let data = server.folder.path().join("data");
        server.run(
            server
                .command("initdb")
                .args([
                    "-A",
                    "trust",
                    "-U",
                    "postgres",
                    "--no-sync",
                    "-E",
                    "UTF8",
                    "--locale",
                    "C",
                    "-D",
                ])
                .arg(&data),
        );
        let socket = server.folder.path().display();
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{socket}' -c fsync=off -c timezone=Asia/Kolkata -c datestyle=DMY"
        );
        let log = server.folder.path().join("log");
        server.run(
            server
                .command("pg_ctl")
                .args(["-w", "-o", &options, "-D"])
                .arg(&data)
                .arg("-l")
                .arg(log)
                .arg("start"),
        );
        server
    }

    async fn connect(&self) -> Client {
        let options = format!(
            "host={} user=postgres dbname=postgres",
            self.folder.path().display()
        );
        let (client, connection) = tokio_postgres::connect(&options, tokio_postgres::NoTls)
            .await
            .expect("connect to the private PostgreSQL");
        tokio::spawn(connection);
        client
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(self.folder.path());
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    fn run(&self, command: &mut Command) {
        // Not `output()`: the server would inherit the pipe and keep it open.
        let status = command.stdout(std::process::Stdio::null()).status();
        let status = status.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        assert!(status.success(), "{command:?} failed: {status}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.folder.path().join("data");
        let _ = self
            .command("pg_ctl")
            .args(["-m", "immediate", "-w", "-D"])
            .arg(data)
            .arg("stop")
            .stdout(std::process::Stdio::null())
            .status();
    }
}

/// initdb refuses root: the folder is given to `postgres`, or `nobody`.
fn unprivileged_user(folder: &Path) -> Option<(u32, u32)> {
    if std::fs::metadata(folder)
        .expect("the temporary folder")
        .uid()
        != 0
    {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let ids = |name: &str| {
        let fields: Vec<&str> = passwd
            .lines()
            .find(|line| line.starts_with(&format!("{name}:")))?
            .split(':')
            .collect();
        Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?))
    };
    let user: (u32, u32) = ids("postgres")
        .or_else(|| ids("nobody"))
        .expect("run as root: needs a user postgres or nobody for the private PostgreSQL");
    chown(folder, Some(user.0), Some(user.1)).expect("give the temporary folder away");
    Some(user)
}

fn postgres_programs() -> PathBuf {
    let named = std::env::var_os("PG_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut installed: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    installed.sort();
    let candidates = named
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(installed.into_iter().rev());
    candidates
        .into_iter()
        .find(|folder| folder.join("initdb").exists())
        .expect("PostgreSQL's server programs (initdb, pg_ctl) are needed: install the package postgresql, or set PG_BIN")
}
