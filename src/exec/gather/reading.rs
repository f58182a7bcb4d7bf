//! What is read from the shards: one text a shard that copies its tables out at one snapshot, and the frames it answers
//! with. It knows neither the scratch database nor the client.

use crate::catalog::QualifiedName;
use crate::cluster::scratch::{Recipe, signatures};
use crate::route::Gathered;
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

impl Form {
    pub fn of(recipe: &Recipe, table: &QualifiedName) -> Self {
        match recipe.tables.get(table) {
            Some(table) if table.binary => Self::Binary,
            _ => Self::Text,
        }
    }

    /// As COPY takes it. The encoding is the servers' own, so that nothing is converted.
    pub fn options(self, encoding: &str) -> String {
        let form = match self {
            Self::Binary => "binary",
            Self::Text => "text",
        };
        format!("(FORMAT {form}, ENCODING '{encoding}')")
    }
}

/// In which transaction a shard is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Within {
    /// one of ours
    Own,
    /// the client's
    Clients,
}

/// The text for one shard.
pub fn text(tables: &[&Gathered], recipe: &Recipe, within: Within, encoding: &str) -> String {
    let names: Vec<&QualifiedName> = tables.iter().map(|t| &t.table).collect();
    let quoted: Vec<String> = names.iter().map(|name| name.quoted()).collect();
    let as_text = names
        .iter()
        .any(|name| Form::of(recipe, name) == Form::Text);
    let mut sql = String::new();
    if within == Within::Own {
        sql.push_str("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;");
    } else if as_text {
        sql.push_str(&format!("SAVEPOINT {SAVEPOINT};"));
    }
    if as_text {
        sql.push_str(
            "SET LOCAL extra_float_digits = 3;SET LOCAL DateStyle = ISO;SET LOCAL IntervalStyle = postgres;\
             SET LOCAL bytea_output = hex;",
        );
    }
    // the lock before the snapshot: nobody changes the columns between the look at them and the copy
    sql.push_str(&format!(
        "LOCK TABLE {} IN ACCESS SHARE MODE;",
        quoted.join(", ")
    ));
    sql.push_str(&signatures(&names));
    sql.push(';');
    for table in tables {
        let options = Form::of(recipe, &table.table).options(encoding);
        sql.push_str(&format!(
            "COPY (SELECT {} FROM {}) TO STDOUT {options};",
            columns(table),
            table.table.quoted()
        ));
    }
    if within == Within::Own {
        sql.push_str("COMMIT");
    } else if as_text {
        sql.push_str(&format!(
            "ROLLBACK TO SAVEPOINT {SAVEPOINT};RELEASE SAVEPOINT {SAVEPOINT}"
        ));
    }
    sql
}

/// The columns of a table that are brought, quoted.
pub fn columns(table: &Gathered) -> String {
    let quoted: Vec<String> = table
        .columns
        .iter()
        .map(|column| format!("\"{}\"", column.replace('"', "\"\"")))
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
