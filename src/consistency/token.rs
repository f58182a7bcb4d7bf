//! Watermarks as text that a cookie can carry: what a session must see, for any instance of pgshunt in front of the same
//! shards. It checks form, not origin: a forged token can only make its own session read staler or slower.

use super::{Lsn, Position, Xid};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use xxhash_rust::xxh3::xxh3_64;

/// In front of every token; another number is another layout.
const VERSION: &str = "1.";
/// Characters of the longest token that is looked at.
const LENGTH_MAX: usize = 256 << 10;
const CHECK: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token was made by another version of pgshunt")]
    Version,
    #[error("the token is longer than {LENGTH_MAX} characters")]
    TooLong,
}

/// Layout: for each shard its name (length first), system id, timeline, position and transaction bound plus one (0 where
/// there is none); four bytes of xxh3 over it all.
#[must_use]
pub fn encode(positions: &[(&str, Position)]) -> String {
    let mut bytes = Vec::with_capacity(positions.len() * 32 + CHECK);
    for (shard, position) in positions {
        put_number(&mut bytes, shard.len() as u64);
        bytes.extend_from_slice(shard.as_bytes());
        bytes.extend_from_slice(&position.system_id.to_be_bytes());
        put_number(&mut bytes, position.timeline.into());
        put_number(&mut bytes, position.lsn.0);
        put_number(
            &mut bytes,
            position.xid.map_or(0, |xid| xid.0.saturating_add(1)),
        );
    }
    let check = xxh3_64(&bytes).to_be_bytes();
    bytes.extend_from_slice(&check[..CHECK]);
    format!("{VERSION}{}", URL_SAFE_NO_PAD.encode(bytes))
}

pub fn decode(token: &str) -> Result<Vec<(String, Position)>, TokenError> {
    if token.len() > LENGTH_MAX {
        return Err(TokenError::TooLong);
    }
    let Some(text) = token.strip_prefix(VERSION) else {
        let numbered = token
            .split_once('.')
            .is_some_and(|(n, _)| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
        return Err(if numbered {
            TokenError::Version
        } else {
            TokenError::Malformed
        });
    };
    let bytes = URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| TokenError::Malformed)?;
    entries(&bytes).ok_or(TokenError::Malformed)
}

fn entries(bytes: &[u8]) -> Option<Vec<(String, Position)>> {
    let (body, check) = bytes.split_at_checked(bytes.len().checked_sub(CHECK)?)?;
    if xxh3_64(body).to_be_bytes()[..CHECK] != *check {
        return None;
    }
    let mut rest = body;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let length = usize::try_from(number(&mut rest)?).ok()?;
        let name = std::str::from_utf8(take(&mut rest, length)?).ok()?;
        let system_id = u64::from_be_bytes(take(&mut rest, 8)?.try_into().ok()?);
        let timeline = u32::try_from(number(&mut rest)?).ok()?;
        let lsn = Lsn(number(&mut rest)?);
        let position = Position {
            system_id,
            timeline,
            lsn,
            xid: number(&mut rest)?.checked_sub(1).map(Xid),
        };
        found.push((name.to_owned(), position));
    }
    Some(found)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// Seven bits a byte, the lowest first.
fn put_number(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        let bits = u64::from(byte & 0x7F);
        if (bits << shift) >> shift != bits {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn position(system_id: u64, timeline: u32, lsn: u64) -> Position {
        Position {
            system_id,
            timeline,
            lsn: Lsn(lsn),
            xid: lsn.checked_sub(1000).map(Xid),
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            entries in prop::collection::vec((".{0,20}", any::<u64>(), any::<u32>(), any::<u64>()), 0..8)
        ) {
            let entries: Vec<_> = entries
                .into_iter()
                .map(|(n, s, t, l)| (n, position(s, t, l)))
                .collect();
            let given: Vec<_> = entries.iter().map(|(n, p)| (n.as_str(), *p)).collect();
            let token = encode(&given);
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
            prop_assert_eq!(decode(&token), Ok(entries));
        }

        #[test]
        fn other_text_is_refused_and_nothing_breaks(text in ".{0,80}") {
            let _ = decode(&text);
            let framed = format!("1.{text}x");
            prop_assert!(decode(&framed).is_err());
        }
    }

    #[test]
    fn a_changed_token_is_refused() {
        let token = encode(&[
            ("s1", position(7, 1, 0x0500_0000)),
            ("s2", position(8, 2, 42)),
        ]);
        assert!(token.len() < 60, "{token}");
        for at in 2..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert_eq!(decode(&other), Err(TokenError::Malformed), "{at}");
        }
        assert_eq!(
            decode(&token[..token.len() - 3]),
            Err(TokenError::Malformed)
        );
    }

    #[test]
    fn other_versions_are_named_as_such() {
        assert_eq!(decode("2.AAAA"), Err(TokenError::Version));
        assert_eq!(decode("hello"), Err(TokenError::Malformed));
        assert_eq!(decode(""), Err(TokenError::Malformed));
        let long = format!("1.{}", "A".repeat(LENGTH_MAX));
        assert_eq!(decode(&long), Err(TokenError::TooLong));
    }
}
