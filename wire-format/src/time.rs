//! Time as the cores see it: a count of microseconds that their driver passes in. No clock is read here.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds since an origin that the process (or the simulation) chose. Origins of two hosts are unrelated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The origin.
    pub const ZERO: Timestamp = Timestamp(0);

    /// From microseconds since the origin.
    pub const fn from_micros(micros: u64) -> Timestamp {
        Timestamp(micros)
    }

    /// Microseconds since the origin.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// Time passed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }

    /// The part of a timestamp that travels in a link datagram.
    pub fn wire(self) -> WireTime {
        WireTime(((self.0 / WireTime::UNIT_US) & u64::from(WireTime::MASK)) as u32)
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;
    fn add(self, rhs: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(micros(rhs)))
    }
}

impl Sub<Timestamp> for Timestamp {
    type Output = Duration;
    fn sub(self, rhs: Timestamp) -> Duration {
        self.since(rhs)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A sender's clock in units of 10 us, 24 bits, wrapping every 167 s. Only differences mean anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WireTime(u32);

impl WireTime {
    /// Microseconds per unit.
    pub const UNIT_US: u64 = 10;
    /// The bits on the wire.
    pub const MASK: u32 = 0x00FF_FFFF;

    /// From the 24 bits on the wire; higher bits are ignored.
    pub const fn from_bits(bits: u32) -> WireTime {
        WireTime(bits & WireTime::MASK)
    }

    /// The 24 bits on the wire.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Time from `earlier` to this, taking wrap-around into account. A step back by less than half the range reads as
    /// zero.
    pub fn since(self, earlier: WireTime) -> Duration {
        let units = self.0.wrapping_sub(earlier.0) & WireTime::MASK;
        if units > WireTime::MASK / 2 {
            return Duration::ZERO;
        }
        Duration::from_micros(u64::from(units) * WireTime::UNIT_US)
    }
}

/// The delay that a packet may still lose on its way beyond what its path takes anyway, in units of 0.1 ms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Slack(pub u16);

impl Slack {
    /// Microseconds per unit.
    pub const UNIT_US: u64 = 100;

    /// So many milliseconds.
    ///
    /// # Panics
    /// If the field does not hold them (6.5 s): in a constant, when it is compiled.
    pub const fn from_millis(millis: u16) -> Slack {
        const UNITS: u16 = (1000 / Slack::UNIT_US) as u16;
        assert!(millis <= u16::MAX / UNITS, "more than a slack holds");
        Slack(millis * UNITS)
    }

    /// As much of a delay budget as the field holds (6.5 s), rounded down.
    pub fn from_duration(budget: Duration) -> Slack {
        Slack(u16::try_from(micros(budget) / Slack::UNIT_US).unwrap_or(u16::MAX))
    }

    /// The budget left.
    pub fn as_duration(self) -> Duration {
        Duration::from_micros(u64::from(self.0) * Slack::UNIT_US)
    }

    /// What is left after `excess` more, or `None` when all of it is spent.
    pub fn spend(self, excess: Duration) -> Option<Slack> {
        // Most packets: less than a unit.
        if excess < Duration::from_micros(Slack::UNIT_US) {
            return Some(self);
        }
        let units = u16::try_from(micros(excess) / Slack::UNIT_US).ok()?;
        self.0.checked_sub(units).filter(|left| *left > 0).map(Slack)
    }
}

/// `Duration::as_micros` in 64 bits, which is a fraction of the work.
fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(duration.subsec_micros().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wire_time_survives_its_wrap() {
        let before = Timestamp::from_micros(167_772_150);
        let after = before + Duration::from_millis(3);
        assert_eq!(after.wire().since(before.wire()), Duration::from_millis(3));
        assert_eq!(before.wire().since(after.wire()), Duration::ZERO);
    }

    #[test]
    fn slack_runs_out() {
        let slack = Slack::from_duration(Duration::from_millis(200));
        assert_eq!(slack.spend(Duration::from_micros(50)), Some(slack));
        assert_eq!(slack.spend(Duration::from_micros(199_900)), Some(Slack(1)));
        assert_eq!(slack.spend(Duration::from_millis(200)), None, "all of it");
        assert_eq!(slack.spend(Duration::from_millis(201)), None);
    }
}
