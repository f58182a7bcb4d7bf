//! What is read from the shards: one text a shard that copies its tables out at one snapshot, and the frames it answers
//! with. It knows neither the scratch database nor the client.

use crate::catalog::QualifiedName;
use crate::cluster::scratch::{Recipe, rights, signatures};
use crate::route::{Gather, Gathered, Part};
use crate::sql::name::quote_ident;
use crate::wire::frame;
use bytes::{Buf, BytesMut};

/// The beginning of COPY's binary form: signature, flags, length of an extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// And its end.
pub const TRAILER: &[u8] = b"d\0\0\0\x06\xff\xff";
const SAVEPOINT: &str = "pgshunt_gather";

/// How a table's rows travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
}

/// In which transaction a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// one of ours
    Own,
    /// one of ours for a role that may read single columns only, and so may not lock tables by name: one statement brings all
    /// tables, after others that read no row have locked them
    ByColumns,
    /// the client's, with one snapshot for all of it
    OneSnapshot,
    /// the client's, with a snapshot for each statement: one statement brings all tables (hazard 4)
    EachStatement,
}

impl Within {
    /// Each statement has a snapshot of its own.
    fn by_one_statement(self) -> bool {
        matches!(self, Self::ByColumns | Self::EachStatement)
    }

    fn is_ours(self) -> bool {
        matches!(self, Self::Own | Self::ByColumns)
    }

    /// One statement has to bring all these tables.
    pub fn together(self, tables: &[&Gathered]) -> bool {
        self.by_one_statement() && tables.len() > 1
    }
}

/// How the tables of one statement are read.
pub struct Ways<'a> {
    recipe: &'a Recipe,
    within: Within,
    /// some table travels as text, and so must those beside it
    all_text: bool,
    /// the servers' own, so that nothing is converted
    encoding: String,
    asked: Asked<'a>,
}

/// What of the tables, with the values of this execution.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub gather: &'a Gather,
    /// one for each table of it
    pub parts: &'a [Part],
}

impl Asked<'_> {
    /// What a shard is asked: for each of these tables, or one text for all of them.
    #[must_use]
    pub fn selects(&self, tables: &[&Gathered], together: bool) -> Vec<String> {
        if together {
            return vec![united(tables, self)];
        }
        let select = |table: &&Gathered| format!("SELECT {} {}", columns(table), self.from(table));
        tables.iter().map(select).collect()
    }

    /// `FROM` and `WHERE` for the rows of a table.
    fn from(&self, table: &Gathered) -> String {
        let at = self.gather.tables.iter().position(|t| t == table);
        let condition = at.and_then(|at| self.parts.get(at)?.condition.as_ref());
        let condition = condition.map_or_else(String::new, |c| format!(" WHERE {c}"));
        format!("FROM {}{condition}", table.table.quoted())
    }
}

impl<'a> Ways<'a> {
    pub fn new(recipe: &'a Recipe, within: Within, asked: Asked<'a>, encoding: String) -> Self {
        let mut ways = Self {
            recipe,
            within,
            all_text: false,
            encoding,
            asked,
        };
        let text = |t: &Gathered| ways.form(&t.table) == Form::Text;
        ways.all_text = within.by_one_statement() && asked.gather.tables.iter().any(text);
        ways
    }

    pub fn form(&self, table: &QualifiedName) -> Form {
        match self.recipe.tables.get(table) {
            Some(table) if table.binary && !self.all_text => Form::Binary,
            _ => Form::Text,
        }
    }

    /// As COPY takes it.
    pub fn options(&self, form: Form) -> String {
        let form = match form {
            Form::Binary => "binary",
            Form::Text => "text",
        };
        format!("(FORMAT {form}, ENCODING '{}')", self.encoding)
    }

    pub fn locks(&self) -> bool {
        !self.within.by_one_statement()
    }

    /// One statement has to bring all these tables.
    pub fn together(&self, tables: &[&Gathered]) -> bool {
        self.within.together(tables)
    }

