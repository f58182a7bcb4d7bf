//! PostgreSQL's numeric as a value: read from text and binary, added, divided by a count, written as PostgreSQL writes it.

use super::Trouble;
use num_bigint::{BigInt, Sign};

/// Digits of a division's result, at least (src/include/utils/numeric.h: NUMERIC_MIN_SIG_DIGITS).
const SIGNIFICANT_MIN: i32 = 16;
/// Digits behind the point, at most.
const SCALE_MAX: i32 = 1000;
/// Decimal digits of one digit in the binary format.
const GROUP: usize = 4;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decimal {
    Finite(Number),
    NotANumber,
    Infinity,
    NegativeInfinity,
}

/// `units` / 10^`scale`; the scale is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    units: BigInt,
    scale: u32,
}

impl Decimal {
    #[must_use]
    pub fn from_integer(value: i64) -> Self {
        Self::Finite(Number {
            units: value.into(),
            scale: 0,
        })
    }

    pub fn read(value: &[u8], binary: bool) -> Result<Self, Trouble> {
        if binary {
            return from_binary(value).ok_or(Trouble::Unreadable);
        }
        match value {
            b"NaN" => Ok(Self::NotANumber),
            b"Infinity" => Ok(Self::Infinity),
            b"-Infinity" => Ok(Self::NegativeInfinity),
            _ => from_text(value).ok_or(Trouble::Unreadable),
        }
    }

    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        use Decimal::{Finite, Infinity, NegativeInfinity, NotANumber};
        match (self, other) {
            (NotANumber, _)
            | (_, NotANumber)
            | (Infinity, NegativeInfinity)
            | (NegativeInfinity, Infinity) => NotANumber,
            (Infinity, _) | (_, Infinity) => Infinity,
            (NegativeInfinity, _) | (_, NegativeInfinity) => NegativeInfinity,
            (Finite(a), Finite(b)) => Finite(a.plus(b)),
        }
    }

    /// The quotient, at the scale and rounded as PostgreSQL divides; `count` is positive.
    #[must_use]
    pub fn divided_by(&self, count: i64) -> Self {
        match self {
            Self::Finite(number) => Self::Finite(number.divided_by(count)),
            other => other.clone(),
        }
    }

    #[must_use]
    pub fn write(&self, binary: bool) -> Vec<u8> {
        match (self, binary) {
            (Self::Finite(number), false) => number.to_text(),
            (Self::Finite(number), true) => number.to_binary(),
            (Self::NotANumber, false) => b"NaN".to_vec(),
            (Self::Infinity, false) => b"Infinity".to_vec(),
            (Self::NegativeInfinity, false) => b"-Infinity".to_vec(),
            (Self::NotANumber, true) => special(0xc000, 0),
            (Self::Infinity, true) => special(0xd000, 0x20),
            (Self::NegativeInfinity, true) => special(0xf000, 0x20),
        }
    }
}

impl Number {
    /// Digits without zeroes at either end (ASCII), how many of them stand before the point (less than 0: zeroes behind it),
    /// whether it is negative. No digits: zero.
    #[must_use]
    pub fn normalized(&self) -> (Vec<u8>, i32, bool) {
        let mut digits = self.units.magnitude().to_string().into_bytes();
        let point = i32::try_from(digits.len()).unwrap_or(i32::MAX)
            - i32::try_from(self.scale).unwrap_or(i32::MAX);
        while digits.last() == Some(&b'0') {
            digits.pop();
        }
        (digits, point, self.units.sign() == Sign::Minus)
    }

    fn plus(&self, other: &Self) -> Self {
        let scale = self.scale.max(other.scale);
        Self {
            units: self.at_scale(scale) + other.at_scale(scale),
            scale,
        }
    }

    fn at_scale(&self, scale: u32) -> BigInt {
        &self.units * ten_to(scale.saturating_sub(self.scale))
    }

