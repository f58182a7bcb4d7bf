//! A client of the wire protocol that shows everything a server says: names, type OIDs, rows as text, tags, SQLSTATEs.
//! It blocks, it trusts nothing, and it can be dropped in the middle of anything. It knows neither TLS nor passwords.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// How long an answer may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Raw {
    stream: Box<dyn Stream>,
    /// status of the last ReadyForQuery
    pub status: u8,
    pub pid: i32,
    pub secret: Vec<u8>,
    pub parameters: Vec<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub type_oid: u32,
    pub type_modifier: i32,
}

pub type Row = Vec<Option<String>>;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    pub severity: String,
    pub code: String,
    pub message: String,
    pub hint: String,
    /// in characters, from 1
    pub position: String,
}

/// Everything up to ReadyForQuery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// of the last RowDescription
    pub columns: Option<Vec<Column>>,
    pub rows: Vec<Row>,
    pub tags: Vec<String>,
    pub error: Option<Fields>,
    pub notices: Vec<Fields>,
    /// message tags in order, rows left out
    pub messages: String,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.error.as_ref().map_or("", |e| e.code.as_str())
    }

    /// The one value of the one row.
    pub fn value(&self) -> &str {
        match &self.rows[..] {
            [row] => row[0].as_deref().unwrap_or("NULL"),
            _ => panic!("one row expected: {self:?}"),
        }
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.error.is_none(), "{:?}", self.error);
        self
    }
}

pub struct Message {
    pub tag: u8,
    pub body: Vec<u8>,
}

impl Raw {
    pub fn connect(port: u16, user: &str, database: &str) -> io::Result<Self> {
        Self::connect_with(port, user, database, &[])
    }

    pub fn connect_with(
        port: u16,
        user: &str,
        database: &str,
        more: &[(&str, &str)],
    ) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::login(Box::new(stream), user, database, more)
    }

    /// A server's Unix socket.
    pub fn connect_unix(folder: &Path, port: u16, user: &str, database: &str) -> io::Result<Self> {
        let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Self::login(Box::new(stream), user, database, &[])
    }

    fn login(
        stream: Box<dyn Stream>,
        user: &str,
        database: &str,
        more: &[(&str, &str)],
    ) -> io::Result<Self> {
        let mut raw = Self {
            stream,
            status: 0,
            pid: 0,
            secret: Vec::new(),
            parameters: Vec::new(),
        };
        let mut body = 196_608_i32.to_be_bytes().to_vec();
        for (name, value) in [("user", user), ("database", database)].iter().chain(more) {
            text(&mut body, name);
            text(&mut body, value);
        }
        body.push(0);
        let mut packet = (body.len() as i32 + 4).to_be_bytes().to_vec();
        packet.extend(body);
        raw.stream.write_all(&packet)?;
        let answer = raw.until_ready()?;
        match answer.error {
            Some(error) => Err(io::Error::other(format!(
                "{} {}",
                error.code, error.message
            ))),
            None => Ok(raw),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub fn receive(&mut self) -> io::Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head)?;
        let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        let mut body = vec![0; usize::try_from(length - 4).map_err(io::Error::other)?];
        self.stream.read_exact(&mut body)?;
        Ok(Message { tag: head[0], body })
    }

    pub fn until_ready(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let message = match self.receive() {
                Ok(message) => message,
                // a FATAL error is the last thing a server says
                Err(_) if answer.error.is_some() => return Ok(answer),
                Err(error) => return Err(error),
            };
            if self.take(message, &mut answer) {
                return Ok(answer);
            }
        }
    }

    /// True at ReadyForQuery, and where the server waits for copy data.
    fn take(&mut self, message: Message, answer: &mut Answer) -> bool {
        let Message { tag, body } = message;
        if !matches!(tag, b'D' | b'S' | b'd') {
            answer.messages.push(tag as char);
        }
        match tag {
            b'T' => answer.columns = Some(columns(&body)),
            b'D' => answer.rows.push(row(&body)),
            b'C' => answer.tags.push(first_text(&body)),
            b'E' => answer.error = answer.error.take().or_else(|| Some(fields(&body))),
            b'N' => answer.notices.push(fields(&body)),
            b'd' => answer
                .rows
                .push(vec![Some(String::from_utf8_lossy(&body).into_owned())]),
            b'K' => {
                self.pid = i32::from_be_bytes([body[0], body[1], body[2], body[3]]);
                self.secret = body[4..].to_vec();
            }
            b'S' => {
                let name = first_text(&body);
                let value = first_text(&body[name.len() + 1..]);
                self.parameters.push((name, value));
            }
            b'Z' => {
                self.status = body[0];
                return true;
            }
            b'G' => return true,
            _ => {}
        }
        false
    }

    /// The simple protocol.
    pub fn query(&mut self, sql: &str) -> io::Result<Answer> {
        self.send(&query(sql))?;
        self.until_ready()
    }

    #[track_caller]
    pub fn ask(&mut self, sql: &str) -> Answer {
        self.query(sql)
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The extended protocol with text parameters, unnamed: Parse, Describe statement, Bind, Execute, Sync.
    pub fn extended(
        &mut self,
        sql: &str,
        types: &[u32],
        values: &[Option<&str>],
    ) -> io::Result<Answer> {
        let mut bytes = parse("", sql, types);
        bytes.extend(message(b'D', b"S\0"));
        bytes.extend(bind("", "", values));
        bytes.extend(execute("", 0));
        bytes.extend(sync());
        self.send(&bytes)?;
        self.until_ready()
    }
}