    /// The text for one shard.
    pub fn text(&self, tables: &[&Gathered]) -> String {
        let names: Vec<&QualifiedName> = tables.iter().map(|t| &t.table).collect();
        let quoted: Vec<String> = names.iter().map(|name| name.quoted()).collect();
        let as_text = names.iter().any(|name| self.form(name) == Form::Text);
        let aside = !self.within.is_ours() && (as_text || self.together(tables));
        let mut sql = match self.within {
            Within::Own => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;".to_owned(),
            Within::ByColumns => "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;".to_owned(),
            _ if aside => format!("SAVEPOINT {SAVEPOINT};"),
            _ => String::new(),
        };
        if as_text {
            sql.push_str(
                "SET LOCAL extra_float_digits = 3;SET LOCAL DateStyle = ISO;\
                 SET LOCAL IntervalStyle = postgres;SET LOCAL bytea_output = hex;",
            );
        }
        // the lock before the snapshot: nobody changes the columns between the look at them and the copy
        if self.within.by_one_statement() {
            for table in tables {
                let (columns, name) = (columns(table), table.table.quoted());
                sql.push_str(&format!("SELECT {columns} FROM {name} LIMIT 0;"));
            }
        } else {
            let tables = quoted.join(", ");
            sql.push_str(&format!("LOCK TABLE {tables} IN ACCESS SHARE MODE;"));
        }
        sql.push_str(&signatures(&names));
        sql.push(';');
        if !self.asked.gather.views.is_empty() {
            sql.push_str(&rights(&self.asked.gather.views));
            sql.push(';');
        }
        let together = self.together(tables);
        if together {
            // branches one after the other, never side by side
            sql.push_str("SET LOCAL max_parallel_workers_per_gather = 0;");
        }
        for (n, select) in self.asked.selects(tables, together).iter().enumerate() {
            sql.push_str(&self.copy(select, &tables[n..]));
        }
        if self.within.is_ours() {
            sql.push_str("COMMIT");
        } else if aside {
            sql.push_str(&format!(
                "ROLLBACK TO SAVEPOINT {SAVEPOINT};RELEASE SAVEPOINT {SAVEPOINT}"
            ));
        }
        sql
    }

    /// In the form of the first of these tables.
    fn copy(&self, select: &str, tables: &[&Gathered]) -> String {
        let form = tables.first().map_or(Form::Text, |t| self.form(&t.table));
        format!("COPY ({select}) TO STDOUT {};", self.options(form))
    }
}

/// All rows of all tables: the number of the table, and the columns of every table, empty but for those of the row's own.
fn united(tables: &[&Gathered], asked: &Asked<'_>) -> String {
    let branch = |(n, table): (usize, &&Gathered)| {
        let columns = tables.iter().enumerate().flat_map(|(m, other)| {
            other.columns.iter().map(move |column| {
                let column = quote_ident(column);
                if n == m {
                    column
                } else {
                    // an empty value of this column's type
                    format!("(SELECT {column} FROM {} LIMIT 0)", other.table.quoted())
                }
            })
        });
        let columns: Vec<String> = columns.collect();
        format!("SELECT {n}, {} {}", columns.join(", "), asked.from(table))
    };
    let branches: Vec<String> = tables.iter().enumerate().map(branch).collect();
    branches.join(" UNION ALL ")
}

/// A row of several tables united: which table it is of, and the row as that table's own copy would have it.
pub fn separate(frame: &[u8], form: Form, tables: &[&Gathered]) -> Option<(usize, BytesMut)> {
    let body = frame.get(frame::HEADER..)?;
    match form {
        Form::Binary => separate_binary(body, tables),
        Form::Text => separate_text(body, tables),
    }
}

