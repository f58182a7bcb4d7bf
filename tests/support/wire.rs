//! The wire protocol as text lines, for transcripts: a line to send becomes bytes, a message that came becomes a line. Written
//! anew from the protocol's documentation, so that an error in pgshunt's own framing cannot hide in its tests.

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use tokio_postgres::types::Type;

const PATIENCE: Duration = Duration::from_secs(20);
/// Longer values are shown by their ends and their length.
const SHOWN_MAX: usize = 120;

pub type Problem = String;

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// what of the buffer is used up
    used: usize,
    /// process id and secret, once BackendKeyData came
    pub key: Option<Vec<u8>>,
    /// lines that came during the login and nobody has asked for yet
    early: Vec<String>,
}

impl Connection {
    pub fn open(port: u16) -> Result<Self, Problem> {
        let stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| e.to_string())?;
        stream.set_nodelay(true).map_err(|e| e.to_string())?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .map_err(|e| e.to_string())?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
            used: 0,
            key: None,
            early: Vec::new(),
        })
    }

    /// Start-up and authentication up to the first ReadyForQuery, of which nothing is shown.
    pub fn log_in(port: u16, parameters: &[(String, String)]) -> Result<Self, Problem> {
        let mut connection = Self::open(port)?;
        connection.write(&startup(3, 0, parameters))?;
        let user = |(name, _): &&(String, String)| name == "user";
        let password = parameters.iter().find(user).map(|(_, user)| user.as_str());
        connection.authenticate(password.unwrap_or_default())?;
        let came = connection.until("ReadyForQuery", 1)?;
        match came.iter().find(|line| line.starts_with("ErrorResponse")) {
            Some(error) => Err(format!("login: {error}")),
            None => Ok(connection),
        }
    }

    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        // A peer that has closed tells us why in what it sent before: reading finds that.
        match self.stream.write_all(bytes) {
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
                ) =>
            {
                Err(error.to_string())
            }
            _ => Ok(()),
        }
    }

    /// In pieces of `size`, each in a packet of its own as far as the system lets us.
    pub fn write_in_pieces(&mut self, bytes: &[u8], size: usize) -> Result<(), Problem> {
        for piece in bytes.chunks(size) {
            self.write(piece)?;
            std::thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    /// Answers what the server asks for, up to AuthenticationOk.
    pub fn authenticate(&mut self, password: &str) -> Result<(), Problem> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = self
                .message()?
                .ok_or("closed while logging in".to_owned())?;
            if tag != b'R' {
                self.early.push(describe(tag, &body));
                if tag == b'E' {
                    return Ok(());
                }
                continue;
            }
            match int(&body, 0) {
                0 => return Ok(()),
                3 => {
                    let text = [password.as_bytes(), b"\0"].concat();
                    self.write(&tagged(b'p', &text))?;
                }
                10 => {
                    let mut answer = SCRAM_SHA_256.as_bytes().to_vec();
                    answer.push(0);
                    answer.extend((scram.message().len() as i32).to_be_bytes());
                    answer.extend(scram.message());
                    self.write(&tagged(b'p', &answer))?;
                }
                11 => {
                    scram.update(&body[4..]).map_err(|e| e.to_string())?;
                    let answer = tagged(b'p', scram.message());
                    self.write(&answer)?;
                }
                12 => scram.finish(&body[4..]).map_err(|e| e.to_string())?,
                other => return Err(format!("authentication request {other}")),
            }
        }
    }

    /// Lines up to and with the `count`th message of this name; `closed` is the end of the connection, `byte` one raw byte.
    pub fn until(&mut self, name: &str, count: usize) -> Result<Vec<String>, Problem> {
        if name == "byte" {
            return Ok(vec![self.raw_byte()?]);
        }
        let mut lines = std::mem::take(&mut self.early);
        let mut seen = 0;
        while seen < count {
            let line = match self.message() {
                Ok(Some((tag, body))) => {
                    if tag == b'K' {
                        self.key = Some(body.clone());
                    }
                    describe(tag, &body)
                }
                Ok(None) => "closed".to_owned(),
                Err(problem) => {
                    let came = lines.join("\n    ");
                    return Err(format!("{problem}; came so far:\n    {came}"));
                }
            };
            let this = line.split(' ').next().unwrap_or_default();
            seen += usize::from(this == name);
            let closed = line == "closed";
            lines.push(line);
            if closed {
                break;
            }
        }
        Ok(lines)
    }

    /// What came although nobody asked for more.
    pub fn left_over(&mut self) -> Option<String> {
        let short = Some(Duration::from_millis(20));
        let _ = self.stream.set_read_timeout(short);
        match self.message() {
            Ok(Some((tag, body))) => Some(describe(tag, &body)),
            _ => None,
        }
    }

    fn raw_byte(&mut self) -> Result<String, Problem> {
        self.fill(1)?;
        let Some(byte) = self.unread().first().copied() else {
            return Ok("closed".to_owned());
        };
        self.used += 1;
        Ok(format!("byte {}", char::from(byte)))
    }

    fn message(&mut self) -> Result<Option<(u8, Vec<u8>)>, Problem> {
        self.fill(5)?;
        if self.unread().is_empty() {
            return Ok(None);
        }
        let cut = "closed in the middle of a message";
        if self.unread().len() < 5 {
            return Err(format!("{cut}: {:?}", self.unread()));
        }
        let length = int(self.unread(), 1) as usize;
        self.fill(1 + length)?;
        let body = self.unread().get(5..1 + length).ok_or(cut)?.to_vec();
        let tag = self.unread()[0];
        self.used += 1 + length;
        Ok(Some((tag, body)))
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// At least `size` unread bytes, fewer when the peer has closed.
    fn fill(&mut self, size: usize) -> Result<(), Problem> {
        if self.unread().len() >= size {
            return Ok(());
        }
        self.buffer.drain(..self.used);
        self.used = 0;
        let mut piece = vec![0; 1 << 16];
        while self.buffer.len() < size {
            match self.stream.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(count) => self.buffer.extend_from_slice(&piece[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(format!("nothing more came ({error})")),
            }
        }
        Ok(())
    }
}

// --- Lines to bytes ---------------------------------------------------------------------------------------------------------

pub fn startup(major: u16, minor: u16, parameters: &[(String, String)]) -> Vec<u8> {
    let mut body = [major.to_be_bytes(), minor.to_be_bytes()].concat();
    for (name, value) in parameters {
        body.extend(text(name));
        body.extend(text(value));
    }
    body.push(0);
    untagged(&body)
}

pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    untagged(&[&80_877_102_i32.to_be_bytes(), key].concat())
}

