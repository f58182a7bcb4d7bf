//! smallint, integer and bigint from text: int2in, int4in and int8in.

use super::{KeyError, KeyValue, trim_space};
use std::str::FromStr;

/// `T` gives the range of the type.
pub(super) fn parse<T: FromStr + Into<i64>>(text: &[u8]) -> Result<KeyValue, KeyError> {
    let trimmed = trim_space(text);
    let digits = trimmed
        .strip_prefix(b"-")
        .or(trimmed.strip_prefix(b"+"))
        .unwrap_or(trimmed);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(refused(digits));
    }
    let number = std::str::from_utf8(trimmed).map_err(|_| KeyError::Invalid)?;
    number
        .parse::<T>()
        .map(|n| KeyValue::Int(n.into()))
        .map_err(|_| KeyError::Invalid)
}

/// PostgreSQL 16 reads `0x1F`, `0o17`, `0b1` and `1_000`, 15 refuses them.
pub(super) fn refused(digits: &[u8]) -> KeyError {
    let radix = matches!(digits, [b'0', b'x' | b'X' | b'o' | b'O' | b'b' | b'B', ..]);
    if radix || digits.contains(&b'_') {
        KeyError::Ambiguous
    } else {
        KeyError::Invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_int_in_reads() {
        assert_eq!(parse::<i16>(b" \t-32768\n"), Ok(KeyValue::Int(-32768)));
        assert_eq!(
            parse::<i64>(b"+0009223372036854775807"),
            Ok(KeyValue::Int(i64::MAX))
        );
        assert_eq!(parse::<i32>(b"-0"), Ok(KeyValue::Int(0)));
        for bad in [
            "",
            " ",
            "-",
            "+-1",
            "- 1",
            "1.0",
            "1e3",
            "2147483648",
            "1 2",
            "\u{a0}1",
        ] {
            assert_eq!(
                parse::<i32>(bad.as_bytes()),
                Err(KeyError::Invalid),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn leaves_open_what_newer_servers_read_differently() {
        for open in ["0x1F", "-0b1", "1_000"] {
            assert_eq!(
                parse::<i32>(open.as_bytes()),
                Err(KeyError::Ambiguous),
                "{open:?}"
            );
        }
    }
}
