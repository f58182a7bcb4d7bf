//! numeric, exact and in one form for each value: sign, weight and base-10000 digits as PostgreSQL keeps them, without zeros
//! at either end, so that 1, 1.0 and 10e-1 are one key. It does no arithmetic.

use super::{KeyError, trim_space};
use smallvec::SmallVec;
use std::cmp::Ordering;
use std::fmt;
use std::fmt::Write as _;

/// Ordered as PostgreSQL orders: -infinity, numbers, infinity, NaN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Numeric {
    NegativeInfinity,
    Finite {
        /// never with zero
        negative: bool,
        /// the first digit counts 10000 to this power; 0 for zero
        weight: i16,
        /// base 10000; neither the first nor the last is 0; empty for zero
        digits: Box<[u16]>,
    },
    Infinity,
    NaN,
}

/// `NUMERIC_DSCALE_MAX`: digits after the decimal point.
const SCALE_MAX: i64 = 0x3FFF;
/// No numeric has more digits; a longer text is not read at all.
const DIGITS_MAX: usize = 131_072 + 16_383;

impl Numeric {
    /// What PostgreSQL hashes; None for NaN and the infinities.
    #[must_use]
    pub fn weight_and_digits(&self) -> Option<(i16, &[u16])> {
        match self {
            Self::Finite { weight, digits, .. } => Some((*weight, digits)),
            _ => None,
        }
    }

    /// Removes zeros at both ends and a zero's sign.
    fn finite(negative: bool, weight: i64, digits: &[u16]) -> Result<Self, KeyError> {
        let Some(first) = digits.iter().position(|digit| *digit != 0) else {
            return Ok(Self::Finite {
                negative: false,
                weight: 0,
                digits: Box::default(),
            });
        };
        let last = digits
            .iter()
            .rposition(|digit| *digit != 0)
            .unwrap_or(first);
        let weight = i16::try_from(weight - first as i64).map_err(|_| KeyError::Invalid)?;
        Ok(Self::Finite {
            negative,
            weight,
            digits: digits[first..=last].into(),
        })
    }

    /// Position in the order of kinds; numbers share theirs by sign.
    fn rank(&self) -> u8 {
        match self {
            Self::NegativeInfinity => 0,
            Self::Finite { negative: true, .. } => 1,
            Self::Finite { digits, .. } if digits.is_empty() => 2,
            Self::Finite { .. } => 3,
            Self::Infinity => 4,
            Self::NaN => 5,
        }
    }
}

impl Ord for Numeric {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_magnitude = || self.weight_and_digits().cmp(&other.weight_and_digits());
        match self.rank().cmp(&other.rank()) {
            Ordering::Equal if self.rank() == 1 => by_magnitude().reverse(),
            Ordering::Equal => by_magnitude(),
            unequal => unequal,
        }
    }
}

