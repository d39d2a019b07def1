//! Quantities of a link specification, and how people write them.

use std::fmt;
use std::time::Duration;

/// A probability in parts per million; at most 1,000,000.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ppm(pub(crate) u32);

impl Ppm {
    /// Impossible.
    pub const NEVER: Ppm = Ppm(0);
    /// Certain.
    pub const ALWAYS: Ppm = Ppm(1_000_000);

    /// That many parts per million; `None` above one million.
    pub const fn new(ppm: u32) -> Option<Ppm> {
        if ppm <= Ppm::ALWAYS.0 { Some(Ppm(ppm)) } else { None }
    }

    /// Parts per million.
    pub const fn as_ppm(self) -> u32 {
        self.0
    }

    /// From `2%`, `0.5%` or a fraction of 1.
    pub(crate) fn parse(text: &str) -> Option<Ppm> {
        let (number, scale) = match text.strip_suffix('%') {
            Some(percent) => (percent, 10_000),
            None => (text, 1_000_000),
        };
        Ppm::new(u32::try_from(scaled(number, scale)?).ok()?)
    }
}

impl fmt::Display for Ppm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", Decimal { units: u64::from(self.0), scale: 10_000 })
    }
}

/// Bits per second; at least 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rate(pub(crate) u64);

impl Rate {
    const UNITS: [(&'static str, u64); 4] =
        [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];

    /// That many bits per second; `None` for zero.
    pub const fn from_bits_per_second(bits: u64) -> Option<Rate> {
        if bits == 0 { None } else { Some(Rate(bits)) }
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0
    }

    /// From `10mbit`, `500kbit`, `1.5gbit`, `64000bit`.
    pub(crate) fn parse(text: &str) -> Option<Rate> {
        let lower = text.to_ascii_lowercase();
        let (unit, scale) = Rate::UNITS.into_iter().find(|(unit, _)| lower.ends_with(unit))?;
        Rate::from_bits_per_second(scaled(&lower[..lower.len() - unit.len()], scale)?)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, scale) =
            Rate::UNITS.into_iter().find(|(_, scale)| self.0 >= *scale).expect("a rate is at least one bit");
        write!(f, "{}{unit}", Decimal { units: self.0, scale })
    }
}

/// Mean number of datagrams lost in a row, in thousandths; at least one datagram.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BurstLength(pub(crate) u32);

impl BurstLength {
    /// That many thousandths of a datagram; `None` below 1,000 and above one million.
    pub const fn from_thousandths(thousandths: u32) -> Option<BurstLength> {
        if thousandths >= 1_000 && thousandths <= 1_000_000 { Some(BurstLength(thousandths)) } else { None }
    }

    /// Thousandths of a datagram.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// From `1.5`.
    pub(crate) fn parse(text: &str) -> Option<BurstLength> {
        BurstLength::from_thousandths(u32::try_from(scaled(text, 1_000)?).ok()?)
    }
}

impl fmt::Display for BurstLength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Decimal { units: u64::from(self.0), scale: 1_000 }.fmt(f)
    }
}

/// Longest duration understood.
const DURATION_MAX: Duration = Duration::from_secs(31 * 24 * 3600);

/// Reads `20ms`, `1.5s`, `500us`, `2m` or `24h`; up to 31 days.
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 5] =
        [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (unit, scale) = UNITS.into_iter().find(|(unit, _)| {
        text.strip_suffix(unit).is_some_and(|number| number.ends_with(|last: char| last.is_ascii_digit()))
    })?;
    let duration = Duration::from_micros(scaled(&text[..text.len() - unit.len()], scale)?);
    (duration <= DURATION_MAX).then_some(duration)
}

/// A duration as [`parse_duration`] reads it.
pub(crate) struct Written(pub(crate) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = u64::try_from(self.0.as_micros()).expect("at most a month");
        let (unit, scale) = match micros {
            1_000_000.. => ("s", 1_000_000),
            1_000.. => ("ms", 1_000),
            0.. => ("us", 1),
        };
        write!(f, "{}{unit}", Decimal { units: micros, scale })
    }
}

/// `text` times `scale`, exactly: digits, perhaps a point and more digits, as long as nothing is cut off.
fn scaled(text: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits =
        |part: &str| !part.is_empty() && part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let (whole, tail): (u64, u64) = (whole.parse().ok()?, fraction.parse().ok()?);
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let tail = u128::from(tail) * u128::from(scale);
    if tail % divisor != 0 {
        return None;
    }
    whole.checked_mul(scale)?.checked_add(u64::try_from(tail / divisor).ok()?)
}

/// `units / scale` in as few digits as it takes; `scale` is a power of ten.
struct Decimal {
    units: u64,
    scale: u64,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.units / self.scale, self.units % self.scale);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = self.scale.ilog10() as usize;
        let fraction = format!("{rest:0digits$}");
        write!(f, "{whole}.{}", fraction.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written() {
        for (text, ppm) in [("2%", 20_000), ("0.02", 20_000), ("0.5%", 5_000), ("100%", 1_000_000), ("0", 0)]
        {
            assert_eq!(Ppm::parse(text), Some(Ppm(ppm)), "{text}");
        }
        for text in ["2", "101%", "-1%", "", "%", "1e-3", ".5", "0.00001%", "1.%"] {
            assert_eq!(Ppm::parse(text), None, "{text}");
        }
        for (text, bits) in
            [("10mbit", 10_000_000), ("1.5Gbit", 1_500_000_000), ("64kbit", 64_000), ("9bit", 9)]
        {
            assert_eq!(Rate::parse(text), Some(Rate(bits)), "{text}");
        }
        for text in ["10", "0mbit", "mbit", "10mb", "10 mbit"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
        for (text, us) in
            [("20ms", 20_000), ("1.5s", 1_500_000), ("500us", 500), ("2m", 120_000_000), ("0", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_micros(us)), "{text}");
        }
        for text in ["20", "ms", "1.0001ms", "-5ms", "800h", "1e3s", "99999m"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(BurstLength::parse("1.5"), Some(BurstLength(1_500)));
        assert_eq!(BurstLength::parse("0.9"), None);
        assert_eq!(Ppm(20_500).to_string(), "2.05%");
        assert_eq!(Rate(1_500_000).to_string(), "1.5mbit");
        assert_eq!(Written(Duration::from_micros(20_500)).to_string(), "20.5ms");
    }
}
