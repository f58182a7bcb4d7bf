//! The answer of a scratch database on its way to the client: descriptions of rows and parameters get the OIDs of the home
//! shard; the rows themselves pass as they come.

use crate::cluster::scratch::Known;
use crate::wire::frame;
use bytes::{Buf, BytesMut};
use std::collections::HashMap;

/// OIDs below come with every server, and are the same everywhere.
const FIRST_OF_USERS: u32 = 16_384;

/// regproc, regprocedure, regoper, regoperator, regclass, regtype, regconfig, regdictionary, regnamespace, regrole,
/// regcollation, and arrays of them: in text they are names.
const IS_AN_OID: [u32; 22] = [
    24, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191, 1008, 2207, 2208, 2209, 2210,
    2211, 3735, 3770, 4090, 4097, 4192,
];

/// What of the answer has passed.
pub struct Translation<'a> {
    pub oids: &'a HashMap<u32, Known>,
    /// the description we asked for ourselves comes after so many others
    pub ours_after: Option<usize>,
    seen: usize,
    done: bool,
}

/// Why the answer cannot be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Untranslatable {
    /// a type that the home shard does not have by that name
    Type,
    /// values in binary hold OIDs
    Binary,
    /// values in binary are OIDs, by which things have names
    Name,
}

impl<'a> Translation<'a> {
    pub fn new(oids: &'a HashMap<u32, Known>, ours_after: Option<usize>) -> Self {
        Self {
            oids,
            ours_after,
            seen: 0,
            done: false,
        }
    }

    /// Translates what stands in the output from this offset on, whole frames up to the first row.
    pub fn translate(&mut self, output: &mut BytesMut, from: usize) -> Result<(), Untranslatable> {
        let mut at = from;
        while !self.done {
            let Ok(Some(head)) = frame::header(output.get(at..).unwrap_or_default(), usize::MAX)
            else {
                return Ok(());
            };
            let end = (at + head.len).min(output.len());
            match head.tag {
                b'D' | b'd' | b'H' | b'C' => self.done = true,
                b'T' | b'n' => {
                    let ours = self.ours_after == Some(self.seen);
                    self.seen += 1;
                    let translated = if head.tag == b'T' {
                        self.row_description(&mut output[at..end])
                    } else {
                        Ok(())
                    };
                    if let Err(error) = translated {
                        output.truncate(at);
                        return Err(error);
                    }
                    if ours {
                        let rest = output.split_off(end);
                        output.truncate(at);
                        output.unsplit(rest);
                        continue;
                    }
                }
                b't' => self.parameters(&mut output[at..end]),
                _ => {}
            }
            at = end;
        }
        Ok(())
    }

    fn row_description(&self, message: &mut [u8]) -> Result<(), Untranslatable> {
        let mut at = frame::HEADER + 2;
        while at < message.len() {
            let name = memchr::memchr(0, &message[at..]).unwrap_or(message.len() - at);
            let field = at + name + 1;
            let Some(numbers) = message.get_mut(field..field + 18) else {
                return Ok(());
            };
            let (table, of_type) = (number(&numbers[0..4]), number(&numbers[6..10]));
            let format = numbers[17];
            if table >= FIRST_OF_USERS {
                let home = self.oids.get(&table).map_or(0, |known| known.oid);
                numbers[0..4].copy_from_slice(&home.to_be_bytes());
            }
            if of_type >= FIRST_OF_USERS {
                let known = self.oids.get(&of_type).ok_or(Untranslatable::Type)?;
                if known.embeds && format == 1 {
                    return Err(Untranslatable::Binary);
                }
                numbers[6..10].copy_from_slice(&known.oid.to_be_bytes());
            } else if format == 1 && IS_AN_OID.contains(&of_type) {
                return Err(Untranslatable::Name);
            }
            at = field + 18;
        }
        Ok(())
    }

    fn parameters(&self, message: &mut [u8]) {
        for oid in message
            .get_mut(frame::HEADER + 2..)
            .unwrap_or_default()
            .chunks_exact_mut(4)
        {
            if let Some(known) = self.oids.get(&number(oid)) {
                oid.copy_from_slice(&known.oid.to_be_bytes());
            }
        }
    }
}

fn number(mut bytes: &[u8]) -> u32 {
    bytes.get_u32()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut;

    fn description(table: u32, of_type: u32, format: u8) -> BytesMut {
        let mut out = BytesMut::new();
        crate::wire::build::frame(&mut out, b'T', |b| {
            b.put_u16(1);
            b.extend_from_slice(b"mood\0");
            b.put_u32(table);
            b.put_u16(1);
            b.put_u32(of_type);
            b.put_u16(4);
            b.put_i32(-1);
            b.put_slice(&[0, format]);
        });
        out
    }

    fn oids() -> HashMap<u32, Known> {
        let known = |oid, embeds| Known { oid, embeds };
        HashMap::from([
            (20_000, known(30_000, false)),
            (20_001, known(30_001, false)),
            (20_002, known(30_002, true)),
        ])
    }

    #[test]
    fn descriptions_get_the_home_shards_oids() {
        let oids = oids();
        let mut out = description(20_000, 20_001, 1);
        out.extend_from_slice(&description(0, 25, 0));
        let mut translation = Translation::new(&oids, Some(1));
        translation.translate(&mut out, 0).unwrap();
        assert_eq!(out, description(30_000, 30_001, 1));
    }

    #[test]
    fn binary_values_with_oids_in_them_are_not_shown() {
        let oids = oids();
        let mut out = description(20_000, 20_002, 1);
        let result = Translation::new(&oids, None).translate(&mut out, 0);
        assert_eq!(result, Err(Untranslatable::Binary));
        assert!(out.is_empty());
        let mut named = description(0, 2206, 1);
        let result = Translation::new(&oids, None).translate(&mut named, 0);
        assert_eq!(result, Err(Untranslatable::Name));
        let mut text = description(0, 2206, 0);
        assert_eq!(
            Translation::new(&oids, None).translate(&mut text, 0),
            Ok(())
        );
    }
}