fn separate_binary(mut body: &[u8], tables: &[&Gathered]) -> Option<(usize, BytesMut)> {
    let field = |body: &mut &[u8]| -> Option<usize> {
        let length = i32::from_be_bytes(body.get(..4)?.try_into().ok()?);
        let whole = 4 + usize::try_from(length).unwrap_or(0);
        *body = body.get(whole..)?;
        Some(whole)
    };
    body = body.get(2..)?;
    let number = u32::from_be_bytes(body.get(4..8)?.try_into().ok()?);
    let table = usize::try_from(number).ok()?;
    let width = tables.get(table)?.columns.len();
    field(&mut body)?;
    for _ in 0..before(tables, table) {
        field(&mut body)?;
    }
    let start = body;
    let mut length = 0;
    for _ in 0..width {
        length += field(&mut body)?;
    }
    let mut row = data_header(2 + length);
    row.extend_from_slice(&u16::try_from(width).ok()?.to_be_bytes());
    row.extend_from_slice(&start[..length]);
    Some((table, row))
}

fn separate_text(body: &[u8], tables: &[&Gathered]) -> Option<(usize, BytesMut)> {
    let body = body.strip_suffix(b"\n")?;
    let mut fields = body.split(|byte| *byte == b'\t');
    let number = std::str::from_utf8(fields.next()?).ok()?;
    let table: usize = number.parse().ok()?;
    let width = tables.get(table)?.columns.len();
    let own: Vec<&[u8]> = fields.skip(before(tables, table)).take(width).collect();
    let line = own.join(&b'\t');
    let mut row = data_header(line.len() + 1);
    row.extend_from_slice(&line);
    row.extend_from_slice(b"\n");
    (own.len() == width).then_some((table, row))
}

/// Columns of the tables before this one.
fn before(tables: &[&Gathered], table: usize) -> usize {
    tables[..table].iter().map(|t| t.columns.len()).sum()
}

fn data_header(length: usize) -> BytesMut {
    let mut out = BytesMut::with_capacity(frame::HEADER + length);
    out.extend_from_slice(b"d");
    out.extend_from_slice(&u32::try_from(length + 4).unwrap_or(u32::MAX).to_be_bytes());
    out
}

/// The columns of a table that are brought, quoted.
pub fn columns(table: &Gathered) -> String {
    let quoted: Vec<String> = table
        .columns
        .iter()
        .map(|column| quote_ident(column))
        .collect();
    quoted.join(", ")
}

/// Cuts a whole frame off.
pub fn cut(frames: &mut BytesMut) -> Option<BytesMut> {
    match frame::header(frames, usize::MAX) {
        Ok(Some(head)) if frames.len() >= head.len => Some(frames.split_to(head.len)),
        _ => None,
    }
}

/// Cuts off what is nothing but whole rows, and tells how many; the end of a binary stream is none.
pub fn cut_rows(frames: &mut BytesMut) -> Option<(BytesMut, u64)> {
    let (mut length, mut rows) = (0, 0);
    loop {
        let rest = &frames[length..];
        match frame::header(rest, usize::MAX) {
            Ok(Some(head))
                if head.tag == b'd' && rest.len() >= head.len && rest[..head.len] != *TRAILER =>
            {
                length += head.len;
                rows += 1;
            }
            _ => break,
        }
    }
    (rows > 0).then(|| (frames.split_to(length), rows))
}

/// Copy data of one of several servers as part of one stream: without its own beginning and end. None when nothing is
/// left of it; false when it is not what COPY sends.
pub fn part_of_stream(mut data: BytesMut, first: bool) -> Result<Option<BytesMut>, &'static str> {
    if first {
        let body = data.get(frame::HEADER..).unwrap_or_default();
        if !body.starts_with(HEADER) {
            return Err("copy data without its beginning");
        }
        data.advance(HEADER.len());
        let length = u32::try_from(data.len() - 1).unwrap_or(u32::MAX);
        data[0] = b'd';
        data[1..frame::HEADER].copy_from_slice(&length.to_be_bytes());
    }
    if *data == *TRAILER {
        return Ok(None);
    }
    Ok(Some(data))
}

/// What begins the stream to the scratch database.
pub fn beginning() -> Vec<u8> {
    let mut begun = vec![b'd'];
    begun.extend_from_slice(&(HEADER.len() as u32 + 4).to_be_bytes());
    begun.extend_from_slice(HEADER);
    begun
}