pub fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

pub fn query(sql: &str) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, sql);
    message(b'Q', &body)
}

pub fn parse(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, name);
    text(&mut body, sql);
    body.extend((types.len() as i16).to_be_bytes());
    for oid in types {
        body.extend(oid.to_be_bytes());
    }
    message(b'P', &body)
}

pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    body.extend(0_i16.to_be_bytes());
    body.extend((values.len() as i16).to_be_bytes());
    for value in values {
        match value {
            None => body.extend((-1_i32).to_be_bytes()),
            Some(value) => {
                body.extend((value.len() as i32).to_be_bytes());
                body.extend(value.as_bytes());
            }
        }
    }
    body.extend(0_i16.to_be_bytes());
    message(b'B', &body)
}

pub fn execute(portal: &str, rows: i32) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    body.extend(rows.to_be_bytes());
    message(b'E', &body)
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend(text.as_bytes());
    body.push(0);
}

fn first_text(body: &[u8]) -> String {
    let end = body.iter().position(|b| *b == 0).unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}

fn columns(body: &[u8]) -> Vec<Column> {
    let mut rest = &body[2..];
    let mut columns = Vec::new();
    while !rest.is_empty() {
        let name = first_text(rest);
        rest = &rest[name.len() + 1..];
        let number =
            |at: usize| u32::from_be_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        columns.push(Column {
            name,
            type_oid: number(6),
            type_modifier: number(12) as i32,
        });
        rest = &rest[18..];
    }
    columns
}

fn row(body: &[u8]) -> Row {
    let mut rest = &body[2..];
    let mut row = Vec::new();
    while !rest.is_empty() {
        let length = i32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]);
        rest = &rest[4..];
        match usize::try_from(length) {
            Err(_) => row.push(None),
            Ok(length) => {
                row.push(Some(readable(&rest[..length])));
                rest = &rest[length..];
            }
        }
    }
    row
}

/// Text as it is, other bytes (a value in binary format) in hexadecimal: different values look different.
fn readable(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => value
            .iter()
            .fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

fn fields(body: &[u8]) -> Fields {
    let mut fields = Fields::default();
    let mut rest = body;
    while let Some((kind, after)) = rest.split_first().filter(|(kind, _)| **kind != 0) {
        let value = first_text(after);
        rest = &after[value.len() + 1..];
        match kind {
            b'S' => fields.severity = value,
            b'C' => fields.code = value,
            b'M' => fields.message = value,
            b'H' => fields.hint = value,
            b'P' => fields.position = value,
            _ => {}
        }
    }
    fields
}