/// One message: its name, then its parts as tests/transcripts/README.md describes them.
pub fn message(line: &str) -> Result<Vec<u8>, Problem> {
    let (name, rest) = line.split_once(' ').unwrap_or((line, ""));
    Ok(match name {
        "Query" => tagged(b'Q', &text(rest)),
        "Parse" => parse(rest)?,
        "Bind" => bind(&words(rest)?)?,
        "Describe" => tagged(b'D', &kind_and_name(rest)?),
        "Close" => tagged(b'C', &kind_and_name(rest)?),
        "Execute" => execute(&words(rest)?)?,
        "Sync" => tagged(b'S', b""),
        "Flush" => tagged(b'H', b""),
        "CopyData" => tagged(b'd', &bytes_of(rest)?),
        "CopyDone" => tagged(b'c', b""),
        "CopyFail" => tagged(b'f', &[bytes_of(rest)?, vec![0]].concat()),
        "Terminate" => tagged(b'X', b""),
        "SSLRequest" => untagged(&80_877_103_i32.to_be_bytes()),
        "GSSENCRequest" => untagged(&80_877_104_i32.to_be_bytes()),
        "Startup" => startup_line(rest)?,
        "Raw" => bytes_of(rest)?,
        _ => return Err(format!("unknown message {name}")),
    })
}

fn startup_line(rest: &str) -> Result<Vec<u8>, Problem> {
    let (version, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let (major, minor) = version.split_once('.').ok_or("a version as 3.0")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text} is no number"));
    Ok(startup(number(major)?, number(minor)?, &parameters(rest)?))
}

/// `name=value name="a value"`
pub fn parameters(rest: &str) -> Result<Vec<(String, String)>, Problem> {
    let pair = |word: &Word| {
        let (name, value) = word.text.split_once('=').ok_or("name=value is missing")?;
        Ok((name.to_owned(), value.to_owned()))
    };
    words(rest)?.iter().map(pair).collect()
}