    fn divided_by(&self, count: i64) -> Self {
        let scale = self.quotient_scale(count);
        // rounded half away from zero
        let numerator = self.units.magnitude() * 2_u32 * ten_to_unsigned(scale);
        let denominator = ten_to_unsigned(self.scale) * count.unsigned_abs();
        let rounded = (numerator + &denominator) / (denominator * 2_u32);
        let sign = if self.units.sign() == Sign::Minus {
            Sign::Minus
        } else {
            Sign::Plus
        };
        Self {
            units: BigInt::from_biguint(sign, rounded),
            scale,
        }
    }

    /// As many digits as a double has, and not less than the operands show. PostgreSQL estimates the quotient's size by
    /// the first digit, in base 10,000, of each operand.
    fn quotient_scale(&self, count: i64) -> u32 {
        let (weight, first) = self.leading();
        let divisor = Self {
            units: count.into(),
            scale: 0,
        };
        let (its_weight, its_first) = divisor.leading();
        let mut weight = weight - its_weight;
        if first <= its_first {
            weight -= 1;
        }
        let group = i32::try_from(GROUP).unwrap_or(4);
        let scale = SIGNIFICANT_MIN - weight * group;
        let own = i32::try_from(self.scale).unwrap_or(SCALE_MAX);
        u32::try_from(scale.max(own).clamp(0, SCALE_MAX)).unwrap_or(0)
    }

    /// The first digit in base 10,000 and its place before (0 and more) or behind the point; zeroes for zero.
    fn leading(&self) -> (i32, u32) {
        let (digits, point, _) = self.normalized();
        if digits.is_empty() {
            return (0, 0);
        }
        let group = i32::try_from(GROUP).unwrap_or(4);
        let weight = (point - 1).div_euclid(group);
        let in_first = usize::try_from(point - weight * group).unwrap_or(0);
        let digit = |at: usize| digits.get(at).map_or(0, |byte| u32::from(byte - b'0'));
        (
            weight,
            (0..in_first).fold(0, |value, at| value * 10 + digit(at)),
        )
    }

    fn to_text(&self) -> Vec<u8> {
        let scale = self.scale as usize;
        let digits = format!("{:0>width$}", self.units.magnitude(), width = scale + 1);
        let (whole, part) = digits.split_at(digits.len() - scale);
        let mut text = Vec::with_capacity(digits.len() + 2);
        if self.units.sign() == Sign::Minus {
            text.push(b'-');
        }
        text.extend_from_slice(whole.as_bytes());
        if scale > 0 {
            text.push(b'.');
            text.extend_from_slice(part.as_bytes());
        }
        text
    }

    fn to_binary(&self) -> Vec<u8> {
        let (digits, point, negative) = self.normalized();
        let group = i32::try_from(GROUP).unwrap_or(4);
        let weight = if digits.is_empty() {
            0
        } else {
            (point - 1).div_euclid(group)
        };
        let lead = usize::try_from((weight + 1) * group - point).unwrap_or(0);
        let mut padded = vec![b'0'; if digits.is_empty() { 0 } else { lead }];
        padded.extend_from_slice(&digits);
        while !padded.len().is_multiple_of(GROUP) {
            padded.push(b'0');
        }
        let groups: Vec<u16> = padded
            .chunks(GROUP)
            .map(|chunk| chunk.iter().fold(0, |v, d| v * 10 + u16::from(d - b'0')))
            .collect();
        let mut out = Vec::with_capacity(8 + 2 * groups.len());
        let head = [
            u16::try_from(groups.len()).unwrap_or(u16::MAX),
            (weight as i16).cast_unsigned(),
            if negative { 0x4000 } else { 0 },
            u16::try_from(self.scale).unwrap_or(u16::MAX),
        ];
        for part in head.iter().chain(&groups) {
            out.extend_from_slice(&part.to_be_bytes());
        }
        out
    }
}

/// What stands for the scale of an infinity is chance, but it is always the same.
fn special(sign: u16, scale: u16) -> Vec<u8> {
    [0, 0, sign, scale]
        .iter()
        .flat_map(|part: &u16| part.to_be_bytes())
        .collect()
}