impl PartialOrd for Numeric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// numeric_in
pub(super) fn parse(text: &[u8]) -> Result<Numeric, KeyError> {
    let trimmed = trim_space(text);
    if let Some(special) = special(trimmed) {
        return Ok(special);
    }
    let (negative, unsigned) = match trimmed {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let decimal = Decimal::scan(unsigned)?;
    if decimal.scale() > SCALE_MAX || decimal.digits.len() > DIGITS_MAX {
        return Err(KeyError::Invalid);
    }
    let (weight, digits) = decimal.base_10000();
    Numeric::finite(negative, weight, &digits)
}

fn special(word: &[u8]) -> Option<Numeric> {
    let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
    if is("nan") {
        Some(Numeric::NaN)
    } else if is("inf") || is("infinity") || is("+inf") || is("+infinity") {
        Some(Numeric::Infinity)
    } else {
        (is("-inf") || is("-infinity")).then_some(Numeric::NegativeInfinity)
    }
}

/// Decimal digits as written, without leading zeros.
struct Decimal {
    digits: SmallVec<[u8; 40]>,
    /// how many digits stand before the decimal point; negative when zeros follow it
    point: i64,
    /// digits written after the point, less the exponent
    fraction: i64,
}

impl Decimal {
    fn scan(text: &[u8]) -> Result<Self, KeyError> {
        let mantissa_end = text
            .iter()
            .position(|byte| matches!(byte, b'e' | b'E'))
            .unwrap_or(text.len());
        let (mantissa, exponent) = text.split_at(mantissa_end);
        let mut parts = mantissa.splitn(2, |byte| *byte == b'.');
        let whole = parts.next().unwrap_or_default();
        let fraction = parts.next().unwrap_or_default();
        let written = whole.iter().chain(fraction);
        if (whole.is_empty() && fraction.is_empty()) || !written.clone().all(u8::is_ascii_digit) {
            return Err(super::integer::refused(mantissa));
        }
        let exponent = exponent.get(1..).map_or(Ok(0), scan_exponent)?;
        let zeros = written.clone().take_while(|digit| **digit == b'0').count();
        Ok(Self {
            digits: written.skip(zeros).map(|digit| digit - b'0').collect(),
            point: whole.len() as i64 - zeros as i64 + exponent,
            fraction: fraction.len() as i64 - exponent,
        })
    }

    fn scale(&self) -> i64 {
        self.fraction.max(0)
    }

    /// Groups of four around the decimal point: (weight of the first group, groups).
    fn base_10000(&self) -> (i64, Vec<u16>) {
        let weight = (self.point - 1).div_euclid(4);
        // Decimal zeros before the first digit that complete its group.
        let lead = ((weight + 1) * 4 - self.point) as usize;
        let mut groups = vec![0_u16; (lead + self.digits.len()).div_ceil(4)];
        for (i, digit) in self.digits.iter().enumerate() {
            let place = lead + i;
            groups[place / 4] += u16::from(*digit) * [1000, 100, 10, 1][place % 4];
        }
        (weight, groups)
    }
}

/// The digits after `e`. PostgreSQL 15 also lets white space stand before them, 16 does not.
fn scan_exponent(text: &[u8]) -> Result<i64, KeyError> {
    if text.first().is_some_and(u8::is_ascii_whitespace) || text.contains(&b'_') {
        return Err(KeyError::Ambiguous);
    }
    let digits = text
        .strip_prefix(b"-")
        .or(text.strip_prefix(b"+"))
        .unwrap_or(text);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(KeyError::Invalid);
    }
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse::<i32>().ok());
    let exponent = number.filter(|exponent| exponent.abs() < i32::MAX / 2);
    exponent.map(i64::from).ok_or(KeyError::Invalid)
}

/// numeric_recv: digits that the scale hides are cut off.
pub(super) fn receive(bytes: &[u8]) -> Result<Numeric, KeyError> {
    let mut words = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    let mut next = || words.next().ok_or(KeyError::Invalid);
    let (count, weight, sign, scale) = (
        usize::from(next()?),
        next()?.cast_signed(),
        next()?,
        next()?,
    );
    let digits: Vec<u16> = words.collect();
    let well_formed =
        digits.len() == count && bytes.len() == 8 + 2 * count && i64::from(scale) <= SCALE_MAX;
    if !well_formed || digits.iter().any(|digit| *digit > 9999) {
        return Err(KeyError::Invalid);
    }
    match sign {
        0xC000 => Ok(Numeric::NaN),
        0xD000 => Ok(Numeric::Infinity),
        0xF000 => Ok(Numeric::NegativeInfinity),
        0x0000 | 0x4000 => {
            let weight = i64::from(weight);
            Numeric::finite(
                sign == 0x4000,
                weight,
                &cut(digits, weight, i64::from(scale)),
            )
        }
        _ => Err(KeyError::Invalid),
    }
}

/// trunc_var: nothing is left beyond `scale` decimal digits after the point.
fn cut(mut digits: Vec<u16>, weight: i64, scale: i64) -> Vec<u16> {
    let decimals = usize::try_from((weight + 1) * 4 + scale).unwrap_or(0);
    digits.truncate(decimals.div_ceil(4));
    if digits.len() == decimals.div_ceil(4)
        && let Some(last) = digits.last_mut()
    {
        *last -= *last % [1, 1000, 100, 10][decimals % 4];
    }
    digits
}