/// `NAME [(type, …)] SQL`
fn parse(rest: &str) -> Result<Vec<u8>, Problem> {
    let (name, rest) = rest.split_once(' ').ok_or("Parse NAME SQL")?;
    let mut types = Vec::new();
    let mut sql = rest;
    if let Some((list, after)) = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        sql = after.trim_start();
        for name in list.split(',').map(str::trim) {
            types.extend(oid(name)?.to_be_bytes());
        }
    }
    let mut body = [text(name.trim_matches('"')), text(sql)].concat();
    body.extend(((types.len() / 4) as i16).to_be_bytes());
    body.extend(types);
    Ok(tagged(b'P', &body))
}

/// `PORTAL STATEMENT value … [-> text|binary …]`; a value written `\x…` goes in binary.
fn bind(words: &[Word]) -> Result<Vec<u8>, Problem> {
    let [portal, statement, rest @ ..] = words else {
        return Err("Bind PORTAL STATEMENT value …".to_owned());
    };
    let arrow = rest.iter().position(|word| word.is("->"));
    let values = &rest[..arrow.unwrap_or(rest.len())];
    let results = arrow.map_or(&[][..], |at| &rest[at + 1..]);
    let mut body = [text(&portal.text), text(&statement.text)].concat();
    body.extend((values.len() as i16).to_be_bytes());
    for value in values {
        body.extend(i16::from(value.is_binary()).to_be_bytes());
    }
    body.extend((values.len() as i16).to_be_bytes());
    for value in values {
        if value.is("NULL") {
            body.extend((-1_i32).to_be_bytes());
            continue;
        }
        let bytes = value.bytes()?;
        body.extend((bytes.len() as i32).to_be_bytes());
        body.extend(bytes);
    }
    body.extend((results.len() as i16).to_be_bytes());
    for format in results {
        body.extend(i16::from(format.is("binary")).to_be_bytes());
    }
    Ok(tagged(b'B', &body))
}

fn execute(words: &[Word]) -> Result<Vec<u8>, Problem> {
    let name = words.first().map_or("", |word| &word.text);
    let rows = words.get(1).map_or("0", |word| &word.text);
    let rows: i32 = rows.parse().map_err(|_| "Execute PORTAL ROWS")?;
    Ok(tagged(
        b'E',
        &[text(name), rows.to_be_bytes().to_vec()].concat(),
    ))
}

fn kind_and_name(rest: &str) -> Result<Vec<u8>, Problem> {
    let words = words(rest)?;
    let kind = match words.first() {
        Some(word) if word.is("statement") => b'S',
        Some(word) if word.is("portal") => b'P',
        _ => return Err("statement NAME or portal NAME".to_owned()),
    };
    let name = words.get(1).map_or("", |word| &word.text);
    Ok([vec![kind], text(name)].concat())
}

fn oid(name: &str) -> Result<u32, Problem> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    // All types PostgreSQL itself brings have OIDs below 16384.
    let named = (0..16_384)
        .filter_map(Type::from_oid)
        .find(|known| known.name() == name);
    named
        .map(|known| known.oid())
        .ok_or(format!("unknown type {name}"))
}

struct Word {
    text: String,
    quoted: bool,
}

impl Word {
    fn is(&self, text: &str) -> bool {
        !self.quoted && self.text == text
    }

    fn is_binary(&self) -> bool {
        !self.quoted && self.text.starts_with("\\x")
    }

    fn bytes(&self) -> Result<Vec<u8>, Problem> {
        match self.text.strip_prefix("\\x").filter(|_| !self.quoted) {
            Some(hex) => from_hex(hex),
            None => Ok(self.text.clone().into_bytes()),
        }
    }
}

/// One value alone on the rest of a line: `"text\n"`, `\x0041` or `<1000 x>` (so many times this character).
fn bytes_of(rest: &str) -> Result<Vec<u8>, Problem> {
    let words = words(rest)?;
    match words.as_slice() {
        [] => Ok(Vec::new()),
        [word] => word.bytes(),
        _ => Err("one value is expected: put it in double quotes".to_owned()),
    }
}

