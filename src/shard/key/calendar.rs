//! Days and microseconds since 2000-01-01 in the proleptic Gregorian calendar, over PostgreSQL's whole range of years
//! (4714 BC to 5874897), which is more than calendar libraries cover.

use std::fmt;

pub(super) const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Days from 0000-03-01 to 2000-01-01.
const EPOCH_DAYS: i64 = 730_425;
const DAYS_PER_400_YEARS: i64 = 146_097;

/// Days since 2000-01-01; `year` is astronomical (0 is 1 BC), month and day are valid.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March here, so that the leap day is the last of its year.
    let march_year = year - i64::from(month <= 2);
    let era = march_year.div_euclid(400);
    let year_of_era = march_year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * DAYS_PER_400_YEARS + day_of_era - EPOCH_DAYS
}

/// The inverse of `days_of`: (astronomical year, month, day).
fn civil_of(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let era = shifted.div_euclid(DAYS_PER_400_YEARS);
    let day_of_era = shifted.rem_euclid(DAYS_PER_400_YEARS);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = (march_month + 2) % 12 + 1;
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

pub(super) fn days_in_month(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    }
}

/// As DateStyle ISO prints a date.
pub(super) fn write_date(f: &mut fmt::Formatter<'_>, days: i32) -> fmt::Result {
    match days {
        i32::MIN => f.write_str("-infinity"),
        i32::MAX => f.write_str("infinity"),
        _ => write_civil(f, i64::from(days), ""),
    }
}

/// As DateStyle ISO prints a timestamp; a timestamptz in UTC, without the offset.
pub(super) fn write_timestamp(f: &mut fmt::Formatter<'_>, micros: i64) -> fmt::Result {
    match micros {
        i64::MIN => f.write_str("-infinity"),
        i64::MAX => f.write_str("infinity"),
        _ => write_civil(
            f,
            micros.div_euclid(MICROS_PER_DAY),
            &time_text(micros.rem_euclid(MICROS_PER_DAY)),
        ),
    }
}

fn time_text(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let whole = format!(
        " {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if fraction == 0 {
        whole
    } else {
        format!("{whole}.{fraction:06}")
            .trim_end_matches('0')
            .to_owned()
    }
}

fn write_civil(f: &mut fmt::Formatter<'_>, days: i64, time: &str) -> fmt::Result {
    let (year, month, day) = civil_of(days);
    let (shown, era) = if year > 0 {
        (year, "")
    } else {
        (1 - year, " BC")
    };
    write!(f, "{shown:04}-{month:02}-{day:02}{time}{era}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        assert_eq!(days_of(2000, 1, 1), 0);
        assert_eq!(days_of(1999, 12, 31), -1);
        assert_eq!(days_of(1970, 1, 1), -10_957);
        assert_eq!(days_of(2024, 2, 29), 8825);
        // the first and the last date of PostgreSQL
        assert_eq!(days_of(-4713, 11, 24), -2_451_545);
        assert_eq!(days_of(5_874_897, 12, 31), 2_145_031_948);
    }

    #[test]
    fn civil_is_the_inverse() {
        for days in (-2_451_545..2_145_031_948).step_by(99_991) {
            let (year, month, day) = civil_of(days);
            assert!((1..=days_in_month(year, month)).contains(&day));
            assert_eq!(days_of(year, month, day), days);
        }
    }
}