/// The texts of a DataRow's columns.
pub fn row(data: &[u8]) -> Option<Vec<String>> {
    let mut rest = data.get(frame::HEADER..)?;
    if rest.len() < 2 {
        return None;
    }
    let count = rest.get_u16();
    let mut texts = Vec::new();
    for _ in 0..count {
        if rest.len() < 4 {
            return None;
        }
        let length = usize::try_from(rest.get_i32()).unwrap_or(0);
        let value = rest.get(..length)?;
        texts.push(String::from_utf8_lossy(value).into_owned());
        rest.advance(length);
    }
    Some(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn united_rows_become_rows_of_their_tables() {
        let table = |name: &str, columns: &[&str]| Gathered {
            table: QualifiedName::new("public", name),
            columns: columns.iter().map(ToString::to_string).collect(),
            partly: false,
            source: crate::route::Source::Sharded,
            keys: None,
            only: Vec::new(),
            partners: Vec::new(),
            lookups: Vec::new(),
        };
        let (a, b) = (table("a", &["x"]), table("b", &["y", "z"]));
        let line = b"d\0\0\0\x111\t\\N\tyes\t\\N\n";
        let (number, row) = separate(line, Form::Text, &[&a, &b]).unwrap();
        assert_eq!((number, &row[5..]), (1, &b"yes\t\\N\n"[..]));
        let mut binary = BytesMut::from(&b"d\0\0\0\0\0\x04"[..]);
        binary
            .extend_from_slice(b"\0\0\0\x04\0\0\0\x01\xff\xff\xff\xff\0\0\0\x01y\xff\xff\xff\xff");
        let (number, row) = separate(&binary, Form::Binary, &[&a, &b]).unwrap();
        let expected = b"d\0\0\0\x0f\0\x02\0\0\0\x01y\xff\xff\xff\xff";
        assert_eq!((number, &row[..]), (1, &expected[..]));
        assert!(separate(b"d\0\0\0\x069\n", Form::Text, &[&a, &b]).is_none());
        assert!(separate(b"d\0\0\0\x04", Form::Binary, &[&a, &b]).is_none());
    }

    #[test]
    fn whole_rows_are_cut_off_at_once() {
        let mut frames = BytesMut::from(&b"d\0\0\0\x05ad\0\0\0\x06bc"[..]);
        frames.extend_from_slice(TRAILER);
        let (rows, count) = cut_rows(&mut frames).unwrap();
        assert_eq!((&rows[..], count), (&b"d\0\0\0\x05ad\0\0\0\x06bc"[..], 2));
        assert_eq!(cut_rows(&mut frames), None);
        assert_eq!(&frames[..], TRAILER);
        let mut half = BytesMut::from(&b"d\0\0\0\x05ad\0\0\0\x06b"[..]);
        assert_eq!(cut_rows(&mut half).unwrap().1, 1);
        assert_eq!(cut_rows(&mut half), None);
        assert_eq!(cut_rows(&mut BytesMut::from(&b"c\0\0\0\x04"[..])), None);
    }

    #[test]
    fn beginnings_and_ends_of_several_streams_are_left_out() {
        let begun = beginning();
        let mut first = BytesMut::from(&begun[..]);
        first.extend_from_slice(b"row");
        let length = (first.len() as u32 - 1).to_be_bytes();
        first[1..5].copy_from_slice(&length);
        let data = part_of_stream(first, true).unwrap().unwrap();
        assert_eq!(&data[..], b"d\0\0\0\x07row");
        assert_eq!(part_of_stream(BytesMut::from(TRAILER), false), Ok(None));
        let mut empty = BytesMut::from(&begun[..]);
        empty.extend_from_slice(b"\xff\xff");
        let length = (empty.len() as u32 - 1).to_be_bytes();
        empty[1..5].copy_from_slice(&length);
        assert_eq!(part_of_stream(empty, true), Ok(None));
        assert!(part_of_stream(BytesMut::from(&b"d\0\0\0\x07row"[..]), true).is_err());
    }
}
