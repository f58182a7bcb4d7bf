//! date, timestamp and timestamptz. Of the many texts PostgreSQL reads as a date, only those are read here whose meaning
//! depends on nothing else: ISO 8601 with a year of at least four digits, `infinity` and `-infinity`; a timestamptz needs
//! its offset as well. All others are `Ambiguous`, also those PostgreSQL would refuse. This knows no time zone names.

use super::calendar::{MICROS_PER_DAY, days_in_month, days_of};
use super::{KeyError, trim_space};

/// The dates PostgreSQL has: 4714-11-24 BC and 5874897-12-31 (`IS_VALID_DATE`).
const DAYS: std::ops::Range<i64> = -2_451_545..2_145_031_949;
/// The timestamps PostgreSQL has: 4714-11-24 BC to 294276-12-31 (`IS_VALID_TIMESTAMP`).
const MICROS: std::ops::Range<i128> = -211_813_488_000_000_000..9_223_371_331_200_000_000;
/// More digits than any program writes; keeps clear of strtod's underflow, which PostgreSQL 15 refuses.
const FRACTION_DIGITS_MAX: usize = 30;

pub(super) fn parse_date(text: &[u8]) -> Result<i32, KeyError> {
    if let Some(end) = infinity(text) {
        return Ok(if end == End::Last { i32::MAX } else { i32::MIN });
    }
    let moment = Moment::scan(text)?;
    if moment.time.is_some() || moment.offset.is_some() {
        return Err(KeyError::Ambiguous);
    }
    moment
        .days()
        .and_then(|days| i32::try_from(days).ok())
        .ok_or(KeyError::Invalid)
}

/// An offset is read and left out, as PostgreSQL does for timestamps without time zone.
pub(super) fn parse_timestamp(text: &[u8]) -> Result<i64, KeyError> {
    if let Some(end) = infinity(text) {
        return Ok(if end == End::Last { i64::MAX } else { i64::MIN });
    }
    Moment::scan(text)?.micros(0)
}

pub(super) fn parse_timestamptz(text: &[u8]) -> Result<i64, KeyError> {
    if let Some(end) = infinity(text) {
        return Ok(if end == End::Last { i64::MAX } else { i64::MIN });
    }
    let moment = Moment::scan(text)?;
    moment.micros(moment.offset.ok_or(KeyError::Ambiguous)?)
}

pub(super) fn receive_date(bytes: [u8; 4]) -> Result<i32, KeyError> {
    let days = i32::from_be_bytes(bytes);
    let valid = days == i32::MIN || days == i32::MAX || DAYS.contains(&i64::from(days));
    if valid {
        Ok(days)
    } else {
        Err(KeyError::Invalid)
    }
}

pub(super) fn receive_timestamp(bytes: [u8; 8]) -> Result<i64, KeyError> {
    let micros = i64::from_be_bytes(bytes);
    let valid = micros == i64::MIN || micros == i64::MAX || MICROS.contains(&i128::from(micros));
    if valid {
        Ok(micros)
    } else {
        Err(KeyError::Invalid)
    }
}

#[derive(PartialEq)]
enum End {
    First,
    Last,
}

fn infinity(text: &[u8]) -> Option<End> {
    let word = trim_space(text);
    if word.eq_ignore_ascii_case(b"infinity") {
        Some(End::Last)
    } else {
        word.eq_ignore_ascii_case(b"-infinity")
            .then_some(End::First)
    }
}

/// What an ISO text says, not yet checked against the calendar.
struct Moment {
    /// astronomical: 0 is 1 BC
    year: i64,
    month: i64,
    day: i64,
    time: Option<TimeOfDay>,
    /// seconds east of Greenwich
    offset: Option<i64>,
}

struct TimeOfDay {
    hour: i64,
    minute: i64,
    second: i64,
    /// rounded as PostgreSQL rounds, so it may be 1,000,000
    micros: i64,
}

impl Moment {
    /// `YYYY-MM-DD[{ |T}HH:MM[:SS[.ffffff]][ ][Z|±HH[[:]MM[:SS]]]][ BC]`
    fn scan(text: &[u8]) -> Result<Self, KeyError> {
        let mut scan = Scan {
            rest: trim_space(text),
        };
        let written_year = scan.number(4..=7)?;
        scan.expect(b'-')?;
        let month = scan.number(1..=2)?;
        scan.expect(b'-')?;
        let day = scan.number(1..=2)?;
        let time = if scan.time_follows() {
            Some(scan.time()?)
        } else {
            None
        };
        let offset = if time.is_some() { scan.offset()? } else { None };
        let before_christ = scan.before_christ();
        scan.end()?;
        // There is no year 0: 1 BC comes before 1 AD.
        if written_year == 0 {
            return Err(KeyError::Invalid);
        }
        let year = if before_christ {
            1 - written_year
        } else {
            written_year
        };
        Ok(Self {
            year,
            month,
            day,
            time,
            offset,
        })
    }

