//! Values to bytes whose order is the values' order, as PostgreSQL's own btree comparison gives it: a row's sort key is
//! one byte string, and merging compares nothing else. Equal values have equal bytes (1.0 and 1.00, -0 and 0).

use super::Trouble;
use super::decimal::Decimal;
use super::row::{Formats, Row};
use crate::route::combine::{Reading, Sent, SortKey, Source};

const NULL_FIRST: u8 = 0;
const VALUE: u8 = 1;
const NULL_LAST: u8 = 2;

/// The sort key of a row.
pub fn row_key(
    row: &Row<'_>,
    keys: &[SortKey],
    hidden: usize,
    formats: &Formats,
    out: &mut Vec<u8>,
) -> Result<(), Trouble> {
    out.clear();
    for key in keys {
        let at = row.index(key.value.place, hidden)?;
        let Some(value) = row.columns[at] else {
            out.push(if key.nulls_first {
                NULL_FIRST
            } else {
                NULL_LAST
            });
            continue;
        };
        out.push(VALUE);
        let start = out.len();
        put(key.value.reading, formats.is_binary(at), value, out)?;
        if key.descending {
            out[start..].iter_mut().for_each(|byte| *byte = !*byte);
        }
    }
    Ok(())
}

/// One value's bytes; None for NULL.
pub fn value_key(
    row: &Row<'_>,
    source: Source,
    hidden: usize,
    formats: &Formats,
) -> Result<Option<Vec<u8>>, Trouble> {
    let at = row.index(source.place, hidden)?;
    let Some(value) = row.columns[at] else {
        return Ok(None);
    };
    let mut key = Vec::with_capacity(value.len() + 2);
    put(source.reading, formats.is_binary(at), value, &mut key)?;
    Ok(Some(key))
}

fn put(reading: Reading, binary: bool, value: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble> {
    match reading {
        Reading::Integer => put_i64(integer(value, binary)?, out),
        Reading::Oid => {
            let oid: u32 = if binary {
                u32::from_be_bytes(array(value)?)
            } else {
                number(value)?
            };
            out.extend_from_slice(&oid.to_be_bytes());
        }
        Reading::Numeric => put_decimal(&Decimal::read(value, binary)?, out),
        Reading::Boolean => out.push(u8::from(boolean(value, binary)?)),
        Reading::Bytes | Reading::Text => put_bytes(value, out),
        Reading::Bytea if binary => put_bytes(value, out),
        Reading::Bytea => put_bytes(&bytea(value)?, out),
        Reading::Sent(sent) if binary => put_sent(sent, value, out)?,
        Reading::Sent(sent) => put_sent(sent, &bytea(value)?, out)?,
    }
    Ok(())
}

fn put_sent(sent: Sent, value: &[u8], out: &mut Vec<u8>) -> Result<(), Trouble> {
    match sent {
        Sent::Float4 => put_f64(f64::from(f32::from_be_bytes(array(value)?)), out),
        Sent::Float8 => put_f64(f64::from_be_bytes(array(value)?), out),
        Sent::Date => put_i64(i64::from(i32::from_be_bytes(array(value)?)), out),
        Sent::Timestamp => put_i64(i64::from_be_bytes(array(value)?), out),
        Sent::TimeTz => {
            // by the moment in UTC, then by the zone
            let (time, zone) = value.split_at_checked(8).ok_or(Trouble::Unreadable)?;
            let time = i64::from_be_bytes(array(time)?);
            let zone = i64::from(i32::from_be_bytes(array(zone)?));
            put_i64(time.saturating_add(zone * 1_000_000), out);
            put_i64(zone, out);
        }
        Sent::Interval => {
            const DAY: i128 = 86_400_000_000;
            let (time, rest) = value.split_at_checked(8).ok_or(Trouble::Unreadable)?;
            let (days, months) = rest.split_at_checked(4).ok_or(Trouble::Unreadable)?;
            let time = i128::from(i64::from_be_bytes(array(time)?));
            let days = i128::from(i32::from_be_bytes(array(days)?));
            let months = i128::from(i32::from_be_bytes(array(months)?));
            let span = time + (days + 30 * months) * DAY;
            out.extend_from_slice(&(span ^ i128::MIN).to_be_bytes());
        }
    }
    Ok(())
}

fn put_i64(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&(value ^ i64::MIN).to_be_bytes());
}