fn ten_to(exponent: u32) -> BigInt {
    BigInt::from(10_u32).pow(exponent)
}

fn ten_to_unsigned(exponent: u32) -> num_bigint::BigUint {
    num_bigint::BigUint::from(10_u32).pow(exponent)
}

fn from_text(text: &[u8]) -> Option<Decimal> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, part) = match memchr::memchr(b'.', digits) {
        Some(at) => (&digits[..at], &digits[at + 1..]),
        None => (digits, &b""[..]),
    };
    let all = [whole, part].concat();
    if all.is_empty() || !all.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let mut units = BigInt::parse_bytes(&all, 10)?;
    if negative {
        units = -units;
    }
    Some(Decimal::Finite(Number {
        units,
        scale: u32::try_from(part.len()).ok()?,
    }))
}

fn from_binary(value: &[u8]) -> Option<Decimal> {
    let mut parts = value.chunks(2).map(|pair| match pair {
        [a, b] => Some(u16::from_be_bytes([*a, *b])),
        _ => None,
    });
    let mut next = || parts.next().flatten();
    let (count, weight, sign, scale) = (next()?, next()?.cast_signed(), next()?, next()?);
    match sign {
        0xc000 => return Some(Decimal::NotANumber),
        0xd000 => return Some(Decimal::Infinity),
        0xf000 => return Some(Decimal::NegativeInfinity),
        _ => {}
    }
    let mut text = String::new();
    for _ in 0..count {
        text.push_str(&format!("{:04}", next()?));
    }
    // digits behind the point as they come, then as many as are shown
    let behind = (i32::from(count) - 1 - i32::from(weight)) * 4;
    let wanted = i32::from(scale);
    let mut units = BigInt::parse_bytes(text.as_bytes(), 10).unwrap_or_default();
    if wanted >= behind {
        units *= ten_to(u32::try_from(wanted - behind).ok()?);
    } else {
        units /= ten_to(u32::try_from(behind - wanted).ok()?);
    }
    if sign == 0x4000 {
        units = -units;
    }
    Some(Decimal::Finite(Number {
        units,
        scale: u32::from(scale),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Decimal {
        Decimal::read(text.as_bytes(), false).unwrap()
    }

    fn text(value: &Decimal) -> String {
        String::from_utf8(value.write(false)).unwrap()
    }

    #[test]
    fn a_sum_shows_the_larger_scale() {
        assert_eq!(text(&read("1.50").plus(&read("-0.5"))), "1.00");
        assert_eq!(text(&read("-0.001").plus(&read("0"))), "-0.001");
        assert_eq!(text(&read("NaN").plus(&read("1"))), "NaN");
        assert_eq!(text(&read("Infinity").plus(&read("-Infinity"))), "NaN");
    }

    #[test]
    fn averages_have_the_scale_postgres_gives_them() {
        // avg() over one sum and count, as PostgreSQL 15 says
        for (sum, count, average) in [
            ("10", 4, "2.5000000000000000"),
            ("1", 3, "0.33333333333333333333"),
            ("2", 3, "0.66666666666666666667"),
            ("0", 5, "0.00000000000000000000"),
            ("100000", 3, "33333.333333333333"),
            ("-7.25", 2, "-3.6250000000000000"),
            ("12345678901234567890", 7, "1763668414462081127"),
        ] {
            assert_eq!(text(&read(sum).divided_by(count)), average, "{sum}/{count}");
        }
    }

    proptest! {
        #[test]
        fn text_and_binary_say_the_same(text_ in "-?[1-9][0-9]{0,30}(\\.[0-9]{1,30})?") {
            let value = read(&text_);
            prop_assert_eq!(text(&value), text_.clone());
            let back = Decimal::read(&value.write(true), true).unwrap();
            prop_assert_eq!(text(&back), text_);
        }

        #[test]
        fn nothing_unreadable_panics(value in any::<Vec<u8>>()) {
            let _ = Decimal::read(&value, true);
            let _ = Decimal::read(&value, false);
        }
    }
}
