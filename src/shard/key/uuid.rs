//! uuid from text: 32 hexadecimal digits, a hyphen allowed after every four, braces allowed around. No white space.

use super::KeyError;
use std::fmt;

pub(super) fn parse(text: &[u8]) -> Result<[u8; 16], KeyError> {
    let mut rest = match text.strip_prefix(b"{") {
        Some(inner) => inner.strip_suffix(b"}").ok_or(KeyError::Invalid)?,
        None => text,
    };
    let mut uuid = [0; 16];
    for (i, byte) in uuid.iter_mut().enumerate() {
        let [high, low, tail @ ..] = rest else {
            return Err(KeyError::Invalid);
        };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
        let may_hyphen = i % 2 == 1 && i < 15;
        rest = if may_hyphen {
            tail.strip_prefix(b"-").unwrap_or(tail)
        } else {
            tail
        };
    }
    if rest.is_empty() {
        Ok(uuid)
    } else {
        Err(KeyError::Invalid)
    }
}

fn nibble(digit: u8) -> Result<u8, KeyError> {
    let value = char::from(digit).to_digit(16).ok_or(KeyError::Invalid)?;
    u8::try_from(value).map_err(|_| KeyError::Invalid)
}

pub(super) fn write(f: &mut fmt::Formatter<'_>, uuid: &[u8; 16]) -> fmt::Result {
    for (i, byte) in uuid.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_are_one_value() {
        let plain = parse(b"a0eebc999c0b4ef8bb6d6bb9bd380a11").unwrap();
        for form in [
            "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
            "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
            "a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11",
        ] {
            assert_eq!(parse(form.as_bytes()), Ok(plain), "{form}");
        }
    }

    #[test]
    fn refuses_what_uuid_in_refuses() {
        for bad in [
            "",
            " a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1",
            "a0-eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11-",
            "{a0eebc999c0b4ef8bb6d6bb9bd380a11",
            "a0eebc999c0b4ef8bb6d6bb9bd380a11}",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(KeyError::Invalid), "{bad}");
        }
    }
}