/// NaN is greater than all others, -0 is 0.
fn put_f64(value: f64, out: &mut Vec<u8>) {
    let bits = (value + 0.0).to_bits();
    let ordered = if value.is_nan() {
        u64::MAX
    } else if bits >> 63 == 1 {
        !bits
    } else {
        bits | 1 << 63
    };
    out.extend_from_slice(&ordered.to_be_bytes());
}

/// Ends with a byte that is less than any that could follow; a zero within is marked.
fn put_bytes(value: &[u8], out: &mut Vec<u8>) {
    for &byte in value {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

fn put_decimal(value: &Decimal, out: &mut Vec<u8>) {
    let (digits, point, negative) = match value {
        Decimal::NegativeInfinity => return out.push(1),
        Decimal::Infinity => return out.push(5),
        Decimal::NotANumber => return out.push(6),
        Decimal::Finite(number) => number.normalized(),
    };
    if digits.is_empty() {
        return out.push(3);
    }
    out.push(if negative { 2 } else { 4 });
    let start = out.len();
    out.extend_from_slice(&(point ^ i32::MIN).to_be_bytes());
    out.extend_from_slice(&digits);
    out.push(0);
    if negative {
        out[start..].iter_mut().for_each(|byte| *byte = !*byte);
    }
}

/// An integer of any width.
pub fn integer(value: &[u8], binary: bool) -> Result<i64, Trouble> {
    if !binary {
        return number(value);
    }
    Ok(match value.len() {
        2 => i64::from(i16::from_be_bytes(array(value)?)),
        4 => i64::from(i32::from_be_bytes(array(value)?)),
        _ => i64::from_be_bytes(array(value)?),
    })
}

pub fn boolean(value: &[u8], binary: bool) -> Result<bool, Trouble> {
    match (binary, value) {
        (true, [0]) | (false, b"f") => Ok(false),
        (true, [1]) | (false, b"t") => Ok(true),
        _ => Err(Trouble::Unreadable),
    }
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Result<N, Trouble> {
    let text = std::str::from_utf8(text).map_err(|_| Trouble::Unreadable)?;
    text.parse().map_err(|_| Trouble::Unreadable)
}

fn array<const N: usize>(value: &[u8]) -> Result<[u8; N], Trouble> {
    value.try_into().map_err(|_| Trouble::Unreadable)
}

/// A bytea's text, whatever bytea_output says: hex begins with `\x`, and escape writes a backslash as two.
fn bytea(text: &[u8]) -> Result<Vec<u8>, Trouble> {
    if let Some(hex) = text.strip_prefix(b"\\x") {
        let nibble = |byte: u8| {
            char::from(byte)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        };
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = hex.chunks(2).map(pair).collect();
        return bytes.ok_or(Trouble::Unreadable);
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            bytes.push(byte);
        } else if let Some(after) = rest.strip_prefix(b"\\") {
            bytes.push(b'\\');
            rest = after;
        } else {
            let (octal, after) = rest.split_at_checked(3).ok_or(Trouble::Unreadable)?;
            let octal = std::str::from_utf8(octal).map_err(|_| Trouble::Unreadable)?;
            bytes.push(u8::from_str_radix(octal, 8).map_err(|_| Trouble::Unreadable)?);
            rest = after;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(reading: Reading, binary: bool, value: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put(reading, binary, value, &mut out).unwrap();
        out
    }

    fn ascend(reading: Reading, values: &[&str]) {
        for pair in values.windows(2) {
            let [a, b] = pair else { continue };
            assert!(
                key(reading, false, a.as_bytes()) < key(reading, false, b.as_bytes()),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn texts_of_numbers_compare_as_numbers() {
        let integers = ["-9223372036854775808", "-10", "-9", "0", "9", "10"];
        ascend(Reading::Integer, &integers);
        ascend(
            Reading::Numeric,
            &[
                "-Infinity",
                "-100",
                "-99.5",
                "-1.05",
                "-1",
                "-0.001",
                "0.00",
                "0.00001",
                "0.1",
                "1",
                "1.001",
                "9.99",
                "10",
                "12345678901234567890.1",
                "Infinity",
                "NaN",
            ],
        );
        let same = |a: &str, b: &str| {
            key(Reading::Numeric, false, a.as_bytes()) == key(Reading::Numeric, false, b.as_bytes())
        };
        assert!(same("1.0", "1.00") && same("0.0", "-0") && same("-20.50", "-20.5"));
    }

    #[test]
    fn floats_have_one_zero_and_nan_is_last() {
        let float = |value: f64| {
            let mut out = Vec::new();
            put_f64(value, &mut out);
            out
        };
        assert_eq!(float(0.0), float(-0.0));
        let ordered = [
            f64::NEG_INFINITY,
            -1.5,
            -1e-300,
            0.0,
            1e-300,
            2.0,
            f64::INFINITY,
            f64::NAN,
        ];
        assert!(ordered.windows(2).all(|w| float(w[0]) < float(w[1])));
        assert_eq!(float(f64::NAN), float(-f64::NAN));
    }

    #[test]
    fn bytea_reads_alike_in_both_of_its_texts() {
        let hex = key(Reading::Bytea, false, b"\\x00415cff");
        assert_eq!(hex, key(Reading::Bytea, false, b"\\000A\\\\\\377"));
        assert_eq!(hex, key(Reading::Bytea, true, &[0, b'A', b'\\', 255]));
    }

    #[test]
    fn a_prefix_is_less_and_descending_turns_it() {
        let row = |text: &'static str| Row {
            columns: [Some(text.as_bytes())].into_iter().collect(),
        };
        let order = |descending| SortKey {
            value: Source {
                place: crate::route::combine::Place::Visible(0),
                reading: Reading::Text,
            },
            descending,
            nulls_first: descending,
        };
        let key = |row: &Row<'_>, descending| {
            let mut out = Vec::new();
            row_key(row, &[order(descending)], 0, &Formats::AllText, &mut out).unwrap();
            out
        };
        let null = Row {
            columns: [None].into_iter().collect(),
        };
        let (a, ab) = (row("a"), row("ab"));
        assert!(key(&a, false) < key(&ab, false) && key(&ab, false) < key(&null, false));
        assert!(key(&null, true) < key(&ab, true) && key(&ab, true) < key(&a, true));
    }

    proptest! {
        #[test]
        fn integers_keep_their_order(a in any::<i64>(), b in any::<i64>()) {
            let text = |n: i64| key(Reading::Integer, false, n.to_string().as_bytes());
            prop_assert_eq!(a.cmp(&b), text(a).cmp(&text(b)));
            prop_assert_eq!(text(a), key(Reading::Integer, true, &a.to_be_bytes()));
        }

        #[test]
        fn bytes_keep_their_order(a in any::<Vec<u8>>(), b in any::<Vec<u8>>()) {
            prop_assert_eq!(a.cmp(&b), key(Reading::Bytes, true, &a).cmp(&key(Reading::Bytes, true, &b)));
        }

        #[test]
        fn decimals_keep_their_order(a in -10_000_i64..10_000, b in -10_000_i64..10_000, scale in 0_usize..5) {
            let text = |n: i64| {
                let digits = format!("{:0width$}", n.abs(), width = scale + 1);
                let (whole, part) = digits.split_at(digits.len() - scale);
                format!("{}{whole}.{part}0", if n < 0 { "-" } else { "" }).into_bytes()
            };
            prop_assert_eq!(a.cmp(&b), key(Reading::Numeric, false, &text(a)).cmp(&key(Reading::Numeric, false, &text(b))));
        }

        #[test]
        fn nothing_unreadable_panics(value in any::<Vec<u8>>(), binary in any::<bool>()) {
            let sent = [Sent::Float4, Sent::Float8, Sent::Date, Sent::Timestamp, Sent::TimeTz, Sent::Interval];
            let plain = [Reading::Integer, Reading::Oid, Reading::Numeric, Reading::Boolean, Reading::Bytea];
            for reading in sent.map(Reading::Sent).into_iter().chain(plain) {
                let _ = put(reading, binary, &value, &mut Vec::new());
            }
        }
    }
}