    /// None for a date that is not in the calendar or not in PostgreSQL's range.
    fn days(&self) -> Option<i64> {
        let valid = (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day);
        valid
            .then(|| days_of(self.year, self.month, self.day))
            .filter(|days| DAYS.contains(days))
    }

    fn micros(&self, offset: i64) -> Result<i64, KeyError> {
        // A day just before the first is allowed here: its offset may bring it into the range.
        let valid = (1..=12).contains(&self.month)
            && (1..=days_in_month(self.year, self.month)).contains(&self.day);
        if !valid {
            return Err(KeyError::Invalid);
        }
        let days = i128::from(days_of(self.year, self.month, self.day));
        let time = self.time.as_ref().map_or(Ok(0), TimeOfDay::micros)?;
        let micros =
            days * i128::from(MICROS_PER_DAY) + i128::from(time) - i128::from(offset) * 1_000_000;
        let in_range = i64::try_from(micros)
            .ok()
            .filter(|_| MICROS.contains(&micros));
        in_range.ok_or(KeyError::Invalid)
    }
}

impl TimeOfDay {
    /// Second 60 counts into the next minute, 24:00:00 is the next day's midnight, nothing is later than that.
    fn micros(&self) -> Result<i64, KeyError> {
        let micros = ((self.hour * 60 + self.minute) * 60 + self.second) * 1_000_000 + self.micros;
        let valid = self.minute <= 59 && self.second <= 60 && micros <= MICROS_PER_DAY;
        if valid {
            Ok(micros)
        } else {
            Err(KeyError::Invalid)
        }
    }
}

/// What is left of the text. Whatever does not fit the one form is `Ambiguous`.
struct Scan<'a> {
    rest: &'a [u8],
}

