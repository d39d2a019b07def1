//! Moments on the command line: `--at`.

use control_proto::cli::parse_duration;

const DAY_S: i64 = 24 * 3_600;

/// A moment, seconds since 1970.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub struct When(pub f64);

impl When {
    /// As the admin API wants it.
    pub(crate) fn query(self) -> String {
        self.0.to_string()
    }
}

/// Reads `2026-11-30T14:05:00Z` (RFC 3339), `14:05` or `14:05:30` (UTC, today or, if that is to come, yesterday), or `-90s`,
/// `-15m`, `-2h`: so long ago.
pub(crate) fn when(text: &str) -> Result<When, String> {
    parse(text, route_controller::unix_ms() as f64 / 1e3).map(When)
}

fn parse(text: &str, now: f64) -> Result<f64, String> {
    let advice = || {
        format!(
            "{text:?} is no moment: write for instance -90s, -2h, 14:05 or 2026-11-30T14:05:00Z (without an offset: UTC)"
        )
    };
    if let Some(ago) = text.strip_prefix('-') {
        let ago = parse_duration(ago).map_err(|_| advice())?;
        return Ok(now - ago.as_secs_f64());
    }
    match text.split_once(['T', 't', ' ']) {
        None => {
            let of_day = of_day(text).ok_or_else(advice)?;
            let midnight = (now as i64).div_euclid(DAY_S) * DAY_S;
            let today = midnight as f64 + of_day;
            Ok(if today > now { today - DAY_S as f64 } else { today })
        }
        Some((date, time)) => {
            let days = days(date).ok_or_else(advice)?;
            let (time, offset_s) = offset(time).ok_or_else(advice)?;
            Ok((days * DAY_S - offset_s) as f64 + of_day(time).ok_or_else(advice)?)
        }
    }
}

/// Seconds of `HH:MM[:SS[.FFF]]`.
fn of_day(text: &str) -> Option<f64> {
    let mut parts = text.split(':');
    let hour = digits(parts.next()?, 2).filter(|hour| *hour < 24)?;
    let minute = digits(parts.next()?, 2).filter(|minute| *minute < 60)?;
    let second = match parts.next() {
        None => 0.0,
        Some(text) => {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
            let whole = digits(whole, 2).filter(|second| *second < 61)?;
            let is_fraction = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
            whole as f64 + is_fraction.then(|| format!("0.{fraction}").parse::<f64>().ok())??
        }
    };
    parts.next().is_none().then_some((hour * 3_600 + minute * 60) as f64 + second)
}

/// The time of day, and by how many seconds its clock is ahead of UTC.
fn offset(text: &str) -> Option<(&str, i64)> {
    if let Some(time) = text.strip_suffix(['Z', 'z']) {
        return Some((time, 0));
    }
    let Some(at) = text.rfind(['+', '-']) else { return Some((text, 0)) };
    let (time, offset) = text.split_at(at);
    let (hours, minutes) = offset[1..].split_once(':')?;
    let seconds = digits(hours, 2)? * 3_600 + digits(minutes, 2)? * 60;
    Some((time, if offset.starts_with('-') { -seconds } else { seconds }))
}

/// Days from 1970 to `YYYY-MM-DD`, by days of the civil calendar (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days(text: &str) -> Option<i64> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4)?;
    let month = digits(parts.next()?, 2).filter(|month| (1..=12).contains(month))?;
    let day = digits(parts.next()?, 2).filter(|day| (1..=31).contains(day))?;
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    parts.next().is_none().then_some(era * 146_097 + day_of_era - 719_468)
}

fn digits(text: &str, length: usize) -> Option<i64> {
    let is_number = text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-30T12:00:00Z.
    const NOON: f64 = 1_796_040_000.0;

    #[test]
    fn moments_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("-90s", NOON - 90.0),
            ("-2h", NOON - 7_200.0),
            ("11:05", NOON - 3_300.0),
            ("14:05:30", NOON - 86_400.0 + 7_530.0),
            ("2026-11-30T12:00:00Z", NOON),
            ("2026-11-30 12:00", NOON),
            ("2026-11-30T12:00:00.25Z", NOON + 0.25),
            ("2026-11-30T13:30:00+01:30", NOON),
            ("2026-11-30T07:00:00-05:00", NOON),
            ("2000-02-29T00:00:00Z", 951_782_400.0),
            ("1970-01-01T00:00:00Z", 0.0),
        ] {
            assert_eq!(parse(text, NOON), Ok(seconds), "{text}");
            if text.len() == 20 {
                assert_eq!(route_controller::utc(seconds as u64), text, "as it is printed");
            }
        }
        for wrong in [
            "",
            "now",
            "-",
            "-2",
            "25:00",
            "1:05",
            "14:60",
            "2026-13-01T00:00:00Z",
            "2026-11-30T12",
            "14:05:",
            "14:05:1.",
        ] {
            let error = parse(wrong, NOON).expect_err(wrong);
            assert!(error.contains("-90s"), "{error}");
        }
    }
}