fn words(rest: &str) -> Result<Vec<Word>, Problem> {
    let mut found = Vec::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let word;
        if let Some(quoted) = rest.strip_prefix('"') {
            let (text, after) = unquote(quoted)?;
            word = Word { text, quoted: true };
            rest = after;
        } else if let Some((inside, after)) =
            rest.strip_prefix('<').and_then(|rest| rest.split_once('>'))
        {
            let (count, unit) = inside.split_once(' ').ok_or("<1000 x>")?;
            let count = count.parse().map_err(|_| "<1000 x>")?;
            let text = unit.repeat(count);
            word = Word { text, quoted: true };
            rest = after;
        } else {
            let end = rest.find(' ').unwrap_or(rest.len());
            let (text, after) = rest.split_at(end);
            word = plain_or_pair(text, &mut rest, after)?;
        }
        found.push(word);
        rest = rest.trim_start();
    }
    Ok(found)
}

/// `name="a value"` is one word.
fn plain_or_pair<'a>(text: &str, rest: &mut &'a str, after: &'a str) -> Result<Word, Problem> {
    let pair = rest.split_once("=\"");
    if let Some((name, quoted)) = pair.filter(|(name, _)| name.len() < text.len()) {
        let (value, after) = unquote(quoted)?;
        *rest = after;
        let text = format!("{name}={value}");
        return Ok(Word { text, quoted: true });
    }
    *rest = after;
    let text = text.to_owned();
    Ok(Word {
        text,
        quoted: false,
    })
}

fn unquote(quoted: &str) -> Result<(String, &str), Problem> {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((text, &quoted[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => text.push('\n'),
                Some((_, 't')) => text.push('\t'),
                Some((_, 'r')) => text.push('\r'),
                Some((_, other)) => text.push(other),
                None => break,
            },
            _ => text.push(c),
        }
    }
    Err(format!("no closing quote: {quoted}"))
}

fn from_hex(hex: &str) -> Result<Vec<u8>, Problem> {
    let pair = |at: usize| {
        let digits = hex.get(at..at + 2).ok_or("an odd number of hex digits")?;
        u8::from_str_radix(digits, 16).map_err(|_| format!("{digits} is not hexadecimal"))
    };
    (0..hex.len()).step_by(2).map(pair).collect()
}

fn text(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    [vec![tag], untagged(body)].concat()
}

fn untagged(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32 + 4).to_be_bytes(), body].concat()
}

// --- Bytes to lines ---------------------------------------------------------------------------------------------------------

fn describe(tag: u8, body: &[u8]) -> String {
    match tag {
        b'R' => match int(body, 0) {
            0 => "AuthenticationOk".to_owned(),
            other => format!("Authentication {other}"),
        },
        b'1' => "ParseComplete".to_owned(),
        b'2' => "BindComplete".to_owned(),
        b'3' => "CloseComplete".to_owned(),
        b'n' => "NoData".to_owned(),
        b's' => "PortalSuspended".to_owned(),
        b'I' => "EmptyQueryResponse".to_owned(),
        b'c' => "CopyDone".to_owned(),
        b'K' => "BackendKeyData".to_owned(),
        b'Z' => format!("ReadyForQuery {}", char::from(body[0])),
        b'C' => format!("CommandComplete {}", string(body).0),
        b'd' => format!("CopyData {}", shown(body)),
        b'G' => format!("CopyInResponse {}", copy_formats(body)),
        b'H' => format!("CopyOutResponse {}", copy_formats(body)),
        b'T' => row_description(body),
        b'D' => data_row(body),
        b't' => parameter_description(body),
        b'S' => {
            let (name, rest) = string(body);
            format!(
                "ParameterStatus {name} {}",
                shown(string(rest).0.as_bytes())
            )
        }
        b'E' => format!("ErrorResponse {}", fields(body)),
        b'N' => format!("NoticeResponse {}", fields(body)),
        b'A' => {
            let (channel, rest) = string(&body[4..]);
            let payload = shown(string(rest).0.as_bytes());
            format!("NotificationResponse {channel} {payload}")
        }
        b'v' => negotiate(body),
        _ => format!("Unknown {} {}", char::from(tag), shown(body)),
    }
}