impl Scan<'_> {
    fn number(&mut self, digits: std::ops::RangeInclusive<usize>) -> Result<i64, KeyError> {
        let found = self.digits();
        if !digits.contains(&found.len()) {
            return Err(KeyError::Ambiguous);
        }
        Ok(found
            .iter()
            .fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
    }

    fn digits(&mut self) -> &[u8] {
        let end = self
            .rest
            .iter()
            .position(|byte| !byte.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits
    }

    fn take(&mut self, byte: u8) -> bool {
        let stripped = self.rest.strip_prefix(&[byte]);
        self.rest = stripped.unwrap_or(self.rest);
        stripped.is_some()
    }

    fn expect(&mut self, byte: u8) -> Result<(), KeyError> {
        if self.take(byte) {
            Ok(())
        } else {
            Err(KeyError::Ambiguous)
        }
    }

    fn spaces(&mut self) {
        while self.take(b' ') {}
    }

    /// Skips the separator when a time of day comes next.
    fn time_follows(&mut self) -> bool {
        let rest = self.rest;
        if !self.take(b'T') && !self.take(b't') {
            self.spaces();
        }
        let follows =
            self.rest.len() < rest.len() && self.rest.first().is_some_and(u8::is_ascii_digit);
        if !follows {
            self.rest = rest;
        }
        follows
    }

    fn time(&mut self) -> Result<TimeOfDay, KeyError> {
        let hour = self.number(1..=2)?;
        self.expect(b':')?;
        let minute = self.number(1..=2)?;
        let second = if self.take(b':') {
            Some(self.number(1..=2)?)
        } else {
            None
        };
        let micros = if second.is_some() && self.take(b'.') {
            self.fraction()?
        } else {
            0
        };
        Ok(TimeOfDay {
            hour,
            minute,
            second: second.unwrap_or(0),
            micros,
        })
    }

    /// `rint(strtod(".ddd") * 1000000)`, as PostgreSQL 15 has it.
    fn fraction(&mut self) -> Result<i64, KeyError> {
        let digits = self.digits();
        if !(1..=FRACTION_DIGITS_MAX).contains(&digits.len()) {
            return Err(KeyError::Ambiguous);
        }
        let text = format!("0.{}", String::from_utf8_lossy(digits));
        let seconds: f64 = text.parse().map_err(|_| KeyError::Ambiguous)?;
        Ok((seconds * 1_000_000.0).round_ties_even() as i64)
    }

    fn offset(&mut self) -> Result<Option<i64>, KeyError> {
        let rest = self.rest;
        self.spaces();
        if self.take(b'Z') || self.take(b'z') {
            return Ok(Some(0));
        }
        let sign = match self.rest.first() {
            Some(b'+') => 1,
            Some(b'-') => -1,
            _ => {
                self.rest = rest;
                return Ok(None);
            }
        };
        self.rest = &self.rest[1..];
        self.offset_seconds().map(|seconds| Some(sign * seconds))
    }

    fn offset_seconds(&mut self) -> Result<i64, KeyError> {
        let first = self.digits();
        let long = first.len() == 4;
        let written = Scan { rest: first }.number(if long { 4..=4 } else { 2..=2 })?;
        let (hours, mut minutes, mut seconds) = if long {
            (written / 100, written % 100, 0)
        } else {
            (written, 0, 0)
        };
        if !long && self.take(b':') {
            minutes = self.number(2..=2)?;
            seconds = if self.take(b':') {
                self.number(2..=2)?
            } else {
                0
            };
        }
        // MAX_TZDISP_HOUR
        if hours > 15 || minutes > 59 || seconds > 59 {
            return Err(KeyError::Invalid);
        }
        Ok((hours * 60 + minutes) * 60 + seconds)
    }

    fn before_christ(&mut self) -> bool {
        let rest = self.rest;
        self.spaces();
        let found = self.rest.len() < rest.len() && self.rest.eq_ignore_ascii_case(b"bc");
        self.rest = if found { &[] } else { rest };
        found
    }

    fn end(&self) -> Result<(), KeyError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(KeyError::Ambiguous)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn iso_dates() {
        assert_eq!(parse_date(b"2000-01-01"), Ok(0));
        assert_eq!(parse_date(b" 1999-12-31 "), Ok(-1));
        assert_eq!(parse_date(b"0001-01-01 BC"), Ok(-730_485));
        assert_eq!(parse_date(b"4714-11-24 BC"), Ok(-2_451_545));
        assert_eq!(parse_date(b"5874897-12-31"), Ok(2_145_031_948));
        assert_eq!(parse_date(b"Infinity"), Ok(i32::MAX));
        assert_eq!(parse_date(b"-infinity"), Ok(i32::MIN));
        for bad in [
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "0000-01-01",
            "5874898-01-01",
            "4714-11-23 BC",
        ] {
            assert_eq!(parse_date(bad.as_bytes()), Err(KeyError::Invalid), "{bad}");
        }
    }

    #[test]
    fn other_dates_are_not_provable() {
        for open in [
            "",
            "01/02/2024",
            "24-01-02",
            "tomorrow",
            "epoch",
            "20240102",
            "Jan 2 2024",
            "2024-01-02 10:00",
            "J2451187",
        ] {
            assert_eq!(
                parse_date(open.as_bytes()),
                Err(KeyError::Ambiguous),
                "{open}"
            );
        }
    }

    #[test]
    fn timestamps_round_as_postgres_does() {
        assert_eq!(parse_timestamp(b"2000-01-01 00:00:00.0000005"), Ok(0));
        assert_eq!(parse_timestamp(b"2000-01-01 00:00:00.0000015"), Ok(2));
        assert_eq!(
            parse_timestamp(b"2000-01-01 00:00:00.9999999"),
            Ok(1_000_000)
        );
        assert_eq!(parse_timestamp(b"2000-01-01T24:00:00"), Ok(24 * HOUR));
        assert_eq!(parse_timestamp(b"2000-01-01 00:00:60"), Ok(60_000_000));
        assert_eq!(parse_timestamp(b"2000-01-01 01:00+07"), Ok(HOUR));
        assert_eq!(
            parse_timestamp(b"2000-01-01 24:00:01"),
            Err(KeyError::Invalid)
        );
    }

    #[test]
    fn timestamptz_needs_its_offset() {
        assert_eq!(
            parse_timestamptz(b"2000-01-01 00:00:00"),
            Err(KeyError::Ambiguous)
        );
        assert_eq!(parse_timestamptz(b"2000-01-01"), Err(KeyError::Ambiguous));
        assert_eq!(
            parse_timestamptz(b"2000-01-01 00:00:00 Europe/Berlin"),
            Err(KeyError::Ambiguous)
        );
        assert_eq!(parse_timestamptz(b"2000-01-01T00:00:00Z"), Ok(0));
        assert_eq!(parse_timestamptz(b"2000-01-01 02:00:00+02"), Ok(0));
        assert_eq!(parse_timestamptz(b"1999-12-31 20:30:00 -03:30"), Ok(0));
        assert_eq!(
            parse_timestamptz(b"2000-01-01 00:00:00-0330"),
            Ok(3 * HOUR + HOUR / 2)
        );
        assert_eq!(
            parse_timestamptz(b"2000-01-01 00:00:00+16"),
            Err(KeyError::Invalid)
        );
    }
}