impl fmt::Display for Numeric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeInfinity => f.write_str("-Infinity"),
            Self::Infinity => f.write_str("Infinity"),
            Self::NaN => f.write_str("NaN"),
            Self::Finite {
                negative,
                weight,
                digits,
            } => {
                f.write_str(if *negative { "-" } else { "" })?;
                write_finite(f, i64::from(*weight), digits)
            }
        }
    }
}

fn write_finite(f: &mut fmt::Formatter<'_>, weight: i64, digits: &[u16]) -> fmt::Result {
    let group = |power: i64| {
        usize::try_from(weight - power)
            .ok()
            .and_then(|i| digits.get(i))
            .copied()
            .unwrap_or(0)
    };
    write!(f, "{}", group(weight.max(0)))?;
    for power in (0..weight.max(0)).rev() {
        write!(f, "{:04}", group(power))?;
    }
    let lowest = weight + 1 - digits.len() as i64;
    let mut fraction = String::new();
    for power in (lowest..0).rev() {
        write!(fraction, "{:04}", group(power))?;
    }
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() {
        Ok(())
    } else {
        write!(f, ".{fraction}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Numeric {
        parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn one_value_has_one_form() {
        for forms in [
            &[
                "1",
                "1.0",
                "01.000",
                "+1",
                "10e-1",
                "0.1E1",
                "100000e-5",
                " 1 ",
            ][..],
            &["0", "-0", "0.000", "0e10", ".0", "0."],
            &["-12345.678", "-12345.6780", "-1.2345678e4", "-12345678e-3"],
            &["10000", "1e4", "1e+4", "10000.00"],
            &["Infinity", "inf", "+INF", "+infinity"],
        ] {
            for form in forms {
                assert_eq!(of(form), of(forms[0]), "{form}");
            }
        }
    }

    #[test]
    fn displays_what_it_means() {
        for text in [
            "0",
            "1",
            "-1",
            "10000",
            "123456789.000100023",
            "0.0001",
            "0.00001",
            "-0.5",
            "NaN",
            "-Infinity",
        ] {
            assert_eq!(of(text).to_string(), text);
        }
        assert_eq!(of("1e8").to_string(), "100000000");
        assert_eq!(of("12e-9").to_string(), "0.000000012");
    }

    #[test]
    fn refuses_what_numeric_in_refuses() {
        for bad in [
            "",
            ".",
            "-",
            "1.2.3",
            "1e",
            "1e+",
            "e5",
            "--1",
            "1 2",
            "+NaN",
            "infinit",
            "1e131072",
            "1e-16384",
            "1e99999999999",
        ] {
            assert_eq!(parse(bad.as_bytes()), Err(KeyError::Invalid), "{bad}");
        }
        for open in ["0x1F", "1_000", "1e 5", "1e1_0"] {
            assert_eq!(parse(open.as_bytes()), Err(KeyError::Ambiguous), "{open}");
        }
        assert!(parse(b"1e131071").is_ok());
        assert!(parse(b"1e-16383").is_ok());
    }

    #[test]
    fn order_is_numeric() {
        let ordered = [
            "-inf", "-1e10", "-2", "-1.5", "-1", "-0.1", "0", "0.00001", "0.1", "1", "1.0001",
            "9999", "10000", "1e20", "inf", "nan",
        ];
        for pair in ordered.windows(2) {
            assert!(of(pair[0]) < of(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn binary_is_cut_at_its_scale() {
        // 12.3456 sent with scale 2
        let bytes = [0, 2, 0, 0, 0, 0, 0, 2, 0, 12, 0x0D, 0x80];
        assert_eq!(receive(&bytes), Ok(of("12.34")));
        assert_eq!(receive(&[0, 0, 0, 0, 0xC0, 0, 0, 0]), Ok(Numeric::NaN));
        assert_eq!(
            receive(&[0, 1, 0, 0, 0, 0, 0, 0, 0x27, 0x10]),
            Err(KeyError::Invalid)
        );
        assert_eq!(receive(&bytes[..11]), Err(KeyError::Invalid));
        assert_eq!(receive(&[]), Err(KeyError::Invalid));
    }
}