fn negotiate(body: &[u8]) -> String {
    let mut line = format!("NegotiateProtocolVersion 3.{}", int(body, 0) & 0xffff);
    let mut rest = &body[8..];
    while !rest.is_empty() {
        let (option, after) = string(rest);
        line.push_str(&format!(" {option}"));
        rest = after;
    }
    line
}

fn row_description(body: &[u8]) -> String {
    let mut line = "RowDescription".to_owned();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let (name, after) = string(rest);
        let format = if short(after, 16) == 1 { "/binary" } else { "" };
        let name = shown(name.as_bytes());
        line.push_str(&format!(" {name}:{}{format}", type_name(int(after, 6))));
        rest = &after[18..];
    }
    line
}

fn data_row(body: &[u8]) -> String {
    let mut line = "DataRow".to_owned();
    let mut rest = &body[2..];
    while !rest.is_empty() {
        let length = int(rest, 0);
        rest = &rest[4..];
        if length < 0 {
            line.push_str(" NULL");
            continue;
        }
        let (value, after) = rest.split_at(length as usize);
        line.push_str(&format!(" {}", shown(value)));
        rest = after;
    }
    line
}

fn parameter_description(body: &[u8]) -> String {
    let types = body[2..]
        .chunks(4)
        .map(|oid| format!(" {}", type_name(int(oid, 0))));
    format!("ParameterDescription{}", types.collect::<String>())
}

fn copy_formats(body: &[u8]) -> String {
    let format = if body[0] == 1 { "binary" } else { "text" };
    format!("{format} {}", short(body, 1))
}

/// Severity, code and message, then what else a user reads. Files, lines and names of routines are the server's business.
fn fields(body: &[u8]) -> String {
    let mut rest = body;
    let (mut severity, mut code, mut message, mut more) = ("", "", String::new(), String::new());
    while rest.first().is_some_and(|kind| *kind != 0) {
        let kind = rest[0];
        let (value, after) = string(&rest[1..]);
        match kind {
            b'V' => severity = value,
            b'C' => code = value,
            b'M' => message = quoted(value),
            b'D' => more.push_str(&format!(" detail={}", quoted(value))),
            b'H' => more.push_str(&format!(" hint={}", quoted(value))),
            b'P' => more.push_str(&format!(" position={value}")),
            b'W' => more.push_str(&format!(" where={}", quoted(value))),
            b'n' => more.push_str(&format!(" constraint={value}")),
            _ => {}
        }
        rest = after;
    }
    format!("{severity} {code} {message}{more}")
}

fn type_name(oid: i32) -> String {
    Type::from_oid(oid as u32).map_or(oid.to_string(), |known| known.name().to_owned())
}

/// A value as a transcript writes it: bare, in quotes, or in hexadecimal.
fn shown(bytes: &[u8]) -> String {
    if bytes.len() > SHOWN_MAX {
        let ends = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        let (first, last) = (ends(&bytes[..8]), ends(&bytes[bytes.len() - 8..]));
        return format!("<{} bytes: {first}…{last}>", bytes.len());
    }
    let Ok(value) = std::str::from_utf8(bytes) else {
        return hex(bytes);
    };
    if value
        .chars()
        .any(|c| c.is_control() && !matches!(c, '\n' | '\t' | '\r'))
    {
        return hex(bytes);
    }
    let bare = !value.is_empty()
        && value != "NULL"
        && !value.starts_with(['\\', '<'])
        && !value.contains([' ', '"', '\n', '\t', '\r']);
    if bare {
        value.to_owned()
    } else {
        quoted(value)
    }
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("\\x{}", digits.collect::<String>())
}

fn quoted(value: &str) -> String {
    let mut out = "\"".to_owned();
    for c in value.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '"' | '\\' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out.push('"');
    out
}

fn string(bytes: &[u8]) -> (&str, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0);
    let end = end.unwrap_or(bytes.len());
    let rest = bytes.get(end + 1..).unwrap_or_default();
    (std::str::from_utf8(&bytes[..end]).unwrap_or("?"), rest)
}

fn int(bytes: &[u8], at: usize) -> i32 {
    bytes[at..at + 4]
        .iter()
        .fold(0, |sum, byte| sum << 8 | i32::from(*byte))
}

fn short(bytes: &[u8], at: usize) -> i32 {
    i32::from(bytes[at]) << 8 | i32::from(bytes[at + 1])
}
